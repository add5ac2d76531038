"""`gantune init` from the terminal: a stranger's program becomes a manifest that checks, runs and has a best trial."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tuner.commandline import gantune
from tuner.manifest import load
from tuner.result import Goal
from tuner.space import Discrete, Distribution, Double

ROOT = Path(__file__).resolve().parents[3]
WEIRD = """
import sys
if "--help" in sys.argv:
    print("options:\\n  --lr LR   rate (default: 1e-3)\\n  --loss {ns,wgan}  the loss (default: ns)")
else:
    print(sys.argv[1:], "loss=0.5 val_acc=0.25")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "examples" / "moons.py", tmp_path)
    (tmp_path / "weird.py").write_text(WEIRD)
    return tmp_path


def test_newcomer_gets_a_best_trial(home: Path) -> None:
    drafted = gantune(
        home, "init", "--trials", "4", "python", "moons.py", "--lr", "0.1", "--bs", "32"
    )
    assert drafted.returncode == 0, drafted.stderr
    said = drafted.stderr.splitlines()
    assert said[1].startswith("val_error is read from: epoch=")
    assert said[2].startswith(
        "it is the objective because losses compare only where the loss stays"
    )
    assert said[-1] == "next: gantune run moons.yaml --local"
    checked = gantune(home, "check", "--strict", "moons.yaml")
    assert (checked.returncode, checked.stdout) == (0, "")
    assert len((home / "moons.yaml").read_text().splitlines()) <= 45
    ran = gantune(home, "run", "moons.yaml", "--local")
    assert ran.returncode == 0, ran.stderr
    best = gantune(home, "best", "moons", "--format", "args")
    assert best.stdout.startswith("--lr ")
    first = gantune(home, "status", "moons").stdout
    assert " 0.1 " in first, "the program's own values run first"
    confirmed = gantune(
        home, "confirm", "moons", "--top", "1", "--seeds", "2", "-o", "confirm.yaml"
    )
    assert confirmed.returncode == 0, "the drafted manifest sets the seed that confirm varies"


def test_drafted_manifest_says_what_it_found(home: Path) -> None:
    argv = [
        "init",
        "--tune",
        "lr,weight-decay",
        "--name",
        "two",
        "--",
        "python",
        "moons.py",
        "--lr=0.1",
        "--epochs",
        "3",
    ]
    assert gantune(home, *argv).returncode == 0
    made = load(home / "two.yaml")
    assert (made.objective.metric, made.objective.goal_type) == ("val_error", Goal.MINIMIZE)
    assert made.additional_metrics == ("val_loss",)
    assert made.parameters == (
        Double("lr", 0.01, 1.0, distribution=Distribution.LOG_UNIFORM),
        Double("weight_decay", 1e-5, 1e-3, distribution=Distribution.LOG_UNIFORM),
    )
    assert made.first_trials == ({"lr": 0.1, "weight_decay": 0.0001},)
    container = made.template.spec["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python", "moons.py"]
    assert container["args"] == [
        "--lr=${trialParameters.lr}", "--epochs", "3", "--weight-decay=${trialParameters.weight_decay}", "--seed=0"
    ]  # fmt: skip


def test_odd_words_stay_data(home: Path) -> None:
    odd = ["", "yes", "a b", "'\"$(HOME)#", "ü: {x}", "-1", "0x10", "multi\nline"]
    done = gantune(
        home,
        "init",
        "-o",
        "odd.yaml",
        "--maximize",
        "--",
        "python",
        "weird.py",
        "--lr",
        "0.1",
        *odd,
    )
    assert done.returncode == 0, done.stderr
    made = load(home / "odd.yaml")
    container = made.template.spec["spec"]["template"]["spec"]["containers"][0]
    escaped = [word.replace("$(", "$$(") for word in odd]
    assert container["args"] == ["--lr", "${trialParameters.lr}", *escaped]
    assert made.objective.metric == "val_acc"
    assert made.additional_metrics == ("loss",), "--loss has no number, so loss=0.5 is a metric"
    assert isinstance(made.parameters[0], Double)


def test_flags_of_help_are_used(home: Path) -> None:
    assert gantune(home, "init", "--", "python", "weird.py").returncode == 0
    assert [p.name for p in load(home / "weird.yaml").parameters] == ["lr"]
    done = gantune(home, "init", "--force", "--tune", "loss", "--", "python", "weird.py")
    assert done.returncode == 0, done.stderr
    assert load(home / "weird.yaml").parameters[0].choices == ("ns", "wgan")  # type: ignore[union-attr]


def test_existing_file_is_kept(home: Path) -> None:
    (home / "weird.yaml").write_text("mine")
    done = gantune(home, "init", "--", "python", "weird.py", "--lr", "1")
    assert done.returncode == 2
    assert "weird.yaml exists" in done.stderr
    assert (home / "weird.yaml").read_text() == "mine"
    printed = gantune(home, "init", "-o", "-", "--", "python", "weird.py", "--lr", "1")
    assert printed.stdout.startswith("# Drafted by gantune init from: python weird.py --lr 1\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["python", "weird.py", "--name", "x"], ""),
        (["--metric", "fd", "--", "python", "weird.py"], "prints no metric 'fd'; it prints loss ('[] loss=0.5 val_acc"),
        (["--tune", "bs", "--", "python", "weird.py"], "--tune bs: no flag with a number or listed choices"),
        (["--", "nothing-like-it"], "'nothing-like-it' is not found"),
        (["--", "python", "nope.py"], "failed with exit code 2 before it printed a metric. Its last line is"),
        (["--", "python", "-c", "print(1)"], "has no flag with a number to vary"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(home: Path, argv: list[str], message: str) -> None:
    done = gantune(home, "init", "-o", "-", *argv)
    if message:
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_batch_sizes_are_powers_of_two(home: Path) -> None:
    assert gantune(home, "init", "--", "python", "moons.py", "--bs", "32").returncode == 0
    assert load(home / "moons.yaml").parameters == (Discrete("bs", ("8", "16", "32", "64", "128")),)
