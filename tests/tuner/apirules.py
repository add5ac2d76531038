"""What an API server does with objects, for the loopback: selectors, merge patches, and Katib's webhook on a change."""

from __future__ import annotations

from typing import Any

# what Katib's webhook lets one edit
BUDGET = ("parallelTrialCount", "maxTrialCount", "maxFailedTrialCount")


def matches(item: dict[str, Any], query: dict[str, str]) -> bool:
    """labelSelector and fieldSelector, equality only."""
    labels = item["metadata"].get("labels") or {}
    for pair in filter(None, query.get("labelSelector", "").split(",")):
        key, value = pair.split("=", 1)
        if labels.get(key) != value:
            return False
    for pair in filter(None, query.get("fieldSelector", "").split(",")):
        path, value = pair.split("=", 1)
        found: Any = item
        for part in path.split("."):
            found = found.get(part, {})
        if found != value:
            return False
    return True


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def refused(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why Katib's webhook refuses the change of an Experiment, "" where it does not (validator.go:117-143)."""
    before, after = old["spec"], new["spec"]
    if before == after:
        return ""
    reasons = {
        c["type"]: c.get("reason")
        for c in old["status"].get("conditions") or ()
        if c["status"] == "True"
    }
    restartable = reasons.get("Succeeded") == "ExperimentMaxTrialsReached" and before.get(
        "resumePolicy"
    ) in (
        "LongRunning",
        "FromVolume",
    )
    if reasons.keys() & {"Succeeded", "Failed"} and not restartable:
        policy = before.get("resumePolicy")
        return (
            f'spec.resumePolicy: Invalid value: "{policy}": Experiment can be restarted if it is in succeeded state by '
            "reaching max trials and spec.resumePolicy = LongRunning or spec.resumePolicy = FromVolume, when "
            "experiment is completed"
        )
    count = after.get("maxTrialCount")
    if count is not None and count <= old["status"].get("trials", 0):
        return (
            f"spec.maxTrialCount: Invalid value: {count}: must be greater than status.trials count"
        )
    fixed = [
        {key: value for key, value in spec.items() if key not in BUDGET} for spec in (before, after)
    ]
    if fixed[0] != fixed[1]:
        return f"spec: Forbidden: only spec.{BUDGET[0]}, spec.{BUDGET[1]} and spec.{BUDGET[2]} are editable"
    return ""
