"""Flags: what they accept, what they refuse and how, and that a flag overrides a preset."""

import dataclasses
import subprocess
import sys

import pytest

from trainer.config import PRESETS, Config, UsageError, flag


def test_command_line_of_the_article():
    c = Config.parse(["--lr", "1e-3", "--bs", "64"])
    assert (c.lr, c.bs, c.preset, c.g_hidden) == (1e-3, 64, "stable", (128, 256))
    assert Config.parse(["--lr=1e-3", "--bs=64"]) == c


def test_katib_double_becomes_an_int():
    assert Config.parse(["--bs=64.0", "--n-critic=2e0"]).bs == 64


@pytest.mark.parametrize("preset", PRESETS)
def test_flags_override_the_preset(preset):
    c = Config.parse([f"--preset={preset}"])
    assert {name: getattr(c, name) for name in PRESETS[preset]} == PRESETS[preset]
    assert Config.parse(
        ["--beta1=0.25", f"--preset={preset}", "--r1-gamma=0.125"]
    ) == dataclasses.replace(c, beta1=0.25, r1_gamma=0.125)


def test_defaults_are_the_stable_preset():
    assert Config() == Config.parse([]) == Config.parse(["--preset=stable"])


def test_widths_depend_on_the_model_unless_given():
    assert Config.parse(["--model=dcgan"]).d_hidden == (32, 64)
    assert Config.parse(["--model=dcgan", "--d-hidden=8,16,32"]).d_hidden == (8, 16, 32)
    assert Config.parse(["--model=dcgan", "--g-hidden=8,16,32"]).d_hidden == (32, 16, 8)


def test_augment_is_a_list_of_names():
    assert Config.parse(["--augment=none"]).augment == Config().augment == ()
    assert Config.parse(["--augment=cutout,color"]).augment == ("cutout", "color")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lr=0"], ["--lr=0", "at least 1e-08"]),
        (["--lr=nan"], ["--lr=nan", "at least"]),
        (["--beta1=1"], ["--beta1=1", "below 1"]),
        (["--bs=64.5"], ["--bs", "64.5", "whole number"]),
        (["--bs=1"], ["--bs=1", "at least 2"]),
        (["--loss=gan"], ["--loss=gan", "ns, saturating"]),
        (["--g-hidden=128,0"], ["--g-hidden=128,0", "at least 1"]),
        (["--g-hidden="], ["--g-hidden", "whole numbers"]),
        (["--loss=hinge", "--label-smoothing=.1"], ["--label-smoothing=0.1", "--loss=hinge"]),
        (["--precision=tf32", "--device=cpu"], ["--precision=tf32", "--device=cuda"]),
        (["--augment=color,blur"], ["--augment=color,blur", "color, translation, cutout"]),
        (["--augment="], ["--augment=", "none"]),
        (["--model=resnet", "--spectral-norm"], ["--spectral-norm", "--model=resnet"]),
        (["--resume=must"], ["--resume=must", "--output-dir"]),
        (["--lear=1"], ["--lear=1", "--help"]),
        (["--batch", "64"], ["--batch"]),
        (["--lr"], ["--lr"]),
        (["--metrics-port=70000"], ["--metrics-port=70000", "at most 65535"]),
        (["--bs=inf"], ["--bs"]),
    ],
)
def test_bad_flag_names_value_and_rule(argv, words):
    with pytest.raises(UsageError) as caught:
        Config.parse(argv)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_flags_have_help_and_bounds(capsys):
    with pytest.raises(SystemExit):
        Config.parse(["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert flag(field.name) in text
        assert field.metadata["help"]
        if field.type in (int, float, int | None, float | None):
            assert "low" in field.metadata
    assert "generator's loss" in text  # which quantity `loss` is


def test_all_flags_are_json():
    import json

    flags = Config.parse(["--output-dir=a", "--g-hidden=3"]).as_flags()
    assert json.loads(json.dumps(flags)) == flags
    assert flags["g_hidden"] == [3]


def test_help_does_not_import_torch():
    code = (
        "import sys; from trainer.__main__ import main; codes = [main(['--help']), main(['--lr=9e9'])];"
        "sys.exit(codes != [0, 2] or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
