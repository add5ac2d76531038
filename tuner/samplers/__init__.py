"""Katib's algorithms by name: the next point, as a function of the seed, the trial's number and what has been told.

No sampler keeps a state that is not rebuilt from that history: each proposal draws from a generator seeded by (seed,
number). So a search that was killed goes on with the very point it would have had. Grid, random, Sobol and hyperband
draw directly; tpe, multivariate-tpe, bayesianoptimization and cmaes are Optuna's samplers on an in-memory study.

No point is proposed twice in a finite space. A trial that failed counts, for the sampler, as the worst value told.
"""

from __future__ import annotations

import hashlib
import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from tuner.errors import UnsupportedError
from tuner.manifest import Experiment
from tuner.result import Goal
from tuner.samplers.transform import LARGEST_GRID, Dimension, dimension, point, size
from tuner.space import Value

SUPPORTED = ("grid", "random", "tpe", "multivariate-tpe", "bayesianoptimization", "cmaes", "sobol", "hyperband")
GP_START_UP = 5  # docs/algorithms.md: the figure for it


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier trial: its point, and its objective once told. `told` with no value is a trial that failed."""

    point: Mapping[str, Any]
    values: Mapping[str, Value]
    told: bool = False
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next point, in the sampler's coordinates and as the trial sees it."""

    point: dict[str, Any]
    values: dict[str, Value]


class Sampler(Protocol):
    """One algorithm on one space."""

    dimensions: tuple[Dimension, ...]

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """The point of trial `len(history)`, or None where every point has been proposed."""
        ...


def sampler(experiment: Experiment, seed: int, known: Sequence[tuple[Mapping[str, Any], float]] = ()) -> Sampler:
    """The sampler of an Experiment; `known` are points and values from an earlier study.

    Raises UnsupportedError for an algorithm or a setting that this engine does not have.
    """
    name, settings = experiment.algorithm.name, dict(experiment.algorithm.settings)
    settings.pop("random_state", None)
    dimensions = tuple(dimension(parameter) for parameter in experiment.parameters)
    if name not in SUPPORTED:
        raise UnsupportedError(f"algorithm {name} does not run locally; these do: {', '.join(SUPPORTED)}")
    if name == "grid":
        _refuse(name, settings, ())
        return Grid(dimensions, seed)
    if name == "random":
        _refuse(name, settings, ())
        return Direct(dimensions, seed, _uniform)
    if name == "sobol":
        _refuse(name, settings, ())
        return Direct(dimensions, seed, _sobol)
    if name == "hyperband":
        _refuse(name, settings, ("r_l", "eta", "resource_name"))
        fixed = _resource(experiment, settings)
        return Direct(dimensions, seed, _uniform, fixed)
    make = {"tpe": _tpe, "multivariate-tpe": _multivariate_tpe, "bayesianoptimization": _gp, "cmaes": _cmaes}[name]
    maximize = experiment.objective.goal_type is Goal.MAXIMIZE
    return Model(dimensions, seed, make(settings), maximize=maximize, known=known, replayed=name == "cmaes")


def derived(seed: int, *parts: object) -> int:
    """A 32-bit seed for one purpose, from the study's."""
    digest = hashlib.sha256("/".join(map(str, (seed, *parts))).encode()).digest()
    return int.from_bytes(digest[:4], "big")


class Grid:
    """Every point of a finite space once, in a seeded shuffle (Katib's is another shuffle of the same set)."""

    def __init__(self, dimensions: tuple[Dimension, ...], seed: int) -> None:
        self.dimensions = dimensions
        endless = [a.name for a in dimensions if a.values is None]
        if endless:
            raise UnsupportedError(f"grid needs a step on every double, and {', '.join(endless)} has none")
        if (count := size(dimensions) or 0) > LARGEST_GRID:
            raise UnsupportedError(f"grid may have {LARGEST_GRID} points, has {count}: use random")
        self._order = list(range(count))
        random.Random(derived(seed, "grid")).shuffle(self._order)

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """The next point of the shuffle."""
        if len(history) >= len(self._order):
            return None
        return _from_values(self.dimensions, point(self.dimensions, self._order[len(history)]))


class Direct:
    """Points that no result changes: random, Sobol, and hyperband's."""

    def __init__(
        self,
        dimensions: tuple[Dimension, ...],
        seed: int,
        draw: Callable[[int, int, int, int], Sequence[float]],
        fixed: Mapping[str, Value] | None = None,
    ) -> None:
        self.dimensions, self._seed, self._draw, self._fixed = dimensions, seed, draw, dict(fixed or {})
        self._free = tuple(a for a in dimensions if a.name not in self._fixed)

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """A new point; in a finite space the first of a few draws that is new, then any that is."""
        seen = {tuple(past.values[a.name] for a in self._free) for past in history}
        finite = size(self._free)
        for attempt in range(1 if finite is None else 20):
            us = self._draw(self._seed, len(history), attempt, len(self._free))
            values = {a.name: a.at(u) for a, u in zip(self._free, us, strict=True)}
            if finite is None or tuple(values.values()) not in seen:
                return self._whole(values)
        unseen = _unseen(self._free, seen, derived(self._seed, len(history), "unseen"))
        return self._whole(unseen) if unseen else None

    def _whole(self, values: Mapping[str, Value]) -> Proposal:
        return _from_values(self.dimensions, {a.name: {**self._fixed, **values}[a.name] for a in self.dimensions})


class Model:
    """An Optuna sampler on an in-memory study that holds exactly the history.

    The study is grown while the history grows, and rebuilt where it would have to forget: when the value that failed
    trials stand for changes, or a duplicate was replaced. `replayed` samplers keep state between asks (CMA-ES), so
    theirs is never rebuilt but asked again from the start, with each failure valued at its own time.
    """

    def __init__(
        self,
        dimensions: tuple[Dimension, ...],
        seed: int,
        make: Callable[[int], BaseSampler],
        *,
        maximize: bool,
        known: Sequence[tuple[Mapping[str, Any], float]],
        replayed: bool,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.dimensions, self._seed, self._make, self._replayed = dimensions, seed, make, replayed
        self._direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        self._worst = min if maximize else max
        self._known = list(known)
        self._distributions = {a.name: a.distribution for a in dimensions}
        self._study: optuna.Study | None = None
        self._held: list[Past] = []
        self._penalty: float | None = None

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Ask Optuna, with every told trial complete and every other running."""
        seen = {tuple(past.values.values()) for past in history}
        if size(self.dimensions) == len(seen):
            return None
        self._bring(history)
        proposal = self._ask(len(history))
        if size(self.dimensions) is not None and not self._replayed and tuple(proposal.values.values()) in seen:
            self._study = None
            unseen = _unseen(self.dimensions, seen, derived(self._seed, len(history), "unseen"))
            return _from_values(self.dimensions, unseen) if unseen else None
        self._held.append(Past(proposal.point, proposal.values))
        return proposal

    def _ask(self, number: int) -> Proposal:
        assert self._study is not None  # noqa: S101
        self._study.sampler = self._make(derived(self._seed, number))
        asked = self._study.ask(self._distributions)
        coordinates = {a.name: asked.params[a.name] for a in self.dimensions}
        return Proposal(coordinates, {a.name: a.value(coordinates[a.name]) for a in self.dimensions})

    def _bring(self, history: Sequence[Past]) -> None:
        values = [past.value for past in history if past.value is not None] + [value for _, value in self._known]
        penalty = self._worst(values, default=None)
        failed = any(past.told and past.value is None for past in history)
        grown = all(old.values == new.values for old, new in zip(self._held, history, strict=False))
        changed = failed and penalty != self._penalty and not self._replayed
        if self._study is None or not grown or len(self._held) > len(history) or changed:
            self._rebuild(history, penalty)
        self._penalty = penalty
        for number, past in enumerate(history):
            if past.told and not self._held[number].told:
                self._tell(number, past, penalty)

    def _rebuild(self, history: Sequence[Past], penalty: float | None) -> None:
        self._study = optuna.create_study(direction=self._direction, sampler=optuna.samplers.RandomSampler(0))
        for coordinates, value in self._known:
            self._study.add_trial(self._trial(coordinates, value, told=True))
        self._held = []
        if self._replayed:
            self._replay(history)
            return
        for past in history:
            self._held.append(past)
            if not past.told:
                self._study.add_trial(self._trial(past.point, None, told=False))
            else:
                self._study.add_trial(self._trial(past.point, penalty if past.value is None else past.value, told=True))

    def _replay(self, history: Sequence[Past]) -> None:
        """Ask for every trial again, each with what had been told by then: the lag is visible in the history."""
        lag = len(history) - sum(past.told for past in history)
        for number in range(len(history)):
            values = [past.value for past in history[: max(number - lag, 0)] if past.value is not None]
            for index in range(max(number - lag, 0)):
                if not self._held[index].told:
                    known = [value for _, value in self._known]
                    self._tell(index, history[index], self._worst([*values, *known], default=None))
            self._ask(number)
            self._held.append(Past(history[number].point, history[number].values))

    def _tell(self, number: int, past: Past, penalty: float | None) -> None:
        assert self._study is not None  # noqa: S101
        value = penalty if past.value is None else past.value
        state = OptunaState.FAIL if value is None else OptunaState.COMPLETE
        self._study.tell(number + len(self._known), value, state=state)
        self._held[number] = past

    def _trial(self, coordinates: Mapping[str, Any], value: float | None, *, told: bool) -> Any:
        state = OptunaState.COMPLETE if value is not None else OptunaState.FAIL if told else OptunaState.RUNNING
        return create_trial(state=state, params=dict(coordinates), distributions=self._distributions, value=value)


def _from_values(dimensions: Sequence[Dimension], values: Mapping[str, Value]) -> Proposal:
    return Proposal({a.name: a.encode(values[a.name]) for a in dimensions}, dict(values))


def _unseen(dimensions: Sequence[Dimension], seen: set[tuple[Value, ...]], seed: int) -> dict[str, Value] | None:
    """A random point of a finite space that is not in `seen`."""
    count = size(dimensions) or 0
    start = random.Random(seed).randrange(max(count, 1))
    for offset in range(count):
        values = point(dimensions, (start + offset) % count)
        if tuple(values.values()) not in seen:
            return values
    return None


def _uniform(seed: int, number: int, attempt: int, count: int) -> Sequence[float]:
    generator = random.Random(derived(seed, number, attempt))
    return [generator.random() for _ in range(count)]


def _sobol(seed: int, number: int, attempt: int, count: int) -> Sequence[float]:
    """Point `number` of a scrambled Sobol sequence; a point that is taken already falls back to a random one."""
    if attempt:
        return _uniform(seed, number, attempt, count)
    from scipy.stats import qmc  # half a second, for this algorithm alone

    engine = qmc.Sobol(count, scramble=True, seed=derived(seed, "sobol"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one point is no balanced set
        us: list[float] = engine.random(number + 1)[-1].tolist()
    return us


def _resource(experiment: Experiment, settings: Mapping[str, str]) -> dict[str, Value]:
    """hyperband's resource parameter at its full amount: every trial is set up to run to the end, and may be cut."""
    name, amount = settings.get("resource_name"), settings.get("r_l")
    if not name or not amount:
        raise UnsupportedError("hyperband needs the settings resource_name and r_l")
    held = next((p for p in experiment.parameters if p.name == name), None)
    if held is None:
        raise UnsupportedError(f"hyperband's resource_name {name!r} must be one of the parameters")
    own = dimension(held)
    whole = int(float(amount))
    value: Value = whole if own.values and isinstance(own.values[0], int) else amount
    try:
        own.encode(value)
    except ValueError as error:
        raise UnsupportedError(f"hyperband's r_l {amount} must be a value of its resource: {error}") from error
    return {name: float(amount) if own.values is None else value}


def _refuse(name: str, settings: Mapping[str, str], known: Sequence[str]) -> None:
    for setting in settings:
        if setting not in known:
            raise UnsupportedError(f"setting {setting} of {name} is not available locally: leave it out")


def _tpe(settings: Mapping[str, str]) -> Callable[[int], BaseSampler]:
    """Katib's is hyperopt's: its `gamma` is the share of the square root of the number of trials, at most 25."""
    _refuse("tpe", settings, ("gamma", "prior_weight", "n_EI_candidates"))
    options: dict[str, Any] = {}
    if "gamma" in settings:
        share = float(settings["gamma"])
        options["gamma"] = lambda count: min(math.ceil(share * math.sqrt(count)), 25)
    if "prior_weight" in settings:
        options["prior_weight"] = float(settings["prior_weight"])
    if "n_EI_candidates" in settings:
        options["n_ei_candidates"] = int(settings["n_EI_candidates"])
    return lambda seed: _quietly(TPESampler, seed=seed, **options)


def _multivariate_tpe(settings: Mapping[str, str]) -> Callable[[int], BaseSampler]:
    _refuse("multivariate-tpe", settings, ("n_startup_trials", "n_ei_candidates"))
    options = {key: int(value) for key, value in settings.items()}
    return lambda seed: _quietly(TPESampler, seed=seed, multivariate=True, constant_liar=True, **options)


def _gp(settings: Mapping[str, str]) -> Callable[[int], BaseSampler]:
    name = "bayesianoptimization"
    _refuse(name, settings, ("base_estimator", "n_initial_points", "acq_func", "acq_optimizer"))
    for setting, known in (("base_estimator", ("GP",)), ("acq_func", ("EI",)), ("acq_optimizer", ("auto", "lbfgs"))):
        if settings.get(setting, known[0]) not in known:
            raise UnsupportedError(
                f"setting {setting}={settings[setting]} of {name} is not available locally: "
                f"leave it out or write {' or '.join(known)}"
            )
    start_up = max(int(settings.get("n_initial_points", GP_START_UP)), 1)
    return lambda seed: _quietly(GPSampler, seed=seed, n_startup_trials=start_up, warn_independent_sampling=False)


def _cmaes(settings: Mapping[str, str]) -> Callable[[int], BaseSampler]:
    _refuse("cmaes", settings, ("sigma", "restart_strategy"))
    if settings.get("restart_strategy", "none") not in ("", "none"):
        raise UnsupportedError(
            f"setting restart_strategy={settings['restart_strategy']} of cmaes is not available locally: "
            "Optuna 4.4 removed restarts; write none"
        )
    options = {"sigma0": float(settings["sigma"])} if "sigma" in settings else {}
    return lambda seed: _quietly(CmaEsSampler, seed=seed, warn_independent_sampling=False, **options)


def _quietly(make: Callable[..., BaseSampler], **options: Any) -> BaseSampler:
    """Optuna warns of arguments that it may rename in version 6, which this project's range excludes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(**options)
