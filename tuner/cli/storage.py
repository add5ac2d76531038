"""`gantune export` and `gantune dashboard`: a study for other tools."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click

from tuner.cli.interrupts import STOPPED_BY
from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    ensure_free,
    force_option,
    store_option,
    study_names,
)
from tuner.cli.terminal import say
from tuner.errors import UnsupportedError

# the keys of tuner.export.FORMATS, without its import
FORMATS = ("csv", "json", "parquet", "optuna", "yaml")


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option("--to", "form", type=click.Choice(FORMATS), required=True, help="Choose the format.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file. [default: NAME with the ending of the format]",
)
@force_option
@engine_option
@cluster_options
@store_option
def export(
    name: str,
    form: str,
    output: Path | None,
    force: bool,
    local: bool | None,
    store_dir: Path,
    **where: Any,
) -> None:
    """Write the trials of the study NAME to a file that other tools read.

    \b
    csv      one row for each trial
    json     the result, with learning curves
    parquet  one row for each trial, with types; needs the extra [export]
    optuna   an Optuna storage (SQLite) for optuna-dashboard and optuna.load_study
    yaml     the result, with learning curves
    """
    from tuner.cli.study import read
    from tuner.export import FORMATS, write

    facade = client(store_dir, **where)
    result, kind = read(facade, name, local=local)
    path = output or Path(f"{name}{FORMATS[form].suffix}")
    ensure_free(path, force)
    if path.exists():
        path.unlink()
    study = facade.study(name, kind, images=False)
    write(path, form, study.result, study.experiment, study.curves)
    say(f"{path}: {len(result.trials)} trials of {name}, {FORMATS[form].about}", err=True)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=study_names)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Listen on this port.",
)
@engine_option
@cluster_options
@store_option
def dashboard(
    names: tuple[str, ...], port: int, local: bool | None, store_dir: Path, **where: Any
) -> None:
    """Show studies in optuna-dashboard, on this machine only, until Ctrl-C.

    The dashboard shows the trials of this moment. Needs the extra [dashboard].
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UnsupportedError(
            "optuna-dashboard is not installed: pip install 'gan-tuner[dashboard]', or use `gantune report`"
        ) from error
    from optuna.storages import InMemoryStorage

    from tuner.cli.study import read
    from tuner.export.storage import fill

    facade, storage = client(store_dir, **where), InMemoryStorage()
    for name in names:
        study = facade.study(name, read(facade, name, local=local)[1], images=False)
        fill(storage, study.result, study.experiment, study.curves)
    with _Server(("127.0.0.1", port), _Quiet) as server:
        server.set_app(wsgi(storage))
        address = f"http://127.0.0.1:{server.server_port}/dashboard"
        say(f"{address} shows {', '.join(names)}; Ctrl-C stops it", err=True)
        # threads inherit it: no request swallows Ctrl-C
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPED_BY)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        signal.sigwait(STOPPED_BY)
        server.shutdown()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request: the dashboard asks for several things at once."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
        """Do nothing."""
