"""The API server's side of a port-forward: a websocket (RFC 6455) of subprotocol v4.channel.k8s.io, joined to a socket.

Channel 0 is the port's data, channel 1 its errors; each begins with the port's number in two bytes, little-endian.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
from http.server import BaseHTTPRequestHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 0x2, 0x8


def forward(handler: BaseHTTPRequestHandler, port: int, target: tuple[str, int]) -> None:
    """Answer the upgrade, then carry bytes both ways until one side ends."""
    key = hashlib.sha1((handler.headers["Sec-WebSocket-Key"] + _GUID).encode()).digest()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(key).decode())
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    handler.close_connection = True
    near = handler.connection
    with socket.create_connection(target) as far:
        for channel in (0, 1):
            near.sendall(_frame(bytes([channel]) + port.to_bytes(2, "little")))
        while True:
            ready, _, _ = select.select([near, far], [], [], 10)
            if not ready:
                return
            if far in ready:
                data = far.recv(4096)
                if not data:
                    return
                near.sendall(_frame(b"\x00" + data))
            if near in ready:
                payload = _read(handler)
                if payload is None:
                    return
                if payload[:1] == b"\x00":
                    far.sendall(payload[1:])


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([0x80 | _BINARY]) + length + payload


def _read(handler: BaseHTTPRequestHandler) -> bytes | None:
    """One frame's payload, unmasked; None at the end. Unbuffered, so that select tells what is left."""
    head = _exactly(handler.connection, 2)
    if head is None or head[0] & 0x0F == _CLOSE:
        return None
    size = head[1] & 0x7F
    if size > 125:
        size = int.from_bytes(_exactly(handler.connection, 2 if size == 126 else 8) or b"", "big")
    mask = _exactly(handler.connection, 4) or b"\x00" * 4
    payload = _exactly(handler.connection, size)
    return None if payload is None else bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = connection.recv(size - len(data))
        except OSError:
            return None
        if not more:
            return None
        data += more
    return data
