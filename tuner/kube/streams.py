"""Streams that may be silent: how a dead connection is noticed, and how a reader is woken that waits for nothing more.

Closing a socket does not wake the thread that reads from it; shutting it down does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A peer that has gone without a word is noticed within a minute and a half: a probe after 30 s of silence, then five.
KEEPALIVE = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
    if hasattr(socket, name)  # macOS has no TCP_KEEPIDLE
]


class Stop(threading.Event):
    """An event that also ends the streams being read under it, so that no thread waits on for the server."""

    def __init__(self) -> None:
        super().__init__()
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """Set it, and shut the open streams down: their readers see the end at once."""
        super().set()
        with self._lock:
            for stream in self._open:
                _shut(stream)

    @contextmanager
    def shuts(self, stream: int) -> Iterator[None]:
        """Within, the socket of file descriptor `stream` is shut down when the event is set."""
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
