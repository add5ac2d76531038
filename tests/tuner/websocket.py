"""The API server's side of port-forward and exec: a websocket (RFC 6455) of subprotocol v4.channel.k8s.io.

Port-forward: channel 0 is the port's data, channel 1 its errors; each begins with the port's number
in two bytes, little-endian. Exec: channel 1 is stdout, 2 stderr, 3 the status at the end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import subprocess
from http.server import BaseHTTPRequestHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 0x2, 0x8


def forward(handler: BaseHTTPRequestHandler, port: int, target: tuple[str, int]) -> None:
    """Answer the upgrade, then carry bytes both ways until one side ends."""
    _upgrade(handler)
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


def execute(handler: BaseHTTPRequestHandler, argv: list[str]) -> None:
    """Run the command on this machine, and send what it prints as a container runtime does."""
    _upgrade(handler)
    near = handler.connection
    try:
        done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    except FileNotFoundError as error:
        code, stdout, stderr = 127, b"", str(error).encode()
    for channel, data in ((1, stdout), (2, stderr)):
        for start in range(0, len(data), 4096):
            near.sendall(_frame(bytes([channel]) + data[start : start + 4096]))
    status = (
        {"status": "Success"}
        if code == 0
        else {"status": "Failure", "message": f"exit code {code}"}
    )
    near.sendall(_frame(b"\x03" + json.dumps(status).encode()))
    near.sendall(bytes([0x80 | _CLOSE, 0]))


def _upgrade(handler: BaseHTTPRequestHandler) -> None:
    key = hashlib.sha1((handler.headers["Sec-WebSocket-Key"] + _GUID).encode()).digest()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(key).decode())
    handler.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
    handler.end_headers()
    handler.close_connection = True


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
