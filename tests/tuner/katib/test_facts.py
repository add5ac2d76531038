"""The facts of Katib are in one place: the chart, the checker, the samplers and the schema agree with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tuner.check.settings import SETTINGS
from tuner.experiment.model import CollectorKind
from tuner.katib import facts as katib
from tuner.samplers import ALGORITHMS
from tuner.space import Distribution

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "gan-tuner"
NOT_LOCAL = {"enas", "darts"}
NOT_IN_THE_CHART = NOT_LOCAL | {"pbt"}
SPELLED_ONCE = [
    katib.API_VERSION,
    "katib.kubeflow.org/",
    "/var/log/katib",
    '"metrics-logger-and-collector"',
]


def test_samplers_cover_the_algorithms_of_katib() -> None:
    assert {name for name in katib.ALGORITHMS if name in ALGORITHMS} == {
        *katib.ALGORITHMS
    } - NOT_LOCAL
    assert set(SETTINGS) - {"enas", "darts"} == {*katib.ALGORITHMS, *katib.EARLY_STOPPING} - {
        "enas",
        "darts",
    }


def test_samplers_honour_settings_that_the_checker_knows() -> None:
    for name, row in ALGORITHMS.items():
        assert set(row.settings) <= set(SETTINGS.get(name, row.settings)), name


def test_chart_knows_the_same_algorithms_and_settings() -> None:
    text = (CHART / "templates" / "_checks.tpl").read_text()
    block = text[text.index("$known := dict") :]
    block = block[: block.index("{{- $settings")]
    rows = re.findall(r'^  "([\w-]+)" (.*)', block, re.M)
    charted = {
        name: set(re.findall(r'"(\w+)" (?:\$|\(list)', settings))
        | ({"random_state"} if "$seed" in settings else set())
        for name, settings in rows
    }
    assert set(charted) == set(katib.ALGORITHMS) - NOT_IN_THE_CHART
    for name, settings in charted.items():
        assert settings == set(SETTINGS[name]), name


def test_chart_schema_lists_the_algorithms() -> None:
    listed = re.findall(
        r'"enum": (\[[^]]*"bayesianoptimization"[^]]*\])',
        (CHART / "values.schema.json").read_text(),
    )
    assert [set(json.loads(names)) for names in listed] == [
        set(katib.ALGORITHMS) - NOT_IN_THE_CHART
    ] * len(listed)
    assert listed


def test_manifest_types_are_katibs_words() -> None:
    assert {*katib.COLLECTORS, "PrometheusMetric"} == {kind.value for kind in CollectorKind}
    assert set(katib.DISTRIBUTIONS) == {one.value for one in Distribution}


def test_each_fact_is_spelled_once() -> None:
    """Docstrings and comments may name them; code may not."""
    found = []
    for path in (ROOT / "tuner").rglob("*.py"):
        if path.relative_to(ROOT / "tuner").as_posix() == "katib/facts.py":
            continue
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text())
        found += [(str(path.relative_to(ROOT)), fact) for fact in SPELLED_ONCE if fact in code]
    assert found == []
