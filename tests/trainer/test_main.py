"""The command `python -m trainer`: real processes, real signals, real files."""

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import safetensors.torch
import torch

from trainer.__main__ import main

FAST = [
    "--samples=128",
    "--g-hidden=16,16",
    "--d-hidden=16,16",
    "--epochs=.5",
    "--evals=2",
    "--threads=1",
]


def values(line: str) -> dict[str, str]:
    """The values of a metric line that two runs reproduce: without the times."""
    pairs = dict(pair.split("=") for pair in line.split()[1:])
    return {k: v for k, v in pairs.items() if k not in ("images_per_second", "train_seconds")}


def test_run_prints_lines_and_writes_files(tmp_path, capsys):
    out, metrics = tmp_path / "out", tmp_path / "katib" / "metrics.log"
    assert (
        main(
            [
                *FAST,
                "--lr",
                "1e-3",
                "--bs",
                "64",
                f"--output-dir={out}",
                f"--metrics-file={metrics}",
            ]
        )
        == 0
    )
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 2
    assert metrics.read_text() == printed.out
    assert printed.err == ""
    assert {p.name for p in out.iterdir()} == {
        "checkpoint.safetensors", "generator.safetensors", "metrics.jsonl", "real.png", "run.json", "samples.png"
    }  # fmt: skip
    run = json.loads((out / "run.json").read_text())
    assert run["flags"]["lr"] == 0.001
    assert len(run["extractor_sha256"]) == len(run["data_sha256"]) == 64
    assert run["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert run["finished"] is True
    assert run["final"]["fd"] == float(values(lines[-1])["fd"])
    assert (
        json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["fd"] == run["final"]["fd"]
    )


def test_finished_run_repeats_its_lines(tmp_path, capsys):
    argv = [*FAST, f"--output-dir={tmp_path}"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    weights = (tmp_path / "generator.safetensors").read_bytes()
    assert main([*argv, "--resume=must", f"--metrics-file={tmp_path / 'm.log'}"]) == 0
    assert capsys.readouterr().out == first == (tmp_path / "m.log").read_text()
    assert (tmp_path / "generator.safetensors").read_bytes() == weights


def test_resume_never_starts_again(tmp_path, capsys):
    assert main([*FAST, "--seed=1", f"--output-dir={tmp_path}"]) == 0
    first = capsys.readouterr().out
    assert main([*FAST, "--seed=2", f"--output-dir={tmp_path}", "--resume=never"]) == 0
    assert values(capsys.readouterr().out.splitlines()[-1]) != values(first.splitlines()[-1])


def test_folder_of_another_run_is_kept(tmp_path, capsys):
    assert main([*FAST, "--lr=1e-3", f"--output-dir={tmp_path}"]) == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    capsys.readouterr()
    assert main([*FAST, "--lr=2e-3", f"--output-dir={tmp_path}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "lr is 0.001 there and 0.002 now" in printed.err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_truncated_checkpoint_is_kept(tmp_path, capsys):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert main([*FAST, f"--output-dir={tmp_path}", f"--metrics-file={tmp_path / 'm'}"]) == 2
    assert "truncated" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"\x10\0\0\0\0\0\0\0{"


DIVERGING = ["--optimizer=sgd", "--lr=10", "--loss=lsgan", "--r1-gamma=1e3"]


def test_divergence_reports_the_untrained_score(tmp_path, capsys):
    argv = [*FAST, *DIVERGING, f"--output-dir={tmp_path}"]
    assert main(argv) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("diverged=1")
    assert "nan" not in line
    assert "inf" not in line
    assert not (tmp_path / "generator.safetensors").exists()


def test_divergence_can_fail_the_trial(tmp_path, capsys):
    argv = [
        *FAST,
        *DIVERGING,
        "--on-divergence=fail",
        f"--output-dir={tmp_path}",
        f"--metrics-file={tmp_path / 'm'}",
    ]
    for _ in range(2):  # the second one finds the finished run
        assert main(argv) == 3
        printed = capsys.readouterr()
        assert printed.out == (tmp_path / "m").read_text() == ""
        assert "diverged at step" in printed.err


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--output-dir=/proc/nowhere"], 1, ["--output-dir=/proc/nowhere"]),
        (["--metrics-file=/proc/nowhere/m.log"], 1, ["--metrics-file", "/proc/nowhere"]),
        (["--metrics-file=/dev/full"], 1, ["/dev/full", "No space left", "Free some space"]),
        (["--dataset=mnist", "--data-dir=/nowhere"], 2, ["mnist", "trainer.prepare"]),
        (["--bs=7.5"], 2, ["--bs", "7.5"]),
    ],
)
def test_exit_code_says_whether_to_retry(argv, code, words, capsys):
    assert main([*FAST, *argv]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_used_port_writes_nothing(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main([*FAST, f"--metrics-port={port}", f"--output-dir={tmp_path / 'o'}"]) == 1
    assert str(port) in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "argv"), [("127.0.0.1", []), ("0.0.0.0", ["--metrics-host=0.0.0.0"])]
)
def test_metrics_are_served_during_training(host, argv, capsys):
    """Without --metrics-host the port of another address of this machine stays closed."""
    code: list[int] = []
    thread = threading.Thread(
        target=lambda: code.append(main([*FAST, "--epochs=30", "--metrics-port=0", *argv]))
    )
    thread.start()
    text, error, deadline = "", "", time.monotonic() + 60
    while "\n" not in error and time.monotonic() < deadline:
        error += capsys.readouterr().err
        time.sleep(0.005)
    found = re.fullmatch(r"metrics at http://(.+):(\d+)/metrics\n", error)
    assert found is not None
    port = int(found[2])
    open_to_others = reachable("127.0.0.2", port)  # another address of this machine
    while "gan_trainer_frechet_distance " not in text and time.monotonic() < deadline:
        try:
            text = (
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
                .read()
                .decode()
            )
        except OSError:
            time.sleep(0.01)
    thread.join()
    assert (found[1], open_to_others) == (host, host == "0.0.0.0")
    assert "gan_trainer_frechet_distance " in text
    assert code == [0]
    socket.create_server(("127.0.0.1", port)).close()  # free again


def start(argv: list[str], **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


LONG = [
    "--samples=128",
    "--g-hidden=16,16",
    "--d-hidden=16,16",
    "--epochs=12",
    "--evals=5",
    "--threads=1",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The lines and the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as error,
    ):
        assert main([*LONG, f"--output-dir={folder}"]) == 0
    assert error.getvalue() == ""
    return out.getvalue().splitlines(), folder


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_resumes_after_each_signal(tmp_path, capsys, undisturbed, how):
    """Kill after the first line, resume, and compare with an uninterrupted run: metrics and weights, bit for bit."""
    argv = [*LONG, f"--output-dir={tmp_path / 'cut'}", "--checkpoint-interval=0.02"]
    process = start(argv)
    first = process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(how)
    rest, error = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 128 + how), error
    if how != signal.SIGKILL:
        assert error.count("\n") == 1
        assert "the same command resumes" in error
    assert main(argv) == 0
    resumed = capsys.readouterr().out.splitlines()
    assert resumed[0] + "\n" == first  # the earlier lines with their own times
    assert (
        resumed[: 1 + len(rest.splitlines())] == [first.strip(), *rest.splitlines()]
        or how == signal.SIGKILL
    )
    assert [values(line) for line in resumed] == [values(line) for line in undisturbed[0]]
    a, b = (
        safetensors.torch.load_file(d / "generator.safetensors")
        for d in (tmp_path / "cut", undisturbed[1])
    )
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
