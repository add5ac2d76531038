"""A client of Katib's DB manager, which stores every value that metrics collectors report (gRPC, plaintext).

In the cluster, the client connects to the service. Outside, it uses a port-forward to the pod and a
local port, because gRPC needs an address.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from tuner.errors import ClusterError, NoCluster, NotFound, Timeout, Unreachable
from tuner.katib.facts import COMPONENT_LABEL, DB_MANAGER, GRPC_PORT, NAMESPACE
from tuner.katib.messages import katib_messages
from tuner.kube.client import Cluster
from tuner.kube.errors import Request, from_handshake, hidden, one_line
from tuner.kube.resources import PODS
from tuner.metrics import number
from tuner.result import Observation

_LABEL = f"{COMPONENT_LABEL}=db-manager"
_TIMEOUT = 10.0  # seconds to connect, and seconds of each call
_LARGEST = 64 << 20  # bytes of a reply; gRPC's default of 4 MiB holds about 40,000 values


def address_in_cluster(namespace: str = NAMESPACE) -> str:
    """Return the address at which pods reach the DB manager."""
    return f"katib-db-manager.{namespace}:{GRPC_PORT}"


def _packages() -> tuple[Any, Any]:
    """Return grpc and Katib's messages. Raises NoCluster where they are not installed."""
    # its C core writes refused connections to stderr
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import grpc

        return grpc, katib_messages()
    except ImportError as error:
        raise NoCluster(
            "Katib's messages are not installed: pip install 'gan-tuner[cluster]'"
        ) from error


class DbManager:
    """An open channel. Use `DbManager.open`."""

    def __init__(self, call: Callable[..., Any], request: Callable[..., Any]) -> None:
        self._call, self._request = call, request

    @classmethod
    @contextmanager
    def open(
        cls, cluster: Cluster, namespace: str = NAMESPACE, address: str = ""
    ) -> Iterator[DbManager]:
        """Connect to `address`, or directly in a pod, or by port-forward. Raises a ClusterError if none works."""
        _packages()
        with ExitStack() as stack:
            if not address and cluster.in_pod:
                address = address_in_cluster(namespace)
            elif not address:
                address = stack.enter_context(port_forward(cluster, namespace))
            yield stack.enter_context(cls.connect(address))

    @classmethod
    @contextmanager
    def connect(cls, address: str, timeout: float | None = None) -> Iterator[DbManager]:
        """Connect to an address. Raises NoCluster without the package, Unreachable without an answer."""
        grpc, messages = _packages()
        options = [("grpc.max_receive_message_length", _LARGEST)]
        with grpc.insecure_channel(address, options) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout or _TIMEOUT)
            except grpc.FutureTimeoutError as error:
                raise Unreachable(f"Katib's DB manager does not answer at {address}") from error
            yield cls(
                channel.unary_unary(
                    f"/{DB_MANAGER}/GetObservationLog",
                    request_serializer=messages.GetObservationLogRequest.SerializeToString,
                    response_deserializer=messages.GetObservationLogReply.FromString,
                ),
                messages.GetObservationLogRequest,
            )

    def observations(self, trial: str) -> list[Observation]:
        """Return every value of a trial, oldest first. Text that is not a number is NaN. Empty for an unknown trial.

        Raises Unreachable or Timeout if the DB manager does not work, and ClusterError if only this
        reply is unusable.
        """
        import grpc

        try:
            reply = self._call(self._request(trial_name=trial), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            details = one_line(str(error.details()))
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Timeout(
                    f"Katib's DB manager did not answer in {_TIMEOUT:g} s for trial {trial}"
                ) from error
            kind = Unreachable if error.code() is grpc.StatusCode.UNAVAILABLE else ClusterError
            raise kind(f"Katib's DB manager fails for trial {trial}: {details}") from error
        return [
            Observation(log.metric.name, number(log.metric.value), _time(log.time_stamp))
            for log in reply.observation_log.metric_logs
        ]


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.year > 1 else None  # Katib writes 0001-01-01 if the line has no time


@contextmanager
def port_forward(cluster: Cluster, namespace: str, port: int = GRPC_PORT) -> Iterator[str]:
    """Open a local port that is connected to the pod of the DB manager, and return it. Raises NotFound, Forbidden."""
    pods = [
        item["metadata"]["name"]
        for item in cluster.list(PODS, namespace=namespace, labels=_LABEL)
        if item.get("status", {}).get("phase") == "Running"
    ]
    if not pods:
        raise NotFound(f"no running pod of Katib's DB manager ({_LABEL}) in namespace {namespace}")
    ready: Future[None] = Future()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forward = partial(_forwarded, cluster, pods[0], namespace, port)
        threading.Thread(target=_accept, args=(listener, forward, ready), daemon=True).start()
        try:
            try:
                ready.result(_TIMEOUT)
            except FutureTimeout as error:
                raise Timeout(
                    f"no port-forward to pod {pods[0]} in namespace {namespace} in {_TIMEOUT:g} s"
                ) from error
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()


def _accept(listener: socket.socket, forward: Callable[[], Any], ready: Future[None]) -> None:
    """Connect each local connection to the pod. The first is opened in advance, so that `ready` reports a refusal."""
    try:
        far = forward()
    except ClusterError as error:
        ready.set_exception(error)
        return
    ready.set_result(None)
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            break
        try:
            far = far or forward()
        except ClusterError:  # gRPC notices the closed connection and tries again
            near.close()
            continue
        threading.Thread(target=_bridge, args=(near, far), daemon=True).start()
        far = None
    if far:
        far.close()


def _forwarded(cluster: Cluster, pod: str, namespace: str, port: int) -> Any:
    """Return a socket that is connected to the pod's port. Raises Forbidden with the RBAC rule, and Unreachable."""
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import portforward

    request = Request("get", PODS, namespace, pod, "portforward")
    connect = CoreV1Api(cluster.new_api()).connect_get_namespaced_pod_portforward
    try:
        return portforward(connect, pod, namespace, ports=str(port)).socket(port)
    except (ApiException, AttributeError) as error:
        why = one_line(str(hidden(error, ApiException)))
        failed = Unreachable(f"no port-forward to pod {pod} in namespace {namespace}: {why}")
        raise from_handshake(error, request) or failed from error


def _bridge(near: Any, far: Any) -> None:
    """Copy bytes in both directions until one side closes, then close the other."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    near.close()
    far.close()


def _pump(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    # closing would leave the other thread in recv(), and the peer without a FIN
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
