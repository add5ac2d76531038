"""What a file may hold besides one Experiment: lists, other kinds, templates, embedded Experiments, nothing."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from tuner import manifest
from tuner.check import Problem, check_data
from tuner.errors import ManifestError

CLEAN = (Path(__file__).parents[1] / "data" / "clean.yaml").read_text()
NOTHING = "no Experiment (kubeflow.org/v1beta1) found"
REPLICAS = """\
          apiVersion: kubeflow.org/v1
          kind: PyTorchJob
          spec:
            pytorchReplicaSpecs:
              Master: {template: {spec: {containers: [{name: pytorch, image: x}]}}}
              Worker: {template: {spec: {containers: [{name: NAME, image: x}, {name: side}]}}}
"""


def problems(text: str) -> list[Problem]:
    return check_data(text.encode(), "f.yaml")


def listed(text: str, kind: str = "apiVersion: v1\nkind: List") -> str:
    return f"{kind}\nitems:\n- kind: ConfigMap\n- null\n" + textwrap.indent(text, "  ").replace(
        "  ", "- ", 1
    )


@pytest.mark.parametrize(
    "kind", ["apiVersion: v1\nkind: List", "apiVersion: kubeflow.org/v1beta1\nkind: ExperimentList"]
)
def test_list_is_read_item_by_item(kind: str, tmp_path: Path) -> None:
    broken = CLEAN[CLEAN.index("apiVersion: kubeflow") :].replace(
        "type: minimize", "type: minimise"
    )
    found = problems(listed(broken, kind))
    assert (
        [problem.rule for problem in found]
        == [problem.rule for problem in problems(broken)]
        == ["objective"]
    )
    assert "minimise" in listed(broken, kind).splitlines()[found[0].line - 1]
    (tmp_path / "list.yaml").write_text(listed(CLEAN[CLEAN.index("apiVersion: kubeflow") :], kind))
    (tmp_path / "alone.yaml").write_text(CLEAN)
    assert (
        manifest.load(tmp_path / "list.yaml").parameters
        == manifest.load(tmp_path / "alone.yaml").parameters
    )


@pytest.mark.parametrize("text", ["", "kind: Pod\n", "- 1\n", "text\n", "kind: List\nitems: []\n"])
def test_file_without_an_experiment_is_an_error(text: str, tmp_path: Path) -> None:
    (problem,) = problems(text)
    assert (problem.rule, problem.line, problem.message) == ("no-experiment", 1, NOTHING)
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ManifestError, match=r"f\.yaml:1: no Experiment \(kubeflow"):
        manifest.load(tmp_path / "f.yaml")


@pytest.mark.parametrize(
    "embedded", [CLEAN, '{"kind": "Experiment", "apiVersion": "kubeflow.org/v1beta1"}']
)
def test_embedded_text_is_named(embedded: str) -> None:
    head = (
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  templates:\n  - manifest: |\n"
    )
    (problem,) = problems(head + textwrap.indent(embedded, "      "))
    where = "spec.templates[0].manifest of this Workflow holds one: save it as a file of its own"
    assert (problem.message, problem.line) == (f"{NOTHING}; {where}", 5)


def test_embedded_object_is_named() -> None:
    inner = {"kind": "Experiment", "apiVersion": "kubeflow.org/v1beta1"}
    assert (
        "spec[0] of this Component holds one"
        in problems(json.dumps({"kind": "Component", "spec": [inner]}))[0].message
    )


@pytest.mark.parametrize(
    "line", ["  name: {{ .Release.Name }}", "{{- if .Values.on }}", '  name: {{ include "x" . }}']
)
def test_template_is_to_be_rendered_first(line: str) -> None:
    (problem,) = problems(
        f"apiVersion: kubeflow.org/v1beta1\nkind: Experiment\nmetadata:\n{line}\n  a: b\n"
    )
    assert problem.rule == "yaml-syntax"
    assert "render it first, for example with `helm template`" in problem.message


def test_experiment_beside_other_kinds_is_no_problem() -> None:
    both = [problem.rule for problem in problems(f"kind: Namespace\n---\n{CLEAN}")]
    assert both == [problem.rule for problem in problems(CLEAN)]


def with_replicas(name: str) -> list[str]:
    """The errors about the pods of a PyTorchJob whose second pod has a container NAME."""
    start = CLEAN.index("    trialSpec:")
    text = (
        CLEAN[:start]
        + "    trialSpec:\n"
        + textwrap.indent(textwrap.dedent(REPLICAS), "      ").replace("NAME", name)
    )
    return [
        problem.message
        for problem in problems(text)
        if problem.rule in ("primary-container", "image")
    ]


def test_primary_container_is_found_in_training_job() -> None:
    no_image = "container 'side' must have an image: Kubernetes refuses the pod"
    missing = "primaryContainerName 'trainer' is in no pod of the PyTorchJob (Master: pytorch; Worker: other, side)"
    assert with_replicas("trainer") == [no_image]
    assert sorted(with_replicas("other")) == sorted([no_image, missing])


def test_list_of_kubeflow_katibs_categorical_is_explained() -> None:
    text = CLEAN.replace(
        "        distribution: logUniform\n", '        distribution: ["a", "b"]\n', 1
    )
    message = next(problem.message for problem in problems(text) if problem.rule == "wrong-type")
    assert message.endswith(
        "search.categorical puts the list there (katib#2625): move it to feasibleSpace.list"
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Bayesian", "bayesianoptimization"), ("gp", "bayesianoptimization"), ("hyperopt", "tpe")],
)
def test_other_names_of_an_algorithm_are_understood(written: str, meant: str) -> None:
    text = CLEAN.replace("algorithmName: bayesianoptimization", f"algorithmName: {written}")
    message = next(problem.message for problem in problems(text) if problem.rule == "algorithm")
    assert message.endswith(f"got {written!r}; did you mean {meant!r}?")


def test_resource_of_hyperband_is_a_whole_number() -> None:
    text = CLEAN.replace("algorithmName: bayesianoptimization", "algorithmName: hyperband")
    text = text.replace("random_state", "resource_name").replace('value: "1"', "value: bs", 1)
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if "parameterType: int" in line)
    lines[start : start + 5] = [
        "      parameterType: discrete",
        '      feasibleSpace: {list: ["1", "2.5"]}',
    ]
    found = [
        problem.message for problem in problems("\n".join(lines)) if problem.rule == "hyperband"
    ]
    assert "hyperband's resource 'bs' must have whole numbers, got '2.5'" in found
