"""`python -m tuner.suggestion` as a process: what it imports, its memory, its signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.tuner.experiments import document
from tests.tuner.suggestion.controller import Controller, Trial
from tests.tuner.suggestion.test_parity import surface
from tuner.samplers.labels import ISSUED_SETTING

ROOT = Path(__file__).parents[3]
LIGHT, HEAVY = (
    ("random", "grid"),
    ("tpe", "multivariate-tpe", "cmaes", "sobol", "bayesianoptimization"),
)
MIB = 1024  # KiB


class Process:
    """A service in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tuner.suggestion", f"--port={self.port}"]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=one_thread
        )
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=20)

    def peak(self) -> int:
        """The most memory that was resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // MIB

    def seconds(self) -> float:
        """The processor time so far, of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit code and the log."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, log


@pytest.fixture
def service() -> Iterator[Process]:
    running = Process()
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGKILL)


def search(algorithm: str, finished: int = 1000) -> Controller:
    """A search with many finished trials."""
    controller = Controller(
        document(algorithm, parallel=5, trials=9 if algorithm == "grid" else None), surface
    )
    if algorithm != "grid":
        for number in range(finished):
            values = {
                "lr": repr(10 ** -(2 + 3 * (number * 7 % 1000) / 1000)),
                "bs": str(32 + number % 97),
            }
            controller.trials.append(
                Trial(f"t{number}", number, values, {}, "SUCCEEDED", repr(surface(values)))
            )
    return controller


def test_random_and_grid_need_little_memory(service: Process) -> None:
    for algorithm in LIGHT:
        search(algorithm).ask(service, 5)
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "torch" not in maps
    assert "numpy" not in maps
    assert service.peak() <= 150


def test_no_algorithm_loads_torch(service: Process) -> None:
    for algorithm in HEAVY:
        search(algorithm).ask(service, 5)
    assert "libtorch" not in Path(f"/proc/{service.process.pid}/maps").read_text()
    assert service.peak() <= 250


def test_bayesianoptimization_needs_little_memory(service: Process) -> None:
    search("bayesianoptimization").ask(service, 5)
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "sqlalchemy" not in maps  # Optuna's
    assert service.peak() <= 150


def test_thousand_trials_take_five_seconds_at_most(service: Process) -> None:
    """Processor time, since other tests may run on this machine; the first request has the imports."""
    for algorithm in (*HEAVY, *LIGHT):
        search(algorithm, 10).ask(service, 5)
        before = service.seconds()
        search(algorithm).ask(service, 5)
        assert service.seconds() - before <= 5, algorithm


def test_sigterm_ends_it_with_code_zero(service: Process) -> None:
    search("random").ask(service, 5)
    code, log = service.end()
    assert code == 0
    assert "serving on port" in log
    assert (
        "study: 5 suggestions of random for trials 1000 to 1004, 1000 trials in the request" in log
    )


def test_kill_between_requests_changes_nothing() -> None:
    first = Process()
    one, two = search("tpe", 30), search("tpe", 30)
    points = [one.ask(first, 1), one.ask(first, 1)]
    two.ask(first, 1)
    two.settings = {**one.settings, ISSUED_SETTING: one.settings[ISSUED_SETTING][:6]}
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    second = Process()
    assert two.ask(second, 1) == points[1]
    second.end()


def test_port_in_use_is_one_sentence(service: Process) -> None:
    command = [sys.executable, "-m", "tuner.suggestion", f"--port={service.port}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert f"port {service.port} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
