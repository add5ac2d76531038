"""The GAN losses as one table: LOSSES[name] holds the help text and the formulas. The flags and the step read it.

Shapes: E trials, B batch. `real` and `fake` are the discriminator's scores (logits) D(x) and
D(G(z)), [E, B]. Each formula returns one term per image, [E, B]; a loss is the mean over B, [E].
`smooth` [E, 1] is one-sided label smoothing (Salimans et al. 2016, arXiv 1606.03498): real images
have the target 1 - smooth. To add a loss, add a row. This module does not import torch, so that
`python -m trainer --help` can read the table quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """One loss. `pairs`: its generator formula uses D(x). `smooths`: it has a target that label smoothing can move."""

    help: str
    d_terms: Callable[[Tensor, Tensor, Tensor], Tensor]  # (real, fake, smooth)
    g_terms: Callable[[Tensor, Tensor], Tensor]  # (fake, real); real is fake where `pairs` is False
    pairs: bool = False
    smooths: bool = True

    def discriminator(self, real: Tensor, fake: Tensor, smooth: Tensor) -> Tensor:
        """Return the discriminator's loss [E] without penalties."""
        return self.d_terms(real, fake, smooth).mean(1)

    def generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Return the generator's loss [E]. `real` is required if `pairs` is True."""
        return self.g_terms(fake, fake if real is None else real).mean(1)


def _softplus(x: Tensor) -> Tensor:
    from torch.nn.functional import softplus

    return softplus(x)


def _target(logits: Tensor, smooth: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(logits) with the target 1 - smooth: softplus(-x) + smooth * x."""
    return _softplus(-logits) + smooth * logits


LOSSES: dict[str, Loss] = {
    # Goodfellow et al. 2014, arXiv 1406.2661: both variants, negated where the paper maximises
    "ns": Loss(
        "non-saturating cross-entropy",
        lambda r, f, s: _target(r, s) + _softplus(f),
        lambda f, r: _softplus(-f),
    ),
    "saturating": Loss(
        "minimax cross-entropy",
        lambda r, f, s: _target(r, s) + _softplus(f),
        lambda f, r: -_softplus(f),
    ),
    # Lim and Ye 2017, arXiv 1705.02894
    "hinge": Loss(
        "hinge", lambda r, f, s: (1 - r).relu() + (1 + f).relu(), lambda f, r: -f, smooths=False
    ),
    # Mao et al. 2017, arXiv 1611.04076
    "lsgan": Loss(
        "least squares",
        lambda r, f, s: ((r - (1 - s)).square() + f.square()) / 2,
        lambda f, r: (f - 1).square() / 2,
    ),
    # Arjovsky et al. 2017, arXiv 1701.07875, with a gradient penalty or spectral norm instead of
    # clipping
    "wgan": Loss("Wasserstein, unclipped", lambda r, f, s: f - r, lambda f, r: -f, smooths=False),
    # Jolicoeur-Martineau 2019; R3GAN, arXiv 2501.05441: the i-th real against the i-th generated
    # image
    "rpgan": Loss(
        "relativistic pairing (R3GAN)",
        lambda r, f, s: _target(r - f, s),
        lambda f, r: _softplus(r - f),
        pairs=True,
    ),
}
