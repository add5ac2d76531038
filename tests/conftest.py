"""What every test shares: the opt-in flags, and a sentence for each test that they leave out.

`pytest --with-slow` adds tests that take minutes, and more cases of others; `--with-gpu` those that
need a CUDA device, `--with-cluster` those that run on the cluster KUBECONFIG names. Mark a test
with `@pytest.mark.slow`, `@pytest.mark.gpu` or `@pytest.mark.cluster`.

A run that leaves processes behind fails: they would write into directories and use the cores of
later runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = "GANTUNE_TEST_RUN"  # in the environment of every process that this run of pytest starts
_LEAVE_SECONDS = 10.0  # how long processes may take to finish after the last test

OPT_IN = {
    "gpu": "needs a CUDA device",
    "cluster": "creates namespaces and Experiments on the cluster that KUBECONFIG names",
    "slow": "takes minutes, or repeats a test with more cases",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, why in OPT_IN.items():
        parser.addoption(
            f"--with-{marker}",
            action="store_true",
            help=f"also run the tests marked {marker}: {why}",
        )


def pytest_configure(config: pytest.Config) -> None:
    for marker, why in OPT_IN.items():
        config.addinivalue_line("markers", f"{marker}: {why}; runs only with --with-{marker}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, why in OPT_IN.items():
            if item.get_closest_marker(marker) and not config.getoption(f"--with-{marker}"):
                item.add_marker(pytest.mark.skip(reason=f"{why}: opt in with --with-{marker}"))


@pytest.fixture(scope="session", autouse=True)
def leaves_no_process() -> Iterator[None]:
    """Fail, and end them, if processes that this run started are still there after its last test. Linux only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN, uuid.uuid4().hex)
        wanted = f"{RUN}={os.environ[RUN]}"
        yield
    until = time.monotonic() + _LEAVE_SECONDS
    while (left := _started_with(wanted)) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "the tests left processes behind: " + "; ".join(
        f"{pid} {line}" for pid, line in left.items()
    )


def _started_with(variable: str) -> dict[int, str]:
    """The running processes with `variable` in their initial environment, with their command lines."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            line = (
                (folder / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            if "multiprocessing.resource_tracker" not in line:  # finishes with pytest's own process
                found[int(folder.name)] = line[:200]
    return found
