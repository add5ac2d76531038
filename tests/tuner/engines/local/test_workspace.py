"""The working directory of a trial: real mounts and real copies, as root and as an unprivileged user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tuner.engines.local import workspace
from tuner.errors import StudyError
from tuner.store import files

NOBODY = 65534
BECOME = """
import ctypes, glob, os, shutil, stat, sys, time
from pathlib import Path
from tuner.store import files
from tuner.engines.local import workspace
"text".encode("ascii")  # unprivileged users may not be able to read this Python's library
if sys.argv[1] != "self":
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as for a process that this user started
"""
ENTER = "workspace.enter(Path(sys.argv[2]), Path(sys.argv[3]), workspace.Method(sys.argv[4])); exec(sys.argv[5])"
PROBE = (
    "sys.exit(workspace.plan(Path(sys.argv[2]), Path(sys.argv[2]) / 'study').method != 'overlay')"
)


def line_as(user: int | None, code: str, *args: str) -> list[str]:
    """Return the command line that runs Python code as `user`."""
    return [sys.executable, "-c", BECOME + code, "self" if user is None else str(user), *args]


def run_as(user: int | None, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, as `user`."""
    return subprocess.run(line_as(user, code, *args), capture_output=True, text=True, check=False)


@cache
def overlay_works(user: int | None) -> bool:
    """True where this kernel lets `user` mount an overlay on a directory of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        probe = Path(folder, "probe")
        probe.mkdir()
        if user is not None:
            os.chown(probe, user, user)
        return run_as(user, PROBE, str(probe)).returncode == 0


@pytest.fixture(params=["overlay", "copy"])
def mode(request: pytest.FixtureRequest) -> str:
    """How the trial gets its files."""
    return str(request.param)


@pytest.fixture(params=["self", "unprivileged"])
def user(request: pytest.FixtureRequest) -> int | None:
    """None for the user of the tests, or another user where root can become one."""
    if request.param == "self":
        return None
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    return NOBODY


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    yield folder
    files.remove(folder)
    assert not folder.exists()


@pytest.fixture
def start(place: Path, user: int | None, mode: str) -> Path:
    """A directory to start a search from, which belongs to `user`."""
    folder = place / "start dir, with: all\\kinds"
    (folder / "package").mkdir(parents=True)
    (folder / "train.py").write_text("the user's file\n")
    (folder / "package" / "module.py").write_text("value = 1\n")
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
    if mode == "overlay" and not overlay_works(user):
        pytest.skip("this kernel does not allow an overlay mount")
    return folder


def make_folder(directory: Path, user: int | None) -> None:
    """Make the trial's own directory, as the client does."""
    done = run_as(user, "Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)", str(directory))
    assert done.returncode == 0, done.stderr


def trial(start: Path, user: int | None, mode: str, code: str, number: int = 0) -> str:
    """Run code as trial `number` of a search started in `start`, and return what it printed."""
    directory = start / ".gantune" / "local" / "study" / "trials" / f"study-{number}"
    make_folder(directory, user)
    done = run_as(user, ENTER, str(directory), str(start), mode, code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_overwriting_leaves_start_intact(start: Path, user: int | None, mode: str) -> None:
    code = "print(open('train.py').read(), end=''); open('train.py', 'w').write('own'); print(open('train.py').read())"
    assert trial(start, user, mode, code) == "the user's file\nown\n"
    assert (start / "train.py").read_text() == "the user's file\n"
    assert (start / ".gantune/local/study/trials/study-0/files/train.py").read_text() == "own"


def test_deleting_leaves_start_intact(start: Path, user: int | None, mode: str) -> None:
    code = "os.unlink('train.py'); shutil.rmtree('package'); print([n for n in os.listdir() if n != '.gantune'])"
    assert trial(start, user, mode, code) == "[]\n"
    assert (start / "package" / "module.py").exists()


def test_second_run_finds_first_ones_files(start: Path, user: int | None, mode: str) -> None:
    trial(start, user, mode, "open('state', 'w').write('epoch 3'); os.unlink('train.py')")
    code = "print(open('state').read(), os.path.exists('train.py'))"
    assert trial(start, user, mode, code) == "epoch 3 False\n"


def test_trials_do_not_see_each_other(start: Path, user: int | None, mode: str) -> None:
    trial(start, user, mode, "open('state', 'w').write('first')", 0)
    assert (
        trial(
            start,
            user,
            mode,
            "print(list(Path().rglob('state')), list(Path().rglob('study-0')))",
            1,
        )
        == "[] []\n"
    )


def test_next_trial_sees_changed_files(start: Path, user: int | None, mode: str) -> None:
    trial(start, user, mode, "open('train.py', 'w').write('own')", 0)
    (start / "train.py").write_text("changed by the user")
    assert trial(start, user, mode, "print(open('train.py').read())", 1) == "changed by the user\n"


def test_symbolic_links_stay_usable(start: Path, user: int | None, mode: str) -> None:
    (start.parent / "outside").mkdir()
    (start.parent / "outside" / "data").write_text("data")
    (start / "away").symlink_to("../outside")
    (start / "alias").symlink_to("train.py")
    code = "print(open('away/data').read(), open('alias').read()); os.unlink('away'); os.unlink('alias')"
    assert trial(start, user, mode, code) == "data the user's file\n\n"
    assert (start / "away" / "data").read_text() == "data"
    assert (start / "alias").is_symlink()


def test_module_of_start_is_found(start: Path, user: int | None, mode: str) -> None:
    code = (
        "print(os.getcwd() == os.path.realpath(os.environ['PWD']))\n"
        "sys.path[0] = os.getcwd()\n"
        "import package.module; print(package.module.value)"
    )
    assert trial(start, user, mode, code) == "True\n1\n"


def test_unreadable_file_stops_nothing(start: Path, user: int | None, mode: str) -> None:
    (start / "secret").write_text("x")
    (start / "secret").chmod(0)
    assert trial(start, user, mode, "print(open('train.py').read(), end='')") == "the user's file\n"
    (start / "secret").chmod(0o600)


def test_unreadable_directory_stops_nothing(start: Path, user: int | None, mode: str) -> None:
    (start / "closed" / "deep").mkdir(parents=True)
    (start / "closed").chmod(0)
    assert trial(start, user, mode, "print(open('train.py').read(), end='')") == "the user's file\n"
    assert run_as(user, PROBE, str(start)).stderr == ""


@pytest.mark.parametrize(("rights", "works"), [(0o644, True), (0o666, False)])
def test_overlay_needs_own_writable_files(place: Path, rights: int, works: bool) -> None:
    """The kernel cannot copy a file of another user up when a trial of this user writes to it."""
    if os.geteuid() != 0 or not overlay_works(NOBODY):
        pytest.skip("needs root, and a kernel that lets users mount overlays")
    folder = place / "start"
    (folder / "data").mkdir(parents=True)
    for path in (folder, folder / "data"):
        os.chown(path, NOBODY, NOBODY)
    (folder / "data" / "shared.txt").write_text("x")
    (folder / "data" / "shared.txt").chmod(rights)
    assert (run_as(NOBODY, PROBE, str(folder)).returncode == 0) == works
    why = "workspace.COPY_FILES = 0; print(workspace.plan(Path(sys.argv[2]), Path(sys.argv[2]) / 'study').warnings)"
    assert (
        "shared.txt belongs to another user" in run_as(NOBODY, why, str(folder)).stdout
    ) != works


def test_no_capability_is_gained(start: Path, user: int | None, mode: str) -> None:
    code = "print([l for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm'))])"
    assert trial(start, user, mode, code).strip() == run_as(user, code).stdout.strip()


def test_two_trials_overwrite_at_once(start: Path, user: int | None, mode: str) -> None:
    code = (
        "name = os.path.basename(sys.argv[2])\n"
        "for turn in range(20):\n"
        "    open('train.py', 'w').write(name)\n"
        "    time.sleep(0.01)\n"
        "    assert open('train.py').read() == name, open('train.py').read()\n"
    )
    trials = [
        start / ".gantune" / "local" / "study" / "trials" / f"study-{number}" for number in (0, 1)
    ]
    for directory in trials:
        make_folder(directory, user)
    running = [
        subprocess.Popen(line_as(user, ENTER, str(directory), str(start), mode, code))
        for directory in trials
    ]
    assert [one.wait(60) for one in running] == [0, 0]
    assert (start / "train.py").read_text() == "the user's file\n"
    assert [(one / "files" / "train.py").read_text() for one in trials] == ["study-0", "study-1"]


@pytest.mark.parametrize("user", [None], indirect=False)
@pytest.mark.parametrize("mode", ["overlay"], indirect=False)
def test_file_systems_below_start_are_visible(start: Path, user: int | None, mode: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    (start / "mounted").mkdir()
    code = "print(open('mounted/data').read()); open('mounted/data', 'w').write('own')"
    script = 'mount -t tmpfs none "$0/mounted" && echo -n data > "$0/mounted/data" && "$@" && cat "$0/mounted/data"'
    directory = start / ".gantune" / "local" / "study" / "trials" / "study-0"
    line = line_as(user, ENTER, str(directory), str(start), mode, code)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(start), *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "data\ndata", done.stderr
    assert (directory / "files" / "mounted" / "data").read_text() == "own"


def test_copy_leaves_out_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "COPY_BYTES", 100)
    monkeypatch.setattr(workspace, "_overlay_works", lambda *_, **__: False)
    (tmp_path / "small").write_text("x" * 50)
    (tmp_path / "large").write_text("x" * 101)
    plan = workspace.plan(tmp_path, tmp_path / ".gantune")
    assert plan.method is workspace.Method.COPY
    assert "left out: large" in plan.warnings[0]
    (tmp_path / "large").unlink()
    (shared,) = workspace.plan(tmp_path, tmp_path / ".gantune").warnings
    assert shared.startswith("this kernel allows no private mounts, so trials share /dev/shm")


def test_copy_keeps_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "start" / "out" / "inner").mkdir(parents=True)
    done = run_as(
        None,
        ENTER,
        str(tmp_path / "trial"),
        str(tmp_path / "start"),
        "copy",
        "os.rmdir('out/inner')",
    )
    assert done.returncode == 0, done.stderr


def test_search_from_root_is_warned() -> None:
    assert "started from /" in workspace.plan(Path("/"), Path("/nowhere")).warnings[0]


def test_copy_leaves_out_environments(tmp_path: Path) -> None:
    start, directory = tmp_path / "start", tmp_path / "trial"
    for name in (".git", "env", "code"):
        (start / name).mkdir(parents=True)
        (start / name / "file").touch()
    (start / "env" / "pyvenv.cfg").touch()
    done = run_as(None, ENTER, str(directory), str(start), "copy", "print(os.listdir())")
    assert done.stdout == "['code']\n", done.stderr


def test_interrupted_copy_is_completed(tmp_path: Path) -> None:
    start, directory = tmp_path / "start", tmp_path / "trial"
    start.mkdir()
    (start / "a").write_text("a")
    (start / "b").write_text("b")
    (directory / "files").mkdir(parents=True)
    (directory / "files" / "a").write_text("a")
    (directory / "files" / "b").write_text("")
    code = "print(open('a').read(), open('b').read())"
    assert run_as(None, ENTER, str(directory), str(start), "copy", code).stdout == "a b\n"


def test_remove_never_follows_links(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").touch()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").symlink_to("../target")
    with pytest.raises(StudyError, match="symbolic link, so its target is not deleted"):
        files.remove(tmp_path / "link")
    files.remove(tmp_path / "folder")
    files.remove(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "target"]


def test_user_can_remove_own_trial(start: Path, user: int | None, mode: str) -> None:
    trial(start, user, mode, "os.mkdir('sealed'); os.chmod('sealed', 0)")
    done = run_as(user, "files.remove(Path(sys.argv[2]))", str(start / ".gantune"))
    assert done.returncode == 0, done.stderr
    assert not (start / ".gantune").exists()


IMPORTS = """
import sys
sys.path.insert(0, sys.argv[5])
from tests.tuner.experiments import experiment
from tuner.store.studies import EngineKind, Store
"""
DELETE = """
studies = Store(sys.argv[2]).of(EngineKind.LOCAL)
studies.submit(experiment())
folder = studies.folder(experiment().name)
os.rename(sys.argv[3], folder / "trials")
if sys.argv[4] == "fresh":
    studies.submit(experiment(), fresh=True)
    print(sorted(path.name for path in folder.iterdir()))
else:
    studies.delete("study")
    print(folder.exists())
"""


@pytest.mark.parametrize(
    ("how", "left"), [("fresh", "['lock', 'manifest.json']"), ("delete", "False")]
)
def test_user_can_delete_own_study(
    start: Path, user: int | None, mode: str, how: str, left: str
) -> None:
    trial(start, user, mode, "os.mkdir('sealed'); os.chmod('sealed', 0)")
    trials = start / ".gantune" / "local" / "study" / "trials"
    program = IMPORTS + BECOME + DELETE  # unprivileged users may not be able to import
    arguments = ["self" if user is None else str(user), str(start / "store"), str(trials), how]
    line = [sys.executable, "-c", program, *arguments, str(Path(__file__).parents[4])]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stdout == f"{left}\n", done.stderr
