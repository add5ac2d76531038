"""The command line's verbs for Python: `from tuner import Experiment, run, submit, watch, best` (docs/reference/katib.md).

Each takes an Experiment (a manifest's path, a dict, what `load` returns, or a V1beta1Experiment of
kubeflow-katib), and a name as the command line does; `list` is `studies` here, since the builtin
has the name. Every failure is a GantuneError. What the command line writes as `warning:` is a
UserWarning here (`warnings.warn`): no node takes the trials' pods, the Experiment was there and is
joined, a result is not up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tuner.checked import Checked, read
from tuner.client import Client, warn
from tuner.engines.base import Engine, Event, EventKind
from tuner.errors import GantuneError
from tuner.experiment import function
from tuner.experiment.model import Experiment
from tuner.manifest import from_object, load
from tuner.result import Result, StudyState, Trial
from tuner.store.studies import EngineKind
from tuner.store.transfer import FileRecord

if TYPE_CHECKING:
    from tuner.analysis.advice import Change
    from tuner.engines.katib import KatibEngine
    from tuner.engines.local import LocalEngine
    from tuner.engines.local.recovery import Health

__all__ = [
    "Checked",
    "Client",
    "EngineKind",
    "Experiment",
    "KatibEngine",
    "LocalEngine",
    "Study",
    "advice",
    "best",
    "check_store",
    "delete",
    "extend",
    "files",
    "load",
    "logs",
    "read",
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

Source = Any  # a path, an Experiment, a dict, or a V1beta1Experiment of kubeflow-katib


class Study(NamedTuple):
    """One study in a list: engine and name identify it."""

    name: str
    engine: EngineKind
    state: StudyState


def run(
    source: Source,
    *,
    local: bool | None = None,
    store: str | Path | None = None,
    namespace: str = "",
    context: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    max_trials: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run a search until it finishes, and return the Result.

    `local` chooses the engine; None takes the cluster if the kubeconfig reaches one with Katib.
    `workers`, `seed` and `max_trials` are the local engine's; on a cluster `max_trials` replaces
    maxTrialCount. `on_event` receives every Event; without it, warnings are Python's. On a cluster
    it warns as `submit` does.

        result = run("manifests/bayes.yaml", local=True, seed=0)
        print(result.best.parameters, result.best.metrics["fd"])
    """
    experiment = _experiment(source)
    client = Client(store, namespace=namespace, context=context)
    if local is None:
        local = not client.katib_found(timeout=30.0)[0]
    if local:
        engine: Engine = client.local(workers=workers, seed=seed, max_trials=max_trials)
    else:
        engine = client.cluster()
        if max_trials is not None:
            document = dict(experiment.document)
            document["spec"] = dict(document["spec"]) | {"maxTrialCount": max_trials}
            experiment = replace(experiment, max_trials=max_trials, document=document)
    return _follow(engine, engine.submit(experiment), on_event)


def tune(
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
    stop_factors: Mapping[int, float] | None = None,
    parallel_trials: int = 1,
    max_failed_trials: int | None = None,
    packages_to_install: Sequence[str] = (),
    pip_index_urls: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    resources: Mapping[str, object] | None = None,
    trial_timeout: int | None = None,
    image: str = "",
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
    workers: int | None = None,
    seed: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Search for the parameters of a Python function and return the Result (docs/how-to/python-function.md).

    Args:
        objective: Takes the dict of the parameters' values. It returns the metric or a dict of
            metrics, or prints them as `name=value`. It imports inside what it uses.
        parameters: For each parameter a range (of tuner.search, katib.search or the Kubeflow SDK)
        or a constant.
        name: The study's name; "" takes the function's.
        metric, direction, goal: The objective: `minimize` or `maximize`, and a value at which the
        search stops.
        stop_factors: {4: 1.5} stops a trial at its fourth report if its best value so far is more than
            1.5 times the best of an earlier trial by then. The function prints its reports.
        packages_to_install: On this machine, they are installed into an environment of their own.
        env, resources: Variables of each trial, and its limits on a cluster (`cpu`, `memory`,
        `gpu`).
        trial_timeout: Seconds after which a trial is stopped.
        image: An image that has Python. With it, the search runs on the cluster, otherwise on this
        machine.
        workers, seed: As for `run` on this machine.

    result = tune(objective, {"lr": search.double(min=1e-4, max=1e-1), "epochs": 5}, n_trials=20)
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
        stop_factors=stop_factors,
        parallel_trials=parallel_trials,
        max_failed_trials=max_failed_trials,
        packages_to_install=packages_to_install,
        pip_index_urls=pip_index_urls,
        env=env,
        resources=resources,
        trial_timeout=trial_timeout,
        image=image,
    )
    experiment = from_object(document)
    if image:
        return run(
            experiment,
            local=False,
            namespace=namespace,
            context=context,
            store=store,
            on_event=on_event,
        )
    return run(experiment, local=True, store=store, workers=workers, seed=seed, on_event=on_event)


def submit(
    source: Source,
    *,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
    warm_start: str | None = None,
) -> str:
    """Create the Experiment on the cluster, or join the one with the same spec; returns its name.

    A UserWarning says what may keep it from running: no node for its pods, fewer GPUs than it asks
    for. `warm_start` is a study whose trials the sampler receives first, which needs the suggestion
    service of gan-tuner. name = submit("manifests/bayes.yaml", namespace="gan-tuner")
    """
    client = Client(store, namespace=namespace, context=context)
    earlier = client.earlier(warm_start) if warm_start else None
    return client.cluster().submit(_experiment(source), earlier)


def watch(
    name: str,
    *,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
    timeout: float | None = None,
) -> Iterator[Event]:
    """Yield the events of an Experiment on the cluster until it finishes; Deadline after `timeout` seconds.

    for event in watch("gan-bayes"):
        print(event.kind, event.trial, event.message)
    """
    return Client(store, namespace=namespace, context=context).cluster(timeout=timeout).watch(name)


def studies(
    *,
    cluster: bool = False,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> list[Study]:
    """Return the studies of the store, or with `cluster` the Experiments of a namespace, with their states.

    running = [study.name for study in studies(cluster=True, namespace="gan-tuner") if study.state
    == "Running"]
    """
    if cluster:
        found = Client(store, namespace=namespace, context=context).cluster().studies()
        return [Study(name, EngineKind.KATIB, state) for name, state in found]
    client = Client(store)
    return [
        Study(name, engine, client.result(name, engine).state)
        for name, engine in client.store.all()
    ]


def status(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Result:
    """Return a study with all its trials: as it is now, or, with a UserWarning, as it was collected last.

    The latter happens where the cluster no longer has the study, refuses, or does not answer.
    `local` chooses the engine where both have a study of this name.

    print(status("gan-bayes").state, len(status("gan-bayes").trials))
    """
    client = Client(store, namespace=namespace, context=context)
    return client.result(name, client.place(name, local=local))


def best(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Trial | None:
    """Return the best trial of a study, which `status` finds; None until a trial has finished with a finite objective.

    trial = best("gan-bayes")
    print(trial.parameters if trial else "none yet")
    """
    return status(name, local=local, namespace=namespace, context=context, store=store).best


def advice(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> list[Change]:
    """Return what to change in the next search, each change with its reason; empty if the trials show no trend.

    print(*advice("gan-bayes"), sep="\\n")  # shrink lr to [0.0006, 0.0048]: it holds the best 3
    trials, and ...
    """
    from tuner.analysis.advice import advice as changes

    client = Client(store, namespace=namespace, context=context)
    kind = client.place(name, local=local)
    return changes(client.result(name, kind), client.experiment(name, kind))


def logs(
    name: str,
    trial: str | None = None,
    *,
    best: bool = False,
    follow: bool = False,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Iterator[str]:
    """Yield the lines that a trial printed: by its name or number, the best, else the newest.

    print("\\n".join(logs("gan-bayes", best=True)))
    """
    client = Client(store, namespace=namespace, context=context)
    return client.engine(name, local=local).logs(name, trial, best=best, follow=follow)


def files(
    name: str,
    target: str | Path,
    trial: str | None = None,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> list[FileRecord]:
    """Copy the files that a trial wrote, by default the best, to a new directory.

    print(*files("gan-bayes", "best"), sep="\\n")
    """
    client = Client(store, namespace=namespace, context=context)
    return client.engine(name, local=local).files(name, Path(target), trial)[1]


def extend(
    name: str,
    max_trials: int,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> None:
    """Give a study more trials. A local study runs them in its next run. Katib has other rules.

    extend("gan-bayes", 40)
    """
    Client(store, namespace=namespace, context=context).engine(name, local=local).extend(
        name, max_trials
    )


def stop(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> None:
    """Stop a study and its running trials; what has been observed is kept.

    stop("gan-bayes")
    """
    Client(store, namespace=namespace, context=context).engine(name, local=local).stop(name)


def delete(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Result:
    """Delete a study and return its last result. The results of a study on the cluster are collected and kept.

    print(delete("gan-bayes").best)
    """
    return (
        Client(store, namespace=namespace, context=context).engine(name, local=local).delete(name)
    )


def retry(
    name: str,
    trials: Sequence[int] | None = None,
    *,
    workers: int | None = None,
    store: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run failed trials of a local study again, all or those of these numbers, and continue the search.

    Each runs from scratch with the same parameters. Raises StudyError where one of `trials` did not
    fail.

    result = retry("gan-bayes", [3])
    """
    engine = Client(store).local(workers=workers)
    engine.retry(name, trials)
    return _follow(engine, name, on_event)


def check_store(name: str, *, repair: bool = False, store: str | Path | None = None) -> Health:
    """Return how many records of a local study's journal are intact, and what is damaged.

    With `repair`, the intact records are kept first, and the damaged file next to them; lost trials
    run again.

    print(check_store("gan-bayes").damage or "intact")
    """
    engine = Client(store).local()
    if repair:
        engine.repair(name)
    return engine.check(name)


def _follow(engine: Engine, name: str, on_event: Callable[[Event], None] | None) -> Result:
    result: Result | None = None
    for event in engine.watch(name):
        result = event.result
        if on_event:
            on_event(event)
        elif event.kind is EventKind.WARNING:
            warn(event.message)
    if result is None:
        raise GantuneError(f"{name} finished without an event")
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
