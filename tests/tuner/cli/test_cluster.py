"""The commands that need a cluster, as a user types them: a real process against the loopback API server."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.tuner.clusters import change, names
from tests.tuner.commandline import gantune
from tests.tuner.loopback import RESPONSES, Loopback
from tuner.cli import cluster, study
from tuner.cli.options import client
from tuner.errors import GantuneError


@pytest.fixture
def folder(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    body = copy.deepcopy(RESPONSES["create-201"]["request"]["body"])
    (tmp_path / "made.yaml").write_text(json.dumps(body))
    return tmp_path


def invoke(command: Any, *words: str) -> Any:
    result = CliRunner().invoke(command, list(words), standalone_mode=False)
    if result.exception and not isinstance(result.exception, GantuneError):
        raise result.exception
    return result


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """`gantune` with this test's KUBECONFIG and working directory."""
    return gantune(Path.cwd(), *words, without=())


def test_submit_prints_the_name_and_the_next_command(server: Loopback, folder: Path) -> None:
    done = process("submit", "made.yaml")
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
    assert "next: gantune watch made" in done.stderr
    assert ("experiments", "gan", "made") in server.objects


def test_submit_runs_check_first(server: Loopback, folder: Path) -> None:
    body = json.loads((folder / "made.yaml").read_text())
    body["spec"]["parallelTrialCount"] = 9
    (folder / "made.yaml").write_text(json.dumps(body))
    done = process("submit", "made.yaml")
    assert done.returncode == 1
    assert "parallelTrialCount" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.requests == []


def test_watch_then_best_after_the_experiment_is_gone(server: Loopback, folder: Path) -> None:
    server.replay("random-ok")
    watched = invoke(cluster.watch, "random-ok")
    assert watched.return_value == 0
    server.remove("experiments", "gan", "random-ok")
    best = invoke(study.best, "random-ok", "--format", "json")
    assert json.loads(best.stdout)["name"] == "random-ok-k62kz9k8"


@pytest.mark.parametrize(
    ("scenario", "words", "code"),
    [
        ("random-ok", (), 0),
        ("oom-killed", (), 1),
    ],
)
def test_each_ending_has_its_exit_code(
    server: Loopback, folder: Path, scenario: str, words: tuple[str, ...], code: int
) -> None:
    server.replay(scenario)
    assert invoke(cluster.watch, scenario, "--format", "json", *words).return_value == code


def test_timeout_and_cluster_failure_have_own_codes(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable")
    done = process("watch", "gpu-unschedulable", "--timeout", "0.2")
    assert (done.returncode, "did not finish within 0.2 s" in done.stderr) == (5, True)
    for _ in range(4):
        server.answer(
            "GET",
            "/experiments",
            504,
            {"message": "the server was unable to return a response in time"},
        )
    # a watch that has begun outlives this
    done = process("watch", "gpu-unschedulable", "--timeout", "20")
    assert (done.returncode, "took too long" in done.stderr) == (6, True)
    assert "Traceback" not in done.stderr


def test_stopped_and_deleted_have_their_own_codes(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable")
    threading.Timer(0.5, server.remove, ("experiments", "gan", "gpu-unschedulable")).start()
    assert invoke(cluster.watch, "gpu-unschedulable", "--format", "json").return_value == 4
    server.replay("suspended-jobs")
    assert invoke(cluster.stop, "suspended-jobs").exception is None
    assert invoke(cluster.watch, "suspended-jobs", "--format", "json").return_value == 3


def test_status_of_a_running_search_is_refreshed(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable")
    shown = invoke(study.status, "gpu-unschedulable", "--format", "json")
    trials = json.loads(shown.stdout)["trials"]
    assert {trial["reason"] for trial in trials} == {"Unschedulable: 1 Insufficient nvidia.com/gpu"}


def test_finished_study_refreshes_while_trials_run(server: Loopback, folder: Path) -> None:
    for _ in server.steps("goal-reached"):
        item = server.objects.get(("experiments", "gan", "goal-reached"), {})
        if any(c["type"] == "Succeeded" for c in item.get("status", {}).get("conditions", [])):
            break
    shown = json.loads(invoke(study.status, "goal-reached", "--format", "json").stdout)
    assert (shown["state"], {trial["state"] for trial in shown["trials"]}) == (
        "Succeeded",
        {"Running", "Succeeded"},
    )
    server.replay("goal-reached")
    shown = json.loads(invoke(study.status, "goal-reached", "--format", "json").stdout)
    assert {trial["state"] for trial in shown["trials"]} == {"Succeeded"}
    server.requests.clear()
    invoke(study.best, "goal-reached")
    # is it still the same?
    assert [path.rpartition("/")[2] for _, path in server.requests] == ["goal-reached"]


def test_other_experiment_of_same_name_is_refused(server: Loopback, folder: Path) -> None:
    server.replay("random-ok")
    mine = invoke(study.best, "random-ok", "--format", "json").stdout
    refused = process("best", "random-ok", "-n", "nowhere")
    assert refused.returncode == 6
    assert "not found" in refused.stderr
    assert refused.stdout == ""
    change(
        server, "experiments", "random-ok", lambda item: item["metadata"].update(uid="made-anew")
    )
    for kind in ("trials", "pods"):
        for name in names(server, kind):
            server.remove(kind, "gan", name)
    anew = invoke(study.status, "random-ok", "--format", "json")
    assert json.loads(anew.stdout)["trials"] == []
    assert "its results are random-ok.1 now" in anew.stderr
    assert invoke(study.best, "random-ok.1", "--format", "json").stdout == mine


def test_search_that_katib_continues_is_noticed(server: Loopback, folder: Path) -> None:
    server.replay("random-ok")
    change(
        server,
        "experiments",
        "random-ok",
        lambda item: item["spec"].update(resumePolicy="LongRunning"),
    )
    assert (
        json.loads(invoke(study.status, "random-ok", "--format", "json").stdout)["state"]
        == "Succeeded"
    )
    change(server, "experiments", "random-ok", lambda item: item["spec"].update(maxTrialCount=40))
    assert (
        json.loads(invoke(study.status, "random-ok", "--format", "json").stdout)["state"]
        == "Running"
    )


def test_finished_study_needs_no_cluster(server: Loopback, folder: Path) -> None:
    server.replay("random-ok")
    shown = invoke(study.best, "random-ok").stdout
    server.silent = True
    again = invoke(study.best, "random-ok")
    assert (again.stdout, again.stderr) == (shown, "")


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ("unauthorized-401", "log in again"),
        ("forbidden-list-403", "the RBAC rule to add"),
        ("get-404", "not found"),
    ],
)
def test_unknown_name_says_why_cluster_has_none(
    server: Loopback, folder: Path, refusal: str, says: str
) -> None:
    server.recorded("GET", "/experiments/typo", refusal)
    done = process("best", "typo")
    assert done.returncode == 2
    assert (
        "no study 'typo' in .gantune: begin one with `gantune run FILE`; nor on the cluster: "
        in done.stderr
    )
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_experiment_of_kubectl_is_read_and_remembered(server: Loopback, folder: Path) -> None:
    server.replay("random-ok", namespace="team")
    assert process("best", "random-ok").returncode == 2  # the context's namespace is gan
    for command in (study.status, study.best):
        assert invoke(command, "random-ok", "-n", "team", "--format", "json").exception is None
    assert invoke(study.best, "random-ok", "--format", "json").exception is None  # from the store
    listed = invoke(study.list_, "--cluster", "-n", "team", "--context", "loopback")
    assert "random-ok" in listed.stdout
    assert "no usable context prod" in str(
        invoke(study.status, "nothing", "--context", "prod").exception
    )


def test_running_study_keeps_its_namespace(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable", namespace="team")
    assert process("watch", "gpu-unschedulable", "-n", "team", "--timeout", "0.2").returncode == 5
    server.requests.clear()
    invoke(study.best, "gpu-unschedulable")
    assert server.count("GET", "/namespaces/team/experiments/gpu-unschedulable") == 1


def test_study_is_not_read_from_another_cluster(
    server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replay("gpu-unschedulable")
    invoke(study.status, "gpu-unschedulable")
    with Loopback() as other:
        other.replay("gpu-unschedulable")
        monkeypatch.setenv("KUBECONFIG", str(other.kubeconfig(folder / "other")))
        done = process("status", "gpu-unschedulable")
        assert (done.returncode, other.requests) == (0, [])
        assert (
            f"it is on {server.url}, but the current context is for {other.url}: pass --context"
            in done.stderr
        )
        assert invoke(study.status, "gpu-unschedulable", "--context", "loopback").exception is None
        assert other.requests


def test_run_on_the_cluster_takes_the_same_options(server: Loopback, folder: Path) -> None:
    server.replay("random-ok", namespace="team")
    body = copy.deepcopy(server.objects["experiments", "team", "random-ok"])
    body = {key: body[key] for key in ("apiVersion", "kind", "spec")} | {
        "metadata": {"name": "random-ok"}
    }
    (folder / "there.yaml").write_text(json.dumps(body))
    done = process("run", "there.yaml", "--cluster", "-n", "team", "--context", "loopback")
    assert done.returncode == 0, done.stderr
    assert f"random-ok is on {server.url}" in done.stderr
    assert server.count("POST") == 0  # joined


def test_gantune_store_is_for_every_command(
    server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANTUNE_STORE", str(folder / "mine"))
    server.replay("random-ok")
    assert invoke(cluster.submit, "made.yaml").exception is None
    assert invoke(cluster.watch, "random-ok").return_value == 0
    assert sorted(path.name for path in (folder / "mine" / "katib").iterdir()) == [
        "made",
        "random-ok",
    ]
    assert not (folder / ".gantune").exists()


def test_status_without_cluster_shows_stored_result(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable")
    invoke(study.status, "gpu-unschedulable")
    server.silent = True
    shown = process("status", "gpu-unschedulable", "--format", "json")
    assert shown.returncode == 0
    assert len(json.loads(shown.stdout)["trials"]) == 2
    assert "is shown as it was collected last: " in shown.stderr


def test_stop_extend_and_delete(server: Loopback, folder: Path) -> None:
    server.replay("gpu-unschedulable")
    assert invoke(cluster.extend, "gpu-unschedulable", "--max-trials", "40").exception is None
    assert invoke(cluster.stop, "gpu-unschedulable").exception is None
    assert not [key for key in server.objects if key[0] == "trials"]
    assert invoke(cluster.delete, "gpu-unschedulable").exception is None
    assert not [key for key in server.objects if key[0] == "experiments"]


def test_logs_prints_the_trainers_lines(server: Loopback, folder: Path) -> None:
    server.replay("random-ok")
    shown = invoke(cluster.logs, "random-ok", "--trial", "random-ok-2p7hm8wp")
    assert shown.stdout == "step 1\nstep 2\nstep 3\n"


@pytest.mark.parametrize(
    "words", [("watch", "x"), ("submit", "made.yaml"), ("logs", "x"), ("delete", "x")]
)
def test_missing_cluster_is_one_line_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(folder / "nowhere"))
    done = process(*words)
    assert done.returncode == 6
    assert f"gantune: error: KUBECONFIG={folder}/nowhere cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_local_study_warm_starts_from_cluster(server: Loopback, folder: Path) -> None:
    from tuner.engines.local import LocalEngine
    from tuner.manifest import from_document
    from tuner.store.studies import Store

    server.replay("random-ok")
    store = Store(folder / ".gantune")
    client(folder / ".gantune").refresh("random-ok")
    body = copy.deepcopy(server.objects["experiments", "gan", "random-ok"])
    body["metadata"] = {"name": "here"}
    body["spec"]["maxTrialCount"] = body["spec"]["parallelTrialCount"] = 1
    body["spec"]["maxFailedTrialCount"] = 1
    container = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    container["command"] = [
        "python",
        "-c",
        "open('/var/log/katib/metrics.log', 'w').write('fd=1\\n')",
    ]
    container["args"] = ["${trialParameters.lr}", "${trialParameters.bs}"]
    engine = LocalEngine(store, warm_start="random-ok", workers=1)
    events = list(engine.run(from_document(body)))
    assert any(
        "6 trials of random-ok are known to the sampler" in event.message for event in events
    )


def test_table_shows_waiting_trials_and_nodes(
    server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    server.replay("gpu-unschedulable")
    shown = process("status", "gpu-unschedulable").stdout
    assert "pending" in shown
    assert "trials 0, 1 are pending: Unschedulable: 1 Insufficient nvidia.com/gpu" in shown
    server.replay("failing")
    failed = process("status", "failing").stdout
    assert "node" in failed
    assert " lab" in failed


def test_list_shows_the_experiments_of_the_cluster(server: Loopback, folder: Path) -> None:
    for scenario in ("random-ok", "failing"):
        server.replay(scenario)
    header, *rows = invoke(study.list_, "--cluster").stdout.splitlines()
    assert header.split() == ["study", "state", "finished", "created"]
    assert [row.split()[:5] for row in rows] == [
        ["failing", "Failed", "2", "of", "6"],
        ["random-ok", "Succeeded", "6", "of", "6"],
    ]
    found = json.loads(invoke(study.list_, "--cluster", "-n", "gan", "--format", "json").stdout)
    assert [each["state"] for each in found] == ["Failed", "Succeeded"]
    assert found[1]["created"].startswith("2026-11-22T19:13")


def test_empty_namespace_is_said(server: Loopback, folder: Path) -> None:
    done = process("list", "--cluster")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no Experiments in namespace gan: create one with `gantune submit FILE`\n"
    server.kubeconfig(Path(os.environ["KUBECONFIG"]), namespace="")
    done = process("list", "--cluster")
    assert done.returncode == 2
    assert "pass -n NAMESPACE" in done.stderr


def test_local_and_cluster_exclude_each_other(server: Loopback, folder: Path) -> None:
    done = process("run", "made.yaml", "--local", "--cluster")
    assert done.returncode == 2
    assert "--local and --cluster exclude each other" in done.stderr
    assert server.count("POST", "") == 0


def test_list_refreshes_running_studies_and_keeps_names(server: Loopback, folder: Path) -> None:
    for _ in server.steps("goal-reached"):
        if "Succeeded" in str(server.objects.get(("trials", "gan", "goal-reached-csl9h6ml"), "")):
            break
    invoke(study.status, "goal-reached")
    server.replay("goal-reached")
    listed = CliRunner(env={"COLUMNS": "54"}).invoke(study.list_, []).stdout
    assert "goal-reached  katib   Succeeded" in listed
    assert listed.splitlines()[1].endswith("…")
