"""KatibEngine's other verbs: submit, collect, curves, logs, extend, stop, delete."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.katib import change
from tests.tuner.loopback import RECORDINGS, RESPONSES, Loopback, changes, many
from tuner.engines.katib import KatibEngine, curves, spec
from tuner.errors import Denied, NotFound, StudyChanged
from tuner.kube import Cluster
from tuner.kube.dbmanager import DbManager
from tuner.manifest import Experiment, from_document
from tuner.result import StudyState, TrialState

BODY = RESPONSES["create-201"]["request"]["body"]


def experiment(**spec: Any) -> Experiment:
    body = copy.deepcopy(BODY)
    body["spec"] |= spec
    return from_document(body)


def on_gpus(count: int, **pod: Any) -> Experiment:
    body = copy.deepcopy(BODY)
    spec = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": count}}
    spec |= pod
    return from_document(body)


def gpu_node(name: str, gpus: int, **spec: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "pool": "gpu"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


def test_submit_creates_with_at_most_five_requests(server: Loopback, engine: KatibEngine, notes: list[str]) -> None:
    assert engine.submit(experiment()) == "made"
    assert len(server.requests) <= 5
    made = server.objects["experiments", "gan", "made"]
    assert made["spec"] == BODY["spec"]
    assert notes == []
    assert engine.store.experiment("made").parameters == experiment().parameters


def test_generate_name_is_honoured(server: Loopback, engine: KatibEngine) -> None:
    body = copy.deepcopy(BODY) | {"metadata": {"generateName": "made-"}}
    assert engine.submit(from_document(body)) == "made-x7k2p"
    assert engine.store.names() == ["made-x7k2p"]


def test_the_namespace_is_the_options_then_the_manifests_then_the_contexts(
    server: Loopback, engine: KatibEngine
) -> None:
    for name in ("from-manifest", "from-option"):
        namespace = copy.deepcopy(RESPONSES["namespace"]["body"])
        namespace["metadata"]["name"] = name
        server.put("namespaces", namespace)
    body = copy.deepcopy(BODY)
    engine.submit(from_document(body))
    body["metadata"] = {"name": "second", "namespace": "from-manifest"}
    engine.submit(from_document(body))
    engine.namespace = "from-option"
    body["metadata"]["name"] = "third"
    engine.submit(from_document(body))
    places = {key[2]: key[1] for key in server.objects if key[0] == "experiments"}
    assert places == {"made": "gan", "second": "from-manifest", "third": "from-option"}


def test_without_any_namespace_submit_asks_for_one(server: Loopback, engine: KatibEngine) -> None:
    engine.cluster.namespace = ""
    with pytest.raises(NotFound, match="pass -n NAMESPACE"):
        engine.submit(experiment())
    assert server.requests == []


def test_an_experiment_with_the_same_spec_is_joined_after_defaulting(server: Loopback, engine: KatibEngine) -> None:
    held = copy.deepcopy(RESPONSES["create-201"]["body"])  # as the real webhook completed it
    server.put("experiments", held)
    assert engine.submit(experiment()) == "made"
    assert server.count("POST") == 0


@pytest.mark.parametrize("scenario", sorted(p.stem for p in RECORDINGS.glob("*.jsonl")))
def test_what_a_cluster_holds_joins_itself(server: Loopback, engine: KatibEngine, scenario: str) -> None:
    server.replay(scenario)
    held = server.objects["experiments", "gan", scenario]
    assert engine.submit(from_document(copy.deepcopy(held))) == scenario
    assert server.count("POST") == 0


def test_another_spec_under_the_same_name_shows_the_difference(server: Loopback, engine: KatibEngine) -> None:
    server.put("experiments", copy.deepcopy(RESPONSES["create-201"]["body"]))
    with pytest.raises(StudyChanged, match=r"spec\.algorithm\.algorithmName: 'random' -> 'tpe'"):
        engine.submit(experiment(algorithm={"algorithmName": "tpe"}))


@pytest.mark.parametrize(
    ("held", "written", "changed"),
    [
        ({}, {"goal": 0}, "spec.objective.goal: None -> 0"),
        ({"goal": 0}, {}, "spec.objective.goal: 0 -> None"),
        ({"goal": 0}, {"goal": 0.0}, ""),
        ({"additionalMetricNames": []}, {}, ""),
    ],
)
def test_a_goal_of_zero_is_one(held: dict[str, Any], written: dict[str, Any], changed: str) -> None:
    plain = {"type": "minimize", "objectiveMetricName": "fd"}
    found = spec.difference({"objective": plain | held}, {"objective": plain | written})
    assert found == ([changed] if changed else [])


def test_what_an_api_server_drops_is_no_difference() -> None:
    assert spec.difference({"trialTemplate": {}}, {"trialTemplate": {"retain": False, "configMap": None}}) == []


def test_another_budget_is_joined_and_extend_is_named(server: Loopback, engine: KatibEngine, notes: list[str]) -> None:
    server.put("experiments", copy.deepcopy(RESPONSES["create-201"]["body"]))
    engine.submit(experiment(maxTrialCount=9, maxFailedTrialCount=4))
    assert notes == [
        "joined made, in namespace gan since 2026-11-22T19:19:13Z",
        "made has maxTrialCount 3, not 9: `gantune extend made --max-trials 9` changes it",
        "made has maxFailedTrialCount 3, not 4: `kubectl edit experiment made` changes it",
    ]


def test_a_cluster_without_katib_is_told_how_to_install_it(server: Loopback, engine: KatibEngine) -> None:
    server.katib = False
    with pytest.raises(NotFound, match=r"this cluster has no Katib .* install it: kubectl apply -k"):
        engine.submit(experiment())


def test_a_missing_namespace_is_told_how_to_make_it(server: Loopback, engine: KatibEngine) -> None:
    server.remove("namespaces", "", "gan")
    with pytest.raises(NotFound, match="kubectl create namespace gan && kubectl label namespace gan katib"):
        engine.submit(experiment())


def test_an_unlabelled_namespace_is_told_how_to_label_it(server: Loopback, engine: KatibEngine) -> None:
    server.objects["namespaces", "", "gan"]["metadata"]["labels"] = {}
    with pytest.raises(Denied, match=r"kubectl label namespace gan katib\S+=enabled"):
        engine.submit(experiment())
    assert server.count("POST") == 0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"algorithm": {"algorithmName": "hyperband"}}, "algorithm hyperband is not in this cluster's katib-config"),
        ({"earlyStopping": {"algorithmName": "asha"}}, "early stopping asha is not in .* which has medianstop"),
    ],
)
def test_an_algorithm_unknown_to_katib_config_is_refused(
    server: Loopback, engine: KatibEngine, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(Denied, match=words):
        engine.submit(experiment(**spec))
    assert server.count("POST") == 0


TOLERATED = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}
TAINTED = {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}


def _affine(operator: str, *values: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": "pool", "operator": operator, "values": list(values)}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("pod", "node", "words"),
    [
        ({}, {}, ""),
        ({"nodeSelector": {"pool": "gpu"}}, {}, ""),
        ({"nodeSelector": {"pool": "a100"}}, {}, "none of the 1 nodes takes the trial's pods (nodeSelector pool=a100)"),
        ({}, TAINTED, "none of the 1 nodes takes the trial's pods: check"),
        (TOLERATED, TAINTED, ""),
        ({}, {"unschedulable": True}, "none of the 1 nodes"),
        (_affine("In", "gpu", "tpu"), {}, ""),
        (_affine("NotIn", "gpu"), {}, "none of the 1 nodes"),
        (_affine("Exists"), {}, ""),
        (_affine("DoesNotExist"), {}, "none of the 1 nodes"),
    ],
)
def test_no_node_that_takes_the_pods_is_a_warning(
    server: Loopback, engine: KatibEngine, notes: list[str], pod: dict[str, Any], node: dict[str, Any], words: str
) -> None:
    server.remove("nodes", "", "lab")
    server.put("nodes", gpu_node("one", 8, **node))
    engine.submit(on_gpus(1, **pod))
    assert words in "".join(notes)
    assert bool(notes) is bool(words)
    assert server.count("POST") == 1


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (2, ""),
        (3, "3 parallel trials ask for 9 nvidia.com/gpu, the nodes that fit have 8: set parallelTrialCount to 2"),
        (5, "a trial asks for 5 nvidia.com/gpu, no node that fits has more than 4: it waits"),
    ],
)
def test_more_gpus_than_there_are_is_a_warning(
    server: Loopback, engine: KatibEngine, notes: list[str], each: int, words: str
) -> None:
    server.put("nodes", gpu_node("one", 4))
    server.put("nodes", gpu_node("two", 4))
    engine.submit(on_gpus(each))
    assert words in "".join(notes)
    assert bool(notes) is bool(words)


def test_what_may_not_be_read_is_not_checked(server: Loopback, engine: KatibEngine) -> None:
    for path in ("/namespaces/gan", "katib-config", "/nodes"):
        server.answer("GET", path, 403, RESPONSES["forbidden-list-403"]["body"])
    server.scripted[0] = ("GET", "/api/v1/namespaces/gan", 403, RESPONSES["forbidden-list-403"]["body"])
    assert engine.submit(experiment()) == "made"


def test_collect_has_every_trial_with_numbers(server: Loopback, engine: KatibEngine, notes: list[str]) -> None:
    server.replay("random-ok")
    result = engine.collect("random-ok")
    assert result.state is StudyState.SUCCEEDED
    assert [trial.number for trial in result.trials] == list(range(6))
    assert all(isinstance(t.parameters["lr"], float) and isinstance(t.parameters["bs"], int) for t in result.trials)
    assert result.best is not None
    assert result.best.metrics == {"fd": 10.1749, "loss": 1.1}
    assert engine.store.result("random-ok") == result
    assert not any("Katib names" in note for note in notes)


def test_a_best_trial_that_the_store_alone_knows_is_not_laid_to_nan(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    engine.collect("random-ok")
    server.remove("trials", "gan", "random-ok-k62kz9k8")

    def counted_again(item: dict[str, Any]) -> None:
        item["status"]["succeededTrialList"].remove("random-ok-k62kz9k8")
        item["status"]["currentOptimalTrial"]["bestTrialName"] = "random-ok-gnjswkjt"

    change(server, "experiments", "random-ok", counted_again)
    notes.clear()
    best = engine.collect("random-ok").best
    assert best is not None
    assert best.name == "random-ok-k62kz9k8"
    assert [note for note in notes if "Katib names" in note] == [
        "Katib names random-ok-gnjswkjt the best trial; by the trials' own values it is random-ok-k62kz9k8 "
        "(fd=10.1749), which Katib's status does not list"
    ]


def test_another_best_without_a_known_cause_is_told_bare(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    change(
        server,
        "experiments",
        "random-ok",
        lambda item: item["status"]["currentOptimalTrial"].update(bestTrialName="random-ok-gnjswkjt"),
    )
    engine.collect("random-ok")
    assert [note for note in notes if note.endswith("it is random-ok-k62kz9k8 (fd=10.1749)")]


@pytest.mark.parametrize(
    ("values", "state", "metrics"),
    [
        ({"latest": "", "min": "unavailable", "max": "unavailable"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"min": "unavailable", "max": "unavailable"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "nan", "min": "nan", "max": "nan"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "-inf", "min": "1", "max": "1"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "1e999", "min": "1", "max": "1"}, TrialState.METRICS_UNAVAILABLE, {}),
        ({"latest": "3.5e-1", "min": "nan", "max": "nan"}, TrialState.SUCCEEDED, {"fd": 0.35}),
    ],
)
def test_values_that_are_no_numbers_never_count(
    server: Loopback, engine: KatibEngine, values: dict[str, str], state: TrialState, metrics: dict[str, float]
) -> None:
    for plural, item in many(3):
        if item["metadata"]["name"].endswith("2"):
            item["status"]["observation"]["metrics"] = [{"name": "fd"} | values]
        server.put(plural, item)
    result = engine.collect("big")
    assert (result.trials[2].state, result.trials[2].metrics) == (state, metrics)
    assert result.best is not None
    assert (result.best.number == 2) is bool(metrics)


def test_an_early_stopped_trial_is_one_though_it_still_says_running(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(2):
        if plural == "trials":
            done = item["status"]["conditions"]
            done[1]["status"], done[2] = "True", done[2] | {"type": "EarlyStopped", "reason": "TrialEarlyStopped"}
            item["status"].pop("completionTime")
        server.put(plural, item)
    assert {trial.state for trial in engine.collect("big").trials} == {TrialState.EARLY_STOPPED}


@pytest.fixture
def db_manager() -> Iterator[str]:
    """A real gRPC server with the recorded answers."""
    import grpc
    from kubeflow.katib import katib_api_pb2 as pb
    from kubeflow.katib import katib_api_pb2_grpc as rpc

    recorded = json.loads((RECORDINGS / "observation_log.json").read_text())

    class Answers(rpc.DBManagerServicer):
        def GetObservationLog(self, request: Any, context: Any) -> Any:  # noqa: N802
            shape = recorded.get(f"{request.trial_name}|{request.metric_name}", recorded["nosuch|fd"])
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
    engine.collect("bayes-ok")
    curve = [seen for trial, seen in curves.read(engine.store.folder("bayes-ok")) if trial == "bayes-ok-6mtkqbkk"]
    assert [seen.value for seen in curve if seen.metric == "fd"] == [67.827, 66.827, 65.827]
    assert all(seen.time is not None and seen.time.microsecond == 250000 for seen in curve)
    engine.collect("bayes-ok")
    assert len(list(curves.read(engine.store.folder("bayes-ok")))) == 6


def test_a_trial_unknown_to_the_db_manager_has_no_curve(
    kubeconfig: Path, db_manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DbManager.open(Cluster.connect(), address=db_manager) as database:
        assert database.observations("nosuch") == []


def test_from_outside_the_db_manager_is_reached_by_port_forward(
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


def test_without_a_db_manager_the_port_forward_says_so(server: Loopback, kubeconfig: Path) -> None:
    with pytest.raises(NotFound, match="no running pod of Katib's DB manager"), DbManager.open(Cluster.connect()):
        pass


def test_curves_come_from_the_logs_where_the_db_manager_is_out_of_reach(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    engine.collect("random-ok")
    curve = [seen for trial, seen in curves.read(engine.store.folder("random-ok")) if trial == "random-ok-2p7hm8wp"]
    assert [seen.value for seen in curve if seen.metric == "fd"] == [12.5093, 11.5093, 10.5093]
    assert all("could not be read: Katib's DB manager does not answer" in note for note in notes)


def test_logs_come_from_the_container_that_has_them(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    assert list(engine.logs("random-ok", "random-ok-2p7hm8wp")) == ["step 1", "step 2", "step 3"]
    item = server.objects["experiments", "gan", "random-ok"]
    item["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "StdOut"}}
    lines = list(engine.logs("random-ok", "2p7hm8wp"))
    assert "2026-11-22T10:00:01.250000Z epoch=1 loss=1.7000 fd=12.5093" in lines


def test_the_log_comes_from_the_youngest_pod_that_has_the_container(server: Loopback, engine: KatibEngine) -> None:
    """A Job that tried again has two; a pod that waits for a node has no container yet."""
    server.replay("random-ok")
    first = server.objects[next(key for key in server.objects if key[0] == "pods" and "2p7hm8wp" in key[2])]
    for name, created, containers in (("second", "20:00:00", ["trainer"]), ("helper", "21:00:00", ["other"])):
        pod = copy.deepcopy(first)
        pod["metadata"] |= {"name": name, "uid": name, "creationTimestamp": f"2026-11-22T{created}Z"}
        pod["status"]["containerStatuses"] = [{"name": one, "state": {"running": {}}} for one in containers]
        server.put("pods", pod)
    server.logs["second/trainer"] = "2026-11-22T20:00:01Z once more\n"
    assert list(engine.logs("random-ok", "2p7hm8wp")) == ["once more"]


def test_the_best_trials_log_is_found_and_followed(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    for pod in changes("random-ok")[1]:
        server.logs.setdefault(pod, "")
    best = next(key[2] for key in server.objects if key[0] == "pods" and key[2].startswith("random-ok-k62kz9k8"))
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


def test_nothing_is_deleted_when_the_results_cannot_be_kept(
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
    assert engine.names() == [("failing", StudyState.FAILED), ("random-ok", StudyState.SUCCEEDED)]
