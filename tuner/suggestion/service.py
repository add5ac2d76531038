"""From a request to a reply: what Katib's suggestion controller asks for, without gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tuner.experiment.early_stopping import rules
from tuner.experiment.model import Experiment
from tuner.kube.dbmanager import address_in_cluster
from tuner.samplers.labels import NOT_STOPPED_SETTING, NUMBER_LABEL, SEARCH_LABEL, STOP_LABEL
from tuner.suggestion.history import History, Memories, texts_of
from tuner.suggestion.identity import Identity
from tuner.suggestion.request import KEPT_SETTINGS, BadRequest, counts_of, experiment_of, records_of
from tuner.suggestion.stopping import Stopping

Assigned = dict[str, str]  # a parameter's value as text, by its name


class Exhausted(BadRequest):
    """Every point of the search space has a value, so no suggestion is left."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The suggestions: values and labels of each trial, and the settings for Katib to keep."""

    suggestions: tuple[tuple[Assigned, dict[str, str]], ...]
    settings: dict[str, str]


class Suggestions:
    """The service. Requests are answered one at a time. `db_manager` is the address of Katib's DB manager."""

    def __init__(self, db_manager: str = "") -> None:
        self._memories = Memories()
        self._stopping = Stopping(db_manager or address_in_cluster())
        self._lock = threading.Lock()

    def validate(self, message: Any) -> None:
        """Check the Experiment. Raises BadRequest, or UnsupportedError for a setting that the sampler lacks."""
        with self._lock:
            experiment = experiment_of(message)
            _plain(experiment).sampler(0)
            rules(experiment)

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
        asked = counts_of(message)
        stored = asked.stored
        records = records_of(message.trials, experiment)
        identity = Identity.of(experiment, records, stored, stateless=asked.stateless)
        numbered = identity.numbered(records, stored)
        plain = _plain(experiment)
        algorithm = plain.sampler(identity.seed)
        # an Experiment that was made anew may have another space
        search = (identity.search, identity.seed, repr((plain.algorithm, plain.parameters)))
        memory = self._memories.of(search)
        history = History(algorithm.dimensions, experiment.parallel_trials, memory)
        history.fill(
            numbered,
            identity,
            max(stored, identity.count, max(numbered, default=-1) + 1),
            algorithm,
        )
        stopping, notes = rules(experiment), set[str]()
        suggestions: list[tuple[Assigned, dict[str, str]]] = []
        for _ in range(asked.count):
            if not wanted():
                raise BadRequest("the request was cancelled before it was answered")
            number = len(history)
            if (values := history.propose(algorithm)) is None:
                raise Exhausted(
                    f"all {number} points of the search space were proposed; set maxTrialCount to {number}"
                )
            labels = {NUMBER_LABEL: str(number), SEARCH_LABEL: identity.search}
            if stopping is not None:
                last = number - experiment.parallel_trials
                told = [numbered[n] for n in sorted(numbered) if n <= last and numbered[n].finished]
                label, note = self._stopping.label(
                    stopping, experiment.additional_metrics, number, told
                )
                labels |= {STOP_LABEL: label} if label else {}
                notes |= {note} - {""}
            suggestions.append((texts_of(values), labels))
        settings = identity.settings([texts for texts, _ in suggestions])
        if notes or experiment.algorithm.settings.get(NOT_STOPPED_SETTING):
            settings[NOT_STOPPED_SETTING] = "; ".join(sorted(notes))
        return Reply(tuple(suggestions), settings)


def _plain(experiment: Experiment) -> Experiment:
    """Return the Experiment without the settings that no sampler knows."""
    settings = {
        name: value
        for name, value in experiment.algorithm.settings.items()
        if name not in KEPT_SETTINGS
    }
    return replace(experiment, algorithm=replace(experiment.algorithm, settings=settings))
