"""What other tools read back from an export is what the trials received and reported."""

from __future__ import annotations

import csv
import json
import math
import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import optuna
import pandas
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ruamel.yaml import YAML

from tests.tuner import experiments, samples
from tests.tuner.commandline import gantune
from tuner.export import FORMATS, write
from tuner.export.storage import distribution
from tuner.result import Observation, Result, TrialState
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value
from tuner.store.curves import Curves

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = samples.experiment(["x"])


def curves_of(result: Result) -> dict[str, Curves]:
    """Three reports of fd for each trial that has one."""
    return {
        trial.name: {
            "fd": tuple(Observation("fd", trial.metrics["fd"] * factor) for factor in (3, 2, 1))
        }
        for trial in result.trials
        if trial.metrics
    }


def exported(folder: Path, form: str, result: Result) -> Path:
    path = folder / f"study{FORMATS[form].suffix}"
    write(path, form, result, EXPERIMENT, curves_of(result))
    return path


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{path}")


def test_optuna_has_real_values(tmp_path: Path) -> None:
    result = samples.search(20)
    study = loaded(exported(tmp_path, "optuna", result))
    for theirs, ours in zip(study.get_trials(), result.trials, strict=True):
        expected = {**ours.parameters, "beta1": float(str(ours.parameters["beta1"]))}
        assert theirs.params == expected
        assert theirs.user_attrs["state"] == ours.state.value
        assert theirs.user_attrs["name"] == ours.name
        assert theirs.datetime_start is not None
        assert theirs.datetime_start.astimezone(UTC) == ours.started
        assert theirs.duration is not None
        assert theirs.duration.total_seconds() == 10
        if ours.state is TrialState.SUCCEEDED:
            assert theirs.value == ours.metrics["fd"]
            assert theirs.intermediate_values == {n: ours.metrics["fd"] * (3 - n) for n in range(3)}
            assert theirs.user_attrs["loss"] == ours.metrics["loss"]
        else:
            assert theirs.state is optuna.trial.TrialState.FAIL
            assert theirs.user_attrs["reason"] == ours.reason
    assert result.best is not None
    assert study.best_trial.number == result.best.number
    assert study.metric_names == ["fd"]
    assert optuna.importance.get_param_importances(study)


def test_journal_holds_the_same_study(tmp_path: Path) -> None:
    result = samples.search(6)
    write(tmp_path / "study.journal", "optuna", result, EXPERIMENT, curves_of(result))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    same = loaded(exported(tmp_path, "optuna", result)).get_trials()
    assert [(t.params, t.values, t.intermediate_values, t.state) for t in study.get_trials()] == [
        (t.params, t.values, t.intermediate_values, t.state) for t in same
    ]


def test_bulk_rows_equal_those_of_optuna(tmp_path: Path) -> None:
    result = samples.search(20)
    seen = curves_of(result)
    odd = {
        "fd": tuple(Observation("fd", value) for value in (math.nan, math.inf, -math.inf, 1e300))
    }
    seen[result.trials[0].name] = odd
    write(tmp_path / "study.db", "optuna", result, EXPERIMENT, seen)
    ours = loaded(tmp_path / "study.db")
    theirs = optuna.create_study(study_name="study", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    theirs.add_trials(ours.get_trials())
    for table in (
        "trials",
        "trial_values",
        "trial_params",
        "trial_user_attributes",
        "trial_intermediate_values",
    ):
        with (
            closing(sqlite3.connect(tmp_path / "study.db")) as one,
            closing(sqlite3.connect(tmp_path / "optuna.db")) as two,
        ):
            read = [base.execute(f"select * from {table}").fetchall() for base in (one, two)]
        # without their own ids
        rows = [sorted((row[1:] for row in found), key=repr) for found in read]
        assert rows[0], table
        assert rows[0] == rows[1], table
    ours.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    assert ours.get_trials()[-1].number == 20


@pytest.mark.parametrize("state", list(TrialState))
def test_every_state_is_stored(tmp_path: Path, state: TrialState) -> None:
    value = 3.0 if state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED) else None
    result = samples.result(samples.trial(0, state, value, lr=1e-3, bs=64, loss="ns", beta1="0.5"))
    (theirs,) = loaded(exported(tmp_path, "optuna", result)).get_trials()
    names = {
        "Succeeded": "COMPLETE",
        "EarlyStopped": "PRUNED",
        "Running": "RUNNING",
        "Waiting": "WAITING",
    }
    assert theirs.state.name == names.get(state.value, "FAIL")


LOG = Distribution.LOG_UNIFORM


@pytest.mark.parametrize(
    ("parameter", "values", "expected"),
    [
        (
            Double("x", 1e-5, 1e-2, distribution=LOG),
            [1e-3],
            FloatDistribution(1e-5, 1e-2, log=True),
        ),
        (
            Double("x", 0.0, 1.0, distribution=Distribution.NORMAL),
            [0.5],
            FloatDistribution(0.0, 1.0),
        ),
        (Double("x", 0.0, 1.0, step=0.3), [0.3], FloatDistribution(0.0, 0.9, step=0.3)),
        (Double("x", 0.0, 1.0, step=0.3), [0.4], FloatDistribution(0.0, 1.0)),
        (Double("x", 0.0, 1.0), [1.0000001], FloatDistribution(0.0, 1.0000001)),
        (Int("x", 32, 128), [64], IntDistribution(32, 128)),
        (Int("x", 10, 25, step=10), [20], IntDistribution(10, 20, step=10)),
        (Int("x", 10, 25, step=10), [15], IntDistribution(10, 25)),
        (Int("x", 1, 64, distribution=LOG), [8], IntDistribution(1, 64, log=True)),
        (Int("x", 32, 128), [129], IntDistribution(32, 129)),
        (Categorical("x", ("a", "1")), ["1"], CategoricalDistribution(("a", "1"))),
        (Discrete("x", ("64", "32", "0.5")), ["32"], CategoricalDistribution((0.5, 32, 64))),
    ],
    ids=str,
)
def test_distribution_holds_all_values(
    parameter: Parameter, values: list[Value], expected: BaseDistribution
) -> None:
    assert distribution(parameter, values) == expected


def test_csv_reads_back_exactly(tmp_path: Path) -> None:
    result = samples.search(10)
    with exported(tmp_path, "csv", result).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [trial.state.value for trial in result.trials]
    for row, trial in zip(rows, result.trials, strict=True):
        assert float(row["parameters.lr"]) == trial.parameters["lr"]
        assert row["parameters.loss"] == trial.parameters["loss"]
        assert row["metrics.fd"] == (repr(trial.metrics["fd"]) if trial.metrics else "")
        assert row["reason"] == trial.reason


FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x")',
    "--amp",
    "-",
]
TEXTS = ["-0.5", "+1e-3", "-1E+05", "-.5", "1-1", "a=b", "relu", "", " =1"]


@pytest.mark.parametrize("value", [*FORMULAS, *TEXTS])
def test_csv_holds_no_formulas(tmp_path: Path, value: str) -> None:
    """A parameter's value and a reason of failure are text that others may have written."""
    trial = replace(samples.trial(0, TrialState.FAILED, lr=-0.5, act=value), reason=value)
    with exported(tmp_path, "csv", samples.result(trial)).open(newline="") as file:
        (row,) = csv.DictReader(file)
    shown = f"'{value}" if value in FORMULAS else value
    assert (row["parameters.act"], row["reason"], row["parameters.lr"]) == (shown, shown, "-0.5")


def test_parquet_keeps_types(tmp_path: Path) -> None:
    result = samples.search(10)
    frame = pandas.read_parquet(exported(tmp_path, "parquet", result))
    assert len(frame) == 10
    assert str(frame["parameters.bs"].dtype) == "int64"
    assert math.isnan(frame["metrics.fd"][6])
    assert frame["started"][1].to_pydatetime() == result.trials[1].started
    assert frame["metrics.fd"].min() == result.best.metrics["fd"]  # type: ignore[union-attr]


def test_json_and_yaml_agree(tmp_path: Path) -> None:
    result = samples.search(8)
    shape = json.loads(exported(tmp_path, "json", result).read_text())
    assert YAML(typ="safe").load(exported(tmp_path, "yaml", result)) == shape
    assert Result.from_json(shape) == result
    assert shape["curves"][result.trials[0].name]["fd"][2] == result.trials[0].metrics["fd"]
    assert result.trials[6].name not in shape["curves"]


def test_every_format_takes_an_empty_study(tmp_path: Path) -> None:
    for form in FORMATS:
        assert exported(tmp_path, form, samples.result()).exists()


def test_dataframe_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Exception, match=r"pip install 'gan-tuner\[report\]'"):
        samples.search(3).to_dataframe()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished study that reports three times."""
    tmp_path = tmp_path_factory.mktemp("export")
    (tmp_path / "surface_trial.py").write_bytes(
        (experiments.TRIALS / "surface_trial.py").read_bytes()
    )
    what = experiments.document("random", trials=3, args=[*experiments.ARGS, "--reports=3"])
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(what, file)
    assert gantune(tmp_path, "run", "study.yaml", "--local").returncode == 0
    return tmp_path


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "GANTUNE_STORE"}
    return env | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_exports_a_local_study(home: Path) -> None:
    done = gantune(home, "export", "study", "--to", "optuna")
    assert (
        done.stderr
        == "study.db: 3 trials of study, an Optuna storage (SQLite), with learning curves\n"
    )
    trials = loaded(home / "study.db").get_trials()
    assert all(
        32 <= trial.params["bs"] <= 128 and 1e-5 <= trial.params["lr"] <= 1e-2 for trial in trials
    )
    assert [list(trial.intermediate_values) for trial in trials] == [[0, 1, 2]] * 3
    again = gantune(home, "export", "study", "--to", "optuna")
    assert (again.returncode, "study.db exists" in again.stderr) == (2, True)
    assert gantune(home, "export", "study", "--to", "optuna", "--force").returncode == 0
    assert len(loaded(home / "study.db").get_trials()) == 3


def test_unwritable_file_is_one_line(home: Path) -> None:
    done = gantune(home, "export", "study", "--to", "optuna", "-o", "missing/study.db")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "missing/study.db" in done.stderr
    if Path("/dev/full").exists():
        (home / "full.db").symlink_to("/dev/full")
        done = gantune(home, "export", "study", "--to", "optuna", "-o", "full.db", "--force")
        assert done.returncode == 0, "the link is replaced, not followed"


def test_value_outside_the_range_is_kept(tmp_path: Path) -> None:
    odd = samples.trial(
        0, TrialState.SUCCEEDED, 1.0, lr=0.010000000001, bs=64, loss="ns", beta1="0.5"
    )
    (theirs,) = loaded(exported(tmp_path, "optuna", samples.result(replace(odd)))).get_trials()
    assert theirs.params["lr"] == 0.010000000001
