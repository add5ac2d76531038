"""The gRPC server: api.v1.beta1.Suggestion and grpc.health.v1.Health.

Messages are parsed in the handlers, so that a malformed one gets an answer with a reason. The
health messages are a
number each: the package that holds them needs a newer protobuf than Katib's messages allow.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tuner.errors import GantuneError
from tuner.katib.facts import GRPC_PORT, SUGGESTION_SERVICE
from tuner.katib.messages import katib_messages
from tuner.suggestion.service import Exhausted, Reply, Suggestions
from tuner.suggestion.stopping import Unavailable

api = katib_messages()
LARGEST_REQUEST = 64 << 20  # bytes
HANDLERS = 4  # threads: one computes, and the others answer the health check meanwhile
SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
log = logging.getLogger("tuner.suggestion")
Handler = Callable[[bytes, Any], bytes]


class Server:
    """A running server. `port` is the one that it listens on, which matters if 0 was asked for."""

    def __init__(self, port: int = GRPC_PORT, host: str = "[::]", db_manager: str = "") -> None:
        self._service = Suggestions(db_manager)
        self._server = grpc.server(
            ThreadPoolExecutor(HANDLERS, "handler"),
            options=[
                ("grpc.max_receive_message_length", LARGEST_REQUEST),
                ("grpc.so_reuseport", 0),
            ],
        )
        methods = {"GetSuggestions": self._suggest, "ValidateAlgorithmSettings": self._validate}
        self._serve(
            SUGGESTION_SERVICE, {name: _answering(name, method) for name, method in methods.items()}
        )
        self._serve("grpc.health.v1.Health", {"Check": lambda request, context: SERVING})
        self.port = self._server.add_insecure_port(f"{host}:{port}")
        self._server.start()

    def wait(self) -> None:
        """Block until the server was stopped."""
        self._server.wait_for_termination()

    def stop(self, grace: float | None = None) -> None:
        """Stop; running requests have `grace` seconds to finish."""
        self._server.stop(grace).wait()

    def _serve(self, service: str, handlers: dict[str, Handler]) -> None:
        methods = {
            name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, methods),)
        )

    def _suggest(self, data: bytes, context: Any) -> bytes:
        request = api.GetSuggestionsRequest.FromString(data)
        started = time.monotonic()
        reply = self._service.suggest(request, context.is_active)
        log.info(
            "%s: %d suggestions of %s for trials %s to %s, %d trials in the request, %.2f s",
            request.experiment.name,
            len(reply.suggestions),
            request.experiment.spec.algorithm.algorithm_name,
            *(
                next(iter(labels.values()))
                for _, labels in (reply.suggestions[0], reply.suggestions[-1])
            ),
            len(request.trials),
            time.monotonic() - started,
        )
        return _reply(reply, request.experiment.spec.algorithm.algorithm_name)

    def _validate(self, data: bytes, context: Any) -> bytes:
        self._service.validate(api.ValidateAlgorithmSettingsRequest.FromString(data).experiment)
        empty: bytes = api.ValidateAlgorithmSettingsReply().SerializeToString()
        return empty


def _reply(reply: Reply, algorithm: str) -> bytes:
    message = api.GetSuggestionsReply()
    for values, labels in reply.suggestions:
        suggestion = message.parameter_assignments.add()
        for name, value in values.items():
            suggestion.assignments.add(name=name, value=value)
        suggestion.labels.update(labels)
    message.algorithm.algorithm_name = algorithm
    for name, value in reply.settings.items():
        message.algorithm.algorithm_settings.add(name=name, value=value)
    data: bytes = message.SerializeToString()
    return data


def _answering(name: str, method: Handler) -> Handler:
    """Return the method with its errors as gRPC statuses, each logged in one line."""

    def answer(data: bytes, context: Any) -> bytes:
        try:
            return method(data, context)
        except DecodeError as error:
            code, message = (
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the request is not a message of {name}: {error}",
            )
        except Exhausted as error:
            code, message = grpc.StatusCode.FAILED_PRECONDITION, str(error)
        except Unavailable as error:
            code, message = grpc.StatusCode.UNAVAILABLE, str(error)
        except GantuneError as error:
            code, message = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except Exception as error:
            log.exception("%s failed", name)
            code, message = (
                grpc.StatusCode.INTERNAL,
                f"{name} failed: {type(error).__name__}: {error}",
            )
        message = " ".join(message.split())
        log.warning("%s: %s: %s", name, code.name, json.dumps(message))
        context.abort(code, message)
        raise AssertionError  # abort() raises

    return answer
