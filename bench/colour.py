"""Colour images: the models `resnet`, `dcgan` and `mlp` at equal images and at equal CPU time, with sample sheets.

    python -m bench.colour --side 16 --images 20000                      an hour on an idle core
    python -m bench.colour --data stamps --side 32 --images 100000       a day

emoji   3,786 emoji of the npm package `emoji-datasource-google` 16.0.0 (images: Apache-2.0, Google), with
        their categories as labels; needs `npm`
stamps  796 cut-out photographs and drawings of Debian's package `tuxpaint-stamps-default` (GPL-2); needs
        `apt-get` and `dpkg-deb`

Transparent images are composed on white, then scaled to --side pixels. Every fifth image is held out.
`--few` training images are drawn from all of them; both sets are scored with the extractor that
trainer.prepare trained on all training images, and on the same held-out images. A row is the mean
over the seeds, which train side by side. The second table gives each model the CPU time that dcgan
needs for --images. All files are kept in --folder, and finished rows are not repeated.
"""

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.provenance import line
from trainer import preparation
from trainer.config import Config
from trainer.data import Images, load, spread, write_grid
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Training, architecture
from trainer.step import Step

EMOJI = "emoji-datasource-google@16.0.0"
STAMPS = "tuxpaint-stamps-default"
MODELS = {
    "mlp": ["--preset=stable", "--model=mlp"],
    "dcgan": ["--preset=stable", "--model=dcgan"],
    "resnet": ["--preset=r3gan"],
}
AUGMENT = "--augment=color,translation,cutout"
SCORES = ("fd", "coverage", "copied", "train_fd")
SHEET = 36  # images
EXTRACTOR_STEPS = 600  # of 2,000: docs/metrics.md shows that more change the ratios little


def main() -> None:
    """Print the two tables and write a sheet of samples for each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", choices=("emoji", "stamps"), default="emoji")
    parser.add_argument("--side", type=int, default=32, help="pixels (default 32)")
    parser.add_argument("--images", type=int, default=100_000, help="training images per trial")
    parser.add_argument(
        "--few", type=int, default=500, help="images of the small set (default 500)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings per row (default 3)")
    parser.add_argument("--samples", type=int, default=2000, help="images per score (default 2000)")
    parser.add_argument("--flags", default="", help="more flags for resnet, separated by spaces")
    parser.add_argument("--only", default="", help="run only rows whose name contains this")
    parser.add_argument("--folder", type=Path, default=Path("runs/colour"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    MODELS["resnet"] += args.flags.split()
    bench = Bench(prepare(args.folder.resolve(), args.data, args.side), args)
    print(line("torch"))
    print(
        f"{args.data}, {args.side} x {args.side}, {len(bench.images.train)} training and"
        f" {len(bench.images.held_out)} held-out images, batch 64, {args.samples} samples x 2 draws,"
        f" {args.seeds} seeds"
    )
    write_grid(spread(bench.images.held_out, SHEET), bench.folder / "real.png")
    for name, flags, few, images in plan(args, bench):
        if args.only in name:
            print(bench.row(name, flags, few, images), flush=True)


def plan(args: argparse.Namespace, bench: "Bench") -> Iterator[tuple[str, list[str], bool, int]]:
    """Yield (name, flags, whether to train on the few images, training images) of each row."""
    for few in (True, False):
        for model, flags in MODELS.items():
            for extra in ([], [AUGMENT]):
                name = f"{model}{' augmented' if extra else ''}, {args.few if few else 'all'}"
                yield name, [*flags, *extra], few, args.images
    allowed = args.images * bench.cost(MODELS["dcgan"])
    for model in ("mlp", "resnet"):
        images = round(allowed / bench.cost(MODELS[model]))
        yield f"{model}, all, in the time of dcgan", MODELS[model], False, images


class Bench:
    """The prepared images, and the rows that are finished."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.images = load(str(folder / "source.npz"), folder, torch.device("cpu"))
        self.extractor = load_extractor(self.images)
        self.few = dataclasses.replace(
            self.images, train=spread(self.images.train, args.few).contiguous()
        )
        self.costs: dict[str, float] = {}

    def row(self, name: str, flags: list[str], few: bool, images: int) -> str:
        """Train one row unless it is finished, write its sheet, and return it as text."""
        key = f"{name}, {images} images, {' '.join(flags)}, {self.args.seeds} seeds"
        kept = self.folder / "rows.json"
        rows = json.loads(kept.read_text()) if kept.exists() else {}
        if key not in rows:
            found = self.train(flags, self.few if few else self.images, images, name)
            rows = json.loads(kept.read_text()) if kept.exists() else {}
            rows[key] = found
            kept.write_text(json.dumps(rows, indent=1))
        finals = rows[key]
        means = "  ".join(f"{s} {statistics.fmean(f[s] for f in finals):.3g}" for s in SCORES)
        fds = ", ".join(f"{f['fd']:.1f}" for f in finals)
        return f"{name:34} {images:8} images  {means}  (fd {fds})  {self.cost(flags):.2f} s/1,000"

    def train(
        self, flags: list[str], images: Images, count: int, name: str
    ) -> list[dict[str, float]]:
        """Return the final metrics of each seed, which train side by side."""
        shared = [f"--epochs={count / len(images.train)}", "--evals=1"]
        shared += [f"--samples={self.args.samples}"]
        seeds = range(1, self.args.seeds + 1)
        configs = [Config.parse([*flags, *shared, f"--seed={seed}"]) for seed in seeds]
        training = Training(configs, images, Evaluator(images, self.extractor, self.args.samples))
        finals = [evaluation.values for evaluation in training.run()]
        noise = torch.randn(
            SHEET, configs[0].latent_dim, generator=torch.Generator().manual_seed(0)
        )
        sheet = name.replace(", ", "-").replace(" ", "-")
        write_grid(training.step.sample(0, noise), self.folder / f"{sheet}.png")
        return finals

    def cost(self, flags: list[str]) -> float:
        """Return the CPU seconds of 1,000 training images of one trial; other processes matter less than for time."""
        key = " ".join(flags)
        if key not in self.costs:
            config = Config.parse(flags)
            step = Step(architecture(config, self.images.shape), [config], self.images.train)
            step()
            start, steps = time.process_time(), 0
            while steps < 3 or time.process_time() - start < 2:
                step()
                steps += 1
            spent = time.process_time() - start
            self.costs[key] = spent / steps / config.bs * 1000
        return self.costs[key]


def prepare(folder: Path, name: str, side: int) -> Path:
    """Return the folder with the prepared images, after a download if it does not exist yet."""
    target = folder / f"{name}-{side}"
    source = target / "source.npz"
    if not source.exists():
        target.mkdir(parents=True, exist_ok=True)
        images, labels = {"emoji": emoji, "stamps": stamps}[name](folder, side)
        np.savez_compressed(source, images=images, labels=labels)
    preparation.prepare(str(source), target, steps=EXTRACTOR_STEPS)
    return target


def emoji(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the emoji, uint8 [N, side, side, 3], and the numbers of their categories [N]."""
    package = folder / "emoji"
    if not package.exists():
        require("npm")
        run("npm", "pack", "--silent", EMOJI, folder=folder)
        package.mkdir()
        archive = f"{EMOJI.replace('@', '-')}.tgz"
        run(
            "tar",
            "xzf",
            f"../{archive}",
            "package/emoji.json",
            "package/img/google/64",
            folder=package,
        )
    entries = json.loads((package / "package/emoji.json").read_text(encoding="utf-8"))
    categories = sorted({entry["category"] for entry in entries})
    found = []
    for entry in entries:
        for each in (entry, *entry.get("skin_variations", {}).values()):
            path = package / "package/img/google/64" / each["image"]
            if path.exists():
                found.append((path, categories.index(entry["category"])))
    return scaled([path for path, _ in found], side), np.array([label for _, label in found])


def stamps(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stamps, uint8 [N, side, side, 3], and the numbers of their folders [N]."""
    package = folder / "stamps"
    if not package.exists():
        require("apt-get", "dpkg-deb")
        run("apt-get", "download", STAMPS, folder=folder)
        run("dpkg-deb", "-x", next(folder.glob(f"{STAMPS}*.deb")).name, "stamps", folder=folder)
    root = package / "usr/share/tuxpaint/stamps"
    paths = sorted(root.rglob("*.png"))
    kinds = [path.relative_to(root).parts[0] for path in paths]
    return scaled(paths, side), np.unique(kinds, return_inverse=True)[1]


def scaled(paths: list[Path], side: int) -> np.ndarray:
    """Read images, compose them on white, fit them into a white square, and scale it."""
    images = np.empty((len(paths), side, side, 3), np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            picture = image.convert("RGBA")
        longest = max(picture.size)
        square = Image.new("RGBA", (longest, longest), "white")
        corner = (longest - picture.width) // 2, (longest - picture.height) // 2
        square.alpha_composite(picture, corner)
        images[i] = np.asarray(square.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
    return images


def require(*programs: str) -> None:
    """End with a message if a program that brings the images is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            sys.exit(f"bench.colour needs {program}, which brings the images. Install it")


def run(*command: str, folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
