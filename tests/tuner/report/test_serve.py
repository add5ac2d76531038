"""The served page: a token and a Host header are needed, it follows a search, and Ctrl-C stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.cli.test_cli import gantune, home, start
from tests.tuner.samples import experiment, search
from tuner.errors import StudyError, UnsupportedError
from tuner.report import View
from tuner.report.serve import Live, serve

__all__ = ["home"]  # a fixture
pytest.importorskip("uvicorn", reason="the server is an extra: pip install 'gan-tuner[report]'")


@pytest.fixture
def running(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A local search whose first two trials wait for the file `wait` to disappear."""
    (home.parent / "wait").touch()
    (home / "wait").touch()
    process = start(home, "run", "toy.yaml", "--local", "--workers", "2")
    assert process.stdout is not None
    assert "started" in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def served(
    home: Path, running: subprocess.Popen[str]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a server for that search, and its process."""
    process = start(home, "report", "toy", "--serve")
    assert process.stdout is not None
    yield process.stdout.readline().strip(), process
    process.kill()
    process.communicate()


def get(address: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def test_serves_the_page_to_those_with_the_token(served: tuple[str, subprocess.Popen[str]]) -> None:
    address, process = served
    assert address.startswith("http://127.0.0.1:")
    status, text, headers = get(address)
    assert status == 200
    assert "0 of 4 trials finished" in text
    assert "connect-src 'self'" in text
    assert headers["cache-control"] == "no-store"
    status, text, _ = get(f"{address}content?version=1")
    assert (status, json.loads(text)) == (200, {"version": 1}) or json.loads(text)["version"] > 1
    root = address.rsplit("/", 2)[0]
    for wrong in (f"{root}/", f"{root}/x/", f"{root}/x/content", address[:-2] + "/"):
        assert get(wrong)[0] == 404
    assert get(address, Host="evil.example")[0] == 400
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "stopped"


def test_browser_follows_the_search(
    home: Path, served: tuple[str, subprocess.Popen[str]], window: Callable[..., Any]
) -> None:
    address, _ = served
    opened = window(allowed=address)
    opened.page.goto(address)
    assert opened.page.locator(".progress").inner_text().strip() == "0 of 4 trials finished"
    opened.page.get_by_label("Filter the trials").fill("succeeded")
    for path in (home / "wait", home.parent / "wait"):
        path.unlink()
    opened.page.get_by_text("Succeeded (", exact=False).first.wait_for(timeout=60_000)
    assert opened.page.locator(".progress").count() == 0
    assert opened.page.get_by_label("Filter the trials").input_value() == "succeeded"
    assert opened.page.locator(".count").inner_text() == "4 of 4 trials"
    opened.page.locator(".plot[data-drawn]").first.wait_for()
    assert opened.faults == []


def test_serves_all_studies_of_the_store(home: Path) -> None:
    assert gantune(home, "run", "toy.yaml", "--local")[0] == 0
    process = start(home, "report", "--serve")
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        status, text, _ = get(address)
        assert status == 200
        assert 'href="local/toy/"' in text
        assert "Succeeded" in text
        status, text, _ = get(f"{address}local/toy/")
        assert status == 200
        assert "toy: minimise fd" in text
        assert get(f"{address}local/toy/content?version=1")[1] == '{"version":1}'
        root = address.rsplit("/", 2)[0]
        wrong = "local/other/", "katib/toy/", "local/..%2Ftoy/", "local/toy/x"
        assert {get(address + path)[0] for path in wrong} == {404}
        assert get(f"{root}/x/local/toy/")[0] == 404
        assert get(f"{address}local/toy/", Host="evil.example")[0] == 400
    finally:
        process.kill()
        process.communicate()


def test_live_content_keeps_its_version_without_changes() -> None:
    found = [View(search(3), experiment(["x"]))]
    warnings: list[str] = []
    live = Live(lambda: found, warnings.append)
    live.renew()
    assert live.version == 1
    found = [View(search(4), experiment(["x"]))]
    live.renew()
    assert live.version == 2
    assert live.title == "gan-x: minimise fd"
    assert "minimise fd" in live.body


def test_live_content_survives_a_missing_study(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("tuner.report.serve.INTERVAL", 0.01)
    calls, warnings, twice = [], [], threading.Event()

    def load() -> list[View]:
        calls.append(1)
        if len(calls) > 3:
            twice.set()
        if len(calls) > 1:
            raise StudyError("it is gone")
        return [View(search(3), experiment(["x"]))]

    with Live(load, warnings.append) as live:
        assert twice.wait(10)
    assert warnings == ["it is gone"]
    assert live.version == 1


def test_used_port_is_refused(home: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        live = Live(lambda: [View(search(3), experiment(["x"]))], print)
        with pytest.raises(UnsupportedError, match="cannot be opened"):
            serve(live, host="127.0.0.1", port=taken.getsockname()[1], started=print)


def test_unknown_study_starts_no_server(home: Path) -> None:
    code, out, err = gantune(home, "report", "nothing", "--serve")
    assert (code, out) == (2, "")
    assert "no study 'nothing'" in err


def test_missing_server_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from tests.tuner.samples import experiment, search\n"
        "from tuner.report import View\n"
        "from tuner.report.serve import Live, serve\n"
        "from tuner.errors import UnsupportedError\n"
        "live = Live(lambda: [View(search(3), experiment(['x']))], print)\n"
        "try: serve(live, host='127.0.0.1', port=0, started=print)\n"
        "except UnsupportedError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert run.stdout.strip().endswith("pip install 'gan-tuner[report]'")
