"""`gantune report [NAME...] --serve`: pages of searches that may still run, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tuner.cli.terminal import plain, say
from tuner.errors import StudyError, StudyNotFound

if TYPE_CHECKING:
    from tuner.api import Client, EngineKind
    from tuner.report import View
    from tuner.result import Result


CLUSTER_INTERVAL = 5.0  # seconds between two requests for the state of a study on a cluster


class Loader:
    """Reads the studies again whenever it is called; those on a cluster are brought up to date first."""

    def __init__(self, facade: Client, names: Sequence[str], local: bool | None) -> None:
        from tuner.cli.views import locate

        self._facade = facade
        self._places = [locate(facade, name, local=local) for name in names]
        self._warned: set[str] = set()
        for place in self._places:
            self._look(*place)
        self._asked = time.monotonic()

    def __call__(self) -> list[View]:
        """Return what the page shows. A cluster that does not answer leaves what was collected last."""
        from tuner.api import EngineKind
        from tuner.cli.views import view

        if time.monotonic() - self._asked > CLUSTER_INTERVAL:
            for name, kind in self._places:
                if kind is EngineKind.KATIB:
                    self._facade.refresh(name)
                    self._look(name, kind)
            self._asked = time.monotonic()
        return [view(self._facade, name, kind) for name, kind in self._places]

    def _look(self, name: str, kind: EngineKind) -> None:
        from tuner.cli.views import look

        missing = look(self._facade, name, kind)
        if missing and missing not in self._warned:
            self._warned.add(missing)
            say(f"warning: {plain(missing)}", err=True)


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
