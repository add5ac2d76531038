"""kind/: the scripts are clean, and never touch the user's own cluster; stand-ins of the programs record."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.manifests.rendering import ROOT, output, tool

KIND = ROOT / "kind"
SCRIPTS = sorted(path.name for path in KIND.glob("*.sh") if path.name != "env.sh")
RECORDER = """#!/bin/sh
printf '%s|%s\\n' "$KUBECONFIG" "${0##*/} $*" >> "$LOG"
case "${0##*/} $*" in
  "kind get clusters") printf '%s' "$CLUSTERS" ;;
  "kubectl get nodes "*) printf node-1 ;;
esac
exit "${FAIL:-0}"
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A copy of kind/, recorders on the PATH, and a user's kubeconfig that must stay as it is."""
    shutil.copytree(KIND, tmp_path / "kind", ignore=shutil.ignore_patterns("kubeconfig"))
    (tmp_path / "programs").mkdir()
    for name in ("kind", "kubectl", "docker"):
        program = tmp_path / "programs" / name
        program.write_text(RECORDER)
        program.chmod(0o755)
    (tmp_path / "users-kubeconfig").write_text("the user's own")
    return tmp_path


def run(stage: Path, script: str, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
    """Exit code, the calls that were recorded, and stderr."""
    log = stage / "log"
    log.unlink(missing_ok=True)
    variables = {
        "PATH": f"{stage / 'programs'}:{os.environ['PATH']}",
        "KUBECONFIG": str(stage / "users-kubeconfig"),
        "HOME": str(stage),
        "LOG": str(log),
        "CLUSTERS": "",
    }
    done = subprocess.run(
        ["bash", str(stage / "kind" / script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=variables | environment,
        timeout=60,
    )
    return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stderr


def test_shellcheck_finds_nothing() -> None:
    scripts = [*(KIND / name for name in SCRIPTS), KIND / "env.sh", KIND / "versions.env", ROOT / ".ci" / "tools.sh"]
    output(tool("shellcheck"), "-x", *map(str, scripts))


def test_every_script_of_the_issue_is_there_and_can_be_run() -> None:
    assert SCRIPTS == ["create.sh", "delete.sh", "fake-gpus.sh", "install-katib.sh", "load-image.sh"]
    assert all(os.access(KIND / name, os.X_OK) for name in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_reads_or_writes_the_users_kubeconfig(stage: Path, script: str) -> None:
    code, calls, stderr = run(stage, script)
    assert code == 0, stderr
    assert calls
    assert {call.split("|")[0] for call in calls} == {str(stage / "kind" / "kubeconfig")}
    assert (stage / "users-kubeconfig").read_text() == "the user's own"


def test_create_makes_the_cluster_once(stage: Path) -> None:
    _, first, _ = run(stage, "create.sh")
    assert any("kind create cluster --name gan-tuner --image kindest/node:v1" in call for call in first)
    _, again, _ = run(stage, "create.sh", CLUSTERS="other\ngan-tuner\n")
    assert not any("kind create" in call for call in again)


def test_another_cluster_of_a_similar_name_is_not_ours(stage: Path) -> None:
    _, calls, _ = run(stage, "create.sh", CLUSTERS="my-gan-tuner\ngan-tuner-2\n")
    assert any("kind create cluster --name gan-tuner " in call for call in calls)


def test_delete_deletes_ours_by_name(stage: Path) -> None:
    (stage / "kind" / "kubeconfig").write_text("ours")
    _, calls, _ = run(stage, "delete.sh", GANTUNER_CLUSTER="mine")
    assert [call.split("|")[1] for call in calls] == [
        f"kind delete cluster --name mine --kubeconfig {stage / 'kind' / 'kubeconfig'}"
    ]
    assert not (stage / "kind" / "kubeconfig").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_obeys_a_variable_that_means_something_else_in_the_users_shell(stage: Path, script: str) -> None:
    theirs = dict.fromkeys(("CLUSTER", "KUBERNETES", "KATIB", "TRAINER_IMAGE", "CLIENT_IMAGE", "FAKE_GPUS"), "prod")
    code, calls, stderr = run(stage, script, **theirs)
    assert code == 0, stderr
    assert not any("prod" in call for call in calls)


def test_fake_gpus_obeys_a_kubeconfig_that_is_meant_for_it(stage: Path) -> None:
    _, calls, _ = run(stage, "fake-gpus.sh", "1", GANTUNER_KUBECONFIG="/a/cluster")
    assert {call.split("|")[0] for call in calls} == {"/a/cluster"}
    _, calls, _ = run(stage, "delete.sh", GANTUNER_KUBECONFIG="/a/cluster")
    assert {call.split("|")[0] for call in calls} == {str(stage / "kind" / "kubeconfig")}


def test_fake_gpus_come_and_go(stage: Path) -> None:
    _, calls, _ = run(stage, "fake-gpus.sh", "2")
    assert any('"nvidia.com/gpu": "2"' in call for call in calls)
    assert any("nvidia.com/gpu.present=true" in call for call in calls)
    _, calls, _ = run(stage, "fake-gpus.sh", "0")
    assert any(
        '"nvidia.com/gpu": null' in call and "--type=merge" in call for call in calls
    )  # also where there is none
    assert any("nvidia.com/gpu.present-" in call for call in calls)
    code, calls, stderr = run(stage, "fake-gpus.sh", "many")
    assert (code, calls) == (2, [])
    assert "got 'many'" in stderr


@pytest.mark.parametrize(("script", "program"), [("load-image.sh", "docker"), ("install-katib.sh", "git")])
def test_a_missing_program_is_named_before_anything_is_done(stage: Path, script: str, program: str) -> None:
    (stage / "programs" / program).unlink(missing_ok=True)
    (stage / "plain").mkdir()
    for name in ("bash", "dirname", "basename", "sh"):
        (stage / "plain" / name).symlink_to(str(shutil.which(name)))
    code, calls, stderr = run(stage, script, PATH=f"{stage / 'programs'}:{stage / 'plain'}")
    assert (code, calls) == (1, [])
    assert f"needs {program}" in stderr


def test_a_step_that_fails_ends_the_script(stage: Path) -> None:
    code, calls, _ = run(stage, "install-katib.sh", FAIL="1")
    assert code == 1
    assert len(calls) == 1
