"""The best trial as flags and variables."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.samples import experiment
from tuner.errors import CommandError
from tuner.experiment import final
from tuner.experiment.command import Command

BOTH = {"lr": "lr", "bs": "bs"}
POINT = {"lr": 0.00042, "bs": 64}
PRINT_ARGV = "import json, sys; print(json.dumps(sys.argv[1:]))"


def test_only_the_flags_that_carry_parameters():
    command = ["python", "-m", "trainer"]
    args = [
        "--epochs=20",
        "--lr=${trialParameters.lr}",
        "--output-dir=/output/${trialSpec.Name}",
        "--bs=${trialParameters.bs}",
    ]
    assert final.flags(experiment(command, args=args, **BOTH), POINT) == ["--lr=0.00042", "--bs=64"]


def test_a_flag_and_its_value_as_two_elements():
    command = [
        "python",
        "train.py",
        "--verbose",
        "--lr",
        "${trialParameters.lr}",
        "--bs",
        "${trialParameters.bs}",
    ]
    assert final.flags(experiment(command, **BOTH), POINT) == ["--lr", "0.00042", "--bs", "64"]


def test_trial_parameter_may_rename_search_parameter():
    found = final.flags(experiment(["x", "--rate=${trialParameters.rate}"], rate="lr"), {"lr": 0.1})
    assert found == ["--rate=0.1"]


def test_an_element_that_carries_two():
    found = final.flags(
        experiment(["x", "--adam=${trialParameters.lr},${trialParameters.bs}"], **BOTH), POINT
    )
    assert found == ["--adam=0.00042,64"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (
            ["sh", "-c", "train --lr=${trialParameters.lr} --bs=${trialParameters.bs}"],
            "shell script",
        ),
        (["/bin/bash", "-c", "train ${trialParameters.lr} ${trialParameters.bs}"], "shell script"),
        (["train", "${trialParameters.lr}", "${trialParameters.bs}"], "place matters"),
        (["train", "--lr=1", "${trialParameters.lr}"], "place matters"),
        (["python", "-m", "${trialParameters.lr}"], "place matters"),
        (["train", "--lr=${trialParameters.lr}"], "carries bs"),
        (
            [
                "train",
                "--lr=${trialParameters.lr}",
                "--out=/o/${trialSpec.Name}/${trialParameters.bs}",
            ],
            "carries bs",
        ),
    ],
)
def test_values_unfit_for_flags_are_refused(command, says):
    with pytest.raises(CommandError, match=says) as error:
        final.flags(experiment(command, name="${trialSpec.Name}", **BOTH), POINT)
    assert "--format env or json" in str(error.value)


@pytest.mark.parametrize(
    ("command", "parameters", "form"),
    [
        (["train", "--lr=${trialParameters.lr}", "--bs=${trialParameters.bs}"], BOTH, "args"),
        (["sh", "-c", "train --lr=${trialParameters.lr} --bs=${trialParameters.bs}"], BOTH, "env"),
        (["sh", "-c", "train --lr=${trialParameters.lr}"], {"lr": "PATH"}, "json"),
    ],
)
def test_simplest_form_fits_the_command(command, parameters, form):
    point = dict.fromkeys(parameters.values(), 1)
    assert final.simplest_form(experiment(command, **parameters), point) == form


HOSTILE = [
    "; rm -rf /",
    "$(touch pwned)",
    "`touch pwned`",
    "a b",
    "'",
    '"',
    "*",
    "\n",
    "&& touch pwned",
    "-",
    "é",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_values_are_data_to_a_shell(value, tmp_path):
    line, split = final.quoted(
        final.flags(experiment(["x", "--act=${trialParameters.act}"], act="act"), {"act": value})
    )
    run = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -c {shlex.quote(PRINT_ARGV)} {line}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    import json

    assert json.loads(run.stdout) == [f"--act={value}"]
    assert list(tmp_path.iterdir()) == []
    assert split == (shlex.quote(f"--act={value}") != f"--act={value}")


@pytest.mark.parametrize("value", HOSTILE)
def test_variables_survive_eval(value, tmp_path):
    (name, text), *_ = final.variables(experiment(["x"]), {"act-fn": value}).items()
    run = subprocess.run(
        ["sh", "-c", f'eval {shlex.quote(f"{name}={shlex.quote(text)}")}; printf %s. "$act_fn"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"{value}."
    assert list(tmp_path.iterdir()) == []


def test_variables_have_the_names_that_the_container_uses():
    entries = [
        {"name": "LEARNING_RATE", "value": "${trialParameters.lr}"},
        {"name": "HOME", "value": "/tmp"},
    ]
    assert final.variables(experiment(["x"], env=entries, **BOTH), POINT) == {
        "LEARNING_RATE": "0.00042",
        "bs": "64",
    }


def test_two_parameters_cannot_share_a_variable():
    with pytest.raises(CommandError, match="variable a_b"):
        final.variables(experiment(["x"]), {"a-b": 1, "a_b": 2})


def test_trial_directory_may_lie_under_its_mount():
    command = Command(argv=("x", "--out=/output/a", "/tmp"), mounts=("/tmp", "/output"))
    assert command.inside(Path("/tmp/s")).argv == (
        "x",
        "--out=/tmp/s/mounts/output/a",
        "/tmp/s/mounts/tmp",
    )


def test_floats_read_back_exactly():
    value = 0.1 + 0.2
    (flag,) = final.flags(experiment(["x", "--lr=${trialParameters.lr}"], lr="lr"), {"lr": value})
    assert float(flag.removeprefix("--lr=")) == value


@pytest.mark.parametrize(
    "name", ["PATH", "path", "IFS", "LD_PRELOAD", "LD-PRELOAD", "BASH_ENV", "PYTHONPATH", "ENV"]
)
def test_env_refuses_reserved_variables(name: str) -> None:
    with pytest.raises(CommandError, match="use --format json"):
        final.variables(experiment(["x"]), {name: 1})


def test_env_refuses_reserved_container_variables() -> None:
    entries = [{"name": "LD_PRELOAD", "value": "${trialParameters.lr}"}]
    with pytest.raises(CommandError, match="LD_PRELOAD"):
        final.variables(experiment(["x"], env=entries, **BOTH), POINT)
