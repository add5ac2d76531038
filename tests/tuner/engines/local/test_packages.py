"""Packages that a trial's command installs: they never change the environment of the client."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import socket
import subprocess
import sys
import threading
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import document, events
from tuner import manifest
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine, packages
from tuner.errors import UnsupportedError
from tuner.result import Result
from tuner.store.studies import Store

NAME = "gantune_fixture_package"
PRINTS = f"import {NAME}; print('fd=%d' % {NAME}.VALUE)"


def wheel(folder: Path, version: str = "1.0") -> Path:
    """Write a wheel of one module, whose VALUE is the version's first number."""
    info = f"{NAME}-{version}.dist-info"
    files = {
        f"{NAME}.py": f"VALUE = {version.partition('.')[0]}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for name, text in files.items()
    }
    files[f"{info}/RECORD"] = (
        "".join(f"{name},sha256={digests[name]},\n" for name in files) + f"{info}/RECORD,,\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A start directory with a folder of wheels, and an empty cache directory."""
    start = tmp_path / "start"
    wheel(start / "wheels")
    monkeypatch.chdir(start)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(start / "wheels"))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return start / "wheels"


def run(store: Path, script: str, shell: str = "sh", **options: Any) -> tuple[Result, list[str]]:
    """Return the result of a search whose trials run a script, and its warnings."""
    what = manifest.from_document(
        document(command=[shell, "-c"], args=[script], trials=1, **options)
    )
    seen = events(LocalEngine(Store(store)), what)
    return seen[-1].result, [event.message for event in seen if event.kind is EventKind.WARNING]


def environments() -> list[Path]:
    return [path for path in packages.cache().glob("*") if path.is_dir()]


def missing_here() -> bool:
    command = [sys.executable, "-c", f"import {NAME}"]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_packages_stay_out_of_the_client(tmp_path: Path) -> None:
    """The trial sees the package that it installs, and those of the client."""
    version = metadata.version("click")
    script = (
        f"python3 -m pip install --quiet {NAME} click\n"
        f"python -c \"{PRINTS}; import click; print('loss=1')\"; command -v pip | grep -q gantune/environments"
    )
    result, warnings = run(tmp_path, script)
    assert [trial.metrics for trial in result.trials] == [{"fd": 1.0, "loss": 1.0}]
    assert missing_here()
    assert metadata.version("click") == version
    [folder] = environments()
    assert any(f"installs packages: they are in {folder}" in message for message in warnings)
    assert not list(folder.glob("lib/*/site-packages/click*")), (
        "a package that the client has is not installed again"
    )
    made = (folder / "pyvenv.cfg").stat().st_mtime_ns
    assert packages.environment([["--quiet", NAME, "click"]], Path.cwd()) == folder
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns == made, "the environment is made once"


def test_failed_install_leaves_nothing(tmp_path: Path) -> None:
    script = "pip install gantune-has-no-such-package && echo fd=1"
    with pytest.raises(
        UnsupportedError, match="pip install gantune-has-no-such-package failed: ERROR: No matching"
    ):
        run(tmp_path, script)
    assert environments() == []


def test_two_searches_make_one_environment() -> None:
    """The second one waits for the first. What an interrupted search left behind is made again."""
    folder = packages.environment([], Path.cwd())
    (folder / "complete").unlink()
    (folder / "bin" / "python").unlink()
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(packages.environment([], Path.cwd())))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == environments() * 2 == [folder] * 2
    assert (folder / "bin" / "python").exists()


def test_changed_requirements_get_another_environment(tmp_path: Path) -> None:
    """Trials would install them into the first one, all at once."""
    Path("requirements.txt").write_text(f"{NAME}==1.0\n", encoding="utf-8")
    script = f'pip install --quiet -r requirements.txt && python -c "{PRINTS}"'
    assert run(tmp_path / "one", script)[0].trials[0].metrics == {"fd": 1.0}
    wheel(Path("wheels"), "2.0")
    Path("requirements.txt").write_text(f"{NAME}==2.0\n", encoding="utf-8")
    assert run(tmp_path / "two", script)[0].trials[0].metrics == {"fd": 2.0}
    assert len(environments()) == 2


def test_long_argument_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a token may be longer than a file's name can be."""
    url = f"https://user:{'token' * 100}@nowhere.invalid/simple"
    assert packages.environment([["--extra-index-url", url, NAME]], Path.cwd()) in environments()


def test_pip_of_a_killed_client_keeps_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    program = "import pathlib, sys; from tuner.engines.local import packages; "
    program += f"packages.environment([['--index-url', sys.argv[1], {NAME!r}]], pathlib.Path.cwd())"
    with socket.create_server(("127.0.0.1", 0)) as index:  # it never answers
        url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        with subprocess.Popen([sys.executable, "-c", program, url]) as client:
            connection, _ = index.accept()
            client.kill()
        [lock] = packages.cache().glob("*.lock")
        with lock.open() as file:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            index.close()
            connection.close()
            fcntl.flock(file, fcntl.LOCK_EX)  # once pip has given up


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnsupportedError, match=r"cannot be written .* Set XDG_CACHE_HOME"):
        packages.environment([[NAME]], Path.cwd())


KUBEFLOW = """
PACKAGES=('transformers[torch]' 'numpy>=2')
PIP_OPTS=(--index-url https://a --extra-index-url https://b)
if PIP_DISABLE_PIP_VERSION_CHECK=1 python -m pip install --quiet \\
    --no-warn-script-location "${PIP_OPTS[@]}" --user "${PACKAGES[@]}" >"$LOG_FILE" 2>&1; then
  echo done
elif python -m pip install --quiet \\
    --no-warn-script-location "${PIP_OPTS[@]}" "${PACKAGES[@]}" >>"$LOG_FILE" 2>&1; then
  echo done
fi
"""
QUIET = ("--quiet", "--no-warn-script-location")
SOURCE = "read -r -d '' SCRIPT << EOM\n\n# pip install nothing\nimport os; os.system('pip install none')\nEOM\n"


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("python -m train", ()),
        ("pip install a b==1 && python train.py", (("a", "b==1"),)),
        (
            "set -e; pip3 install -q a; /usr/bin/python3.12 -m pip install 'b>=2'",
            (("-q", "a"), ("b>=2",)),
        ),
        ("# pip install a\necho pip installs", ()),
        ("pip install a > log 2>&1 || exit 1\npip install a", (("a",),)),
        ("NOTES=(it's one # part)\npip install a", (("a",),)),
        ("(pip install --user -r requirements.txt)", (("-r", "requirements.txt"),)),
        (SOURCE, ()),
        (
            KUBEFLOW + SOURCE,
            (
                (
                    *QUIET,
                    "--index-url",
                    "https://a",
                    "--extra-index-url",
                    "https://b",
                    "transformers[torch]",
                    "numpy>=2",
                ),
            ),
        ),
    ],
)
def test_installs_are_read_from_the_command(
    line: str, arguments: tuple[tuple[str, ...], ...]
) -> None:
    assert packages.installed_by(["bash", "-c", line]) == arguments


def test_install_without_a_shell_is_found() -> None:
    assert packages.installed_by(["python", "-m", "pip", "install", "a>=1"]) == (("a>=1",),)
    assert packages.installed_by(["/usr/bin/pip3", "install", "--user", "a"]) == (("a",),)
    assert packages.installed_by(["python3", "-I", "-m", "pip", "install", "a"]) == (("a",),)


@pytest.mark.parametrize(
    "value", ["use pip", "; pip install a", "x -m pip install a", "pip install a"]
)
def test_values_of_arguments_install_nothing(value: str) -> None:
    for argv in (
        ["python", "train.py", "--note", value],
        ["train", value],
        ["bash", "train.sh", value],
    ):
        assert packages.installed_by(argv) == ()


@pytest.mark.parametrize(
    "line",
    [
        "pip install $WANTED",
        "pip install `cat wanted`",
        "pip install 'a",
        'pip install "${WANTED[@]}"',
        'WANTED=(it\'s)\npip install "${WANTED[@]}"',
    ],
)
def test_unknown_packages_are_refused(line: str) -> None:
    with pytest.raises(UnsupportedError, match="would change this environment"):
        packages.installed_by(["sh", "-c", line])


def test_packages_of_the_katib_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of `KatibClient.tune` with packages_to_install runs as it is."""
    utils = pytest.importorskip("kubeflow.katib.utils.utils")
    monkeypatch.setattr("linecache.checkcache", lambda *_: None)

    def objective(parameters):
        import gantune_fixture_package

        print(f"fd={float(parameters['lr']) * 0 + gantune_fixture_package.VALUE}")

    script = utils.get_exec_script_from_objective(
        objective,
        "python -u",
        {"lr": "${trialParameters.lr}"},
        [NAME],
        ["https://nowhere.invalid/simple"],
    )
    result, _ = run(tmp_path, script, shell="bash")
    assert [trial.metrics for trial in result.trials] == [{"fd": 1.0}]
    assert missing_here()
    assert os.environ["PIP_NO_INDEX"] == "1"
