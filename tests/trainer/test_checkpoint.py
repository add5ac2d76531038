"""Files that survive a kill, and files that are refused."""

import json

import pytest
import safetensors.torch
import torch

from tests.trainer.test_bad_input import refused
from trainer import checkpoint
from trainer.__main__ import main
from trainer.checkpoint import CheckpointError

TENSORS = {
    "g": torch.randn(2, 5),
    "rng.0": torch.Generator().get_state(),
    "position": torch.tensor(7),
}
META = {"done": 3, "identity": {"lr": 0.001}}


def saved(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, META)
    return path


def test_saved_state_is_loaded(tmp_path):
    tensors, meta = checkpoint.load(saved(tmp_path))
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items()
    )


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_file_is_refused(tmp_path, keep):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"truncated.*--resume=never"):
        checkpoint.load(path)


def test_flipped_bit_is_refused(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(path)


def test_other_file_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        checkpoint.load(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load(path)


def test_other_run_names_the_difference(tmp_path):
    with pytest.raises(CheckpointError, match=r"lr is 0.1 there and 0.2 now"):
        checkpoint.check_same(tmp_path, {"lr": 0.1, "bs": 4}, {"lr": 0.2, "bs": 4})
    checkpoint.check_same(tmp_path, {"lr": 0.1}, {"lr": 0.1})


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, TENSORS, META | {"done": 4})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_weights_are_plain_safetensors(tmp_path):
    checkpoint.save_weights(tmp_path / "g.safetensors", {"w": torch.arange(6.0).view(2, 3).T})
    assert torch.equal(
        safetensors.torch.load_file(tmp_path / "g.safetensors")["w"], torch.arange(6.0).view(2, 3).T
    )


RUN = ["--epochs=0.3", "--evals=2", "--samples=64", "--g-hidden=8", "--d-hidden=8", "--threads=1"]
DEEP = "[" * 100_000


def history(meta, **changes):
    """The metadata with a change in the values of its first evaluation."""
    first, *rest = meta["history"]
    return meta | {"history": [first | {"values": first["values"] | changes}, *rest]}


FORGED_META = {
    "a list": lambda meta: [1, 2],
    "nothing": lambda meta: {},
    "no identity": lambda meta: {k: v for k, v in meta.items() if k != "identity"},
    "an identity of another type": lambda meta: meta | {"identity": 7},
    "no history": lambda meta: {k: v for k, v in meta.items() if k != "history"},
    "an empty history": lambda meta: meta | {"history": []},
    "a history of numbers": lambda meta: meta | {"history": [1]},
    "a history that is no list": lambda meta: meta | {"history": {"values": 1}},
    "a metric that is not finite": lambda meta: history(meta, fd=float("nan")),
    "a metric that is text": lambda meta: history(meta, fd="3"),
    "a metric that is too large": lambda meta: history(meta, fd=10**400),
    "an unknown metric": lambda meta: history(meta, best=1.0),
    "a bad time": lambda meta: meta | {"history": [e | {"time": "yesterday"} for e in meta["history"]]},
    "a time without a zone": lambda meta: meta | {"history": [e | {"time": "2026-01-01"} for e in meta["history"]]},
    "another trial": lambda meta: meta | {"history": [e | {"trial": 4} for e in meta["history"]]},
    "text as a step": lambda meta: meta | {"done": "7"},
    "a negative step": lambda meta: meta | {"done": -1},
    "a huge step": lambda meta: meta | {"done": 10**400},
    "a step outside the schedule": lambda meta: meta | {"evaluated": 1, "evaluated_at": 0, "done": 0},
    "too many evaluations": lambda meta: meta | {"evaluated": 99},
    "two trials": lambda meta: meta | {"alive": [True, True]},
    "numbers as flags": lambda meta: meta | {"alive": [1]},
    "no untrained scores": lambda meta: meta | {"untrained": [{}]},
    "negative seconds": lambda meta: meta | {"train_seconds": -5},
    "seconds that are text": lambda meta: meta | {"seconds": "x"},
}  # fmt: skip
FORGED_TENSORS = {
    "no tensors": lambda t: {"g": t["g"]},
    "one more": lambda t: t | {"x": torch.zeros(1)},
    "another shape": lambda t: t | {"g": t["g"][:, :-1].contiguous()},
    "a shape that broadcasts": lambda t: t | {"g.first": torch.zeros(1, 1)},
    "another type": lambda t: t | {"ema": t["ema"].double()},
    "images that do not exist": lambda t: t | {"order": t["order"] + 10_000},
    "negative images": lambda t: t | {"order": t["order"] - 10_000},
    "a position beyond the data": lambda t: t | {"position": torch.tensor(10**9)},
    "a short random state": lambda t: t | {"rng.0": t["rng.0"][:9].clone()},
    "an invalid random state": lambda t: t | {"rng.0": torch.full_like(t["rng.0"], 255)},
}


def refused_and_kept(tmp_path, capsys):
    """The run refuses the checkpoint in one line with the fix, and changes no file."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "--resume=never" in refused(capsys, [*RUN, f"--output-dir={tmp_path}"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a finished run: tensors and metadata."""
    folder = tmp_path_factory.mktemp("run")
    assert main([*RUN, f"--output-dir={folder}"]) == 0
    return checkpoint.load(folder / checkpoint.CHECKPOINT)


def test_unchanged_checkpoint_is_accepted(finished, tmp_path, capsys):
    checkpoint.save(tmp_path / checkpoint.CHECKPOINT, *finished)
    assert main([*RUN, f"--output-dir={tmp_path}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("kind", FORGED_META)
def test_forged_metadata_with_valid_checksum(kind, finished, tmp_path, capsys):
    tensors, meta = finished
    checkpoint.save(tmp_path / checkpoint.CHECKPOINT, tensors, FORGED_META[kind](meta))
    refused_and_kept(tmp_path, capsys)


@pytest.mark.parametrize("kind", FORGED_TENSORS)
def test_forged_tensors_with_valid_checksum(kind, finished, tmp_path, capsys):
    tensors, meta = finished
    checkpoint.save(tmp_path / checkpoint.CHECKPOINT, FORGED_TENSORS[kind](tensors), meta)
    refused_and_kept(tmp_path, capsys)


@pytest.mark.parametrize("text", ["", "{", DEEP, json.dumps("text")])
def test_metadata_that_is_no_object(text, finished, tmp_path, capsys):
    tensors, _ = finished
    metadata = {
        "format": checkpoint.FORMAT,
        "meta": text,
        "sha256": checkpoint._digest(tensors, text),
    }
    safetensors.torch.save_file(tensors, tmp_path / checkpoint.CHECKPOINT, metadata)
    refused_and_kept(tmp_path, capsys)
