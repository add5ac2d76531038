"""`check` against Katib's real webhooks: what they refused on a live cluster, and what they let pass and then failed on.

data/webhook.json holds recorded requests and answers; the lists are the ones of server-side dry
runs on that cluster.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner import manifest
from tuner.check import Severity, check_data

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "webhook.json").read_text())
ACCEPTED = next(case for case in RECORDED if case["case"] == "create-201")
CLUSTER_ONLY = "create-namespace-unlabelled"  # depends on the namespace, which a file does not show

Edit = Callable[[dict[str, Any]], Any]


def errors(experiment: dict[str, Any]) -> list[str]:
    problems = check_data(json.dumps(experiment, indent=1).encode(), "m.json")
    return [str(problem) for problem in problems if problem.severity is Severity.ERROR]


def after(edit: Edit) -> dict[str, Any]:
    experiment = copy.deepcopy(ACCEPTED["experiment"])
    edit(experiment)
    return experiment


def pod(experiment: dict[str, Any]) -> dict[str, Any]:
    return experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]


def space(experiment: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return experiment["spec"]["parameters"][index]["feasibleSpace"]


def put(where: Callable[[dict[str, Any]], dict[str, Any]], **values: Any) -> Edit:
    return lambda experiment: where(experiment).update(values)


def spec(experiment: dict[str, Any]) -> dict[str, Any]:
    return experiment["spec"]


def template(experiment: dict[str, Any]) -> dict[str, Any]:
    return experiment["spec"]["trialTemplate"]


def listed(*values: str) -> Edit:
    return lambda e: e["spec"]["parameters"][1].update(
        parameterType="categorical", feasibleSpace={"list": list(values)}
    )


def setting(name: str, value: Any, of: str = "algorithm", algorithm: str = "random") -> Edit:
    return put(
        spec,
        **{of: {"algorithmName": algorithm, "algorithmSettings": [{"name": name, "value": value}]}},
    )


@pytest.mark.parametrize(
    "case", [c for c in RECORDED if c["case"] != CLUSTER_ONLY], ids=lambda case: case["case"]
)
def test_recorded_requests_get_the_cluster_verdict(case: dict[str, Any]) -> None:
    assert bool(errors(case["experiment"])) == (case["status"] >= 400), (
        case["message"],
        errors(case["experiment"]),
    )


def test_defaulting_is_that_of_the_webhook() -> None:
    ours = manifest.from_document(ACCEPTED["experiment"])
    theirs = manifest.from_document({**ACCEPTED["experiment"], "spec": ACCEPTED["defaulted"]})
    for field in (
        "objective",
        "strategies",
        "parameters",
        "collector",
        "parallel_trials",
        "resume_policy",
        "algorithm",
    ):
        assert getattr(ours, field) == getattr(theirs, field)
    bare = copy.deepcopy(ACCEPTED["experiment"])
    for key in ("parallelTrialCount", "resumePolicy", "metricsCollectorSpec"):
        del bare["spec"][key]
    del bare["spec"]["objective"]["metricStrategies"]
    defaulted = manifest.from_document(bare)
    assert (defaulted.parallel_trials, defaulted.resume_policy, defaulted.collector.kind) == (
        3,
        "Never",
        "StdOut",
    )
    assert defaulted.strategies == {"fd": "min", "loss": "min"}


LET_PASS: dict[str, Edit] = {
    "min above max": put(space, min="0.1"),
    "min: abc": put(space, min="abc"),
    "int with fractions": lambda e: space(e, 1).update(max="128.5"),
    "int step 0": lambda e: space(e, 1).update(step="0"),
    "logUniform from 0": put(space, min="0"),
    "empty list": listed(),
    "repeated category": listed("a", "a"),
    "any algorithm setting": setting("nosuch", "1"),
    "any early-stopping setting": setting("nosuch", "1", "earlyStopping", "medianstop"),
    "unknown metricStrategies value": put(
        lambda e: e["spec"]["objective"]["metricStrategies"][0], value="mean"
    ),
    "unknown key in spec": put(spec, maxTrials=3),
    "unknown key in feasibleSpace": put(space, minimum="1"),
    "primary container not in the pod": put(template, primaryContainerName="other"),
    "filter that does not compile": put(
        spec,
        metricsCollectorSpec={
            "collector": {"kind": "StdOut"},
            "source": {"filter": {"metricsFormat": ["(("]}},
        },
    ),
    "filter without two groups": put(
        spec,
        metricsCollectorSpec={
            "collector": {"kind": "StdOut"},
            "source": {"filter": {"metricsFormat": ["(a)"]}},
        },
    ),
    "name with a dot": put(lambda e: e["metadata"], name="a.b"),
}


@pytest.mark.parametrize("edit", LET_PASS.values(), ids=list(LET_PASS))
def test_check_is_stricter_than_webhook(edit: Edit) -> None:
    assert errors(after(edit))


def test_a_parameter_that_nothing_references_is_an_error() -> None:
    experiment = after(lambda e: template(e)["trialParameters"].pop())
    pod(experiment)["containers"][0]["args"] = ["train ${trialParameters.lr}"]
    assert any("[parameter-unused]" in line for line in errors(experiment))


HARMLESS: dict[str, Edit] = {
    "a File collector without a path": put(
        spec, metricsCollectorSpec={"collector": {"kind": "File"}}
    ),
    "maxTrialCount absent": lambda e: e["spec"].pop("maxTrialCount"),
    "generateName": put(lambda e: e, metadata={"generateName": "made-"}),
    "GPU resources": lambda e: pod(e)["containers"][0].update(
        resources={"limits": {"nvidia.com/gpu": 1, "cpu": "500m"}}
    ),
    "null fields": put(spec, earlyStopping=None, nasConfig=None),
    "a TrainJob, whose fields the webhook does not know": put(
        template,
        trialSpec={
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "spec": {"anything": "${trialParameters.lr} ${trialParameters.bs}"},
        },
    ),
}


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=list(HARMLESS))
def test_what_katib_takes_and_runs_is_no_error(edit: Edit) -> None:
    assert errors(after(edit)) == []


def with_type(kind: str, **feasible: Any) -> Edit:
    return lambda e: e["spec"]["parameters"][0].update(parameterType=kind, feasibleSpace=feasible)


REFUSED: dict[str, Edit] = {
    "number for a bound": put(space, min=0.1),
    "number in a list": listed(1, 2),  # type: ignore[arg-type]
    "number for a setting": setting("random_state", 1),
    "text for the goal": put(lambda e: e["spec"]["objective"], goal="0.1"),
    "text for a count": put(spec, maxTrialCount="3"),
    "fraction for a count": put(spec, maxTrialCount=3.5),
    "count beyond int32": put(spec, maxTrialCount=2**31),
    "text for retain": put(template, retain="yes"),
    "parallelTrialCount left out, maxTrialCount 2": lambda e: (
        e["spec"].pop("parallelTrialCount"),
        spec(e).update(maxTrialCount=2),
    ),
    "misspelt field of the Job": lambda e: template(e)["trialSpec"]["spec"].update(backofflimit=0),
    "misspelt field of a container": lambda e: pod(e)["containers"][0].update(comand=["x"]),
    "number in env": lambda e: pod(e)["containers"][0].update(env=[{"name": "A", "value": 1}]),
    "metadata.name in the trialSpec": lambda e: template(e)["trialSpec"].update(
        metadata={"name": "x"}
    ),
    "collector None": put(spec, metricsCollectorSpec={"collector": {"kind": "None"}}),
    "collector PrometheusMetric": put(
        spec, metricsCollectorSpec={"collector": {"kind": "PrometheusMetric"}}
    ),
    "maxFailedTrialCount above maxTrialCount": put(spec, maxFailedTrialCount=4),
    "no objective": lambda e: e["spec"].pop("objective"),
    "objective among the additional metrics": put(
        lambda e: e["spec"]["objective"], additionalMetricNames=["fd"]
    ),
    "unknown algorithm": put(spec, algorithm={"algorithmName": "annealing"}),
    "unknown resumePolicy": put(spec, resumePolicy="Sometimes"),
    "list on a double": put(space, list=["1"]),
    "no max": lambda e: space(e).pop("max"),
    "min on a categorical": with_type("categorical", list=["a"], min="1"),
    "no parameters": lambda e: e["spec"].pop("parameters"),
    "no trialTemplate": lambda e: e["spec"].pop("trialTemplate"),
    "no primaryContainerName": lambda e: template(e).pop("primaryContainerName"),
    "trialSpec and configMap": put(
        template, configMap={"configMapName": "a", "configMapNamespace": "b", "templatePath": "c"}
    ),
    "no kind in trialSpec": lambda e: template(e)["trialSpec"].pop("kind"),
    "trialParameter without its placeholder": lambda e: pod(e)["containers"][0].update(
        args=["train ${trialParameters.lr}"]
    ),
    "placeholder without its trialParameter": lambda e: pod(e)["containers"][0]["args"].append(
        "${trialParameters.x}"
    ),
    "relative File path": lambda e: e["spec"]["metricsCollectorSpec"]["source"][
        "fileSystemPath"
    ].update(path="x.log"),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=list(REFUSED))
def test_what_the_webhooks_refuse_is_an_error_here(edit: Edit) -> None:
    found = errors(after(edit))
    assert found
    with pytest.raises(manifest.ManifestError):
        manifest.choose(
            manifest.yamlfile.parse(json.dumps(after(edit)).encode(), "m.json"), "m.json"
        )


# Answers of the webhook's own code (validatePatchJob's steps, compiled with k8s.io/api v0.34.0) to
# changes of one Job.
ROUND_TRIPS: list[tuple[Edit, bool]] = [
    (lambda e: pod(e).update(hostNetwork=False), False),
    (lambda e: pod(e).update(automountServiceAccountToken=False), True),
    (lambda e: pod(e).update(terminationGracePeriodSeconds=0), True),
    (lambda e: template(e)["trialSpec"]["spec"].update(suspend=False), True),
    (lambda e: template(e)["trialSpec"]["spec"]["template"].update(metadata={"labels": {}}), False),
    (lambda e: pod(e)["containers"][0].update(command=[]), False),
    (lambda e: pod(e)["containers"][0].update(env=[{"name": "x", "value": ""}]), False),
    (lambda e: pod(e)["containers"][0].update(resources={}), True),
    (
        lambda e: pod(e)["containers"][0].update(
            resources={"limits": {"cpu": 1, "memory": "1024Mi"}}
        ),
        True,
    ),
    (lambda e: pod(e)["containers"][0].update(resources={"limits": {}}), False),
    (lambda e: pod(e)["containers"][0].update(securityContext={}), True),
    (lambda e: pod(e)["containers"][0].update(workingDir=None), False),
    (
        lambda e: pod(e)["containers"][0].update(
            volumeMounts=[{"name": "a", "mountPath": "/x", "readOnly": False}]
        ),
        False,
    ),
    (lambda e: pod(e).update(volumes=[{"name": "a", "emptyDir": {}}]), True),
    (lambda e: pod(e).update(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1024Mi"}}]), False),
    (lambda e: pod(e).update(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1.5Gi"}}]), False),
    (
        lambda e: template(e)["trialSpec"]["spec"]["template"].update(
            metadata={"creationTimestamp": None}
        ),
        False,
    ),
    (lambda e: pod(e).update(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]), True),
    (lambda e: pod(e).update(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1500Mi"}}]), True),
]


@pytest.mark.parametrize(("edit", "taken"), ROUND_TRIPS)
def test_job_round_trip_matches_webhook(edit: Edit, taken: bool) -> None:
    assert (errors(after(edit)) == []) is taken
