"""Where a trial's metrics are on this machine, and what reads them, for each kind of collector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tuner.engines.local import push
from tuner.errors import UnsupportedError
from tuner.experiment import command
from tuner.experiment.model import Collector, CollectorKind, Experiment, FileFormat
from tuner.metrics import MetricsReader, MetricsTail, events

OUTPUT = "output.log"  # what a trial prints


def ensure_readable(collector: Collector) -> None:
    """Raise UnsupportedError for a collector that does not run on this machine."""
    if collector.kind is CollectorKind.PUSH:
        push.ensure_available()
    elif collector.kind is CollectorKind.TF_EVENT:
        events.ensure_available()
    elif collector.kind not in (CollectorKind.STDOUT, CollectorKind.FILE):
        raise UnsupportedError(
            f"collector kind {collector.kind.value} without a fileSystemPath does not run locally, because no "
            "container is started. Let the trial print name=value lines (StdOut), or call katib.report_metrics (Push)"
        )


def metrics_file(experiment: Experiment, folder: Path) -> Path:
    """Where the trial whose directory is `folder` writes its metrics: a file, or a directory of event files."""
    collector = experiment.collector
    if collector.kind is CollectorKind.PUSH:
        return folder / push.FILE
    if collector.kind not in (CollectorKind.FILE, CollectorKind.TF_EVENT):
        return folder / OUTPUT
    mount = command.collector_mount(experiment)
    return command.place(folder, mount) / PurePosixPath(
        "/" + collector.path.strip("/")
    ).relative_to(mount)


def metrics_reader(
    experiment: Experiment, folder: Path, keep_going: Callable[[], bool] = lambda: True
) -> MetricsReader:
    """Return what reads the metrics of the trial whose directory is `folder`, until `keep_going` returns False."""
    metrics = (experiment.objective.metric, *experiment.additional_metrics)
    path, collector = metrics_file(experiment, folder), experiment.collector
    if collector.kind is CollectorKind.TF_EVENT:
        return events.EventFiles(path, metrics, keep_going)
    if collector.kind is CollectorKind.PUSH:
        collector = replace(collector, format=FileFormat.JSON, filters=())
    return MetricsTail(path, metrics, collector, keep_going)
