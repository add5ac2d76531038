"""SIGTERM and Ctrl-C at every stage of the three commands: real processes, real signals."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.process import GracefulStop, Stopped

ROOT = Path(__file__).parents[2]
SMALL = ["--samples=64", "--epochs=0.2", "--evals=1", "--threads=1"]


def start(module: str, argv: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for_import_of_torch(process: "subprocess.Popen[str]") -> None:
    """Until the process has opened a library of torch: its import has started, and takes more than a second."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if "/torch/lib/" in Path(f"/proc/{process.pid}/maps").read_text():
            return
        time.sleep(0.002)
    pytest.fail("the process did not import torch")


TRAINER = ("trainer", ["--epochs=1000"], "trainer: stopped by {}; training had not started\n")
PREPARE = ("trainer.prepare", ["--dataset=digits", "--data-dir={tmp}"], "nothing was stored\n")
SAMPLE = ("trainer.sample", ["--from={tmp}"], "nothing was written\n")


@pytest.mark.parametrize(
    ("module", "argv", "outcome", "number"),
    [
        (*TRAINER, signal.SIGINT),
        (*TRAINER, signal.SIGTERM),
        (*PREPARE, signal.SIGTERM),
        (*SAMPLE, signal.SIGINT),
        pytest.param(*PREPARE, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(*SAMPLE, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_signal_during_import_prints_one_line(module, argv, outcome, number, tmp_path):
    process = start(module, [part.format(tmp=tmp_path) for part in argv])
    wait_for_import_of_torch(process)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, ""), error
    assert error.endswith(outcome.format(number.name))
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_prepare_leaves_nothing_when_stopped(tmp_path):
    process = start("trainer.prepare", ["--dataset=digits", f"--data-dir={tmp_path}"])
    assert "training the feature extractor" in process.stderr.readline()
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (
        143,
        "python -m trainer.prepare: stopped by SIGTERM; nothing was stored\n",
    )
    assert os.listdir(tmp_path) == []


def test_signal_during_artifacts_loses_nothing(tmp_path):
    """SIGTERM while the weights are written: the run still finishes, and says nothing else."""
    wide = [*SMALL, "--g-hidden=1500,1500", f"--output-dir={tmp_path}"]
    process = start("trainer", wide)
    deadline = time.monotonic() + 60
    while not any(name.startswith((".generator", "generator")) for name in os.listdir(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.terminate()
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert len(out.splitlines()) == 1
    assert {"generator.safetensors", "samples.png", "checkpoint.safetensors"} <= set(
        os.listdir(tmp_path)
    )
    assert '"finished": true' in (tmp_path / "run.json").read_text()


def test_signal_after_the_last_line_loses_nothing(tmp_path, capsys):
    """SIGTERM as soon as the final metrics are printed: the run has finished or resumes with the same line."""
    argv = [*SMALL, f"--output-dir={tmp_path}"]
    process = start("trainer", argv)
    line = process.stdout.readline()
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0 or (
        process.returncode == 143 and re.search(r"saved step (\d+) of \1 to ", error)
    )
    assert main(argv) == 0
    assert capsys.readouterr().out == line
    assert (tmp_path / "samples.png").exists()


def test_handler_raises_only_where_allowed():
    stop = GracefulStop("nothing was done")
    stop(signal.SIGTERM)  # remembered
    with pytest.raises(Stopped):
        stop.check()
    busy = [True]
    with stop.allowed(lambda: not busy[0]):
        stop(signal.SIGTERM)
        busy[0] = False
        with pytest.raises(Stopped):
            stop(signal.SIGTERM)


def test_handlers_are_restored(capsys):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert main(SMALL) == 0
    assert main(["--lr=-1"]) == 2
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    capsys.readouterr()


def test_commands_run_in_a_thread(capsys):
    """Only the main thread can set handlers; another one runs without them."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(SMALL)))
    thread.start()
    thread.join()
    assert codes == [0]
    assert "fd=" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["trainer"], ["trainer.prepare", "--dataset=digits", "--data-dir=x"]]
)
def test_commands_wait_passively(command, tmp_path):
    """The policy is set before torch loads OpenMP, and a policy of the user is kept."""
    (tmp_path / "torch.py").write_text(
        "import os; print(os.environ['OMP_WAIT_POLICY']); os._exit(0)\n"
    )
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        environment |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", **given}
        done = subprocess.run(
            [sys.executable, "-u", "-m", *command],
            capture_output=True, text=True, env=environment, cwd=tmp_path, check=True,
        )  # fmt: skip
        assert done.stdout == f"{expected}\n"
