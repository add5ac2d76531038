"""A trial that pushes its metrics: `python -m push_trial --lr=... --bs=...`. Quick, because it needs no SDK."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc

METHOD = "/api.v1.beta1.DBManager/ReportObservationLog"


def garbage() -> None:
    """Write something else than gRPC to the trial's own address, and leave some connections open."""
    path = os.environ["GANTUNE_DB_MANAGER"].removeprefix("unix:")
    for data in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(100_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 999,
    ):
        one = socket.socket(socket.AF_UNIX)
        one.connect(path)
        one.send(data)
        globals().setdefault("_open", []).append(one)


def field(number: int, value: bytes | str) -> bytes:
    """One field of a protobuf message, with a length below 16,384 bytes."""
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data


def report(metrics: Mapping[str, float]) -> None:
    """Send a report as a program without the SDK does, in any language."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    logs = [
        field(1, now) + field(2, field(1, name) + field(2, str(value)))
        for name, value in metrics.items()
    ]
    request = field(1, os.environ["KATIB_TRIAL_NAME"]) + field(
        2, b"".join(field(1, log) for log in logs)
    )
    with grpc.insecure_channel(os.environ["GANTUNE_DB_MANAGER"]) as channel:
        try:
            channel.unary_unary(METHOD)(request, timeout=60)
        except grpc.RpcError as error:
            raise RuntimeError(f"the report failed:\n{error}") from error


def main(
    argv: list[str] | None = None, report: Callable[[Mapping[str, float]], None] = report
) -> int:
    """Report fd and loss twice; misbehave on demand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bs", type=float, default=64)
    parser.add_argument("--do", choices=("garbage", "pretend", "large", "many"))
    parser.add_argument(
        "--gate", type=Path, help="after the first report, wait until this file exists"
    )
    options = parser.parse_args(argv)
    if options.do == "garbage":
        garbage()
    if options.do == "pretend":
        os.environ["KATIB_TRIAL_NAME"] = "study-7"
    if options.do == "large":
        report({"m" * (5 << 20): 1})
    for step in range(1000 if options.do == "many" else 2):
        report({"fd": options.lr * (step + 1), "loss": -step})
        while options.gate and not options.gate.exists():
            time.sleep(0.01)
    print("fd=0 is no report under this collector")
    return 0


if __name__ == "__main__":
    sys.exit(main())
