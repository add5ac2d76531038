"""`gantune` for tests that are about what a command prints, not about its process.

A command that only reads runs in the test's own process, which saves the start of an interpreter
and the imports.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from tuner.cli import main

ROOT = Path(__file__).resolve().parents[2]
SEPARATE = {"run", "confirm", "retry", "watch"}  # these handle signals or start trials
READS = {"--help", "--show", "-o"}  # with one of these, they do not


def gantune(
    folder: Path, *argv: str, without: tuple[str, ...] = ("GANTUNE_STORE",), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `gantune ARGV` in `folder`, and expect no traceback.

    Args:
        folder: The working directory.
        argv: The arguments.
        without: Variables to take out of the environment.
        variables: Variables to set.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in without
    } | variables
    if (argv and argv[0] in SEPARATE and not READS & set(argv)) or "--serve" in argv:
        command = [sys.executable, "-m", "tuner", *argv]
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    else:
        done = _called(folder, argv, environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _called(
    folder: Path, argv: tuple[str, ...], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    code: object = None
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            main(argv)
        except SystemExit as done:
            code = done.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(["gantune", *argv], code, out.getvalue(), err.getvalue())
