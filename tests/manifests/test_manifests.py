"""manifests/: each file alone is enough, portable, accepted by the trainer, and safe to run in a shared cluster."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import rendering as k8s
from trainer.config import Config


def container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


def test_all_searches_exist() -> None:
    assert k8s.SEARCHES == ["bayes", "grid", "loss", "multivariate-tpe", "random", "tpe", "wide"]


def test_check_warns_only_about_loss() -> None:
    files = [k8s.MANIFESTS / f"{name}.yaml" for name in k8s.SEARCHES if name != "loss"]
    assert k8s.check(*files).strip().endswith("no problems")
    loss = k8s.check(k8s.MANIFESTS / "loss.yaml")
    assert "[gan-loss]" in loss
    assert loss.strip().endswith("1 warning")


@pytest.mark.parametrize("name", k8s.SEARCHES)
def test_each_file_is_complete(name: str) -> None:
    namespace, experiment = k8s.documents(k8s.search(name))
    assert (
        namespace["metadata"]["labels"]["katib.kubeflow.org/metrics-collector-injection"]
        == "enabled"
    )
    assert experiment["metadata"]["namespace"] == namespace["metadata"]["name"]
    spec = experiment["spec"]
    assert {
        "parallelTrialCount",
        "maxTrialCount",
        "maxFailedTrialCount",
        "resumePolicy",
    } <= spec.keys()
    metrics = [
        spec["objective"]["objectiveMetricName"],
        *spec["objective"]["additionalMetricNames"],
    ]
    assert [strategy["name"] for strategy in spec["objective"]["metricStrategies"]] == metrics


@pytest.mark.parametrize("name", k8s.SEARCHES)
def test_trainer_accepts_all_value_pairs(name: str) -> None:
    experiment = k8s.experiment(k8s.search(name))
    args = container(k8s.trial(experiment))["args"]
    spaces = {p["name"]: p["feasibleSpace"] for p in experiment["spec"]["parameters"]}
    values = {p: space.get("list") or [space["min"], space["max"]] for p, space in spaces.items()}
    rest = {p: choices[0] for p, choices in values.items()} | {"trial": "gan-x-abcdefgh"}
    for first, second in itertools.combinations(values, 2):
        for pair in itertools.product(values[first], values[second]):
            chosen = rest | dict(zip((first, second), pair, strict=True))
            argv = [replace(arg, chosen) for arg in args]
            assert not any("$" in arg for arg in argv)
            Config.parse(argv)


@pytest.mark.parametrize("name", k8s.SEARCHES)
def test_first_trial_is_the_preset(name: str) -> None:
    experiment = k8s.experiment(k8s.search(name))
    [point] = json.loads(experiment["metadata"]["annotations"]["gan-tuner/first-trials"])
    args = container(k8s.trial(experiment))["args"]
    first = Config.parse([replace(arg, point | {"trial": "gan-x-abcdefgh"}) for arg in args])
    own = [arg for arg in args if "trialParameters" not in arg]
    # the grid is the article's, without 2e-3
    preset = ["--preset=article"] if name in ("grid", "loss") else []
    default = Config.parse([*own, *preset, f"--output-dir={first.output_dir}"])
    searched = [re.sub(r"([A-Z])", r"_\1", parameter).lower() for parameter in point]
    assert [getattr(first, field) for field in searched] == [
        getattr(default, field) for field in searched
    ]


def replace(arg: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        arg = arg.replace("${trialParameters.%s}" % name, value)  # noqa: UP031 - braces
    return arg


def test_searches_share_one_trial_template() -> None:
    def without_args(name: str) -> dict[str, Any]:
        job = k8s.trial(k8s.experiment(k8s.search(name)))
        del container(job)["args"], job["metadata"]
        return job

    for name in k8s.SEARCHES:
        assert without_args(name) == without_args("bayes"), name


def test_trial_meets_restricted_pod_security() -> None:
    job = k8s.trial(k8s.experiment(k8s.search("bayes")))
    pod, trainer = job["spec"]["template"]["spec"], container(job)
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    security = trainer["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert trainer["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert not trainer["image"].endswith(":latest")
    # Katib mounts that one
    written = {mount["mountPath"] for mount in trainer["volumeMounts"]} | {"/var/log/katib"}
    paths = [arg.split("=")[1] for arg in trainer["args"] if "=/" in arg]
    assert paths
    assert all(any(path.startswith(mount) for mount in written) for path in paths)


def test_cited_docs_exist() -> None:
    cited = {
        name
        for file in k8s.MANIFESTS.rglob("*.yaml")
        for name in re.findall(r"docs/[\w-]+\.md", file.read_text())
    }
    assert cited
    assert [name for name in cited if not (k8s.ROOT / name).is_file()] == []


def test_searches_are_links_to_base() -> None:
    for name in k8s.SEARCHES:
        link = k8s.MANIFESTS / f"{name}.yaml"
        assert link.is_symlink(), f"ln -sf base/{name}.yaml manifests/{name}.yaml"
        assert link.readlink() == Path("base", f"{name}.yaml")


@pytest.mark.parametrize("version", k8s.VERSIONS)
def test_searches_and_trials_are_valid(version: str, tmp_path: Path) -> None:
    objects = [document for name in k8s.SEARCHES for document in k8s.documents(k8s.search(name))]
    trials = [k8s.trial(document) for document in objects if document["kind"] == "Experiment"]
    k8s.kubeconform(objects + trials, version, tmp_path)


def test_validation_finds_misspelt_keys(tmp_path: Path) -> None:
    job = k8s.trial(k8s.experiment(k8s.search("bayes")))
    job["spec"]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(AssertionError, match="nodeSelektor"):
        k8s.kubeconform([job], "1.36", tmp_path)
    experiment = k8s.experiment(k8s.search("bayes"))
    experiment["spec"]["objective"]["gaol"] = 1
    with pytest.raises(AssertionError, match="gaol"):
        k8s.kubeconform([experiment], "1.36", tmp_path)
