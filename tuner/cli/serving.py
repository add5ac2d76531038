"""`gantune report [NAME...] --serve`: pages of searches that may still run, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tuner.cli.terminal import plain, say
from tuner.errors import StudyError, StudyNotFound

if TYPE_CHECKING:
    from tuner.analysis.view import View
    from tuner.client import Client
    from tuner.result import Result


CLUSTER_INTERVAL = 5.0  # seconds between two requests for the state of a study on a cluster


class Loader:
    """Reads the studies again at each call, after an update of those on a cluster."""

    def __init__(self, facade: Client, names: Sequence[str], local: bool | None) -> None:
        from tuner.cli.options import refresh

        self._facade = facade
        self._studies = [refresh(facade, name, local=local, curves=True) for name in names]
        self._refreshed = time.monotonic()

    def __call__(self) -> list[View]:
        """Return what the page shows; without an answer of the cluster, what was collected last."""
        from tuner.client import EngineKind

        if time.monotonic() - self._refreshed > CLUSTER_INTERVAL:
            for name, kind in self._studies:
                if kind is EngineKind.KATIB:
                    self._facade.refresh(name, local=False, curves=True)
            self._refreshed = time.monotonic()
        return [self._facade.view(name, kind) for name, kind in self._studies]


class Listing:
    """Reads the results of all studies in the store at each call."""

    def __init__(self, facade: Client) -> None:
        self._facade = facade

    def __call__(self) -> list[tuple[Result, str]]:
        """Return the results with their engines. A study that cannot be read is left out."""
        found = []
        for name, kind in self._facade.store.all():
            with suppress(StudyError):
                found.append((self._facade.result(name, kind), kind.value))
        return found


def run(facade: Client, names: Sequence[str], *, local: bool | None, host: str, port: int) -> None:
    """Serve until Ctrl-C. Raises StudyNotFound before the server starts, and UnsupportedError without the extra."""
    from tuner.report import listing
    from tuner.report.serve import ANY_HOST, LOOPBACK, Live, serve

    def warn(message: str) -> None:
        say(f"warning: {plain(message)}", err=True)

    def open_study(key: str) -> Live:
        if key not in {f"{kind.value}/{name}" for name, kind in facade.store.all()}:
            raise StudyNotFound(f"there is no study {key}")
        return Live(Loader(facade, [key], None), warn)

    def started(address: str) -> None:
        say(address)
        say("the page follows the search; Ctrl-C stops the server", err=True)

    if host not in LOOPBACK:
        others = "every network of this machine" if host in ANY_HOST else host
        warn(
            f"the page is readable from {others} for everybody who has the address; it is not encrypted"
        )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        if names:
            first = Live(Loader(facade, names, local), warn)
            serve(first, host=host, port=port, started=started)
        else:
            first = Live(Listing(facade), warn, listing)
            serve(first, host=host, port=port, started=started, open_study=open_study)
    say("stopped", err=True)
