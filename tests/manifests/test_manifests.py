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
from trainer.data import IMAGES_FILE, prepared_dir


def container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


def test_all_searches_exist() -> None:
    assert k8s.SEARCHES == ["bayes", "grid", "multivariate-tpe", "random", "tpe", "wide"]
    assert [f"article/{name}" for name in ("bayes", "grid", "random", "tpe")] == k8s.ARTICLE


def test_check_finds_no_problems() -> None:
    files = [k8s.MANIFESTS / f"{name}.yaml" for name in k8s.SEARCHES]
    assert k8s.check(*files).strip().endswith("no problems")


def test_check_finds_no_problems_in_images() -> None:
    found = k8s.check(k8s.MANIFESTS / f"{k8s.IMAGES}.yaml")
    assert set(re.findall(r" \[([\w-]+)\]$", found, re.MULTILINE)) <= {"missing-file"}
    assert found.endswith(("1 warning", "no problems"))


def test_check_warns_about_loss() -> None:
    found = k8s.check(*(k8s.MANIFESTS / f"{name}.yaml" for name in k8s.ARTICLE))
    assert found.count("[gan-loss]") == len(k8s.ARTICLE)
    rules = set(re.findall(r" \[([\w-]+)\]$", found, re.MULTILINE))
    assert rules <= {"gan-loss", "missing-file"}  # the latter without data/mnist


@pytest.mark.parametrize("name", [*k8s.ARTICLE, k8s.IMAGES])
def test_manifest_names_the_file_that_trials_read(name: str) -> None:
    annotations = k8s.experiment(k8s.search(name))["metadata"]["annotations"]
    [(path, command)] = json.loads(annotations["gan-tuner/required-files"]).items()
    config = Config.parse([flag for flag in flags(name) if "${" not in flag])
    assert Path(path) == prepared_dir(config.dataset, config.data_dir) / IMAGES_FILE
    assert command.endswith(f"--dataset {config.dataset} --data-dir {config.data_dir}")


@pytest.mark.parametrize("name", [*k8s.SEARCHES, *k8s.ARTICLE, k8s.IMAGES])
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


@pytest.mark.parametrize("name", [*k8s.SEARCHES, *k8s.ARTICLE, k8s.IMAGES])
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


@pytest.mark.parametrize("name", [*k8s.SEARCHES, k8s.IMAGES])
def test_first_trial_is_the_preset(name: str) -> None:
    experiment = k8s.experiment(k8s.search(name))
    [point] = json.loads(experiment["metadata"]["annotations"]["gan-tuner/first-trials"])
    args = container(k8s.trial(experiment))["args"]
    first = Config.parse([replace(arg, point | {"trial": "gan-x-abcdefgh"}) for arg in args])
    own = [arg for arg in args if "trialParameters" not in arg]
    # the grid is the article's, without 2e-3
    preset = ["--preset=article"] if name == "grid" else []
    default = Config.parse([*own, *preset, f"--output-dir={first.output_dir}"])
    searched = [re.sub(r"([A-Z])", r"_\1", parameter).lower() for parameter in point]
    assert [getattr(first, field) for field in searched] == [
        getattr(default, field) for field in searched
    ]


def replace(arg: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        arg = arg.replace("${trialParameters.%s}" % name, value)  # noqa: UP031 - braces
    return arg


def without_args(name: str) -> dict[str, Any]:
    job = k8s.trial(k8s.experiment(k8s.search(name)))
    del container(job)["args"], job["metadata"]
    return job


def test_searches_share_one_trial_template() -> None:
    for name in k8s.SEARCHES:
        assert without_args(name) == without_args("bayes"), name


def flags(name: str) -> list[str]:
    return list(container(k8s.trial(k8s.experiment(k8s.search(name))))["args"])


@pytest.mark.parametrize("name", k8s.ARTICLE)
def test_article_is_searched_as_written(name: str) -> None:
    spec = k8s.experiment(k8s.search(name))["spec"]
    config = Config.parse([flag for flag in flags(name) if "${" not in flag])
    assert (config.preset, config.dataset, config.model) == ("article", "mnist", "mlp")
    assert (config.loss, config.optimizer) == ("ns", "adam")
    assert (config.beta1, config.beta2, config.weight_decay) == (0.9, 0.999, 0.0)
    assert (config.r1_gamma, config.r2_gamma, config.ema_decay) == (0.0, 0.0, 0.0)
    objective = spec["objective"]
    assert (objective["type"], objective["objectiveMetricName"]) == ("minimize", "loss")
    assert objective["additionalMetricNames"][0] == "fd"
    spaces = {p["name"]: p["feasibleSpace"] for p in spec["parameters"]}
    if name == "article/grid":
        lists = {"lr": ["1e-3", "5e-4", "1e-4"], "bs": ["32", "64", "128"]}
        assert {p: space["list"] for p, space in spaces.items()} == lists
        assert spec["maxTrialCount"] == 9
    else:
        assert spaces == {
            "lr": {"min": "1e-5", "max": "1e-2", "distribution": "logUniform"},
            "bs": {"min": "32", "max": "128", "distribution": "uniform"},
        }
        assert spec["maxTrialCount"] == 20


def test_article_trials_read_the_prepared_volume() -> None:
    _, claim, job = k8s.documents((k8s.MANIFESTS / "data" / "mnist.yaml").read_text())
    prepare = container(job)
    assert prepare["command"] == ["python", "-m", "trainer.prepare"]
    for name in k8s.ARTICLE:
        template = k8s.trial(k8s.experiment(k8s.search(name)))
        trainer, pod = container(template), template["spec"]["template"]["spec"]
        assert prepare["image"] == trainer["image"]
        assert set(prepare["args"]) <= set(trainer["args"])  # the same data set and directory
        [mount] = [m for m in trainer["volumeMounts"] if m["name"] == "data"]
        assert mount == {"name": "data", "mountPath": "/app/data", "readOnly": True}
        assert {"name": "data", "mountPath": "/app/data"} in prepare["volumeMounts"]
        [volume] = [v for v in pod["volumes"] if v["name"] == "data"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        del trainer["args"], template["metadata"]
        trainer["volumeMounts"].remove(mount)
        pod["volumes"].remove(volume)
        assert template == without_args("bayes"), name  # otherwise the shared template


def test_image_runs_where_the_volume_is_mounted() -> None:
    assert "WORKDIR /app\n" in (k8s.ROOT / "Dockerfile").read_text().rpartition("AS trainer")[2]


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
        for name in re.findall(r"docs/[\w/-]+\.md", file.read_text())
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
    texts = [k8s.search(name) for name in (*k8s.SEARCHES, *k8s.ARTICLE, k8s.IMAGES, "data/mnist")]
    objects = [document for text in texts for document in k8s.documents(text)]
    trials = [k8s.trial(document) for document in objects if document["kind"] == "Experiment"]
    k8s.kubeconform(objects + trials, version, tmp_path)


def test_images_share_the_template_of_the_article() -> None:
    images, article = (without_args(name) for name in (k8s.IMAGES, "article/tpe"))
    spec = images["spec"]["template"]["spec"]
    [volume] = [v for v in spec["volumes"] if v["name"] == "data"]
    assert volume["persistentVolumeClaim"]["claimName"] == "photos"
    volume["persistentVolumeClaim"]["claimName"] = "mnist"
    assert images["spec"].pop("activeDeadlineSeconds") > article["spec"].pop(
        "activeDeadlineSeconds"
    )
    assert images == article


def test_validation_finds_misspelt_keys(tmp_path: Path) -> None:
    job = k8s.trial(k8s.experiment(k8s.search("bayes")))
    job["spec"]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(AssertionError, match="nodeSelektor"):
        k8s.kubeconform([job], "1.36", tmp_path)
    experiment = k8s.experiment(k8s.search("bayes"))
    experiment["spec"]["objective"]["gaol"] = 1
    with pytest.raises(AssertionError, match="gaol"):
        k8s.kubeconform([experiment], "1.36", tmp_path)
