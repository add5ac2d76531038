"""The losses compared with torch's own, and the penalty with its closed form."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainer.config import Config, UsageError
from trainer.losses import LOSSES
from trainer.step import gradient_penalty


def scores(seed: int) -> Tensor:
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(seed)) * 3


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, target), reduction="none"
    ).mean(1)


def test_ns_is_the_cross_entropy():
    real, fake, none = scores(0), scores(1), torch.zeros(3, 1)
    torch.testing.assert_close(
        LOSSES["ns"].discriminator(real, fake, none), bce(real, 1) + bce(fake, 0)
    )
    torch.testing.assert_close(LOSSES["ns"].generator(fake, None), bce(fake, 1))
    torch.testing.assert_close(LOSSES["saturating"].generator(fake, None), -bce(fake, 0))


def test_smoothing_moves_each_trials_target():
    real, fake, smooth = scores(0), scores(1), torch.tensor([[0.0], [0.1], [0.3]])
    got = LOSSES["ns"].discriminator(real, fake, smooth)
    for e, target in enumerate((1.0, 0.9, 0.7)):
        torch.testing.assert_close(got[e], (bce(real, target) + bce(fake, 0))[e])
    got = LOSSES["lsgan"].discriminator(real, fake, smooth)
    torch.testing.assert_close(
        got[1], ((real[1] - 0.9).square().mean() + fake[1].square().mean()) / 2
    )


def test_rpgan_uses_differences_only():
    real, fake, none = scores(0), scores(1), torch.zeros(3, 1)
    torch.testing.assert_close(LOSSES["rpgan"].discriminator(real, fake, none), bce(real - fake, 1))
    torch.testing.assert_close(LOSSES["rpgan"].generator(fake, real), bce(fake - real, 1))
    torch.testing.assert_close(
        LOSSES["rpgan"].discriminator(real + 7, fake + 7, none),
        LOSSES["rpgan"].discriminator(real, fake, none),
    )


def test_hinge_is_flat_beyond_the_margin():
    none = torch.zeros(1, 1)
    assert (
        LOSSES["hinge"]
        .discriminator(torch.full((1, 4), 2.0), torch.full((1, 4), -1.5), none)
        .item()
        == 0
    )
    assert LOSSES["hinge"].discriminator(torch.zeros(1, 4), torch.zeros(1, 4), none).item() == 2


@pytest.mark.parametrize("name", LOSSES)
def test_each_step_improves_its_own_side(name):
    """D's gradient raises D(x) and lowers D(G(z)); G's raises D(G(z))."""
    real, fake = torch.zeros(1, 8, requires_grad=True), torch.zeros(1, 8, requires_grad=True)
    d_real, d_fake = torch.autograd.grad(
        LOSSES[name].discriminator(real, fake, torch.zeros(1, 1)).sum(), (real, fake)
    )
    assert (d_real < 0).all()
    if name == "lsgan":
        fake = torch.full((1, 8), 0.5, requires_grad=True)
        (d_fake,) = torch.autograd.grad(
            LOSSES[name].discriminator(real, fake, torch.zeros(1, 1)).sum(), fake
        )
    assert (d_fake > 0).all()
    (g_fake,) = torch.autograd.grad(LOSSES[name].generator(fake, real).sum(), fake)
    assert (g_fake < 0).all()


def test_penalty_of_a_linear_critic():
    w = torch.randn(2, 12, 1)
    x = torch.randn(2, 5, 1, 3, 4, requires_grad=True)
    penalty = gradient_penalty(torch.bmm(x.flatten(2), w).squeeze(2), x)
    torch.testing.assert_close(penalty, w.square().sum((1, 2)) / 2)


def test_unknown_loss_is_refused():
    with pytest.raises(UsageError, match=r"--loss=wasserstein: must be one of .*ns, "):
        Config.parse(["--loss=wasserstein"])


@pytest.mark.parametrize("name", LOSSES)
def test_flag_and_help_list_every_loss(name, capsys):
    assert Config.parse([f"--loss={name}"]).loss == name
    with pytest.raises(SystemExit):
        Config.parse(["--help"])
    told = "".join(capsys.readouterr().out.split())  # argparse breaks lines at hyphens too
    assert "".join(f"{name}: {LOSSES[name].help}".split()) in told


def test_smoothing_is_refused_without_a_target():
    """LOSSES says which losses have a target; the flags follow it."""
    for name, loss in LOSSES.items():
        argv = [f"--loss={name}", "--label-smoothing=0.1"]
        if loss.smooths:
            assert Config.parse(argv).label_smoothing == 0.1
        else:
            with pytest.raises(UsageError, match=f"--loss={name} has no target to smooth"):
                Config.parse(argv)


def test_documentation_lists_every_loss():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "trainer.md").read_text(
        encoding="utf-8"
    )
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (yes|no) \|$", text, re.MULTILINE)
    assert rows == [
        (name, loss.help, "yes" if loss.smooths else "no") for name, loss in LOSSES.items()
    ]
