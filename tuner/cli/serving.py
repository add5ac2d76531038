"""`gantune report NAME --serve`: the page of searches that may still run, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tuner.cli.terminal import plain, say

if TYPE_CHECKING:
    from tuner.api import Client, EngineKind
    from tuner.report import View


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


def run(facade: Client, names: Sequence[str], *, local: bool | None, host: str, port: int) -> None:
    """Serve until Ctrl-C. Raises StudyNotFound before the server starts, and UnsupportedError without the extra."""
    from tuner.report.serve import ANY_HOST, LOOPBACK, Live, serve

    def warn(message: str) -> None:
        say(f"warning: {plain(message)}", err=True)

    def started(address: str) -> None:
        say(address)
        say("the page follows the search; Ctrl-C stops the server", err=True)

    if host not in LOOPBACK:
        others = "every network of this machine" if host in ANY_HOST else host
        warn(
            f"the page is readable from {others} for everybody who has the address; it is not encrypted"
        )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        serve(Live(Loader(facade, names, local), warn), host=host, port=port, started=started)
    say("stopped", err=True)
