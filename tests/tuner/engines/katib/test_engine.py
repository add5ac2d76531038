"""KatibEngine: what it collects, the curves and the logs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.clusters import change
from tests.tuner.loopback import RECORDINGS, Loopback, changes, many
from tuner.engines.katib import KatibEngine
from tuner.errors import NotFound
from tuner.kube import Cluster
from tuner.kube.dbmanager import DbManager
from tuner.result import StudyState, TrialState
from tuner.store import curves


def test_collect_has_every_trial_with_numbers(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    result = engine.result("random-ok")
    assert result.state is StudyState.SUCCEEDED
    assert [trial.number for trial in result.trials] == list(range(6))
    assert all(
        isinstance(t.parameters["lr"], float) and isinstance(t.parameters["bs"], int)
        for t in result.trials
    )
    assert result.best is not None
    assert result.best.metrics == {"fd": 10.1749, "loss": 1.1}
    assert engine.store.result("random-ok") == result
    assert not any("Katib reports" in note for note in notes)


def test_best_known_only_to_store_is_no_nan(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    engine.result("random-ok")
    server.remove("trials", "gan", "random-ok-k62kz9k8")

    def counted_again(item: dict[str, Any]) -> None:
        item["status"]["succeededTrialList"].remove("random-ok-k62kz9k8")
        item["status"]["currentOptimalTrial"]["bestTrialName"] = "random-ok-gnjswkjt"

    change(server, "experiments", "random-ok", counted_again)
    notes.clear()
    best = engine.result("random-ok").best
    assert best is not None
    assert best.name == "random-ok-k62kz9k8"
    assert [note for note in notes if "Katib reports" in note] == [
        "Katib reports random-ok-gnjswkjt as the best trial, but by the trials' metrics it is random-ok-k62kz9k8 "
        "(fd=10.1749), which is missing from Katib's status"
    ]


def test_other_best_without_cause_is_reported_plainly(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    change(
        server,
        "experiments",
        "random-ok",
        lambda item: item["status"]["currentOptimalTrial"].update(
            bestTrialName="random-ok-gnjswkjt"
        ),
    )
    engine.result("random-ok")
    assert [note for note in notes if note.endswith("it is random-ok-k62kz9k8 (fd=10.1749)")]


@pytest.mark.parametrize(
    ("values", "state", "metrics"),
    [
        (
            {"latest": "", "min": "unavailable", "max": "unavailable"},
            TrialState.METRICS_UNAVAILABLE,
            {},
        ),
        ({"min": "unavailable", "max": "unavailable"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "nan", "min": "nan", "max": "nan"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "-inf", "min": "1", "max": "1"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "1e999", "min": "1", "max": "1"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "3.5e-1", "min": "nan", "max": "nan"}, TrialState.SUCCEEDED, {"fd": 0.35}),
    ],
)
def test_values_that_are_no_numbers_never_count(
    server: Loopback,
    engine: KatibEngine,
    values: dict[str, str],
    state: TrialState,
    metrics: dict[str, float],
) -> None:
    for plural, item in many(3):
        if item["metadata"]["name"].endswith("2"):
            item["status"]["observation"]["metrics"] = [{"name": "fd"} | values]
        server.put(plural, item)
    result = engine.result("big")
    assert (result.trials[2].state, result.trials[2].metrics) == (state, metrics)
    assert result.best is not None
    assert (result.best.number == 2) is bool(metrics)


def test_early_stopped_wins_over_running(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(2):
        if plural == "trials":
            done = item["status"]["conditions"]
            done[1]["status"], done[2] = (
                "True",
                done[2] | {"type": "EarlyStopped", "reason": "TrialEarlyStopped"},
            )
            item["status"].pop("completionTime")
        server.put(plural, item)
    assert {trial.state for trial in engine.result("big").trials} == {TrialState.EARLY_STOPPED}


def test_trial_that_stopped_itself_is_early_stopped(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(3):
        if item["metadata"]["name"].endswith(("1", "2")) and plural == "trials":
            value = "1" if item["metadata"]["name"].endswith("1") else "unavailable"
            item["status"]["observation"]["metrics"].append(
                {"name": "stopped", "latest": value, "min": value, "max": value}
            )
        server.put(plural, item)
    result = engine.result("big")
    assert [trial.state for trial in result.trials] == [
        TrialState.SUCCEEDED,
        TrialState.EARLY_STOPPED,
        TrialState.SUCCEEDED,
    ]
    assert "fd" in result.trials[1].metrics
    assert "stopped itself" in result.trials[1].reason


@pytest.fixture
def db_manager() -> Iterator[str]:
    """A real gRPC server with the recorded answers."""
    import grpc
    from kubeflow.katib import katib_api_pb2 as pb
    from kubeflow.katib import katib_api_pb2_grpc as rpc

    recorded = json.loads((RECORDINGS / "observation_log.json").read_text())

    class Answers(rpc.DBManagerServicer):
        def GetObservationLog(self, request: Any, context: Any) -> Any:  # noqa: N802
            shape = recorded.get(
                f"{request.trial_name}|{request.metric_name}", recorded["nosuch|fd"]
            )
            logs = [
                pb.MetricLog(time_stamp=log["time_stamp"], metric=pb.Metric(**log["metric"]))
                for log in shape["observation_log"].get("metric_logs", [])
            ]
            return pb.GetObservationLogReply(observation_log=pb.ObservationLog(metric_logs=logs))

    pool = grpc.server(futures.ThreadPoolExecutor(2))
    rpc.add_DBManagerServicer_to_server(Answers(), pool)
    port = pool.add_insecure_port("127.0.0.1:0")
    pool.start()
    yield f"127.0.0.1:{port}"
    pool.stop(0)


def test_curves_come_from_the_db_manager_once(
    server: Loopback, engine: KatibEngine, db_manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 5.0)
    engine.db_manager = db_manager
    server.replay("bayes-ok")
    engine.result("bayes-ok")
    curve = curves.read(engine.store.folder("bayes-ok"))["bayes-ok-6mtkqbkk"]["fd"]
    assert [seen.value for seen in curve] == [67.827, 66.827, 65.827]
    assert all(seen.time is not None and seen.time.microsecond == 250000 for seen in curve)
    engine.result("bayes-ok")
    stored = (engine.store.folder("bayes-ok") / curves.FILE).read_bytes()
    assert stored.count(b"\n") == len(curves.read(engine.store.folder("bayes-ok"))) == 1


def test_trial_unknown_to_db_manager_has_no_curve(
    kubeconfig: Path, db_manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DbManager.open(Cluster.connect(), address=db_manager) as database:
        assert database.observations("nosuch") == []


def test_db_manager_is_reached_by_port_forward(
    server: Loopback, kubeconfig: Path, db_manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"katib.kubeflow.org/component": "db-manager"}
    metadata = {"name": "katib-db-manager-1", "namespace": "kubeflow", "labels": labels}
    server.put("pods", {"metadata": metadata, "status": {"phase": "Running"}})
    host, _, port = db_manager.partition(":")
    server.forwards["katib-db-manager-1"] = (host, int(port))
    with DbManager.open(Cluster.connect()) as database:
        assert len(database.observations("bayes-ok-6mtkqbkk")) == 6
    assert server.count("GET", "/pods/katib-db-manager-1/portforward?ports=6789") == 1


def test_port_forward_reports_missing_db_manager(server: Loopback, kubeconfig: Path) -> None:
    with (
        pytest.raises(NotFound, match="no running pod of Katib's DB manager"),
        DbManager.open(Cluster.connect()),
    ):
        pass


def test_curves_fall_back_to_logs_without_db_manager(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    engine.result("random-ok")
    curve = curves.read(engine.store.folder("random-ok"))["random-ok-2p7hm8wp"]["fd"]
    assert [seen.value for seen in curve] == [12.5093, 11.5093, 10.5093]
    assert all("could not be read: Katib's DB manager does not answer" in note for note in notes)


def test_logs_come_from_the_container_that_has_them(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    assert list(engine.logs("random-ok", "random-ok-2p7hm8wp")) == ["step 1", "step 2", "step 3"]
    item = server.objects["experiments", "gan", "random-ok"]
    item["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "StdOut"}}
    lines = list(engine.logs("random-ok", "2p7hm8wp"))
    assert "2026-11-22T10:00:01.250000Z epoch=1 loss=1.7000 fd=12.5093" in lines


def test_log_comes_from_youngest_pod_with_container(server: Loopback, engine: KatibEngine) -> None:
    """A Job that tried again has two; a pod that waits for a node has no container yet."""
    server.replay("random-ok")
    first = server.objects[
        next(key for key in server.objects if key[0] == "pods" and "2p7hm8wp" in key[2])
    ]
    for name, created, containers in (
        ("second", "20:00:00", ["trainer"]),
        ("helper", "21:00:00", ["other"]),
    ):
        pod = copy.deepcopy(first)
        pod["metadata"] |= {
            "name": name,
            "uid": name,
            "creationTimestamp": f"2026-11-22T{created}Z",
        }
        pod["status"]["containerStatuses"] = [
            {"name": one, "state": {"running": {}}} for one in containers
        ]
        server.put("pods", pod)
    server.logs["second/trainer"] = "2026-11-22T20:00:01Z once more\n"
    assert list(engine.logs("random-ok", "2p7hm8wp")) == ["once more"]


def test_the_best_trials_log_is_found_and_followed(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    for pod in changes("random-ok")[1]:
        server.logs.setdefault(pod, "")
    best = next(
        key[2]
        for key in server.objects
        if key[0] == "pods" and key[2].startswith("random-ok-k62kz9k8")
    )
    server.logs[f"{best}/trainer"] = "2026-11-22T19:13:45Z the best\n"
    assert list(engine.logs("random-ok", best=True, follow=True)) == ["the best"]
    assert server.count("GET", "follow=true") == 1


def test_the_log_of_a_removed_pod_names_retain(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(2):
        server.put(plural, item)
    with pytest.raises(NotFound, match=r"trialTemplate\.retain is true"):
        list(engine.logs("big", "1"))
    with pytest.raises(NotFound, match="big has no trial 7"):
        list(engine.logs("big", "7"))


def test_delete_needs_a_writable_store(
    server: Loopback, engine: KatibEngine, tmp_path: Path
) -> None:
    server.replay("random-ok")
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(Exception, match="cannot be written"):
        engine.delete("random-ok")
    assert ("experiments", "gan", "random-ok") in server.objects


def test_the_names_of_a_namespace(server: Loopback, engine: KatibEngine) -> None:
    for scenario in ("random-ok", "failing"):
        server.replay(scenario)
    assert [each[:2] for each in engine.studies()] == [
        ("failing", StudyState.FAILED),
        ("random-ok", StudyState.SUCCEEDED),
    ]
