"""Trims the recordings of a real cluster to what the loopback server needs: `python trim.py FROM`, run by hand.

Keeps every state that differs in a field that the client could read; drops managedFields, Normal
events, pod specs and the containers' bookkeeping. README.md says what the scenarios are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS = ("experiments", "trials", "pods", "suggestions", "events", "jobs", "deployments")
METADATA = (
    "name",
    "namespace",
    "labels",
    "creationTimestamp",
    "resourceVersion",
    "uid",
    "ownerReferences",
)
STATUS = ("phase", "reason", "message", "conditions", "containerStatuses")
CONTAINER = ("name", "state", "lastState", "restartCount")


def trimmed(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """The object without what no test needs."""
    item = dict(
        item, metadata={key: item["metadata"][key] for key in METADATA if key in item["metadata"]}
    )
    if kind == "trials":
        item["spec"] = {
            key: value
            for key, value in item.get("spec", {}).items()
            if key == "parameterAssignments"
        }
    if kind == "pods":
        spec, status = item.get("spec", {}), item.get("status", {})
        item["spec"] = {"nodeName": spec["nodeName"]} if "nodeName" in spec else {}
        item["status"] = {key: status[key] for key in STATUS if key in status}
        for container in item["status"].get("containerStatuses", []):
            for key in [key for key in container if key not in CONTAINER]:
                del container[key]
    if kind == "deployments":
        item["spec"] = {}
    if kind == "jobs":
        item["spec"] = {"suspend": item.get("spec", {}).get("suspend", False)}
    return item


def main(source: Path, target: Path) -> None:
    """Write one NAME.jsonl a scenario: all kinds in the order in which the API server made the changes."""
    for folder in sorted(
        path for path in source.iterdir() if (path / "experiments.watch.jsonl").exists()
    ):
        changes = []
        for kind in KINDS:
            path, before = folder / f"{kind}.watch.jsonl", {}
            for line in path.read_text().splitlines() if path.exists() else ():
                change = json.loads(line)
                item = change["object"]
                if change["type"] == "BOOKMARK" or (
                    kind == "events" and item.get("type") == "Normal"
                ):
                    continue
                version, item = int(item["metadata"]["resourceVersion"]), trimmed(kind, item)
                bare = json.dumps(
                    {**item, "metadata": {**item["metadata"], "resourceVersion": ""}},
                    sort_keys=True,
                )
                if before.get(item["metadata"]["name"]) == bare and change["type"] != "DELETED":
                    continue
                before[item["metadata"]["name"]] = bare
                changes.append((version, {"kind": kind, "type": change["type"], "object": item}))
        logs = {}
        for path in sorted(folder.glob("log.*.txt")):
            _, pod, container, _ = path.name.split(".")
            if len(logs) < 8 or container == "suggestion":
                logs[f"{pod}/{container}"] = "\n".join(path.read_text().splitlines()[-40:]) + "\n"
        lines = [json.dumps(change) for _, change in sorted(changes, key=lambda pair: pair[0])]
        (target / f"{folder.name}.jsonl").write_text(
            "\n".join([*lines, json.dumps({"logs": logs})]) + "\n"
        )
    responses = json.loads((source / "responses.json").read_text())
    for answer in responses.values():
        for item in (
            [answer["body"], *answer["body"].get("items", [])]
            if isinstance(answer["body"], dict)
            else []
        ):
            if isinstance(item, dict):
                item.get("metadata", {}).pop("managedFields", None)
                item.get("metadata", {}).pop("annotations", None)
                item.get("status", {}).pop("images", None) if isinstance(
                    item.get("status"), dict
                ) else None
    (target / "responses.json").write_text(json.dumps(responses, indent=1) + "\n")
    (target / "observation_log.json").write_text((source / "observation_log.json").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
