"""Ranges for `tuner.tune`, with the names of `katib.search` and the keys of Katib's parameters.

    parameters = {"lr": search.double(min=1e-4, max=1e-1, distribution="logUniform"), "bs":
    search.int(min=16, max=128)}

Each function returns an item of spec.parameters without its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, SupportsIndex, TypeAlias

Range: TypeAlias = dict[str, Any]
_Int: TypeAlias = int  # the name is taken below


def double(
    min: float,  # noqa: A002
    max: float,  # noqa: A002
    step: float | None = None,
    *,
    distribution: str = "uniform",
) -> Range:
    """Return a range of floats; `distribution` is uniform, logUniform, normal or logNormal."""
    return _range(
        "double", float(min), float(max), None if step is None else float(step), distribution
    )


def int(min: _Int, max: _Int, step: _Int | None = None, *, distribution: str = "uniform") -> Range:  # noqa: A001, A002
    """Return a range of whole numbers; `distribution` is uniform, logUniform, normal or logNormal."""
    return _range("int", min, max, step, distribution)


def categorical(list: Sequence[object]) -> Range:  # noqa: A002
    """Return a choice. The objective function receives the chosen value as text."""
    return {
        "parameterType": "categorical",
        "feasibleSpace": {"list": [str(value) for value in list]},
    }


def _range(kind: str, low: float, high: float, step: float | None, distribution: str) -> Range:
    space = {"min": _text(low), "max": _text(high), "distribution": distribution}
    space |= {} if step is None else {"step": _text(step)}
    return {"parameterType": kind, "feasibleSpace": space}


def _text(number: float) -> str:
    """Return a number as a manifest has it; whole numbers of other libraries, such as NumPy, have another repr."""
    return repr(index(number)) if isinstance(number, SupportsIndex) else repr(number)
