"""Rules on algorithmSettings, which suggestion services check only after admission, when the Experiment then fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from tuner import samplers
from tuner.check.fields import nearest
from tuner.check.rule import Finding, error, warning
from tuner.check.space import whole
from tuner.check.spec import VALIDATOR
from tuner.check.view import NUMERIC, View, number

Test = tuple[Callable[[str], bool], str]
SERVICES = "kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1"


def _whole_from(least: int) -> Test:
    return (
        lambda text: (value := whole(text)) is not None and value >= least,
        f"a whole number of at least {least}",
    )


def _number_where(test: Callable[[float], bool], wanted: str) -> Test:
    return lambda text: (value := number(text)) is not None and test(value), wanted


def _one_of(*known: str) -> Test:
    return lambda text: text in known, f"one of {', '.join(known)}"


_SEED = {"random_state": _whole_from(0)}
SETTINGS: Mapping[str, Mapping[str, Test]] = {
    "random": _SEED,
    "grid": _SEED,
    "tpe": {
        "gamma": _number_where(lambda x: 0 < x < 1, "a number between 0 and 1"),
        "prior_weight": _number_where(lambda x: x > 0, "a number above 0"),
        "n_EI_candidates": _whole_from(1),
        **_SEED,
    },
    "multivariate-tpe": {
        "n_startup_trials": _whole_from(0),
        "n_ei_candidates": _whole_from(0),
        **_SEED,
    },
    "bayesianoptimization": {
        "base_estimator": _one_of("GP", "RF", "ET", "GBRT"),
        "n_initial_points": _whole_from(1),
        "acq_func": _one_of("gp_hedge", "LCB", "EI", "PI"),
        "acq_optimizer": _one_of("auto", "sampling", "lbfgs"),
        **_SEED,
    },
    "cmaes": {
        "sigma": _number_where(lambda x: x > 0, "a number above 0"),
        "restart_strategy": _one_of("none", "ipop", "bipop"),
        **_SEED,
    },
    "sobol": _SEED,
    "hyperband": {
        "r_l": _number_where(lambda x: x >= 1, "a number of at least 1"),
        "eta": _number_where(lambda x: x >= 2, "a number of at least 2"),
        "resource_name": (bool, "the name of a parameter"),
    },
    "pbt": {
        "suggestion_trial_dir": (bool, "a directory"),
        "n_population": _whole_from(5),
        "truncation_threshold": _number_where(lambda x: 0 <= x <= 1, "a number from 0 to 1"),
        "resample_probability": _number_where(lambda x: 0 <= x <= 1, "a number from 0 to 1"),
    },
    "medianstop": {"min_trials_required": _whole_from(1), "start_step": _whole_from(1)},
}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "hyperband": ("r_l", "resource_name"),
    "pbt": ("suggestion_trial_dir", "n_population", "truncation_threshold"),
}


def _own(algorithm: str) -> Mapping[str, Test] | None:
    """The settings of an algorithm that only this project has; its factory checks their values."""
    row = samplers.ALGORITHMS.get(algorithm)
    return dict.fromkeys(row.settings, (lambda text: True, "any text")) | _SEED if row else None


def algorithm_setting(view: View) -> Iterator[Finding]:
    """Check the names and values of algorithmSettings, of the algorithm and of early stopping."""
    stopping = view.spec.get("earlyStopping", {}).get("algorithmName", "")
    for of, algorithm in (("algorithm", view.algorithm), ("earlyStopping", stopping)):
        known = SETTINGS.get(algorithm) or _own(algorithm)
        if known is None:  # enas and darts; another rule reports an unknown algorithm
            continue
        seen: set[str] = set()
        for path, name, value in view.settings(of):
            # it may have been read from a cluster
            if name in samplers.SUBMITTED_SETTINGS and of == "algorithm":
                continue
            if name not in known:
                takes = ", ".join(known) or "none"
                yield (
                    path,
                    f"{algorithm} has no setting {name[:60]!r} (it takes {takes}){nearest(name, known)}",
                )
            elif name in seen:
                yield path, f"setting {name!r} is given twice; take one out"
            elif not known[name][0](value):
                yield (
                    path,
                    f"setting {name} of {algorithm} must be {known[name][1]}, got {value[:60]!r}",
                )
            seen.add(name)
        if missing := [name for name in REQUIRED.get(algorithm, ()) if name not in seen]:
            yield ("spec", of), f"{algorithm} needs the settings {', '.join(missing)}"


def hyperband(view: View) -> Iterator[Finding]:
    """Check that hyperband's resource is a parameter, and that one bracket fits into parallelTrialCount."""
    if view.algorithm != "hyperband":
        return
    settings = {name: value for _, name, value in view.settings()}
    at = ("spec", "algorithm", "algorithmSettings")
    names = [item.get("name", "") for _, item in view.parameters]
    resource = settings.get("resource_name")
    if resource and resource not in names:
        yield (
            at,
            f"resource_name {resource!r} is no parameter ({', '.join(names)}){nearest(resource, names)}",
        )
    for path, item in view.parameters:
        if item.get("name") == resource and item.get("parameterType") == "discrete":
            values = (item.get("feasibleSpace") or {}).get("list") or []
            if bad := [value for value in values if whole(value) is None]:
                where = (*path, "feasibleSpace", "list", values.index(bad[0]))
                yield (
                    where,
                    f"hyperband's resource {resource!r} must have whole numbers, got {bad[0][:40]!r}",
                )
    most, eta = number(settings.get("r_l")), number(settings.get("eta", "3"))
    if most is None or eta is None or most < 1 or int(eta) < 2:
        return
    least = math.ceil(int(eta) ** int(math.log(most) / math.log(int(eta))))
    if view.parallel < least:
        got = f"got {view.parallel}"
        yield (
            ("spec", "parallelTrialCount"),
            f"hyperband with r_l {most:g} and eta {int(eta)} needs parallelTrialCount >= {least}, {got}",
        )


def cmaes_dimensions(view: View) -> Iterator[Finding]:
    """Check that cmaes has two numeric parameters."""
    count = len(list(view.spaces(*NUMERIC)))
    if view.algorithm == "cmaes" and count < 2:
        yield (
            ("spec", "algorithm", "algorithmName"),
            f"cmaes needs at least two double or int parameters, got {count}; use tpe",
        )


def nas(view: View) -> Iterator[Finding]:
    """Check that enas and darts have nasConfig, and other algorithms have parameters."""
    at = ("spec", "algorithm", "algorithmName")
    if view.algorithm in ("enas", "darts") and "nasConfig" not in view.spec:
        yield (
            at,
            f"{view.algorithm} searches architectures and needs spec.nasConfig; for parameters use tpe or random",
        )


def pbt(view: View) -> Iterator[Finding]:
    """Find what pbt of Katib 0.19 fails on: resample_probability, and int parameters."""
    if view.algorithm != "pbt":
        return
    for path, name, _ in view.settings():
        if name == "resample_probability":
            yield path, "Katib 0.19's pbt service fails on resample_probability; remove the setting"
    for path, item in view.parameters:
        if item.get("parameterType") == "int":
            text = f"Katib 0.19's pbt service passes int {item.get('name', '')!r} as text such as '10.0'"
            yield (*path, "parameterType"), f"{text}; use discrete, or another algorithm"


RULES = (
    error(
        "algorithm-setting",
        "The webhook does not look at settings. The suggestion service refuses unknown names and values after "
        "admission, and the Experiment fails. bayesianoptimization also takes n_initial_points 0 and acq_func "
        "EIps or PIps, and then dies of them; goptuna (cmaes, sobol) ignores unknown names.",
        f"{SERVICES}/hyperopt/service.py:102-150, optuna/service.py:138-240, skopt/service.py:116-165, "
        "goptuna/converter.go:38-68, hyperband/service.py:251-297; "
        "pkg/earlystopping/v1beta1/medianstop/service.py:93-118",
        algorithm_setting,
    ),
    error(
        "hyperband",
        "A bracket is asked for at once, so it must fit into parallelTrialCount.",
        f"{SERVICES}/hyperband/service.py:251-297",
        hyperband,
    ),
    error(
        "cmaes-dimensions",
        "CMA-ES adapts a covariance; with one dimension the service refuses.",
        f"{SERVICES}/goptuna/service.go:187",
        cmaes_dimensions,
    ),
    error(
        "nas",
        "enas and darts read nasConfig only.",
        f"{VALIDATOR}:165",
        nas,
    ),
    warning(
        "pbt",
        "resample_probability is compared with a text, and int values arrive as '10.0'.",
        f"{SERVICES}/pbt/service.py",
        pbt,
    ),
)
