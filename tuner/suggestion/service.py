"""From a request to a reply: what Katib's suggestion controller asks for, without gRPC."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.manifest import Experiment
from tuner.samplers import SEED_SETTING, sampler
from tuner.samplers.labels import NUMBER_LABEL, SEARCH_LABEL, SEARCH_SETTING
from tuner.space import text
from tuner.suggestion.history import History, Memories
from tuner.suggestion.request import BadRequest, Record, counts_of, experiment_of, records_of

Assigned = dict[str, str]  # a parameter's value as text, by its name


class Exhausted(BadRequest):
    """Every point of the search space has a value, so no suggestion is left."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is decided once for a search, and kept by Katib in the algorithm's settings."""

    seed: int
    search: str
    first: int  # the number of the first trial that this service proposed; the earlier ones have no label

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings that a reply contains."""
        return {SEED_SETTING: str(self.seed), SEARCH_SETTING: f"{self.search}-{self.first}"}


@dataclass(frozen=True, slots=True)
class Reply:
    """The suggestions: values and labels of each trial, and the settings for Katib to keep."""

    suggestions: tuple[tuple[Assigned, dict[str, str]], ...]
    settings: dict[str, str]


class Suggestions:
    """The service. Requests are answered one at a time."""

    def __init__(self) -> None:
        self._memories = Memories()
        self._lock = threading.Lock()

    def validate(self, message: Any) -> None:
        """Check the Experiment. Raises BadRequest, or UnsupportedError for a setting that the sampler lacks."""
        with self._lock:
            sampler(_plain(experiment_of(message)), 0)

    def suggest(self, message: Any, wanted: Callable[[], bool] = lambda: True) -> Reply:
        """Return the next suggestions.

        Args:
            message: Katib's GetSuggestionsRequest.
            wanted: Returns False once nobody waits for the reply.

        Raises:
            BadRequest: The request cannot be answered.
            UnsupportedError: The sampler does not have a setting.
        """
        with self._lock:
            return self._suggest(message, wanted)

    def _suggest(self, message: Any, wanted: Callable[[], bool]) -> Reply:
        experiment = experiment_of(message.experiment)
        count, stored = counts_of(message)
        records = records_of(message.trials, experiment)
        identity = _identity(experiment, records, stored)
        numbered = _numbered(records, identity, stored)
        algorithm = sampler(_plain(experiment), identity.seed)
        history = History(algorithm.dimensions, experiment.parallel_trials, self._memories.of(identity.search))
        history.fill(numbered, max(stored, max(numbered, default=-1) + 1), algorithm)
        suggestions = []
        for _ in range(count):
            if not wanted():
                raise BadRequest("the request was cancelled before it was answered")
            number = len(history)
            if (values := history.propose(algorithm)) is None:
                raise Exhausted(f"all {number} points of the search space were proposed; set maxTrialCount to {number}")
            labels = {NUMBER_LABEL: str(number), SEARCH_LABEL: identity.search}
            suggestions.append(({name: text(value) for name, value in values.items()}, labels))
        return Reply(tuple(suggestions), identity.settings)


def _plain(experiment: Experiment) -> Experiment:
    """Return the Experiment without the settings that no sampler knows."""
    from dataclasses import replace

    settings = {name: value for name, value in experiment.algorithm.settings.items() if name != SEARCH_SETTING}
    return replace(experiment, algorithm=replace(experiment.algorithm, settings=settings))


def _identity(experiment: Experiment, records: Sequence[Record], stored: int) -> Identity:
    """Return the identity that Katib kept, or a new one."""
    settings = experiment.algorithm.settings
    seed = settings.get(SEED_SETTING)
    search, _, first = settings.get(SEARCH_SETTING, "").partition("-")
    if not search or not first.isdigit():
        found = {record.search for record in records if record.search}
        search = found.pop() if stored and len(found) == 1 else secrets.token_hex(4)
        labelled = [record.number for record in records if record.search == search and record.number is not None]
        first = str(min(labelled, default=stored))
    return Identity(int(seed) if seed else secrets.randbelow(2**31), search, int(first))


def _numbered(records: Sequence[Record], identity: Identity, stored: int) -> dict[int, Record]:
    """Return the trials of this search by number. Trials of another suggestion service get the first free numbers."""
    numbered: dict[int, Record] = {}
    for record in records:
        if record.number is not None and record.search == identity.search:
            numbered.setdefault(record.number, record)
    free = (number for number in range(min(identity.first, stored)) if number not in numbered)
    others = [record for record in records if record.number is None]
    return numbered | dict(zip(free, others, strict=False))
