"""Serves pages of searches and keeps them up to date. Needs starlette and uvicorn (the `report` extra).

Below a random token there are the first page and one page for each study that it links to, each with
a route for its content if that is newer than what the browser has. A thread for each page reads the
studies and renders; requests only return what is ready.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

from tuner import report
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


Open: TypeAlias = "Callable[[str], Live]"


class Live:
    """The content of a page, renewed by a thread as long as the context is open.

    Args:
        load: Reads what the page shows.
        warn: Receives each new reason why that could not be read.
        render: Returns the title and the HTML of what was read.
    """

    def __init__(
        self,
        load: Callable[[], Sequence[Any]],
        warn: Callable[[str], None],
        render: Callable[[Sequence[Any]], tuple[str, str]] = report.content,
    ) -> None:
        self._load, self._warn, self._render = load, warn, render
        self._studies: Sequence[Any] | None = None
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
            self.title, self.body = self._render(studies)
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


class Pages:
    """The pages of one server: the first one, and those of studies, opened at the first request.

    Args:
        first: The first page.
        open_study: Opens the page of a study, by `ENGINE/NAME`. Raises GantuneError.
    """

    def __init__(self, first: Live, open_study: Open | None = None) -> None:
        self._first, self._open = first, open_study
        self._opened: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._context = ExitStack()

    def find(self, key: str) -> Live | None:
        """Return the page of a study, or the first page for ""; None for an unknown study."""
        if not key:
            return self._first
        if self._open is None:
            return None
        with self._lock:
            if key not in self._opened:
                try:
                    live = self._open(key)
                except GantuneError:
                    return None
                self._opened[key] = self._context.enter_context(live)
            return self._opened[key]

    def __enter__(self) -> Pages:
        self._context.enter_context(self._first)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


def serve(
    first: Live,
    *,
    host: str,
    port: int,
    started: Callable[[str], None],
    open_study: Open | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Raises UnsupportedError without the extra.

    Args:
        first: The first page.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        started: Receives the address of the first page.
        open_study: Opens the page of a study that the first page links to.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise _no_server() from error
    token = secrets.token_urlsafe(16)
    pages = Pages(first, open_study)
    app = application(pages, token, host)
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise UnsupportedError(
            f"port {port} of {host} cannot be opened ({error.strerror}). Choose another one with --port or --host"
        ) from error
    with listening, pages:
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listening.getsockname()[1]}/{token}/")
        config = uvicorn.Config(
            app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listening])


def application(pages: Pages, token: str, host: str) -> Starlette:
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

    def wanted(request: Request) -> Live | None:
        given = request.path_params
        if not secrets.compare_digest(str(given["token"]).encode(), token.encode()):
            return None
        return pages.find(f"{given['engine']}/{given['name']}" if "name" in given else "")

    def page(request: Request) -> Response:
        if (live := wanted(request)) is None:
            return PlainTextResponse("not found\n", 404)
        document = html.document(live.title, live.body, plots=True, version=live.version)
        return HTMLResponse(document, headers=headers)

    def content(request: Request) -> Response:
        if (live := wanted(request)) is None:
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
        routes=[
            Route(f"{prefix}/{end}", endpoint)
            for prefix in ("/{token}", "/{token}/{engine}/{name}")
            for end, endpoint in (("", page), ("content", content))
        ],
        middleware=[guard],
    )


def _no_server() -> UnsupportedError:
    return UnsupportedError(
        "--serve needs starlette and uvicorn, which are not installed: pip install 'gan-tuner[report]'"
    )
