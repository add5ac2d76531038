"""`make` on machines that lack something prints one line with the fix. Its Pythons are shell scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "rm", "mkdir", "touch", "awk", "make", "env")

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make: apt-get install make")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory for PATH with nothing but the tools that every machine has."""
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def python(folder: Path, name: str, *, old: bool = False, has_venv: bool = True) -> None:
    """A program called `name` that is this Python, but says it is 3.10 or without venv; `-m venv` only notes it."""
    lies = f"case $2 in *version_info*3,\\ 11*) exit {int(old)};; *ensurepip*) exit {int(not has_venv)};; esac"
    script = folder / name
    venv_made = f'if [ "$1 $2" = "-m venv" ]; then mkdir "$3"; echo {name} > "$3/by"; exit; fi'
    script.write_text(f'#!/bin/sh\n{lies}\n{venv_made}\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)


def make_venv(path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / ".ci" / "venv.sh"), str(path / "made"), *argv]
    return subprocess.run(
        command, env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


def test_reports_missing_python(bare):
    run = make_venv(bare)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "Python 3.11 or newer was not found on the PATH" in run.stderr


def test_refuses_old_python(bare):
    python(bare, "python3", old=True)
    assert "Python 3.11 or newer was not found on the PATH" in make_venv(bare).stderr


def test_prefers_newer_python(bare):
    python(bare, "python3", old=True)
    python(bare, "python3.12")
    run = make_venv(bare)
    assert run.returncode == 0, run.stderr
    assert (bare / "made" / "by").read_text() == "python3.12\n"


def test_reports_missing_venv_module(bare):
    python(bare, "python3", has_venv=False)
    run = make_venv(bare)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert run.returncode == 1
    assert run.stderr == f"make: python3 has no venv module: apt-get install python{version}-venv\n"
    assert not (bare / "made").exists()


def test_named_python_must_be_suitable(bare):
    python(bare, "python3.12")
    python(bare, "mine", old=True)
    run = make_venv(bare, "mine")
    assert (run.returncode, run.stderr) == (
        1,
        "make: PYTHON=mine is not Python 3.11 or newer: name another one\n",
    )


def test_help_lists_every_target(bare):
    run = subprocess.run(
        ["make"], cwd=ROOT, env={"PATH": str(bare)}, capture_output=True, text=True, check=True
    )
    for target in ("help", "tune", "test", "lint", "types", "check", "clean"):
        assert f"make {target} " in run.stdout


def test_passes_variables_to_gantune():
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [
        "make",
        "--dry-run",
        "tune",
        "WORKERS=2",
        "SEED=7",
        "MAX_TRIALS=40",
        "FRESH=1",
        "MANIFEST=manifests/tpe.yaml",
    ]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    words = run.stdout.replace("\\\n", " ").replace("'", "").split()
    line = " ".join(words)
    assert "gantune run manifests/tpe.yaml --local" in line
    assert "--workers 2 --seed 7 --max-trials 40 --fresh" in line
    assert "gantune best gan-tpe" in line
