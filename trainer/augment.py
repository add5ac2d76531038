"""Differentiable augmentation: the same kinds of random changes for real and generated images, in both updates.

Zhao et al. 2020 (arXiv 2006.10738): with few images, the discriminator would remember them. The
gradient of the generator's loss passes through the changes.

Shapes: E trials, B batch, C channels, H x W pixels. Images are [E, B, C, H, W], 0 is mid-grey.
"""

from collections.abc import Collection

import torch
from torch import Tensor

DRAWS = 7  # uniform numbers per image


def augment(images: Tensor, names: Collection[str], u: Tensor) -> Tensor:
    """Change each image with its own numbers: u is uniform in [0, 1), [DRAWS, E, B].

    color: brightness by -0.5 to 0.5, saturation by a factor of 0 to 2, contrast by 0.5 to 1.5.
    translation: by up to an eighth of the size in both directions, filled with 0.
    cutout: 0 in a rectangle of half the height and width, which may extend beyond the image.
    """
    if not names:
        return images
    brightness, saturation, contrast, down, right, top, left = u[..., None, None, None]
    height, width = images.shape[3:]
    if "color" in names:
        images = images + (brightness - 0.5)
        images = images.mean(2, keepdim=True).lerp(images, 2 * saturation)
        images = images.mean((2, 3, 4), keepdim=True).lerp(images, contrast + 0.5)
    if "translation" in names:
        # A gather's gradient is not deterministic on CUDA; a product with a 0-1 matrix is.
        images = _shift(height, down) @ images @ _shift(width, right).mT
    if "cutout" in names:
        images = images * ~(_hole(height, top).mT & _hole(width, left))
    return images


def _shift(size: int, u: Tensor) -> Tensor:
    """Return matrices [E, B, 1, size, size] that move a column by floor(size / 8 + 1/2) entries at most."""
    most = int(size / 8 + 0.5)
    by = (u * (2 * most + 1)).floor() - most
    row = torch.arange(size, device=u.device)
    return (row == row[:, None] - by).to(u.dtype)


def _hole(size: int, u: Tensor) -> Tensor:
    """Return [E, B, 1, 1, size], True in an interval of half the size around a random entry."""
    length = int(size / 2 + 0.5)
    start = (u * (size + 1 - length % 2)).floor() - length // 2
    entry = torch.arange(size, device=u.device)
    return (entry >= start) & (entry < start + length)
