"""A trial's command: substitution, Kubernetes' expansion, paths of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import document, experiment
from tuner import manifest
from tuner.errors import CommandError, UnsupportedError
from tuner.experiment.command import Command, build, warnings

POINT = {"lr": 0.001, "bs": 64}


def built(**options: Any) -> Command:
    return build(experiment(**options), "study-4", POINT)


def test_parameters_are_substituted_anywhere_as_text() -> None:
    command = built(
        args=[
            "--lr=${trialParameters.lr}",
            "a${trialParameters.bs}b${trialParameters.bs}",
            "${other}",
        ]
    )
    assert command.argv == ("python", "-m", "surface_trial", "--lr=0.001", "a64b64", "${other}")
    assert command.module == "surface_trial"


def test_trial_spec_references() -> None:
    shape = document(
        args=["${trialParameters.name}", "${trialParameters.kind}", "${trialParameters.team}"]
    )
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
    with pytest.raises(
        UnsupportedError, match=r"env TOKEN comes from the cluster \(secretKeyRef\).*Set TOKEN"
    ):
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
    command = built(pod=pod, container={"volumeMounts": mounts, "env": env}, args=args).inside(
        tmp_path
    )
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
    del shape["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0][
        "command"
    ]
    with pytest.raises(CommandError, match="has no command"):
        build(manifest.from_document(shape), "t", POINT)


@pytest.mark.parametrize("name", ["python", "python3", "python3.11", "/usr/bin/python3"])
def test_python_module_is_recognised(name: str) -> None:
    assert Command((name, "-m", "trainer", "--lr=1")).module == "trainer"


@pytest.mark.parametrize(
    "argv",
    [
        ("python", "a.py"),
        ("python", "-u", "-m", "a"),
        ("sh", "-c", "python -m a"),
        ("pypy", "-m", "a"),
    ],
)
def test_other_commands_are_no_modules(argv: tuple[str, ...]) -> None:
    assert Command(argv).module == ""


def run_line(argv: tuple[str, ...], folder: Path) -> str:
    """Run a command in a directory and return what it prints."""
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("command", "args"),
    [
        (["echo", "1"], ["&&", "echo", "2"]),
        (["echo"], ["1", "|", "cat"]),
        (["echo"], ["1", ">", "out"]),
        (["echo"], ["1", "2>&1"]),
        (["echo"], ["1", ">>out"]),
        (["cd", "/tmp;", "ls"], []),
        (["python -m trainer --lr=1"], []),
        (["python", "train.py --lr=1"], []),
        (["python"], ["-m trainer", "--lr=1"]),
        (["/bin/sh"], ["run.sh", "||", "true"]),
    ],
)
def test_shell_syntax_runs_in_shell(command: list[str], args: list[str]) -> None:
    assert built(command=command, args=args).argv == ("sh", "-c", " ".join([*command, *args]))


@pytest.mark.parametrize(
    "line",
    [
        ["python", "-c", "import a; print(1 > 0)"],
        ["echo", "a b", "--sep=;", "a&&b", "--expr=x>y", "->", "$HOME", "`id`"],
        ["sh", "-c", "echo 1 && echo 2 > out"],
        ["/bin/bash", "-c", "echo 1", "&&"],
        ["python", "train.py", "--name=a b"],
    ],
)
def test_other_commands_see_no_shell(line: list[str]) -> None:
    assert built(command=line, args=[]).argv == tuple(line)


def test_values_never_make_a_shell() -> None:
    what = experiment(command=["echo"], args=["${trialParameters.lr}"])
    assert build(what, "study-4", {"lr": "&&", "bs": 1}).argv == ("echo", "&&")


@pytest.mark.parametrize("command", [["sh", "-c"], []])
def test_mount_in_shell_line_needs_a_plain_path(tmp_path: Path, command: list[str]) -> None:
    pod, container = volume("/out")
    line = 'echo 1 > /out/a; echo 2 > "/out/b"; cat /out/a "/out/b"'
    what = built(pod=pod, container=container, command=[*command, line], args=[])
    own = tmp_path / "José"
    (own / "mounts" / "out").mkdir(parents=True)
    assert run_line(what.inside(own).argv, tmp_path) == "1\n2\n"
    for name in ("it's", "$dir", "a b", "a;b"):
        with pytest.raises(CommandError, match=r"its shell line names a volume.*--store DIR"):
            what.inside(tmp_path / name)
    other = built(pod=pod, container=container, command=["ls", "/out"], args=[])
    assert other.inside(tmp_path / "a b").argv == ("ls", f"{tmp_path}/a b/mounts/out")


def volume(path: str, **pod: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod with the emptyDir `out`, and a container that mounts it at `path`."""
    mount = {"volumeMounts": [{"name": "out", "mountPath": path}]}
    return {"volumes": [{"name": "out", "emptyDir": {}}], **pod}, mount


def test_init_containers_share_volumes_by_name(tmp_path: Path) -> None:
    first = {
        "name": "first",
        "command": ["cp", "a", "/init/b"],
        "volumeMounts": [{"name": "out", "mountPath": "/init"}],
    }
    second = {
        "name": "second",
        "command": ["echo", "$(X)"],
        "env": [{"name": "X", "value": "${trialParameters.bs}"}],
    }
    sidecar = {"name": "proxy", "command": ["proxy"], "restartPolicy": "Always"}
    pod, container = volume("/out", initContainers=[first, second, sidecar])
    command = built(pod=pod, container=container).inside(tmp_path)
    assert [one.argv for one in command.init] == [
        ("cp", "a", f"{tmp_path}/mounts/out/b"),
        ("echo", "64"),
    ]
    assert [one.name for one in command.init] == ["first", "second"]


def test_init_container_needs_a_command() -> None:
    with pytest.raises(CommandError, match="container fetch has no command"):
        built(pod={"initContainers": [{"name": "fetch", "image": "x"}]})


def test_warnings_name_what_does_not_run() -> None:
    sidecar, native = (
        {"name": "proxy", "command": ["x"]},
        {"name": "agent", "command": ["x"], "restartPolicy": "Always"},
    )
    source = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}]
    shape = document(container={"envFrom": source}, pod={"initContainers": [native]})
    spec = shape["spec"]["trialTemplate"]["trialSpec"]["spec"]
    spec["template"]["spec"]["containers"].append(sidecar)
    spec["parallelism"] = 3
    found = warnings(manifest.from_document(shape))
    assert len(found) == 2
    assert (
        "container main takes variables from configMap settings, secret token (envFrom)" in found[0]
    )
    assert "do not run: 2 further pods, container proxy, sidecar agent" in found[1]
    assert warnings(experiment()) == []


def test_primary_replica_is_chosen_and_others_named() -> None:
    def replica(count: int, program: str) -> dict[str, Any]:
        return {
            "replicas": count,
            "template": {"spec": {"containers": [{"name": "main", "command": [program]}]}},
        }

    shape = document()
    template = shape["spec"]["trialTemplate"]
    roles = {"Worker": replica(3, "worker"), "Master": replica(1, "master")}
    template["trialSpec"] = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "spec": {"pytorchReplicaSpecs": roles},
    }
    what = manifest.from_document(shape)
    assert build(what, "study-4", POINT).argv == ("master",)
    assert warnings(what)[0].endswith("do not run: 3 x Worker")


def test_train_job_runs_its_trainer() -> None:
    shape = document()
    trainer = {"numNodes": 2, "command": ["bash", "-c"], "args": ["echo ${trialParameters.bs}"]}
    shape["spec"]["trialTemplate"]["trialSpec"] = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {"trainer": trainer},
    }
    what = manifest.from_document(shape)
    assert build(what, "study-4", POINT).argv == ("bash", "-c", "echo 64")
    assert warnings(what)[0].endswith("do not run: 1 further nodes")


@pytest.mark.parametrize(
    ("name", "value"), [("A=B", "x"), ("", "x"), ("A\0", "x"), ("\ud800", "x")]
)
def test_impossible_env_names_are_refused(name: str, value: str) -> None:
    with pytest.raises(CommandError, match="must have no '=' and no NUL"):
        built(container={"env": [{"name": name, "value": value}]})


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_impossible_texts_are_refused(value: str) -> None:
    with pytest.raises(CommandError, match=r"container main: env A contains .*remove it"):
        built(container={"env": [{"name": "A", "value": value}]})
    with pytest.raises(CommandError, match=r"container main: the command contains .*remove it"):
        built(args=[value])


def test_paths_below_mounts_are_found(tmp_path: Path) -> None:
    (tmp_path / "x.npz").touch()
    pod, container = volume(str(tmp_path))
    args = [f"--dataset={tmp_path}/x.npz", f"--out={tmp_path}/new", str(tmp_path)]
    hidden = built(pod=pod, container=container, args=args).hidden_paths()
    assert hidden == [(f"{tmp_path}/x.npz", str(tmp_path))]
