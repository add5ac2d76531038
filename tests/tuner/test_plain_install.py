"""What `pip install gan-tuner` gives without the extra [tune]: neither kubernetes nor kubeflow, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.cli.test_cli import MANIFEST, SCRIPT
from tests.tuner.loopback import Loopback

BLOCKED = """
import sys
for name in ("kubernetes", "kubeflow", "grpc", "urllib3", "websocket"):
    sys.modules[name] = None  # `import name` raises ModuleNotFoundError
from tuner.cli import main
main(sys.argv[1:])
"""
REMEDY = "pip install 'gan-tuner[cluster]'"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "trial.sh").write_text(SCRIPT)
    (tmp_path / "toy.yaml").write_text(
        MANIFEST.format(name="toy", count=2, script=tmp_path / "trial.sh")
    )
    return tmp_path


def gantune(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "GANTUNE_STORE"}
    env["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *argv],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_search_runs_here_and_says_why(home: Path, kubeconfig: Path) -> None:
    done = gantune(home, "run", "toy.yaml")
    assert done.returncode == 0, done.stderr
    assert f"runs here: no cluster: its client is not installed: {REMEDY}" in done.stderr
    for command in ("best", "status"):
        assert gantune(home, command, "toy").stderr == ""


@pytest.mark.parametrize("command", ["best", "status", "report"])
def test_an_unknown_study_is_simply_unknown(home: Path, kubeconfig: Path, command: str) -> None:
    done = gantune(home, command, "typo")
    assert done.returncode == 2
    assert done.stderr == (
        "gantune: error: no study 'typo' in .gantune: begin one with `gantune run FILE`\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "toy.yaml"), ("watch", "toy"), ("logs", "toy"), ("extend", "toy", "--max-trials", "9"),
        ("stop", "toy"), ("delete", "toy"), ("list", "--cluster"), ("run", "toy.yaml", "--cluster"),
    ],
)  # fmt: skip
def test_what_needs_a_cluster_names_the_extra(
    home: Path, kubeconfig: Path, argv: tuple[str, ...]
) -> None:
    done = gantune(home, *argv)
    assert done.returncode == 6
    assert (
        done.stderr.splitlines()[-1]
        == f"gantune: error: no cluster: its client is not installed: {REMEDY}"
    )


def test_curves_without_katibs_messages_name_the_extra(
    server: Loopback, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.errors import NoCluster
    from tuner.kube import Cluster
    from tuner.kube.dbmanager import DbManager

    monkeypatch.setitem(sys.modules, "kubeflow", None)
    monkeypatch.delitem(sys.modules, "kubeflow.katib.katib_api_pb2", raising=False)
    with pytest.raises(NoCluster, match=r"gan-tuner\[cluster\]"), DbManager.open(Cluster.connect()):
        pass
