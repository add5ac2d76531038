"""What the tests of manifests/ and charts/ share: the tools in .bin/, rendering, and validation by kubeconform.

A tool that is absent skips the test with a sentence; where CI=true it fails it, so that CI cannot
pass without looking.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = [f"1.{minor}" for minor in range(31, 37)]
IMAGES = "images"  # reads a prepared volume, as those of the article do
SEARCHES = sorted(path.stem for path in MANIFESTS.glob("*.yaml") if path.stem != IMAGES)
ARTICLE = sorted(f"article/{path.stem}" for path in MANIFESTS.glob("article/*.yaml"))
CONFIGS = ["katib", "katib-suggestions"]  # overlays that configure Katib itself
OVERLAYS = sorted(
    path.name for path in (MANIFESTS / "overlays").iterdir() if path.name not in CONFIGS
)


REMEDIES = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/ says how, for the cluster's version",
    "shellcheck": "apt-get install shellcheck, or your system's way",
}


def find(name: str) -> str | None:
    """The path of a program of .bin/ or of PATH."""
    return shutil.which(str(ROOT / ".bin" / name)) or shutil.which(name)


def tool(name: str) -> str:
    """The path of a program that the test needs."""
    found = find(name)
    if found is None:
        sentence = (
            f"{name} is not installed: {REMEDIES.get(name, '.ci/tools.sh builds it into .bin/')}"
        )
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)
    return str(found)


def output(*command: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check(*files: Path) -> str:
    """What `gantune check` says, on either stream."""
    command = [sys.executable, "-m", "tuner", "check", *map(str, files)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    return (done.stdout + done.stderr).strip()


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML text, by YAML 1.2, as a copy that may be changed."""
    return copy.deepcopy(_parsed(text))


@functools.cache
def _parsed(text: str) -> list[dict[str, Any]]:
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document]


def experiment(text: str) -> dict[str, Any]:
    """The one Experiment in a YAML text."""
    [found] = [document for document in documents(text) if document["kind"] == "Experiment"]
    return found


def trial(experiment: dict[str, Any]) -> dict[str, Any]:
    """The Job of one trial, named as Katib would name it."""
    job: dict[str, Any] = json.loads(json.dumps(experiment["spec"]["trialTemplate"]["trialSpec"]))
    job.setdefault("metadata", {})["name"] = experiment["metadata"]["name"] + "-abcdefgh"
    return job


def search(name: str) -> str:
    return (MANIFESTS / f"{name}.yaml").read_text()


def kustomize(folder: Path) -> str:
    """What `kubectl apply -k FOLDER` would send; kustomize itself renders it where there is no kubectl."""
    if kubectl := find("kubectl"):
        return output(kubectl, "kustomize", str(folder))
    return output(tool("kustomize"), "build", str(folder))


@functools.cache
def overlay(name: str) -> str:
    """What `kubectl apply -k manifests/overlays/NAME` would send."""
    return kustomize(MANIFESTS / "overlays" / name)


@functools.cache
def experiment_schema() -> str:
    """The strict schema of an Experiment, from the client's own model."""
    return output(sys.executable, "-m", "tuner.check.schema")


def kubeconform(objects: list[dict[str, Any]], version: str, folder: Path) -> None:
    """Every object is valid, and strictly so, under one version of Kubernetes; folder is for scratch."""
    (folder / "experiment.json").write_text(experiment_schema())
    (folder / "objects.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )
    location = str(SCHEMAS / f"v{version}" / "{{.ResourceKind}}{{.KindSuffix}}.json")
    own = str(folder / "{{.ResourceKind}}.json")
    options = ["-strict", "-schema-location", location, "-schema-location", own]
    output(tool("kubeconform"), *options, str(folder / "objects.json"))
