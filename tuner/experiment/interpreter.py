"""Which interpreter `python` in a manifest means on this machine: the one the user would get.

A program that starts gantune with an interpreter (`python -m tuner`, a script, a notebook) has
chosen it. The command `gantune` has not, where PATH found it: pipx and `uv tool` keep gantune in an
environment of its own. There, `python` is that of the active virtual environment, or else the first
on PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAMES = ("python", "python3")


def python() -> str:
    """Return the path of the interpreter."""
    started = Path(sys.argv[0])
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if started.stem != "gantune" or os.path.abspath(started.parent) not in map(
        os.path.abspath, path
    ):
        return sys.executable  # also `.venv/bin/gantune`, of an environment that is not active
    found = (shutil.which(name, path=os.pathsep.join([*_active(), *path])) for name in NAMES)
    return next((program for program in found if program), sys.executable)


def is_own(program: str) -> bool:
    """Return whether an interpreter has the same packages as the one that runs gantune."""
    return _environment(program) == _environment(sys.executable)


def search_path() -> str:
    """Return PATH with the interpreter first, so that `sh -c "python ..."` starts it too."""
    path = os.environ.get("PATH", os.defpath)
    program = python()
    if shutil.which("python", path=path) == program:
        return path
    return os.pathsep.join([str(Path(program).parent), path])


def described(program: str) -> str:
    """Return the interpreter's path, and why it is this one where gantune's own is another."""
    if is_own(program):
        return program
    active = Path(program).parent in map(Path, _active())
    return f"{program} ({'the active virtual environment' if active else 'the first on PATH'})"


def _active() -> list[str]:
    """Return the directory of the active virtual environment's programs, if there is one."""
    active = os.environ.get("VIRTUAL_ENV")
    return [str(Path(active) / "bin")] if active else []


def _environment(program: str) -> Path:
    """Return the virtual environment of an interpreter, or the file itself outside of one."""
    root = Path(os.path.abspath(program)).parent.parent
    return root.resolve() if (root / "pyvenv.cfg").exists() else Path(program).resolve()
