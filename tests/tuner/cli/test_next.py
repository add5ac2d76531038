"""`gantune next` from the terminal: a finished study gives a manifest that checks, runs and starts from its trials."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.tuner import experiments
from tests.tuner.commandline import gantune
from tuner.manifest import load

ROOT = Path(__file__).resolve().parents[3]
COMMENT = "# written by hand\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished study of 16 trials."""
    folder = tmp_path_factory.mktemp("next")
    (folder / "surface_trial.py").write_bytes(
        (experiments.TRIALS / "surface_trial.py").read_bytes()
    )
    with (folder / "study.yaml").open("w") as file:
        file.write(COMMENT)
        YAML().dump(experiments.document("sobol", trials=16, parallel=4), file)
    assert gantune(folder, "run", "study.yaml", "--local", "--seed", "1").returncode == 0
    return folder


def test_next_search_runs_where_trials_are_better(home: Path) -> None:
    done = gantune(home, "next", "study", "--as", "again", "--force")
    assert done.returncode == 0, done.stderr
    text = (home / "again.yaml").read_text()
    assert text.startswith(COMMENT)
    changes = done.stderr.splitlines()[:-1]
    assert [line for line in changes if line.startswith("shrink lr to [")]
    flat = " ".join(text.replace("#", " ").split())
    assert all(" ".join(change.split()) in flat for change in changes), (
        "each reason is a comment in the file"
    )
    last = done.stderr.splitlines()[-1]
    assert last == "next: gantune run again.yaml --local --warm-start local/study"
    ran = gantune(home, *last.split()[2:], "--max-trials", "6", "--fresh")
    assert ran.returncode == 0, ran.stderr
    means = []
    for name in ("study", "again"):
        trials = json.loads(gantune(home, "status", name, "--format", "json").stdout)["trials"]
        means.append(statistics.fmean(trial["metrics"]["fd"] for trial in trials))
    assert means[1] < means[0]


def test_prints_to_stdout(home: Path) -> None:
    done = gantune(home, "next", "study", "-o", "-")
    assert "  name: study-2\n" in done.stdout
    assert "next: " not in done.stderr
    assert not (home / "study-2.yaml").exists()


def test_keeps_an_existing_file(home: Path) -> None:
    (home / "mine.yaml").write_text("mine")
    done = gantune(home, "next", "study", "-o", "mine.yaml")
    assert (done.returncode, (home / "mine.yaml").read_text()) == (2, "mine")
    assert "mine.yaml exists" in done.stderr


def test_few_trials_change_nothing(home: Path) -> None:
    (home / "two.yaml").write_text(
        (home / "study.yaml").read_text().replace("name: study", "name: two")
    )
    assert gantune(home, "run", "two.yaml", "--local", "--max-trials", "2").returncode == 0
    done = gantune(home, "next", "two", "-o", "two-next.yaml")
    assert "no change: there are too few trials, or they show no trend" in done.stderr
    assert load(home / "two-next.yaml").parameters == load(home / "two.yaml").parameters


def test_unknown_study_is_one_line(home: Path) -> None:
    done = gantune(home, "next", "stduy", "--local")
    assert done.returncode == 2
    assert "no study 'stduy'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
