"""Runs a command in a container of a pod, and returns what it prints (`execute`) or streams it (`pipe`).

The command is a list of arguments, and no shell is involved. The output comes from a container that
this program does not control, so it is treated as bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import ClusterError, Timeout, Unreachable
from tuner.kube.errors import Request, from_handshake, hidden, one_line
from tuner.kube.resources import PODS

if TYPE_CHECKING:
    from tuner.kube.client import Cluster

_STDOUT, _STDERR, _STATUS = 1, 2, 3  # channels of v4.channel.k8s.io
_MOST_WORDS = 1 << 16  # bytes of stderr and of the status
_POLL = 0.5  # seconds between two checks whether the caller has given up
_CHUNKS = 256  # that wait for a slow reader; the kubelet sends at most 32 KiB at once


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed to stdout, and why it failed ("" if it succeeded)."""

    data: bytes
    failure: str


def execute(
    cluster: Cluster,
    pod: str,
    container: str,
    argv: Sequence[str],
    *,
    namespace: str,
    most: int,
    seconds: float,
) -> Output:
    """Run a command in a container.

    Args:
        cluster: Where the pod is.
        pod: The name of the pod.
        container: One of its containers, which runs.
        argv: The command; there is no shell.
        namespace: The pod's.
        most: Bytes of stdout. More are an error.
        seconds: For the connection and the command together.

    Raises:
        Forbidden: The message names the RBAC rule.
        Timeout: It takes longer than `seconds`.
        ClusterError: It prints more than `most` bytes, or the container runs no command.
    """
    request = Request("create", PODS, namespace, pod, "exec")
    done: Future[Output] = Future()
    session = _Session(cluster, request, container, argv, most)
    # a websocket has no timeout to connect
    threading.Thread(target=session.run, args=(done,), daemon=True).start()
    try:
        return done.result(seconds)
    except FutureTimeout as error:
        raise Timeout(f"{argv[0]} in pod {pod} did not finish in {seconds:g} s") from error
    finally:
        session.stop()


@contextlib.contextmanager
def pipe(
    cluster: Cluster,
    pod: str,
    container: str,
    argv: Sequence[str],
    *,
    namespace: str,
    silence: float = 60.0,
) -> Iterator[io.BufferedReader]:
    """Run a command in a container, and give its stdout as a stream. Only a few MiB are held.

    Reading raises what `execute` raises, a ClusterError if the command fails, and Timeout if it
    prints nothing for `silence` seconds.
    """
    request = Request("create", PODS, namespace, pod, "exec")
    session = _Pipe(cluster, request, container, argv)
    done: Future[Output] = Future()
    threading.Thread(target=session.run, args=(done,), daemon=True).start()
    try:
        yield io.BufferedReader(_Reader(session.chunks, done, silence), 1 << 16)
    finally:
        session.stop()


class _Discard:
    """A file that keeps nothing."""

    def write(self, data: object) -> None:
        """Ignore the data."""


class _Reader(io.RawIOBase):
    """The chunks of a command as a file. An empty chunk is the end."""

    def __init__(self, chunks: queue.Queue[bytes], done: Future[Output], silence: float) -> None:
        self._chunks, self._done, self._silence = chunks, done, silence
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, and wait if there is nothing."""
        waited = 0.0
        while not self._rest and not self._ended:
            try:
                self._rest = self._chunks.get(timeout=_POLL)
                self._ended = not self._rest
            except queue.Empty:
                waited += _POLL
                if self._done.done() and self._chunks.empty():
                    self._ended = True
                elif waited >= self._silence:
                    raise Timeout(f"nothing was received for {self._silence:g} s") from None
        if not self._rest:
            if failure := self._done.result(self._silence).failure:
                raise ClusterError(failure)
            return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class _Session:
    """A command that runs in a separate thread."""

    def __init__(
        self, cluster: Cluster, request: Request, container: str, argv: Sequence[str], most: int
    ) -> None:
        self._cluster, self._request, self._container, self._argv = (
            cluster,
            request,
            container,
            list(argv),
        )
        self._most = most
        self._data = bytearray()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the thread end soon."""
        self._stopped.set()

    def run(self, done: Future[Output]) -> None:
        """Set the output, or the ClusterError."""
        try:
            stream = self._connected()
            try:
                done.set_result(self._read(stream))
            finally:
                wire = stream.sock.sock  # the websocket's close() would wait for the peer
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
                wire.close()
        except ClusterError as error:
            done.set_exception(error)
        except (
            Exception
        ) as error:  # the websocket library raises its own exceptions, and those of sockets and TLS
            done.set_exception(
                Unreachable(f"{self._request}: the connection failed: {one_line(str(error), 200)}")
            )

    def _connected(self) -> Any:
        from kubernetes.client import CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import stream

        connect = CoreV1Api(self._cluster.new_api()).connect_get_namespaced_pod_exec
        options = {"stdin": False, "stdout": True, "stderr": True, "tty": False, "binary": True}
        try:
            opened = stream(
                connect,
                self._request.name,
                self._request.namespace,
                container=self._container,
                command=self._argv,
                _preload_content=False,
                **options,
            )
            # the kubernetes client would keep a second copy of everything that it receives
            opened._all = _Discard()
            return opened
        except (ApiException, AttributeError) as error:
            failed = Unreachable(
                f"{self._request}: {one_line(str(hidden(error, ApiException)), 200)}"
            )
            raise from_handshake(error, self._request) or failed from error

    def _taken(self, data: bytes) -> None:
        """Take a part of stdout."""
        self._data += data
        if len(self._data) > self._most:
            raise ClusterError(
                f"{self._argv[0]} in pod {self._request.name} prints more than {self._most} bytes"
            )

    def _read(self, stream: Any) -> Output:
        """Collect the channels until the peer closes the stream."""
        words = {_STDERR: b"", _STATUS: b""}
        while not self._stopped.is_set():
            # kubernetes 35 returns "" for an empty channel
            self._taken(stream.read_channel(_STDOUT) or b"")
            for channel in words:
                words[channel] = (words[channel] + (stream.read_channel(channel) or b""))[
                    :_MOST_WORDS
                ]
            if not stream.is_open():
                return Output(bytes(self._data), _failure(words[_STATUS], words[_STDERR]))
            stream.update(timeout=_POLL)
        raise ClusterError("stopped")  # nobody waits for it


class _Pipe(_Session):
    """A session that passes stdout on in chunks."""

    def __init__(
        self, cluster: Cluster, request: Request, container: str, argv: Sequence[str]
    ) -> None:
        super().__init__(cluster, request, container, argv, 0)
        self.chunks: queue.Queue[bytes] = queue.Queue(_CHUNKS)

    def _taken(self, data: bytes) -> None:
        while data and not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.chunks.put(data, timeout=_POLL)
                return


def _failure(status: bytes, stderr: bytes) -> str:
    """Return why the command failed, or "" if its status is a success."""
    try:
        shape: Any = json.loads(status)
    except ValueError:
        shape = None
    if isinstance(shape, dict) and shape.get("status") == "Success":
        return ""
    says = str(shape.get("message", "")) if isinstance(shape, dict) else ""
    return one_line(stderr.decode("utf-8", "replace") or says or "the connection was cut", 200)
