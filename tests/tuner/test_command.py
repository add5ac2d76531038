"""A trial's command: substitution, Kubernetes' expansion, paths of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import document, experiment
from tuner import manifest
from tuner.command import Command, build
from tuner.errors import CommandError, UnsupportedError

POINT = {"lr": 0.001, "bs": 64}


def built(**options: Any) -> Command:
    return build(experiment(**options), "study-4", POINT)


def test_parameters_are_substituted_anywhere_as_text() -> None:
    command = built(args=["--lr=${trialParameters.lr}", "a${trialParameters.bs}b${trialParameters.bs}", "${other}"])
    assert command.argv == ("python", "-m", "surface_trial", "--lr=0.001", "a64b64", "${other}")
    assert command.module == "surface_trial"


def test_trial_spec_references() -> None:
    shape = document(args=["${trialParameters.name}", "${trialParameters.kind}", "${trialParameters.team}"])
    template = shape["spec"]["trialTemplate"]
    template["trialSpec"]["metadata"] = {"labels": {"team": "gan"}}
    for name, key in (("name", "Name"), ("kind", "Kind"), ("team", "Labels[team]")):
        template["trialParameters"].append({"name": name, "reference": f"${{trialSpec.{key}}}"})
    what = manifest.from_document(shape)
    assert build(what, "study-4", POINT).argv[3:] == ("study-4", "Job", "gan")


def test_variables_expand_as_kubernetes_does() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]
    command = built(container={"env": env}, args=["$(B)", "$$(B)", "$(NONE)", "$B"])
    assert command.argv[3:] == ("12", "$(B)", "$(NONE)", "$B")
    assert command.env["B"] == "12"
    assert command.env["KATIB_TRIAL_NAME"] == "study-4"


def test_env_from_the_cluster_must_be_set_here(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    assert built(container={"env": fields}).env["ME"] == "study-4"
    secret = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(UnsupportedError, match=r"env TOKEN comes from the cluster \(secretKeyRef\).*set TOKEN"):
        built(container={"env": secret})
    monkeypatch.setenv("TOKEN", "abc")
    assert built(container={"env": secret}).env["TOKEN"] == "abc"


def test_mounts_become_directories_of_the_trial(tmp_path: Path) -> None:
    pod = {
        "volumes": [
            {"name": "out", "emptyDir": {}},
            {"name": "keep", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "d", "readOnly": True}},
        ]
    }
    mounts = [
        {"name": "out", "mountPath": "/out"},
        {"name": "keep", "mountPath": "/out/keep"},
        {"name": "data", "mountPath": "/data"},
    ]
    env = [{"name": "WHERE", "value": "/out"}]
    args = ["--a=/out/x", "/output", "/layout/out", "/out/keep/y:/out", "/data/z", "cd /out&& ls"]
    command = built(pod=pod, container={"volumeMounts": mounts, "env": env}, args=args).inside(tmp_path)
    own = f"{tmp_path}/mounts"
    assert command.argv[3:] == (
        f"--a={own}/out/x",
        "/output",
        "/layout/out",
        f"{own}/out-keep/y:{own}/out",
        "/data/z",
        f"cd {own}/out&& ls",
    )
    assert command.env["WHERE"] == f"{own}/out"


def test_shortest_deadline_counts() -> None:
    assert built(deadline=30, pod={"activeDeadlineSeconds": 20}).deadline == 20
    assert built().deadline is None


def test_container_without_command_is_refused() -> None:
    shape = document()
    del shape["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"]
    with pytest.raises(CommandError, match="has no command"):
        build(manifest.from_document(shape), "t", POINT)


@pytest.mark.parametrize("name", ["python", "python3", "python3.11", "/usr/bin/python3"])
def test_python_module_is_recognised(name: str) -> None:
    assert Command((name, "-m", "trainer", "--lr=1")).module == "trainer"


@pytest.mark.parametrize(
    "argv", [("python", "a.py"), ("python", "-u", "-m", "a"), ("sh", "-c", "python -m a"), ("pypy", "-m", "a")]
)
def test_other_commands_are_no_modules(argv: tuple[str, ...]) -> None:
    assert Command(argv).module == ""
