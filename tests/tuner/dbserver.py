"""Katib's DB manager as a real gRPC server: it answers from a dict, or as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import grpc
from kubeflow.katib import katib_api_pb2 as pb
from kubeflow.katib import katib_api_pb2_grpc as rpc

Answer = Callable[[str, Any], pb.GetObservationLogReply]


def reply(values: list[tuple[str, str]]) -> pb.GetObservationLogReply:
    """The reply that holds these metrics and texts, one each second."""
    first = datetime(2026, 1, 2, 3, 4, 5, 123456)
    logs = [
        pb.MetricLog(
            time_stamp=f"{first + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S.%fZ}",
            metric=pb.Metric(name=name, value=text),
        )
        for second, (name, text) in enumerate(values)
    ]
    return pb.GetObservationLogReply(observation_log=pb.ObservationLog(metric_logs=logs))


class DbServer(rpc.DBManagerServicer):  # type: ignore[misc]
    """Answers from `held`, or as `answer` says; counts its calls."""

    def __init__(self) -> None:
        self.held: dict[str, list[tuple[str, str]]] = {}
        self.answer: Answer = lambda trial, context: reply(self.held.get(trial, []))
        self.calls: list[str] = []
        self.address = ""

    def GetObservationLog(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls.append(request.trial_name)
        return self.answer(request.trial_name, context)


@contextmanager
def database(port: int = 0) -> Iterator[DbServer]:
    """A running server."""
    pool, server = grpc.server(futures.ThreadPoolExecutor(4)), DbServer()
    rpc.add_DBManagerServicer_to_server(server, pool)
    server.address = f"127.0.0.1:{pool.add_insecure_port(f'127.0.0.1:{port}')}"
    pool.start()
    try:
        yield server
    finally:
        pool.stop(0).wait()
