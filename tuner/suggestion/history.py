"""Rebuilds the history that is visible to the sampler at each trial.

Trial k is proposed once the trials up to k - parallelTrialCount are observed, as in the local
engine. Those that have not finished yet count as running. So both engines give the same points if
trials finish in the order of their numbers.

Katib does not send every trial. One without metrics is left out, and a new one may not be listed
yet. Such a trial counts as one without a value. Its point is remembered by the process, or found by
its fingerprint in a small space, or else proposed again from the earlier trials. That gives the
same point if these finished in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.samplers import Past, Sampler
from tuner.samplers.transform import Dimension, point, size
from tuner.space import Value, text
from tuner.suggestion.identity import Identity, mark_of
from tuner.suggestion.request import MOST_TRIALS, Record, decoded

# missing trials of one request whose points are computed again; each may take a second
PROPOSED_AGAIN = 32
# points of a space that are all compared with a fingerprint, which takes half a second
SMALL = 20_000
MOST_SEARCHES = 8  # that one process remembers; Katib starts one process for each Experiment
Values = Mapping[str, Value]


def texts_of(values: Values) -> dict[str, str]:
    """Return the values as the trial receives them."""
    return {name: text(value) for name, value in values.items()}


@dataclass(slots=True)
class Memory:
    """The points of one search that this process has proposed or seen.

    `proposals` has the point of each trial with what it was proposed from, to save time when Katib
    repeats a request.
    """

    points: dict[int, Values] = field(default_factory=dict)
    proposals: dict[int, tuple[int, Values]] = field(default_factory=dict)

    def put(self, number: int, values: Values) -> None:
        """Remember the point of a trial."""
        if number < MOST_TRIALS:
            self.points[number] = dict(values)


class Memories:
    """The memory of each search. The least recently used one is forgotten first."""

    def __init__(self) -> None:
        self._of: OrderedDict[Hashable, Memory] = OrderedDict()

    def of(self, search: Hashable) -> Memory:
        """Return the memory of a search, an empty one for a new search."""
        memory = self._of.pop(search, None) or Memory()
        self._of[search] = memory
        while len(self._of) > MOST_SEARCHES:
            self._of.popitem(last=False)
        return memory


class History:
    """What is known about the trials of one search, while one request is answered."""

    def __init__(self, dimensions: Sequence[Dimension], parallel: int, memory: Memory) -> None:
        self._dimensions, self._parallel, self._memory = dimensions, parallel, memory
        # the trial before it is observed, finished, value
        self._trials: list[tuple[Past, bool, float | None]] = []
        # every point of a small space by its fingerprint
        self._small: dict[str, Values] | None = None

    def __len__(self) -> int:
        return len(self._trials)

    def fill(
        self, numbered: Mapping[int, Record], identity: Identity, count: int, sampler: Sampler
    ) -> None:
        """Add trials 0 to `count` - 1. Raises BadRequest for one that is outside the search space."""
        known = {number: decoded(record, self._dimensions) for number, record in numbered.items()}
        points = self._memory.points
        for number in [number for number in points if number < count]:
            if identity.mark(number) not in (None, mark_of(texts_of(points[number]))):
                del points[number]  # of a reply that Katib did not keep
        missing = [
            number for number in range(count) if number not in known and number not in points
        ]
        again = set(missing[-PROPOSED_AGAIN:])
        for number in range(count):
            record = numbered.get(number)
            if record is not None:
                self._add(known[number], record.finished, record.value)
            elif number in points:
                self._add(points[number], True, None)
            elif (
                found := self._recovered(number, identity.mark(number), sampler, number in again)
            ) is not None:
                self._add(found, True, None)
            else:
                self._trials.append((Past({}, {}, observed=True), True, None))

    def _recovered(
        self, number: int, mark: str | None, sampler: Sampler, again: bool
    ) -> Values | None:
        """Return the point of a missing trial: the one in a small space that has its fingerprint, or a proposal."""
        if mark is not None and self._small is None:
            count = size(self._dimensions)
            every = (
                (point(self._dimensions, index) for index in range(count or 0))
                if count and count <= SMALL
                else ()
            )
            self._small = {mark_of(texts_of(values)): values for values in every}
        if mark is not None and self._small and mark in self._small:
            return self._small[mark]
        if not again or (proposal := sampler.propose(self.visible(number))) is None:
            return None
        return proposal.values if mark in (None, mark_of(texts_of(proposal.values))) else None

    def propose(self, sampler: Sampler) -> Values | None:
        """Return the point of the next trial and add it, or return None if the space has no points left.

        A point that was proposed before from the same trials is not computed again, so that a
        request that takes too long makes progress when Katib repeats it.
        """
        number = len(self._trials)
        history = self.visible(number)
        seen = (
            (tuple(past.values.items()), past.observed, past.value, self._parallel)
            for past in history
        )
        basis = hash(tuple(seen))
        before, values = self._memory.proposals.get(number, (None, None))
        if before != basis:
            proposal = sampler.propose(history)
            values = proposal.values if proposal is not None else self._without_value()
        if values is not None:
            self._add(values, False, None)
            self._memory.proposals[number] = basis, values
        return values

    def visible(self, number: int) -> list[Past]:
        """Return the earlier trials as the sampler sees them when it proposes trial `number`."""
        last = number - self._parallel
        return [
            Past(past.point, past.values, True, value) if finished and index <= last else past
            for index, (past, finished, value) in enumerate(self._trials[:number])
        ]

    def _add(self, values: Values, finished: bool, value: float | None) -> None:
        point = {each.name: each.encode(values[each.name]) for each in self._dimensions}
        self._memory.put(len(self._trials), values)
        self._trials.append((Past(point, values), finished, value))

    def _without_value(self) -> Values | None:
        """Return a point whose trials all finished without a value, the one that has the fewest of them.

        Katib asks for more trials than maxTrialCount if trials have no metrics, so every point may
        have been proposed.
        """
        counts: dict[tuple[Value, ...], int] = {}
        done = set()
        for past, finished, value in self._trials:
            place = tuple(past.values.values())
            counts[place] = counts.get(place, 0) + 1
            if not place or not finished or value is not None:
                done.add(place)
        left = [place for place in counts if place not in done]
        chosen = min(left, key=lambda place: counts[place], default=None)
        if chosen is None:
            return None
        return {each.name: value for each, value in zip(self._dimensions, chosen, strict=True)}
