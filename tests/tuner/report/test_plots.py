"""What each plot shows, for every kind of study: none raises, and plotly accepts each figure."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.tuner.samples import PARAMETERS, START, experiment, result, search, trial
from tuner.analysis.view import sample
from tuner.report import View, data, html, scale
from tuner.report.figure import PALETTE, Figure
from tuner.report.plots import (
    COMPARISONS,
    PLOTS,
    Comparison,
    Plot,
    contour,
    cost,
    expected,
    history,
    importances,
    learning_curves,
    overfitting,
    parallel,
    slices,
    timeline,
)
from tuner.report.plots.drawn import Drawn
from tuner.result import Goal, Objective, Observation, Result, StudyState, TrialState
from tuner.space import Categorical, Discrete, Double, Int

graphs = pytest.importorskip(
    "plotly.graph_objects", reason="the oracle of the figures: pip install 'gan-tuner[dev]'"
)


def study(found: Result, **changes: Any) -> View:
    """A study of the sample Experiment, whose parts may be changed."""
    return View(found, replace(experiment(["x"]), **changes))


def reporting(count: int, reports: int = 6) -> View:
    """A study whose trials report fd and train_fd several times; the last trial still runs."""
    held, seen = [], {}
    for each in search(count).trials:
        metrics = dict(each.metrics)
        if "fd" in metrics:
            metrics["train_fd"] = metrics["fd"] / 2
            pairs = [
                (name, metrics[name] * (reports - i))
                for i in range(reports)
                for name in ("fd", "train_fd")
            ]
            seen[each.name] = {
                name: tuple(Observation(name, value) for own, value in pairs if own == name)
                for name in ("fd", "train_fd")
            }
        held.append(replace(each, metrics=metrics))
    held[-1] = replace(held[-1], state=TrialState.RUNNING, ended=None, metrics={})
    seen[held[-1].name] = {"fd": (Observation("fd", 3.0),)}
    found = replace(result(*held), state=StudyState.RUNNING)
    return View(
        found, experiment(["x"]), curves=seen, cuts={3: ((2, 8.0),), 4: ((2, 8.0), (4, 5.0))}
    )


def costly() -> View:
    """A study of trials with training times, whose first one is the baseline."""
    scores = [(3.7, 8.0), (3.3, 16.0), (4.0, 20.0), (5.0, 4.0)]
    trials = [replace(trial(n, TrialState.SUCCEEDED, x=n), metrics={"fd": fd, "train_seconds": seconds})
              for n, (fd, seconds) in enumerate(scores)]  # fmt: skip
    pruned = replace(
        trial(4, TrialState.EARLY_STOPPED, x=4), metrics={"fd": 3.0, "train_seconds": 1.0}
    )
    return study(replace(result(*trials, pruned), baseline={"x": 0}))


def one(parameter: Categorical | Discrete | Double | Int, count: int = 8) -> View:
    """A study with a single parameter."""
    choices = getattr(parameter, "choices", None) or [1 + n for n in range(count)]
    trials = [
        trial(
            n,
            TrialState.SUCCEEDED,
            1.0 + n % len(choices),
            **{parameter.name: choices[n % len(choices)]},
        )
        for n in range(count)
    ]
    return study(result(*trials), parameters=(parameter,))


STUDIES = {
    "no trial": study(search(0)),
    "one trial": study(search(1)),
    "two trials": study(search(2)),
    "all failed": study(search(6, failing=1)),
    "twenty": study(search(20)),
    "one double": one(Double("x", 1, 9)),
    "one int": one(Int("x", 1, 9)),
    "one categorical": one(Categorical("x", ("a", "b"))),
    "one choice": one(Categorical("x", ("a",))),
    "one discrete": one(Discrete("x", ("1", "10"))),
    "categorical only": study(search(20), parameters=PARAMETERS[2:]),
    "point range": study(search(20), parameters=(Int("bs", 64, 64), PARAMETERS[0])),
    "negative": study(
        replace(result(*(trial(n, TrialState.SUCCEEDED, float(n - 3)) for n in range(8))),
                objective=Objective("fd", Goal.MAXIMIZE)), parameters=PARAMETERS[:2]),
    "waiting": study(result(*(trial(n, TrialState.WAITING) for n in range(3)))),
    "with curves": reporting(12),
    "with costs": costly(),
}  # fmt: skip


def valid(figures: tuple[Figure, ...]) -> None:
    for figure in figures:
        graphs.Figure(figure)  # raises ValueError for what plotly does not know


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.heading)
def test_plot_of_any_study(plot: Plot, name: str) -> None:
    drawn = plot.draw(STUDIES[name])
    assert drawn.text.endswith(".")
    valid(drawn.figures)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda plot: plot.heading)
def test_comparison_of_any_studies(comparison: Comparison) -> None:
    for first in STUDIES.values():
        drawn = comparison.draw([first, STUDIES["twenty"], STUDIES["negative"]])
        assert drawn.text.endswith(".")
        valid(drawn.figures)


def test_history_keeps_the_lowest_so_far() -> None:
    values = [3.0, 5.0, 2.0, 4.0]
    found = study(
        result(*(trial(n, TrialState.SUCCEEDED, value) for n, value in enumerate(values)))
    )
    assert history.best_so_far(found) == [(0, 3.0), (1, 3.0), (2, 2.0), (3, 2.0)]
    up = replace(found.result, objective=Objective("fd", Goal.MAXIMIZE))
    assert [value for _, value in history.best_so_far(study(up))] == [3.0, 5.0, 5.0, 5.0]


def test_expected_best_equals_its_definition() -> None:
    """Two values: the lower one is the best of k draws unless all k are the higher one."""
    counts, (mean, low, high) = expected.expected_best([1.0, 3.0, 1.0, 3.0], Goal.MINIMIZE)
    assert counts == [1, 2, 3, 4]
    assert list(mean) == pytest.approx([1 + 2 * 0.5**k for k in counts])
    assert all(low <= mean)
    assert all(mean <= high)
    _, (up, _, _) = expected.expected_best([-1.0, -3.0, -1.0, -3.0], Goal.MAXIMIZE)
    assert list(up) == pytest.approx([-value for value in mean])


def test_expected_best_matches_a_simulation() -> None:
    import numpy as np

    random = np.random.default_rng(3)
    values = random.exponential(size=40)
    counts, (mean, _, _) = expected.expected_best(list(values), Goal.MINIMIZE)
    for k in (1, 5, 20):
        drawn = random.choice(values, (20_000, k)).min(axis=1).mean()
        assert mean[counts.index(k)] == pytest.approx(drawn, rel=0.05)


def test_slice_model_finds_the_best_learning_rate() -> None:
    found = study(search(60))
    assert found.surface is not None
    at, mean = slices.dependence(found.surface, PARAMETERS[0])
    best = float(at[mean.index(min(mean))])
    assert abs(math.log10(best) + 3.3) < 0.3


def test_slices_begin_with_the_most_important() -> None:
    drawn = slices.draw(study(search(60)))
    assert drawn.figures[0]["layout"]["xaxis"]["title"]["text"] == "lr"
    assert len(drawn.figures) == len(PARAMETERS)


def stopped_by_bs() -> Result:
    """lr alone matters; trials with a large bs were stopped early, so they have the fd of a short training."""
    trials = [
        replace(each, state=TrialState.EARLY_STOPPED, metrics={"fd": 50 * each.metrics["fd"]})
        if int(each.parameters["bs"]) > 90 and each.metrics["fd"] > 4
        else each
        for each in search(60, failing=1000).trials
    ]
    return result(*trials)


def test_early_stopping_makes_no_parameter_important() -> None:
    found = study(stopped_by_bs())
    assert next(iter(found.effects)) == "lr"
    assert found.effects["bs"].value < 0.1
    whole = max(value for each, value in found.scored if each.state is TrialState.SUCCEEDED)
    assert max(value for _, value in found.complete) == whole
    assert "stopped early is at most as bad" in importances.draw(found).method


def test_slices_show_stopped_trials_apart() -> None:
    drawn = slices.draw(study(stopped_by_bs()))
    names = [trace["name"] for trace in drawn.figures[0]["data"]]
    assert names == ["model", "trial", "stopped early", "best"]


def test_stopped_trials_stay_within_a_maximised_objective() -> None:
    objective = Objective("acc", Goal.MAXIMIZE)
    states = [
        TrialState.SUCCEEDED,
        TrialState.SUCCEEDED,
        TrialState.EARLY_STOPPED,
        TrialState.EARLY_STOPPED,
    ]
    trials = [
        replace(trial(number, state, 1.0), metrics={"acc": value})
        for number, (state, value) in enumerate(zip(states, [0.8, 0.5, 0.1, 0.6], strict=True))
    ]
    search = Result("x", StudyState.SUCCEEDED, objective, tuple(trials))
    assert [value for _, value in search.comparable] == [0.8, 0.5, 0.5, 0.6]
    only_stopped = replace(search, trials=tuple(trials[2:]))
    assert [value for _, value in only_stopped.comparable] == [0.1, 0.6]


def test_slices_of_many_trials_are_thinned() -> None:
    drawn = slices.draw(study(search(2000)))
    scored = [
        sum(len(trace["x"]) for trace in figure["data"] if trace["name"] in ("trial", "best"))
        for figure in drawn.figures
    ]
    assert set(scored) == {slices.POINTS}
    assert "1000 of 1715 trials are drawn" in drawn.text


def test_contour_is_low_where_trials_are() -> None:
    found = study(search(60))
    assert found.surface is not None
    x, y, z = contour.heights(found.surface, PARAMETERS[0], PARAMETERS[3])
    assert (len(z), len(z[0])) == (len(y), len(x))
    lowest = min(
        (value, row, column) for row, each in enumerate(z) for column, value in enumerate(each)
    )
    assert y[lowest[1]] == "0"
    assert abs(math.log10(float(x[lowest[2]])) + 3.3) < 0.4


def test_parallel_draws_best_half_and_a_sample() -> None:
    ranked = study(search(1000)).ranked
    chosen = sample(ranked, 100)
    assert len(chosen) == len({each.number for each, _ in chosen}) == 100
    assert chosen[:50] == ranked[:50]
    assert chosen[-1][1] > ranked[len(ranked) * 9 // 10][1]


def test_parallel_places_values_on_their_axes() -> None:
    assert parallel.height(PARAMETERS[0], 10**-3.5) == pytest.approx(0.5)
    assert [parallel.height(PARAMETERS[3], choice) for choice in ("0", "0.5", "0.9")] == [0, 0.5, 1]
    assert parallel.height(PARAMETERS[1], 500) == 1.0


def test_curves_draw_the_best_trial_last() -> None:
    found = reporting(12)
    chosen = learning_curves.choose(found)
    best = found.result.best
    assert best is not None
    # the running one is drawn over it
    assert [each.number for each in chosen][-2:] == [best.number, 11]
    assert learning_curves.thresholds(found) == [(2, 8.0), (4, 5.0)]
    figure = learning_curves.draw(found).figures[0]
    assert figure["data"][-1]["x"] == [2, 4]
    assert len(figure["data"]) == len(chosen) + 1


def test_long_curves_are_thinned() -> None:
    figure = learning_curves.draw(reporting(8, reports=5000)).figures[0]
    assert max(len(trace["x"]) for trace in figure["data"]) <= 2 * learning_curves.POINTS
    assert figure["data"][0]["x"][-1] == 5000


def test_overfitting_compares_both_scores() -> None:
    points, curves_ = overfitting.draw(reporting(12)).figures
    assert points["data"][0]["y"] == pytest.approx(
        [2 * value for value in points["data"][0]["x"]], rel=1e-5
    )
    assert [trace["name"] for trace in curves_["data"]] == ["fd", "train_fd"]


def test_cost_joins_what_no_trial_beats() -> None:
    [found] = cost.draw(costly()).figures
    front, *marks = found["data"]
    # the best trial of all was stopped early, so it has no comparable time
    assert {trace["name"]: trace["customdata"] for trace in marks} == {
        "trial": [1, 2, 3],
        "baseline": [0],
    }
    assert (front["x"], front["y"]) == ([4.0, 8.0, 16.0], [5.0, 3.7, 3.3])
    assert cost.draw(study(search(20))) == Drawn("No finished trial has a known duration.")


def test_timeline_measures_from_the_first_start() -> None:
    found = study(result(trial(0, TrialState.SUCCEEDED, 1.0), trial(1, TrialState.RUNNING)))
    held = timeline.spans(found, START + timedelta(seconds=60))
    assert [(each.number, start, length) for each, start, length in held] == [
        (0, 0.0, 10.0),
        (1, 10.0, 50.0),
    ]


def test_time_left_follows_the_mean_trial() -> None:
    found = result(
        trial(0, TrialState.SUCCEEDED, 1.0), trial(1, TrialState.FAILED), trial(2, TrialState.RUNNING),
        trial(3, TrialState.RUNNING),
    )  # fmt: skip
    assert data.left(found, 10) == 10 * 8 / 2
    assert data.left(found, 2) is None
    assert data.left(found, None) is None
    assert data.left(result(trial(0, TrialState.RUNNING)), 5) is None


def test_failures_are_grouped_by_reason() -> None:
    trials = [
        trial(0, TrialState.FAILED),
        trial(1, TrialState.FAILED),
        replace(trial(2, TrialState.SUCCEEDED, 5.0), metrics={"fd": 5.0, "diverged": 1.0}),
        trial(3, TrialState.SUCCEEDED, 1.0),
    ]
    groups = data.failures(result(*trials))
    assert [(group.kind, group.numbers) for group in groups] == [
        ("Failed", (0, 1)),
        ("Diverged", (2,)),
    ]


def test_failures_name_the_values_that_they_share() -> None:
    bad, good = TrialState.FAILED, TrialState.SUCCEEDED
    held = [trial(n, bad, layers=6, lr=0.1 * n) for n in range(3)]
    held += [trial(n, good, 1.0, layers=2 + n % 2, lr=0.1 * n) for n in range(3, 8)]
    [group] = data.failures(result(*held))
    assert group.shared == "layers=6, lr up to 0.2"
    assert data.failures(result(*held[:3]))[0].shared == ""


def test_outlier_is_cut_off_at_the_worse_end() -> None:
    trials = list(search(24).trials)
    trials[9] = replace(trials[9], metrics={"fd": 2000.0})
    drawn = history.draw(study(result(*trials)))
    [up] = [trace for trace in drawn.figures[0]["data"] if trace["name"] == "above the axis"]
    assert up["customdata"] == [9]
    assert up["y"][0] < 100
    assert "Trial 9 is outside the axis" in drawn.text
    on = scale.scale(study(result(*trials)))
    assert on.low < min(t.metrics["fd"] for t in trials if t.metrics) < on.high < 100


def test_best_trial_is_never_cut_off() -> None:
    values = [1e-6, *(1 + 0.1 * n for n in range(20))]
    on = scale.of(values, Goal.MINIMIZE)
    assert on.inside(1e-6)
    assert scale.of([-value for value in values], Goal.MAXIMIZE).inside(-1e-6)


def test_many_bad_values_are_no_outliers() -> None:
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 900.0, 1000.0]
    assert all(map(scale.of(values, Goal.MINIMIZE).inside, values))


@pytest.mark.parametrize("plot", PLOTS[:-1], ids=lambda plot: plot.heading)
def test_best_trial_has_its_mark_in_every_plot_of_trials(plot: Plot) -> None:
    for figure in plot.draw(STUDIES["twenty"]).figures:
        names = [trace.get("name") for trace in figure["data"]]
        assert "best" in names or not any("customdata" in trace for trace in figure["data"])


def test_table_leaves_out_equal_metrics() -> None:
    trials = [
        replace(each, metrics={"fd": 2.0, "loss": 0.5, "generator_loss": 0.5})
        for each in search(3).trials
    ]
    # the loss that is no parameter
    found = data.table(study(result(*trials)))
    assert found.headings == (
        "trial",
        "state",
        "fd",
        "lr",
        "bs",
        "loss",
        "beta1",
        "seconds",
        "loss",
    )


def _luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
def test_marks_have_enough_contrast(colour: str, background: str) -> None:
    low, high = sorted((_luminance(colour), _luminance(background)))
    assert background in html.asset("page.css")
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphical objects
