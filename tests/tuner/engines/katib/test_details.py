"""What a report shows of a study on a cluster: curves, and images whose files were copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.tuner.loopback import Loopback
from tuner.cli import main
from tuner.client import Client
from tuner.report import View, page
from tuner.result import TrialState
from tuner.store.images import keep
from tuner.store.studies import EngineKind

RUNNING_FROM = 122  # the change of random-ok after which three trials have finished, and three run


@pytest.fixture
def halfway(
    server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Loopback:
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    for number, _ in enumerate(server.steps("random-ok")):
        if number == RUNNING_FROM:
            break
    return server


def looked(tmp_path: Path) -> View:
    """The study as a report shows it."""
    client = Client(tmp_path / "store", namespace="gan", notify=lambda message: None)
    client.refresh("random-ok", curves=True)
    return client.view("random-ok", EngineKind.KATIB)


def running(study: View) -> list[str]:
    return [trial.name for trial in study.result.trials if trial.state is TrialState.RUNNING]


def test_images_of_copied_files_are_shown(halfway: Loopback, tmp_path: Path) -> None:
    before = looked(tmp_path)
    assert before.samples == {}
    assert "gantune files random-ok -o DIR" in before.samples_note
    trial = before.result.trials[0]
    for name in ("samples.png", "real.png"):
        Image.new("L", (64, 48), 100).save(tmp_path / name)
    keep(tmp_path / "store" / "katib" / "random-ok", trial.name, tmp_path)
    study = looked(tmp_path)
    assert set(study.samples) == {trial.number}
    assert study.real is not None
    text = page([study])
    assert "files were copied" in text
    assert text.count("data:image/jpeg;base64,") == 2


def test_curves_of_running_trials_are_shown(halfway: Loopback, tmp_path: Path) -> None:
    study = looked(tmp_path)
    logged = [name for name in running(study) if any(pod.startswith(name) for pod in halfway.logs)]
    assert len(logged) == 2, "the recording lacks the log of the third"
    for trial in study.result.trials:
        assert trial.name not in logged or len(study.curve(trial, "fd")) == 3
    assert page([study]).count(" after 3 reports") == 2


def test_finished_curve_replaces_a_running_one(halfway: Loopback, tmp_path: Path) -> None:
    for name in list(halfway.logs):
        halfway.logs[name] = "\n".join(halfway.logs[name].splitlines()[:3])
    first = looked(tmp_path)
    name = running(first)[0]
    assert [len(first.curve(t, "fd")) for t in first.result.trials if t.name == name] == [2]
    halfway.replay("random-ok")
    last = looked(tmp_path)
    assert [len(last.curve(t, "fd")) for t in last.result.trials if t.name == name] == [3]


def test_report_says_which_curves_are_missing(
    halfway: Loopback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in [key for key in halfway.objects if key[0] == "pods"]:
        halfway.remove(*key)
    with pytest.raises(SystemExit) as ended:
        main(["report", "random-ok", "-n", "gan", "-o", "page.html"])
    assert ended.value.code == 0
    assert (
        "warning: random-ok: the curves of 3 trials could not be read: no running pod"
        in capsys.readouterr().err
    )
