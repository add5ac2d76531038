"""The first trials of a search: points that the Experiment names, and that run before the algorithm's own.

    annotations:
      gan-tuner/first-trials: '[{"lr": "2e-3", "bs": "64"}]'

Every algorithm except cmaes learns from their results as from those of its own trials. The first of
them is the baseline that a search is compared with (tuner.analysis.gain). Katib ignores the annotation. Our
suggestion service receives the same text as the algorithm setting `first_trials`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuner.errors import UnsupportedError
from tuner.samplers.base import Past, Proposal, Sampler, Search, proposal_of
from tuner.samplers.transform import Dimension, clipped
from tuner.space import Value

FIRST_ANNOTATION = "gan-tuner/first-trials"
FIRST_SETTING = "first_trials"  # of an algorithm, for our suggestion service
# digits; a longer one becomes a float, since conversions of huge integers fail
LONGEST_INTEGER = 18
LONGEST_JSON = 256 * 1024  # characters: the API server refuses annotations of more than 256 KiB
Point = Mapping[str, Value]


class First:
    """A sampler that proposes the first trials, and then what another sampler proposes."""

    def __init__(self, search: Search, sampler: Sampler) -> None:
        self.dimensions, self._first, self._sampler = search.dimensions, search.first, sampler

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Return the point of trial `len(history)`."""
        if len(history) < len(self._first):
            return proposal_of(self.dimensions, self._first[len(history)])
        return self._sampler.propose(history)


def parse(text: str, dimensions: Sequence[Dimension]) -> tuple[Point, ...]:
    """Return the first trials that a text names, with each value as the search space writes it.

    Args:
        text: A JSON list of objects. Each names every parameter; a value is a number or a text.
        dimensions: The search space.

    Raises:
        UnsupportedError: The text is not such a list, or a trial is outside the space or is listed
            twice.
    """
    try:
        listed = read_json(text)
    except ValueError as error:
        raise UnsupportedError(
            f"the first trials must be a JSON list of objects: {error}"
        ) from error
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise UnsupportedError(
            "the first trials must be a JSON list of objects, one for each trial"
        )
    return checked(listed, dimensions)


def checked(
    points: Iterable[Mapping[str, object]], dimensions: Sequence[Dimension]
) -> tuple[Point, ...]:
    """Return `points` with each value as the search space writes it. Raises UnsupportedError like `parse`."""
    found: dict[tuple[Value, ...], Point] = {}
    for number, values in enumerate(points):
        try:
            point = _point(values, dimensions)
            key = tuple(point.values())
            if key in found:
                raise ValueError(f"it repeats first trial {list(found).index(key)}; remove it")
        except ValueError as error:
            raise UnsupportedError(f"first trial {number}: {error}") from error
        found[key] = point
    return tuple(found.values())


def read_json(text: str) -> Any:
    """Return the value of a JSON text that a user wrote. Raises ValueError, also for a name that is listed twice."""
    if len(text) > LONGEST_JSON:
        raise ValueError(
            f"it has {len(text)} characters, and Kubernetes allows {LONGEST_JSON}; shorten it"
        )
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{clipped(name)} is listed twice; remove one")
        found[name] = value
    return found


def left_out(first: Sequence[Point], most: int | None) -> str:
    """Return that a search of `most` trials is too short for its first trials; "" if it is not."""
    if most is None or len(first) <= most:
        return ""
    return f"only {most} of the {len(first)} first trials run, because maxTrialCount is {most}; set it to {len(first)}"


def to_text(points: Sequence[Point]) -> str:
    """Return the JSON text that `parse` reads."""
    return json.dumps([dict(point) for point in points])


def _point(values: Mapping[str, object], dimensions: Sequence[Dimension]) -> Point:
    names = [each.name for each in dimensions]
    if unknown := [name for name in values if name not in names]:
        raise ValueError(
            f"{clipped(unknown[0])} is not a parameter of the search space ({', '.join(names)})"
        )
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"it must name every parameter, and {', '.join(missing)} is missing")
    point: dict[str, Value] = {}
    for each in dimensions:
        value = values[each.name]
        if isinstance(value, bool) or not isinstance(value, float | int | str):
            raise ValueError(f"{each.name} must be a number or a text, got {clipped(str(value))}")
        point[each.name] = each.find(value)
    return point
