"""The command line's verbs for Python: `from tuner import Experiment, run, submit, watch, best` (docs/katib.md).

Each takes a manifest's path or an Experiment, and a name as the command line does; `list` is `studies` here, since the
builtin has the name. Every failure is a GantuneError. What the command line writes as `warning:` is a UserWarning here
(`warnings.warn`): no node takes the trials' pods, the Experiment was there and is joined, a result is not up to date.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tuner.engine import Engine, Event
from tuner.errors import GantuneError, StudyNotFound
from tuner.manifest import Experiment, load
from tuner.result import Result, StudyState, Trial
from tuner.store import EngineKind, Store

if TYPE_CHECKING:
    from tuner.engines.katib import KatibEngine

Source = str | Path | Experiment


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
    """Search until it ends and return the Result.

    `local` chooses the engine; None takes the cluster if the kubeconfig reaches one with Katib. `workers`, `seed` and
    `max_trials` are the local engine's; on a cluster `max_trials` replaces maxTrialCount. `on_event` hears each Event.
    On a cluster it warns as `submit` does.

        result = run("manifests/bayes.yaml", local=True, seed=0)
        print(result.best.parameters, result.best.metrics["fd"])
    """
    experiment = _experiment(source)
    if local is None:
        from tuner.kube import has_katib

        local = not has_katib(context)[0]
    if local:
        from tuner.engines.local import LocalEngine

        engine: Engine = LocalEngine(Store(store), workers=workers, seed=seed, max_trials=max_trials)
    else:
        engine = _katib(store, namespace, context)
        if max_trials is not None:
            document = dict(experiment.document)
            document["spec"] = dict(document["spec"]) | {"maxTrialCount": max_trials}
            experiment = replace(experiment, max_trials=max_trials, document=document)
    result: Result | None = None
    for event in engine.watch(engine.submit(experiment)):
        result = event.result
        if on_event:
            on_event(event)
    if result is None:
        raise GantuneError(f"{experiment.name} ended without an event")
    return result


def submit(source: Source, *, namespace: str = "", context: str | None = None, store: str | Path | None = None) -> str:
    """Create the Experiment on the cluster, or join the one with the same spec; returns its name.

    A UserWarning says what may keep it from running: no node for its pods, fewer GPUs than it asks for.

    name = submit("manifests/bayes.yaml", namespace="gan-tuner")
    """
    return _katib(store, namespace, context).submit(_experiment(source))


def watch(
    name: str,
    *,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
    deadline: float | None = None,
) -> Iterator[Event]:
    """The events of an Experiment on the cluster until it ends; Deadline after `deadline` seconds.

    for event in watch("gan-bayes"):
        print(event.kind, event.trial, event.message)
    """
    engine = _katib(store, namespace, context)
    engine.deadline = deadline
    return engine.watch(name)


def studies(
    *, cluster: bool = False, namespace: str = "", context: str | None = None, store: str | Path | None = None
) -> list[Study]:
    """Return the studies of the store, or with `cluster` the Experiments of a namespace, with their states.

    running = [study.name for study in studies(cluster=True, namespace="gan-tuner") if study.state == "Running"]
    """
    if cluster:
        found = _katib(store, namespace, context).names()
        return [Study(name, EngineKind.KATIB, state) for name, state in found]
    from tuner.engines import collected

    keep = Store(store)
    return [Study(name, engine, collected(keep, name, engine).state) for name, engine in keep.all()]


def status(
    name: str,
    *,
    local: bool | None = None,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Result:
    """Return a study with all its trials: as it is now, or, with a UserWarning, as it was collected last.

    The latter happens where the cluster no longer has the study, refuses, or does not answer. `local` chooses the
    engine where both have a study of this name.

    print(status("gan-bayes").state, len(status("gan-bayes").trials))
    """
    return _refreshed(name, local, namespace, context, store)


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
    return _refreshed(name, local, namespace, context, store).best


def logs(
    name: str,
    trial: str | None = None,
    *,
    best: bool = False,
    follow: bool = False,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> Iterator[str]:
    """What a trial on the cluster printed, line by line: by its name or number, the best, else the newest.

    print("\\n".join(logs("gan-bayes", best=True)))
    """
    return _katib(store, namespace, context).logs(name, trial, best=best, follow=follow)


def extend(
    name: str,
    max_trials: int,
    *,
    namespace: str = "",
    context: str | None = None,
    store: str | Path | None = None,
) -> None:
    """Give an Experiment on the cluster more trials, as far as Katib allows it.

    extend("gan-bayes", 40)
    """
    _katib(store, namespace, context).extend(name, max_trials)


def stop(name: str, *, namespace: str = "", context: str | None = None, store: str | Path | None = None) -> None:
    """End an Experiment on the cluster and its running trials; what has been observed stays.

    stop("gan-bayes")
    """
    _katib(store, namespace, context).stop(name)


def delete(name: str, *, namespace: str = "", context: str | None = None, store: str | Path | None = None) -> Result:
    """Collect an Experiment's results, then delete it from the cluster; returns what is kept.

    print(delete("gan-bayes").best)
    """
    return _katib(store, namespace, context).delete(name)


def _experiment(source: Source) -> Experiment:
    return source if isinstance(source, Experiment) else load(source)


def _katib(store: str | Path | None, namespace: str, context: str | None) -> KatibEngine:
    from tuner.engines.katib import KatibEngine
    from tuner.kube import Cluster

    return KatibEngine(Cluster.connect(context), Store(store), namespace=namespace, notify=_warn)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)  # the engine's verb and ours lie between


def _refreshed(name: str, local: bool | None, namespace: str, context: str | None, store: str | Path | None) -> Result:
    from tuner.engines import collected
    from tuner.engines.katib import refresh

    keep = Store(store)
    remote = local is False or bool(namespace or context)
    asked = EngineKind.KATIB if remote else None if local is None else EngineKind.LOCAL
    if local is not True and keep.find(name, asked) is not EngineKind.LOCAL:
        error = refresh(keep, name, namespace=namespace, context=context, timeout=30.0, notify=_warn)
        if error and name not in keep.of(EngineKind.KATIB).names():
            raise error
        if error:
            warnings.warn(f"{name} is as it was collected last: {error}", stacklevel=3)
    engine = keep.find(name, asked)
    if engine is None:
        raise StudyNotFound(f"no study {name!r} in {keep.root}: `studies()` lists those that exist")
    return collected(keep, name, engine)
