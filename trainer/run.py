"""One trial with its files: load the data, start or resume, train, and write the results. Called by __main__."""

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trainer import __version__, checkpoint, data, estimate, machine, memory, stopping
from trainer.checkpoint import CHECKPOINT, GENERATOR, CheckpointError
from trainer.config import Config, UsageError
from trainer.evaluate import Evaluator, load_extractor
from trainer.inception import load_inception
from trainer.loop import Evaluation, Training, architecture
from trainer.process import GracefulStop, Stopped
from trainer.report import GAUGES, Gauges, ReportError, Sink

RUN_JSON = "run.json"
SAMPLES_PNG = "samples.png"
REAL_PNG = "real.png"  # held-out images, to compare the samples with
GRID_IMAGES = 64  # in each of both files
DIVERGED = 3
ANYWHERE = (  # flags that do not change the results, so that a run may be resumed with other values
    "preset", "data_dir", "inception", "device", "threads", "output_dir", "metrics_file", "metrics_port", "metrics_host",
    "stop_at", "stop_metric", "checkpoint_interval", "resume", "on_divergence",
)  # fmt: skip


def run(config: Config, stop: GracefulStop) -> int:
    """Train one trial and return the exit code.

    Raises:
        UsageError, DataError, CheckpointError: It cannot be run as it was asked for.
        OSError: A file cannot be written or a port cannot be opened; ReportError names the flag.
        Stopped: A signal arrived; `stop.outcome` says what was saved.
    """
    if config.stop_metric not in GAUGES:
        raise UsageError(f"--stop-metric={config.stop_metric}: must be one of {', '.join(GAUGES)}")
    with machine.settings(config):
        device = machine.device(config.device)
        images = data.load(config.dataset, config.data_dir, device)
        _require_memory(config, images, device)
        extractor = load_inception(config.inception) if config.inception else load_extractor(images)
        training = Training([config], images, Evaluator(images, extractor, config.samples))
        if not config.threads:
            torch.set_num_threads(machine.threads_for(training.weights, torch.get_num_threads()))
        identity = {k: v for k, v in config.as_flags().items() if k not in ANYWHERE}
        identity |= {"data": images.sha256, "extractor": extractor.sha256}
        directory = RunDirectory(config, training, identity)
        directory.resume()
        with Gauges(config.metrics_port, config.metrics_host) as gauges:
            if config.metrics_port == 0:
                print(
                    f"metrics at http://{config.metrics_host}:{gauges.port}/metrics",
                    file=sys.stderr,
                )
            record = _record(config, identity, images.shape, device)
            directory.open(record)
            # From here on, a signal may only interrupt an evaluation: files and state are always
            # consistent.
            with stop.allowed(lambda: training.evaluating):
                with Sink(sys.stdout, config.metrics_file, config.output_dir) as sink:
                    last = _train(training, directory, stop, sink, gauges)
                directory.finish(last, record)
    if last.diverged and config.on_divergence == "fail":
        print(
            f"trainer: diverged at step {last.values['step']}, no metric reported", file=sys.stderr
        )
        return DIVERGED
    return 0


def _train(
    training: Training, directory: "RunDirectory", stop: GracefulStop, sink: Sink, gauges: Gauges
) -> Evaluation:
    def emit(evaluation: Evaluation) -> None:
        if not (evaluation.diverged and training.config.on_divergence == "fail"):
            sink.write(evaluation.time, evaluation.values)
            gauges.set(evaluation.values)

    def between() -> None:
        stop.check()
        directory.save_if_due()

    thresholds = stopping.parse(training.config.stop_at)

    def missed() -> bool:
        values = [each.values[training.config.stop_metric] for each in training.history]
        return any(threshold.missed(values) for threshold in thresholds)

    # Katib reads only this container's files, so a resumed run repeats its lines
    for evaluation in training.history:
        emit(evaluation)
    try:
        evaluations = training.run(between)
        while not missed() and (latest := next(evaluations, None)):
            emit(latest)
    except Stopped:
        stop.outcome = directory.stopped()
        raise
    if missed():
        sink.write(training.history[-1].time, {"stopped": 1})
    return training.history[-1]


def _require_memory(config: Config, images: data.Images, device: torch.device) -> None:
    """Raise UsageError with the flags that need the most memory, if the run cannot fit."""
    on_cpu = device.type == "cpu"
    parts = estimate.parts(config, architecture(config, images.shape), on_cpu=on_cpu)
    largest = max(parts, key=lambda flags: parts[flags])
    available = None if on_cpu else torch.cuda.mem_get_info(device)[0]
    memory.require(sum(parts.values()), largest, f"Lower {largest}.", available)


class RunDirectory:
    """The files in --output-dir. Without the flag it writes nothing."""

    def __init__(self, config: Config, training: Training, identity: dict[str, Any]) -> None:
        self.config, self.training, self.identity = config, training, identity
        self.folder = config.output_dir
        self.last = time.monotonic()

    @property
    def path(self) -> Path | None:
        return self.folder and self.folder / CHECKPOINT

    def resume(self) -> None:
        """Load the checkpoint if there is one and --resume allows it. Raises UsageError and CheckpointError."""
        if self.path is None or self.config.resume == "never":
            return
        if not self.path.exists():
            if self.config.resume == "must":
                raise UsageError(
                    f"--resume=must: there is no {self.path}. Use --resume=auto to start a new run"
                )
            return
        tensors, meta = checkpoint.load(self.path)
        try:
            checkpoint.check_same(self.path, meta["identity"], self.identity)
            self.training.load_state(tensors, meta)
        except (
            KeyError,
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:  # the content may be anything
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(
                f"{self.path} holds no state of this run ({reason}). Move it away, or use --resume=never"
            ) from error

    def open(self, record: dict[str, Any]) -> None:
        """Create the directory, delete the files of an earlier run, and write run.json. Raises ReportError."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.training.history:
                for name in (CHECKPOINT, GENERATOR, SAMPLES_PNG, REAL_PNG):
                    if self.training.done == 0:
                        (self.folder / name).unlink(missing_ok=True)
            self._write_json(record)
        except OSError as error:
            reason = error.strerror or error
            raise ReportError(
                f"--output-dir={self.folder}: cannot write there ({reason}). Name a writable directory"
            ) from error

    def save_if_due(self) -> None:
        if (
            self.folder is not None
            and time.monotonic() - self.last >= self.config.checkpoint_interval
        ):
            self.save()

    def save(self) -> None:
        if self.path is not None:
            tensors, meta = self.training.state()
            checkpoint.save(self.path, tensors, meta | {"identity": self.identity})
            self.last = time.monotonic()

    def stopped(self) -> str:
        """Save the state, and return in words what was saved."""
        if self.path is None:
            return "nothing was saved, because there is no --output-dir"
        self.save()
        return f"saved {self.training.progress} to {self.path}; the same command resumes"

    def finish(self, last: Evaluation, record: dict[str, Any]) -> None:
        """Save the finished state first, then weights and samples unless the trial diverged, then the record."""
        if self.folder is None:
            return
        self.save()
        if not last.diverged:
            checkpoint.save_weights(self.folder / GENERATOR, self.training.generator(0))
            noise = torch.randn(
                GRID_IMAGES, self.config.latent_dim, generator=torch.Generator().manual_seed(0)
            )
            samples = self.training.step.sample(0, noise.to(self.training.step.device))
            data.write_grid(samples, self.folder / SAMPLES_PNG)
            data.write_grid(
                data.spread(self.training.images.held_out, GRID_IMAGES), self.folder / REAL_PNG
            )
        self._write_json(record | {"finished": True, "final": last.values})

    def _write_json(self, record: dict[str, Any]) -> None:
        if self.folder is not None:
            content = json.dumps(record, indent=2, allow_nan=False) + "\n"
            checkpoint.write_atomically(self.folder / RUN_JSON, content.encode())


def _record(
    config: Config, identity: dict[str, Any], image: tuple[int, ...], device: torch.device
) -> dict[str, Any]:
    """Return run.json: what is needed to repeat the run, and to know which results are comparable."""
    packages = ("torch", "numpy", "safetensors")
    versions = {"python": sys.version.split()[0], "gan-tuner": __version__}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "flags": config.as_flags(),
        "image": list(image),
        "seed": config.seed,
        "data_sha256": identity["data"],
        "extractor_sha256": identity["extractor"],
        "samples": identity["samples"],
        "device": str(device),
        "device_name": machine.description(device),
        "versions": versions,
        "finished": False,
    }
