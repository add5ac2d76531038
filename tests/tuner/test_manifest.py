"""`manifest.load`: one file, one Experiment, defaulted; and the first error with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner import manifest
from tuner.errors import ManifestError
from tuner.experiment.model import AlgorithmSpec, Collector, CollectorKind, FileFormat, Strategy
from tuner.result import Goal, Objective
from tuner.space import Categorical, Discrete, Distribution, Double, Int

CLEAN = Path(__file__).parent / "data" / "clean.yaml"
TEXT = CLEAN.read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return path


def test_everything_of_the_manifest_is_there() -> None:
    experiment = manifest.load(CLEAN)
    assert (experiment.name, experiment.namespace, experiment.file) == (
        "gan-bayes",
        "gan-tuner",
        str(CLEAN),
    )
    assert experiment.objective == Objective("fd", Goal.MINIMIZE)
    assert experiment.additional_metrics == (
        "precision",
        "recall",
        "generator_loss",
        "discriminator_loss",
    )
    assert set(experiment.strategies.values()) == {Strategy.LATEST}
    assert experiment.algorithm == AlgorithmSpec(
        "bayesianoptimization", {"random_state": "1", "n_initial_points": "5"}
    )
    assert experiment.parameters == (
        Double("lr", 1e-5, 1e-2, distribution=Distribution.LOG_UNIFORM),
        Int("bs", 32, 128),
    )
    assert experiment.collector == Collector(
        CollectorKind.FILE, "/var/log/katib/metrics.log", FileFormat.TEXT
    )
    assert experiment.template.references == {"lr": "lr", "bs": "bs"}
    assert experiment.template.primary_container == "trainer"
    assert experiment.template.retain
    assert (experiment.parallel_trials, experiment.max_trials, experiment.max_failed_trials) == (
        2,
        20,
        5,
    )
    assert experiment.document["spec"]["maxTrialCount"] == 20


def test_json_reads_as_yaml_does(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest.load(CLEAN).document))
    assert manifest.load(path).parameters == manifest.load(CLEAN).parameters


def test_lists_goal_step_and_default_collector(tmp_path: Path) -> None:
    text = TEXT.replace("bayesianoptimization", "random").replace(
        '      - {name: n_initial_points, value: "5"}\n', ""
    )
    text = text.replace("    type: minimize", "    type: maximize\n    goal: 0.5")
    text = text.replace("parameterType: double", "parameterType: discrete")
    text = text.replace(
        '        min: "1e-5"\n        max: "1e-2"\n        distribution: logUniform\n',
        "        list: ['1e-4', '1e-3']\n",
    )
    text = text.replace('        max: "128"\n', '        max: "128"\n        step: "32"\n')
    start, end = text.index("  metricsCollectorSpec"), text.index("  trialTemplate")
    experiment = manifest.load(written(tmp_path, text[:start] + text[end:]))
    assert experiment.objective == Objective("fd", Goal.MAXIMIZE, 0.5)
    assert experiment.parameters == (Discrete("lr", ("1e-4", "1e-3")), Int("bs", 32, 128, 32))
    assert experiment.collector == Collector(CollectorKind.STDOUT)


def test_categorical_values_are_read() -> None:
    document = json.loads(json.dumps(manifest.load(CLEAN).document))
    document["spec"]["parameters"][0] = {
        "name": "lr",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["a", "1"]},
    }
    assert manifest.from_document(document).parameters[0] == Categorical("lr", ("a", "1"))


def test_the_first_error_is_raised_with_its_place(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        TEXT.replace('min: "32"', 'min: "256"').replace(
            "resumePolicy: Never", "resumePolicy: Ever"
        ),
    )
    with pytest.raises(ManifestError) as caught:
        manifest.load(path)
    error = caught.value
    assert error.rule == "resume-policy"
    assert str(error).startswith(
        f"{path}:{TEXT[: TEXT.index('resumePolicy')].count(chr(10)) + 1}: spec.resumePolicy must be one of"
    )
    assert "and 1 more" in str(error)
    assert error.where == ("spec", "resumePolicy")


def test_a_warning_does_not_stop_it(tmp_path: Path) -> None:
    assert (
        manifest.load(written(tmp_path, TEXT.replace("        backoffLimit: 0\n", ""))).name
        == "gan-bayes"
    )


def test_several_experiments_are_told_apart_by_name(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"{TEXT}\n---\nkind: Secret\n---\n{TEXT.replace('gan-bayes', 'other')}"
    )
    assert manifest.load(path, "other").name == "other"
    with pytest.raises(ManifestError, match=r"2 Experiments in this file \(gan-bayes, other\)"):
        manifest.load(path)
    with pytest.raises(ManifestError, match="no Experiment named 'third'"):
        manifest.load(path, "third")
    with pytest.raises(ManifestError, match="two Experiments are named 'gan-bayes'"):
        manifest.load(written(tmp_path, f"{TEXT}\n---\n{TEXT}"), "gan-bayes")


def test_not_an_experiment(tmp_path: Path) -> None:
    for text in ("", "a: 1", "- 1", "kind: Experiment"):
        with pytest.raises(ManifestError, match="Experiment"):
            manifest.load(written(tmp_path, text))
    with pytest.raises(ManifestError, match="did you mean 'Experiment'"):
        manifest.load(written(tmp_path, TEXT.replace("kind: Experiment", "kind: Experimant")))


def test_api_server_object_needs_no_strict_check() -> None:
    document = dict(manifest.load(CLEAN).document)
    document["status"] = {"trials": 3}
    document["metadata"] = {"name": "x", "managedFields": [], "unheardOf": 1}
    assert manifest.from_document(document).name == "x"
    spec = dict(document["spec"])
    for broken in (
        {"objective": 1},
        {"parameters": [3]},
        {"algorithm": None},
        {"parallelTrialCount": "2"},
        {"trialTemplate": []},
    ):
        with pytest.raises(ManifestError, match=rf"spec\.{next(iter(broken))}"):
            manifest.from_document({**document, "spec": spec | broken})
