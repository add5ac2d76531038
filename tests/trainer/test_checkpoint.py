"""Files that survive a kill, and files that are refused."""

import pytest
import safetensors.torch
import torch

from trainer import checkpoint
from trainer.checkpoint import CheckpointError

TENSORS = {"g": torch.randn(2, 5), "rng.0": torch.Generator().get_state(), "position": torch.tensor(7)}
META = {"done": 3, "identity": {"lr": 0.001}}


def saved(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, META)
    return path


def test_what_is_saved_is_loaded(tmp_path):
    tensors, meta = checkpoint.load(saved(tmp_path))
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"truncated.*--resume=never"):
        checkpoint.load(path)


def test_a_flipped_bit_is_refused(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        checkpoint.load(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load(path)


def test_another_runs_checkpoint_names_the_difference(tmp_path):
    with pytest.raises(CheckpointError, match=r"lr is 0.1 there and 0.2 now"):
        checkpoint.check_same(tmp_path, {"lr": 0.1, "bs": 4}, {"lr": 0.2, "bs": 4})
    checkpoint.check_same(tmp_path, {"lr": 0.1}, {"lr": 0.1})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
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
    assert torch.equal(safetensors.torch.load_file(tmp_path / "g.safetensors")["w"], torch.arange(6.0).view(2, 3).T)
