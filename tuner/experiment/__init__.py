"""An Experiment as Python: its model, our annotations, its early stopping, and the command of one trial."""
