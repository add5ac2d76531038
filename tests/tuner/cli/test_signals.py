"""Ctrl-C and SIGTERM while `gantune run` searches: real processes and real signals."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.tuner.cli.test_cli import MANIFEST, gantune, home, start, wait_for_trials

__all__ = ["home"]  # the fixture


def test_the_first_ctrl_c_finishes_the_running_trials(home):
    (home.parent / "wait").touch()
    process = start(home, "run", "toy.yaml", "--local", "--workers", "2")
    wait_for_trials(home, process, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    (home.parent / "wait").unlink()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out.count(" done  fd=") == 2
    assert (
        err.splitlines()[-1] == "interrupted; to continue: gantune run toy.yaml --local --workers 2"
    )
    code, out, _ = gantune(home, "run", "toy.yaml", "--local", "--workers", "2")
    assert (code, out.count(" done  fd=")) == (0, 2)


@pytest.mark.parametrize(
    ("signals", "code"), [(["SIGINT", "SIGINT"], 130), (["SIGTERM"], 143), (["SIGHUP"], 129)]
)
def test_the_second_ctrl_c_and_sigterm_stop_them(home, signals, code):
    (home.parent / "wait").touch()
    process = start(home, "run", "toy.yaml", "--local", "--workers", "2")
    wait_for_trials(home, process, 2)
    for name in signals:
        process.send_signal(signal.Signals[name])
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert out.count(" done  fd=") == 0
    (home.parent / "wait").unlink()
    assert gantune(home, "run", "toy.yaml", "--local")[1].count(" done  fd=") == 4


SLOW_FILTER = """  metricsCollectorSpec:
    collector: {kind: StdOut}
    source: {filter: {metricsFormat: ['(fd)=(\\d.*z|\\d)']}}
  trialTemplate:
"""


@pytest.mark.parametrize(("signals", "code"), [(["SIGINT", "SIGINT"], 130), (["SIGTERM"], 143)])
def test_stops_while_it_reads_a_slow_log(home, signals, code):
    """The filter takes many seconds for this line; the trial whose metrics were not read runs again."""
    (home / "trial.sh").write_text(
        "head -c 400000 /dev/zero | sed 's/\\x00/fd=1 /g'; echo; touch ../done\n"
    )
    manifest = MANIFEST.format(name="slow", count=2, script=home / "trial.sh")
    (home / "slow.yaml").write_text(manifest.replace("  trialTemplate:\n", SLOW_FILTER))
    process = start(home, "run", "slow.yaml", "--local", "--workers", "1")
    wait_for_trials(home, process, 1)
    while not (home.parent / "done").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    for name in signals:
        process.send_signal(signal.Signals[name])
        time.sleep(0.1)
    _, err = process.communicate(timeout=5)
    assert process.returncode == code, err
    trials = json.loads(gantune(home, "status", "slow", "--format", "json")[1])["trials"]
    assert [trial["state"] for trial in trials] == ["Waiting", "Waiting"]
