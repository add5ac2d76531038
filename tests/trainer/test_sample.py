"""Drawing from a finished trial: a real trial of a few steps, then the command."""

import json
import os

import pytest
import safetensors.torch
import torch
from PIL import Image

from trainer import sample
from trainer.__main__ import main as train
from trainer.drawing import draw


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    assert (
        train(
            ["--epochs=0.2", "--evals=1", "--samples=64", "--threads=1", f"--output-dir={folder}"]
        )
        == 0
    )
    return folder


def test_finished_trial_draws_a_grid(trial, tmp_path, capsys):
    out = tmp_path / "grid.png"
    assert sample.main(["--from", str(trial), "-n", "9", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as picture:
        assert picture.size == (100, 100)


def test_seed_determines_the_images(trial):
    first = draw(trial, 5, seed=1)
    assert torch.equal(first, draw(trial, 5, seed=1))
    assert not torch.equal(first, draw(trial, 5, seed=2))
    assert (first.shape, first.dtype) == ((5, 1, 8, 8), torch.uint8)


def run_json(trial, **changes):
    run = json.loads((trial / "run.json").read_text())
    return json.dumps(run | {"flags": run["flags"] | changes})


def pipe(path):
    path.unlink()
    os.mkfifo(path)


BROKEN = {
    "an empty folder": lambda folder, trial: [
        (folder / name).unlink() for name in ("run.json", "generator.safetensors")
    ],
    "a pipe as run.json": lambda folder, trial: pipe(folder / "run.json"),
    "a pipe as weights": lambda folder, trial: pipe(folder / "generator.safetensors"),
    "no weights": lambda folder, trial: (folder / "generator.safetensors").unlink(),
    "pickled weights": lambda folder, trial: (folder / "generator.safetensors").write_bytes(
        b"\x80\x04\x95cos\nsystem"
    ),
    "other weights": lambda folder, trial: safetensors.torch.save_file(
        {"x": torch.zeros(3)}, folder / "generator.safetensors"
    ),
    "another json": lambda folder, trial: (folder / "run.json").write_text('["a", 1]'),
    "no json": lambda folder, trial: (folder / "run.json").write_bytes(b"\xff\x00"),
    "another model": lambda folder, trial: (folder / "run.json").write_text(
        run_json(trial, model="vae")
    ),
    "other widths": lambda folder, trial: (folder / "run.json").write_text(
        run_json(trial, g_hidden=[7])
    ),
    "negative widths": lambda folder, trial: (folder / "run.json").write_text(
        run_json(trial, g_hidden=[-7])
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_folder_without_a_trial_is_refused(kind, trial, tmp_path, capsys):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("run.json", "generator.safetensors"):
        (folder / name).write_bytes((trial / name).read_bytes())
    BROKEN[kind](folder, trial)
    assert sample.main(["--from", str(folder), "-o", str(tmp_path / "grid.png")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"python -m trainer.sample: --from {folder}: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["-n", "0"], "-n 0: must be 1 to"),
        (["--seed", "-1"], "--seed -1"),
        (["-o", "{}/no/g.png"], "-o"),
    ],
)
def test_bad_flags_of_sample(argv, reason, trial, tmp_path, capsys):
    assert sample.main(["--from", str(trial), *(part.format(tmp_path) for part in argv)]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
