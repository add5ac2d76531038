"""Warnings where suggestion services read a manifest differently, repeat points or lose their state."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tuner.check.rule import Finding, style, warning
from tuner.check.space import numeric, ratio, whole
from tuner.check.template import arguments
from tuner.check.view import NUMERIC, View

SERVICES = "kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1"
HYPEROPT = ("random", "tpe")
LOSES_STATE = {
    "grid": "optuna",
    "multivariate-tpe": "optuna",
    "cmaes": "goptuna",
    "sobol": "goptuna",
    "hyperband": "hyperband",
}
STOCK_SERVICE_RULES = (  # they do not apply to the suggestion service of this project
    "distribution-ignored", "distribution-outside", "skopt-bound", "step-portable", "parallel-duplicates",
    "resume-state", "service-memory",
)  # fmt: skip
_MULTIPLE = 1e-6  # how far min / step may be from an integer
MEMORY_TRIALS = 45  # OOMKilled between 45 and 60 trials under the default 100Mi
_ROLE = r"g|d|gen|dis|disc|critic|adv|adversarial|gan|generator|discriminator"
_GAN_LOSS = re.compile(rf"(?:.*[_-])?(?:(?:{_ROLE})[_-]?loss|loss[_-]?(?:{_ROLE}))", re.I)
_GAN = re.compile(r"(?:^|[^a-z])(?:[a-z]*gans?)(?:[^a-z]|$)|-m trainer\b", re.I)


def distribution_ignored(view: View) -> Iterator[Finding]:
    """Check that the stock service reads the distribution of the manifest."""
    for kind in NUMERIC:
        for path, name, space in view.spaces(kind):
            stated = space.get("distribution") or "uniform"
            if instead := _instead(view.algorithm, kind, stated):
                where = (*path, "distribution") if "distribution" in space else path
                yield (
                    where,
                    f"{view.algorithm} ignores distribution {stated} of {kind} {name!r}: {instead}",
                )


def _instead(algorithm: str, kind: str, stated: str) -> str:
    if algorithm == "bayesianoptimization":
        if kind == "double" and stated != "logUniform":
            return "Katib 0.19's skopt takes every double as log-uniform; write logUniform, or use multivariate-tpe"
        if kind == "int" and stated != "uniform":
            return "its ints are uniform; write uniform, or use multivariate-tpe"
    elif algorithm == "multivariate-tpe" and stated in ("normal", "logNormal"):
        return "the optuna service knows uniform and logUniform only; write one of them"
    elif algorithm in ("cmaes", "sobol") and stated != "uniform":
        return (
            "its points are uniform; search log10 of the value uniformly, or use multivariate-tpe"
        )
    elif algorithm in ("grid", "hyperband") and stated != "uniform":
        return "its points follow min, max and step; give a discrete list, or write uniform"
    return ""


def explicit_distribution(view: View) -> Iterator[Finding]:
    """Check that the distribution of doubles is explicit."""
    if view.algorithm in ("random", "tpe", "multivariate-tpe"):
        for path, name, space in view.spaces("double"):
            if not space.get("distribution"):
                yield (
                    path,
                    f"double {name!r} states no distribution, so it is uniform; write uniform or logUniform",
                )


def wide_uniform(view: View) -> Iterator[Finding]:
    """Find normal and logNormal, which some services do not truncate."""
    if view.algorithm in HYPEROPT:
        for path, name, space in view.spaces(*NUMERIC):
            if (stated := space.get("distribution")) in ("normal", "logNormal"):
                text = f"{stated} of {name!r} is not cut off at min and max by hyperopt: some values lie outside"
                yield (*path, "distribution"), f"{text}; write uniform or logUniform"


def skopt_bound(view: View) -> Iterator[Finding]:
    """Check that min > 0 for skopt, whose doubles are log-uniform."""
    if view.algorithm == "bayesianoptimization":
        doubles = {path for path, _, _ in view.spaces("double")}
        for path, name, space, low, _, _ in numeric(view):
            if (
                path in doubles
                and low <= 0
                and space.get("distribution") not in ("logUniform", "logNormal")
            ):
                text = f"Katib 0.19's skopt takes double {name!r} as log-uniform and fails on min {space['min']}"
                yield (*path, "min"), f"{text}; use a min above 0, or multivariate-tpe"


def step(view: View) -> Iterator[Finding]:
    """Find a step that the stock service ignores, or turns into values outside the grid."""
    for path, name, space, low, _, by in numeric(view):
        if by is None or by <= 0:
            continue
        start = ratio(low, 0, by)
        stated = space.get("distribution") or "uniform"
        text = ""
        if stated in ("logUniform", "logNormal") and view.algorithm in HYPEROPT:
            text = f"hyperopt rounds {stated} to multiples of step, so {name!r} can be exactly 0; remove step"
        elif stated == "logUniform" and view.algorithm == "multivariate-tpe":
            text = f"optuna ignores the step of {name!r} because it is logUniform; remove step"
        elif view.algorithm == "bayesianoptimization" and not (
            by == 1 and whole(space["step"]) is not None
        ):
            text = f"Katib 0.19's skopt ignores the step of {name!r}; use a discrete list, or remove step"
        elif view.algorithm in HYPEROPT and abs(start - round(start)) > _MULTIPLE:
            text = f"hyperopt proposes multiples of {space['step']} for {name!r}, which are not min + k * step"
            text += "; make min a multiple of step, or use a discrete list"
        if text:
            yield (*path, "step"), text


def parallel_duplicates(view: View) -> Iterator[Finding]:
    """Find algorithms that answer a request for several points with equal ones."""
    if view.parallel < 2:
        return
    path = ("spec", "parallelTrialCount") if "parallelTrialCount" in view.spec else ("spec",)
    if view.algorithm == "tpe":
        text = f"Katib's tpe gives the same point to all {view.parallel} trials of a request"
        yield path, f"{text}; use parallelTrialCount: 1, or multivariate-tpe"
    elif (
        view.algorithm == "bayesianoptimization"
        and view.parameters
        and not list(view.spaces("double", "int"))
    ):
        text = f"bayesianoptimization over lists only repeats points when {view.parallel} are asked for at once"
        yield path, f"{text}; use grid, random or parallelTrialCount: 1"


def resume_state(view: View) -> Iterator[Finding]:
    """Check resumePolicy for services that lose their state."""
    policy = view.spec.get("resumePolicy", "Never")
    if policy != "Never" and (service := LOSES_STATE.get(view.algorithm)):
        text = f"resumePolicy {policy} with {view.algorithm}: the {service} service keeps its state in memory alone"
        yield (
            ("spec", "resumePolicy"),
            f"{text} and repeats trials or fails after a restart; write Never",
        )
    elif policy == "FromVolume" and view.algorithm != "pbt":
        yield (
            ("spec", "resumePolicy"),
            "resumePolicy FromVolume makes a volume that only pbt reads; write Never or LongRunning",
        )


def service_memory(view: View) -> Iterator[Finding]:
    """Find searches that need more memory than skopt has by default."""
    if view.algorithm == "bayesianoptimization" and (view.max_trials or 0) > MEMORY_TRIALS:
        text = f"{view.max_trials} trials: Katib's skopt pod (100Mi) is killed after {MEMORY_TRIALS} to 60"
        yield (
            ("spec", "maxTrialCount"),
            f"{text}; raise its memory in katib-config, or write {MEMORY_TRIALS} or less",
        )


def gan_loss(view: View) -> Iterator[Finding]:
    """Find an objective that is a GAN's loss."""
    metric = view.objective.get("objectiveMetricName", "")
    about = " ".join([view.metadata.get("name", ""), *arguments(view)])
    if _GAN_LOSS.fullmatch(metric) or (
        metric.lower() in ("loss", "final_loss", "train_loss") and _GAN.search(about)
    ):
        where = ("spec", "objective", "objectiveMetricName")
        text = f"objective {metric!r} is a GAN's loss, which falls when the other side fails, not when images are good"
        yield where, f"{text}; use a distance to held-out images, such as fd"


RULES = (
    warning(
        "distribution-ignored",
        "In 0.19 skopt, goptuna, hyperband and grid do not read `distribution`, and optuna drops or refuses "
        "normal and logNormal: the cluster then searches another space than the manifest states.",
        f"{SERVICES}/skopt/base_service.py:58-87, goptuna/converter.go:110-184, optuna/base_service.py:110-172; "
        "https://github.com/kubeflow/katib/pull/2689",
        distribution_ignored,
    ),
    style(
        "distribution-explicit",
        "Uniform is the default. For a rate that spans decades it puts nine points of ten into the last decade.",
        "kubeflow/katib 33c8ff4, experiment_defaults.go, setDefaultParameterDistribution",
        explicit_distribution,
    ),
    warning(
        "distribution-outside",
        "hyperopt draws normal with sigma (max-min)/6 and does not truncate: 0.2 to 0.3 % of the values lie "
        "outside min and max.",
        f"{SERVICES}/hyperopt/base_service.py:62-148",
        wide_uniform,
    ),
    warning(
        "skopt-bound",
        "Every double is log-uniform to skopt in 0.19, so a min of 0 or below is a ValueError.",
        f"{SERVICES}/skopt/base_service.py:58-87",
        skopt_bound,
    ),
    warning(
        "step-portable",
        "hyperopt rounds values to multiples of step, whatever min is: min 1 and step 2 give even numbers, and a "
        "log-uniform value is exactly 0 in 23.7 % of the draws with step 1e-4 on [1e-5, 1e-2]. skopt ignores step, "
        "and optuna ignores it for logUniform.",
        f"{SERVICES}/hyperopt/base_service.py:62-148, internal/search_space.py:95",
        step,
    ),
    warning(
        "parallel-duplicates",
        "hyperopt's tpe asks once with one seed for each of N parallel trials: 15 distinct points of 20 on a live"
        " cluster with parallelTrialCount 3. bayesianoptimization proposed 7 distinct of 15 over a 3 x 3 list.",
        f"{SERVICES}/hyperopt/base_service.py:302-314; https://github.com/kubeflow/katib/issues/1329, 2571",
        parallel_duplicates,
    ),
    warning(
        "resume-state",
        "After a restart of its pod, optuna's grid begins again, goptuna fails for ever; FromVolume's volume is "
        "read by pbt alone.",
        "https://github.com/kubeflow/katib/issues/1293, 1893",
        resume_state,
    ),
    warning(
        "service-memory",
        "Suggestion pods have 100Mi. skopt passes that between 45 and 60 trials, is OOMKilled again and again, "
        "and the Experiment stays Running.",
        "https://github.com/kubeflow/katib/issues/2260; seen on a live cluster",
        service_memory,
    ),
    warning(
        "gan-loss",
        "The two losses of a GAN play against each other: a low generator loss can mean that the discriminator "
        "has collapsed, and the minimum over a search finds such runs.",
        "Lucic et al. 2018, Are GANs Created Equal?, arXiv:1711.10337",
        gan_loss,
    ),
)
