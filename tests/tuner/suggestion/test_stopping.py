"""Early stopping on a cluster: the service sends the thresholds of the local engine, and trials obey them."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.tuner import dbserver
from tests.tuner.dbserver import DbServer
from tests.tuner.experiments import ARGS, TRIALS, document, run
from tests.tuner.suggestion.controller import Controller, Trial, serving
from tuner import manifest
from tuner.result import TrialState
from tuner.samplers.labels import NOT_STOPPED_SETTING, STOP_LABEL
from tuner.space import text
from tuner.suggestion import stopping
from tuner.suggestion.server import Server

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "early-stopping.md"
REPORTS = 6


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def database() -> Iterator[DbServer]:
    with dbserver.database() as running:
        yield running


@pytest.fixture
def server(database: DbServer) -> Iterator[Server]:
    with serving(database.address) as running:
        yield running


def curve(values: dict[str, str]) -> list[float]:
    """What surface_trial reports."""
    best = 10 + abs(math.log10(float(values["lr"])) + 3.3) * 30 + abs(float(values["bs"]) - 64) / 16
    return [best * (1 + 1 / (report + 1)) for report in range(REPORTS)]


def documented(label: str) -> Callable[[int, float], bool]:
    """The function of docs/how-to/early-stopping.md, for a program that has this label."""
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[:1]
    environment = f"os.environ['GAN_TUNER_STOP_AT'] = {label!r}\n"
    names: dict[str, Any] = {}
    exec(code.replace("\n\n", f"\n{environment}\n", 1), names)
    missed: Callable[[int, float], bool] = names["missed"]
    return missed


@dataclass
class Obeying(Controller):
    """Katib with trials that stop themselves, and report to the DB manager."""

    database: DbServer | None = None

    def finish(self, trial: Trial) -> None:
        assert self.database is not None
        missed, log, best = documented(trial.labels.get(STOP_LABEL, "")), [], math.inf
        for report, value in enumerate(curve(trial.values), 1):
            best = min(best, value)
            log.append(("fd", repr(value)))
            if missed(report, best):
                log.append(("stopped", "1"))
                break
        self.database.held[trial.name] = log
        trial.condition, trial.value = "SUCCEEDED", [v for name, v in log if name == "fd"][-1]

    def outcomes(self) -> list[tuple[dict[str, str], bool, float]]:
        """The values of each trial, whether it was stopped, and its objective."""
        assert self.database is not None
        return [
            (trial.values, ("stopped", "1") in self.database.held[trial.name], float(trial.value))
            for trial in self.trials
        ]


def with_setting(what: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    """What `gantune submit` makes of it."""
    what = json.loads(json.dumps(what))
    what["spec"]["algorithm"]["algorithmSettings"].append({"name": name, "value": value})
    what["spec"]["objective"]["additionalMetricNames"].append("stopped")
    return what


def searched(algorithm: str = "random", **options: Any) -> dict[str, Any]:
    options.setdefault("parallel", 1)
    return document(algorithm, args=[*ARGS, f"--reports={REPORTS}"], trials=14, **options)


FACTORS = '{"2": 1.5, "4": 1.2}'
MEDIAN = {"start_step": "2", "min_trials_required": "3"}
CASES = {
    "factors": (searched(), FACTORS, with_setting(searched(), "stop_factors", FACTORS)),
    "factors-parallel": (
        searched("tpe", parallel=3),
        FACTORS,
        with_setting(searched("tpe", parallel=3), "stop_factors", FACTORS),
    ),
    "medianstop": (
        searched(early_stopping=MEDIAN),
        "",
        with_setting(searched(), "medianstop", json.dumps(MEDIAN)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_engines_stop_the_same_trials(
    case: str, tmp_path: Path, server: Server, database: DbServer
) -> None:
    written, factors, sent = CASES[case]
    if factors:
        written = written | {
            "metadata": written["metadata"] | {"annotations": {"gan-tuner/stop-factors": factors}}
        }
    local = run(tmp_path, manifest.from_document(written), workers=2)
    ours = [
        (
            {name: text(value) for name, value in trial.parameters.items()},
            trial.state is TrialState.EARLY_STOPPED,
            trial.metrics["fd"],
        )
        for trial in local.trials
    ]
    controller = Obeying(sent, lambda values: None, database=database)
    controller.run(lambda: server)
    assert controller.outcomes() == ours
    assert 2 <= sum(stopped for _, stopped, _ in ours) <= 12
    assert len(database.calls) == len(set(database.calls))  # each curve is read once


def test_hyperband_stops_the_same_trials(
    tmp_path: Path, server: Server, database: DbServer
) -> None:
    what = searched("hyperband", parallel=9)
    local = run(tmp_path, manifest.from_document(what), workers=2, seed=7)
    what = with_setting(what, "random_state", "7")
    controller = Obeying(what, lambda values: None, database=database)
    controller.run(lambda: server)
    assert [(stopped, value) for _, stopped, value in controller.outcomes()] == [
        (trial.state is TrialState.EARLY_STOPPED, trial.metrics["fd"]) for trial in local.trials
    ]
    assert any(stopped for _, stopped, _ in controller.outcomes())


def test_restarted_service_stops_the_same_trials(database: DbServer) -> None:
    def controller() -> Obeying:
        return Obeying(CASES["factors"][2], lambda values: None, database=database)

    undisturbed, restarted = controller(), controller()
    with serving(database.address) as server:
        undisturbed.run(lambda: server)
    expected = undisturbed.outcomes()
    while len(restarted.trials) < 14:
        with serving(database.address) as server:
            restarted.fill(server)
        restarted.finish(restarted.running[0])
    assert restarted.outcomes() == expected


def test_silent_db_manager_delays_and_then_stops_nothing(
    server: Server, database: DbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Obeying(CASES["factors"][2], lambda values: None, database=database)
    answer = database.answer
    database.answer = lambda trial, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    controller.fill(server)
    controller.finish(controller.trials[0])
    with pytest.raises(grpc.RpcError) as raised:
        controller.fill(server)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Katib will ask again" in raised.value.details()
    monkeypatch.setattr(stopping, "PATIENCE", 0)
    for _ in range(4):
        controller.fill(server)
        controller.finish(controller.running[0])
    assert "earlier curves are not available" in controller.settings[NOT_STOPPED_SETTING]
    assert not any(trial.labels.get(STOP_LABEL) for trial in controller.trials)
    database.answer = answer
    controller.fill(server)
    assert controller.settings[NOT_STOPPED_SETTING] == ""
    assert controller.trials[-1].labels[STOP_LABEL]


def test_trials_are_stopped_only_if_this_is_recorded(server: Server, database: DbServer) -> None:
    what = with_setting(searched(), "stop_factors", FACTORS)
    what["spec"]["objective"]["additionalMetricNames"].remove("stopped")
    controller = Obeying(what, lambda values: None, database=database)
    controller.run(lambda: server)
    assert "add stopped to additionalMetricNames" in controller.settings[NOT_STOPPED_SETTING]
    assert not any(stopped for _, stopped, _ in controller.outcomes())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("stop_factors", "4", "must be a JSON object"),
        ("medianstop", "[]", "must be a JSON object"),
        ("medianstop", '{"start_step": "0"}', "start_step of medianstop must be a whole number"),
        ("medianstop", '{"steps": "1"}', "setting steps of medianstop is not available"),
    ],
)
def test_unusable_rule_is_refused(name: str, value: str, reason: str, server: Server) -> None:
    controller = Controller(with_setting(searched(), name, value), lambda values: 1.0)
    with pytest.raises(grpc.RpcError) as raised:
        controller.fill(server)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in raised.value.details()


@pytest.mark.parametrize(
    ("label", "report", "best", "stops"),
    [
        ("", 1, 9.0, False),
        ("2gt6_4gt2.4e-05", 4, 2.5e-5, True),
        ("2gt6_4gt2.4e-05", 4, 2.4e-5, False),
        ("2gt6_4gt2.4", 2, 6.5, True),
        ("2gt6_4gt2.4", 3, 6.5, False),
        ("12lt-0.5", 12, -0.6, True),
        ("12lt-0.5", 12, -0.4, False),
    ],
)
def test_documented_programs_obey(label: str, report: int, best: float, stops: bool) -> None:
    assert documented(label)(report, best) is stops
    [shell] = re.findall(r"^ *missed\(\).*?^ *\}$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["sh", "-c", f"{shell}\nmissed {report} {best}"],
        check=False,
        env={"GAN_TUNER_STOP_AT": label, "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode == 0) is stops
