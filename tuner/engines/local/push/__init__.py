"""Metrics that trials push (collector kind Push): what `katib.report_metrics` needs on this machine.

    client ── server    one process, which does not fork: gRPC does not survive a fork
                ├── socket 3 <── trial 3
                └── socket 4 <── trial 4

The server is Katib's DB manager (gRPC, api.v1.beta1.DBManager/ReportObservationLog) for the trials
of one search. Each trial has a Unix socket for itself, below a directory that only this user can
enter. No port is open, so other users cannot report, and a trial's proxy settings do not matter. On
its socket, a trial reports under its own name only.

What a trial reports is in FILE of its directory before the call returns, one JSON object a line.
From there on, it is read as a File collector's file is: followed while the trial runs, and read
completely when the trial has finished. So a kill of the client loses no report, and a trial that
runs again continues its file.

The SDK reads its namespace from a file that only pods have, and it has the address of a cluster's
DB manager. `hook/sitecustomize.py`, which PYTHONPATH gives to each Python program of a trial,
changes both.
"""

from pathlib import Path

# the environment variable with the address of the trial's own socket
ADDRESS = "GANTUNE_DB_MANAGER"
FILE = "pushed.jsonl"  # in the trial's directory
HOOK = Path(__file__).parent / "hook"
