"""The fork server and the debug runner: how trials run, and that everything they start ends with them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS
from tests.tuner.runner_contract import RunnerContract, finish, job, log
from tuner.engines.local import pool
from tuner.engines.local.debug import DebugRunner
from tuner.engines.local.pool import ForkServer
from tuner.engines.local.processes import MARKER, sweep
from tuner.engines.local.runner import Exit, Runner, Step
from tuner.engines.local.workspace import Method
from tuner.errors import CommandError, UnsupportedError

ROOT = Path(__file__).resolve().parents[4]


def marked(study: Path) -> list[int]:
    """The processes that a study's fork server has started, directly or not."""
    wanted, found = f"{MARKER}={study.absolute()}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                dead = b"State:\tZ" in (entry / "status").read_bytes()
                if not dead and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def gone(study: Path, seconds: float = 10.0) -> bool:
    """True once no process of the study is left."""
    until = time.monotonic() + seconds
    while marked(study) and time.monotonic() < until:
        time.sleep(0.05)
    return not marked(study)


def until(path: Path, text: str, seconds: float = 60.0) -> None:
    """Wait until a file holds a text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} does not hold {text!r}")


class TestForkServer(RunnerContract):
    """The Runner of every search."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Iterator[Runner]:
        server = ForkServer([{}, {}], "odd_trial", TRIALS, tmp_path / "study")
        yield server
        server.close()
        assert gone(tmp_path / "study")

    @pytest.mark.parametrize(
        ("deed", "code"),
        [
            ("leave", 0),
            ("segfault", -11),
            ("kill", -9),
            ("group", 0),
            ("fork", 0),
            ("close", 0),
            ("handlers", 0),
        ],
    )
    def test_reports_true_exit_code(
        self, runner: Runner, tmp_path: Path, deed: str, code: int
    ) -> None:
        runner.start(one := job(tmp_path, 0, f"--do={deed}"))
        assert finish(runner, 0) == Exit(code)
        assert "fd=1.0" in log(one)
        assert ("goodbye" in log(one)) == (deed == "handlers")

    def test_waits_for_threads_of_the_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "--do=waits"))
        assert finish(runner, 0).code == 0
        assert (tmp_path / "study" / "trials" / "trial-0" / "files" / "late").read_text() == "done"

    def test_daemon_ends_with_its_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, "--do=daemon"))
        assert finish(runner, 0).code == 0
        assert len(marked(tmp_path / "study")) == 3  # guard, server and the next trial's process
        time.sleep(0.5)
        assert "fd=-1" not in log(one)

    def test_stop_ends_a_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, "--do=sleep"))
        until(Path(one.log), "fd=")
        runner.stop(0)
        assert finish(runner, 0) == Exit(-signal.SIGTERM)

    def test_stop_before_the_trial_has_started(self, runner: Runner, tmp_path: Path) -> None:
        for number in range(5):
            runner.start(job(tmp_path, number, "--do=sleep"))
            runner.stop(number)
            assert finish(runner, number).code == -signal.SIGTERM

    def test_kills_a_trial_that_ignores_sigterm(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, "--do=deaf", grace=0.2))
        until(Path(one.log), "fd=")
        runner.stop(0)
        assert finish(runner, 0) == Exit(-signal.SIGKILL)

    def test_deadline_stops_a_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "--do=sleep", deadline=0.3))
        assert finish(runner, 0) == Exit(
            -signal.SIGTERM, "still running after activeDeadlineSeconds (0.3 s)"
        )

    def test_runs_another_program(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(
            one := job(
                tmp_path, 0, "sh", "-c", "echo $KEY; pwd; exit 3", module="", env={"KEY": "a b"}
            )
        )
        assert finish(runner, 0) == Exit(3)
        assert log(one) == f"a b\n{TRIALS}\n"

    def test_missing_program_fails_the_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "no-such-program", module=""))
        assert finish(runner, 0) == Exit(
            127, "cannot run 'no-such-program': No such file or directory"
        )

    def test_init_steps_run_first_and_in_order(self, runner: Runner, tmp_path: Path) -> None:
        init = tuple(
            Step(("sh", "-c", f"echo {word} | tee -a order"), name=word) for word in ("one", "two")
        )
        runner.start(one := job(tmp_path, 0, "cat", "order", module="", init=init))
        assert finish(runner, 0) == Exit(0)
        assert log(one) == "one\ntwo\n"
        assert Path(one.log).with_name("init.log").read_text() == "one\ntwo\n"

    def test_failing_init_step_fails_the_trial(self, runner: Runner, tmp_path: Path) -> None:
        init = (
            Step(("sh", "-c", "exit 4"), name="prepare"),
            Step(("echo", "never"), name="second"),
        )
        runner.start(one := job(tmp_path, 0, "echo", "never", module="", init=init))
        assert finish(runner, 0) == Exit(4, "init container prepare: exit code 4")
        assert "never" not in log(one)

    def test_unwritable_log_is_a_machine_fault(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, log=str(tmp_path / "missing" / "output.log")))
        end = finish(runner, 0)
        assert end.machine
        assert "cannot be written: No such file or directory" in end.error

    def test_killed_server_is_the_machines_fault(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, "--do=deaf"))
        until(Path(one.log), "fd=")
        guard = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == os.getpid())
        os.kill(
            next(pid for pid in marked(tmp_path / "study") if _parent(pid) == guard), signal.SIGKILL
        )
        end = finish(runner, 0)
        assert end.machine
        assert end.error == "the process that starts trials was killed by SIGKILL"
        assert gone(tmp_path / "study")
        runner.start(job(tmp_path, 1))
        assert finish(runner, 1) == Exit(0)

    def test_trials_have_no_file_of_the_server(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "--do=sleep"))
        runner.start(one := job(tmp_path, 1, "--do=descriptors"))
        assert finish(runner, 1) == Exit(0)
        opened = [line for line in log(one).splitlines() if line.startswith("open")]
        assert len(opened) == 1  # on which the trial says why it cannot start
        assert opened[0].startswith("open pipe:")
        runner.start(two := job(tmp_path, 2, "sh", "-c", "ls /proc/$$/fd; :", module=""))
        assert finish(runner, 2) == Exit(0)
        assert log(two).split() == ["0", "1", "2"]

    @pytest.mark.parametrize("whom", ["server", "guard"])
    def test_trial_that_stops_the_server_harms_nobody(
        self, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whom: str
    ) -> None:
        monkeypatch.setattr(pool, "_PING_SECONDS", 0.1)
        monkeypatch.setattr(pool, "_WAKE_SECONDS", 0.2)
        runner.start(job(tmp_path, 0))
        assert finish(runner, 0) == Exit(0)
        guard = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == os.getpid())
        target = "$PPID" if whom == "server" else str(guard)
        runner.start(job(tmp_path, 1, "sh", "-c", f"kill -STOP {target}", module=""))
        assert finish(runner, 1) == Exit(0)

    def test_server_that_does_not_answer_is_replaced(
        self, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "_PING_SECONDS", 0.1)
        monkeypatch.setattr(pool, "_ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(pool, "_CLOSE_SECONDS", 0.5)
        runner.start(one := job(tmp_path, 0, "--do=deaf"))
        until(Path(one.log), "fd=")
        guard = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == os.getpid())
        server = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == guard)
        for pid in (guard, server):
            os.kill(pid, signal.SIGSTOP)
        end = finish(runner, 0)
        assert end.crash
        assert end.error == "the process that starts trials did not answer for 0 s"
        assert gone(tmp_path / "study")
        runner.start(job(tmp_path, 1))
        assert finish(runner, 1) == Exit(0)


class TestDebugRunner(RunnerContract):
    """The Runner of --debug."""

    @pytest.fixture
    def runner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
        monkeypatch.chdir(TRIALS)
        monkeypatch.syspath_prepend(str(TRIALS))
        debug = DebugRunner({}, "odd_trial", TRIALS, lambda: None)
        yield debug
        debug.close()

    def test_needs_a_module(self) -> None:
        with pytest.raises(UnsupportedError, match="python -m MODULE"):
            DebugRunner({}, "", TRIALS, lambda: None)


def test_module_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def main(argv): ...\nraise ValueError('not today')\n")
    server = ForkServer([{}], "bad", tmp_path, tmp_path / "study")
    server.start(job(tmp_path, 0, module="bad"))
    with pytest.raises(
        CommandError, match=r"python -m bad cannot start: ValueError: not today \(bad.py:2\)"
    ):
        finish(server, 0)
    server.close()


CLIENT = """
import sys, time
from pathlib import Path
from tests.tuner.runner_contract import job
from tests.tuner.experiments import TRIALS
from tuner.engines.local.pool import ForkServer
root = Path(sys.argv[1])
server = ForkServer([{}, {}], "odd_trial", TRIALS, root / "study")
for number, deed in enumerate(sys.argv[2:]):
    server.start(job(root, number, "--do=" + deed))
print("started", flush=True)
time.sleep(60)  # what the server sends stays unread
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A client with a trial that ignores SIGTERM and one that has a daemon and has finished unheard."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path), "deaf", "daemon"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    for number in (0, 1):
        until(tmp_path / "study" / "trials" / f"trial-{number}" / "output.log", "fd=")
    yield process
    process.kill()
    process.communicate()
    sweep(tmp_path / "study")


def test_killed_client_leaves_no_process(client: subprocess.Popen[str], tmp_path: Path) -> None:
    client.kill()
    assert gone(tmp_path / "study")


@pytest.mark.parametrize("victims", [("client", "guard"), ("client", "server"), ("guard",)])
def test_what_survives_a_kill_ends_the_rest(
    client: subprocess.Popen[str], tmp_path: Path, victims: tuple[str, ...]
) -> None:
    guard = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == client.pid)
    server = next(pid for pid in marked(tmp_path / "study") if _parent(pid) == guard)
    for pid in (
        {"client": client.pid, "guard": guard, "server": server}[victim] for victim in victims
    ):
        os.kill(pid, signal.SIGKILL)
    assert gone(tmp_path / "study")


def test_next_run_ends_what_survives_all_kills(
    client: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Only a process that no other one watches any more is left: the daemon of a trial."""
    for pid in (client.pid, *(each for each in marked(tmp_path / "study") if _parent(each) != 1)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    for pid in (client.pid, *marked(tmp_path / "study")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sweep(tmp_path / "study")
    assert gone(tmp_path / "study")


def test_sweep_ends_what_nothing_else_could(tmp_path: Path) -> None:
    study = tmp_path / "study"
    left = subprocess.Popen(
        ["sleep", "60"], env=os.environ | {MARKER: str(study)}, start_new_session=True
    )
    other = subprocess.Popen(["sleep", "60"], env=os.environ | {MARKER: f"{study}-2"})
    try:
        assert sweep(study) == 1
        assert left.wait(5) == -signal.SIGKILL
        assert other.poll() is None
        assert sweep(study) == 0
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("method", list(Method))
def test_trial_changes_only_its_own_files(tmp_path: Path, method: Method) -> None:
    start = tmp_path / "start"
    start.mkdir()
    (start / "notes.txt").write_text("original")
    (start / "other.txt").write_text("other")
    server = ForkServer([{}, {}], "", start, tmp_path / "study")
    script = "cat notes.txt; echo $0 > notes.txt; sleep 0.2; cat notes.txt; rm other.txt; ls"
    jobs = [
        job(tmp_path, n, "sh", "-c", script, str(n), module="", start=str(start), method=method)
        for n in range(2)
    ]
    for one in jobs:
        server.start(one)
    for number, one in enumerate(jobs):
        until(Path(one.log), f"{number}\nnotes.txt\n")
        assert log(one) == f"original{number}\nnotes.txt\n"
    server.close()
    assert (start / "notes.txt").read_text() == "original"
    assert (start / "other.txt").exists()


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
