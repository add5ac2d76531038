"""A directory for PYTHONPATH: Python imports `sitecustomize` from it at start-up."""
