"""Spectral normalisation of stacked weights by power iteration: Miyato et al. 2018 (arXiv 1802.05957).

Shapes: E trials. Weights are [E, in, out] or [E, out, in, 3, 3]; u holds one right singular vector
per weight.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor

from trainer.models import Params, Shapes


def singular_vectors(shapes: Shapes) -> Shapes:
    """Return name -> shape of the power iteration's vector of each weight."""
    return {
        k: (_matrix(torch.empty(1, *s, device="meta")).shape[2],)
        for k, s in shapes.items()
        if k.endswith("weight")
    }


@torch.no_grad()
def power_iteration(p: Params, u: Params) -> None:
    """Do one step of the power iteration on each weight and store the result in u."""
    for name, vector in u.items():
        w = _matrix(p[name])
        v = F.normalize(w @ vector.unsqueeze(2), dim=1)
        vector.copy_(F.normalize(w.mT @ v, dim=1).squeeze(2))


def normalise(p: Params, u: Params) -> Params:
    """Divide each weight by its largest singular value |W u|, where u is its right singular vector."""
    out = dict(p)
    for name, vector in u.items():
        sigma = (_matrix(p[name]) @ vector.unsqueeze(2)).norm(dim=1)
        out[name] = p[name] / sigma.view(-1, *[1] * (p[name].ndim - 1)).clamp_min(1e-12)
    return out


def _matrix(w: Tensor) -> Tensor:
    """View a weight as [E, rows, columns]."""
    return w if w.ndim == 3 else w.flatten(2)
