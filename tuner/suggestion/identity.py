"""Which trial of a request has which number.

Katib 0.19 sends neither the labels of a trial nor its place among the suggestions: it puts the
labels on the Trial's metadata, and sends those of its spec, which nothing sets. It also sends the
trials of every namespace that has an Experiment of the same name. What it does keep and send back
are the algorithm's settings. So each reply contains a fingerprint of every point that was proposed,
and a trial is recognized by its parameters.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.experiment.model import Experiment
from tuner.samplers import SEED_SETTING
from tuner.samplers.base import derive_seed
from tuner.samplers.labels import ISSUED_SETTING, SEARCH_SETTING
from tuner.suggestion.request import Record

# characters of a fingerprint: 36 bits, so that 10,000 trials have two equal ones once in a thousand
# searches
MARK = 6


def mark_of(texts: Mapping[str, str]) -> str:
    """Return the fingerprint of a point, from the texts of its values."""
    digest = hashlib.sha256(
        "\0".join(f"{name}={texts[name]}" for name in sorted(texts)).encode()
    ).digest()
    return base64.urlsafe_b64encode(digest)[:MARK].decode()


@dataclass(frozen=True, slots=True)
class Identity:
    """What is decided once for a search, and which points were proposed.

    Attributes:
        first: The number of the first trial that this service proposed. Another service proposed
        the earlier ones.
        marks: The fingerprints of the trials from `first` on.
    """

    seed: int
    search: str
    first: int
    marks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, experiment: Experiment, records: Sequence[Record], stored: int, *, stateless: bool
    ) -> Identity:
        """Return the identity that Katib kept, or a new one for a search with `stored` trials.

        That of a `stateless` caller follows from the Experiment's name, so that it stays the same.
        """
        settings = experiment.algorithm.settings
        given = settings.get(SEED_SETTING)
        if stateless:
            seed = int(given) if given else derive_seed(0, experiment.name) % 2**31
            return cls(seed, f"{derive_seed(seed, experiment.name):08x}", stored)
        seed = int(given) if given else secrets.randbelow(2**31)
        search, _, first = settings.get(SEARCH_SETTING, "").partition("-")
        if search and first.isascii() and first.isdigit():
            issued = settings.get(ISSUED_SETTING, "")
            marks = tuple(issued[start : start + MARK] for start in range(0, len(issued), MARK))
            return cls(seed, search, int(first), marks)
        found = {record.search for record in records if record.search}
        search = found.pop() if stored and len(found) == 1 else secrets.token_hex(4)
        labelled = [
            record.number
            for record in records
            if record.search == search and record.number is not None
        ]
        return cls(seed, search, min(labelled, default=stored))

    @property
    def count(self) -> int:
        """Return how many trials have a number."""
        return self.first + len(self.marks)

    def settings(self, added: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return the settings for Katib to keep, with the fingerprints of new points."""
        issued = "".join([*self.marks, *map(mark_of, added)])
        return {
            SEED_SETTING: str(self.seed),
            SEARCH_SETTING: f"{self.search}-{self.first}",
            ISSUED_SETTING: issued,
        }

    def mark(self, number: int) -> str | None:
        """Return the fingerprint of a trial, None for one of another service."""
        place = number - self.first
        return self.marks[place] if 0 <= place < len(self.marks) else None

    def numbered(self, records: Sequence[Record], stored: int) -> dict[int, Record]:
        """Return the trials of this search by number. `records` are in the order in which they started."""
        numbered: dict[int, Record] = {}
        rest: list[Record] = []
        for record in records:
            if record.number is not None and record.search == self.search:
                numbered.setdefault(record.number, record)
            elif not record.search:
                rest.append(record)
        numbered |= self._recognized(rest, numbered)
        taken = {record.name for record in numbered.values()}
        others = [record for record in rest if record.name not in taken]
        free = (number for number in range(min(self.first, stored)) if number not in numbered)
        return numbered | dict(zip(free, others, strict=False))

    def _recognized(
        self, records: Sequence[Record], numbered: Mapping[int, Record]
    ) -> dict[int, Record]:
        """Return the trials whose fingerprint is known. Of too many with one fingerprint, those with a value count."""
        groups: dict[str, list[Record]] = {}
        for record in records:
            groups.setdefault(mark_of(record.texts), []).append(record)
        wanted: dict[str, list[int]] = {}
        for place, mark in enumerate(self.marks):
            if self.first + place not in numbered:
                wanted.setdefault(mark, []).append(self.first + place)
        return dict(
            pair
            for mark, numbers in wanted.items()
            for pair in _paired(numbers, groups.get(mark, []))
        )


def _paired(numbers: Sequence[int], records: Sequence[Record]) -> Iterator[tuple[int, Record]]:
    known = sorted(
        range(len(records)),
        key=lambda place: (records[place].value is None, not records[place].finished),
    )
    yield from zip(
        numbers, (records[place] for place in sorted(known[: len(numbers)])), strict=False
    )
