"""PushRunner: a Runner whose trials can push their metrics. It keeps the server process, and asks it for sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tuner.engines.local.processes import MARKER
from tuner.engines.local.push import ADDRESS, FILE, HOOK
from tuner.engines.local.push.sockets import Sockets
from tuner.engines.local.runner import Exit, Job, Runner
from tuner.errors import StudyError, UnsupportedError

_ROOT = str(Path(__file__).resolve().parents[4])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from tuner.engines.local.push.server import main; sys.exit(main(int(sys.argv[2]), sys.argv[3]))"
)
_IMPORT_SECONDS = 60.0  # the server's first answer comes after its imports
_ANSWER_SECONDS = 8.0  # every signal ends the client within 10 s
_CLOSE_SECONDS = 1.5


class _Gone(Exception):
    """The server process has died, or does not answer."""


def ensure_available() -> None:
    """Raise UnsupportedError where gRPC or Katib's messages are not installed."""
    if (
        find_spec("grpc") is None
        or find_spec("kubeflow") is None
        or find_spec("kubeflow.katib") is None
    ):
        raise UnsupportedError(
            "collector kind Push needs Katib's gRPC messages, which are not installed: pip install 'gan-tuner[cluster]'"
        )


def search_path(*paths: str) -> str:
    """Return a PYTHONPATH that starts with the hook, followed by the first of `paths` that is not empty."""
    rest = next((path for path in paths if path), "")
    return (
        str(HOOK)
        if not rest
        else rest
        if rest.split(os.pathsep)[0] == str(HOOK)
        else f"{HOOK}{os.pathsep}{rest}"
    )


class PushRunner:
    """Runs trials with another Runner, each with a socket of its own for its metrics.

    Args:
        runner: What runs the trials.
        study: The study's directory, by which a later run finds a server that is left over.
        inside: Whether trials run in this process (--debug), which then needs the hook itself.
    """

    def __init__(self, runner: Runner, study: Path, *, inside: bool = False) -> None:
        self._runner, self._study, self._sockets = runner, study, Sockets(study)
        if inside:
            import_module("tuner.engines.local.push.hook.sitecustomize")
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._running: set[int] = set()

    @property
    def idle(self) -> int:
        """How many jobs could start now."""
        return self._runner.idle

    def warm(self) -> None:
        """Start the server, which imports gRPC while the runner prepares itself."""
        self._ensure_server()
        self._runner.warm()

    def slot_of(self, number: int) -> Mapping[str, str]:
        """Return the environment of the slot that the next job gets."""
        return self._runner.slot_of(number)

    def start(self, job: Job) -> None:
        """Open the trial's socket, and start its job. Raises StudyError where its file cannot be written."""
        self._ensure_server()
        folder = Path(job.directory)
        try:
            answer = self._ask(open=job.number, trial=folder.name, file=str(folder / FILE))
        except _Gone:
            assert self._process is not None  # noqa: S101
            self._process.kill()
            self._running.add(job.number)  # `wait` returns it as lost
            return
        if answer["error"]:
            raise StudyError(f"{answer['error']}; run the same command again")
        path = search_path(job.step.env.get("PYTHONPATH", ""), os.environ.get("PYTHONPATH", ""))
        env = {**job.step.env, "PYTHONPATH": path, ADDRESS: answer["address"]}
        self._runner.start(replace(job, step=replace(job.step, env=env)))
        self._running.add(job.number)

    def stop(self, number: int) -> None:
        """Ask a trial to finish, then end it."""
        self._runner.stop(number)

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """Return the trials that finished; see Runner.wait. All of them where the server has died.

        Trials cannot report then, and a program may go on without its metrics: they have to run
            again.
        """
        finished = self._runner.wait(timeout)
        try:
            ends = [(number, self._closed(number, end)) for number, end in finished]
            if self._running and self._process is not None and self._process.poll() is not None:
                raise _Gone(self._how())
        except _Gone as error:
            numbers = sorted(self._running | {number for number, _ in finished})
            self.close()
            lost = Exit(
                None, f"the process that receives pushed metrics {error}", machine=True, crash=True
            )
            return [(number, lost) for number in numbers]
        self._running -= {number for number, _ in finished}
        return ends

    def close(self) -> None:
        """End all trials, then the server."""
        self._runner.close()
        self._running.clear()
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            try:
                self._process.wait(_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._sockets.remove()
        self._process = self._channel = None

    def _closed(self, number: int, end: Exit) -> Exit:
        """Close a finished trial's socket. A report that this machine lost is not the trial's failure."""
        answer = self._ask(close=number)
        if answer["error"]:
            return Exit(end.code, answer["error"], machine=True)
        # the SDK's exception has it in a later line
        if end.code and not end.machine and answer["refused"]:
            return replace(end, error=f"a report was refused: {answer['refused']}")
        return end

    def _ensure_server(self) -> None:
        if self._process is not None:
            return
        folder = self._sockets.create()
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_IMPORT_SECONDS)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", _PROGRAM, _ROOT, str(theirs.fileno()), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {MARKER: str(self._study.absolute()), "GRPC_VERBOSITY": "NONE"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def _ask(self, **message: object) -> dict[str, str]:
        """Send a message to the server and return its answer. Raises _Gone."""
        channel = self._channel
        assert channel is not None  # noqa: S101
        try:
            channel.sendall(json.dumps(message).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                if not (more := channel.recv(65536)):
                    raise _Gone(self._how())
                data += more
        except TimeoutError as error:
            raise _Gone(f"did not answer within {channel.gettimeout():.0f} s") from error
        except OSError as error:
            raise _Gone(self._how()) from error
        channel.settimeout(_ANSWER_SECONDS)
        answer: dict[str, str] = json.loads(data)
        return answer

    def _how(self) -> str:
        """Say how the server ended."""
        assert self._process is not None  # noqa: S101
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with exit code {code}"
        )
