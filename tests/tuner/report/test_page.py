"""The report: one page that needs no network, whatever the trials are."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.tuner.samples import PARAMETERS, START, experiment, result, search, trial
from tuner.report import View, data, page
from tuner.result import Goal, Objective, Observation, Result, StudyState, TrialState
from tuner.space import Categorical


class PageReader(HTMLParser):
    """What a browser would see: elements, their attributes, and the text outside scripts and styles."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.document = document
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(document)

    def rows(self) -> int:
        """The number of trials in the table that sorts and filters."""
        table = self.document.partition('<div class="trials"')[2].partition("</table>")[0]
        return max(0, table.count("<tr") - 1)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data + " "


def of(found: Result, **changes: Any) -> str:
    return page([View(found, replace(experiment(["x"]), **changes))], now=START)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 20])
def test_page_for_any_number_of_trials(count: int) -> None:
    read = PageReader(of(search(count)))
    assert read.rows() == count
    assert "gan-x: minimise fd" in read.text
    assert ("No trial has a finite fd yet" in read.text) == (count == 0)


def test_page_compares_the_best_with_the_baseline() -> None:
    found = replace(search(20), baseline=search(20).trials[1].parameters)
    assert found.gain
    said = f"better than the baseline ({found.trials[1].metrics['fd']:.4g}); seed noise 4 %"
    assert said in PageReader(of(found)).text
    assert "no baseline to compare with" in PageReader(of(search(20))).text


def test_large_page_is_small_and_fast() -> None:
    found = search(2000)
    seen = {
        trial.name: {"fd": tuple(Observation("fd", trial.metrics["fd"] + 9 - n) for n in range(10))}
        for trial in found.trials
        if "fd" in trial.metrics
    }
    commands = {
        trial.number: "python -m trainer --lr=0.001 --bs=64 --loss=hinge --beta1=0.5"
        for trial in found.trials
    }
    started = time.process_time()
    document = page([View(found, experiment(["x"]), curves=seen, commands=commands)], now=START)
    assert time.process_time() - started < 10
    assert len(document) < 3_000_000
    read = PageReader(document)
    assert read.rows() == 2000
    assert "1715 of 2000 trials have a fd" in read.text
    assert "100 of 1715 are drawn" in read.text


def test_page_when_all_trials_failed() -> None:
    read = PageReader(of(search(5, failing=1)))
    assert "no trial succeeded" in read.text
    assert "5 of 5 trials failed" in read.text
    assert "5 Failed" in read.text


def test_categorical_only_and_equal_scores() -> None:
    spaces = (Categorical("act", ("relu", "tanh")),)
    trials = [trial(n, TrialState.SUCCEEDED, 1.0, act=spaces[0].choices[n % 2]) for n in range(6)]
    assert "finds no trend" in PageReader(of(result(*trials), parameters=spaces)).text
    trials = [
        trial(n, TrialState.SUCCEEDED, 1.0 + n % 2, act=spaces[0].choices[n % 2]) for n in range(6)
    ]
    assert "Total-effect Sobol" in PageReader(of(result(*trials), parameters=spaces)).text


def test_negative_scores_that_are_maximised() -> None:
    trials = [trial(n, TrialState.SUCCEEDED, float(n - 3)) for n in range(6)]
    found = replace(result(*trials), objective=Objective("fd", Goal.MAXIMIZE))
    text = PageReader(of(found, parameters=PARAMETERS[:2])).text
    assert "maximise fd" in text
    assert "trial 5" in text


def test_states_n_seed_method_and_versions() -> None:
    text = PageReader(of(search(20))).text
    for stated in (
        "18 of 20 trials have a fd",
        "seed",
        "7",
        "Optuna 5.",
        "plotly.js 4.",
        "gan-tuner ",
        "Gaussian process",
        "18 scored",
    ):
        assert stated in text


def test_calls_few_trials_a_hint() -> None:
    assert "take it as a hint" in PageReader(of(search(8))).text
    assert "take it as a hint" not in PageReader(of(search(20))).text


def test_values_and_reasons_are_escaped() -> None:
    document = of(search(20))
    read = PageReader(document)
    assert "<script>alert(1)</script>" in html.unescape(read.text)
    assert "alert(1)</script>" not in document
    assert not [tag for tag, attrs in read.elements if tag == "img" or "onerror" in attrs]


def test_loads_nothing_and_includes_plotly_once() -> None:
    document = of(search(20))
    read = PageReader(document)
    linked = [
        attrs for _, attrs in read.elements if {"src", "href", "srcset", "action"} & set(attrs)
    ]
    assert all((attrs.get("href") or "").startswith(("#", "data:,")) for attrs in linked)
    policy = next(attrs["content"] for tag, attrs in read.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert len(re.findall(r"plotly\.js \(cartesian", document)) == 1


def test_page_without_plots_lacks_plotly() -> None:
    assert len(of(search(0))) < 30_000


def test_table_marks_the_best_row() -> None:
    shown = data.table(View(search(20), experiment(["x"])))
    best = search(20).best
    assert best is not None
    assert shown.best == 0
    assert shown.numbers[0] == best.number
    assert {len(row) for row in shown.rows} == {len(shown.headings)}


def test_sections_without_content_are_left_out() -> None:
    read = PageReader(of(search(5, failing=1)))
    headings = [attrs.get("id") for tag, attrs in read.elements if tag == "section"]
    assert "samples" not in headings
    assert "Samples: no trial wrote samples.png." in read.text


def test_page_of_a_running_search_says_what_waits() -> None:
    trials = list(search(8).trials)
    trials[6] = replace(trials[6], state=TrialState.RUNNING, ended=None, reason="")
    trials[7] = replace(trials[7], state=TrialState.WAITING, metrics={}, reason="no free GPU")
    found = replace(result(*trials), state=StudyState.RUNNING)
    text = PageReader(of(found, max_trials=20)).text
    assert "6 of 20 trials finished, about" in text
    assert "trial 6 runs: lr=" in text
    assert "trial 7 waits: no free GPU" in text


def several(*studies: View) -> str:
    return PageReader(page(studies, now=START)).text


def test_comparison_says_which_study_is_better() -> None:
    first = View(search(20), experiment(["x"]))
    worse = [
        replace(t, metrics={k: 2 * v for k, v in t.metrics.items()}) for t in search(20).trials
    ]
    second = View(replace(result(*worse), name="gan-y"), replace(experiment(["y"]), max_trials=9))
    text = several(second, first)
    assert "gan-x (local) is better than gan-y (local)" in text
    assert "more than the seed noise of 4 %" in text
    assert "max trials" in text
    near = [
        replace(t, metrics={k: 1.01 * v for k, v in t.metrics.items()}) for t in search(20).trials
    ]
    text = several(first, View(replace(result(*near), name="gan-y"), experiment(["x"])))
    assert "within the seed noise of 4 %" in text


def test_comparison_without_seed_noise_uses_the_bootstrap() -> None:
    unknown = Objective("fd", Goal.MINIMIZE)
    first = View(replace(search(20), objective=unknown), experiment(["x"]))
    moved = [
        replace(t, metrics={k: v + 9 for k, v in t.metrics.items()}) for t in search(20).trials
    ]
    far = View(replace(result(*moved), name="far", objective=unknown), experiment(["x"]))
    assert "in 100% of 1000 bootstrap repetitions" in several(first, far)
    near = [
        replace(t, metrics={k: v * 1.001 for k, v in t.metrics.items()}) for t in search(20).trials
    ]
    close = View(replace(result(*near), name="near", objective=unknown), experiment(["x"]))
    assert "that may be chance" in several(first, close)


def test_comparison_refuses_different_objectives() -> None:
    up = Objective("fd", Goal.MAXIMIZE)
    views = [
        View(search(20), experiment(["x"])),
        View(replace(search(20), objective=up), experiment(["x"])),
    ]
    assert "different objectives, so none is better" in several(*views)
