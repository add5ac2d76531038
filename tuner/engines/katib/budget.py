"""The trial counts of an Experiment: which of them Katib allows to change (validator.go:104-142)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuner.commands import gantune
from tuner.engines.katib.objects import name_of, restartable, study_state
from tuner.experiment.model import Experiment
from tuner.result import StudyState

Object = Mapping[str, Any]


def refused_extension(item: Object, max_trials: int) -> str:
    """Return why Katib would not take `max_trials` as maxTrialCount, or "" if it would."""
    name, policy = name_of(item), item["spec"].get("resumePolicy", "Never")
    state, made = study_state(item)[0], int((item.get("status") or {}).get("trials") or 0)
    if max_trials <= made:
        return f"maxTrialCount must exceed the {made} trials made so far, got {max_trials}"
    if state is not StudyState.RUNNING and not restartable(item):
        return (
            f"{name} is {state.value} and Katib restarts only what ended at its maxTrialCount with resumePolicy "
            f"LongRunning or FromVolume (here {policy}): submit it under another name, or continue on this machine "
            f"with `{gantune('run', 'FILE', '--local', '--warm-start', name)}`"
        )
    return ""


def differences(item: Object, experiment: Experiment) -> Iterator[str]:
    """Yield a sentence for each count of the manifest that is another on the cluster, and how to change it."""
    name, held = name_of(item), item["spec"]
    if (asks := experiment.max_trials) is not None and held.get("maxTrialCount") != asks:
        refused = refused_extension(item, asks)
        fix = refused or f"`{gantune('extend', name, '--max-trials', asks)}` changes it"
        yield f"{name} has maxTrialCount {held.get('maxTrialCount')}, not {asks}: {fix}"
    if (asks := experiment.max_failed_trials) is not None and held.get(
        "maxFailedTrialCount"
    ) != asks:
        running = study_state(item)[0] is StudyState.RUNNING
        fix = (
            f"`kubectl edit experiment {name}` changes it"
            if running
            else "it has finished, so this has no effect"
        )
        yield f"{name} has maxFailedTrialCount {held.get('maxFailedTrialCount')}, not {asks}: {fix}"
