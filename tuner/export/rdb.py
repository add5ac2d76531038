"""Adds trials to an Optuna SQL storage in one transaction.

`Study.add_trials` sends about sixty statements and one commit for each trial (Optuna 5.0), which is
50 ms or more. This module writes the same rows with one INSERT for each table. It uses the table
classes of Optuna, which are not part of
its public interface: pyproject.toml limits the version, and a test compares the rows with those of
`add_trials`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

BATCH = 20_000  # rows of one INSERT: they are in memory as dictionaries

Row = dict[str, Any]


def add_trials(storage: RDBStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    """Add trials, numbered from 0, to a study that has none. All are added, or none."""
    from optuna.storages._rdb import models

    with Session(storage.engine) as session, session.begin():
        made = [
            models.TrialModel(
                number=number,
                study_id=study_id,
                state=trial.state,
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
            )
            for number, trial in enumerate(trials)
        ]
        session.add_all(made)
        session.flush()  # gives each trial its id
        held = [(int(model.trial_id), trial) for model, trial in zip(made, trials, strict=True)]
        tables: list[tuple[type[Any], Iterator[Row]]] = [
            (models.TrialValueModel, _values(held)),
            (models.TrialParamModel, _parameters(held)),
            (models.TrialUserAttributeModel, _attributes(held)),
            (models.TrialIntermediateValueModel, _reports(held)),
        ]
        for table, rows in tables:
            while batch := list(islice(rows, BATCH)):
                session.execute(insert(table), batch)


def _values(trials: Sequence[tuple[int, FrozenTrial]]) -> Iterator[Row]:
    from optuna.storages._rdb.models import TrialValueModel

    for trial_id, trial in trials:
        for objective, number in enumerate(trial.values or ()):
            value, kind = TrialValueModel.value_to_stored_repr(number)
            yield {"trial_id": trial_id, "objective": objective, "value": value, "value_type": kind}


def _parameters(trials: Sequence[tuple[int, FrozenTrial]]) -> Iterator[Row]:
    from optuna.distributions import distribution_to_json

    written: dict[int, str] = {}  # all trials share the distributions of the study
    for trial_id, trial in trials:
        for name, value in trial.params.items():
            distribution = trial.distributions[name]
            if id(distribution) not in written:
                written[id(distribution)] = distribution_to_json(distribution)
            yield {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distribution.to_internal_repr(value),
                "distribution_json": written[id(distribution)],
            }


def _attributes(trials: Sequence[tuple[int, FrozenTrial]]) -> Iterator[Row]:
    for trial_id, trial in trials:
        for key, value in trial.user_attrs.items():
            yield {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _reports(trials: Sequence[tuple[int, FrozenTrial]]) -> Iterator[Row]:
    from optuna.storages._rdb.models import TrialIntermediateValueModel

    for trial_id, trial in trials:
        for step, number in trial.intermediate_values.items():
            value, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(number)
            yield {
                "trial_id": trial_id,
                "step": step,
                "intermediate_value": value,
                "intermediate_value_type": kind,
            }
