"""Finds why a search is stuck, why trials failed, and what is doubtful in Katib's status; each with a fix."""

from tuner.engines.katib.diagnose.rules import blocked, diagnose
from tuner.engines.katib.diagnose.snapshot import Findings, Snapshot
from tuner.engines.katib.diagnose.verdict import warnings

__all__ = ["Findings", "Snapshot", "blocked", "diagnose", "warnings"]
