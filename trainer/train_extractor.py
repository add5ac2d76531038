"""The training of a data set's feature extractor: once per data set, by trainer.prepare.

With labels the extractor is a classifier of them. Without labels it is a classifier of how an image
was mirrored, after Gidaris 2018 (arXiv 1803.07728).
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor

from trainer.data import DataError, to_unit
from trainer.evaluate import FEATURES, features, full_precision, weight_shapes
from trainer.process import progress
from trainer.sources import Source

BATCH = 128
MOST_STEPS, FEWEST_STEPS = 2000, 400  # batches
FULL_PIXELS = 28 * 28  # per channel; larger images are trained on in fewer batches


def batches(height: int, width: int) -> int:
    """Return the number of batches for images of this size.

    The work of a batch grows with the number of pixels. Fewer batches of larger images keep the
    total work near that of MNIST. docs/reference/metrics.md compares extractors after 400 and 2,000 batches.
    """
    return max(FEWEST_STEPS, min(MOST_STEPS, MOST_STEPS * FULL_PIXELS // (height * width)))


def train_extractor(source: Source, steps: int | None = None) -> tuple[dict[str, Tensor], str]:
    """Train the classifier whose features the metrics use.

    AdamW, one-cycle cosine schedule, images shifted by up to a pixel. The seed is fixed, so that
    the same machine, thread count and versions give the same file. No label smoothing: it makes
    each class more compact (Kornblith 2021, arXiv 2010.16402), which may hide differences within a
    class. docs/reference/metrics.md compares four trainings.

    Args:
        source: The images.
        steps: The number of batches; the default is that of `batches`.

    Returns:
        The weights without the last layer, and a note on the task and the accuracy.

    Raises:
        DataError: All images look the same to the classifier.
    """
    generator = torch.Generator().manual_seed(0)
    images, labels, task = _task(source.train, source.train_labels)
    classes = int(labels.max()) + 1
    channels, height, width = images.shape[1:]
    counted = f"{len(source.train)} images"
    steps = batches(height, width) if steps is None else steps
    weights = {
        n: torch.zeros(s) for n, s in weight_shapes(channels, height, width).items() if n != "scale"
    }
    head = torch.zeros(classes, FEATURES)
    for tensor in (*weights.values(), head):
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        tensor.requires_grad_()
    optimiser = torch.optim.AdamW([*weights.values(), head], lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    with full_precision():
        for _ in progress(range(steps), f"training the feature extractor on {counted}"):
            picked = torch.randint(len(images), (BATCH,), generator=generator)
            logits = features(weights, _shift(to_unit(images[picked]), generator)) @ head.T
            optimiser.zero_grad()
            F.cross_entropy(logits, labels[picked]).backward()
            optimiser.step()
            schedule.step()
        weights = {name: tensor.detach() for name, tensor in weights.items()}
        with torch.inference_mode():
            checked, truth, _ = _task(source.held_out, source.held_out_labels)
            found = torch.cat([features(weights, to_unit(part)) for part in checked.split(512)])
            accuracy = float(((found @ head.T).argmax(1) == truth).double().mean())
            raw = torch.cat(
                [features(weights, to_unit(p)) for p in torch.from_numpy(source.train).split(512)]
            )
            variance = raw.double().var(0).mean()
    if not variance > 0:
        raise DataError("all images look the same to the feature extractor. Use images that differ")
    scale = variance.rsqrt().float()
    return weights | {"scale": scale}, f"classifies {task}, {accuracy:.1%} right on held-out images"


def _task(images: np.ndarray, labels: np.ndarray | None) -> tuple[Tensor, Tensor, str]:
    """Return images and classes: their labels, or without labels which of 4 ways they are mirrored (0: not at all)."""
    tensor = torch.from_numpy(images)
    if labels is not None:
        return tensor, torch.from_numpy(labels), "labels"
    ways = [tensor, tensor.flip(2), tensor.flip(3), tensor.flip(2, 3)]
    return torch.cat(ways), torch.arange(4).repeat_interleave(len(tensor)), "mirrorings"


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move the batch by one of 9 offsets of at most a pixel, with repeated edges."""
    down, right = torch.randint(3, (2,), generator=generator).tolist()
    height, width = images.shape[2:]
    return F.pad(images, (1, 1, 1, 1), mode="replicate")[
        :, :, down : down + height, right : right + width
    ]
