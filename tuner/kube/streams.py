"""Streams that may be silent for long: how a dead connection is detected, and how a waiting reader is woken.

To close a socket does not wake the thread that reads from it; to shut it down does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A peer that disappeared is detected within 90 seconds: a probe after 30 s of silence, then five
# more.
KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
    if hasattr(socket, name)  # macOS has no TCP_KEEPIDLE
]


class Stop(threading.Event):
    """An event that also shuts down the streams that are read with it, so that no thread waits for the server."""

    def __init__(self) -> None:
        super().__init__()
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """Set the event and shut down the open streams. Their readers return at once."""
        super().set()
        with self._lock:
            for stream in self._open:
                _shut(stream)

    @contextmanager
    def shuts(self, stream: int) -> Iterator[None]:
        """Shut down the socket of file descriptor `stream` if the event is set while the block runs."""
        with self._lock:
            self._open.add(stream)
        if self.is_set():
            _shut(stream)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(stream)


def _shut(stream: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(stream)) as twin:
        twin.shutdown(socket.SHUT_RDWR)
