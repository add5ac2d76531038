"""A study as an Optuna storage: parameters with their real values and distributions, and intermediate values.

The journal of the local engine is no such storage, since samplers work in coordinates of their own.
This one can be opened with optuna-dashboard, and with `optuna.load_study`.

| trial state | Optuna's |
| Succeeded | COMPLETE, if its objective is finite |
| EarlyStopped | PRUNED |
| MetricsUnavailable, Failed, Killed | FAIL |
| Running, Waiting | RUNNING, WAITING |
"""

from __future__ import annotations

import math
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import StudyError
from tuner.experiment.model import Experiment
from tuner.result import Result, Trial, TrialState
from tuner.samplers.transform import dimension
from tuner.space import Categorical, Discrete, Distribution, Int, Parameter, Value
from tuner.store.curves import Curves

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_LOG = (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)


def write(path: Path, result: Result, experiment: Experiment, curves: Mapping[str, Curves]) -> None:
    """Write a file that holds the study: a journal where its name ends with .journal, SQLite otherwise.

    Raises StudyError where the file cannot be written.
    """
    from optuna.exceptions import OptunaError
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    path.touch()  # OSError says why a file cannot be made; SQLite does not
    if path.suffix == ".journal":
        fill(JournalStorage(JournalFileBackend(str(path))), result, experiment, curves)
        return
    try:
        storage = RDBStorage("sqlite://", engine_kwargs={"creator": lambda: _connected(path)})
        try:
            fill(storage, result, experiment, curves)
        finally:
            storage.engine.dispose()
    except (OptunaError, SQLAlchemyError) as error:
        raise StudyError(
            f"{path} cannot be written completely: {str(error).splitlines()[0]}"
        ) from error


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection that does not wait for the disk after each trial; a file that is cut short is made again."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = MEMORY")
    return connection


def fill(
    storage: BaseStorage, result: Result, experiment: Experiment, curves: Mapping[str, Curves]
) -> None:
    """Add the study to a storage."""
    import optuna
    from optuna.storages import RDBStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective = result.objective
    study = optuna.create_study(
        storage=storage, study_name=result.name, direction=objective.goal_type.value
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls the names of metrics experimental
        study.set_metric_names([objective.metric])
    study.set_user_attr("algorithm", experiment.algorithm.name)
    space = {p.name: (p, distribution(p, _values(result, p))) for p in experiment.parameters}
    trials = [
        frozen(trial, objective.metric, space, curves.get(trial.name, {}))
        for trial in result.trials
    ]
    if isinstance(storage, RDBStorage):
        from tuner.export import rdb

        rdb.add_trials(storage, study._study_id, trials)
    else:
        study.add_trials(trials)


def frozen(
    trial: Trial,
    metric: str,
    space: Mapping[str, tuple[Parameter, BaseDistribution]],
    curves: Curves,
) -> FrozenTrial:
    """Return a trial as Optuna has it; its other metrics, name and reason are user attributes."""
    from optuna.trial import TrialState as Optuna
    from optuna.trial import create_trial

    value = trial.metrics.get(metric, math.nan)
    states = {
        TrialState.SUCCEEDED: Optuna.COMPLETE if math.isfinite(value) else Optuna.FAIL,
        TrialState.EARLY_STOPPED: Optuna.PRUNED,
        TrialState.RUNNING: Optuna.RUNNING,
        TrialState.WAITING: Optuna.WAITING,
    }
    state = states.get(trial.state, Optuna.FAIL)
    params = {
        name: _number(trial.parameters[name])
        if isinstance(parameter, Discrete)
        else trial.parameters[name]
        for name, (parameter, _) in space.items()
        if name in trial.parameters
    }
    others = {name: number for name, number in trial.metrics.items() if name != metric}
    notes = {
        "name": trial.name,
        "state": trial.state.value,
        "reason": trial.reason,
        "node": trial.node,
    }
    made = create_trial(
        state=state,
        value=value if state in (Optuna.COMPLETE, Optuna.PRUNED) and math.isfinite(value) else None,
        params=params,
        distributions={name: space[name][1] for name in params},
        intermediate_values={step: seen.value for step, seen in enumerate(curves.get(metric, ()))},
        user_attrs={**others, **{key: text for key, text in notes.items() if text}},
    )
    made.datetime_start = _naive(trial.started) or made.datetime_start
    if state.is_finished():
        made.datetime_complete = _naive(trial.ended) or made.datetime_start
    return made


def distribution(parameter: Parameter, values: Sequence[Value]) -> BaseDistribution:
    """Return Optuna's distribution of a parameter, which holds `values` too.

    Katib's services can propose an end beyond max. Optuna has no normal distribution, and no step
    on a log scale.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Categorical | Discrete):
        choices = [*parameter.choices, *(str(value) for value in values)]
        if isinstance(parameter, Discrete):
            return CategoricalDistribution(sorted({_number(choice) for choice in choices}))
        return CategoricalDistribution(list(dict.fromkeys(choices)))
    numbers = [float(value) for value in values]
    low, high = min([float(parameter.low), *numbers]), max([float(parameter.high), *numbers])
    log = parameter.distribution in _LOG and low > 0
    grid = dimension(parameter).values
    stepped = bool(parameter.step and not log and grid and all(value in grid for value in values))
    if isinstance(parameter, Int):
        step, top = (parameter.step or 1, int((grid or (high,))[-1])) if stepped else (1, int(high))
        return IntDistribution(int(low), top, log=log, step=step)
    if stepped and grid:
        return FloatDistribution(low, float(grid[-1]), step=parameter.step)
    return FloatDistribution(low, high, log=log)


def _values(result: Result, parameter: Parameter) -> list[Value]:
    return [
        trial.parameters[parameter.name]
        for trial in result.trials
        if parameter.name in trial.parameters
    ]


def _number(value: Value) -> Value:
    """Return a number for a text that is one: a discrete value is text in the manifest, 32 in the storage."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _naive(time: datetime | None) -> datetime | None:
    """Return a time as Optuna keeps it: local, without its offset."""
    return time.astimezone().replace(tzinfo=None) if time else None
