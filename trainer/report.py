"""The output of one trial: the metric line that Katib reads, the same values as JSON lines, and Prometheus gauges.

The grammar of a line:

    2026-01-02T03:04:05.123456Z epoch=3 step=120 loss=0.69 fd=21.5 ... diverged=0

An RFC 3339 time in UTC with microseconds (without it, Katib's `latest` is undefined), then
name=value pairs, separated by spaces. A value is a finite decimal that reads back as the same
float. Katib records `fd=nan` as an empty value that can become the best trial, so this module
refuses every non-finite value.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
METRICS_JSONL = "metrics.jsonl"
GAUGES = {  # metric -> name and help of its gauge; units as Prometheus names them
    "epoch": ("gan_trainer_epoch", "Passes over the training images so far"),
    "step": ("gan_trainer_steps", "Optimisation steps of the generator so far"),
    "loss": ("gan_trainer_loss", "The GAN's loss, as on the metric line"),
    "generator_loss": ("gan_trainer_generator_loss", "The generator's loss"),
    "discriminator_loss": ("gan_trainer_discriminator_loss", "The discriminator's loss"),
    "fd": ("gan_trainer_frechet_distance", "Frechet distance of generated to held-out images"),
    "sw": ("gan_trainer_sliced_wasserstein_distance",
        "Sliced Wasserstein distance of generated to held-out images"),
    "precision": ("gan_trainer_precision_ratio", "Share of generated images that look real"),
    "recall": ("gan_trainer_recall_ratio",
        "Share of held-out images that the generator could draw"),
    "density": ("gan_trainer_density",
        "Real neighbourhoods around a generated image, divided by their expected number"),
    "coverage": ("gan_trainer_coverage_ratio", "Share of held-out images near a generated image"),
    "train_fd": ("gan_trainer_train_frechet_distance",
        "Frechet distance of generated to training images"),
    "copied": ("gan_trainer_copied_ratio",
        "Share of generated images that are near copies of a training image"),
    "images_per_second": ("gan_trainer_images_per_second",
        "Training images used per second since the last evaluation"),
    "train_seconds": ("gan_trainer_train_seconds",
        "Seconds of training so far, without evaluations"),
    "diverged": ("gan_trainer_diverged", "1 if the training diverged, else 0"),
}  # fmt: skip


class ReportError(OSError):
    """A file cannot be written or a port cannot be opened. The message is one line with flag, value and fix."""


def line(time: datetime, values: Mapping[str, float]) -> str:
    """Return one metric line without a newline. Raises ValueError for a naive time, a bad value or a bad name."""
    if time.tzinfo is None:
        raise ValueError(f"a metric line needs a time with a zone, got {time}")
    pairs = [f"{_checked(name)}={number(name, value)}" for name, value in values.items()]
    return " ".join([time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), *pairs])


def number(name: str, value: float) -> str:
    """Return the shortest decimal that reads back as the same float. Raises ValueError if it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"a metric must be finite, got {name}={value}")
    whole = float(value).is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else repr(float(value))


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"a metric's name must be letters, digits and _, got {name!r}")
    return name


class Sink:
    """Writes every record to a stream, to --metrics-file and to OUTPUT_DIR/metrics.jsonl, each flushed at once.

    Args:
        stream: Where the lines are printed, or None.
        metrics_file: A file that receives the same lines, or None.
        output_dir: The directory of metrics.jsonl, or None.
        append: Keep the content of the files; the default empties them.

    Raises:
        ReportError: A file cannot be opened; nothing has been printed then.
    """

    def __init__(
        self,
        stream: IO[str] | None,
        metrics_file: Path | None = None,
        output_dir: Path | None = None,
        *,
        append: bool = False,
    ) -> None:
        self._stream = stream
        self._files: list[IO[str]] = []
        self._created: list[Path] = []
        try:
            self._text = self._open("--metrics-file", metrics_file)
            self._json = self._open("--output-dir", output_dir and output_dir / METRICS_JSONL)
        except ReportError:
            self.close()
            for path in self._created:
                path.unlink(missing_ok=True)
            raise
        if not append:
            for file in self._files:
                # a pipe or a device has no size and cannot be truncated
                if os.fstat(file.fileno()).st_size:
                    file.truncate(0)

    def write(self, time: datetime, values: Mapping[str, float]) -> None:
        """Write one record in the order of the mapping. Raises ValueError before a non-finite value is written."""
        text = line(time, values)
        record = {"time": text.split(" ", 1)[0]} | {
            name: float(value) for name, value in values.items()
        }
        for stream, written in (
            (self._stream, text),
            (self._text, text),
            (self._json, json.dumps(record, allow_nan=False)),
        ):
            if stream is not None:
                try:
                    stream.write(written + "\n")
                    stream.flush()
                except OSError as error:
                    fix = "Free some space or choose another place"
                    raise ReportError(
                        f"cannot write {stream.name} ({error.strerror or error}). {fix}"
                    ) from error

    def close(self) -> None:
        """Close the files, but not the stream. `write` has already reported a full disk."""
        for file in self._files:
            with contextlib.suppress(OSError):
                file.close()

    def _open(self, flag: str, path: Path | None) -> IO[str] | None:
        if path is None:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            file = path.open("a", encoding="utf-8")
        except OSError as error:
            fix = "Choose a writable place"
            raise ReportError(
                f"{flag}: cannot write {path} ({error.strerror or error}). {fix}"
            ) from error
        self._files.append(file)
        self._created += [path] if new else []
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class Gauges:
    """Serves the latest values as Prometheus gauges on http://HOST:PORT/metrics while the block runs.

    Entering raises ReportError if the port is in use. Leaving stops the server and frees the port.
    Each object has its own registry, so that several runs in one process do not interfere.

    Attributes:
        port: The real port, also if 0 was asked for. None: nothing is served.
    """

    def __init__(self, port: int | None, host: str = "127.0.0.1") -> None:
        self.port = port
        self._host = host

    def __enter__(self) -> Self:
        if self.port is None:
            return self
        from prometheus_client import CollectorRegistry, Gauge, start_http_server

        registry = CollectorRegistry()
        self._gauges = {
            metric: Gauge(name, text, registry=registry) for metric, (name, text) in GAUGES.items()
        }
        for gauge in self._gauges.values():
            registry.unregister(
                gauge
            )  # a gauge appears with its first value, because an initial 0 would look like the best fd
        self._registry, self._shown = registry, set[str]()
        try:
            self._server, self._thread = start_http_server(self.port, self._host, registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            fix = "Choose a free port, or 0 for any, and an address of this machine"
            where = f"--metrics-port={self.port} on --metrics-host={self._host}"
            raise ReportError(f"{where}: cannot listen ({reason}). {fix}") from error
        self.port = self._server.server_port
        return self

    def set(self, values: Mapping[str, float]) -> None:
        """Update the gauges of the given metrics; other names are ignored."""
        if self.port is None:
            return
        for name in GAUGES.keys() & values.keys():
            self._gauges[name].set(values[name])
            if name not in self._shown:
                self._registry.register(self._gauges[name])
                self._shown.add(name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self.port is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
