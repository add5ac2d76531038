"""What runs in a trial's process: its init containers, then its command, with the exit that the program would have.

`python -m MODULE` with a `main(argv)` is called in this process, which has MODULE imported already.
Any other program is executed, and replaces the process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tuner.engines.local.logs import last_line
from tuner.engines.local.processes import adopt_orphans, die_with_parent, prefer_as_victim
from tuner.engines.local.runner import Job, Step
from tuner.engines.local.workspace import enter

Main = Callable[[list[str]], Any]
SIGNALS = (signal.SIGTERM,)  # blocked while the trial's process is made
_UNFLUSHED = 120  # Python's exit code where stdout cannot be flushed
INIT_OUTPUT = "init.log"  # next to the trial's log: what its init containers print
NOT_FOUND = 127  # the shell's exit code for a program that is not there


class Broken(Exception):
    """The trial cannot start. `machine` where this machine is the reason."""

    def __init__(self, error: str, *, machine: bool = False, code: int | None = None) -> None:
        super().__init__(error)
        self.machine, self.code = machine, code


def load(module: str) -> Main:
    """Return `main` of what `python -m MODULE` runs, after its `preload()`, if it has one.

    Raises ImportError, or whatever the module raises at import.
    """
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    name = f"{module}.__main__" if spec.submodule_search_locations is not None else module
    loaded = importlib.import_module(name)
    main: Main = loaded.main
    preload = getattr(loaded, "preload", None)
    if callable(preload):
        preload()
    return main


def takes_argv(module: str) -> bool:
    """Return whether `python -m MODULE` has a top-level `def main(argv...)` to call, without importing the module.

    Raises ModuleNotFoundError. Importing the parent packages of a dotted name may raise anything.
    """
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    source = Path(spec.origin or "")
    if source.suffix != ".py":
        return False
    import ast  # only the client needs it

    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True  # the import will say what is wrong
    mains = (
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"
    )
    return any(node.args.args or node.args.posonlyargs for node in mains)


def leave(code: int) -> NoReturn:
    """End this process as the interpreter does, except that it does not take down every module first.

    With torch imported, that takes a third of a second, because it writes to all the memory that is
    shared with the server. Threads are waited for, the trial's exit handlers run and files are
    flushed. `__del__` of global objects is not called.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # what Py_Finalize calls first
        atexit._run_exitfuncs()
        for each in gc.get_objects():  # without those of the server, which are frozen
            if isinstance(each, io.IOBase) and not each.closed:
                with contextlib.suppress(Exception):
                    each.flush()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            code = code or _UNFLUSHED
    finally:
        os._exit(code & 0xFF)


def run(job: Job, main: Main | None, report: int, parent: int) -> int:
    """Run the trial in this freshly forked process; returns its exit code, or replaces the process.

    Args:
        job: The trial.
        main: The function to call for a step with a module.
        report: A file descriptor that receives one JSON object if the trial cannot start or raises
        an exception.
        parent: The server's process id.
    """
    os.setsid()
    atexit._clear()  # those of the server's imports: torch's alone take 50 ms
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # as process 1 of a container does; the server ends them when the trial has finished
    adopt_orphans()
    die_with_parent(signal.SIGKILL, parent)
    prefer_as_victim()
    try:
        _streams(Path(job.log))
        _enter(job)
        die_with_parent(signal.SIGKILL, parent)  # a new user namespace forgets it
        for step in job.init:
            _initialise(step, Path(job.log).with_name(INIT_OUTPUT))
        step = job.step
        os.environ.update(step.env)
        if step.cwd:
            os.chdir(step.cwd)
        if not step.module or main is None:
            _execute(step)
        return _call(main, step, report)
    except Broken as error:
        _tell(report, error=str(error), machine=error.machine)
        return 1 if error.code is None else error.code


def describe(error: BaseException) -> str:
    """Return an exception in one line of at most 300 characters, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        text = str(error)
    except Exception as failure:  # a __str__ that fails
        text = f"<its text is not available: {type(failure).__name__}>"
    return (f"{type(error).__name__}: {text}".split("\n")[0][:280] + place).strip()


def _streams(log: Path) -> None:
    """Point stdin to nothing, and stdout and stderr to the log."""
    try:
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise Broken(f"{log} cannot be written: {error.strerror}", machine=True) from error
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(nothing)
    os.close(written)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _enter(job: Job) -> None:
    try:
        path = enter(Path(job.directory), Path(job.start), job.method, job.shared_memory)
    except OSError as error:
        raise Broken(f"the working directory cannot be made: {error}", machine=True) from error
    sys.path[:] = [str(path), *(each for each in sys.path if each not in ("", job.start))]


def _initialise(step: Step, log: Path) -> None:
    """Run an init container. What it prints is not the trial's output, in which Katib's collector finds metrics."""
    try:
        with log.open("ab") as output:
            code = subprocess.run(  # noqa: S603  # the manifest's argument list, without a shell
                step.argv,
                env=os.environ | dict(step.env),
                cwd=step.cwd or None,
                check=False,
                stdout=output,
                stderr=subprocess.STDOUT,
            ).returncode
    except (OSError, ValueError) as error:
        raise Broken(
            f"init container {step.name}: cannot run {step.argv[0]!r}: {_reason(error)}"
        ) from error
    if code:
        last = last_line(log)
        how = f"init container {step.name}: exit code {code}{f': {last}' if last else ''}"
        raise Broken(how, code=code if code > 0 else 128 - code)


def _execute(step: Step) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # as Python ignores them, and an ignored signal stays ignored
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(step.argv[0], list(step.argv), os.environ)  # noqa: S606  # the manifest's argument list, without a shell
    except (OSError, ValueError) as error:
        raise Broken(f"cannot run {step.argv[0]!r}: {_reason(error)}", code=NOT_FOUND) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _call(main: Main, step: Step, report: int) -> int:
    """Call `main(argv)` as `python -m MODULE` would, and print what it raises."""
    sys.argv = [step.module, *step.argv]
    own = os.getpid()
    random.seed()  # the server's state is the same for every trial; that of a fresh process is not
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    try:
        value = main(list(step.argv))
    except SystemExit as exit_:
        value = exit_.code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException as error:
        if os.getpid() == own:  # not a process that the trial forked
            _tell(report, error=describe(error), machine=False)
        with contextlib.suppress(BaseException):  # a stream that is closed, or a __str__ that fails
            traceback.print_exc()
        return 1
    if value is None or isinstance(value, int):
        return int(value or 0)
    with contextlib.suppress(BaseException):
        print(value, file=sys.stderr)
        _tell(report, error=str(value).split("\n")[0][:300], machine=False)
    return 1


def _tell(report: int, **message: object) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(message).encode() + b"\n")
