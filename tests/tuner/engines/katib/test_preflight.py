"""What is looked at before a create, on clusters and manifests that are odd but valid; and the spec's defaults."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.check.test_mutated import PATHS as MANIFEST_PATHS
from tests.tuner.loopback import RESPONSES, Loopback
from tuner.engines.katib import KatibEngine, preflight, spec
from tuner.errors import ManifestError
from tuner.katib import yamlfile
from tuner.kube import Cluster, quantity
from tuner.manifest import choose, from_document
from tuner.store.studies import Store

BODY: dict[str, Any] = RESPONSES["create-201"]["request"]["body"]
NODE: dict[str, Any] = RESPONSES["nodes"]["body"]["items"][0]
CLEAN: dict[str, Any] = yamlfile.parse(
    (Path(__file__).parents[2] / "data" / "clean.yaml").read_bytes(), "c"
)[0].value


def gpus(amount: Any) -> dict[str, Any]:
    node = copy.deepcopy(NODE)
    node["status"]["allocatable"]["nvidia.com/gpu"] = amount
    return node


def asking(amount: Any, parallel: int = 3) -> Any:
    body = copy.deepcopy(BODY)
    body["spec"]["parallelTrialCount"] = parallel
    pod = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": amount}}
    return from_document(body)


@pytest.mark.parametrize(
    ("amount", "number"),
    [
        ("2", 2), (2, 2), ("65k", 65_000), ("1Ki", 1024), ("2e3", 2000), ("500m", 0), ("1500m", 1),
        ("", 0), ("many", 0), ("nan", 0), ("-1", 0), ("10E", 2**63 - 1), ("1e99999", 2**63 - 1), (None, 0), ([], 0),
    ],
)  # fmt: skip
def test_quantities_are_kubernetes(amount: object, number: int) -> None:
    assert int(quantity(amount)) == number


@pytest.mark.parametrize(
    ("have", "each", "warned"), [("65k", "1", False), ("2", "1", True), ("3000m", 1, False)]
)
def test_room_reads_every_form_of_a_count(have: str, each: Any, warned: bool) -> None:
    found = list(preflight.room([gpus(have)], asking(each)))
    assert bool(found) is warned
    if warned:
        assert found == [
            "3 parallel trials ask for 3 nvidia.com/gpu, the nodes that fit have 2: set parallelTrialCount to 2, or "
            "trials wait while Katib says Running"
        ]


def test_submit_is_five_requests_for_any_nodes(
    server: Loopback, kubeconfig: Path, tmp_path: Path
) -> None:
    for index in range(600):
        node = copy.deepcopy(NODE)
        node["metadata"]["name"] = f"node-{index}"
        server.put("nodes", node)
    KatibEngine(Cluster.connect(), Store(tmp_path / "store")).submit(
        from_document(copy.deepcopy(BODY))
    )
    assert len(server.requests) == 5


@pytest.mark.parametrize("value", [None, {}, [], ""], ids=["null", "map", "list", "text"])
def test_what_check_passes_is_never_a_traceback(value: Any) -> None:
    """A key left empty anywhere: either it is refused as `check` does, or a submit and a join can read it."""
    passed = 0
    for path in (path for path in MANIFEST_PATHS if path[0] == "spec"):
        document = copy.deepcopy(CLEAN)
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        data = json.dumps(document).encode()
        try:
            experiment = choose(yamlfile.parse(data, "m.yaml"), "m.yaml")
        except ManifestError:
            continue
        spec.difference(CLEAN["spec"], experiment.document["spec"])
        spec.difference(experiment.document["spec"], CLEAN["spec"])
        list(preflight.room([gpus("65k")], experiment))
        passed += 1
    assert passed


@pytest.mark.parametrize("key", ["metricsCollectorSpec", "parallelTrialCount", "resumePolicy"])
def test_an_empty_key_is_as_good_as_none(key: str) -> None:
    without = {name: value for name, value in CLEAN["spec"].items() if name != key}
    assert spec.difference(without, without | {key: None}) == []


def test_empty_strategies_are_as_good_as_none() -> None:
    empty, without = copy.deepcopy(CLEAN["spec"]), copy.deepcopy(CLEAN["spec"])
    empty["objective"]["metricStrategies"] = None
    without["objective"].pop("metricStrategies", None)
    assert spec.difference(without, empty) == []
