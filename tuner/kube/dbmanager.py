"""Katib's DB manager: every value that a trial's collector reported, by gRPC (api.v1.beta1.DBManager, plaintext).

Inside the cluster it is reached by its service's name; from outside through a port-forward to its pod, bridged to a
port of this machine's loopback, since gRPC wants an address.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

from tuner.errors import NotFound, Timeout, Unreachable
from tuner.kube.client import Cluster
from tuner.kube.failures import one_line
from tuner.kube.resources import PODS
from tuner.metrics import number
from tuner.result import Observation

PORT = 6789
_LABEL = "katib.kubeflow.org/component=db-manager"
_TIMEOUT = 10.0  # seconds to connect, and seconds a call


class DbManager:
    """An open channel. Use `DbManager.open`."""

    def __init__(self, stub: Any, messages: Any) -> None:
        self._stub, self._messages = stub, messages

    @classmethod
    @contextmanager
    def open(cls, cluster: Cluster, namespace: str = "kubeflow", address: str = "") -> Iterator[DbManager]:
        """Connect to `address`, or directly in a pod, or by port-forward. Raises a ClusterError where none works."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes refused connections to stderr
        import grpc
        from kubeflow.katib import katib_api_pb2, katib_api_pb2_grpc

        with ExitStack() as stack:
            if not address and "KUBERNETES_SERVICE_HOST" in os.environ:
                address = f"katib-db-manager.{namespace}:{PORT}"
            elif not address:
                address = stack.enter_context(port_forward(cluster, namespace))
            channel = stack.enter_context(grpc.insecure_channel(address))
            try:
                grpc.channel_ready_future(channel).result(timeout=_TIMEOUT)
            except grpc.FutureTimeoutError as error:
                raise Unreachable(f"Katib's DB manager does not answer at {address}") from error
            yield cls(katib_api_pb2_grpc.DBManagerStub(channel), katib_api_pb2)

    def observations(self, trial: str) -> list[Observation]:
        """Every value of a trial, oldest first; values that are no number are NaN. Empty for an unknown trial."""
        import grpc

        request = self._messages.GetObservationLogRequest(trial_name=trial)
        try:
            reply = self._stub.GetObservationLog(request, timeout=_TIMEOUT)
        except grpc.RpcError as error:
            details = one_line(str(error.details()))
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Timeout(f"Katib's DB manager did not answer in {_TIMEOUT:g} s for trial {trial}") from error
            raise Unreachable(f"Katib's DB manager fails for trial {trial}: {details}") from error
        return [
            Observation(log.metric.name, number(log.metric.value), _time(log.time_stamp))
            for log in reply.observation_log.metric_logs
        ]


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.year > 1 else None  # Katib's 0001-01-01: the line bore no time


@contextmanager
def port_forward(cluster: Cluster, namespace: str, port: int = PORT) -> Iterator[str]:
    """An address on this machine's loopback that leads to the DB manager's pod. Raises NotFound, Forbidden."""
    pods = [
        item["metadata"]["name"]
        for item in cluster.list(PODS, namespace=namespace, labels=_LABEL)
        if item.get("status", {}).get("phase") == "Running"
    ]
    if not pods:
        raise NotFound(f"no running pod of Katib's DB manager ({_LABEL}) in namespace {namespace}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(cluster, listener, pods[0], namespace, port), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()


def _accept(cluster: Cluster, listener: socket.socket, pod: str, namespace: str, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        try:
            far = _forwarded(cluster, pod, namespace, port)
        except Exception:  # any of websocket's or kubernetes': the caller sees a closed connection and says so
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _forwarded(cluster: Cluster, pod: str, namespace: str, port: int) -> Any:
    from kubernetes.client import CoreV1Api
    from kubernetes.stream import portforward

    connect = CoreV1Api(cluster.api).connect_get_namespaced_pod_portforward
    return portforward(connect, pod, namespace, ports=str(port)).socket(port)


def _pump(source: Any, sink: Any) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.close()
