"""The process that receives pushed metrics: a DB manager of Katib for each running trial. See the package.

    python -c "...; from tuner.engines.local.push.server import main; main(FD, FOLDER)"                    (see runner)

FOLDER gets the trials' sockets. FD is a socket with one JSON object per line. In: {"open": number,
"trial": name, "file": path}, {"close": number}. Each gets one answer: {"address": text, "error":
text}, or {"error": text, "refused": text}. The process exits when the socket closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from tuner.katib.facts import DB_MANAGER
from tuner.katib.messages import katib_messages
from tuner.metrics.parsing import time_of

LARGEST_REPORT = 4 << 20  # bytes of a request
LARGEST_FILE = 256 << 20  # bytes that one trial may report
LONGEST_TEXT = 1024  # characters of a name or a value


class Refused(Exception):
    """A report that is not accepted, with its status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reports:
    """What one trial reports.

    Attributes:
        error: Why this machine lost a report; "" while it has not.
        refused: Why the last report was not accepted; "" if it was.
    """

    def __init__(self, trial: str, path: Path, api: Any) -> None:
        self._trial, self._path, self._api = trial, path, api
        self.error = self.refused = ""
        if not path.is_symlink() and path.is_file():
            self._size = path.stat().st_size
        else:  # an earlier attempt of the trial may have left anything here
            shutil.rmtree(
                path, ignore_errors=True
            ) if path.is_dir() and not path.is_symlink() else path.unlink(True)
            self._size = 0
        self._file = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )

    async def answer(self, data: bytes, context: Any) -> bytes:
        """Serve ReportObservationLog."""
        try:
            request = self._api.ReportObservationLogRequest.FromString(data)
        except Exception as error:  # DecodeError, whose module depends on protobuf's version
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"the request is no ReportObservationLog: {error}"
            )
        self.refused = ""
        try:
            self.add(request)
        except Refused as error:
            self.refused = str(error)
            await context.abort(error.code, str(error))
        empty: bytes = self._api.ReportObservationLogReply().SerializeToString()
        return empty

    def add(self, request: Any) -> None:
        """Write the values of a request to the file: all of them, or none. Raises Refused."""
        if request.trial_name != self._trial:
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                f"this address takes the metrics of trial {self._trial}, got those of {request.trial_name[:80]!r}: "
                "report under the name in KATIB_TRIAL_NAME",
            )
        lines = b"".join(_lines(request))
        if self._size + len(lines) > LARGEST_FILE:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"trial {self._trial} has reported {LARGEST_FILE >> 20} MiB of metrics, which is the limit",
            )
        try:
            if os.write(self._file, lines) != len(lines):
                raise OSError(28, "No space left on device")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            self.error = f"{self._path} cannot be written: {error.strerror}"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, self.error) from error
        self._size += len(lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _lines(request: Any) -> Iterator[bytes]:
    """Yield a request's values as a File collector of format JSON reads them. Raises Refused.

    As in Katib, a value without a time is ignored, and a time that is not RFC 3339 is an error. A
    metric with the name `timestamp` is ignored, because it would hide the time.
    """
    for log in request.observation_log.metric_logs:
        name, value, time = log.metric.name, log.metric.value, log.time_stamp
        if len(name) > LONGEST_TEXT or len(value) > LONGEST_TEXT:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"names and values of metrics have at most {LONGEST_TEXT} characters, got {name[:40]!r}={value[:40]!r}",
            )
        if time and time_of(time.encode()) is None:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the time of {name[:40]!r} is not RFC 3339: {time[:40]!r}",
            )
        if time and name != "timestamp":
            yield json.dumps({"timestamp": time, name: value}).encode() + b"\n"


class _Endpoint:
    """The servers of the running trials."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._api = folder, katib_messages()
        self._open: dict[int, tuple[grpc.aio.Server, Reports]] = {}

    async def obey(self, message: dict[str, Any]) -> dict[str, str]:
        """Open or close a trial's socket."""
        if "close" in message:
            return await self._close(int(message["close"]))
        number = int(message["open"])
        await self._close(number)
        try:
            reports = Reports(str(message["trial"]), Path(message["file"]), self._api)
        except OSError as error:
            return {"error": f"{message['file']} cannot be written: {error.strerror}"}
        # Without a maximum of handlers: each runs to its end before the next one starts.
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST_REPORT)])
        handler = {"ReportObservationLog": grpc.unary_unary_rpc_method_handler(reports.answer)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(DB_MANAGER, handler),)
        )
        address = f"unix:{self._folder / str(number)}"
        server.add_insecure_port(address)
        await server.start()
        self._open[number] = server, reports
        return {"address": address, "error": ""}

    async def _close(self, number: int) -> dict[str, str]:
        if (held := self._open.pop(number, None)) is None:
            return {"error": "", "refused": ""}
        server, reports = held
        await server.stop(None)
        reports.close()
        (self._folder / str(number)).unlink(missing_ok=True)
        return {"error": reports.error, "refused": reports.refused}


async def serve(control: socket.socket, folder: Path) -> None:
    """Obey until the client has gone."""
    endpoint = _Endpoint(folder)
    reader, writer = await asyncio.open_connection(sock=control)
    while line := await reader.readline():
        answer = await endpoint.obey(json.loads(line))
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()


def main(descriptor: int, folder: str) -> int:
    """Serve until the client has gone; nothing is left of the sockets then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the client decides
    try:
        asyncio.run(serve(socket.socket(fileno=descriptor), Path(folder)))
    except OSError as error:  # ECONNRESET: the client was killed
        print(error, file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # gRPC's threads
