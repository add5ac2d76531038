"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) as Katib's pbt service runs it.

The first `n_population` trials are random. Once as many trials have results, they make the next
generation. The worst `truncation_threshold` of them are replaced by copies of the best, and the
values of all others are perturbed: a number is multiplied by 0.8 or 1.2, and a choice moves to a
neighbour; with `resample_probability`, a value is drawn anew with this probability instead. While a
generation waits for results, further trials are made from the previous one. A failed trial is
proposed again.

Each trial but the first ones continues an earlier one, its parent: it starts with a copy of what
the parent left in `suggestion_trial_dir` (tuner.engines.local.launcher). The parent is in the
proposal's point.

Differences from Katib's service (pkg/suggestion/v1beta1/pbt/service.py, v0.19):

- A trial that replaces one of the worst continues the best trial that it copies, as in the paper.
Katib gives it the
  values of the best and the checkpoint of the worst.
- A generation is complete with `n_population` results. Katib waits for one more.
- Doubles need no step, every value stays on its grid, and distributions are honoured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import UnsupportedError
from tuner.samplers.base import Past, Proposal, Sampler, Search, derive_seed, proposal_of
from tuner.samplers.transform import Dimension, random_point
from tuner.space import Categorical, Discrete, Value

DIRECTORY_SETTING = "suggestion_trial_dir"
# keys of a point; a parent is the number of a trial
PARENT, GENERATION = "pbt/parent", "pbt/generation"
LARGEST_POPULATION = 10_000  # all of its first values are made at once
_FACTORS = (0.8, 1.2)


def pbt(search: Search) -> Sampler:
    """Return a population-based search."""
    return Population(search)


@dataclass(frozen=True, slots=True)
class _Job:
    """A trial to propose, or that was proposed."""

    values: Mapping[str, Value]
    generation: int = 0
    parent: int | None = None


class _State:
    """Katib's queue of jobs: what waits, what was proposed, and which trials have results."""

    def __init__(self) -> None:
        self.waiting: list[_Job] = []
        self.proposed: list[_Job] = []
        self.previous: list[int] = []
        self.current: list[int] = []


class Population:
    """Plays the search from its start for each proposal, so that the history alone decides.

    Raises UnsupportedError for a setting that is missing or out of its range.
    """

    def __init__(self, search: Search) -> None:
        self.dimensions, self._search = search.dimensions, search
        self._size = int(_setting(search, "n_population", 5, LARGEST_POPULATION, whole=True))
        self._threshold = _setting(search, "truncation_threshold", 0, 1)
        resamples = "resample_probability" in search.settings
        self._resample = _setting(search, "resample_probability", 0, 1) if resamples else None
        directory = search.settings.get(DIRECTORY_SETTING, "")
        if not directory.startswith("/") or not directory.strip("/"):
            raise UnsupportedError(
                f"pbt needs the setting {DIRECTORY_SETTING}: an absolute path of a directory in the container"
            )

    def propose(self, history: Sequence[Past]) -> Proposal:
        """Return the values of trial `len(history)`, and its parent."""
        state, observed = _State(), 0
        for number in range(len(history) + 1):
            for one in range(observed, max(number - self._search.parallel + 1, 0)):
                past = history[one]
                if past.value is not None:
                    state.current.append(one)
                elif past.observed:
                    state.waiting.append(state.proposed[one])
            observed = max(number - self._search.parallel + 1, 0)
            if number < len(self._search.first):
                state.proposed.append(_Job(self._search.first[number]))
                continue
            if not state.waiting:
                seed = derive_seed(self._search.seed, "pbt", number)
                state.waiting += self._next(state, history, number, random.Random(seed))
            state.proposed.append(state.waiting.pop(0))
        job = state.proposed[-1]
        found = proposal_of(self.dimensions, job.values)
        found.point.update({GENERATION: job.generation, PARENT: job.parent})
        return found

    def _next(
        self, state: _State, history: Sequence[Past], number: int, rng: random.Random
    ) -> list[_Job]:
        """Return the next generation if the current one is complete, else one more trial."""
        missing = self._size - number
        if missing > 0:
            return [self._random(rng) for _ in range(missing)]
        if len(state.current) >= self._size:
            state.previous, state.current, count = state.current, [], self._size
        elif state.previous:
            count = 1
        else:
            return [self._random(rng)]
        return self._generation(state, history, count, rng)

    def _generation(
        self, state: _State, history: Sequence[Past], count: int, rng: random.Random
    ) -> list[_Job]:
        """Return up to `count` trials that continue those of `state.previous`."""
        sign = 1 if self._search.maximize else -1
        scores = {number: sign * (history[number].value or 0.0) for number in state.previous}
        low, high = (
            _quantile(sorted(scores.values()), q) for q in (self._threshold, 1 - self._threshold)
        )
        worst = [number for number, score in scores.items() if score < low]
        others = [number for number in scores if number not in worst]
        best = [number for number in others if scores[number] >= high] or [
            max(scores, key=scores.__getitem__)
        ]
        rng.shuffle(worst)
        rng.shuffle(others)
        worst = worst[: int(count * self._threshold)]
        jobs = []
        for number in worst:
            copied = rng.choice(best)
            generation = state.proposed[number].generation + 1
            jobs.append(_Job(state.proposed[copied].values, generation, copied))
        for number in others[: count - len(worst)]:
            job = state.proposed[number]
            values = {
                each.name: self._explored(each, job.values[each.name], rng)
                for each in self.dimensions
            }
            jobs.append(_Job(values, job.generation + 1, number))
        return jobs

    def _random(self, rng: random.Random) -> _Job:
        return _Job(random_point(self.dimensions, rng))

    def _explored(self, dimension: Dimension, value: Value, rng: random.Random) -> Value:
        """Return a value for a trial that continues one with `value`."""
        if self._resample is not None:
            return dimension.at(rng.random()) if rng.random() < self._resample else value
        if isinstance(dimension.parameter, Categorical | Discrete):
            listed = list(dimension.values or ())
            return listed[(listed.index(value) + rng.choice((-1, 1))) % len(listed)]
        return _nearest(dimension, float(value) * rng.choice(_FACTORS))


def _nearest(dimension: Dimension, number: float) -> Value:
    """Return the value of a numeric dimension that is nearest to a number."""
    values = dimension.values
    if values is None:
        inside = min(max(number, dimension.parameter.low), dimension.parameter.high)  # type: ignore[union-attr]
        return dimension.value(dimension.encode(inside))
    step = float(values[1]) - float(values[0]) if len(values) > 1 else 1.0
    return values[min(max(round((number - float(values[0])) / step), 0), len(values) - 1)]


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile with linear interpolation, as numpy.quantile does."""
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _setting(search: Search, name: str, low: float, high: float, *, whole: bool = False) -> float:
    text = search.settings.get(name, "")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high or (whole and not number.is_integer()):
        kind = "whole number" if whole else "number"
        raise UnsupportedError(
            f"pbt: {name} must be a {kind} from {low:g} to {high:g}, got {text[:40]!r}"
        )
    return number
