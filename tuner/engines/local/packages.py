"""The packages that a trial's command installs go into an environment of their own, never into the client's.

The SDKs of Katib and Kubeflow begin the command with `pip install` where packages_to_install is
given. On a cluster, that changes the trial's container. On this machine it would change the
environment that runs gantune. So each set of packages gets a virtual environment below the cache
directory, which also sees the client's packages. It is installed once, before the first trial, and
stays for later searches. The `pip install` of each trial then runs in it and finds nothing to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tuner.errors import UnsupportedError
from tuner.katib import shell

_HEREDOC = re.compile(
    r"<<-?[ \t]*(['\"]?)(\w+)\1[^\n]*\n.*?^[ \t]*\2[ \t]*$", re.DOTALL | re.MULTILINE
)
_ARRAY = re.compile(r"^[ \t]*(\w+)=\((.*?)\)[ \t]*$", re.DOTALL | re.MULTILINE)  # of bash
_ELEMENTS = re.compile(r"\$\{(\w+)\[@\]\}")
_PIP = re.compile(r"pip3?(\.\d+)?")
_INSTALL = re.compile(rf"(?:^|[\s;&|(])(?:(?:\S*/)?{_PIP.pattern}|-m\s+pip)\s+install\b")
_COMPLETE = "complete"  # the file that says that an environment is complete


def installed_by(argv: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the arguments of each different `pip install` in a command.

    Raises UnsupportedError where they are known only when the command runs.
    """
    # Any other item is data, whatever its text is.
    code = [argv[index] for index in sorted(shell.code_items(argv))]
    line = "\n".join([shlex.join(argv)] if _is_pip(argv) else code)
    line = _HEREDOC.sub("", line.replace("\\\n", " "))
    arrays = dict(_ARRAY.findall(line))
    found = (
        tuple(_arguments(text[match.end() :], arrays))
        for text in line.splitlines()
        if not text.lstrip().startswith("#")
        for match in _INSTALL.finditer(text)
    )
    return tuple(dict.fromkeys(found))


def _is_pip(argv: Sequence[str]) -> bool:
    """Return whether a list of arguments is `pip install ...` or `python -m pip install ...`."""
    if shell.is_python(argv[0]) and "-m" in argv:
        module = argv.index("-m")
        options = all(item.startswith("-") for item in argv[1:module])
        return options and list(argv[module + 1 : module + 3]) == ["pip", "install"]
    return bool(_PIP.fullmatch(PurePosixPath(argv[0]).name)) and "install" in argv[1:2]


def _arguments(text: str, arrays: Mapping[str, str]) -> Iterator[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
        elements = {
            word: shlex.split(arrays[name[1]])
            for word in words
            if (name := _ELEMENTS.fullmatch(word))
        }
    except (
        KeyError,
        ValueError,
    ):  # an array that is not written out, or quotation marks that do not match
        words, elements = ["$"], {}
    redirected = False
    for at, word in enumerate(words):
        if redirected:
            redirected = False
        elif set(word) <= set("<>&") and set(word) & set("<>"):
            redirected = True
        elif set(word) <= set("();<>|&"):
            return
        elif word in elements:
            yield from elements[word]
        elif "$" in word or "`" in word:
            raise UnsupportedError(
                f"the trial's command installs packages (pip install{text[:80]}), which it names only while it runs, "
                "and a local run would change this environment. Install them, and remove the line"
            )
        elif word != "--user" and not (word.isdigit() and ">" in "".join(words[at + 1 : at + 2])):
            yield word


def environment(arguments: Sequence[Sequence[str]], start: Path) -> Path:
    """Return the directory of the environment for these `pip install`s, which is made if it does not exist.

    Args:
        arguments: What follows `pip install`, for each of them.
        start: The directory that relative paths in `arguments` refer to.

    Raises:
        UnsupportedError: The packages cannot be installed; nothing is left then.
    """
    local = [entry for words in arguments for word in words for entry in _local(start, word)]
    identity = json.dumps([sys.version, sys.prefix, *local, *arguments])
    folder = cache() / hashlib.sha256(identity.encode()).hexdigest()[:16]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another search may be making it
            if not (folder / _COMPLETE).exists():
                _make(folder, arguments, start, lock.fileno())
    except OSError as error:
        raise UnsupportedError(
            f"{folder} cannot be written ({error.strerror}). Set XDG_CACHE_HOME to another directory"
        ) from error
    return folder


def _local(start: Path, word: str) -> Iterator[str]:
    """Yield what identifies an argument that is a path on this machine: its place, and the content of a file."""
    path = os.path.join(start, word)
    # Path.exists raises where a word is too long for a name, such as a URL with a token
    if os.path.exists(path):
        yield os.path.abspath(path)
    if os.path.isfile(path) and os.access(path, os.R_OK):
        yield hashlib.sha256(Path(path).read_bytes()).hexdigest()


def variables(folder: Path, path: str) -> dict[str, str]:
    """Return the environment variables with which a process installs into `folder` and imports from it."""
    search = f"{folder / 'bin'}{os.pathsep}{path}"
    return {
        "PATH": search,
        "VIRTUAL_ENV": str(folder),
        "PYTHONUSERBASE": str(folder),
        "PIP_USER": "0",
    }


def cache() -> Path:
    """Return the directory of the environments, below the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (
        (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gantune" / "environments"
    )


def _make(folder: Path, arguments: Sequence[Sequence[str]], start: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # one that was interrupted
    try:
        pip = importlib.util.find_spec("pip") is not None
        venv.create(folder, system_site_packages=True, with_pip=not pip, symlinks=True)
        [packages] = (folder / "lib").glob("python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (packages / "client.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # the client's pip, which works on the interpreter that runs it
        for name in ("pip", "pip3") if pip else ():
            program = folder / "bin" / name
            program.write_text(
                f'#!/bin/sh\nexec {shlex.quote(str(folder))}/bin/python -m pip "$@"\n',
                encoding="utf-8",
            )
            program.chmod(0o755)
        for words in arguments:
            _install(folder, words, start, lock)
        (folder / _COMPLETE).touch()
    except (
        subprocess.CalledProcessError
    ) as error:  # of venv: Debian has ensurepip in a package of its own
        raise UnsupportedError(
            f"{sys.executable} cannot make a virtual environment with pip, which the trial's packages need. "
            "Install its venv package (apt-get install python3-venv)"
        ) from error
    finally:
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _install(folder: Path, words: Sequence[str], start: Path, lock: int) -> None:
    argv = [str(folder / "bin" / "python"), "-m", "pip", "install", *words]
    env = (
        os.environ
        | variables(folder, os.environ.get("PATH", os.defpath))
        | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    done = subprocess.run(  # noqa: S603 - the manifest's own arguments, without a shell
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=start,
        env=env,
        check=False,
        pass_fds=[lock],  # if the client is killed, pip continues, and keeps other searches out
    )
    if done.returncode != 0:
        errors = [
            line for line in done.stderr.splitlines() if line.startswith("ERROR")
        ] or done.stderr.splitlines()
        raise UnsupportedError(
            f"pip install {shlex.join(words)} failed: {' '.join(errors[-1:])[:200]}. "
            f"Correct the packages of the trial's command, or see all messages with: pip download {shlex.join(words)}"
        )
