"""Parameter importances with intervals; the method is in tuner.analysis.importance."""

from __future__ import annotations

from tuner.analysis.importance import MIN_TRIALS, Interval
from tuner.analysis.view import View
from tuner.report.figure import BLUE, GREY, axis, escaped, figure
from tuner.report.plots.drawn import Drawn

FEW = 10  # trials below which importances are called a hint
ROW_HEIGHT = 34  # pixels of one bar
METHOD = (
    "Total-effect Sobol indices of a Gaussian process (Matern 5/2) fitted to the {n} scored trials, "
    "scaled to sum to 1: a parameter's own effect with its interactions over the complete search "
    "space. Whiskers are 80 % bootstrap intervals."
)


def draw(study: View) -> Drawn:
    """Draw a bar with its interval for each parameter, the largest at the top."""
    count, parameters = len(study.complete), len(study.experiment.parameters)
    if not study.effects:
        return Drawn(why_not(count, parameters))
    caution = f" Fewer than {FEW} trials: take it as a hint." if count < FEW else ""
    names = list(study.effects)
    first = study.effects[names[0]]
    text = (
        f"{names[0]} matters most: it has {first.value:.0%} of the effect on {study.metric} "
        f"(80 % interval: {first.low:.0%} to {first.high:.0%}).{caution}"
    )
    bars = [bar(list(reversed(names)), study.effects, "share", BLUE)]
    x = axis(f"share of the effect on {study.metric}", range=[0, 1.04])
    drawn = figure(bars, x, axis("", ticksuffix=" "), height=80 + ROW_HEIGHT * len(names))
    return Drawn(text, (drawn,), METHOD.format(n=count) + study.caution)


def bar(
    names: list[str], effects: dict[str, Interval], label: str, colour: str
) -> dict[str, object]:
    """Return a trace of horizontal bars, one for each of `names`."""
    held = [effects.get(name, Interval(0, 0, 0)) for name in names]
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "x": [round(one.value, 4) for one in held],
        "y": [escaped(name) for name in names],
        "marker": {"color": colour},
        "error_x": {
            "type": "data",
            "color": GREY,
            "symmetric": False,
            "array": [round(one.high - one.value, 4) for one in held],
            "arrayminus": [round(one.value - one.low, 4) for one in held],
        },
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }


def why_not(trials: int, parameters: int) -> str:
    """Return why there are no importances."""
    needed = max(MIN_TRIALS, parameters + 1)
    if trials < needed:
        return (
            f"Importances need {needed} scored trials: at least {MIN_TRIALS}, and more than there "
            f"are parameters. There {'is' if trials == 1 else 'are'} {trials}."
        )
    return (
        f"The model finds no trend in the {trials} scored trials, so no parameter can be called "
        "important."
    )
