"""The generator and the discriminator as functions of stacked parameters: E networks in one call, including E = 1.

Shapes: E trials, B batch, Z latent, C channels, H x W pixels. An image batch is [E, B, C, H, W] in
[-1, 1]. Parameters are a dict of name -> [E, ...]; matrices are [E, in, out], biases [E, 1, out],
kernels [E, out, in per group, K, K].

mlp     The article's networks. Generator: z -> 128 -> 256 -> pixels with ReLU and Tanh. Discriminator:
        pixels -> 256 -> 128 -> 1 logit with LeakyReLU 0.2.
dcgan   A small version of Radford et al. 2015 (arXiv 1511.06434) without batch norm. Each entry of
        g_hidden doubles the resolution by repetition; each entry of d_hidden halves it with stride 2.
resnet  A small version of R3GAN (Huang et al. 2025, arXiv 2501.05441). Each entry of g_hidden and
        d_hidden is one resolution with one residual block: 1x1 to twice the channels, grouped 3x3, 1x1
        back, LeakyReLU 0.2 between them, no normalisation. Between the entries, bilinear resampling by
        a factor of 2 and a 1x1 convolution.
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

EXPANSION, GROUP = (
    2,
    16,
)  # R3GAN: inner channels of a block over its outer ones, and channels per group


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
        first = _dense(self.latent_dim, self.g_hidden[0] * math.prod(self._coarse()))
        if self.model == "resnet":
            return first | _residual(*self.g_hidden) | _colours(self.g_hidden[-1], c)
        return first | _convs(*self.g_hidden, c)

    def discriminator_shapes(self) -> Shapes:
        """Return name -> shape for one trial."""
        c, h, w = self.image
        if self.model == "mlp":
            return _dense(c * h * w, *self.d_hidden, 1)
        residual = self.model == "resnet"
        for _ in self.d_hidden[residual:]:
            h, w = (h + 1) // 2, (w + 1) // 2
        last = _dense(self.d_hidden[-1] * h * w, 1)
        if residual:
            return _colours(c, self.d_hidden[0]) | _residual(*self.d_hidden) | last
        return _convs(c, *self.d_hidden) | last

    def generate(self, p: Params, z: Tensor) -> Tensor:
        """Map noise [E, B, Z] to images [E, B, C, H, W] in [-1, 1]."""
        e, b = z.shape[:2]
        if self.model == "mlp":
            for i in range(len(self.g_hidden)):
                z = _linear(p, i, z).relu()
            return _linear(p, len(self.g_hidden), z).tanh().view(e, b, *self.image)
        x = _linear(p, 0, z).view(e, b, self.g_hidden[0], *self._coarse())
        if self.model == "resnet":
            for i in range(len(self.g_hidden)):
                if i:
                    x = _double(_double(_mix(p, f"change{i - 1}", x), 3), 4)
                x = _block(p, i, x)
            x = _mix(p, "colours", x)
        else:
            for i in range(len(self.g_hidden)):
                x = x.relu().repeat_interleave(2, 3).repeat_interleave(2, 4)
                x = _conv(p, f"conv{i}", x)
        return x[:, :, :, : self.image[1], : self.image[2]].tanh()

    def discriminate(self, p: Params, x: Tensor) -> Tensor:
        """Map images [E, B, C, H, W] to logits [E, B]."""
        if self.model == "mlp":
            x = x.flatten(2)
            for i in range(len(self.d_hidden)):
                x = F.leaky_relu(_linear(p, i, x), 0.2)
            return _linear(p, len(self.d_hidden), x).squeeze(2)
        if self.model == "resnet":
            x = _mix(p, "colours", x)
            for i in range(len(self.d_hidden)):
                if i:
                    # the mean of 2 x 2 pixels is the bilinear interpolation at their centre
                    x = F.avg_pool2d(x.flatten(0, 1), 2, ceil_mode=True).unflatten(0, x.shape[:2])
                    x = _mix(p, f"change{i - 1}", x)
                x = _block(p, i, x)
        else:
            for i in range(len(self.d_hidden)):
                x = F.leaky_relu(_conv(p, f"conv{i}", x, stride=2), 0.2)
        return _linear(p, 0, x.flatten(2)).squeeze(2)

    def _coarse(self) -> tuple[int, int]:
        """H and W of the generator's first resolution. `generate` crops the result to the size of the image."""
        scale = 2 ** (len(self.g_hidden) - (self.model == "resnet"))
        return math.ceil(self.image[1] / scale), math.ceil(self.image[2] / scale)


def initialise(into: Params, generators: Sequence[torch.Generator]) -> None:
    """Fill [E, ...] parameters in place, trial by trial: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch's layers do.

    The layers of resnet keep the variance of their input instead, and each block starts as the
    identity: fix-up initialisation (Zhang et al. 2019, arXiv 1901.09321) as in R3GAN.
    """
    blocks = sum(name.endswith("project.weight") for name in into)
    for e, generator in enumerate(generators):
        bound = 1.0
        for name, p in into.items():
            if name.endswith("weight"):
                bound = 1 / math.sqrt(p.shape[1] if p.ndim == 3 else math.prod(p.shape[2:]))
            draw = torch.empty(p.shape[1:], device=generator.device)
            draw.uniform_(-bound, bound, generator=generator)
            p[e].copy_(draw * _fix_up(name, blocks) if blocks else draw)


def _fix_up(name: str, blocks: int) -> float:
    """Return the factor on torch's initial values for a parameter of a network with residual blocks."""
    if name.endswith(("bias", "project.weight")):
        return 0.0
    # of three layers, the last is zero: the other two share L^(-1/2), and LeakyReLU's gain is 1.39
    inner = (2 / (1 + 0.2**2)) ** 0.5 * blocks**-0.25 if name.startswith("block") else 1.0
    return 3**0.5 * inner


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


def _residual(*channels: int) -> Shapes:
    """Return the shapes of one block per resolution, and of the changes of channels between them."""
    shapes: Shapes = {}
    for i, c in enumerate(channels):
        inner = EXPANSION * c
        shapes |= {f"block{i}.expand.weight": (inner, c, 1, 1), f"block{i}.expand.bias": (inner,)}
        shapes |= {f"block{i}.conv.weight": (inner, math.gcd(inner, GROUP), 3, 3)}
        shapes |= {f"block{i}.conv.bias": (inner,), f"block{i}.project.weight": (c, inner, 1, 1)}
    for i, (a, b) in enumerate(itertools.pairwise(channels)):
        shapes[f"change{i}.weight"] = (b, a, 1, 1)
    return shapes


def _colours(a: int, b: int) -> Shapes:
    return {"colours.weight": (b, a, 1, 1), "colours.bias": (b,)}


def _linear(p: Params, i: int, x: Tensor) -> Tensor:
    return torch.baddbmm(p[f"linear{i}.bias"], x, p[f"linear{i}.weight"])


def _conv(p: Params, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """3x3 convolution of E trials as groups of one call: [E, B, in, H, W] -> [E, B, out, H', W']."""
    w, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    e, b, channels = x.shape[:3]
    grouped, groups = x.transpose(0, 1).flatten(1, 2), e * channels // w.shape[2]
    y = F.conv2d(grouped, w.flatten(0, 1), bias.flatten(), stride, padding=1, groups=groups)
    return y.view(b, e, w.shape[1], *y.shape[2:]).transpose(0, 1)


def _mix(p: Params, name: str, x: Tensor) -> Tensor:
    """1x1 convolution: [E, B, in, H, W] -> [E, B, out, H, W], as one product of matrices per trial."""
    y = torch.einsum("eoc,ebchw->ebohw", p[f"{name}.weight"].flatten(2), x)
    bias = p.get(f"{name}.bias")
    return y if bias is None else y + bias[:, None, :, None, None]


def _block(p: Params, i: int, x: Tensor) -> Tensor:
    inner = F.leaky_relu(_mix(p, f"block{i}.expand", x), 0.2)
    inner = F.leaky_relu(_conv(p, f"block{i}.conv", inner), 0.2)
    return x + _mix(p, f"block{i}.project", inner)


def _double(x: Tensor, axis: int) -> Tensor:
    """Double an axis by bilinear interpolation. F.interpolate's gradient is not deterministic on CUDA."""
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, -1, 1)], axis)
    return torch.stack([x.lerp(before, 0.25), x.lerp(after, 0.25)], axis + 1).flatten(
        axis, axis + 1
    )
