"""Each follow-up command that a message names can be run as it is printed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.text import Text
from ruamel.yaml import YAML

from tests.tuner import experiments
from tests.tuner.loopback import Loopback
from tuner.cli import main, repeat
from tuner.cli.console import SafeConsole
from tuner.client import Client
from tuner.commands import gantune as suggested
from tuner.store.studies import EngineKind

HINT = re.compile(
    r"`(gantune [^`]+)`|^(?:next|write the page|interrupted; to continue): (gantune .+)$",
    re.MULTILINE,
)
STORE = "my studies"  # a name that must be quoted


@pytest.fixture(autouse=True)
def fresh() -> None:
    repeat.forget()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a study in a store of its own; one of its trials has failed."""
    (tmp_path / "surface_trial.py").write_bytes(
        (experiments.TRIALS / "surface_trial.py").read_bytes()
    )
    args = [*experiments.ARGS, "--fail-above=4e-3"]
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(experiments.document("random", trials=6, args=args), file)
    return tmp_path


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def gantune(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run a command line in this process."""
    monkeypatch.chdir(home)
    monkeypatch.delenv("GANTUNE_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(home / "none")
    )

    def run(*argv: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["gantune", *argv])
        with pytest.raises(SystemExit) as ended:
            main(list(argv))
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run


def named(done: Done) -> set[str]:
    """The follow-up commands in what a command printed, but those with a placeholder."""
    found = {one or other for one, other in HINT.findall(f"{done.out}\n{done.err}")}
    return {command for command in found if not re.search(r"\b(FILE|NAME|COMMAND)\b", command)}


def test_named_commands_run_as_printed(gantune: Callable[..., Done], home: Path) -> None:
    store = ["--store", STORE]
    printed = [
        gantune("run", "study.yaml", "--local", *store),
        gantune("status", "study", *store),
        gantune("best", "study", *store),
        gantune("report", "study", *store),
        gantune("next", "study", "-o", "next.yaml", *store),
        gantune("stop", "study", *store),
        gantune("logs", "study", "--trial", "99", *store),
    ]
    commands = set().union(*map(named, printed))
    assert {command.split()[1] for command in commands} >= {
        "best",
        "next",
        "report",
        "status",
        "run",
    }, commands
    for command in sorted(commands):
        assert f"--store '{STORE}'" in command
        if command.split()[1] == "confirm":  # the study's program has no seed to vary
            continue
        done = gantune(*shlex.split(command)[1:])
        assert done.code == 0, (command, done.err)


def test_repair_of_a_journal_runs_as_printed(gantune: Callable[..., Done], home: Path) -> None:
    gantune("run", "study.yaml", "--local", "--store", STORE)
    journal = home / STORE / "local" / "study" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], b"{damaged\n", *lines[4:]]))
    (repair,) = named(gantune("status", "study", "--store", STORE))
    assert repair == f"gantune check-store study --repair --store '{STORE}'"
    assert gantune(*shlex.split(repair)[1:]).code == 0


def test_commands_without_options_stay_as_they_are(gantune: Callable[..., Done]) -> None:
    done = gantune("run", "study.yaml", "--local", "--max-trials", "1")
    assert "next: gantune best study --format args" in done.out
    assert "--store" not in done.out + done.err


def test_cluster_options_are_repeated(
    server: Loopback, kubeconfig: Path, tmp_path: Path, capsys: object
) -> None:
    server.replay("random-ok")
    with pytest.raises(SystemExit):
        main(["stop", "random-ok", "--context", "loopback", "-n", "gan", "--store", str(tmp_path)])
    said = capsys.readouterr().err  # type: ignore[attr-defined]
    (first, second) = re.findall("`(gantune [^`]+)`", said)
    assert first == f"gantune best random-ok --namespace gan --context loopback --store {tmp_path}"
    assert second == first.replace("best", "report")


def test_command_repeats_the_options_that_its_verb_takes(gantune: Callable[..., Done]) -> None:
    gantune("list", "--store", "s")
    assert str(suggested("status", "x")) == "gantune status x --store s"
    assert str(suggested("status", "x", "--store", "t")) == "gantune status x --store t"
    assert str(suggested("status", "x", "--store=t")) == "gantune status x --store=t"
    assert str(suggested("check", "x y.yaml")) == "gantune check 'x y.yaml'"
    assert str(suggested("nothing")) == "gantune nothing"
    gantune("list", "--store", "s", "--context", "c")
    assert str(suggested("retry", "x")) == "gantune retry x --store s"
    assert str(suggested("best", "x")) == "gantune best x --context c --store s"
    assert str(suggested("best", "x", "--local")) == "gantune best x --local --store s"
    gantune("list")
    assert str(suggested("best", "x")) == "gantune best x"


@pytest.mark.parametrize(
    "verb", ["logs", "stop", "watch", "delete", "extend", "status", "retry", "check-store"]
)
def test_unknown_study_is_the_same_everywhere(gantune: Callable[..., Done], verb: str) -> None:
    more = ["--max-trials", "9"] if verb == "extend" else []
    done = gantune(verb, "nope", *more)
    assert done.code == 2
    assert "no study 'nope' in .gantune" in done.err
    if verb in ("logs", "stop", "watch", "delete", "extend"):
        assert "a study on a cluster needs a kubeconfig" in done.err
        asked = gantune(verb, "nope", "--cluster", *more)
        assert (asked.code, "no cluster" in asked.err) == (6, True)


def test_chosen_number_of_trials_is_stored(gantune: Callable[..., Done], home: Path) -> None:
    def chosen() -> tuple[int | None, int]:
        client = Client(home / ".gantune")
        return client.experiment("study", EngineKind.LOCAL).max_trials, len(
            client.result("study", EngineKind.LOCAL).trials
        )

    gantune("run", "study.yaml", "--local", "--max-trials", "2")
    assert chosen() == (2, 2)
    gantune("run", "study.yaml", "--local")
    assert chosen() == (6, 6), "without the option, the manifest's number counts again"
    gantune("extend", "study", "--max-trials", "7")
    assert chosen() == (7, 6)
    gantune("run", "study.yaml", "--local")
    assert chosen() == (7, 7)
    study = Client(home / ".gantune").view("study", EngineKind.LOCAL)
    assert dict(study.record)["max trials"] == "7"


def test_line_with_a_command_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    console = SafeConsole(width=40)
    console.show(
        Text("part of the difference may be seed noise: run `gantune confirm study --top 3`")
    )
    console.show(Text("a line of more than forty columns that names no command"))
    said = capsys.readouterr().out
    assert "`gantune confirm study --top 3`\n" in said
    assert max(map(len, said.splitlines()[1:])) <= 40
