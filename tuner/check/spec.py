"""Rules on the first part of an Experiment: name, counts, objective, algorithm, resume policy (validator.go:69-240)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tuner import samplers
from tuner.check.fields import nearest
from tuner.check.rule import Finding, error, style, warning
from tuner.check.view import View, dig
from tuner.katib import facts as katib
from tuner.katib.facts import EARLY_STOPPING, RESUME_POLICIES
from tuner.katib.yamlfile import Path

VALIDATOR = "kubeflow/katib 33c8ff4, pkg/webhook/v1beta1/experiment/validator/validator.go"
CONFIG = "kubeflow/katib 33c8ff4, manifests/v1beta1/installs/katib-standalone/katib-config.yaml"
DEFAULTS = "kubeflow/katib 33c8ff4, pkg/apis/controller/experiments/v1beta1/experiment_defaults.go"

# of Katib, and of this project
ALGORITHMS = tuple(dict.fromkeys((*katib.ALGORITHMS, *samplers.ALGORITHMS)))
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")


_ALIASES = {  # what other tools call an algorithm, or the library that serves it
    **dict.fromkeys(
        ("bayesian", "bayes", "bo", "gp", "gaussian-process", "skopt"), "bayesianoptimization"
    ),
    **dict.fromkeys(("hyperopt", "optuna", "tpesampler"), "tpe"),
    **dict.fromkeys(("gridsearch", "grid-search"), "grid"),
    **dict.fromkeys(("randomsearch", "random-search"), "random"),
    **dict.fromkeys(("asha", "bohb", "successive-halving"), "hyperband"),
    **dict.fromkeys(("goptuna", "cma"), "cmaes"),
    "quasirandom": "sobol",
}


def one_of(value: Any, known: tuple[str, ...]) -> str:
    """Return `must be one of a, b, got 'x'; did you mean 'a'?`"""
    return f"must be one of {', '.join(known)}, got {str(value)[:60]!r}{nearest(str(value), known)}"


def name(view: View) -> Iterator[Finding]:
    """Check that metadata.name or generateName also suits the names of trials and of the suggestion."""
    given, prefix = view.metadata.get("name"), view.metadata.get("generateName")
    if given:
        if not _NAME.match(given) or len(given) > 40:
            wants = "must be at most 40 of a-z, 0-9 and '-', begin with a letter and end with a letter or digit"
            yield (
                ("metadata", "name"),
                f"metadata.name {wants}, got {given[:80]!r} ({len(given)} characters)",
            )
    elif prefix:
        if not _NAME.match(prefix + "x") or len(prefix) > 35:
            wants = "must be at most 35 of a-z, 0-9 and '-' and begin with a letter (the API server adds five characters)"
            yield (
                ("metadata", "generateName"),
                f"metadata.generateName {wants}, got {prefix[:80]!r}",
            )
    else:
        yield ("metadata",), "metadata.name must be given"


def count_range(view: View) -> Iterator[Finding]:
    """Check that counts are positive, or 0 for failures."""
    for key, least in (("maxFailedTrialCount", 0), ("maxTrialCount", 1), ("parallelTrialCount", 1)):
        if (count := view.spec.get(key)) is not None and count < least:
            yield ("spec", key), f"spec.{key} must be at least {least}, got {count}"


def failed_above_max(view: View) -> Iterator[Finding]:
    """Check that maxFailedTrialCount is at most maxTrialCount."""
    failed, most = view.spec.get("maxFailedTrialCount"), view.max_trials
    if failed is not None and most is not None and failed > most > 0:
        yield (
            ("spec", "maxFailedTrialCount"),
            f"maxFailedTrialCount must be at most maxTrialCount, got {failed} and {most}; write {most} or less",
        )


def parallel_above_max(view: View) -> Iterator[Finding]:
    """Check that parallelTrialCount, 3 by default, is at most maxTrialCount."""
    most, given = view.max_trials, "parallelTrialCount" in view.spec
    if most is not None and view.parallel > most > 0:
        got = f"got {view.parallel}" if given else f"which is {view.parallel} when left out"
        path = ("spec", "parallelTrialCount" if given else "maxTrialCount")
        yield (
            path,
            f"parallelTrialCount must be at most maxTrialCount ({most}), {got}; write parallelTrialCount: {most}",
        )


def objective(view: View) -> Iterator[Finding]:
    """Check type and objectiveMetricName."""
    at = ("spec", "objective")
    if "objective" not in view.spec:
        yield at, "spec.objective must be given, with type and objectiveMetricName"
        return
    kind = view.objective.get("type", "")
    if kind not in ("minimize", "maximize"):
        yield (*at, "type"), f"spec.objective.type {one_of(kind, ('minimize', 'maximize'))}"
    metric = view.objective.get("objectiveMetricName", "")
    if not metric:
        yield (*at, "objectiveMetricName"), "spec.objective.objectiveMetricName must be given"
    additional = view.objective.get("additionalMetricNames", [])
    if metric and metric in additional:
        where = (*at, "additionalMetricNames", additional.index(metric))
        yield (
            where,
            f"additionalMetricNames must not hold the objective {metric!r} itself; take it out",
        )


def metric_strategy(view: View) -> Iterator[Finding]:
    """Check that metricStrategies[] of collected metrics are min, max or latest."""
    for at, metric, value in _strategies(view):
        if metric in view.metrics and value not in ("min", "max", "latest"):
            yield (
                (*at, "value"),
                f"the strategy of {metric!r} {one_of(value, ('min', 'max', 'latest'))}",
            )


def metric_strategy_unused(view: View) -> Iterator[Finding]:
    """Find metricStrategies[] of metrics that are not collected."""
    for at, metric, _ in _strategies(view):
        if metric not in view.metrics:
            known = ", ".join(view.metrics)
            text = f"a strategy for {metric!r}, which is not collected (metrics: {known}), has no effect"
            yield (*at, "name"), f"{text}{nearest(metric, view.metrics)}"


def _strategies(view: View) -> Iterator[tuple[Path, str, str]]:
    """Yield (path, metric, strategy) of every entry."""
    for i, item in enumerate(view.objective.get("metricStrategies", [])):
        at: Path = ("spec", "objective", "metricStrategies", i)
        yield at, dig(item, "name") or "", dig(item, "value") or ""


def algorithm(view: View) -> Iterator[Finding]:
    """Check that katib-config knows algorithmName and earlyStopping.algorithmName."""
    at = ("spec", "algorithm", "algorithmName")
    if not view.algorithm:
        yield at, f"spec.algorithm.algorithmName must be given, one of {', '.join(ALGORITHMS)}"
    elif view.algorithm not in ALGORITHMS:
        known = _ALIASES.get(view.algorithm.lower())
        hint = f"; did you mean {known!r}?" if known else nearest(view.algorithm, ALGORITHMS)
        got = f"must be one of {', '.join(ALGORITHMS)}, got {view.algorithm[:60]!r}{hint}"
        yield at, f"spec.algorithm.algorithmName {got}"
    stopping = view.spec.get("earlyStopping")
    if stopping is not None and stopping.get("algorithmName") not in EARLY_STOPPING:
        where = ("spec", "earlyStopping", "algorithmName")
        yield (
            where,
            f"spec.earlyStopping.algorithmName {one_of(stopping.get('algorithmName', ''), EARLY_STOPPING)}",
        )


def resume_policy(view: View) -> Iterator[Finding]:
    """Check resumePolicy."""
    policy = view.spec.get("resumePolicy")
    if policy and policy not in RESUME_POLICIES:
        yield ("spec", "resumePolicy"), f"spec.resumePolicy {one_of(policy, RESUME_POLICIES)}"


def explicit_counts(view: View) -> Iterator[Finding]:
    """Check that maxTrialCount, maxFailedTrialCount and parallelTrialCount are explicit."""
    meaning = {
        "maxTrialCount": "without it the search never ends by itself",
        "maxFailedTrialCount": "without it failing trials continue forever",
        "parallelTrialCount": "left out it is 3, and a maxTrialCount below 3 is refused",
    }
    for key, consequence in meaning.items():
        if key not in view.spec:
            yield ("spec",), f"spec.{key} is not given: {consequence}"


def explicit_strategy(view: View) -> Iterator[Finding]:
    """Check that the objective has a strategy."""
    metric = view.objective.get("objectiveMetricName", "")
    named = [dig(item, "name") for item in view.objective.get("metricStrategies", [])]
    if metric and metric not in named:
        default = "min" if view.objective.get("type") == "minimize" else "max"
        message = f"no metricStrategies entry for {metric!r}: Katib takes the {default} ever seen, not the final value"
        yield (
            ("spec", "objective"),
            f"{message}; write {{name: {metric}, value: latest}}, or {default} if you mean it",
        )


def explicit_resume_policy(view: View) -> Iterator[Finding]:
    """Check that resumePolicy is explicit."""
    if not view.spec.get("resumePolicy"):
        yield (
            ("spec",),
            "spec.resumePolicy is not given; write resumePolicy: Never, Katib's default, so that readers know",
        )


RULES = (
    error(
        "name",
        "Katib takes a name of 40 characters of a-z, 0-9 and '-' that begins with a letter. Its regular "
        "expression is not anchored at the end, so other names pass the webhook, and fail when Services and Jobs "
        "are named after them.",
        f"{VALIDATOR}:81-90; names with a dot or '_' seen on a live cluster",
        name,
    ),
    error(
        "count-range",
        "The webhook refuses counts that are not positive; only maxFailedTrialCount may be 0.",
        f"{VALIDATOR}:92-100",
        count_range,
    ),
    error(
        "failed-above-max",
        "The webhook refuses more allowed failures than trials.",
        f"{VALIDATOR}:102-107",
        failed_above_max,
    ),
    error(
        "parallel-above-max",
        "The webhook refuses more parallel trials than trials, after it has set parallelTrialCount to 3 where it "
        "is left out: maxTrialCount: 2 alone is refused.",
        f"{VALIDATOR}:108-113; {DEFAULTS}:32",
        parallel_above_max,
    ),
    error(
        "objective",
        "The webhook asks for an objective's type and metric, and that the metric is not listed twice.",
        f"{VALIDATOR}:187-206",
        objective,
    ),
    error(
        "metric-strategy",
        "Katib accepts any text as a strategy. It ignores a value that is not min, max or latest, and then judges "
        "the trial by another value than the one that was meant.",
        "kubeflow/katib 33c8ff4, pkg/controller.v1beta1/trial/trial_controller_util.go; seen on a live cluster",
        metric_strategy,
    ),
    warning(
        "metric-strategy-unused",
        "Katib accepts a strategy for any name and ignores it unless the metric is the objective or an additional "
        "metric. Usually the name is misspelt.",
        "kubeflow/katib 33c8ff4, pkg/controller.v1beta1/trial/trial_controller_util.go; seen on a live cluster",
        metric_strategy_unused,
    ),
    error(
        "algorithm",
        "The webhook looks algorithms up in katib-config; these are the ones it ships with.",
        f"{VALIDATOR}:208-240; {CONFIG}",
        algorithm,
    ),
    error(
        "resume-policy",
        "The webhook knows Never, LongRunning and FromVolume.",
        f"{VALIDATOR}:242-255",
        resume_policy,
    ),
    style(
        "explicit-counts",
        "Without maxTrialCount a search never ends, without maxFailedTrialCount failures never end it, and "
        "parallelTrialCount is 3 when left out. Written out, both engines and every reader see the same budget.",
        f"{DEFAULTS}:32-37; pkg/apis/controller/experiments/v1beta1/constants.go",
        explicit_counts,
    ),
    style(
        "explicit-strategy",
        "Katib's default strategy is the best value that a metric ever had, not the last one. A GAN's best moment"
        " is seldom the checkpoint that is kept.",
        f"{DEFAULTS}:45-96",
        explicit_strategy,
    ),
    style(
        "explicit-resume-policy",
        "The default is Never, although the comment in Katib's own types says LongRunning.",
        f"{DEFAULTS}:39; experiment_types.go, ResumePolicyType",
        explicit_resume_policy,
    ),
)
