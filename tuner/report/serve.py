"""Serves the page while a search runs, and keeps it up to date. Needs starlette and uvicorn (the `serve` extra).

Two routes below a random token: the page, and its content if it is newer than what the browser has.
A thread reads the studies and renders; requests only return what is ready.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tuner import report
from tuner.analysis.view import View
from tuner.errors import GantuneError, UnsupportedError
from tuner.report import html

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

INTERVAL = 2.0  # seconds between two looks at the studies
# the thread rests this many times as long as it worked, so that it takes a tenth of a core at most
REST = 9.0
ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104 - to recognise them, not to listen there
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Live:
    """The page's content, renewed by a thread as long as the context is open.

    Args:
        load: Reads the studies.
        warn: Receives each new reason why they could not be read.
    """

    def __init__(self, load: Callable[[], Sequence[View]], warn: Callable[[str], None]) -> None:
        self._load, self._warn = load, warn
        self._studies: Sequence[View] = ()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        self._trouble = ""
        self.version = 0
        self.title, self.body = "", ""
        self.renew()

    def renew(self) -> None:
        """Read the studies, and render them if they have changed. Raises GantuneError."""
        studies = self._load()
        if studies != self._studies:
            self.title, self.body = report.content(studies)
            self._studies = studies
            self.version += 1

    def _run(self) -> None:
        took = 0.0
        while not self._stop.wait(max(INTERVAL, REST * took)):
            start = time.monotonic()
            try:
                self.renew()
                self._trouble = ""
            except GantuneError as error:  # the study was deleted, or its file is being replaced
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._warn(self._trouble)
            took = time.monotonic() - start

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def serve(live: Live, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `started` receives the address. Raises UnsupportedError without the extra."""
    try:
        import uvicorn
    except ImportError as error:
        raise _no_server() from error
    token = secrets.token_urlsafe(16)
    app = application(live, token, host)
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise UnsupportedError(
            f"port {port} of {host} cannot be opened ({error.strerror}). Choose another one with --port or --host"
        ) from error
    with listening, live:
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listening.getsockname()[1]}/{token}/")
        config = uvicorn.Config(
            app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listening])


def application(live: Live, token: str, host: str) -> Starlette:
    """Return the web application. Requests with another token or a foreign Host header get no content."""
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
        from starlette.routing import Route
    except ImportError as error:
        raise _no_server() from error
    headers = {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    def allowed(request: Request) -> bool:
        return secrets.compare_digest(str(request.path_params["token"]).encode(), token.encode())

    def page(request: Request) -> Response:
        if not allowed(request):
            return PlainTextResponse("not found\n", 404)
        document = html.document(live.title, live.body, plots=True, version=live.version)
        return HTMLResponse(document, headers=headers)

    def content(request: Request) -> Response:
        if not allowed(request):
            return PlainTextResponse("not found\n", 404)
        known = request.query_params.get("version") == str(live.version)
        shape = {"version": live.version} | (
            {} if known else {"title": live.title, "body": live.body}
        )
        return JSONResponse(shape, headers=headers)

    hosts = ["*"] if host in ANY_HOST else sorted({*LOOPBACK, "[::1]", host, f"[{host}]"})
    # no DNS rebinding
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    return Starlette(
        routes=[Route("/{token}/", page), Route("/{token}/content", content)], middleware=[guard]
    )


def _no_server() -> UnsupportedError:
    return UnsupportedError(
        "--serve needs starlette and uvicorn, which are not installed: pip install 'gan-tuner[report]'"
    )
