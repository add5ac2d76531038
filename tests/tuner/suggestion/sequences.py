"""Plays random request sequences against the suggestion service and checks what must always hold.

`play` draws one search: its algorithm and parallelTrialCount, in which order the trials finish and
how, which of them Katib does not list yet, which requests are repeated, and when the service is
restarted. `run` plays many: `make chaos` does.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.tuner.experiments import BS, LR, document
from tests.tuner.suggestion.controller import Controller, Trial
from tuner import manifest
from tuner.samplers import Past
from tuner.samplers.labels import NUMBER_LABEL
from tuner.space import text
from tuner.suggestion.request import SERVED
from tuner.suggestion.service import Suggestions

TRIALS = 13
FINITE = [  # 15 points
    {
        "name": "lr",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["1e-4", "1e-3", "5e-3"]},
    },
    {**BS, "feasibleSpace": {"min": "62", "max": "66"}},
]
OUTCOMES = ("value", "value", "value", "failed", "no metrics")


@dataclass
class Player(Controller):
    """A controller that calls the service in this process.

    Attributes:
        stateless: Whether it is an OptimizationJob's controller, which drops the settings of a reply.
        ordered: How many trials, from the first, were proposed once all had finished that the local
            engine waits for.
    """

    stateless: bool = False
    ordered: int = 0
    service: Suggestions = field(default_factory=Suggestions)

    def request(self, count: int) -> Any:
        """The next request, which is another one for an OptimizationJob."""
        message = super().request(count)
        if self.stateless:
            metric = message.experiment.spec.objective.objective_metric_name
            del message.trials[:]
            message.trials.extend(trial.message(metric) for trial in self.trials)
            message.total_request_number = len(self.trials)
        return message

    def suggest(self, count: int, *, lost: bool = False) -> list[dict[str, str]]:
        """Ask for suggestions; unless the reply is `lost`, start their trials."""
        reply = self.service.suggest(self.request(count))
        assert len(reply.suggestions) == count
        points = [values for values, _ in reply.suggestions]
        if lost:
            return points
        if not self.stateless:
            self.settings |= reply.settings
        parallel, listed = self.document["spec"]["parallelTrialCount"], len(self.trials) - self.lag
        for values, labels in reply.suggestions:
            number = len(self.trials)
            known = self.trials[: max(number - parallel + 1, 0)]
            late = any(trial.condition == "RUNNING" or trial.number >= listed for trial in known)
            if self.ordered == number and not late:
                self.ordered += 1
            self.trials.append(Trial(f"study-{number:04x}", number, values, labels))
        return points


def play(data: st.DataObject) -> None:
    """Play one search, and check it."""
    algorithm = data.draw(st.sampled_from(SERVED), "algorithm")
    parallel = data.draw(st.integers(1, 8), "parallel")
    space = FINITE if algorithm == "grid" or data.draw(st.booleans(), "finite") else [LR, BS]
    space = [LR, BS] if algorithm == "cmaes" else space  # it may repeat a point of a finite space
    what = document(
        algorithm,
        parameters=space,
        trials=TRIALS,
        parallel=parallel,
        settings={"random_state": str(data.draw(st.integers(0, 3), "seed"))},
    )
    player = Player(what, surface, stateless=data.draw(st.booleans(), "stateless"))
    while len(player.trials) < TRIALS or player.running:
        free = min(parallel - len(player.running), TRIALS - len(player.trials))
        if free:
            player.lag = (
                0 if player.stateless else data.draw(st.sampled_from((0, 0, 0, 1, 2)), "lag")
            )
            count = data.draw(st.integers(1, free), "count")
            again = player.suggest(count, lost=True) if data.draw(st.booleans(), "lost") else None
            if data.draw(st.booleans(), "restart"):
                player.service = Suggestions()
            points = player.suggest(count)
            assert again in (None, points), "a repeated request has another answer"
        for _ in range(data.draw(st.integers(0 if len(player.running) < parallel else 1, 3))):
            if player.running:
                place = data.draw(st.sampled_from((0, 0, 0, 1, 5)), "which")
                trial = player.running[min(place, len(player.running) - 1)]
                finish(trial, data.draw(st.sampled_from(OUTCOMES), "outcome"))
    check(player)


def finish(trial: Trial, outcome: str) -> None:
    """Let a trial finish."""
    if outcome == "value":
        trial.condition, trial.value = "SUCCEEDED", repr(surface(trial.values))
    else:
        trial.condition = "FAILED" if outcome == "failed" else "METRICSUNAVAILABLE"


def surface(values: dict[str, str]) -> float:
    """The objective. It has no two equal values."""
    return abs(math.log10(float(values["lr"])) + 3.3) * 30 + abs(float(values["bs"]) - 64) / 16


def check(player: Player) -> None:
    """Raise AssertionError for a duplicate, a gap, or a point that is not the local engine's."""
    points = [tuple(trial.values.values()) for trial in player.trials]
    assert len(set(points)) == len(points), "a point was proposed twice"
    numbers = [trial.labels[NUMBER_LABEL] for trial in player.trials]
    assert numbers == [str(number) for number in range(len(numbers))]
    assert [trial.values for trial in player.trials[: player.ordered]] == local(player)


def local(player: Player) -> list[dict[str, str]]:
    """The points that the local engine proposes, while trials finish in order."""
    experiment = manifest.from_document(player.document)
    sampler = experiment.sampler(int(experiment.algorithm.settings["random_state"]))
    history: list[Past] = []
    points: list[dict[str, str]] = []
    for number in range(player.ordered):
        due = number - experiment.parallel_trials
        if due >= 0:
            value = float(player.trials[due].value) if player.trials[due].value else None
            history[due] = Past(history[due].point, history[due].values, True, value)
        proposal = sampler.propose(history)
        assert proposal is not None
        history.append(Past(proposal.point, proposal.values))
        points.append({name: text(value) for name, value in proposal.values.items()})
    return points


def run(count: int, start: int) -> None:
    """Play `count` searches."""

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def searches(data: st.DataObject) -> None:
        play(data)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        searches()
    print(f"{count} request sequences", flush=True)
