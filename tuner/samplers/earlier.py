"""The trials of an earlier study as a setting of the algorithm, for a warm start on a cluster.

The setting is JSON: {"parameters": ["lr", "bs"], "trials": [["0.002", "64", 3.2], ...]}, each trial
with the texts of its values and its objective. Our suggestion service gives them to the sampler
first, as `gantune run --warm-start` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.errors import UnsupportedError
from tuner.samplers.transform import Dimension
from tuner.space import Value, text

EARLIER_SETTING = "earlier_trials"
# trials: Katib copies the setting into two objects, and etcd stores 1.5 MiB of each
MOST_EARLIER = 200
LONGEST_EARLIER = 100_000  # characters
Scored = tuple[Mapping[str, Value], float]  # the values of a trial, and its objective
Known = tuple[Mapping[str, Any], float]  # a point in the sampler's coordinates, and its objective


def chosen(trials: Sequence[Scored], *, maximize: bool) -> list[Scored]:
    """Return at most MOST_EARLIER trials in their order: the best half, and an even selection of the others."""
    if len(trials) <= MOST_EARLIER:
        return list(trials)
    ranked = sorted(range(len(trials)), key=lambda place: trials[place][1], reverse=maximize)
    half = MOST_EARLIER // 2
    others = ranked[half:]
    kept = {*ranked[:half], *(others[place * len(others) // half] for place in range(half))}
    return [trials[place] for place in sorted(kept)]


def to_text(trials: Sequence[Scored], names: Sequence[str]) -> str:
    """Return the setting. Raises UnsupportedError if it is too long for Katib's objects."""
    rows = [[*(text(values[name]) for name in names), objective] for values, objective in trials]
    written = json.dumps({"parameters": list(names), "trials": rows}, separators=(",", ":"))
    if len(written) > LONGEST_EARLIER:
        raise UnsupportedError(
            f"the earlier trials take {len(written)} characters, and the limit is {LONGEST_EARLIER}: "
            "start the search without --warm-start"
        )
    return written


def parse(written: str, dimensions: Sequence[Dimension]) -> list[Known]:
    """Return the trials of a setting that lie in the search space. Raises UnsupportedError if it cannot be read."""
    try:
        setting: Any = json.loads(written) if len(written) <= LONGEST_EARLIER else None
        rows = [
            (dict(zip(setting["parameters"], row, strict=False)), float(row[-1]))
            for row in setting["trials"]
        ]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise UnsupportedError(
            f'setting {EARLIER_SETTING} must be {{"parameters": [...], "trials": [[values..., objective], ...]}} '
            f"of at most {LONGEST_EARLIER} characters"
        ) from None
    known: list[Known] = []
    for values, objective in rows[:MOST_EARLIER]:
        try:
            point = {each.name: each.encode(values[each.name]) for each in dimensions}
        except (KeyError, ValueError, TypeError):
            continue
        if math.isfinite(objective):
            known.append((point, objective))
    return known
