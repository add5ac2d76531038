"""All settings of one trial: one frozen dataclass defines the flags, their help, their bounds and the checks.

    Config.parse(["--lr", "1e-3", "--bs", "64"]) -> Config(lr=0.001, bs=64, ...)

Imports no torch, so that `python -m trainer --help` is fast. A preset only sets flags, and a flag
on the command line overrides it. Field metadata: `help`, `unit`, `low`/`high` (inclusive), `below`
(exclusive), `choices`.
"""

import argparse
import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trainer import stopping
from trainer.losses import LOSSES

IMAGES_PER_TRIAL = 250_000
"""Training images of a trial without --epochs and --budget-seconds."""

WIDTHS = {"mlp": (128, 256), "dcgan": (64, 32), "resnet": (64, 48, 32, 16)}
"""Default --g-hidden of each model. The default of --d-hidden is --g-hidden in reverse order."""

AUGMENTATIONS = ("color", "translation", "cutout")


def _r3gan(*widths: int) -> dict[str, Any]:
    return {
        "lr": 1e-3, "loss": "rpgan", "beta1": 0.0, "beta2": 0.99, "r1_gamma": 1.0, "r2_gamma": 1.0,
        "ema_decay": 0.999, "model": "resnet", "latent_dim": 64, "g_hidden": widths,
    }  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    # exactly as in the article
    "article": {
        "lr": 1e-3, "loss": "ns", "beta1": 0.9, "beta2": 0.999, "r1_gamma": 0.0, "r2_gamma": 0.0, "ema_decay": 0.0,
    },
    # the best on digits (bench/presets.py); R1: Mescheder et al. 2018, arXiv 1801.04406
    "stable": {
        "lr": 2e-3, "loss": "ns", "beta1": 0.0, "beta2": 0.99, "r1_gamma": 1.0, "r2_gamma": 0.0, "ema_decay": 0.999,
    },
    # after R3GAN (arXiv 2501.05441), for colour images of 32 to 64 pixels, on a CPU and on a GPU
    "r3gan": _r3gan(64, 48, 32, 16),
    "r3gan-gpu": _r3gan(384, 384, 256, 128),
}  # fmt: skip

EPILOG = """\
metrics, one line per evaluation and a final one:
  loss                 the generator's loss (= generator_loss), mean over the steps since the last evaluation;
                       the article minimises it. It does not measure quality: minimise fd.
  discriminator_loss   the discriminator's loss without penalties, the same mean
  fd                   Frechet distance to held-out images in the features of a small classifier, lower is better
  sw                   sliced Wasserstein distance in the same features, lower is better
  precision recall density coverage   share of samples that look real, and of real images that are covered
  train_fd copied      fd to the training images, and share of near copies of a training image: they show overfitting
  images_per_second    training images per second since the last evaluation
  train_seconds        seconds of training so far: only the steps, without evaluations, checkpoints and loading
  stopped              1: the trial missed a threshold of --stop-at; this line is printed only then
  diverged             1: training became non-finite and the values are those of the untrained generator

exit codes: 0 success, 1 cannot write a file or open a port, 2 bad flag or unusable data,
            3 diverged with --on-divergence=fail, 130 Ctrl-C, 143 SIGTERM
"""


class UsageError(Exception):
    """The command line cannot be run. The message is one line with the flag, its value, the rule and the fix."""


def _flag(default: Any, text: str, **metadata: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True)
class Config:
    """One trial. Every field is a flag: `beta1` is `--beta1`, `g_hidden` is `--g-hidden`."""

    preset: str = _flag(
        "stable",
        "set the flags that are not given; article: the article's GAN; r3gan: for colour images;"
        " r3gan-gpu: the same with wide layers",
        choices=tuple(PRESETS),
    )
    # optimisation
    lr: float = _flag(2e-3, "learning rate of the generator", low=1e-8, high=10.0, per_trial=True)
    bs: int = _flag(64, "batch size", unit="images", low=2, high=65536)
    optimizer: str = _flag(
        "adam",
        "optimizer of both networks; sgd: --beta1 is the momentum; rmsprop: --beta2 is the decay",
        choices=("adam", "adamw", "rmsprop", "sgd"),
    )
    beta1: float = _flag(
        0.0, "decay rate of the gradient's running mean", low=0.0, below=1.0, per_trial=True
    )
    beta2: float = _flag(
        0.99, "decay rate of the squared gradient's running mean", low=0.0, below=1.0,
        per_trial=True,
    )  # fmt: skip
    weight_decay: float = _flag(
        0.0, "weight decay, added to the gradient; adamw: decoupled", low=0.0, high=10.0,
        per_trial=True,
    )  # fmt: skip
    d_lr_ratio: float = _flag(
        1.0, "learning rate of the discriminator divided by --lr", low=1e-4, high=1e4,
        per_trial=True,
    )  # fmt: skip
    n_critic: int = _flag(1, "discriminator steps per generator step", low=1, high=100)
    # objective
    loss: str = _flag(
        "ns", "; ".join(f"{name}: {loss.help}" for name, loss in LOSSES.items()),
        choices=tuple(LOSSES),
    )  # fmt: skip
    r1_gamma: float = _flag(
        1.0, "weight of the gradient penalty on real images; 0: none", low=0.0, high=1e4,
        per_trial=True,
    )  # fmt: skip
    r2_gamma: float = _flag(
        0.0, "weight of the gradient penalty on generated images; 0: none", low=0.0, high=1e4,
        per_trial=True,
    )  # fmt: skip
    label_smoothing: float = _flag(
        0.0, "subtract this from the target 1 of real images; not with hinge and wgan", low=0.0,
        below=0.5, per_trial=True,
    )  # fmt: skip
    ema_decay: float = _flag(
        0.999, "decay of the running mean of the generator's weights, which is evaluated; 0: none",
        low=0.0, below=1.0, per_trial=True,
    )  # fmt: skip
    augment: tuple[str, ...] = _flag(
        (),
        "random changes of real and generated images before the discriminator sees them, for a small"
        " data set: none, or a comma-separated list of " + ", ".join(AUGMENTATIONS),
        choices=AUGMENTATIONS,
    )
    # networks
    model: str = _flag(
        "mlp",
        "mlp: the article's network; dcgan: a small convolutional network; resnet: residual blocks",
        choices=tuple(WIDTHS),
    )
    latent_dim: int = _flag(100, "size of the generator's input", low=1, high=65536)
    g_hidden: tuple[int, ...] | None = _flag(
        None,
        "widths (mlp) or channels (others) of the generator's hidden layers; default: mlp 128,256,"
        " dcgan 64,32, resnet 64,48,32,16",
        low=1,
        high=65536,
    )
    d_hidden: tuple[int, ...] | None = _flag(
        None, "the same for the discriminator; default: --g-hidden in reverse order", low=1,
        high=65536,
    )  # fmt: skip
    spectral_norm: bool = _flag(
        False, "divide each weight matrix of the discriminator by its largest singular value"
    )
    # data and budget
    dataset: str = _flag(
        "digits",
        "digits (bundled), mnist, fashion-mnist, or the folder or .npz file of images that was prepared",
    )
    data_dir: Path | None = _flag(
        None, "directory in which python -m trainer.prepare stored the data set"
    )
    epochs: float | None = _flag(
        None, f"passes over the training images; default: enough for {IMAGES_PER_TRIAL:,} images",
        low=1e-6, high=1e6,
    )  # fmt: skip
    budget_seconds: float | None = _flag(
        None, "train for this much training time instead of --epochs, to compare trials at equal time;"
        " results then depend on the machine's speed and are not reproducible",
        unit="seconds", low=1e-3, high=1e7,
    )  # fmt: skip
    evals: int = _flag(
        8, "number of evaluations, evenly spaced, the last one at the end", low=1, high=10000
    )
    samples: int = _flag(
        2000, "number of generated images per score", unit="images", low=64, high=1_000_000
    )
    inception: Path | None = _flag(
        None, "score with the Inception network whose weights this .safetensors file holds, so that"
        " fd is the FID of papers; default: the data set's own extractor",
    )  # fmt: skip
    seed: int = _flag(
        0, "seed of weights, noise and batch order", low=0, high=2**63 - 1, per_trial=True
    )
    # early stopping
    stop_at: str = _flag(
        "", "finish early if --stop-metric misses a threshold: 4gt0.5 finishes at report 4 if the best value so far"
        f" is greater than 0.5; lt: less than; several are joined by _; default: the variable {stopping.VARIABLE}",
    )  # fmt: skip
    stop_metric: str = _flag("fd", "the metric that --stop-at is about")
    # where and how it runs
    device: str = _flag(
        "auto", "auto: the GPU if there is one, else the CPU", choices=("auto", "cpu", "cuda")
    )
    precision: str = _flag(
        "fp32", "precision of matrix products; tf32 needs CUDA", choices=("fp32", "tf32", "bf16")
    )
    threads: int = _flag(
        0, "CPU threads; 0: as the networks' size, the cgroup and OMP_NUM_THREADS suggest", low=0,
        high=1024,
    )  # fmt: skip
    output_dir: Path | None = _flag(
        None,
        "write weights, samples.png, real.png, run.json, metrics.jsonl and the checkpoint to this directory",
    )
    metrics_file: Path | None = _flag(
        None, "write the metric lines to this file too (for Katib's File collector, format TEXT)"
    )
    metrics_port: int | None = _flag(
        None, "serve the metrics to Prometheus on this port; 0: any free port", low=0, high=65535
    )
    metrics_host: str = _flag(
        "127.0.0.1",
        "address that --metrics-port listens on; 0.0.0.0: reachable from other hosts, as a scraped pod needs",
    )
    checkpoint_interval: float = _flag(
        30.0, "time between checkpoints in --output-dir; 0: after each step", unit="seconds",
        low=0.0, high=1e6,
    )  # fmt: skip
    resume: str = _flag(
        "auto", "auto: continue from the checkpoint in --output-dir if there is one; never: start again;"
        " must: fail without a checkpoint",
        choices=("auto", "never", "must"),
    )  # fmt: skip
    on_divergence: str = _flag(
        "report", "report: print the untrained generator's scores and diverged=1, exit 0; fail: no metric, exit 3",
        choices=("report", "fail"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        g_hidden = self.g_hidden or WIDTHS[self.model]
        object.__setattr__(self, "g_hidden", g_hidden)
        object.__setattr__(self, "d_hidden", self.d_hidden or g_hidden[::-1])
        _check_combinations(self)

    @classmethod
    def parse(cls, argv: Sequence[str]) -> "Config":
        """Parse the flags. Raises UsageError; --help prints the help and raises SystemExit(0)."""
        parser = _parser()
        given = vars(parser.parse_args(argv))
        preset = given.get("preset", cls.preset)
        given.setdefault("stop_at", os.environ.get(stopping.VARIABLE, ""))
        return cls(**{**PRESETS.get(preset, {}), **given})

    def as_flags(self) -> dict[str, Any]:
        """Return every setting as a JSON value."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v
            for name, v in values.items()
        }


def flag(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def per_trial_fields() -> tuple[str, ...]:
    """Return the fields in which the trials of one stack may differ."""
    return tuple(f.name for f in dataclasses.fields(Config) if f.metadata.get("per_trial"))


def _rule(metadata: Any) -> str:
    if "choices" in metadata:
        return "must be one of " + ", ".join(metadata["choices"])
    bounds = [f"at least {metadata['low']:g}"] if "low" in metadata else []
    bounds += [f"at most {metadata['high']:g}"] if "high" in metadata else []
    bounds += [f"below {metadata['below']:g}"] if "below" in metadata else []
    return "must be " + " and ".join(bounds)


def _check(field: "dataclasses.Field[Any]", value: Any) -> None:
    metadata = field.metadata
    if value is None:
        return
    values = value if isinstance(value, tuple) else (value,)
    if "choices" in metadata:
        ok = all(v in metadata["choices"] for v in values)
    elif "low" in metadata:
        high, below = metadata.get("high", math.inf), metadata.get("below", math.inf)
        ok = all(metadata["low"] <= v <= high and v < below for v in values)
    else:
        return
    if not ok:
        raise UsageError(
            f"{flag(field.name)}={_text(value)}: {_rule(metadata)} ({metadata['help']})"
        )


def _text(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if value == ():
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_combinations(c: Config) -> None:
    try:
        stopping.parse(c.stop_at)
    except ValueError as error:
        raise UsageError(
            f"--stop-at={c.stop_at[:60]}: {str(error)[:60]!r} must be a report, gt or lt, and a number,"
            " such as 4gt0.5. Join several with _"
        ) from None
    if c.label_smoothing and not LOSSES[c.loss].smooths:
        smoothed = ", ".join(name for name, loss in LOSSES.items() if loss.smooths)
        raise UsageError(
            f"--label-smoothing={c.label_smoothing:g}: --loss={c.loss} has no target to smooth."
            f" Set --label-smoothing=0, or --loss to one of {smoothed}"
        )
    if c.spectral_norm and c.model == "resnet":
        raise UsageError(
            "--spectral-norm: --model=resnet has layers that start at zero, which cannot be divided by"
            " their norm. Remove the flag, or use --model=dcgan"
        )
    if c.precision == "tf32" and c.device == "cpu":
        raise UsageError(
            "--precision=tf32: the CPU has no TF32. Use --precision=fp32 or bf16, or --device=cuda"
        )
    if c.budget_seconds is not None and c.epochs is not None:
        raise UsageError(
            "--budget-seconds and --epochs are both given, but a trial has one budget. Remove one of them"
        )
    if c.resume == "must" and c.output_dir is None:
        raise UsageError(
            "--resume=must: there is no checkpoint without --output-dir. Name the directory that holds it"
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _integer(text: str) -> int:
    """Parse '64', and the doubles that Katib writes for an int parameter: '64.0', '6.4e1'."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(text) if text.strip().lstrip("+-").isdigit() else int(number)


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(_integer(part) for part in text.split(","))
    if not widths:
        raise ValueError(text)
    return widths


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


_integer.__name__, _widths.__name__ = "whole number", "comma-separated list of whole numbers"
_TYPES: dict[Any, Any] = {
    int: _integer, int | None: _integer, float: float, str: str, Path: Path, Path | None: Path, float | None: float,
    tuple[int, ...] | None: _widths, tuple[str, ...]: _names,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m trainer",
        description="Train one GAN and print its metrics in the format that Katib reads.",
        epilog=EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for field in dataclasses.fields(Config):
        parser.add_argument(flag(field.name), **_argument(field))
    return parser


def _argument(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    metadata = field.metadata
    preset = [
        f"{name}: {_text(flags[field.name])}"
        for name, flags in PRESETS.items()
        if field.name in flags
    ]
    notes = [metadata["unit"]] if "unit" in metadata else []
    notes += [_rule(metadata).removeprefix("must be ")] if "low" in metadata else []
    notes += [f"default {_text(field.default)}"] if field.default is not None and not preset else []
    notes += ["preset " + ", ".join(preset)] if preset else []
    text = (metadata["help"] + (f" [{'; '.join(notes)}]" if notes else "")).replace("%", "%%")
    if field.type is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    metavar = (
        "{" + ",".join(metadata["choices"]) + "}"
        if "choices" in metadata and field.type is str
        else field.name.split("_")[-1].upper()
    )
    return {"type": _TYPES[field.type], "metavar": metavar, "help": text}
