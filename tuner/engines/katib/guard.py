"""Turns answers of an API server that have an unexpected shape into one ClusterError."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

from tuner.errors import ClusterError

_SHAPE = (
    AttributeError,
    TypeError,
    KeyError,
    IndexError,
    ValueError,
    OverflowError,
    RecursionError,
)
F = TypeVar("F", bound=Callable[..., Any])


def guarded(method: F) -> F:
    """Let a method, or an iterator that it returns, raise ClusterError where an object makes no sense.

    What the API server sends is data: a value of a wrong type is the server's fault, or that of a
    version which this client does not know. The original exception is the cause.
    """
    if inspect.isgeneratorfunction(method):

        @wraps(method)
        def generate(*args: Any, **given: Any) -> Iterator[Any]:
            try:
                yield from method(*args, **given)
            except _SHAPE as error:
                raise _refused(method.__name__, error) from error

        return cast("F", generate)

    @wraps(method)
    def call(*args: Any, **given: Any) -> Any:
        try:
            return method(*args, **given)
        except _SHAPE as error:
            raise _refused(method.__name__, error) from error

    return cast("F", call)


def _refused(verb: str, error: Exception) -> ClusterError:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return ClusterError(
        f"{verb}: the cluster sent an object in a shape that this version of gantune does not understand ({what})"
    )
