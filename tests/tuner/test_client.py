"""The verbs for Python: `from tuner import ...`, against the loopback API server."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path

import pytest

import tuner
from tests.tuner.experiments import document
from tests.tuner.loopback import RESPONSES, Loopback
from tuner.engines.base import Event
from tuner.errors import NotFound, StudyNotFound, Unreachable
from tuner.result import StudyState, TrialState
from tuner.store.studies import EngineKind, Store


@pytest.fixture(autouse=True)
def folder(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    (tmp_path / "made.yaml").write_text(json.dumps(RESPONSES["create-201"]["request"]["body"]))
    return tmp_path


PACKAGES = {"check", "report", "export", "confirm"}  # of tuner, which hold the functions
# they write a manifest for a person to edit, or serve a browser
TERMINAL_ONLY = {"init", "next"}


def test_every_command_has_a_python_verb() -> None:
    from tuner.cli import COMMANDS

    verbs = {
        name.replace("-", "_") for name in set(COMMANDS) - PACKAGES - TERMINAL_ONLY - {"list"}
    } | {
        "advice",
        "studies",
        "to_katib",
        "tune",
    }
    assert verbs | {"Client", "Experiment", "load", "__version__"} == set(tuner.__all__)
    for name in verbs:
        verb = getattr(tuner, name)
        assert f"{name}(" in verb.__doc__, f"no example in {name}"
        assert f" {name}" in tuner.__doc__ or name in tuner.__all__
        assert "self" not in inspect.signature(verb).parameters
    assert set(tuner.__all__) <= set(dir(tuner))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tuner.nothing


def test_submit_watch_best_and_run(server: Loopback) -> None:
    server.replay("random-ok")
    assert tuner.submit("made.yaml") == "made"
    with pytest.warns(UserWarning, match="the curves of 2 trials could not be read"):
        events = list(tuner.watch("random-ok"))
    best = tuner.best("random-ok")
    assert best is not None
    assert best == events[-1].result.best
    held = copy.deepcopy(server.objects["experiments", "gan", "random-ok"])
    from tuner.manifest import from_document

    with (
        pytest.warns(UserWarning, match="the curves of"),
        pytest.warns(UserWarning, match="joined random-ok"),
    ):
        result = tuner.run(from_document(held), local=False, on_event=events.append)
    assert result.best == best


def test_submit_and_run_warn_of_what_preflight_finds(server: Loopback, folder: Path) -> None:
    from tuner.manifest import from_document

    body = json.loads((folder / "made.yaml").read_text())
    pod = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["nodeSelector"] = {"pool": "nosuch"}
    words = r"none of the 1 nodes can run the trial's pods \(nodeSelector pool=nosuch\)"
    with pytest.warns(UserWarning, match=words) as heard:
        assert tuner.submit(from_document(body)) == "made"
    assert heard[0].filename == __file__
    server.controller = lambda item: [*server.steps("failing", uid=item["metadata"]["uid"])]
    body["metadata"]["name"] = "failing"
    with (
        pytest.warns(UserWarning, match=words),
        pytest.warns(UserWarning, match="2 of 2 trials failed"),
    ):
        assert tuner.run(from_document(body), local=False).state is StudyState.FAILED


def test_best_and_status_survive_deletion(server: Loopback) -> None:
    server.replay("gpu-unschedulable")
    assert tuner.status("gpu-unschedulable").state is StudyState.RUNNING
    server.remove("experiments", "gan", "gpu-unschedulable")
    with pytest.warns(
        UserWarning, match="gpu-unschedulable is shown as it was collected last: .* not found"
    ) as heard:
        assert len(tuner.status("gpu-unschedulable").trials) == 2
    assert heard[0].filename == __file__
    with pytest.warns(
        UserWarning, match="gpu-unschedulable is shown as it was collected last: .* not found"
    ) as heard:
        assert tuner.best("gpu-unschedulable") is None
    assert heard[0].filename == __file__
    with pytest.raises(NotFound, match="not found in namespace gan"):
        tuner.best("nosuch")


def test_best_works_on_without_any_cluster(
    server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replay("gpu-unschedulable")
    tuner.status("gpu-unschedulable")
    monkeypatch.setenv("KUBECONFIG", str(folder / "nowhere"))
    with pytest.warns(UserWarning, match="is shown as it was collected last: KUBECONFIG="):
        assert tuner.best("gpu-unschedulable") is None
    with pytest.raises(Unreachable, match="cannot be used"):
        tuner.best("nosuch")
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(StudyNotFound, match=r"no study 'nosuch' in .*: there is gpu-unschedulable"):
        tuner.best("nosuch")


def test_a_cluster_that_refuses_is_told(server: Loopback) -> None:
    server.replay("gpu-unschedulable")
    tuner.status("gpu-unschedulable")
    server.answer("GET", "/experiments/", 403, RESPONSES["forbidden-list-403"]["body"])
    with pytest.warns(UserWarning, match="is shown as it was collected last: .*forbidden"):
        assert tuner.status("gpu-unschedulable").state is StudyState.RUNNING


def test_studies_of_the_store_and_of_a_namespace(server: Loopback) -> None:
    for scenario in ("random-ok", "failing"):
        server.replay(scenario)
    assert tuner.studies() == []
    assert [study[::2] for study in tuner.studies(cluster=True)] == [
        ("failing", StudyState.FAILED),
        ("random-ok", StudyState.SUCCEEDED),
    ]
    with pytest.warns(UserWarning, match="2 of 2 trials failed: exit code 3"):
        tuner.status("failing")
    assert tuner.studies() == [("failing", EngineKind.KATIB, StudyState.FAILED)]


def test_logs_extend_stop_and_delete(server: Loopback) -> None:
    server.replay("random-ok")
    assert list(tuner.logs("random-ok", "random-ok-2p7hm8wp")) == ["step 1", "step 2", "step 3"]
    server.replay("gpu-unschedulable")
    tuner.extend("gpu-unschedulable", 40)
    assert server.objects["experiments", "gan", "gpu-unschedulable"]["spec"]["maxTrialCount"] == 40
    tuner.stop("gpu-unschedulable")
    assert tuner.status("gpu-unschedulable").state is StudyState.STOPPED
    result = tuner.delete("gpu-unschedulable")
    assert {trial.state for trial in result.trials} == {TrialState.KILLED}
    assert [study.name for study in tuner.studies(cluster=True)] == ["random-ok"]


def test_python_and_command_line_share_the_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Store().root == Path(".gantune")
    monkeypatch.setenv("GANTUNE_STORE", str(folder / "mine"))
    assert tuner.submit("made.yaml")
    assert [path.name for path in folder.glob("*/*/*/manifest.json")] == ["manifest.json"]
    assert Store().all() == Store(folder / "mine").all() != []


def test_advice_and_table_of_a_local_study(tmp_path: Path) -> None:
    script = (
        "echo fd=$(echo '${trialParameters.lr}' | tr -d '.e-' | cut -c1-4) # ${trialParameters.bs}"
    )
    (tmp_path / "local.yaml").write_text(
        json.dumps(document(command=["sh", "-c"], args=[script], trials=12))
    )
    result = tuner.run("local.yaml", local=True)
    changes = tuner.advice("study")
    assert all(
        change.reason and (change.space or change.value or change.trials) for change in changes
    )
    assert tuner.advice("study", local=True) == changes
    with pytest.raises(StudyNotFound):
        tuner.advice("nope", local=True)
    table = result.to_dataframe()
    assert list(table["metrics.fd"]) == [trial.metrics["fd"] for trial in result.trials]
    assert list(table["parameters.lr"]) == [trial.parameters["lr"] for trial in result.trials]
    assert str(table["started"].dtype).startswith("datetime64")
    assert len(table) == 12


def test_ignored_options_are_python_warnings(tmp_path: Path) -> None:
    script = "echo fd=1 # ${trialParameters.lr} ${trialParameters.bs}"
    (tmp_path / "local.yaml").write_text(
        json.dumps(document(command=["sh", "-c"], args=[script], trials=3))
    )
    first = tuner.run("local.yaml", local=True, seed=1)
    with pytest.warns(UserWarning, match="seed") as caught:
        assert tuner.run("local.yaml", local=True, seed=2) == first
    assert {warning.filename for warning in caught} == {__file__}
    seen: list[Event] = []
    tuner.run("local.yaml", local=True, seed=2, on_event=seen.append)
    assert any("seed" in event.message for event in seen)


def test_local_study_is_retried_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'echo fd=1; case "$KATIB_TRIAL_NAME" in *-1) [ ! -e broken ] || exit 3;; esac'
    script += " # ${trialParameters.lr} ${trialParameters.bs}"
    manifest = document(command=["sh", "-c"], args=[script], trials=3)
    (tmp_path / "broken").touch()
    (tmp_path / "local.yaml").write_text(json.dumps(manifest))
    first = tuner.run("local.yaml", local=True)
    assert [trial.state for trial in first.trials] == [
        TrialState.SUCCEEDED,
        TrialState.FAILED,
        TrialState.SUCCEEDED,
    ]
    (tmp_path / "broken").unlink()
    seen: list[Event] = []
    result = tuner.retry("study", [1], on_event=seen.append)
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 3
    assert seen[-1].result == result
    assert tuner.check_store("study").finished == 3
    journal = tmp_path / ".gantune" / "local" / "study" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"exit code 3", b"exit code 4"))
    assert "checksum" in tuner.check_store("study").damage
    assert not tuner.check_store("study", repair=True).damage
