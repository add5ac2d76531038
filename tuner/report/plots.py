"""The article's plots, drawn by optuna.visualization with plotly: optimisation history and parameter importances."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna import Study, create_study, logging
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import BaseImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import plot_optimization_history, plot_param_importances

from tuner.report.data import scored
from tuner.report.importance import LOG_SCALES
from tuner.result import Result
from tuner.space import Double, Int, Parameter

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ["#1f6feb", "#1a7f37", "#9a6700"]
ROW_HEIGHT = 34  # pixels of one bar


def study(result: Result, parameters: Sequence[Parameter]) -> Study:
    """The scored trials as a study in memory, which Optuna's plots read."""
    logging.set_verbosity(logging.WARNING)
    held = create_study(direction=result.objective.goal_type.value, study_name=result.name)
    distributions = {parameter.name: _distribution(parameter) for parameter in parameters}
    for trial, value in scored(result):
        point = {name: trial.parameters[name] for name in distributions if name in trial.parameters}
        with warnings.catch_warnings():  # a value off the step's grid, or a bound that is: worth plotting all the same
            warnings.simplefilter("ignore")
            frozen = create_trial(
                params=point,
                distributions={name: _around(distributions[name], chosen) for name, chosen in point.items()},
                value=value,
            )
        frozen.number = trial.number
        held.add_trial(frozen)
    return _Shared(held.study_name, held._storage)


class _Shared(Study):
    """A study that does not copy its trials for each plot, which takes seconds for thousands of them."""

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """Return the trials, which the plots only read."""
        return super().get_trials(deepcopy=False, states=states)


def history(result: Result, held: Study) -> go.Figure:
    """Every trial's objective and the best so far; logarithmic where all are positive and span more than a decade."""
    figure = plot_optimization_history(held, target_name=result.objective.metric)
    for trace in figure.data:
        if len(trace.x or ()) == len(scored(result)):
            trace.x = [trial.number for trial, _ in scored(result)]  # Optuna numbers only those it was given
        if trace.mode == "lines":
            trace.line.shape = "hv"  # the best so far changes at a trial, not between two
    values = [value for _, value in scored(result)]
    if min(values) > 0 and max(values) > 10 * min(values):
        figure.update_yaxes(type="log", dtick="D2" if max(values) < 1000 * min(values) else None)
    figure.update_xaxes(title="trial")
    return _styled(figure, 380)


def importances(result: Result, held: Study, effects: Mapping[str, float]) -> go.Figure:
    """`effects` as bars, scaled to sum to 1."""
    figure = plot_param_importances(held, evaluator=_Given(effects), params=list(effects), target_name="objective")
    figure.update_xaxes(title=f"share of the total effect on {result.objective.metric}", range=[0, 1.08])
    figure.update_yaxes(title=None, automargin=True, ticksuffix=" ")
    figure.update_layout(showlegend=False)
    return _styled(figure, 110 + ROW_HEIGHT * len(effects))


class _Given(BaseImportanceEvaluator):
    """Importances that have been worked out already (tuner.report.importance)."""

    def __init__(self, effects: Mapping[str, float]) -> None:
        self.effects = effects

    def evaluate(
        self,
        study: Study,
        params: list[str] | None = None,
        *,
        target: Callable[[FrozenTrial], float] | None = None,
    ) -> dict[str, float]:
        return dict(self.effects)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    font = {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2328"}
    layout: dict[str, Any] = {"title": None, "template": "plotly_white", "height": height, "font": font}
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0}
    figure.update_layout(**layout, legend=legend, margin={"l": 60, "r": 16, "t": 36, "b": 48}, colorway=COLOURS)
    return figure


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Double):
        log = parameter.distribution in LOG_SCALES and parameter.low > 0
        return FloatDistribution(parameter.low, parameter.high, log=log)
    if isinstance(parameter, Int):
        log = parameter.distribution in LOG_SCALES and parameter.low > 0
        return IntDistribution(parameter.low, parameter.high, log=log)
    return CategoricalDistribution(parameter.choices)


def _around(distribution: BaseDistribution, value: object) -> BaseDistribution:
    """The distribution, widened where the value lies outside it (Katib's services can yield an endpoint past max)."""
    if isinstance(distribution, FloatDistribution) and isinstance(value, float | int):
        low, high = min(distribution.low, value), max(distribution.high, value)
        return FloatDistribution(low, high, log=distribution.log and low > 0)
    if isinstance(distribution, IntDistribution) and isinstance(value, int):
        lowest, highest = min(distribution.low, value), max(distribution.high, value)
        return IntDistribution(lowest, highest, log=distribution.log and lowest > 0)
    return distribution
