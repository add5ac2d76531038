"""The states of a search that a page must show well."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from tests.tuner.samples import experiment, result, search
from tuner.analysis.view import View
from tuner.result import Observation, Result, StudyState, TrialState
from tuner.store.images import Thumbnail, thumbnail

EXPERIMENT = replace(experiment(["python", "-m", "toy"]), max_trials=40)
NO_GPU = "Unschedulable: 0/3 nodes have a free GPU"


def image(seed: int) -> Thumbnail:
    """A thumbnail of random blocks."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((96, 96), 0).save(stream, "PNG")
    found = thumbnail(stream.getvalue())
    assert found is not None
    return found


def gan() -> View:
    """A search with images, curves and a baseline."""
    found = search(20)
    seen = {
        t.name: {"fd": tuple(Observation("fd", t.metrics["fd"] + 5 - n) for n in range(6))}
        for t in found.trials
        if "fd" in t.metrics
    }
    images = {number: image(number) for number in range(18)}
    commands = {number: f"python -m toy --n={number}" for number in range(20)}
    return View(
        replace(found, baseline=found.trials[1].parameters),
        EXPERIMENT,
        curves=seen,
        samples=images,
        real=image(99),
        commands=commands,
    )


def outlier() -> Result:
    """A search with one trial that is a thousand times as bad as the best."""
    trials = list(search(20).trials)
    trials[9] = replace(trials[9], metrics={"fd": 2000.0, "loss": 0.7})
    return result(*trials)


def running() -> Result:
    """A search with a trial that runs, and two that wait."""
    trials = list(search(14).trials)
    trials[11] = replace(trials[11], state=TrialState.RUNNING, metrics={}, ended=None)
    idle = {"state": TrialState.WAITING, "metrics": {}, "started": None, "ended": None}
    trials[12] = replace(trials[12], **idle, reason=NO_GPU)
    trials[13] = replace(trials[13], **idle, reason="")
    return result(*trials, state=StudyState.RUNNING)


STATES = {
    "gan": lambda: [gan()],
    "no images": lambda: [View(search(20), EXPERIMENT)],
    "outlier": lambda: [View(outlier(), EXPERIMENT)],
    "all failed": lambda: [
        View(replace(search(8, failing=1), state=StudyState.FAILED), EXPERIMENT)
    ],
    "one trial": lambda: [View(search(1), EXPERIMENT)],
    "running": lambda: [View(running(), EXPERIMENT)],
    "two": lambda: [
        View(search(20), EXPERIMENT),
        View(replace(search(30), name="gan-y"), replace(EXPERIMENT, name="gan-y", max_trials=30)),
    ],
    "many": lambda: [View(search(2000), EXPERIMENT)],
}
