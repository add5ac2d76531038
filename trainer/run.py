"""One trial with its files: read the data, resume or start, train, write what was asked for. Called by __main__."""

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from trainer import __version__, checkpoint, data, machine
from trainer.checkpoint import CHECKPOINT, GENERATOR, CheckpointError
from trainer.config import Config, UsageError
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Evaluation, Training
from trainer.report import Gauges, ReportError, Sink

RUN_JSON = "run.json"
SAMPLES_PNG = "samples.png"
DIVERGED = 3
ANYWHERE = (  # flags that do not change the course of a run, so that it may be resumed with others
    "preset", "data_dir", "device", "threads", "output_dir", "metrics_file", "metrics_port", "checkpoint_interval",
    "resume", "on_divergence",
)  # fmt: skip


class Stopped(BaseException):
    """SIGTERM or SIGINT: raised only where the state is whole."""


class GracefulStop:
    """Remembers a signal; raises Stopped at once unless a step is under way, which then ends first."""

    def __init__(self) -> None:
        self.signal = 0
        self.training: Training | None = None
        self.report = ""

    def __call__(self, signal: int, _frame: object = None) -> None:
        self.signal = signal
        if self.training is None or self.training.evaluating:
            raise Stopped

    def check(self) -> None:
        if self.signal:
            raise Stopped


def run(config: Config, stop: GracefulStop) -> int:
    """Train one trial; the exit code. Raises UsageError, DataError, ReportError, CheckpointError, OSError, Stopped."""
    with machine.settings(config):
        device = machine.device(config.device)
        images = data.load(config.dataset, config.data_dir, device)
        extractor = load_extractor(images, config.data_dir)
        training = Training([config], images, Evaluator(images, extractor, config.samples))
        if not config.threads:
            weights = training.step.g.flat.shape[1] + training.step.d.flat.shape[1]
            torch.set_num_threads(machine.threads_for(weights, torch.get_num_threads()))
        identity = {k: v for k, v in config.as_flags().items() if k not in ANYWHERE}
        identity |= {"data": images.sha256, "extractor": extractor.sha256}
        saver = RunDirectory(config, training, identity)
        saver.resume()
        with Gauges(config.metrics_port) as gauges:
            if config.metrics_port == 0:
                print(f"metrics at http://localhost:{gauges.port}/metrics", file=sys.stderr)
            record = _record(config, identity, images.shape, device)
            saver.open_folder(record)
            with Sink(sys.stdout, config.metrics_file, config.output_dir) as sink:
                last = _train(training, saver, stop, sink, gauges)
            saver.finish(last, record)
    if last.diverged and config.on_divergence == "fail":
        print(f"trainer: diverged at step {last.values['step']}, no metric reported", file=sys.stderr)
        return DIVERGED
    return 0


def _train(training: Training, saver: "RunDirectory", stop: GracefulStop, sink: Sink, gauges: Gauges) -> Evaluation:
    def emit(evaluation: Evaluation) -> None:
        if not (evaluation.diverged and training.config.on_divergence == "fail"):
            sink.write(evaluation.time, evaluation.values)
            gauges.set(evaluation.values)

    def between() -> None:
        stop.check()
        saver.save_if_due()

    for evaluation in training.history:  # a resumed run tells its whole story: Katib reads this container's files only
        emit(evaluation)
    stop.training = training
    try:
        for evaluation in training.run(between):
            emit(evaluation)
    except Stopped:
        stop.report = saver.stopped()
        raise
    finally:
        stop.training = None
    return training.history[-1]


class RunDirectory:
    """What goes to --output-dir; without the flag, nothing does."""

    def __init__(self, config: Config, training: Training, identity: dict[str, Any]) -> None:
        self.config, self.training, self.identity = config, training, identity
        self.folder = config.output_dir
        self.last = time.monotonic()

    @property
    def path(self) -> Path | None:
        return self.folder and self.folder / CHECKPOINT

    def resume(self) -> None:
        """Load the checkpoint where there is one and --resume wants it. Raises UsageError, CheckpointError."""
        if self.path is None or self.config.resume == "never":
            return
        if not self.path.exists():
            if self.config.resume == "must":
                raise UsageError(f"--resume=must: there is no {self.path}; use --resume=auto to start a new run")
            return
        tensors, meta = checkpoint.load(self.path)
        checkpoint.check_same(self.path, meta.get("identity", {}), self.identity)
        try:
            self.training.load_state(tensors, meta)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} does not fit this version's networks ({error}); use --resume=never"
            ) from error

    def open_folder(self, record: dict[str, Any]) -> None:
        """Make the folder, drop what an earlier run left, and write run.json. Raises ReportError."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.training.history:
                for name in (CHECKPOINT, GENERATOR, SAMPLES_PNG):
                    if self.training.done == 0:
                        (self.folder / name).unlink(missing_ok=True)
            self._write_json(record)
        except OSError as error:
            reason = error.strerror or error
            raise ReportError(
                f"--output-dir={self.folder}: cannot write there ({reason}); name a writable folder"
            ) from error

    def save_if_due(self) -> None:
        if self.folder is not None and time.monotonic() - self.last >= self.config.checkpoint_interval:
            self.save()

    def save(self) -> None:
        if self.path is not None:
            tensors, meta = self.training.state()
            checkpoint.save(self.path, tensors, meta | {"identity": self.identity})
            self.last = time.monotonic()

    def stopped(self) -> str:
        """Save, and say in words what was kept."""
        if self.path is None:
            return "nothing saved (no --output-dir)"
        self.save()
        return f"saved step {self.training.done} of {self.training.total} to {self.path}; the same command resumes"

    def finish(self, last: Evaluation, record: dict[str, Any]) -> None:
        """Weights and a sheet of samples, unless the trial diverged; then the record and a checkpoint that says so."""
        if self.folder is None:
            return
        if not last.diverged:
            checkpoint.save_weights(self.folder / GENERATOR, self.training.generator(0))
            noise = torch.randn(64, self.config.latent_dim, generator=torch.Generator().manual_seed(0))
            samples = self.training.step.sample(0, noise.to(self.training.step.device))
            data.write_grid(samples, self.folder / SAMPLES_PNG)
        self.save()
        self._write_json(record | {"finished": True, "final": last.values})

    def _write_json(self, record: dict[str, Any]) -> None:
        if self.folder is not None:
            content = json.dumps(record, indent=2, allow_nan=False) + "\n"
            checkpoint.write_atomically(self.folder / RUN_JSON, content.encode())


def _record(config: Config, identity: dict[str, Any], image: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """run.json: what it takes to repeat the run, and to know which results may be compared."""
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
