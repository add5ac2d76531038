"""Augmentation: what each kind does to an image, and that a gradient passes through it."""

import pytest
import torch

from trainer.augment import DRAWS, augment
from trainer.config import AUGMENTATIONS

U = torch.rand(DRAWS, 2, 30, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 30, 3, 16, 12, generator=torch.Generator().manual_seed(1)) + 0.5


def middle(**changed: float) -> torch.Tensor:
    """Return the numbers that change nothing, except for those that are named."""
    names = ("brightness", "saturation", "contrast", "down", "right", "top", "left")
    return torch.tensor([changed.get(name, 0.5) for name in names]).view(-1, 1, 1)


def test_no_augmentation_returns_the_images():
    assert augment(IMAGES, (), U) is IMAGES


def test_middle_numbers_change_nothing():
    changed = augment(IMAGES, ("color", "translation"), middle())
    torch.testing.assert_close(changed, IMAGES)


def test_color_changes_brightness_saturation_contrast():
    bright = augment(IMAGES, ["color"], middle(brightness=0.75))
    torch.testing.assert_close(bright, IMAGES + 0.25)
    grey = augment(IMAGES, ["color"], middle(saturation=0.0))
    torch.testing.assert_close(grey, IMAGES.mean(2, keepdim=True).expand_as(IMAGES))
    flat = augment(IMAGES, ["color"], middle(contrast=0.0))
    torch.testing.assert_close(flat.std((2, 3, 4)), IMAGES.std((2, 3, 4)) / 2)


def test_translation_moves_pixels_and_fills_with_grey():
    moved = augment(IMAGES, ["translation"], middle(down=0.0, right=0.99))  # up by 2, right by 2
    torch.testing.assert_close(moved[..., :-2, 2:], IMAGES[..., 2:, :-2])
    assert not moved[..., -2:, :].any()
    assert not moved[..., :2].any()


def test_cutout_clears_a_quarter_or_less():
    changed = augment(IMAGES, ["cutout"], U)
    cleared = (changed == 0).all(2).flatten(2)
    assert cleared.sum(2).max() <= 8 * 6
    assert cleared.sum(2).min() >= 4 * 3
    kept = ~cleared.view(2, 30, 1, 16, 12).expand_as(IMAGES)
    assert torch.equal(changed[kept], IMAGES[kept])


def test_images_get_different_changes():
    same = IMAGES[:1, :1].expand(2, 30, -1, -1, -1)
    changed = augment(same, AUGMENTATIONS, U).flatten(0, 1)
    assert len(changed.unique(dim=0)) == 60


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradient_passes_through(name):
    images = IMAGES[:, :2, :, :4, :4].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, [name], U[:, :, :2].double()), images)
