"""Many trials: one Katib Experiment manifest, run by Katib on a cluster or by Optuna on this machine.

The command line is `gantune`; see tuner.cli.
"""

__version__ = "0.1.0"
