"""`gantune init` reads flags from help texts of several libraries, and from command lines."""

from __future__ import annotations

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from tuner.init.usage import Flag, from_help, given

ARGPARSE = """usage: train.py [-h] [--lr LR] [--bs BS] [--opt {adam,sgd}]

Train {a model}.

options:
  -h, --help            show this help message and exit
  --lr LR               learning rate (default: 0.001)
  --bs BS, --batch-size BS
                        images per step (default: 64)
  --opt {adam,sgd}      optimizer (default: adam)
  --data DIR            where the data is (default: None)
  --amp, --no-amp       mixed precision (default: False)
"""
CLICK = """Usage: train.py [OPTIONS]

Options:
  --lr FLOAT              Learning rate.  [default: 0.001]
  -b, --bs INTEGER RANGE  Batch size.  [default: 64; 1<=x<=512]
  --opt [adam|sgd]        [default: adam]
  --help                  Show this message and exit.
"""
TYPER = """\x1b[1m Usage: train.py [OPTIONS] \x1b[0m
╭─ Options ────────────────────────────────────────────────────────╮
│ --lr               FLOAT    Learning rate. [default: 0.001]      │
│ --bs               INTEGER  Batch size. [default: 64]            │
│ --opt              TEXT     Optimizer. [default: adam]           │
│ --help                      Show this message and exit.          │
╰──────────────────────────────────────────────────────────────────╯
"""
ABSL = """Train a model.
flags:

train.py:
  --bs: Images per step.
    (default: '64')
    (an integer)
  --lr: Learning rate.
    (default: '0.001')
    (a number)
"""
OWN = """options:
  --bs BS                     batch size [images; at least 2 and at most
                              65536; default 64]
"""


@pytest.mark.parametrize(
    "text", [ARGPARSE, CLICK, TYPER, ABSL], ids=["argparse", "click", "typer", "absl"]
)
def test_reads_flags_of_library(text: str) -> None:
    found = {flag.name: flag for flag in from_help(text)}
    lr, bs = found["lr"], found.get("bs") or found["batch_size"]
    assert (lr.value, lr.number) == ("0.001", 0.001)
    assert (bs.value, bs.number) == ("64", 64.0)
    assert "help" not in found


def test_reads_choices_and_spellings() -> None:
    found = {flag.name: flag for flag in from_help(ARGPARSE)}
    assert found["opt"] == Flag(("--opt",), "adam", ("adam", "sgd"))
    assert found["batch_size"].names == ("--bs", "--batch-size")
    assert found["data"].value == ""
    assert {flag.name: flag.choices for flag in from_help(CLICK)}["opt"] == ("adam", "sgd")
    assert {flag.name: flag.integer for flag in from_help(CLICK)} == {
        "lr": False,
        "bs": True,
        "opt": False,
    }
    assert from_help(OWN)[0].value == "64"


def test_command_line_wins_over_default() -> None:
    known = from_help(ARGPARSE)
    argv = [
        "python",
        "-m",
        "train",
        "--lr=1e-2",
        "--bs",
        "128",
        "--shift",
        "-0.5",
        "--amp",
        "--opt",
        "sgd",
        "data.csv",
    ]
    places = {place.flag.name: place for place in given(argv, known)}
    assert list(places) == ["lr", "batch_size", "shift", "opt"]
    assert (places["lr"].flag.value, places["lr"].index, places["lr"].prefix) == (
        "1e-2",
        3,
        "--lr=",
    )
    assert (places["batch_size"].flag.value, places["batch_size"].index) == ("128", 5)
    assert places["shift"].flag.number == -0.5
    assert places["opt"].flag.choices == ("adam", "sgd")
    assert all(place.flag.given for place in places.values())


def test_last_of_repeated_flags_counts() -> None:
    (place,) = given(["train", "--lr", "1", "--lr", "2"], [])
    assert (place.flag.value, place.index) == ("2", 4)


@examples(st.text(alphabet=st.sampled_from("-{}[]|(),:. \n\tdefault=aLR0│"), max_size=400))
def test_any_text_is_read(text: str) -> None:
    for flag in from_help(text):
        assert flag.names
        assert flag.name
