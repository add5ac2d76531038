"""`gantune report`: the summary, the page, and the command lines that it copies."""

from __future__ import annotations

import html
import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.cli.test_cli import MANIFEST, SCRIPT, gantune, home
from tests.tuner.loopback import Loopback
from tests.tuner.samples import OBJECTIVE, PARAMETERS, experiment, search
from tuner.cli.serving import Loader
from tuner.client import Client
from tuner.experiment import final
from tuner.manifest import load
from tuner.result import StudyState
from tuner.store.studies import EngineKind, Store

__all__ = ["home"]  # a fixture
POINT = {"lr": 1e-3, "bs": 64, "loss": "it's", "beta1": "0.5"}
CARRIED = {"lr": "lr", "bs": "bs", "loss": "loss", "beta1": "beta1"}
FLAGS = [
    "--lr=${trialParameters.lr}",
    "--bs",
    "${trialParameters.bs}",
    "--loss=${trialParameters.loss}",
]


def test_command_of_the_manifest_trains_anywhere() -> None:
    line = final.CommandLine(load("manifests/bayes.yaml")).line({"lr": 0.002, "bs": 77})
    assert (
        line
        == "python -m trainer --lr=0.002 --bs=77 --epochs=100 --seed=0 --evals=5 --samples=10000 --resume=auto"
    )


def test_values_are_quoted_for_the_shell() -> None:
    args = ["--note=a b", *FLAGS, "--b1=${trialParameters.beta1}"]
    made = experiment(["python", "train.py"], args=args, **CARRIED)
    assert shlex.split(final.CommandLine(made).line(POINT)) == [
        "python", "train.py", "--note=a b", "--lr=0.001", "--bs", "64", "--loss=it's", "--b1=0.5"
    ]  # fmt: skip


def test_variables_precede_the_command() -> None:
    made = experiment(
        ["x", *FLAGS], env=[{"name": "BETA", "value": "${trialParameters.beta1}"}], **CARRIED
    )
    assert final.CommandLine(made).line(POINT).startswith("BETA=0.5 x --lr=0.001")


def test_shell_scripts_are_filled_in() -> None:
    made = experiment(
        ["sh", "-c", "train ${trialParameters.lr} ${trialParameters.trial}"],
        lr="lr",
        trial="${trialSpec.Name}",
    )
    assert final.CommandLine(made).line({"lr": 0.5}) == "sh -c 'train 0.5 training'"


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "echo ${trialParameters.loss}"],
        ["bash", "-ec", 'echo "${trialParameters.loss}"'],
        ["python", "-c", "print('${trialParameters.loss}')"],
        ["echo ${trialParameters.loss}"],
        ["echo", "$(LOSS)", "&&", "true"],
    ],
)
def test_command_with_a_value_that_could_be_code_is_not_shown(
    command: list[str], tmp_path: Path
) -> None:
    entries = [{"name": "LOSS", "value": "${trialParameters.loss}"}]
    trainer = final.CommandLine(experiment(command, env=entries, loss="loss"))
    for value in ("$(touch X)", "'; touch X; '", "a b", "`touch X`"):
        assert trainer.line({"loss": value}) == ""
    line = trainer.line({"loss": "hinge"})
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "hinge\n"


@pytest.mark.parametrize("value", ["$(touch X)", "'; touch X; '", "a b", "`touch X`", "\n", "-n é"])
def test_copied_command_passes_any_value_as_data(value: str, tmp_path: Path) -> None:
    entries = [{"name": "LOSS", "value": "${trialParameters.loss}"}]
    for command in (
        ["printf", "%s.", "${trialParameters.loss}"],
        ["printf", "%s.", "$(LOSS)"],
        ["sh", "-c", 'printf %s. "$LOSS"'],
        ["sh", "-c", 'printf %s. "$1"', "sh", "${trialParameters.loss}"],
    ):
        line = final.CommandLine(experiment(command, env=entries, loss="loss")).line(
            {"loss": value}
        )
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{value}."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["x"], []])
def test_no_command_without_the_parameters(command: list[str]) -> None:
    assert final.CommandLine(experiment(command, **CARRIED)).line(POINT) == ""


@pytest.fixture
def stored(home: Path) -> Path:
    """A store with a study of twenty trials that was collected from a cluster."""
    studies = Store(home / ".gantune").of(EngineKind.KATIB)
    made = load("manifests/random.yaml")
    studies.submit(replace(made, parameters=PARAMETERS, objective=OBJECTIVE))
    studies.save_result(replace(search(20), name=made.name))
    return home


def test_summary_names_best_importances_and_page(stored: Path) -> None:
    code, out, err = gantune(stored, "report", "gan-random")
    assert code == 0, err
    assert "best fd" in out
    assert "no baseline to compare with" in out
    assert any(level in out for level in "▁▂▃▄▅▆▇█")
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 80
    assert "next: gantune confirm gan-random" in out
    assert "parameter importances" in out
    assert out.index("lr ") < out.index("bs ")
    assert "write the page: gantune report gan-random -o report.html" in err
    assert not list(stored.glob("*.html"))


def test_summary_says_what_was_gained(stored: Path) -> None:
    studies = Store(stored / ".gantune").of(EngineKind.KATIB)
    studies.save_result(
        replace(search(20), name="gan-random", baseline=search(20).trials[1].parameters)
    )
    code, out, err = gantune(stored, "report", "gan-random")
    assert code == 0, err
    assert "better than the baseline" in " ".join(out.split())


def test_writes_page_to_a_file_and_to_stdout(stored: Path) -> None:
    code, out, err = gantune(stored, "report", "gan-random", "-o", "page.html")
    assert (code, out) == (0, ""), err
    assert "page.html: 20 trials of gan-random" in err
    code, out, _ = gantune(stored, "report", "gan-random", "-o", "-")
    assert code == 0
    assert out.startswith("<!doctype html>")


def test_compares_studies_of_both_engines(stored: Path) -> None:
    (stored / "trial.sh").write_text(SCRIPT)
    (stored / "toy.yaml").write_text(
        MANIFEST.format(name="gan-random", count=4, script=stored / "trial.sh")
    )
    assert gantune(stored, "run", "toy.yaml", "--local")[0] == 0
    code, _, err = gantune(stored, "report", "gan-random")
    assert code == 2
    assert "--local or --cluster" in err
    code, _, err = gantune(
        stored, "report", "local/gan-random", "katib/gan-random", "-o", "both.html"
    )
    assert code == 0, err
    text = (stored / "both.html").read_text()
    assert "gan-random (local)" in text
    assert "gan-random (katib)" in text
    code, out, _ = gantune(stored, "report", "local/gan-random", "katib/gan-random")
    assert code == 0
    first = " ".join(out.split("\n\n")[0].split())
    assert "gan-random (local)" in first
    assert "gan-random (katib)" in first
    assert "is better than" in first
    assert "max trials" in out


def test_copied_command_trains_the_trial_again(home: Path) -> None:
    code, _, err = gantune(home, "run", "toy.yaml", "--local")
    assert code == 0, err
    code, _, err = gantune(home, "report", "toy", "-o", "page.html")
    assert code == 0, err
    text = html.unescape((home / "page.html").read_text())
    best = json.loads(gantune(home, "best", "toy", "--format", "json")[1])
    line = next(
        line
        for line in re.findall(r'data-command="(sh [^"]*)"', text)
        if repr(best["parameters"]["lr"]) in line
    )
    run = subprocess.run(line, shell=True, cwd=home, capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == f"fd={best['metrics']['fd']!r}"
    assert not (home / "pwned").exists()


def test_served_cluster_study_is_refreshed(
    server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.cli.serving.CLUSTER_INTERVAL", 0.0)
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    steps = server.steps("random-ok", "gan")
    for _ in range(3):
        next(steps)
    client = Client(tmp_path, namespace="gan", notify=lambda message: None)
    load_again = Loader(client, ["random-ok"], None)
    assert load_again()[0].result.state is StudyState.RUNNING
    for _ in steps:
        pass
    found = load_again()[0].result
    assert found.state is StudyState.SUCCEEDED
    assert len(found.trials) == 6
