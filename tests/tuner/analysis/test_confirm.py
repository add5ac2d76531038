"""The best trials are trained again on new seeds, and what that shows is said in figures and words."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.tuner import commandline
from tests.tuner import experiments as made
from tuner import manifest
from tuner.analysis import gain
from tuner.analysis.confirm import confirm, experiments, study_name, top
from tuner.check import check_file
from tuner.errors import CommandError, UnsupportedError
from tuner.experiment.command import build
from tuner.experiment.model import Experiment
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState
from tuner.store.studies import EngineKind, Store

ROOT = Path(__file__).resolve().parents[3]
BEST = Trial(7, "study-7", TrialState.SUCCEEDED, {"lr": 1e-3, "bs": 64}, {"fd": 2.0})
NOISY = """
import random, sys
lr, seed = float(sys.argv[1].split("=")[1]), int(sys.argv[2].split("=")[1])
print(f"fd={1000 * lr + random.Random(seed).gauss(0, 0.01)!r}")
"""


def study(*values: float | None, goal: Goal = Goal.MINIMIZE, same: bool = False) -> Result:
    """A study with one trial for each value of fd."""
    trials = tuple(
        Trial(
            number,
            f"study-{number}",
            TrialState.FAILED if value is None else TrialState.SUCCEEDED,
            {"lr": 0.0 if same else float(number)},
            {} if value is None else {"fd": value},
        )
        for number, value in enumerate(values)
    )
    return Result("study", StudyState.SUCCEEDED, Objective("fd", goal, seed_noise=0.04), trials)


def container(experiment: Experiment) -> dict[str, Any]:
    held: dict[str, Any] = experiment.template.spec["spec"]["template"]["spec"]["containers"][0]
    return held


def test_takes_the_best_distinct_trials() -> None:
    assert [trial.number for trial in top(study(3, None, 1, 2, math.inf), 2)] == [2, 3]
    assert [trial.number for trial in top(study(3, None, 1, 2, goal=Goal.MAXIMIZE), 2)] == [0, 3]
    assert [trial.number for trial in top(study(3, 1, 2, same=True), 3)] == [1]


@pytest.mark.parametrize(
    ("args", "seeds"),
    [
        (["--seed=4"], "--seed={}"),
        (["--seed", "4"], "--seed {}"),
        (["--random-seed=4", "--x"], "--random-seed={} --x"),
        (["-seed", "4"], "-seed {}"),
        (["trainer.seed=4"], "trainer.seed={}"),
    ],
)
def test_varies_the_seed_of_the_manifest(args: list[str], seeds: str) -> None:
    what = manifest.from_document(
        made.document(args=[*made.ARGS, *args], goal=1.0, early_stopping={"start_step": "2"})
    )
    (again,) = experiments(what, [BEST], 3)
    assert again.name == "study-confirm-7"
    assert (again.algorithm.name, again.max_trials, again.early_stopping, again.objective.goal) == (
        "grid",
        3,
        None,
        None,
    )
    assert [str(value) for value in again.parameters[0].choices] == ["5", "6", "7"]  # type: ignore[union-attr]
    command = build(again, "t", {"seed": "6"})
    assert " ".join(command.argv[3:]) == f"--lr=0.001 --bs=64 {seeds.format(6)}"


def test_varies_a_seed_in_a_script_or_variable() -> None:
    script = [
        "sh",
        "-c",
        "cd /tmp && python train.py --lr ${trialParameters.lr} --seed 12 | tee log",
    ]
    (again,) = experiments(
        manifest.from_document(made.document(command=script, args=[])), [BEST], 2
    )
    assert (
        container(again)["command"][2]
        == "cd /tmp && python train.py --lr 0.001 --seed ${trialParameters.seed} | tee log"
    )
    env = {"env": [{"name": "RANDOM_SEED", "value": "0"}]}
    (again,) = experiments(manifest.from_document(made.document(container=env)), [BEST], 2)
    assert build(again, "t", {"seed": "1"}).env["RANDOM_SEED"] == "1"


@pytest.mark.parametrize("value", ["$(touch X)", "a; touch X", "it's"])
def test_value_that_could_be_code_is_refused(value: str) -> None:
    """In the next manifest it would be the manifest's own text, which nothing checks any more."""
    winner = replace(BEST, parameters={"lr": value, "bs": 64})
    for line in (
        ["sh", "-c", "train --lr ${trialParameters.lr} --seed=0"],
        ["train --lr ${trialParameters.lr} --seed=0"],
    ):
        what = manifest.from_document(made.document(command=line, args=[]))
        with pytest.raises(CommandError, match=r"the value .* of parameter lr could be code"):
            experiments(what, [winner], 2)
    what = manifest.from_document(made.document(args=["--lr=${trialParameters.lr}", "--seed=0"]))
    assert experiments(what, [winner], 2)[0].template.spec is not what.template.spec


def test_manifest_without_seed_is_refused() -> None:
    what = manifest.from_document(made.document(args=[*made.ARGS, "--seedling=3", "--seed=x"]))
    with pytest.raises(UnsupportedError, match=r"sets no seed that could vary.*--seed-flag=--seed"):
        experiments(what, [BEST], 2)
    (again,) = experiments(what, [BEST], 2, "--seed")
    assert container(again)["args"][-1] == "--seed=${trialParameters.seed}"
    assert sum(word.startswith("--seed=") for word in container(again)["args"]) == 1


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_manifest_can_be_confirmed(path: Path) -> None:
    what = manifest.load(path)
    values = {p.name: p.choices[0] if hasattr(p, "choices") else p.low for p in what.parameters}
    (again,) = experiments(what, [replace(BEST, parameters=values)], 5)
    built = build(again, "t", {"seed": "3"})
    assert "--seed=3" in built.argv
    assert "${" not in " ".join(built.argv)
    assert (again.first_trials, again.stop_factors) == ((), ())  # each training runs to its end


def test_clear_lead_exceeds_noise() -> None:
    searched = study(1.0, 1.1)
    found = confirm(searched, list(searched.trials), [study(2.0, 2.1, 1.9), study(3.0, 3.1, 2.9)])
    assert found.exceeds_noise
    assert found.sentences() == [
        "trial 0 is best on new seeds: fd 2, mean of 3 seeds with a standard deviation of 0.1",
        "its 1 in the search was partly luck, as the best of many trials is",
        "trial 1 is 1 behind, which exceeds seed noise (p = 0.00026, Welch's t-test)",
    ]


def test_small_lead_is_noise() -> None:
    searched = study(1.0, 1.1)
    found = confirm(searched, list(searched.trials), [study(2.0, 3.0, None), study(1.0, 3.5)])
    assert not found.exceeds_noise
    assert [each.trial.number for each in found.ranked] == [1, 0]
    assert found.ranked[1].missing == 1
    assert "within seed noise" in found.sentences()[-1]


def test_goal_decides_the_rank() -> None:
    searched = study(0.9, 0.8, goal=Goal.MAXIMIZE)
    found = confirm(searched, list(searched.trials), [study(0.5, 0.6), study(0.7, 0.8)])
    assert [each.trial.number for each in found.ranked] == [1, 0]
    assert found.to_json()["ranked"][0]["values"] == [0.7, 0.8]


def test_one_seed_shows_no_noise() -> None:
    searched = study(1.0, 1.1)
    found = confirm(searched, list(searched.trials), [study(2.0), study(None)])
    assert (math.isnan(found.chance), found.to_json()["p"]) == (True, None)
    assert found.sentences()[0] == "trial 0 is best on new seeds: fd 2, mean of 1 seed"
    two = confirm(searched, list(searched.trials), [study(2.0), study(3.0)])
    assert "use more --seeds" in two.sentences()[-1]
    none = confirm(searched, list(searched.trials), [study(None), study(None)])
    assert none.sentences() == ["no new seed gave a finite fd, so nothing is confirmed"]


def test_runner_up_within_noise_is_named() -> None:
    assert gain.runner_up_sentence(study(3.0, 3.1, 9.0)) == (
        "the runner-up, trial 1 with fd 3.1, is within seed noise (4 %)"
    )
    assert gain.runner_up_sentence(study(3.0, 3.2)) == ""
    assert gain.runner_up_sentence(study(3.0)) == ""
    assert gain.runner_up_sentence(study()) == ""
    assert gain.runner_up_sentence(study(3.0, 3.1, same=True)) == ""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished study of a noisy program."""
    tmp_path = tmp_path_factory.mktemp("confirm")
    (tmp_path / "noisy.py").write_text(NOISY)
    args = ["noisy.py", "--lr=${trialParameters.lr}", "--seed=0"]
    what = made.document("grid", command=["python"], args=args, trials=3, parameters=[made.GRID_LR])
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(what, file)
    assert gantune(tmp_path, "run", "study.yaml", "--local").returncode == 0
    return tmp_path


def gantune(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return commandline.gantune(home, *argv, COLUMNS="120")


def test_confirms_on_this_machine(home: Path) -> None:
    done = gantune(home, "confirm", "study", "--top", "2", "--seeds", "4", "--format", "json")
    assert done.returncode == 0, done.stderr
    shape = json.loads(done.stdout)
    assert shape["exceeds_noise"]
    assert [row["parameters"]["lr"] for row in shape["ranked"]] == ["1e-4", "5e-4"]
    assert all(len(set(row["values"])) == 4 for row in shape["ranked"]), (
        "each seed gives another value"
    )
    assert shape["ranked"][0]["searched"] not in shape["ranked"][0]["values"], (
        "the seed of the search is not used again"
    )
    again = gantune(home, "confirm", "study", "--top", "2", "--seeds", "4")
    assert "exceeds seed noise" in again.stdout
    table = gantune(home, "confirm", "study", "--top", "2", "--show")
    assert "rank  trial" in table.stdout
    assert (
        json.loads(
            gantune(home, "confirm", "study", "--top", "2", "--show", "--format", "json").stdout
        )
        == shape
    )


def test_writes_experiments_for_a_cluster(home: Path) -> None:
    done = gantune(home, "confirm", "study", "--top", "2", "-o", "confirm.yaml")
    assert done.stderr.splitlines()[-1] == "next: kubectl apply -f confirm.yaml"
    assert [p for p in check_file(home / "confirm.yaml") if p.severity.value == "error"] == []
    with (home / "confirm.yaml").open() as file:
        names = [document["metadata"]["name"] for document in YAML(typ="safe").load_all(file)]
    assert names == [
        study_name("study", trial)
        for trial in top(Store(home / ".gantune").of(EngineKind.LOCAL).result("study"), 2)
    ]
    assert gantune(home, "confirm", "study", "-o", "confirm.yaml").returncode == 2


def test_nothing_to_confirm_is_one_line(home: Path) -> None:
    shutil.copy(home / "study.yaml", home / "bad.yaml")
    text = (
        (home / "bad.yaml")
        .read_text()
        .replace("name: study", "name: bad")
        .replace("noisy.py", "failing.py")
    )
    (home / "bad.yaml").write_text(text)
    (home / "failing.py").write_text("raise SystemExit(1)\n")
    assert gantune(home, "run", "bad.yaml", "--local").returncode == 1
    done = gantune(home, "confirm", "bad")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "bad has no trial with a finite fd, so there is none to confirm"
    )
