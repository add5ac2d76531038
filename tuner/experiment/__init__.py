"""An Experiment as Python: its model, our annotations, and the command that one trial runs."""
