"""Client: the public class. It runs, watches and reads studies, on a cluster or on this machine.

Each verb of the command line is a method; `list` is `studies`, since the builtin has the name. The
module has a function of the same name for each, which calls a client with the default store,
namespace and context:

    from tuner import Client, run

    result = run("manifests/bayes.yaml", local=True)
    Client(namespace="gan-tuner").submit("manifests/bayes.yaml")

Each takes an Experiment as a manifest's path, a dict, what `load` returns, or a V1beta1Experiment
of kubeflow-katib. Every failure is a GantuneError. What the command line prints as `warning:` is a
UserWarning (`warnings.warn`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from tuner.engines.access import Access
from tuner.engines.base import Engine, Event, EventKind
from tuner.errors import GantuneError, StudyNotFound
from tuner.experiment import function
from tuner.experiment.model import Experiment, with_max_trials
from tuner.manifest import from_object, load
from tuner.result import Result, StudyState, Trial
from tuner.store.studies import EngineKind
from tuner.store.transfer import FileRecord

if TYPE_CHECKING:
    from tuner.analysis.advice import Change
    from tuner.engines.local.recovery import Health

__all__ = [
    "Client",
    "EngineKind",
    "Study",
    "advice",
    "best",
    "check_store",
    "delete",
    "extend",
    "files",
    "logs",
    "retry",
    "run",
    "status",
    "stop",
    "studies",
    "submit",
    "to_katib",
    "tune",
    "watch",
]

# a path, an Experiment, a dict, or a V1beta1Experiment of kubeflow-katib
Source = str | Path | Experiment | Mapping[str, Any] | Any
P = ParamSpec("P")
T = TypeVar("T")


class Study(NamedTuple):
    """One study in a list: engine and name identify it."""

    name: str
    engine: EngineKind
    state: StudyState


class Client(Access):
    """Runs, watches and reads the studies of one store and one cluster.

    Args:
        store: The directory of the studies; None takes GANTUNE_STORE, or else .gantune.
        namespace: The namespace of Experiments; "" takes the study's, the manifest's or the
            context's.
        context: The kubeconfig's context; None takes the current one.
        katib_namespace: Where Katib is installed.
        notify: Receives each warning.
        note: Receives each message that is no warning, such as who proposes the trials.
    """

    def run(
        self,
        source: Source,
        *,
        local: bool | None = None,
        workers: int | None = None,
        seed: int | None = None,
        max_trials: int | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Run a search until it finishes, and return the Result.

        Args:
            source: The Experiment.
            local: Whether to run on this machine; None takes the cluster if it has Katib.
            workers: How many trials run at once on this machine.
            seed: The seed of the sampler on this machine.
            max_trials: Replaces the manifest's maxTrialCount.
            on_event: Receives every Event; without it, warnings are Python's.

            result = run("manifests/bayes.yaml", local=True, seed=0)
            print(result.best.parameters, result.best.metrics["fd"])
        """
        experiment = _experiment(source)
        if local is None:
            local = not self.katib_found(timeout=30.0)[0]
        if local:
            engine: Engine = self.local(workers=workers, seed=seed, max_trials=max_trials)
        else:
            engine = self.cluster()
            if max_trials is not None:
                experiment = with_max_trials(experiment, max_trials)
        return self._last(engine.run(experiment), on_event)

    def tune(
        self,
        objective: function.Objective,
        parameters: Mapping[str, Any],
        *,
        name: str = "",
        n_trials: int = 10,
        metric: str = "loss",
        direction: str = "minimize",
        goal: float | None = None,
        additional_metrics: Sequence[str] = (),
        algorithm: str = "random",
        algorithm_settings: Mapping[str, object] | None = None,
        parallel_trials: int = 1,
        max_failed_trials: int | None = None,
        packages_to_install: Sequence[str] = (),
        pip_index_urls: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        resources: Mapping[str, object] | None = None,
        trial_timeout: int | None = None,
        stop_factors: Mapping[int, float] | None = None,
        image: str = "",
        workers: int | None = None,
        seed: int | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Search for the parameters of a Python function and return the Result (docs/function.md).

        Args:
            objective: Takes the dict of the parameters' values. It returns the metric or a dict of
                metrics, or prints them as `name=value`. It imports inside what it uses.
            parameters: For each parameter a range (of tuner.search, katib.search or the Kubeflow
                SDK) or a constant.
            name: The study's name; "" takes the function's.
            metric, direction, goal: The objective: `minimize` or `maximize`, and a value at which
                the search stops.
            packages_to_install: On this machine, they are installed into an environment of their
                own.
            env, resources: Variables of each trial, and its limits on a cluster (`cpu`, `memory`,
                `gpu`).
            trial_timeout: Seconds after which a trial is stopped.
            stop_factors: {4: 1.5} stops a trial at its fourth report if its best value so far is
                more than 1.5 times the best of an earlier trial by then. The function prints its
                reports.
            image: An image that has Python. With it, the search runs on the cluster, otherwise on
                this machine.
            workers, seed, on_event: As for `run`.

            result = tune(objective, {"lr": search.double(min=1e-4, max=1e-1)}, n_trials=20)
        """
        document = function.document(
            objective,
            {key: _plain(value) for key, value in parameters.items()},
            name=name,
            n_trials=n_trials,
            metric=metric,
            direction=direction,
            goal=goal,
            additional_metrics=additional_metrics,
            algorithm=algorithm,
            algorithm_settings=algorithm_settings,
            parallel_trials=parallel_trials,
            max_failed_trials=max_failed_trials,
            packages_to_install=packages_to_install,
            pip_index_urls=pip_index_urls,
            env=env,
            resources=resources,
            trial_timeout=trial_timeout,
            stop_factors=stop_factors,
            image=image,
        )
        experiment = from_object(document)
        if image:
            return self.run(experiment, local=False, on_event=on_event)
        return self.run(experiment, local=True, workers=workers, seed=seed, on_event=on_event)

    def submit(self, source: Source, *, warm_start: str | None = None) -> str:
        """Create the Experiment on the cluster, or join the one with the same spec; return its name.

        A warning says what may keep it from running: no node for its pods, fewer GPUs than it asks
        for. `warm_start` is a study whose trials the sampler receives first, which needs the
        suggestion service of gan-tuner.

            name = submit("manifests/bayes.yaml")
        """
        experiment = _experiment(source)
        earlier = self.earlier(warm_start) if warm_start else None
        return self.cluster(earlier=earlier).submit(experiment)

    def watch(
        self, name: str, *, local: bool | None = None, timeout: float | None = None
    ) -> Iterator[Event]:
        """Yield the events of a study until it finishes; Deadline after `timeout` seconds.

        It only observes. A local study that another process runs is followed from its files.

            for event in watch("gan-bayes"):
                print(event.kind, event.trial, event.message)
        """
        return self.engine(name, local=local, timeout=timeout).watch(name)

    def studies(self, *, cluster: bool = False) -> list[Study]:
        """Return the studies of the store, or with `cluster` the Experiments of a namespace.

        running = [each.name for each in studies(cluster=True) if each.state == "Running"]
        """
        if cluster:
            found = self.cluster().studies()
            return [Study(each.name, EngineKind.KATIB, each.state) for each in found]
        return [
            Study(name, engine, self.result(name, engine).state)
            for name, engine in self.store.all()
        ]

    def status(self, name: str, *, local: bool | None = None) -> Result:
        """Return a study with all its trials, as it is now.

        Where the cluster no longer has the study, refuses, or does not answer, a warning says so,
        and the study is as it was collected last. `local` chooses the engine where both have a
        study of this name.

            print(status("gan-bayes").state, len(status("gan-bayes").trials))
        """
        return self.result(name, self._kind(name, local=local))

    def best(self, name: str, *, local: bool | None = None) -> Trial | None:
        """Return the best trial of a study; None until one has finished with a finite objective.

        trial = best("gan-bayes")
        print(trial.parameters if trial else "none yet")
        """
        return self.status(name, local=local).best

    def advice(self, name: str, *, local: bool | None = None) -> list[Change]:
        """Return what to change in the next search, with reasons; empty if there is no trend.

        print(*advice("gan-bayes"), sep="\\n")  # shrink lr to [0.0006, 0.0048]: it holds ...
        """
        from tuner.analysis.advice import advice as changes

        kind = self._kind(name, local=local)
        return changes(self.result(name, kind), self.experiment(name, kind))

    def logs(
        self,
        name: str,
        trial: str | None = None,
        *,
        best: bool = False,
        follow: bool = False,
        local: bool | None = None,
    ) -> Iterator[str]:
        """Yield the lines that a trial printed: by its name or number, the best, else the newest.

        print("\\n".join(logs("gan-bayes", best=True)))
        """
        return self.engine(name, local=local).logs(name, trial, best=best, follow=follow)

    def files(
        self, name: str, target: str | Path, trial: str | None = None, *, local: bool | None = None
    ) -> list[FileRecord]:
        """Copy the files that a trial wrote, by default the best, to a new directory.

        print(*files("gan-bayes", "best"), sep="\\n")
        """
        return self.engine(name, local=local).files(name, Path(target), trial)[1]

    def extend(self, name: str, max_trials: int, *, local: bool | None = None) -> None:
        """Give a study more trials. A local study runs them in its next run. Katib has other rules.

        extend("gan-bayes", 40)
        """
        self.engine(name, local=local).extend(name, max_trials)

    def stop(self, name: str, *, local: bool | None = None) -> None:
        """Stop a study and its running trials; what has been observed is kept.

        stop("gan-bayes")
        """
        self.engine(name, local=local).stop(name)

    def delete(self, name: str, *, local: bool | None = None) -> Result:
        """Delete a study and return its last result, which the store keeps of one on the cluster.

        print(delete("gan-bayes").best)
        """
        return self.engine(name, local=local).delete(name)

    def retry(
        self,
        name: str,
        trials: Sequence[int] | None = None,
        *,
        workers: int | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Result:
        """Run failed trials of a local study again, all or these numbers, and continue the search.

        Each runs from scratch with the same parameters. Raises StudyError where one of `trials` did
        not fail.

            result = retry("gan-bayes", [3])
        """
        self.reset(name, trials)
        engine = self.local(workers=workers)
        return self._last(engine.run(self.experiment(name, EngineKind.LOCAL)), on_event)

    def reset(self, name: str, trials: Sequence[int] | None = None) -> list[int]:
        """Let failed trials of a local study run again in its next run; returns their numbers."""
        return self.local().retry(name, trials)

    def check_store(self, name: str, *, repair: bool = False) -> Health:
        """Return how many records of a local study's journal are intact, and what is damaged.

        With `repair`, the intact records are kept first, and the damaged file next to them; lost
        trials run again.

            print(check_store("gan-bayes").damage or "intact")
        """
        engine = self.local()
        saved = engine.repair(name) if repair else None
        if saved:
            self.note(f"{name}: the damaged file is kept as {saved}")
        return engine.check(name)

    def _kind(self, name: str, *, local: bool | None) -> EngineKind:
        """Refresh patiently; raise the cluster's error if that is why there is no study."""
        try:
            return self.refresh(name, local=local, timeout=30.0).kind
        except StudyNotFound as error:
            missing = error
        raise missing.__cause__ or missing

    def _last(self, events: Iterator[Event], on_event: Callable[[Event], None] | None) -> Result:
        """Return the result of the last event."""
        result: Result | None = None
        for event in events:
            result = event.result
            if on_event:
                on_event(event)
            elif event.kind is EventKind.WARNING:
                self.notify(event.message)
        if result is None:
            raise GantuneError("the search finished without an event")
        return result


def to_katib(source: Source) -> Any:
    """Return an Experiment as a V1beta1Experiment of the kubeflow-katib SDK.

        KatibClient().create_experiment(to_katib("manifests/bayes.yaml"), namespace="gan-tuner")

    Raises GantuneError where kubeflow-katib is not installed.
    """
    from tuner.kube.sdk import model

    return model(_experiment(source).document)


def _experiment(source: Source) -> Experiment:
    if isinstance(source, Experiment):
        return source
    if isinstance(source, str | Path):
        return load(source)
    source = _plain(source)
    if not isinstance(source, Mapping):
        raise GantuneError(
            f"an Experiment is a path, a dict or a V1beta1Experiment, got {type(source).__name__}"
        )
    return from_object(source)


def _plain(value: Any) -> Any:
    """Return a model of kubeflow-katib as dicts, and anything else as it is."""
    if not hasattr(value, "openapi_types"):
        return value
    from tuner.kube import plain

    return plain(value)


def _shortcut(method: Callable[Concatenate[Client, P], T]) -> Callable[P, T]:
    """Return a function with the signature of a method, which it calls on a default client."""

    @wraps(method)
    def call(*args: P.args, **given: P.kwargs) -> T:
        return method(Client(), *args, **given)

    signature = inspect.signature(method)
    own = list(signature.parameters.values())[1:]  # without `self`
    call.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return call


advice = _shortcut(Client.advice)
best = _shortcut(Client.best)
check_store = _shortcut(Client.check_store)
delete = _shortcut(Client.delete)
extend = _shortcut(Client.extend)
files = _shortcut(Client.files)
logs = _shortcut(Client.logs)
retry = _shortcut(Client.retry)
run = _shortcut(Client.run)
status = _shortcut(Client.status)
stop = _shortcut(Client.stop)
studies = _shortcut(Client.studies)
submit = _shortcut(Client.submit)
tune = _shortcut(Client.tune)
watch = _shortcut(Client.watch)
