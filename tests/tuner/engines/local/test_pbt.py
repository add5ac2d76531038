"""Population-based training: trials continue what others left in suggestion_trial_dir."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import BS, CHECKPOINTS, LR, TRIALS, document, experiment, run, table
from tuner import manifest
from tuner.engines.local import LocalEngine
from tuner.engines.local.journal import Journal
from tuner.errors import StudyError, UnsupportedError
from tuner.experiment.model import Experiment
from tuner.result import TrialState
from tuner.samplers import Past
from tuner.samplers.pbt import GENERATION, PARENT
from tuner.store.studies import EngineKind, Store

# The checkpoint is the list of the trials that have trained it, one name in each line.
SCRIPT = f"""
grep -qsx $KATIB_TRIAL_NAME {CHECKPOINTS}lineage || echo $KATIB_TRIAL_NAME >> {CHECKPOINTS}lineage
[ -z "$GATE" ] || while [ ! -e "$GATE" ]; do sleep 0.02; done
echo fd=$(wc -l < {CHECKPOINTS}lineage).${{trialParameters.bs}} lr=${{trialParameters.lr}}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def population(trials: int = 14, **options: Any) -> Experiment:
    return experiment(
        "pbt", command=["sh", "-c"], args=[SCRIPT], trials=trials, parallel=3, **options
    )


def points(root: Path) -> list[Mapping[str, Any]]:
    store = Store(root).of(EngineKind.LOCAL)
    return [
        entry.point
        for entry in Journal(store.folder("study"), identity=store.identity("study")).entries
    ]


def lineage(root: Path, number: int) -> list[str]:
    path = (
        root
        / "local"
        / "study"
        / "trials"
        / f"study-{number}"
        / "mounts"
        / "var-log-katib-checkpoints"
        / "lineage"
    )
    return path.read_text().split()


def check(root: Path, count: int) -> None:
    """Each trial was trained by its ancestors and by itself, once each."""
    seen = points(root)
    assert len(seen) == count
    for number, point in enumerate(seen):
        parent = point[PARENT]
        before = [] if parent is None else lineage(root, parent)
        assert lineage(root, number) == [*before, f"study-{number}"]
        assert (point[GENERATION] == 0) is (parent is None)


def test_trials_continue_their_parents(tmp_path: Path) -> None:
    result = run(tmp_path, population(), workers=2, seed=1)
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 14
    check(tmp_path, 14)
    assert [point[PARENT] for point in points(tmp_path)[:5]] == [None] * 5
    assert max(point[GENERATION] for point in points(tmp_path)) >= 2


def test_killed_search_continues_with_the_same_table(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", population(), workers=1, seed=1)
    gate, root = tmp_path / "gate", tmp_path / "killed"
    held = document("pbt", command=["sh", "-c"], args=[SCRIPT], trials=14, parallel=3)
    (tmp_path / "search.yaml").write_text(json.dumps(held))
    command = [
        sys.executable,
        "-m",
        "tuner",
        "run",
        str(tmp_path / "search.yaml"),
        "--local",
        "--seed=1",
    ]
    env = os.environ | {"PYTHONPATH": str(TRIALS.parents[2]), "GATE": str(gate)}
    client = subprocess.Popen(
        [*command, "--workers=2", "--store", str(root)], env=env, stdout=subprocess.DEVNULL
    )
    path = (
        root
        / "local"
        / "study"
        / "trials"
        / "study-1"
        / "mounts"
        / "var-log-katib-checkpoints"
        / "lineage"
    )
    until = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    client.kill()
    client.wait()
    what = manifest.load(tmp_path / "search.yaml")
    result = list(LocalEngine(Store(root), workers=2).run(what))[-1].result
    assert table(result) == table(whole)
    check(root, 14)


def test_missing_checkpoint_of_a_parent_is_named(tmp_path: Path) -> None:
    script = (
        f"echo 1 > {CHECKPOINTS}file; echo fd=1 # ${{trialParameters.bs}} ${{trialParameters.lr}}"
    )
    what = experiment("pbt", command=["sh", "-c"], args=[script], trials=9, parallel=1)
    engine = LocalEngine(Store(tmp_path), workers=1, seed=1)
    watched = engine.run(what)
    next(event for event in watched if event.trial and event.trial.number == 4)
    for number in range(5):
        path = tmp_path / "local" / "study" / "trials" / f"study-{number}" / "mounts"
        if path.exists():
            path.rename(path.with_name("moved"))
    with pytest.raises(
        StudyError,
        match=r"is gone, which trial \d+ continues: restore it, or start over with --fresh",
    ):
        list(watched)


def test_odd_files_of_a_parent_are_left_out(tmp_path: Path) -> None:
    script = (
        f"[ -e {CHECKPOINTS}kept ] && [ ! -e {CHECKPOINTS}pipe ] && echo loss=1; cd {CHECKPOINTS}; mkdir -p deep; "
        "echo 1 > kept; ln -sf kept link; [ -e pipe ] || mkfifo pipe; "
        "echo fd=1 # ${trialParameters.bs} ${trialParameters.lr}"
    )
    result = run(
        tmp_path,
        experiment("pbt", command=["sh", "-c"], args=[script], trials=9, parallel=1),
        seed=1,
    )
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 9, result.trials[
        -1
    ].reason
    parents = [point[PARENT] for point in points(tmp_path)]
    assert [trial.metrics.get("loss") for trial in result.trials] == [
        None if one is None else 1.0 for one in parents
    ]


def played(
    what: Experiment, count: int, scores: Mapping[int, float | None], lag: int = 1
) -> list[Past]:
    """Propose `count` trials whose results are known after `lag` trials: `scores`, or else their number."""
    history: list[Past] = []
    one = what.sampler(3)
    for number in range(count):
        told = number - lag
        history = [
            Past(past.point, past.values, True, scores.get(i, float(i))) if i <= told else past
            for i, past in enumerate(history)
        ]
        proposal = one.propose(history)
        assert proposal is not None
        history.append(Past(proposal.point, proposal.values))
    return history


def made(parallel: int = 1, **options: Any) -> Experiment:
    return experiment("pbt", trials=99, parallel=parallel, **options)


def test_worst_trials_are_replaced_by_the_best() -> None:
    """fd is minimized: of trials 0 to 4, number 0 is the best and number 4 the worst."""
    history = played(made(), 10, {})
    second = history[5:]
    assert all(past.point[GENERATION] == 1 for past in second)
    assert sorted(past.point[PARENT] for past in second) == [0, 0, 1, 2, 3]
    assert [past.values for past in second if past.point[PARENT] == 0].count(history[0].values) == 1
    for past in second[1:]:
        parent = history[past.point[PARENT]].values
        near = [round(float(parent["bs"]) * factor) for factor in (0.8, 1.2)]
        assert past.values["bs"] in [min(max(number, 32), 128) for number in near]
        ratio = float(past.values["lr"]) / float(parent["lr"])
        assert past.values["lr"] == 1e-2 or min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-4


def test_objective_to_maximize_keeps_the_largest() -> None:
    held = document("pbt", trials=99, parallel=1)
    held["spec"]["objective"]["type"] = "maximize"
    history = played(manifest.from_document(held), 10, {})
    assert sorted(past.point[PARENT] for past in history[5:]) == [1, 2, 3, 4, 4]


def test_failed_trial_is_proposed_again() -> None:
    history = played(made(), 12, {2: None})
    assert history[5].values == history[2].values
    assert history[5].point == {**history[2].point, PARENT: None, GENERATION: 0}
    assert {past.point[PARENT] for past in history[6:11]} <= {0, 1, 3, 4, 5}


def test_further_trials_bridge_missing_results() -> None:
    history = played(made(parallel=4), 20, {}, lag=4)
    # the results of 0 to 4 are there at trial 8
    assert [past.point[PARENT] for past in history[:8]] == [None] * 8
    assert all(past.point[PARENT] is not None for past in history[8:])
    assert len({tuple(past.values.values()) for past in history[:8]}) == 8


def test_values_are_resampled_with_a_probability() -> None:
    never = played(made(settings={"resample_probability": "0"}), 10, {})
    assert all(past.values == never[past.point[PARENT]].values for past in never[5:])
    always = played(made(settings={"resample_probability": "1"}), 10, {})
    kept = [past for past in always[5:] if past.values == always[past.point[PARENT]].values]
    assert len(kept) == 1  # the copy of the best


def test_choices_move_to_a_neighbour() -> None:
    choice = {
        "name": "act",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["a", "b", "c", "d"]},
    }
    history = played(made(parameters=[choice], args=["${trialParameters.act}"]), 10, {})
    for past in history[6:]:
        steps = "abcd".index(str(past.values["act"])) - "abcd".index(
            str(history[past.point[PARENT]].values["act"])
        )
        assert steps % 4 in (1, 3)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_population": "4"}, "n_population"),
        ({"truncation_threshold": "2"}, "truncation_threshold"),
        ({"n_population": "1e9"}, "n_population must be a whole number from 5 to 10000, got '1e9'"),
        ({"n_population": "5.5"}, "n_population must be a whole number"),
        (
            {"suggestion_trial_dir": "relative"},
            "suggestion_trial_dir: an absolute path of a directory",
        ),
        ({"suggestion_trial_dir": "/"}, "suggestion_trial_dir: an absolute path of a directory"),
    ],
)
def test_bad_setting_is_named(settings: dict[str, str], text: str, tmp_path: Path) -> None:
    from dataclasses import replace

    what = made(parameters=[LR, BS])
    changed = replace(
        what, algorithm=replace(what.algorithm, settings={**what.algorithm.settings, **settings})
    )
    with pytest.raises(UnsupportedError, match=text):
        changed.sampler(0)


def test_absolute_links_lead_into_the_copy(tmp_path: Path) -> None:
    """A program may name its last checkpoint by a link; no trial sees the directory of another one."""
    script = f"""
    step=$(($(cat {CHECKPOINTS}last || echo 0) + 1))
    echo $step > {CHECKPOINTS}step-$step
    ln -sfn {CHECKPOINTS}step-$step {CHECKPOINTS}last
    echo fd=$step
    """
    run(tmp_path, experiment("pbt", command=["sh", "-c"], args=[script], trials=7, parallel=1))
    trials = LocalEngine(Store(tmp_path)).result("study").trials
    seen = points(tmp_path)
    for number in (5, 6):
        assert trials[number].metrics["fd"] == trials[seen[number][PARENT]].metrics["fd"] + 1
        folder = (
            tmp_path
            / "local"
            / "study"
            / "trials"
            / f"study-{number}"
            / "mounts"
            / "var-log-katib-checkpoints"
        )
        assert (folder / "last").readlink().parent == folder


def test_checkpoint_that_cannot_be_copied_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("tuner.engines.local.workspace.copy_file", fail)
    with pytest.raises(
        StudyError, match=r"lineage cannot be copied for trial \d+: .*No space left on device"
    ):
        run(tmp_path, population(trials=9))


def test_workers_do_not_change_the_table(tmp_path: Path) -> None:
    one, three = (
        run(tmp_path / str(count), population(), workers=count, seed=4) for count in (1, 3)
    )
    assert table(one) == table(three)
