"""charts/gan-tuner under Helm 3 and 4: lint, helm-unittest, validity, and the same Experiments as manifests/."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.manifests import rendering as k8s

CHART = k8s.ROOT / "charts" / "gan-tuner"
CASES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
HELMS = ("helm", "helm4")


@functools.cache
def render(*options: str, helm: str = "helm") -> str:
    """What `helm install gan charts/gan-tuner -n gan-tuner OPTIONS` would send."""
    command = [
        k8s.tool(helm),
        "template",
        "gan",
        str(CHART),
        "--namespace=gan-tuner",
        "--kube-version=1.36.0",
        *options,
    ]
    return k8s.output(*command)


def settings(*pairs: str) -> str:
    return "--set=" + ",".join(pairs)


def searches(*options: str) -> dict[str, dict[str, Any]]:
    """Experiments by their key in the values."""
    found = [d for d in k8s.documents(render(*options)) if d["kind"] == "Experiment"]
    return {d["metadata"]["labels"]["gan-tuner/search"]: d for d in found}


def values() -> dict[str, Any]:
    return k8s.documents((CHART / "values.yaml").read_text())[0]


def leaves(node: Any, path: str = "") -> list[str]:
    """Dotted paths of all values; a list is one value, and so is an empty map."""
    if isinstance(node, dict) and node:
        return [leaf for key, child in node.items() for leaf in leaves(child, f"{path}.{key}" if path else key)]
    return [path]


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("case", [None, *CASES])
def test_lint_is_strict(helm: str, case: str | None) -> None:
    options = ["-f", str(CHART / "ci" / case)] if case else []
    k8s.output(k8s.tool(helm), "lint", "--strict", str(CHART), *options)


def test_helm_unittest_passes() -> None:
    k8s.output(k8s.tool("untt"), "-f", "tests/*_test.yaml", str(CHART))


@pytest.mark.parametrize("case", [None, *CASES])
def test_helm_3_and_4_render_the_same(case: str | None) -> None:
    options = ("-f", str(CHART / "ci" / case)) if case else ()
    three, four = (k8s.documents(render(*options, helm=helm)) for helm in HELMS)
    assert sorted(map(json.dumps, three)) == sorted(map(json.dumps, four))


@pytest.mark.parametrize("version", k8s.VERSIONS)
def test_everything_rendered_is_valid(version: str, tmp_path: Path) -> None:
    objects = []
    for case in (None, *CASES):
        options = ("-f", str(CHART / "ci" / case)) if case else ()
        if case == "everything-values.yaml" and version < "1.34":
            options += (settings("gpu.mode=devicePlugin"),)
        objects += k8s.documents(render(*options))
    trials = [k8s.trial(document) for document in objects if document["kind"] == "Experiment"]
    known = [document for document in objects if document["kind"] != "PodMonitor"]  # of the Prometheus operator
    assert len(known) == len(objects) - 1
    k8s.kubeconform(known + trials, version, tmp_path)


def comparable(experiment: dict[str, Any], command_line: list[str] | None = None) -> dict[str, Any]:
    """An Experiment without what a release adds: its names, labels, account, and the order of flags and strategies."""
    spec = json.loads(json.dumps(experiment["spec"]))
    job = spec["trialTemplate"]["trialSpec"]
    template = job["spec"]["template"]
    template["metadata"]["labels"].pop("app.kubernetes.io/instance", None)
    template["spec"].pop("serviceAccountName", None)
    template["spec"]["containers"][0]["args"].sort()
    for claim in template["spec"].get("resourceClaims", []):
        claim["resourceClaimTemplateName"] = "the claim"
    for volume in template["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = "the volume"
    spec["algorithm"]["algorithmSettings"].sort(key=lambda setting: setting["name"])
    return spec


@pytest.mark.parametrize("name", k8s.SEARCHES)
def test_the_chart_and_the_manifest_are_one_search(name: str) -> None:
    own = k8s.experiment(k8s.search(name))
    charted = searches("-f", str(CHART / "ci" / "searches-values.yaml"))[name]
    pod = own["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["nodeSelector"]["nvidia.com/gpu.present"] = "true"  # the chart always names a pool
    assert comparable(charted) == comparable(own)


POOLS = {
    "cpu": ["gpu.pool=none"],
    "generic": [],
    "gke": ["gpu.pool=gke"],
    "eks": ["gpu.pool=eks"],
    "aks": ["gpu.pool=aks"],
    "mig": ["gpu.mode=mig"],
    "dra": ["gpu.mode=dra"],
    "kueue": ["kueue.queueName=gan-tuner"],
    "spot": ["spot.enabled=true", "checkpoints.enabled=true"],
}


@pytest.mark.parametrize("overlay", POOLS)
def test_the_chart_and_the_overlay_are_one_search(overlay: str) -> None:
    charted = searches(settings(*POOLS[overlay]))["bayes"] if POOLS[overlay] else searches()["bayes"]
    assert comparable(charted) == comparable(k8s.experiment(k8s.overlay(overlay)))


def test_check_finds_nothing_in_what_the_chart_renders(tmp_path: Path) -> None:
    (tmp_path / "chart.yaml").write_text(render())
    assert k8s.check(tmp_path / "chart.yaml").endswith("no problems")


def test_what_may_change_keeps_the_name_and_what_may_not_changes_it() -> None:
    def name(*pairs: str) -> str:
        return str(
            searches(settings("experiments.bayes.resumePolicy=LongRunning", *pairs))["bayes"]["metadata"]["name"]
        )

    assert name("experiments.bayes.budget.trials=40") == name()
    assert name("podMonitor.labels.a=b") == name()
    assert name("image.tag=other") != name()
    assert name("experiments.bayes.algorithm.settings.random_state=2") != name()


def test_an_ended_search_that_never_resumes_is_replaced_and_not_edited() -> None:
    name = [searches(settings(f"experiments.bayes.budget.trials={n}"))["bayes"]["metadata"]["name"] for n in (20, 40)]
    assert name[0] != name[1]


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"^ *[A-Za-z-]+: \S", line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = Draft7Validator(schema)
    Draft7Validator.check_schema(schema)
    assert not list(validator.iter_errors(values()))

    def opened(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        here = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return here + [found for key, child in node.items() for found in opened(child, f"{path}/{key}")]

    assert opened(schema, "") == []
    for path in leaves(values()):
        broken = values()
        *parents, last = path.split(".")
        node = broken
        for key in parents:
            node = node[key]
        node[last + "x"] = node.pop(last)
        if parents and parents[-1] == "settings":  # names of Katib's own; the chart's checks know them
            continue
        assert list(validator.iter_errors(broken)), path


def test_every_value_is_set_in_a_unit_test() -> None:
    tested = "\n".join(path.read_text() for path in (CHART / "tests").glob("*_test.yaml"))
    missing = [p for p in leaves(values()) if f"{p}:" not in tested and p.rsplit(".", 1)[0] + ":" not in tested]
    assert missing == []


def test_notes_give_the_next_commands_filled_in() -> None:
    name = searches()["bayes"]["metadata"]["name"]
    command = [k8s.tool("helm4"), "install", "gan", str(CHART), "-n", "gan-tuner", "--dry-run=client"]
    assert f"gantune watch {name} -n gan-tuner" in k8s.output(*command)
