"""What of this machine is a trial's own or read-only: /dev/shm, /tmp and installed packages. Real mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.engines.local.test_workspace import NOBODY, run_as
from tests.tuner.experiments import experiment, run
from tuner.engines.local import namespace, workspace
from tuner.experiment import command
from tuner.katib.facts import SHARED_BYTES
from tuner.katib.quantity import whole_bytes
from tuner.result import TrialState

ENTER = (
    "workspace.enter(Path(sys.argv[2]), Path(sys.argv[3]), workspace.Method.OVERLAY, 1 << 20, "
    "strict=True); exec(sys.argv[4])"
)
USERS = pytest.mark.parametrize("user", [None, NOBODY])


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that is not below /tmp, where trials have a /tmp of their own."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o711)
    (folder / "start").mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def inside(place: Path, user: int | None, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in the surroundings of a trial; skip where this machine does not allow them."""
    directory = place / "trial"
    directory.mkdir(exist_ok=True)
    if user is not None:
        if os.geteuid() != 0:
            pytest.skip("needs root to become another user")
        for path in (place, place / "start", directory):
            os.chown(path, user, user)
    arguments = (str(directory), str(place / "start"))
    if run_as(user, ENTER, *arguments, "pass").returncode:
        pytest.skip("needs a kernel that allows private mounts")
    return run_as(user, ENTER, *arguments, code)


@USERS
def test_shared_memory_is_empty_limited_and_private(place: Path, user: int | None) -> None:
    code = (
        "print(os.listdir('/dev/shm'))\n"
        "file = open('/dev/shm/gantune-test', 'wb')\n"
        "try: print(file.write(bytes(2 << 20)), file.flush())\n"
        "except OSError as error: print(error.strerror)\n"
    )
    done = inside(place, user, code)
    assert done.stdout == "[]\nNo space left on device\n", done.stderr
    assert not Path("/dev/shm/gantune-test").exists()


@USERS
def test_changes_of_tmp_are_private(place: Path, user: int | None) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp", mode="w") as seen:
        Path(seen.name).chmod(0o644)
        seen.write("of this machine")
        seen.flush()
        code = f"print(open({seen.name!r}).read()); open('/tmp/gantune-private', 'w').write('x')"
        done = inside(place, user, code)
        assert done.stdout == "of this machine\n", done.stderr
    assert not Path("/tmp/gantune-private").exists()
    assert (place / "trial" / "tmp" / "files" / "gantune-private").read_text() == "x"


@USERS
def test_installed_packages_are_read_only(place: Path, user: int | None) -> None:
    code = "print(os.statvfs('/usr').f_flag & os.ST_RDONLY)"
    assert inside(place, user, code).stdout == "1\n"
    code = f"open({str(Path(sys.prefix) / 'gantune-test')!r}, 'w')"
    assert inside(place, None, code).stderr.endswith("gantune-test'\n")
    assert not (Path(sys.prefix) / "gantune-test").exists()


def test_overlay_covers_an_environment_below_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment in the working directory is the trial's own copy anyway, and may be changed."""
    (place / "start" / "env").mkdir()
    code = "open('env/new', 'w').write('x'); print(os.listdir('env'))"
    prepared = f"namespace.installed_packages = lambda: (Path({str(place / 'start' / 'env')!r}),)\n"
    done = inside(place, None, "from tuner.engines.local import namespace\n" + prepared + code)
    assert done.stdout == "['new']\n", done.stderr
    assert not (place / "start" / "env" / "new").exists()


def test_search_below_tmp_shares_it(tmp_path: Path) -> None:
    assert tmp_path.is_relative_to("/tmp")
    script = f"echo x > {tmp_path}/note; echo fd=1"
    result = run(tmp_path / "store", experiment(command=["sh", "-c"], args=[script], trials=1))
    assert result.trials[0].state is TrialState.SUCCEEDED
    assert (tmp_path / "note").exists()


def test_shared_mounts_are_said_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(namespace, "mount_shared_memory", fail)
    plan = workspace.plan(place / "start", place / "study")
    assert plan.warnings[-1].startswith(
        "this kernel allows no private mounts, so trials share /dev"
    )


def pod(**empty: object) -> dict[str, Any]:
    """A pod whose container has a volume at /dev/shm."""
    return {
        "pod": {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", **empty}}]},
        "container": {"volumeMounts": [{"name": "shm", "mountPath": "/dev/shm/"}]},
    }


def test_limit_of_shared_memory_is_the_manifests() -> None:
    cases: tuple[tuple[dict[str, Any], int | None], ...] = (
        ({}, SHARED_BYTES),
        (pod(), None),
        (pod(sizeLimit="1Gi"), 1 << 30),
        (pod(sizeLimit=1000), 1000),
    )
    for options, limit in cases:
        what = experiment(trials=1, **options)
        assert command.shared_memory(what) == limit
        built = command.build(what, "study-0", {"lr": 0.1, "bs": 32})
        assert built.mounts == ()


def test_quantities_of_bytes() -> None:
    known = {"64Mi": 64 << 20, "1.5Gi": 3 << 29, "100M": 10**8, "2k": 2000, "7": 7}
    assert {text: whole_bytes(text) for text in known} == known
    assert [whole_bytes(text) for text in ("", "1GB", "-1", "1e3x", None, True)] == [None] * 6
