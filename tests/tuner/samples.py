"""Results and Experiments made by hand, for the tests of what shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tuner.experiment.model import AlgorithmSpec, Experiment, TrialTemplate
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Value

OBJECTIVE = Objective("fd", Goal.MINIMIZE, seed_noise=0.04, cost_metric="train_seconds")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PARAMETERS = (
    Double("lr", 1e-5, 1e-2, distribution=Distribution.LOG_UNIFORM),
    Int("bs", 32, 128),
    Categorical("loss", ("ns", "hinge", "<script>alert(1)</script>")),
    Discrete("beta1", ("0", "0.5", "0.9")),
)


def trial(number: int, state: TrialState, fd: float | None = None, **parameters: Value) -> Trial:
    """One trial of ten seconds; a failed one has a reason."""
    started = START + timedelta(seconds=10 * number)
    return Trial(
        number,
        f"gan-x-{number}",
        state,
        parameters or {"lr": 1e-3, "bs": 64},
        {"fd": fd, "loss": 0.7} if fd is not None else {},
        started,
        started + timedelta(seconds=10) if state.finished else None,
        "exit code 1: </script><img src=x>" if state is TrialState.FAILED else "",
    )


def result(*trials: Trial, state: StudyState = StudyState.SUCCEEDED) -> Result:
    """A search over fd named gan-x."""
    return Result("gan-x", state, OBJECTIVE, trials)


def search(count: int, *, failing: int = 7) -> Result:
    """`count` trials on a surface where lr matters most and bs hardly; every `failing`-th one fails."""
    random = np.random.default_rng(0)
    trials = []
    for number in range(count):
        lr, bs = float(10 ** random.uniform(-5, -2)), int(random.integers(32, 129))
        loss, beta1 = random.choice(PARAMETERS[2].choices), random.choice(PARAMETERS[3].choices)
        fd = float(
            np.exp(1.2 * abs(np.log10(lr) + 3.3) + float(beta1) + 0.1 * random.standard_normal())
        )
        state = TrialState.FAILED if number % failing == failing - 1 else TrialState.SUCCEEDED
        point: dict[str, Any] = {"lr": lr, "bs": bs, "loss": str(loss), "beta1": str(beta1)}
        trials.append(trial(number, state, None if state is TrialState.FAILED else fd, **point))
    return result(*trials)


def experiment(
    command: list[str],
    *,
    args: list[str] | None = None,
    env: list[dict[str, str]] | None = None,
    **references: str,
) -> Experiment:
    """An Experiment whose one container runs `command` and `args`; `references` as in TrialTemplate."""
    container = {"name": "main", "command": command, "args": args or [], "env": env or []}
    spec = {"spec": {"template": {"spec": {"containers": [{"name": "sidecar"}, container]}}}}
    return Experiment(
        name="gan-x",
        namespace="",
        objective=OBJECTIVE,
        additional_metrics=("loss",),
        strategies={},
        algorithm=AlgorithmSpec("bayesianoptimization", {"random_state": "7"}),
        parameters=PARAMETERS,
        template=TrialTemplate(spec, "main", references),
    )
