"""The report: one page that needs no network, whatever the trials are."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.tuner.samples import PARAMETERS, START, experiment, result, search, trial
from tuner.report import data, page
from tuner.report.importance import _Process, total_effects
from tuner.result import Goal, Objective, TrialState
from tuner.space import Categorical, Discrete, Double, Int

pytest.importorskip("plotly", reason="the report is an extra: pip install 'gan-tuner[report]'")


class PageReader(HTMLParser):
    """What a browser would see: elements, their attributes, and the text outside scripts and styles."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data + " "


def of(found, **changes) -> str:
    return page(found, replace(experiment(["x"]), **changes), now=START)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 20])
def test_a_page_for_any_number_of_trials(count):
    read = PageReader(of(search(count)))
    assert len([1 for tag, _ in read.elements if tag == "tr"]) == (count + 1 if count else 0)
    assert "gan-x: minimise fd" in read.text
    assert ("nothing to plot" in read.text) == (count == 0)


def test_a_thousand_trials():
    read = PageReader(of(search(1000)))
    assert len([1 for tag, _ in read.elements if tag == "tr"]) == 1001
    assert "n = 858 of 1000 trials" in read.text


def test_all_failed():
    read = PageReader(of(search(5, failing=1)))
    assert "no best trial yet" in read.text
    assert "5 Failed" in read.text


def test_categorical_only_and_equal_scores():
    spaces = (Categorical("act", ("relu", "tanh")),)
    trials = [trial(n, TrialState.SUCCEEDED, 1.0, act=spaces[0].choices[n % 2]) for n in range(6)]
    assert "Nothing can be said" in PageReader(of(result(*trials), parameters=spaces)).text
    trials = [trial(n, TrialState.SUCCEEDED, 1.0 + n % 2, act=spaces[0].choices[n % 2]) for n in range(6)]
    assert "Total-effect Sobol" in PageReader(of(result(*trials), parameters=spaces)).text


def test_scores_that_are_not_positive_and_maximised():
    trials = [trial(n, TrialState.SUCCEEDED, float(n - 3)) for n in range(6)]
    found = replace(result(*trials), objective=Objective("fd", Goal.MAXIMIZE))
    text = PageReader(of(found, parameters=PARAMETERS[:2])).text
    assert "maximise fd" in text
    assert "trial 5" in text


def test_it_states_n_seed_method_and_versions():
    text = PageReader(of(search(20))).text
    for stated in ("n = 18 of 20", "seed", "7", "Optuna 5.", "plotly ", "gan-tuner ", "Gaussian process", "18 scored"):
        assert stated in text


def test_fewer_than_ten_trials_are_called_a_hint():
    assert "take it as a hint" in PageReader(of(search(8))).text
    assert "take it as a hint" not in PageReader(of(search(20))).text


def test_values_and_reasons_cannot_become_markup():
    document = of(search(20))
    read = PageReader(document)
    assert "<script>alert(1)</script>" in html.unescape(read.text)
    assert "alert(1)</script>" not in document
    assert not [tag for tag, attrs in read.elements if tag == "img" or "onerror" in attrs]


def test_nothing_is_loaded_and_plotly_is_there_once():
    document = of(search(20))
    read = PageReader(document)
    assert not [attrs for _, attrs in read.elements if {"src", "href", "srcset", "action"} & set(attrs)]
    policy = next(attrs["content"] for tag, attrs in read.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert len(re.findall(r"plotly\.js v\d", document)) == 1


def test_a_page_without_plots_does_not_carry_plotly():
    assert len(of(search(0))) < 10_000


def test_without_plotly_one_line_says_how_to_get_it():
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "from tests.tuner.samples import experiment, search\n"
        "from tuner.report import page\n"
        "from tuner.errors import UnsupportedError\n"
        "try: page(search(3), experiment(['x']))\n"
        "except UnsupportedError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("pip install 'gan-tuner[report]'")


def test_the_table_marks_the_best_row():
    shown = data.table(search(20))
    best = search(20).best
    assert best is not None
    assert shown.best == best.number
    assert {len(row) for row in shown.rows} == {len(shown.headings)}


# Importances.


def test_the_gradient_of_the_fit_is_right():
    random = np.random.default_rng(0)
    process = _Process(random.random((12, 3)), random.standard_normal(12))
    theta = np.array([-0.3, 0.2, 0.1, 0.3, -2.0])
    steps = 1e-5 * np.eye(5)
    numeric = [(process._loss(theta + e)[0] - process._loss(theta - e)[0]) / 2e-5 for e in steps]
    assert np.allclose(process._loss(theta)[1], numeric, rtol=1e-5)


def test_indices_are_those_of_a_function_whose_indices_are_known():
    """f = 1 + a + b c / 2 on the unit cube, centred inputs: variances 1/12, and 1/4 * 1/144."""
    random = np.random.default_rng(1)
    parameters = [Double(name, -0.5, 0.5) for name in "abc"]
    points = [{name: float(random.uniform(-0.5, 0.5)) for name in "abc"} for _ in range(120)]
    values = [p["a"] + 4 * p["b"] * p["c"] - 10 for p in points]  # negative, so not taken in logarithm
    own, shared = 1 / 12, 16 / 144
    effects = total_effects(parameters, points, values)
    assert effects["a"] == pytest.approx(own / (own + shared), abs=0.03)
    assert effects["b"] == pytest.approx(shared / (own + shared), abs=0.03)
    assert effects["c"] == pytest.approx(shared / (own + shared), abs=0.03)


def test_the_parameter_that_matters_comes_first_from_ten_trials():
    """18 of 20 is the demand; a chooser at chance would reach 5."""
    first = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        points = [
            {
                "lr": float(10 ** random.uniform(-5, -2)),
                "bs": int(random.integers(32, 129)),
                "loss": str(random.choice(PARAMETERS[2].choices)),
                "beta1": str(random.choice(PARAMETERS[3].choices)),
            }
            for _ in range(10)
        ]
        noise = 0.17 * random.standard_normal(10)
        values = [float(np.exp(1.2 * abs(np.log10(p["lr"]) + 3.3) + e)) for p, e in zip(points, noise, strict=True)]
        first += next(iter(total_effects(PARAMETERS, points, values)), "") == "lr"
    assert first >= 18


def test_importances_hold_their_peace_where_nothing_can_be_said():
    point = {"a": 0.5}
    parameters = [Double("a", 0, 1)]
    assert total_effects(parameters, [point] * 3, [1.0, 2.0, 3.0]) == {}
    assert total_effects(parameters, [point] * 9, [2.0] * 9) == {}
    assert total_effects([], [{}] * 9, list(range(9))) == {}
    assert total_effects(parameters, [point] * 9, [1.0, 2.0, 3.0] * 3) == {}  # one point only: all is noise


def test_values_beyond_the_range_and_single_choices_do_no_harm():
    parameters = [Int("n", 1, 1), Categorical("c", ("x",)), Discrete("d", ("1", "2")), Double("a", 0, 1)]
    points = [{"n": 1, "c": "x", "d": "12"[i % 2], "a": i / 5} for i in range(9)]
    effects = total_effects(parameters, points, [float(1 + i) for i in range(9)])
    assert all(np.isfinite(effect) for effect in effects.values())
    assert next(iter(effects)) == "a"
