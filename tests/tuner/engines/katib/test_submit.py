"""KatibEngine.submit: what it creates, joins, refuses and warns of."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.tuner.loopback import RECORDINGS, RESPONSES, Loopback
from tuner.engines.katib import KatibEngine, spec
from tuner.errors import Denied, GantuneError, NotFound, StudyChanged
from tuner.experiment.model import Experiment
from tuner.manifest import from_document

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


def test_submit_creates_with_at_most_five_requests(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
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


def test_namespace_prefers_option_then_manifest_then_context(
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
    with pytest.raises(GantuneError, match="pass -n NAMESPACE"):
        engine.submit(experiment())
    assert server.requests == []


def test_same_spec_is_joined_after_defaulting(server: Loopback, engine: KatibEngine) -> None:
    held = copy.deepcopy(RESPONSES["create-201"]["body"])  # as the real webhook completed it
    server.put("experiments", held)
    assert engine.submit(experiment()) == "made"
    assert server.count("POST") == 0


@pytest.mark.parametrize("scenario", sorted(p.stem for p in RECORDINGS.glob("*.jsonl")))
def test_what_a_cluster_holds_joins_itself(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    server.replay(scenario)
    held = server.objects["experiments", "gan", scenario]
    assert engine.submit(from_document(copy.deepcopy(held))) == scenario
    assert server.count("POST") == 0


def test_other_spec_of_same_name_shows_difference(server: Loopback, engine: KatibEngine) -> None:
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
    assert (
        spec.difference(
            {"trialTemplate": {}}, {"trialTemplate": {"retain": False, "configMap": None}}
        )
        == []
    )


def test_joined_search_that_was_stopped_says_so(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    what = from_document(copy.deepcopy(BODY))
    engine.submit(what)
    engine.stop("made")
    engine.submit(what)
    assert "made was stopped, so no more trials run: to go on, rename the Experiment" in notes[-1]


def test_another_budget_is_joined_and_extend_is_named(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.put("experiments", copy.deepcopy(RESPONSES["create-201"]["body"]))
    engine.submit(experiment(maxTrialCount=9, maxFailedTrialCount=4))
    assert notes == [
        "joined made, in namespace gan since 2026-11-22T19:19:13Z",
        "made has maxTrialCount 3, not 9: `gantune extend made --max-trials 9` changes it",
        "made has maxFailedTrialCount 3, not 4: `kubectl edit experiment made` changes it",
    ]


@pytest.mark.parametrize(
    ("asks", "fix"),
    [
        (2, "got 2"),
        (6, "maxTrialCount must exceed the 6 trials made so far, got 6"),
        (7, "`gantune extend made --max-trials 7` changes it"),
    ],
)
def test_extend_is_named_only_where_possible(
    server: Loopback, engine: KatibEngine, notes: list[str], asks: int, fix: str
) -> None:
    held = copy.deepcopy(RESPONSES["create-201"]["body"])
    server.put("experiments", held | {"status": {"trials": 6}})
    engine.submit(experiment(maxTrialCount=asks))
    assert notes[1].startswith(f"made has maxTrialCount 3, not {asks}: ")
    assert notes[1].endswith(fix)


def test_finished_search_names_no_extend(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("random-ok")
    held = copy.deepcopy(server.objects["experiments", "gan", "random-ok"])
    held["spec"] |= {"maxTrialCount": 50, "maxFailedTrialCount": 9}
    engine.submit(
        from_document({key: held[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    )
    trials, failures = notes[-2:]
    assert (
        "Katib restarts only what ended at its maxTrialCount with resumePolicy LongRunning"
        in trials
    )
    assert "gantune extend" not in trials
    assert failures.endswith("it has finished, so this has no effect")


def test_missing_katib_says_how_to_install_it(server: Loopback, engine: KatibEngine) -> None:
    server.katib = False
    with pytest.raises(
        NotFound, match=r"this cluster has no Katib .* install it: kubectl apply -k"
    ):
        engine.submit(experiment())


def test_missing_namespace_says_how_to_create(server: Loopback, engine: KatibEngine) -> None:
    server.remove("namespaces", "", "gan")
    with pytest.raises(
        NotFound, match="kubectl create namespace gan && kubectl label namespace gan katib"
    ):
        engine.submit(experiment())


def test_unlabelled_namespace_says_how_to_label(server: Loopback, engine: KatibEngine) -> None:
    server.objects["namespaces", "", "gan"]["metadata"]["labels"] = {}
    with pytest.raises(Denied, match=r"kubectl label namespace gan katib\S+=enabled"):
        engine.submit(experiment())
    assert server.count("POST") == 0


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"algorithm": {"algorithmName": "hyperband"}},
            "algorithm hyperband is not in this cluster's katib-config",
        ),
        (
            {"earlyStopping": {"algorithmName": "asha"}},
            "early stopping asha is not in .* which has medianstop",
        ),
    ],
)
def test_an_algorithm_unknown_to_katib_config_is_refused(
    server: Loopback, engine: KatibEngine, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(Denied, match=words):
        engine.submit(experiment(**spec))
    assert server.count("POST") == 0


TOLERATED = {
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
}
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
        (
            {"nodeSelector": {"pool": "a100"}},
            {},
            "none of the 1 nodes can run the trial's pods (nodeSelector pool=a100)",
        ),
        ({}, TAINTED, "none of the 1 nodes can run the trial's pods: check"),
        (TOLERATED, TAINTED, ""),
        ({}, {"unschedulable": True}, "none of the 1 nodes"),
        (_affine("In", "gpu", "tpu"), {}, ""),
        (_affine("NotIn", "gpu"), {}, "none of the 1 nodes"),
        (_affine("Exists"), {}, ""),
        (_affine("DoesNotExist"), {}, "none of the 1 nodes"),
    ],
)
def test_missing_node_for_pods_is_a_warning(
    server: Loopback,
    engine: KatibEngine,
    notes: list[str],
    pod: dict[str, Any],
    node: dict[str, Any],
    words: str,
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
        (
            3,
            "3 parallel trials ask for 9 nvidia.com/gpu, the nodes that fit have 8: set parallelTrialCount to 2",
        ),
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
    server.scripted[0] = (
        "GET",
        "/api/v1/namespaces/gan",
        403,
        RESPONSES["forbidden-list-403"]["body"],
    )
    assert engine.submit(experiment()) == "made"
