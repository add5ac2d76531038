"""End-to-end tests on a real cluster: `pytest tests/e2e --with-cluster`, on whatever cluster KUBECONFIG names."""
