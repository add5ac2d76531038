"""The generator and the discriminator as functions of stacked parameters: E networks in one call, including E = 1.

Shapes: E trials, B batch, Z latent, C channels, H x W pixels. An image batch is [E, B, C, H, W] in
[-1, 1]. Parameters are a dict of name -> [E, ...]; matrices are [E, in, out], biases [E, 1, out],
kernels [E, out, in, 3, 3].

mlp    The article's networks. Generator: z -> 128 -> 256 -> pixels with ReLU and Tanh. Discriminator:
       pixels -> 256 -> 128 -> 1 logit with LeakyReLU 0.2.
dcgan  A small version of Radford et al. 2015 (arXiv 1511.06434) without batch norm (as in R3GAN,
arXiv 2501.05441).
       Each entry of g_hidden doubles the resolution by repetition; each entry of d_hidden halves it
       with stride 2.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor

Params = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Arch:
    """The settings that determine the shapes of both networks. All trials of one stack share them."""

    model: str
    image: tuple[int, int, int]  # C, H, W
    latent_dim: int
    g_hidden: tuple[int, ...]
    d_hidden: tuple[int, ...]
    spectral_norm: bool = False

    def generator_shapes(self) -> Shapes:
        """Return name -> shape for one trial."""
        c, h, w = self.image
        if self.model == "mlp":
            return _dense(self.latent_dim, *self.g_hidden, c * h * w)
        h0, w0 = self._coarse()
        first = _dense(self.latent_dim, self.g_hidden[0] * h0 * w0)
        return first | _convs(*self.g_hidden, c)

    def discriminator_shapes(self) -> Shapes:
        """Return name -> shape for one trial."""
        c, h, w = self.image
        if self.model == "mlp":
            return _dense(c * h * w, *self.d_hidden, 1)
        for _ in self.d_hidden:
            h, w = (h + 1) // 2, (w + 1) // 2
        return _convs(c, *self.d_hidden) | _dense(self.d_hidden[-1] * h * w, 1)

    def generate(self, p: Params, z: Tensor) -> Tensor:
        """Map noise [E, B, Z] to images [E, B, C, H, W] in [-1, 1]."""
        e, b = z.shape[:2]
        if self.model == "mlp":
            for i in range(len(self.g_hidden)):
                z = _linear(p, i, z).relu()
            return _linear(p, len(self.g_hidden), z).tanh().view(e, b, *self.image)
        x = _linear(p, 0, z).relu().view(e, b, self.g_hidden[0], *self._coarse())
        for i in range(len(self.g_hidden)):
            x = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
            x = _conv(p, i, x, stride=1)
            x = x.relu() if i < len(self.g_hidden) - 1 else x.tanh()
        return x[:, :, :, : self.image[1], : self.image[2]]

    def discriminate(self, p: Params, x: Tensor) -> Tensor:
        """Map images [E, B, C, H, W] to logits [E, B]."""
        if self.model == "mlp":
            x = x.flatten(2)
            for i in range(len(self.d_hidden)):
                x = F.leaky_relu(_linear(p, i, x), 0.2)
            return _linear(p, len(self.d_hidden), x).squeeze(2)
        for i in range(len(self.d_hidden)):
            x = F.leaky_relu(_conv(p, i, x, stride=2), 0.2)
        return _linear(p, 0, x.flatten(2)).squeeze(2)

    def _coarse(self) -> tuple[int, int]:
        """H and W of dcgan's first resolution. `generate` crops the result to the size of the image."""
        scale = 2 ** len(self.g_hidden)
        return math.ceil(self.image[1] / scale), math.ceil(self.image[2] / scale)


def initialise(into: Params, generators: Sequence[torch.Generator]) -> None:
    """Fill [E, ...] parameters in place, trial by trial: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch's layers do."""
    for e, generator in enumerate(generators):
        bound = 1.0
        for name, p in into.items():
            if name.endswith("weight"):
                bound = 1 / math.sqrt(p.shape[1] if p.ndim == 3 else math.prod(p.shape[2:]))
            draw = torch.empty(p.shape[1:], device=generator.device)
            p[e].copy_(draw.uniform_(-bound, bound, generator=generator))


def _dense(*sizes: int) -> Shapes:
    shapes: Shapes = {}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        shapes |= {f"linear{i}.weight": (a, b), f"linear{i}.bias": (1, b)}
    return shapes


def _convs(*channels: int) -> Shapes:
    shapes: Shapes = {}
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        shapes |= {f"conv{i}.weight": (b, a, 3, 3), f"conv{i}.bias": (b,)}
    return shapes


def _linear(p: Params, i: int, x: Tensor) -> Tensor:
    return torch.baddbmm(p[f"linear{i}.bias"], x, p[f"linear{i}.weight"])


def _conv(p: Params, i: int, x: Tensor, stride: int) -> Tensor:
    """3x3 convolution of E trials as E groups of one: [E, B, in, H, W] -> [E, B, out, H', W']."""
    w, bias = p[f"conv{i}.weight"], p[f"conv{i}.bias"]
    e, b = x.shape[:2]
    grouped = x.transpose(0, 1).flatten(1, 2)
    y = F.conv2d(grouped, w.flatten(0, 1), bias.flatten(), stride=stride, padding=1, groups=e)
    return y.view(b, e, w.shape[1], *y.shape[2:]).transpose(0, 1)
