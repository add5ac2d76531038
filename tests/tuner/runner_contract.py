"""What every Runner does: one class of tests, which each implementation passes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS
from tuner.engines.local.runner import Exit, Job, Runner, Step
from tuner.engines.local.workspace import Method

PATIENCE = 60.0  # seconds after which a trial of these tests hangs


def job(root: Path, number: int, *argv: str, module: str = "odd_trial", **options: object) -> Job:
    """A job whose trial sees the directory of the test trials, or `start`."""
    directory = root / "study" / "trials" / f"trial-{number}"
    directory.mkdir(parents=True, exist_ok=True)
    given = {
        "start": str(TRIALS),
        "method": Method.OVERLAY,
        "log": str(directory / "output.log"),
        **options,
    }
    env = given.pop("env", {})
    return Job(number=number, directory=str(directory), step=Step(argv, module, env), **given)  # type: ignore[arg-type]


def finish(runner: Runner, number: int) -> Exit:
    """Wait for one trial."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for each, end in runner.wait(0.2):
            if each == number:
                return end
    raise AssertionError(f"trial {number} did not finish")


def log(job: Job) -> str:
    """What a trial printed."""
    return Path(job.log).read_text()


class RunnerContract:
    """Subclasses provide the fixture `runner`, which knows the module odd_trial."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Iterator[Runner]:
        """The implementation."""
        raise NotImplementedError

    def test_returns_exit_code_and_log(self, runner: Runner, tmp_path: Path) -> None:
        one = job(tmp_path, 0, "--lr=2.5")
        runner.start(one)
        assert finish(runner, 0) == Exit(0)
        assert "fd=2.5" in log(one)

    def test_runs_trials_one_after_another(self, runner: Runner, tmp_path: Path) -> None:
        for number in range(3):
            assert runner.idle >= 1
            runner.start(one := job(tmp_path, number, f"--lr={number + 1}"))
            assert finish(runner, number).code == 0
            assert f"fd={number + 1}.0" in log(one)

    def test_passes_environment_to_trial(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, env={"LEFT": "set"}))
        assert finish(runner, 0).code == 0
        assert "fd=-99" in log(one)

    def test_text_as_exit_code(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "--do=words"))
        assert finish(runner, 0) == Exit(1, "bad luck")

    def test_wrong_flag_is_exit_code_2(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(one := job(tmp_path, 0, "--wrong"))
        assert finish(runner, 0).code == 2
        assert "unrecognized arguments" in log(one)

    def test_exception_without_text(self, runner: Runner, tmp_path: Path) -> None:
        runner.start(job(tmp_path, 0, "--do=mute"))
        end = finish(runner, 0)
        assert end.code == 1
        assert end.error.startswith("Mute: <its text is not available: ValueError>")

    def test_stop_of_unknown_trial_is_harmless(self, runner: Runner, tmp_path: Path) -> None:
        runner.stop(7)
        runner.start(job(tmp_path, 0))
        assert finish(runner, 0).code == 0
        runner.stop(0)
        assert runner.wait(0.01) == []

    def test_close_may_run_twice(self, runner: Runner, tmp_path: Path) -> None:
        runner.warm()
        runner.close()
        runner.close()
