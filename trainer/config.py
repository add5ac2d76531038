"""Everything that can be set about one trial: one frozen dataclass is the flags, their help and bounds, and the check.

    Config.parse(["--lr", "1e-3", "--bs", "64"]) -> Config(lr=0.001, bs=64, ...)

Imports no torch, so that `python -m trainer --help` answers at once. A preset sets flags and nothing else: a flag that
is written out always wins. Field metadata: `help`, `unit`, `low`/`high` (inclusive), `below` (exclusive), `choices`.
"""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trainer.losses import LOSSES

IMAGES_PER_TRIAL = 250_000
"""Training images that a trial sees when --epochs is not given."""

WIDTHS = {"mlp": ((128, 256), (256, 128)), "dcgan": ((64, 32), (32, 64))}
"""Default (--g-hidden, --d-hidden) of each model."""

PRESETS: dict[str, dict[str, Any]] = {
    # the article, to the letter
    "article": {
        "lr": 1e-3, "loss": "ns", "beta1": 0.9, "beta2": 0.999, "r1_gamma": 0.0, "r2_gamma": 0.0, "ema_decay": 0.0,
    },
    # what measures best on digits: bench/presets.py; R1: Mescheder et al. 2018, arXiv 1801.04406
    "stable": {
        "lr": 2e-3, "loss": "ns", "beta1": 0.0, "beta2": 0.99, "r1_gamma": 1.0, "r2_gamma": 0.0, "ema_decay": 0.999,
    },
}  # fmt: skip

EPILOG = """\
metrics, one line per evaluation and a final one:
  loss                 the generator's loss (= generator_loss), mean over the steps since the last evaluation;
                       printed because the article minimises it. It does not measure quality: minimise fd.
  discriminator_loss   the discriminator's loss without penalties, the same mean
  fd                   Frechet distance to held-out images in the features of a small classifier, lower is better
  sw                   sliced Wasserstein distance in the same features, lower is better
  precision recall density coverage   share of samples that look real, and of real images that are covered
  train_fd copied      fd to the training images, share of near copies of a training image: watch for overfitting
  images_per_second    training images per second of training time
  diverged             1: training became non-finite and the values are those of the untrained generator

exit codes: 0 done, 1 cannot write a file or have a port, 2 bad flag or missing data,
            3 diverged with --on-divergence=fail, 130 Ctrl-C, 143 SIGTERM
"""


class UsageError(Exception):
    """What the user wrote cannot be run: one line with the flag, its value, the rule and the remedy."""


def _flag(default: Any, text: str, **metadata: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True)
class Config:
    """One trial. Every field is a flag: `beta1` is `--beta1`, `g_hidden` is `--g-hidden`."""

    preset: str = _flag(
        "stable", "set the flags that are not given; article: the article's GAN", choices=tuple(PRESETS)
    )
    # optimisation
    lr: float = _flag(2e-3, "learning rate of the generator", low=1e-8, high=10.0, per_trial=True)
    bs: int = _flag(64, "batch size", unit="images", low=2, high=65536)
    optimizer: str = _flag(
        "adam",
        "sgd: --beta1 is its momentum; rmsprop: --beta2 is its decay",
        choices=("adam", "adamw", "rmsprop", "sgd"),
    )
    beta1: float = _flag(0.0, "decay of the gradient's mean", low=0.0, below=1.0, per_trial=True)
    beta2: float = _flag(0.99, "decay of the squared gradient's mean", low=0.0, below=1.0, per_trial=True)
    weight_decay: float = _flag(
        0.0, "added to the gradient times the weights; adamw: decoupled", low=0.0, high=10.0, per_trial=True
    )
    d_lr_ratio: float = _flag(1.0, "learning rate of D over that of G", low=1e-4, high=1e4, per_trial=True)
    n_critic: int = _flag(1, "discriminator steps per generator step", low=1, high=100)
    # objective
    loss: str = _flag(
        "ns",
        "; ".join(f"{name}: {loss.help}" for name, loss in LOSSES.items()),
        choices=tuple(LOSSES),
    )
    r1_gamma: float = _flag(1.0, "gradient penalty on real images; 0: none", low=0.0, high=1e4, per_trial=True)
    r2_gamma: float = _flag(0.0, "gradient penalty on generated images; 0: none", low=0.0, high=1e4, per_trial=True)
    label_smoothing: float = _flag(
        0.0, "real images have the target 1 minus this; not with hinge and wgan", low=0.0, below=0.5, per_trial=True
    )
    ema_decay: float = _flag(
        0.999, "running mean of the generator's weights, which is what is evaluated; 0: none",
        low=0.0, below=1.0, per_trial=True,
    )  # fmt: skip
    # networks
    model: str = _flag("mlp", "the article's network, or a small convolutional one", choices=tuple(WIDTHS))
    latent_dim: int = _flag(100, "size of the generator's input", low=1, high=65536)
    g_hidden: tuple[int, ...] | None = _flag(
        None, "generator's hidden widths, or channels; default 128,256 (mlp) or 64,32 (dcgan)", low=1, high=65536
    )
    d_hidden: tuple[int, ...] | None = _flag(
        None, "discriminator's, default 256,128 (mlp) or 32,64 (dcgan)", low=1, high=65536
    )
    spectral_norm: bool = _flag(False, "divide each weight of D by its largest singular value")
    # data and budget
    dataset: str = _flag("digits", "digits (bundled), mnist, fashion-mnist, a folder of images, or a .npz file")
    data_dir: Path | None = _flag(None, "where python -m trainer.prepare put the data set and its extractor")
    epochs: float | None = _flag(
        None, f"passes over the training images; default as many as make {IMAGES_PER_TRIAL:,} images",
        low=1e-6, high=1e6,
    )  # fmt: skip
    evals: int = _flag(8, "evaluations, evenly spaced, the last one at the end", low=1, high=10000)
    samples: int = _flag(2000, "generated images per score", unit="images", low=64, high=1_000_000)
    seed: int = _flag(0, "of weights, noise and batch order", low=0, high=2**63 - 1, per_trial=True)
    # where and how it runs
    device: str = _flag("auto", "auto takes the GPU where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = _flag("fp32", "arithmetic of matrix products; tf32 needs CUDA", choices=("fp32", "tf32", "bf16"))
    threads: int = _flag(0, "CPU threads; 0: what the cgroup and OMP_NUM_THREADS allow", low=0, high=1024)
    output_dir: Path | None = _flag(None, "weights, samples.png, run.json, metrics.jsonl and the checkpoint go here")
    metrics_file: Path | None = _flag(None, "metric lines go here too (Katib's File collector, format TEXT)")
    metrics_port: int | None = _flag(
        None, "serve the metrics to Prometheus on this port; 0: any free one", low=0, high=65535
    )
    checkpoint_interval: float = _flag(
        30.0, "time between checkpoints in --output-dir; 0: one after each step", unit="seconds", low=0.0, high=1e6
    )
    resume: str = _flag(
        "auto", "auto: go on from the checkpoint in --output-dir if there is one; never: start afresh",
        choices=("auto", "never", "must"),
    )  # fmt: skip
    on_divergence: str = _flag(
        "report", "report: the untrained generator's score and diverged=1, exit 0; fail: no metric, exit 3",
        choices=("report", "fail"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        g, d = WIDTHS[self.model]
        object.__setattr__(self, "g_hidden", self.g_hidden or g)
        object.__setattr__(self, "d_hidden", self.d_hidden or d)
        _check_combinations(self)

    @classmethod
    def parse(cls, argv: Sequence[str]) -> "Config":
        """Flags -> Config. Raises UsageError; --help prints and exits 0 as argparse does."""
        parser = _parser()
        given = vars(parser.parse_args(argv))
        preset = given.get("preset", cls.preset)
        return cls(**{**PRESETS.get(preset, {}), **given})

    def as_flags(self) -> dict[str, Any]:
        """Every flag with the value that holds, as JSON can write it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v
            for name, v in values.items()
        }


def flag(name: str) -> str:
    """Field name -> flag."""
    return "--" + name.replace("_", "-")


def per_trial_fields() -> tuple[str, ...]:
    """The fields in which trials that are trained side by side may differ."""
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
    if "choices" in metadata:
        ok = value in metadata["choices"]
    elif "low" in metadata:
        high, below = metadata.get("high", math.inf), metadata.get("below", math.inf)
        ok = all(metadata["low"] <= v <= high and v < below for v in (value if isinstance(value, tuple) else (value,)))
    else:
        return
    if not ok:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        raise UsageError(f"{flag(field.name)}={shown}: {_rule(metadata)} ({metadata['help']})")


def _check_combinations(c: Config) -> None:
    if c.label_smoothing and not LOSSES[c.loss].smooths:
        smoothed = ", ".join(name for name, loss in LOSSES.items() if loss.smooths)
        raise UsageError(
            f"--label-smoothing={c.label_smoothing:g}: --loss={c.loss} has no target to smooth."
            f" Set --label-smoothing=0, or --loss to one of {smoothed}"
        )
    if c.precision == "tf32" and c.device == "cpu":
        raise UsageError("--precision=tf32: the CPU has no TF32; use --precision=fp32 or bf16, or --device=cuda")
    if c.resume == "must" and c.output_dir is None:
        raise UsageError("--resume=must: there is no checkpoint without --output-dir; name the folder that holds it")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def _integer(text: str) -> int:
    """'64', and Katib's double for an int parameter: '64.0', '6.4e1'."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(text) if text.strip().lstrip("+-").isdigit() else int(number)


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(_integer(part) for part in text.split(","))
    if not widths:
        raise ValueError(text)
    return widths


_integer.__name__, _widths.__name__ = "whole number", "comma-separated list of whole numbers"
_TYPES: dict[Any, Any] = {
    int: _integer, int | None: _integer, float: float, str: str, Path: Path, Path | None: Path, float | None: float,
    tuple[int, ...] | None: _widths,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m trainer",
        description="Train one GAN and print its metrics as Katib reads them.",
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
    preset = [f"{name}: {flags[field.name]}" for name, flags in PRESETS.items() if field.name in flags]
    notes = [metadata["unit"]] if "unit" in metadata else []
    notes += [_rule(metadata).removeprefix("must be ")] if "low" in metadata else []
    notes += [f"default {field.default}"] if field.default is not None and not preset else []
    notes += ["preset " + ", ".join(preset)] if preset else []
    text = (metadata["help"] + (f" [{'; '.join(notes)}]" if notes else "")).replace("%", "%%")
    if field.type is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    metavar = "{" + ",".join(metadata["choices"]) + "}" if "choices" in metadata else field.name.split("_")[-1].upper()
    return {"type": _TYPES[field.type], "metavar": metavar, "help": text}
