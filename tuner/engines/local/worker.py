"""A worker: one process that runs one trial after another, so that a module is imported once and not once a trial.

    python -c "...; from tuner.engines.local.worker import main; main(FD, MODULE)"        (tuner.engines.local.pool)

FD is a socket: one JSON object a line. In: {"run": {...Job}}, {"stop": number}. Out: {"ready": true} or {"broken": why}
once MODULE is imported, {"pid": group} of a subprocess, {"done": number, "code": int, "error": text}.
It leads a process group of its own, out of reach of the terminal's Ctrl-C. When the client dies, however it dies, the
socket closes, and the worker kills its trial and itself: no orphan writes into a trial that runs again.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Job:
    """One trial's command. `module` is "" for a subprocess; `argv` is then the whole command, otherwise main's."""

    number: int
    argv: list[str]
    module: str = ""
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    log: str = ""
    deadline: float | None = None


class Stopped(BaseException):
    """Raised inside a trial to end it; a BaseException, so that `except Exception` in the trial does not catch it."""


def load(module: str) -> Callable[[list[str]], Any]:
    """`main` of what `python -m MODULE` runs; ImportError, or whatever the module raises at import."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    name = f"{module}.__main__" if spec.submodule_search_locations is not None else module
    main: Callable[[list[str]], Any] = importlib.import_module(name).main
    return main


def takes_argv(module: str) -> bool:
    """True where `python -m MODULE` has a top-level `def main(argv...)` to call; found without importing the module.

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
    import ast  # for the client alone

    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True  # the import will say what is wrong
    mains = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return any(node.args.args or node.args.posonlyargs for node in mains)


def call(main: Callable[[list[str]], Any], job: Job) -> tuple[int, str]:
    """Run `main(argv)` with the job's argv, environment and directory; its exit code, and what it raised, in a line."""
    with _surroundings(job):
        try:
            return _code(main(list(job.argv)))
        except SystemExit as error:
            return _code(error.code)
        except Stopped:
            return -signal.SIGTERM, ""
        except KeyboardInterrupt:
            return -signal.SIGINT, ""
        except BaseException as error:
            traceback.print_exc()
            return 1, describe(error)


def describe(error: BaseException) -> str:
    """An exception in one line of at most 300 characters, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return (f"{type(error).__name__}: {error}".split("\n")[0][:280] + place).strip()


def _code(value: object) -> tuple[int, str]:
    """As `sys.exit(value)` would: None is 0, an int itself, anything else is printed and 1."""
    if value is None or isinstance(value, int):
        return int(value or 0), ""
    print(value, file=sys.stderr)
    return 1, str(value).split("\n")[0][:300]


@contextlib.contextmanager
def _surroundings(job: Job) -> Iterator[None]:
    argv, env, cwd = sys.argv, dict(os.environ), Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        sys.argv = [job.module, *job.argv]
        os.environ.update(job.env)
        if job.cwd:
            os.chdir(job.cwd)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.argv = argv
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def main(descriptor: int, module: str) -> None:
    """Serve until the client closes the socket."""
    _Worker(socket.socket(fileno=descriptor), module).serve()


class _Worker:
    def __init__(self, channel: socket.socket, module: str) -> None:
        self._channel = channel
        self._module = module
        self._main: Callable[[list[str]], Any] | None = None
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._current = -1
        self._cancelled = -1  # the last trial that was asked to stop, maybe before it began
        self._child: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._interrupt)
        threading.Thread(target=self._listen, daemon=True).start()
        if self._module and not self._warm():
            return
        self._send({"ready": True})
        while True:
            with contextlib.suppress(Stopped):  # a stop that came after its trial had ended
                job = self._jobs.get()
                code, error = self._run(job)
                self._send({"done": job.number, "code": code, "error": error})

    def _warm(self) -> bool:
        try:
            self._main = load(self._module)
        except BaseException as error:
            self._send({"broken": describe(error)})
            return False
        return True

    def _run(self, job: Job) -> tuple[int, str]:
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if not job.module:
                return self._spawn(job, log)
            os.dup2(log, 1)
            os.dup2(log, 2)
            with open(1, "w", buffering=1, closefd=False) as out, _streams(out):
                assert self._main is not None  # noqa: S101
                self._current = job.number
                try:
                    if self._cancelled == job.number:
                        raise Stopped
                    return call(self._main, job)
                finally:
                    self._current = -1
        except Stopped:
            return -signal.SIGTERM, ""
        finally:
            os.close(log)

    def _spawn(self, job: Job, log: int) -> tuple[int, str]:
        try:
            self._child = subprocess.Popen(  # noqa: S603  # the manifest's own argv list, and no shell
                job.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=job.cwd or None,
                env=os.environ | job.env,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return 127, f"cannot run {job.argv[0]!r}: {getattr(error, 'strerror', None) or error}"
        self._send({"pid": self._child.pid})
        self._current = job.number
        try:
            if self._cancelled == job.number:
                self._stop()
            return self._child.wait(), ""
        finally:
            self._current = -1
            self._kill()
            self._send({"pid": 0})
            self._child = None

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._current >= 0 and self._child is None:
            raise Stopped

    def _kill(self) -> None:
        """End what a subprocess left behind in its group."""
        if self._child is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _listen(self) -> None:
        with self._channel.makefile("rb") as lines:
            for line in lines:
                message: Mapping[str, Any] = json.loads(line)
                if "run" in message:
                    self._jobs.put(Job(**message["run"]))
                else:
                    self._cancelled = int(message["stop"])
                    if self._cancelled == self._current:
                        self._stop()
        self._kill()
        os.killpg(0, signal.SIGKILL)  # the client has gone

    def _stop(self) -> None:
        if self._child is None:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        else:
            with contextlib.suppress(OSError):
                os.killpg(self._child.pid, signal.SIGTERM)

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")


@contextlib.contextmanager
def _streams(out: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield


def encoded(job: Job) -> bytes:
    """The line that starts a job."""
    return json.dumps({"run": asdict(job)}).encode() + b"\n"
