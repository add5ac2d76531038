"""One conformance class over every algorithm of the local engine: real Optuna, real trials in real workers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from tests.tuner.experiments import ARGS, EPOCHS, LR, TRIALS, experiment, run, table
from tuner.check.settings import SETTINGS
from tuner.errors import UnsupportedError
from tuner.experiment.annotations import stop_factors
from tuner.experiment.early_stopping import rules
from tuner.experiment.model import with_first_trials
from tuner.manifest import from_document
from tuner.result import StudyState, TrialState
from tuner.samplers import (
    ALGORITHMS,
    SEED_SETTING,
    Past,
    Proposal,
    Sampler,
    Search,
    model,
    sampler,
)
from tuner.samplers.first import to_text
from tuner.samplers.replica import distribution
from tuner.samplers.transform import dimension
from tuner.space import Double

LAG = 3


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def played(
    algorithm: Sampler, count: int, start: Sequence[tuple[Proposal, float | None]] = ()
) -> list[tuple[Proposal, float | None]]:
    """Ask and tell without trials: fd by a formula, lr above 3e-3 fails. Continues from `start`."""
    trials = list(start)
    while len(trials) < count:
        told = max(len(trials) - LAG + 1, 0)
        history = [
            Past(p.point, p.values, True, value) if number < told else Past(p.point, p.values)
            for number, (p, value) in enumerate(trials)
        ]
        proposal = algorithm.propose(history)
        if proposal is None:
            break
        lr = float(proposal.values["lr"])
        trials.append(
            (
                proposal,
                None
                if lr > 3e-3
                else abs(lr - 5e-4) * 1e5 + float(proposal.values.get("bs", 0)) / 50,
            )
        )
    return trials


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestEveryAlgorithm:
    """What holds for all of them."""

    def test_table_does_not_depend_on_workers(self, algorithm: str, tmp_path: Path) -> None:
        args = [*ARGS, "--fail-above=4e-3", "--reports=3"]
        one, three = (
            run(tmp_path / str(n), experiment(algorithm, args=args), workers=n, seed=7)
            for n in (1, 3)
        )
        assert table(one) == table(three)
        assert one.state is StudyState.SUCCEEDED
        assert [trial.number for trial in one.trials] == list(range(9))

    def test_restart_at_any_trial_repeats_proposals(self, algorithm: str, tmp_path: Path) -> None:
        what = experiment(algorithm)
        count = 8 if algorithm == "bayesianoptimization" else 15
        whole = played(what.sampler(3), count)
        for cut in (2, count - 2):
            assert played(what.sampler(3), count, whole[:cut]) == whole

    def test_values_lie_in_space_and_encode_back(self, algorithm: str) -> None:
        algo = experiment(algorithm).sampler(0)
        for proposal, _ in played(algo, 8):
            for each in algo.dimensions:
                coordinate, value = proposal.point[each.name], proposal.values[each.name]
                known = distribution(each)
                assert known._contains(known.to_internal_repr(coordinate))
                again = each.value(each.encode(value))
                assert again == pytest.approx(value) or each.value(coordinate) == value

    def test_another_seed_gives_other_points(self, algorithm: str) -> None:
        first, second = (played(experiment(algorithm).sampler(seed), 4) for seed in (0, 1))
        assert [p.values for p, _ in first] != [p.values for p, _ in second]

    def test_unknown_setting_is_refused_by_name(self, algorithm: str) -> None:
        with pytest.raises(UnsupportedError, match="of_another"):
            replaced(experiment(algorithm), of_another="5").sampler(0)

    def test_points_are_json(self, algorithm: str) -> None:
        for proposal, _ in played(experiment(algorithm).sampler(0), 7):
            assert json.loads(json.dumps(proposal.point)) == proposal.point


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@hypothesis(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_proposal_follows_from_the_history_alone(algorithm: str, data: st.DataObject) -> None:
    """One sampler that receives histories in any order answers as a new one does for each."""
    what = experiment(algorithm)
    trials = played(what.sampler(3), 9)
    one = what.sampler(3)
    for _ in range(data.draw(st.integers(2, 5))):
        count = data.draw(st.integers(0, min(len(trials), 8)))
        history = []
        for proposal, value in trials[:count]:
            kind = data.draw(st.sampled_from(["observed", "observed", "failed", "new", "running"]))
            known = Past(proposal.point, proposal.values, kind != "running")
            history.append(replace(known, value=value) if kind == "observed" else known)
            if kind == "new":  # nothing is known of it
                history[-1] = Past({}, {}, observed=True)
        assert one.propose(history) == what.sampler(3).propose(history)


def test_growing_history_costs_one_question_a_trial() -> None:
    """A study that is made anew asks a replayed sampler for every trial again."""
    from optuna.samplers import RandomSampler

    seeds: list[int] = []
    dimensions = tuple(dimension(each) for each in experiment().parameters)
    search = Search(dimensions, seed=3, settings={}, parallel=LAG)

    def make(seed: int) -> Any:
        seeds.append(seed)
        return RandomSampler(seed)

    counted = model.Model(search, make, replayed=True)
    assert len(played(counted, 30)) == len(seeds) == len(set(seeds)) == 30


NAMED = {"lr": "1e-3", "bs": "64"}


def named(algorithm: str, *points: dict[str, str], **options: Any) -> Any:
    return with_first_trials(experiment(algorithm, **options), points)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
class TestFirstTrials:
    """Every algorithm runs the trials that the Experiment names, and then its own."""

    POINTS = (NAMED, {**NAMED, "bs": "32"})

    def points(self, algorithm: str) -> tuple[dict[str, str], ...]:
        return tuple(
            {**each, **({"epochs": "9"} if algorithm == "hyperband" else {})}
            for each in self.POINTS
        )

    def test_named_trials_run_first(self, algorithm: str) -> None:
        what = named(algorithm, *self.points(algorithm))
        trials = played(what.sampler(3), 6)
        assert [proposal.values for proposal, _ in trials[:2]] == list(what.first_trials)
        assert trials[0][0].values["lr"] in (1e-3, "1e-3")
        assert all(proposal.values not in what.first_trials for proposal, _ in trials[2:])

    def test_resumed_search_proposes_the_same(self, algorithm: str) -> None:
        what = named(algorithm, *self.points(algorithm))
        whole = played(what.sampler(3), 9)
        for cut in (1, 2, 5):
            assert played(what.sampler(3), 9, whole[:cut]) == whole

    def test_suggestion_setting_names_them_too(self, algorithm: str) -> None:
        what = named(algorithm, *self.points(algorithm))
        bare = replaced(experiment(algorithm), first_trials=to_text(what.first_trials))
        assert played(bare.sampler(3), 5) == played(what.sampler(3), 5)


def test_finite_space_does_not_repeat_first_trials() -> None:
    for algorithm in ("grid", "random", "sobol", "tpe"):
        lr = {
            "name": "lr",
            "parameterType": "categorical",
            "feasibleSpace": {"list": ["1e-4", "1e-3", "5e-3"]},
        }
        bs = {"name": "bs", "parameterType": "discrete", "feasibleSpace": {"list": ["32", "64"]}}
        trials = played(named(algorithm, NAMED, parameters=[lr, bs]).sampler(1), 50)
        assert (
            len({tuple(proposal.values.values()) for proposal, _ in trials}) == len(trials) == 6
        ), algorithm


def test_model_does_not_repeat_a_corner() -> None:
    """The best value is at a bound, which the Gaussian process would propose again and again."""
    lr = {"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0.1", "max": "1"}}
    bs = {"name": "bs", "parameterType": "discrete", "feasibleSpace": {"list": ["32", "64"]}}
    search = experiment("bayesianoptimization", parameters=[lr, bs]).sampler(1)
    history: list[Past] = []
    for _ in range(14):
        proposal = search.propose(history)
        assert proposal is not None
        history.append(Past(proposal.point, proposal.values, True, float(proposal.values["lr"])))
    assert len({tuple(past.values.values()) for past in history}) == 14


def test_models_learn_from_the_first_trials() -> None:
    points = ({"lr": lr} for lr in ("1e-4", "3e-4", "7e-4", "1e-3", "2e-3"))  # the optimum is 5e-4
    trials = played(named("bayesianoptimization", *points, parameters=[LR]).sampler(0), 9)
    assert any(proposal.values["lr"] == pytest.approx(5e-4, rel=0.2) for proposal, _ in trials[5:])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"lr": 1, "bs": 64}]', r"first trial 0: lr=1 is not in \[1e-05, 0.01\]"),
        ('[{"lr": "fast", "bs": 64}]', "lr=fast is not a number"),
        ('[{"lr": 1e-3, "bs": 64.5}]', "bs=64.5 is not one of its values: 32, 33, ... 128"),
        ('[{"lr": 1e-3}]', "it must name every parameter, and bs is missing"),
        (
            '[{"lr": 1e-3, "bs": 64, "ls": 1}]',
            r"ls is not a parameter of the search space \(lr, bs\)",
        ),
        ('[{"lr": 1e-3, "bs": true}]', "bs must be a number or a text, got True"),
        (
            '[{"lr": 1e-3, "bs": 64}, {"bs": "64", "lr": "0.001"}]',
            "first trial 1: it repeats first trial 0",
        ),
        ('{"lr": 1e-3}', "must be a JSON list of objects, one for each trial"),
        ("[lr]", "must be a JSON list of objects: "),
        ("[" * 100_000, "must be a JSON list of objects: it is nested too deeply"),
        ('[{"lr": 1, "lr": 2, "bs": 64}]', "lr is listed twice; remove one"),
        (f'[{{"lr": 1{"0" * 400}, "bs": 64}}]', "first trial 0: lr=inf is not in"),
        (f'[{{"lr": "{"x" * 400}", "bs": 64}}]', r"lr=x{57}\.\.\. is not a number$"),
        ('[{"lr": 1, "bs": 64, "a\\nb": 1}]', r"'a\\nb' is not a parameter"),
        ('[{"lr": "\\ud800", "bs": 64}]', r"lr='\\ud800' is not a number"),
        (" " * 300_000, "it has 300000 characters, and Kubernetes allows 262144"),
    ],
)
def test_first_trials_outside_the_space_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        replaced(experiment("random"), first_trials=text).sampler(0)


def replaced(what: Any, **settings: str) -> Any:
    return replace(
        what, algorithm=replace(what.algorithm, settings={**what.algorithm.settings, **settings})
    )


@pytest.mark.parametrize(
    "algorithm", ["random", "tpe", "multivariate-tpe", "bayesianoptimization", "sobol", "grid"]
)
def test_finite_space_is_searched_once_and_then_ends(algorithm: str) -> None:
    lr = {
        "name": "lr",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["1e-4", "5e-4", "5e-3"]},
    }
    bs = {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "4"}}
    trials = played(experiment(algorithm, parameters=[lr, bs], trials=12).sampler(1), 50)
    assert len(trials) == 12
    assert len({tuple(p.values.values()) for p, _ in trials}) == 12


def test_grid_ends_the_study_by_itself(tmp_path: Path) -> None:
    result = run(tmp_path, experiment("grid", trials=None), workers=2)
    assert (result.state, len(result.trials)) == (StudyState.SUCCEEDED, 9)
    assert result.reason == "all 9 points of the space have been tried"


def test_tpe_leaves_a_region_that_fails() -> None:
    """Trials above 3e-3 fail; half of the log range of this space. Katib's tpe, never told, put 15 of 20 there."""
    lr = {**LR, "feasibleSpace": {"min": "1e-4", "max": "9e-2", "distribution": "logUniform"}}
    trials = played(experiment("tpe", parameters=[lr]).sampler(1), 30)
    assert sum(value is None for _, value in trials[:10]) >= 3
    assert sum(value is None for _, value in trials[15:]) <= 3


def test_bayesianoptimization_finds_the_optimum() -> None:
    trials = played(experiment("bayesianoptimization", parameters=[LR]).sampler(0), 11)
    best = min((value, p.values["lr"]) for p, value in trials if value is not None)
    assert best[1] == pytest.approx(5e-4, rel=0.5)


@pytest.mark.parametrize("name", ["enas", "darts"])
def test_unsupported_algorithms_name_the_supported_ones(name: str) -> None:
    what = experiment()
    with pytest.raises(
        UnsupportedError, match=f"{name} does not run locally; these do: grid, random, tpe"
    ):
        replace(what, algorithm=replace(what.algorithm, name=name)).sampler(0)


@pytest.mark.parametrize(
    ("algorithm", "setting", "value"),
    [
        ("bayesianoptimization", "base_estimator", "RF"),
        ("bayesianoptimization", "acq_func", "gp_hedge"),
        ("bayesianoptimization", "acq_optimizer", "sampling"),
        ("cmaes", "restart_strategy", "ipop"),
    ],
)
def test_setting_without_an_equal_is_refused_by_name(
    algorithm: str, setting: str, value: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"{setting}={value} of {algorithm}"):
        replaced(experiment(algorithm), **{setting: value}).sampler(0)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("tpe", {"gamma": "0.5", "prior_weight": "2.0", "n_EI_candidates": "5"}),
        ("multivariate-tpe", {"n_startup_trials": "2", "n_ei_candidates": "3"}),
        ("bayesianoptimization", {"n_initial_points": "2"}),
        ("cmaes", {"sigma": "0.05"}),
    ],
)
def test_settings_change_the_proposals(algorithm: str, settings: dict[str, str]) -> None:
    count = {"tpe": 16, "bayesianoptimization": 5}.get(algorithm, 10)
    plain, set_ = (
        played(replaced(experiment(algorithm), **s).sampler(5), count) for s in ({}, settings)
    )
    assert [p.values for p, _ in plain] != [p.values for p, _ in set_]


def test_hyperband_stops_trials_early_and_keeps_the_best(tmp_path: Path) -> None:
    args = [*ARGS, "--reports=${trialParameters.epochs}"]
    results = [
        run(tmp_path / str(n), experiment("hyperband", args=args, trials=18), workers=n, seed=7)
        for n in (1, 3)
    ]
    assert table(results[0]) == table(results[1])
    states = [trial.state for trial in results[0].trials]
    assert 3 <= states.count(TrialState.EARLY_STOPPED) <= 15
    assert all(trial.parameters["epochs"] == EPOCHS_WHOLE for trial in results[0].trials)
    assert results[0].best is not None
    assert results[0].best.state is TrialState.SUCCEEDED


EPOCHS_WHOLE = int(EPOCHS["feasibleSpace"]["max"])


def test_medianstop_does_not_depend_on_stop_latency(tmp_path: Path) -> None:
    what = experiment(
        args=[*ARGS, "--reports=6"],
        trials=14,
        early_stopping={"start_step": "2", "min_trials_required": "3"},
    )
    results = [run(tmp_path / str(n), what, workers=n) for n in (1, 3)]
    assert table(results[0]) == table(results[1])
    stopped = [trial for trial in results[0].trials if trial.state is TrialState.EARLY_STOPPED]
    assert stopped
    # what was printed after the cut does not count
    assert all(-trial.metrics["loss"] < 5 for trial in stopped)


def test_stop_factors_do_not_depend_on_workers(tmp_path: Path) -> None:
    what = extended(experiment(args=[*ARGS, "--reports=6"], trials=14), '{"2": 1.5, "4": 1.2}')
    results = [run(tmp_path / str(n), what, workers=n) for n in (1, 3)]
    assert table(results[0]) == table(results[1])
    stopped = [trial for trial in results[0].trials if trial.state is TrialState.EARLY_STOPPED]
    assert stopped
    # what was printed after the cut does not count
    assert all(-trial.metrics["loss"] < 5 for trial in stopped)
    assert results[0].best is not None
    assert results[0].best.state is TrialState.SUCCEEDED


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (experiment(early_stopping={}), "stop factors and earlyStopping cannot both stop trials"),
        (experiment("hyperband"), "leave earlyStopping and stop factors out"),
    ],
)
def test_stop_factors_exclude_other_early_stopping(what: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        rules(extended(what, '{"2": 1.5}'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "must be a JSON object, such as .*: it is nested too deeply"),
        ('{"4": 1.5, "4": 1.6}', "4 is listed twice; remove one"),
        ('{"04": 1.5}', "must be a whole number from 1 to 999999999, got 04"),
        (f'{{"{"9" * 5000}": 1.5}}', "must be a whole number from 1 to 999999999"),
        ('{"4": "1.5"}', "must be a number above 1, got the text 1.5"),
        (f'{{"4": 1{"0" * 400}}}', "must be a number above 1, got inf"),
    ],
)
def test_unusable_stop_factors_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        stop_factors(text)


def test_annotation_wins_over_a_copied_setting() -> None:
    """A manifest that was read from a cluster holds the setting of its first submit, too."""
    what = named("random", NAMED, {**NAMED, "bs": "32"})
    copied = replaced(what, first_trials=to_text([NAMED]))
    assert played(copied.sampler(3), 4) == played(what.sampler(3), 4)


def extended(what: Any, factors: str) -> Any:
    metadata = {**what.document["metadata"], "annotations": {"gan-tuner/stop-factors": factors}}
    return from_document({**what.document, "metadata": metadata})


def test_random_and_grid_import_no_optuna() -> None:
    code = (
        "import sys; from tests.tuner.experiments import experiment; from tuner.samplers import sampler\n"
        "for name in ('random', 'grid'): assert experiment(name).sampler(0).propose([])\n"
        "print(sorted({'optuna', 'torch', 'scipy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_settings_are_those_of_katib() -> None:
    for name, row in ALGORITHMS.items():
        assert set(row.settings) <= set(SETTINGS[name]) - {SEED_SETTING}, name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_documentation_lists_every_setting(algorithm: str) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "algorithms.md").read_text(
        encoding="utf-8"
    )
    row = next(line for line in page.splitlines() if line.startswith(f"| `{algorithm}` |"))
    honoured = row.split(" | ")[3]
    assert set(re.findall(r"`(\w+)[`:]", honoured)) >= set(ALGORITHMS[algorithm].settings)


@pytest.mark.parametrize("algorithm", ["random", "tpe", "cmaes", "sobol"])
def test_range_beyond_the_largest_number_is_refused(algorithm: str) -> None:
    wide = Double("lr", -1.7e308, 1.7e308)
    with pytest.raises(UnsupportedError, match="max - min of lr exceeds the largest number"):
        sampler(algorithm, {}, [wide], seed=0)


@pytest.mark.parametrize("step", [None, 1e-320])
def test_grid_without_a_usable_step_is_refused(step: float | None) -> None:
    with pytest.raises(UnsupportedError, match=r"lr has no step, or one that gives more than 10,0"):
        sampler("grid", {}, [Double("lr", 0.0, 1.0, step)], seed=0)
