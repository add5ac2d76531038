"""Katib's suggestion controller as far as a suggestion service sees it (suggestionclient.go, experiment_controller.go).

It holds what Katib holds: the stored suggestions with their labels, the settings of the replies,
and the trials. It asks over real gRPC for as many suggestions as there are free places.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from kubeflow.katib import katib_api_pb2 as api
from kubeflow.katib import katib_api_pb2_grpc as stubs

from tuner.samplers.labels import NUMBER_LABEL
from tuner.suggestion.request import SERVED
from tuner.suggestion.server import Server

# hyperband needs a resource and a seed: test_stopping covers it
WITHOUT_RESOURCE = tuple(name for name in SERVED if name != "hyperband")
# None: the trial fails; NaN: it has no metrics
Objective = Callable[[dict[str, str]], float | None]
DISTRIBUTIONS = {"uniform": 1, "logUniform": 2, "normal": 3, "logNormal": 4}
KINDS = {"double": 1, "int": 2, "discrete": 3, "categorical": 4}


@contextmanager
def serving(db_manager: str = "") -> Iterator[Server]:
    """A service on a free port of the loopback."""
    server = Server(0, "127.0.0.1", db_manager)
    try:
        yield server
    finally:
        server.stop()


def message_of(document: dict[str, Any]) -> Any:
    """The Experiment of a manifest as Katib sends it."""
    spec, objective = document["spec"], document["spec"]["objective"]
    message = api.Experiment(name=document["metadata"]["name"])
    message.spec.algorithm.algorithm_name = spec["algorithm"]["algorithmName"]
    for setting in spec["algorithm"].get("algorithmSettings", ()):
        message.spec.algorithm.algorithm_settings.add(**setting)
    message.spec.objective.type = 1 if objective["type"] == "minimize" else 2
    message.spec.objective.objective_metric_name = objective["objectiveMetricName"]
    message.spec.objective.additional_metric_names.extend(
        objective.get("additionalMetricNames", ())
    )
    if early := spec.get("earlyStopping"):
        message.spec.early_stopping.algorithm_name = early["algorithmName"]
        for setting in early.get("algorithmSettings", ()):
            message.spec.early_stopping.algorithm_settings.add(**setting)
    message.spec.parallel_trial_count = spec.get("parallelTrialCount", 3)
    message.spec.max_trial_count = spec.get("maxTrialCount", 0)
    for item in spec["parameters"]:
        sent = message.spec.parameter_specs.parameters.add(
            name=item["name"], parameter_type=KINDS.get(item["parameterType"], 0)
        )
        for key, value in item["feasibleSpace"].items():
            if key == "list":
                sent.feasible_space.list.extend(value)
            elif key == "distribution":
                sent.feasible_space.distribution = DISTRIBUTIONS[value]
            else:
                setattr(sent.feasible_space, key, value)
        # the webhook's default
        sent.feasible_space.distribution = sent.feasible_space.distribution or 1
    return message


class Listening(Protocol):
    """A suggestion service in this process or in another one."""

    port: int


@dataclass
class Trial:
    """A trial on the cluster. `number` is the place in Katib's list of suggestions."""

    name: str
    number: int
    values: dict[str, str]
    labels: dict[str, str]
    condition: str = "RUNNING"
    value: str = ""

    def message(self, metric: str, *, labels: bool = False) -> Any:
        """What Katib sends. Katib 0.19 keeps the labels on the Trial and does not send them."""
        message = api.Trial(name=self.name)
        for name, value in self.values.items():
            message.spec.parameter_assignments.assignments.add(name=name, value=value)
        if labels:
            message.spec.labels.update(self.labels)
        message.status.start_time = f"2026-01-01T00:{self.number // 60:02}:{self.number % 60:02}Z"
        message.status.condition = message.status.TrialConditionType.Value(self.condition)
        if self.value:
            message.status.observation.metrics.add(name=metric, value=self.value)
        return message


@dataclass
class Controller:
    """One Experiment. `lag` says how many of the newest trials Katib's cache does not show yet.

    With `labels`, trials are sent with their labels, as Katib's protocol provides for.
    """

    document: dict[str, Any]
    objective: Objective
    lag: int = 0
    labels: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    # trials of an Experiment of this name in another namespace
    foreign: list[Trial] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def request(self, count: int) -> Any:
        """The next request."""
        experiment = message_of(self.document)
        for name, value in self.settings.items():
            kept = [
                each for each in experiment.spec.algorithm.algorithm_settings if each.name == name
            ]
            if kept:
                kept[0].value = value
            else:
                experiment.spec.algorithm.algorithm_settings.add(name=name, value=value)
        metric = experiment.spec.objective.objective_metric_name
        shown = self.trials[: max(len(self.trials) - self.lag, 0)] + self.foreign
        return api.GetSuggestionsRequest(
            experiment=experiment,
            trials=[
                trial.message(metric, labels=self.labels)
                for trial in reversed(shown)
                if trial.condition != "METRICSUNAVAILABLE"
            ],
            current_request_number=count,
            total_request_number=len(self.trials) + count,
        )

    def ask(self, server: Listening, count: int, *, lost: bool = False) -> list[dict[str, str]]:
        """Ask for suggestions; unless the reply is `lost`, store them and start their trials."""
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            reply = stubs.SuggestionStub(channel).GetSuggestions(self.request(count), timeout=60)
        assert len(reply.parameter_assignments) == count
        assert not any(each.trial_name for each in reply.parameter_assignments)
        points = [
            {one.name: one.value for one in each.assignments}
            for each in reply.parameter_assignments
        ]
        if not lost:
            self.settings |= {each.name: each.value for each in reply.algorithm.algorithm_settings}
            for each, values in zip(reply.parameter_assignments, points, strict=True):
                name = f"study-{next(self._names):04x}"
                self.trials.append(Trial(name, len(self.trials), values, dict(each.labels)))
        return points

    def finish(self, trial: Trial) -> None:
        """Let a trial finish with its objective."""
        value = self.objective(trial.values)
        if value is None:
            trial.condition = "FAILED"
        elif math.isnan(value):
            trial.condition = "METRICSUNAVAILABLE"
        else:
            trial.condition, trial.value = "SUCCEEDED", repr(value)

    @property
    def running(self) -> list[Trial]:
        """The trials that have not finished."""
        return [trial for trial in self.trials if trial.condition == "RUNNING"]

    def fill(self, server: Listening) -> None:
        """Start as many trials as may run."""
        spec = self.document["spec"]
        free = min(
            spec["parallelTrialCount"] - len(self.running), spec["maxTrialCount"] - len(self.trials)
        )
        if free > 0:
            self.ask(server, free)

    def run(self, serve: Callable[[], Any]) -> list[dict[str, str]]:
        """Run the search, with trials that finish in order. `serve` gives the server of each request."""
        self.fill(serve())
        while running := self.running:
            self.finish(running[0])
            self.fill(serve())
        assert [trial.labels[NUMBER_LABEL] for trial in self.trials] == [
            str(n) for n in range(len(self.trials))
        ]
        return [trial.values for trial in self.trials]
