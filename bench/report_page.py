"""Seconds and megabytes of a report, by the number of trials, from a local study with curves and without images.

    python -m bench.report_page

Each figure is the median of 3 runs of `gantune report NAME -o FILE` in a process of its own, all
imports included. The
trials are synthetic: two numbers, two choices, twelve metrics, and ten reports of each.
"""

import copy
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import provenance
from tuner.engines.local.journal import Journal, TrialRecord
from tuner.experiment.model import Experiment
from tuner.manifest import from_document, load
from tuner.metrics import ObservationLog
from tuner.result import Observation, TrialState
from tuner.space import Value
from tuner.store import curves
from tuner.store.studies import EngineKind, Store

ROOT = Path(__file__).resolve().parents[1]
SIZES = (20, 200, 2_000, 5_000)
REPEATS = 3
REPORTS = 10
METRICS = (
    "fd", "loss", "generator_loss", "discriminator_loss", "sw", "precision", "recall", "density", "coverage",
    "train_fd", "copied", "train_seconds",
)  # fmt: skip
LOSSES, BETAS = ("ns", "hinge", "wgan"), ("0", "0.5", "0.9")
PARAMETERS = [
    {
        "name": "lr",
        "parameterType": "double",
        "feasibleSpace": {"min": "1e-5", "max": "1e-2", "distribution": "logUniform"},
    },
    {"name": "bs", "parameterType": "int", "feasibleSpace": {"min": "32", "max": "128"}},
    {"name": "loss", "parameterType": "categorical", "feasibleSpace": {"list": list(LOSSES)}},
    {"name": "beta1", "parameterType": "discrete", "feasibleSpace": {"list": list(BETAS)}},
]


def main() -> None:
    """Print the table."""
    print(provenance.line("numpy", "scipy"))
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            store = Path(folder) / str(size)
            name = study(store, size)
            page = Path(folder) / "page.html"
            runs = [_seconds(store, name, page) for _ in range(REPEATS)]
            wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            size_mb = page.stat().st_size / 1e6
            print(
                f"{size:6,} trials  {wall:5.1f} s  {cpu:5.1f} s of CPU time  {size_mb:4.1f} MB",
                flush=True,
            )


def _seconds(store: Path, name: str, page: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one report."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-m",
        "tuner",
        "report",
        name,
        "--local",
        "--store",
        str(store),
        "-o",
        str(page),
    ]
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def study(store: Path, size: int) -> str:
    """Write a study of `size` finished trials, a seventh of them failed; returns its name."""
    experiment = _experiment()
    studies = Store(store).of(EngineKind.LOCAL)
    studies.submit(experiment)
    folder = studies.folder(experiment.name)
    journal = Journal(folder, writable=True)
    identity = journal.create(
        experiment.name, experiment.objective, seed=0, known=[], warm_start=""
    )
    studies.identify(experiment.name, identity)
    chance, now = random.Random(0), datetime.now(UTC)
    with curves.Writer(folder) as writer:
        for number in range(size):
            entry = _trial(number, chance)
            journal.ask(entry)
            entry.started, entry.state = now + timedelta(seconds=number), TrialState.RUNNING
            journal.start(entry)
            entry.ended = entry.started + timedelta(seconds=2)
            entry.state = TrialState.FAILED if number % 7 == 6 else TrialState.SUCCEEDED
            if entry.state is TrialState.SUCCEEDED:
                _report(entry, chance, writer)
            journal.finish(entry)
    journal.close()
    return experiment.name


def _experiment() -> Experiment:
    document = copy.deepcopy(dict(load(ROOT / "manifests" / "random.yaml").document))
    # they may name points of the manifest's own space
    document["metadata"].pop("annotations", None)
    document["spec"]["parameters"] = PARAMETERS
    return from_document(document)


def _trial(number: int, chance: random.Random) -> TrialRecord:
    values: dict[str, Value] = {
        "lr": 10 ** chance.uniform(-5, -2),
        "bs": chance.randint(32, 128),
        "loss": chance.choice(LOSSES),
        "beta1": chance.choice(BETAS),
    }
    return TrialRecord(
        number,
        f"trial-{number}",
        values,
        reason="exit code 1: no memory" if number % 7 == 6 else "",
    )


def _report(entry: TrialRecord, chance: random.Random, writer: curves.Writer) -> None:
    lr = float(entry.values["lr"])
    final = math.exp(
        1.2 * abs(math.log10(lr) + 3.3) + float(entry.values["beta1"]) + chance.gauss(0, 0.17)
    )
    entry.metrics = {metric: final * chance.uniform(0.5, 1) for metric in METRICS} | {"fd": final}
    seen = [
        Observation(metric, value * (1 + 5 * math.exp(-report)))
        for report in range(REPORTS)
        for metric, value in entry.metrics.items()
    ]
    writer.add(entry.name, ObservationLog(seen))


if __name__ == "__main__":
    main()
