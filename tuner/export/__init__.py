"""Writes the trials of a study in formats that other tools read.

`FORMATS` is the one table: the command line and its help follow it. To add a format, write a
function and add a row. Values are what the trials received and reported, in full precision.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import UnsupportedError
from tuner.experiment.model import Experiment
from tuner.export import storage
from tuner.result import Result
from tuner.store.curves import Curves

__all__ = ["FORMATS", "Format", "write"]

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the ending of its files, what is in them, and what writes them."""

    suffix: str
    about: str
    write: Callable[[Path, Result, Experiment, Mapping[str, Curves]], None]


def write(
    path: Path, form: str, result: Result, experiment: Experiment, curves: Mapping[str, Curves]
) -> None:
    """Write a study to a new file. Raises UnsupportedError where a package for the format is not installed."""
    FORMATS[form].write(path, result, experiment, curves)


def _csv(path: Path, result: Result, experiment: Experiment, curves: Mapping[str, Curves]) -> None:
    rows = result.records()
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(
            file, list(rows[0]) if rows else ["number", "name", "state"], restval=""
        )
        table.writeheader()
        table.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: `repr` for a float, so that reading it back gives the same number.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets
    do not show (OWASP, CSV injection).
    """
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value if _NUMBER.fullmatch(value) else f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _json(path: Path, result: Result, experiment: Experiment, curves: Mapping[str, Curves]) -> None:
    path.write_text(json.dumps(shape(result, curves), indent=2) + "\n", encoding="utf-8")


def _yaml(path: Path, result: Result, experiment: Experiment, curves: Mapping[str, Curves]) -> None:
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    with path.open("w", encoding="utf-8") as file:
        writer.dump(shape(result, curves), file)


def _parquet(
    path: Path, result: Result, experiment: Experiment, curves: Mapping[str, Curves]
) -> None:
    frame = result.to_dataframe()
    try:
        frame.to_parquet(path, index=False)
    except ImportError as error:
        raise UnsupportedError(
            "parquet needs pyarrow, which is missing: pip install 'gan-tuner[report]'"
        ) from error


def shape(result: Result, curves: Mapping[str, Curves]) -> dict[str, Any]:
    """Return the documented shape of a result (docs/reference/result.md), with the learning curves of each trial."""
    return result.to_json() | {
        "curves": {
            trial.name: {
                metric: [one.value for one in seen] for metric, seen in curves[trial.name].items()
            }
            for trial in result.trials
            if trial.name in curves
        }
    }


FORMATS: Mapping[str, Format] = {
    "csv": Format(".csv", "one row for each trial", _csv),
    "json": Format(".json", "the result, with learning curves", _json),
    "parquet": Format(".parquet", "one row for each trial, with types", _parquet),
    "optuna": Format(".db", "an Optuna storage (SQLite), with learning curves", storage.write),
    "yaml": Format(".yaml", "the result, with learning curves", _yaml),
}
