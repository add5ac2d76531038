"""GAN losses on logits: pure functions of the discriminator's scores, for E trials side by side.

Shapes: E trials, B batch. `real` and `fake` are [E, B] scores D(x) and D(G(z)); a loss is [E], the mean over B.
`smooth` [E, 1] is one-sided label smoothing (Salimans et al. 2016, arXiv 1606.03498): real images have the target
1 - smooth. Names: ns and saturating, Goodfellow et al. 2014 (arXiv 1406.2661), minus their sign where it is maximised;
hinge, Lim & Ye 2017 (arXiv 1705.02894); lsgan, Mao et al. 2017 (arXiv 1611.04076); wgan, Arjovsky et al. 2017
(arXiv 1701.07875), to be used with a gradient penalty or spectral norm in place of clipping; rpgan, relativistic
pairing, Jolicoeur-Martineau 2019 and R3GAN (arXiv 2501.05441): the i-th real against the i-th generated image.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

NEEDS_REAL = frozenset({"rpgan"})
"""Losses whose generator part looks at D(x) too."""


def d_loss(name: str, real: Tensor, fake: Tensor, smooth: Tensor) -> Tensor:
    """The discriminator's loss [E]; penalties are apart."""
    if name in ("ns", "saturating"):
        return (_towards(real, smooth) + softplus(fake)).mean(1)
    if name == "rpgan":
        return _towards(real - fake, smooth).mean(1)
    if name == "hinge":
        return ((1 - real).relu() + (1 + fake).relu()).mean(1)
    if name == "lsgan":
        return ((real - (1 - smooth)).square() + fake.square()).mean(1) / 2
    if name == "wgan":
        return (fake - real).mean(1)
    raise ValueError(name)


def g_loss(name: str, fake: Tensor, real: Tensor | None) -> Tensor:
    """The generator's loss [E]. `real` is needed by the losses in NEEDS_REAL and ignored by the others."""
    if name == "ns":
        return softplus(-fake).mean(1)
    if name == "saturating":
        return -softplus(fake).mean(1)
    if name == "rpgan" and real is not None:
        return softplus(real - fake).mean(1)
    if name in ("hinge", "wgan"):
        return -fake.mean(1)
    if name == "lsgan":
        return (fake - 1).square().mean(1) / 2
    raise ValueError(name)


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Mean over B of |dD/dx|^2 / 2, [E]: R1 on real images (arXiv 1801.04406, eq. 9 without gamma), R2 on fake ones."""
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return slope.flatten(2).square().sum(2).mean(1) / 2


def _towards(logits: Tensor, smooth: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(logits) with the target 1 - smooth: softplus(-x) + smooth * x."""
    return softplus(-logits) + smooth * logits
