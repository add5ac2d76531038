"""One page about one search: optimisation history, parameter importances, the table of trials.

`page(result, experiment)` is the HTML. data and importance are pure; plots needs plotly (the `report` extra).
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from tuner import __version__
from tuner.errors import UnsupportedError
from tuner.manifest import Experiment
from tuner.report import data, html, importance
from tuner.result import Goal, Result
from tuner.space import text

FEW = 10  # trials below which importances are called a hint
METHOD = (
    "Total-effect Sobol indices of a Gaussian process (Matern 5/2) fitted to the {n} scored trials, scaled to sum to "
    "1: a parameter's own effect with its interactions, over the whole search space."
)


def page(result: Result, experiment: Experiment, *, now: datetime | None = None) -> str:
    """The self-contained HTML document. Raises UnsupportedError without plotly."""
    metric = result.objective.metric
    scored = data.scored(result)
    sections = _sections(result, experiment)
    facts = [("trials", str(len(result.trials))), ("scored", str(len(scored)))]
    facts += [(f"best {metric}", f"{result.best.metrics[metric]:.6g}")] if result.best else []
    facts += [
        ("algorithm", experiment.algorithm.name),
        ("seed", experiment.algorithm.settings.get("random_state", "none")),
    ]
    took = data.seconds(result)
    facts += [("from first start to last end", f"{took:.0f} s")] if took is not None else []
    return html.page(
        title=f"{result.name}: {'minimise' if result.objective.goal_type is Goal.MINIMIZE else 'maximise'} {metric}",
        subtitle=_subtitle(result, now or datetime.now(UTC)),
        facts=facts,
        best=_best(result),
        sections=sections,
        trials=data.table(result),
    )


def _sections(result: Result, experiment: Experiment) -> list[html.Section]:
    """History and importances, each with a sentence instead where there is too little to plot."""
    try:
        from tuner.report import plots
    except ImportError as error:
        raise _no_plotly() from error
    if not _has_plotly():
        raise _no_plotly()
    metric = result.objective.metric
    scored = data.scored(result)
    if not scored:
        none = f"No trial has a finite {metric} yet, so there is nothing to plot."
        return [html.Section("Optimisation history", none)]
    held = plots.study(result, experiment.parameters)
    best = "the lowest" if result.objective.goal_type is Goal.MINIMIZE else "the highest"
    sentence = f"Each scored trial's {metric}, and {best} so far. n = {len(scored)} of {len(result.trials)} trials."
    history = html.Section("Optimisation history", sentence, plots.history(result, held))
    complete = [(t, v) for t, v in scored if all(p.name in t.parameters for p in experiment.parameters)]
    points, values = [t.parameters for t, _ in complete], [v for _, v in complete]
    effects = importance.total_effects(experiment.parameters, points, values)
    if not effects:
        why = (
            f"Nothing can be said with {len(complete)} scored trials: {importance.MIN_TRIALS} are needed, and a trend."
        )
        return [history, html.Section("Parameter importances", why)]
    method = METHOD.format(n=len(complete))
    caution = f" Fewer than {FEW} trials: take it as a hint." if len(complete) < FEW else ""
    return [history, html.Section("Parameter importances", method + caution, plots.importances(result, held, effects))]


def _has_plotly() -> bool:
    try:
        import plotly  # noqa: F401
    except ImportError:
        return False
    return True


def _no_plotly() -> UnsupportedError:
    return UnsupportedError("the report needs plotly, which is not installed: pip install 'gan-tuner[report]'")


def _subtitle(result: Result, now: datetime) -> str:
    states = ", ".join(f"{count} {state}" for state, count in data.counts(result).items()) or "no trials"
    made = f"gan-tuner {__version__}, Optuna {version('optuna')}, plotly {version('plotly')}"
    return f"{result.state.value}; {states}. Written {now:%Y-%m-%d %H:%M} UTC by {made}."


def _best(result: Result) -> str:
    best = result.best
    if best is None:
        return "no best trial yet"
    return f"trial {best.number} ({best.name}): " + " ".join(f"{k}={text(v)}" for k, v in best.parameters.items())
