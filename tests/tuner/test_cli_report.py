"""`gantune report`: the command lines that it copies."""

from __future__ import annotations

import shlex

import pytest

from tests.tuner.samples import experiment
from tuner.cli import training
from tuner.manifest import load

POINT = {"lr": 1e-3, "bs": 64, "loss": "it's", "beta1": "0.5"}
CARRIED = {"lr": "lr", "bs": "bs", "loss": "loss", "beta1": "beta1"}
FLAGS = ["--lr=${trialParameters.lr}", "--bs", "${trialParameters.bs}", "--loss=${trialParameters.loss}"]


def test_command_of_the_manifest_trains_anywhere() -> None:
    line = training.line(load("manifests/bayes.yaml"), {"lr": 0.002, "bs": 77})
    assert line == "python -m trainer --lr=0.002 --bs=77 --epochs=100 --seed=0 --evals=10 --resume=auto"


def test_values_are_quoted_for_the_shell() -> None:
    made = experiment(["python", "a b.py"], args=[*FLAGS, "--b1=${trialParameters.beta1}"], **CARRIED)
    assert shlex.split(training.line(made, POINT)) == [
        "python", "a b.py", "--lr=0.001", "--bs", "64", "--loss=it's", "--b1=0.5"
    ]  # fmt: skip


def test_variables_precede_the_command() -> None:
    made = experiment(["x", *FLAGS], env=[{"name": "BETA", "value": "${trialParameters.beta1}"}], **CARRIED)
    assert training.line(made, POINT).startswith("BETA=0.5 x --lr=0.001")


def test_shell_scripts_are_filled_in() -> None:
    made = experiment(
        ["sh", "-c", "train ${trialParameters.lr} ${trialParameters.trial}"], lr="lr", trial="${trialSpec.Name}"
    )
    assert training.line(made, {"lr": 0.5}) == "sh -c 'train 0.5 training'"


@pytest.mark.parametrize("command", [["x"], []])
def test_no_command_without_the_parameters(command: list[str]) -> None:
    assert training.line(experiment(command, **CARRIED), POINT) == ""
