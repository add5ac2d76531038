"""Whatever a manifest is turned into, `check` and `load` answer with problems or one line, never with a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tuner import manifest
from tuner.check import Severity, check_data
from tuner.errors import ManifestError
from tuner.katib import yamlfile

CLEAN = (Path(__file__).parents[1] / "data" / "clean.yaml").read_bytes()
DOCUMENT: dict[str, Any] = yamlfile.parse(CLEAN, "clean.yaml")[0].value
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["", "0", "-1", "1e999", "nan", "9" * 5000, "1_0", " 1", "${trialParameters.lr}", "sh", "-c", "grid", "tpe",
                     "hyperband", "cmaes", "double", "int", "categorical", "StdOut", "JSON", "((((", "logUniform", "Experiment"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
QUICK = settings(
    max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def paths(value: Any, path: yamlfile.Path = ()) -> list[yamlfile.Path]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(below for key, item in items for below in paths(item, (*path, key)))]


PATHS = paths(DOCUMENT)[1:]


def survives(data: bytes) -> None:
    problems = check_data(data, "m.yaml")
    for problem in problems:
        assert "\n" not in str(problem)
    try:
        experiment = manifest.choose(yamlfile.parse(data, "m.yaml"), "m.yaml")
    except ManifestError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right, neither may be a mess
    else:
        assert not [problem for problem in problems if problem.severity is Severity.ERROR]
        assert experiment.parameters


@QUICK
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
@example([(("spec", "parameters", 0, "feasibleSpace", "min"), "9" * 5000)])
@example([(("spec", "parameters", 1, "feasibleSpace", "max"), "9" * 5000)])
@example([(("spec", "maxTrialCount"), 10**400)])
@example([(("spec", "trialTemplate", "trialSpec", "kind"), ["Job"])])
@example([(("spec", "algorithm", "algorithmName"), "hyperband")])
@example([(("spec", "objective", "additionalMetricNames", 0), None)])
@example([(("apiVersion",), []), (("spec",), [])])
def test_values_replaced_anywhere(edits: list[tuple[yamlfile.Path, Any]]) -> None:
    document = copy.deepcopy(DOCUMENT)
    for path, value in edits:
        at: Any = document
        try:
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
        except (TypeError, KeyError, IndexError):  # an earlier edit took the place away
            continue
    survives(_dump(document))


def _dump(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=False)
    return text.replace("NaN", ".nan").replace("Infinity", ".inf").encode("utf-8", "replace")


@QUICK
@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=3))
def test_keys_taken_out_anywhere(gone: list[yamlfile.Path]) -> None:
    document = copy.deepcopy(DOCUMENT)
    for path in gone:
        at: Any = document
        try:
            for key in path[:-1]:
                at = at[key]
            del at[path[-1]]
        except (TypeError, KeyError, IndexError):
            continue
    survives(_dump(document))


@QUICK
@given(
    st.integers(0, len(CLEAN)),
    st.integers(0, 40),
    st.binary(max_size=12)
    | st.sampled_from(
        [
            b"\t",
            b"[",
            b"{",
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!x ",
            b"---\n",
            b"...",
            b"? ",
            b": ",
            b"- ",
            b"|",
            b">",
            b"%",
            b"@",
            b'"',
            b"'",
            b"\\",
            b"\xef\xbb\xbf",
            b"\r",
            b"\x85",
        ]
    ),
)
def test_bytes_replaced_anywhere(at: int, length: int, new: bytes) -> None:
    survives(CLEAN[:at] + new + CLEAN[at + length :])
