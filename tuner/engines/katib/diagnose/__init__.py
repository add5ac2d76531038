"""Why a search is stuck, why its trials failed, and where Katib's verdict is doubtful; each with its fix."""

from tuner.engines.katib.diagnose.rules import blocked, diagnose
from tuner.engines.katib.diagnose.snapshot import Findings, Snapshot
from tuner.engines.katib.diagnose.verdict import warnings

__all__ = ["Findings", "Snapshot", "blocked", "diagnose", "warnings"]
