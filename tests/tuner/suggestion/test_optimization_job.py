"""A caller as OptimizationJob's controller: it counts its trials, sends them all, and keeps no settings."""

from __future__ import annotations

from typing import Any

import pytest
from kubeflow.katib import katib_api_pb2 as api

from tests.tuner.experiments import document
from tests.tuner.suggestion.controller import message_of
from tests.tuner.suggestion.sequences import FINITE, surface
from tuner.samplers.labels import NUMBER_LABEL
from tuner.suggestion.request import SERVED
from tuner.suggestion.service import Suggestions


class Job:
    """The trials of one OptimizationJob. Each is its values, its start time and its condition."""

    def __init__(self, algorithm: str, **options: Any) -> None:
        what = document(algorithm, parameters=FINITE, trials=15, **options)
        what["spec"]["algorithm"].pop("algorithmSettings")
        self.experiment = message_of(what)
        self.trials: list[Any] = []

    def request(self, count: int) -> Any:
        """The request for `count` trials more."""
        return api.GetSuggestionsRequest(
            experiment=self.experiment,
            trials=self.trials,
            current_request_number=count,
            total_request_number=len(self.trials),
        )

    def start(self, service: Suggestions, count: int) -> list[str]:
        """Ask, and create the trials; returns the numbers that the reply gives them."""
        reply = service.suggest(self.request(count))
        for values, _ in reply.suggestions:
            trial = api.Trial(name=f"study-{len(self.trials)}")
            for name, value in values.items():
                trial.spec.parameter_assignments.assignments.add(name=name, value=value)
            trial.status.start_time = f"2026-01-01T00:00:{len(self.trials):02}Z"
            trial.status.condition = trial.status.TrialConditionType.Value("RUNNING")
            self.trials.append(trial)
        return [labels[NUMBER_LABEL] for _, labels in reply.suggestions]

    def finish(self) -> None:
        """Let every trial finish."""
        for trial in self.trials:
            values = {one.name: one.value for one in trial.spec.parameter_assignments.assignments}
            trial.status.condition = trial.status.TrialConditionType.Value("SUCCEEDED")
            del trial.status.observation.metrics[:]
            trial.status.observation.metrics.add(name="fd", value=repr(surface(values)))

    @property
    def points(self) -> set[tuple[str, ...]]:
        """The different points of the trials."""
        return {
            tuple(one.value for one in trial.spec.parameter_assignments.assignments)
            for trial in self.trials
        }


@pytest.mark.parametrize("algorithm", sorted(set(SERVED) - {"cmaes", "hyperband"}))
def test_job_without_stored_settings_runs_to_its_end(algorithm: str) -> None:
    job, numbers, service = Job(algorithm, parallel=3), [], Suggestions()
    while len(job.trials) < 15:
        count = min(3 if len(job.trials) % 2 else 1, 15 - len(job.trials))
        numbers += job.start(service, count)
        job.finish()
        service = Suggestions()  # its pod restarts
    assert numbers == [str(number) for number in range(len(numbers))]
    assert len(job.points) == len(job.trials)


@pytest.mark.parametrize("algorithm", ["random", "tpe", "grid"])
def test_repeated_request_has_the_same_answer(algorithm: str) -> None:
    job = Job(algorithm, parallel=3)
    for _ in range(3):
        one, two = (Suggestions().suggest(job.request(3)) for _ in range(2))
        assert one == two
        job.start(Suggestions(), 3)
        job.finish()


def test_waiting_trial_comes_after_the_started_ones() -> None:
    """A trial that has not started has no start time yet."""
    job = Job("random", parallel=4)
    job.start(Suggestions(), 3)
    job.trials[2].status.start_time = ""
    job.trials[2].status.condition = 0
    expected = Suggestions().suggest(job.request(1))
    job.trials.reverse()
    assert Suggestions().suggest(job.request(1)) == expected
    assert expected.suggestions[0][1][NUMBER_LABEL] == "3"


def test_another_space_under_one_name_is_another_search() -> None:
    service, job, other = Suggestions(), Job("random"), Job("random")
    job.start(service, 3)
    other.experiment.spec.parameter_specs.parameters[0].name = "rate"
    reply = service.suggest(other.request(3))
    assert all(values.keys() == {"rate", "bs"} for values, _ in reply.suggestions)
