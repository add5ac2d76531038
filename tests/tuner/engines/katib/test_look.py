"""What a report reads from running pods: the commands run on this machine, whose directories are the pods' volumes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tuner.loopback import Loopback
from tuner.api import Client
from tuner.cli import main
from tuner.engines.katib import images
from tuner.report import View, page
from tuner.result import TrialState
from tuner.store.studies import EngineKind

RUNNING_FROM = 122  # the change of random-ok after which three trials have finished, and three run
EMPTY: dict[str, Any] = {"emptyDir": {}}
CLAIM = {"persistentVolumeClaim": {"claimName": "checkpoints"}}


@pytest.fixture
def halfway(
    server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Loopback:
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    for number, _ in enumerate(server.steps("random-ok")):
        if number == RUNNING_FROM:
            break
    return server


def mount(server: Loopback, folder: Path, volume: dict[str, Any], **options: str) -> None:
    """Mount a directory of this machine at its own path in each pod of a trial."""
    for (plural, _, name), item in list(server.objects.items()):
        if plural == "pods" and "katib.kubeflow.org/trial" in item["metadata"]["labels"]:
            own = folder / name if volume == EMPTY else folder
            own.mkdir(parents=True, exist_ok=True)
            mounts = [
                {"name": "output", "mountPath": str(own), **options},
                {"name": "token", "mountPath": "/secret"},
            ]
            item["spec"] |= {
                "containers": [{"name": "trainer", "volumeMounts": mounts}],
                "volumes": [{"name": "output", **volume}, {"name": "token", "projected": {}}],
            }
            server.put("pods", item)


def picture(path: Path, shade: int = 100, form: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (64, 48), shade).save(path, form)


def looked(tmp_path: Path) -> View:
    """The study as a report shows it."""
    client = Client(tmp_path / "store", namespace="gan")
    client.refresh("random-ok")
    client.look("random-ok")
    return client.study("random-ok", EngineKind.KATIB)


def running(study: View) -> list[str]:
    return [trial.name for trial in study.result.trials if trial.state is TrialState.RUNNING]


def test_images_come_from_running_pods(halfway: Loopback, tmp_path: Path) -> None:
    mount(halfway, tmp_path / "pods", EMPTY)
    for number, folder in enumerate(sorted((tmp_path / "pods").iterdir())):
        picture(folder / "out" / "samples.png", 10 * number)
        picture(folder / "out" / "real.png")
    study = looked(tmp_path)
    names = {trial.number: trial.name for trial in study.result.trials}
    assert {names[number] for number in study.samples} == set(running(study)) != set()
    assert study.real is not None
    text = page([study])
    assert "may be older than the trial" in text
    assert text.count("data:image/jpeg;base64,") == 4
    assert "(Running)" in text
    asked = [path for _, path in halfway.requests if "/exec" in path]
    assert all("command=find" in path or "command=cat" in path for path in asked)
    assert not any("secret" in path for path in asked)


def test_images_are_kept_when_pods_are_gone(halfway: Loopback, tmp_path: Path) -> None:
    mount(halfway, tmp_path / "pods", EMPTY)
    for folder in (tmp_path / "pods").iterdir():
        picture(folder / "samples.jpg", form="JPEG")
    before = set(looked(tmp_path).samples)
    halfway.replay("random-ok")
    count = halfway.count("GET", "/exec")
    study = looked(tmp_path)
    assert set(study.samples) == before
    assert not running(study)
    assert halfway.count("GET", "/exec") == count, "no pod is asked once no trial runs"


def test_shared_volume_has_finished_trials_too(halfway: Loopback, tmp_path: Path) -> None:
    shared = tmp_path / "claim"
    mount(halfway, shared, CLAIM)
    trials = [key[2] for key in halfway.objects if key[0] == "trials"]
    for trial in trials:
        picture(shared / trial / "samples.png")
    picture(shared / "samples.png")  # nobody knows whose it is
    study = looked(tmp_path)
    assert len(study.samples) == len(study.result.trials) == 6
    assert halfway.count("GET", "command=cat") == 6
    assert set(looked(tmp_path).samples) == set(study.samples)
    assert halfway.count("GET", "command=cat") == 6, "images that are up to date are not read again"


def test_own_part_of_shared_volume_is_read(halfway: Loopback, tmp_path: Path) -> None:
    mount(halfway, tmp_path / "claim", CLAIM, subPathExpr="$(TRIAL)")
    picture(tmp_path / "claim" / "samples.png")
    study = looked(tmp_path)
    assert len(study.samples) == len(running(study)) == 3


def test_untrusted_files_are_bounded(halfway: Loopback, tmp_path: Path) -> None:
    mount(halfway, tmp_path / "pods", EMPTY)
    large, bomb = sorted((tmp_path / "pods").iterdir())[-2:]
    for folder in (tmp_path / "pods").iterdir():
        (folder / "samples.png").write_bytes(b"<script>alert(1)</script>")
    with (large / "samples.png").open("wb") as file:
        file.truncate(images.MOST_BYTES + 1)
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    (bomb / "samples.png").write_bytes(stream.getvalue())
    study = looked(tmp_path)
    assert study.samples == {}
    assert "is no PNG or JPEG within the limits" in study.samples_note
    assert "kubectl cp" in study.samples_note


def test_container_without_find_is_one_sentence(
    halfway: Loopback, tmp_path: Path, monkeypatch: Any
) -> None:
    mount(halfway, tmp_path / "pods", EMPTY)
    monkeypatch.setenv("PATH", str(tmp_path))
    study = looked(tmp_path)
    assert study.samples == {}
    assert "find fails in pod random-ok-" in study.samples_note


def test_missing_right_is_one_sentence(halfway: Loopback, tmp_path: Path) -> None:
    mount(halfway, tmp_path / "pods", EMPTY)
    says = 'pods "p" is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "gan"'
    halfway.answer("GET", "/exec", 403, {"kind": "Status", "message": says, "code": 403})
    study = looked(tmp_path)
    assert halfway.count("GET", "/exec") == 1, "the other pods would refuse too"
    assert 'resources: ["pods/exec"], verbs: ["create"]' in study.samples_note
    assert "pods/exec" in page([study])


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
