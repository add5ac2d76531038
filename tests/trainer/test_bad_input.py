"""Mistakes of users: `python -m trainer` exits 2 with one line that has flag, rule and fix, and writes nothing."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from trainer.__main__ import main

NO_CUDA = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a CUDA device, so --device=cuda is no error"
)
FLAGS = [
    (["--learning-rate=1"], ["--learning-rate"]),
    (["--lr=0"], ["--lr=0", "at least 1e-08"]),
    (["--lr=nan"], ["--lr", "at least"]),
    (["--lr=1e999"], ["--lr", "at most"]),
    (["--lr=fast"], ["--lr", "fast"]),
    (["--bs=1"], ["--bs=1", "at least 2"]),
    (["--bs=64.5"], ["--bs", "64.5"]),
    (["--bs=0x40"], ["--bs", "0x40"]),
    (["--beta1=1"], ["--beta1=1", "below 1"]),
    (["--loss=bce"], ["--loss=bce", "ns", "rpgan"]),
    (["--optimizer=lion"], ["--optimizer=lion", "adam"]),
    (["--g-hidden=128,x"], ["--g-hidden", "128,x"]),
    (["--g-hidden=128,,256"], ["--g-hidden"]),
    (["--d-hidden=0"], ["--d-hidden=0", "at least 1"]),
    (["--evals=0"], ["--evals=0"]),
    (["--seed=-1"], ["--seed=-1"]),
    (["--epochs=-3"], ["--epochs=-3"]),
    (["--label-smoothing=0.1", "--loss=hinge"], ["--label-smoothing", "--loss=hinge"]),
    (["--resume=must"], ["--resume=must", "--output-dir"]),
    (["--metrics-port=70000"], ["--metrics-port=70000", "65535"]),
    (["--preset=best"], ["--preset=best", "article", "stable"]),
    (["--dataset=cifar", "--data-dir={tmp}"], ["cifar", "digits, mnist"]),
    (["--dataset=mnist"], ["--data-dir", "python -m trainer.prepare --dataset mnist"]),
    (
        ["--dataset=mnist", "--data-dir={tmp}/d"],
        ["python -m trainer.prepare --dataset mnist --data-dir {tmp}/d"],
    ),
    (
        ["--dataset={tmp}", "--data-dir={tmp}/d"],
        ["python -m trainer.prepare --dataset {tmp} --data-dir {tmp}/d"],
    ),
    (["--dataset=digits", "64"], ["64"]),
    (["--inception={tmp}/x"], ["--inception={tmp}/x", "No such file", "docs/reference/metrics.md"]),
]


def refused(capsys, argv, code=2):
    """Run the trainer and return its one line on stderr."""
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trainer: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(("argv", "parts"), FLAGS, ids=[" ".join(argv) for argv, _ in FLAGS])
def test_bad_flag_or_missing_data(argv, parts, tmp_path, capsys):
    err = refused(
        capsys, [part.format(tmp=tmp_path) for part in argv] + [f"--metrics-file={tmp_path}/m.log"]
    )
    for part in parts:
        assert part.format(tmp=tmp_path) in err
    assert os.listdir(tmp_path) == []


@NO_CUDA
@pytest.mark.parametrize("argv", [["--device=cuda"], ["--precision=tf32"]])
def test_missing_gpu_is_refused(argv, tmp_path, capsys):
    assert argv[0].partition("=")[0] in refused(capsys, [*argv, f"--output-dir={tmp_path}/o"])
    assert os.listdir(tmp_path) == []


def test_damaged_data_set_is_refused(tmp_path, capsys):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "images.npz").write_bytes(b"PK\x03\x04 truncated")
    err = refused(
        capsys, ["--dataset=mnist", f"--data-dir={tmp_path}", f"--output-dir={tmp_path}/o"]
    )
    assert "is damaged" in err
    assert "trainer.prepare --dataset mnist" in err
    assert os.listdir(tmp_path) == ["mnist"]


def test_set_without_extractor_is_refused(tmp_path, capsys):
    (tmp_path / "mnist").mkdir()
    images = np.zeros((9, 1, 28, 28), np.uint8)
    np.savez(
        tmp_path / "mnist" / "images.npz",
        train=images,
        held_out=images,
        fingerprint=np.array("torchvision"),
    )
    assert "feature extractor" in refused(capsys, ["--dataset=mnist", f"--data-dir={tmp_path}"])


@pytest.mark.parametrize(
    "flag", ["--output-dir={}/file/o", "--metrics-file={}/file/m.log", "--metrics-file={}"]
)
def test_unwritable_output_is_one_line(flag, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    err = refused(capsys, ["--epochs=0.1", "--samples=64", flag.format(tmp_path)], code=1)
    assert flag.partition("=")[0] in err
    assert os.listdir(tmp_path) == ["file"]


def test_used_port_is_refused(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        err = refused(
            capsys, ["--samples=64", f"--metrics-port={port}", f"--output-dir={tmp_path}/o"], code=1
        )
    assert f"--metrics-port={port}" in err
    assert os.listdir(tmp_path) == []


def test_checkpoint_of_other_flags_is_kept(tmp_path, capsys):
    argv = ["--epochs=0.1", "--evals=1", "--samples=64", "--threads=1", f"--output-dir={tmp_path}"]
    assert main(argv) == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "--lr" in refused(capsys, [*argv, "--lr=0.5"]).replace("lr", "--lr")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "command",
    [
        ["trainer"],
        ["trainer.prepare", "--dataset=digits", "--data-dir=."],
        ["trainer.sample", "--from=."],
    ],
)
def test_real_commands_print_one_line(command, tmp_path):
    argv = [sys.executable, "-m", *command, "--nonsense"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--nonsense" in done.stderr
    assert os.listdir(tmp_path) == []
