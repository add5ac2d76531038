"""How much memory a run will need, estimated from the flags before anything is allocated.

Shapes: B batch, S samples per score, Z latent, P pixels of all channels. The factors count the
float32 copies that exist at the same time; tests/trainer/test_memory.py compares them with the
measured peak of real runs.
"""

import math

from trainer.config import Config
from trainer.models import EXPANSION, Arch, Shapes
from trainer.step import CHUNK

FLOAT = 4  # bytes
# weights, two moments, gradients, the running mean (G) or second-order gradients (D), spare
G_COPIES, D_COPIES = 6, 6
# a checkpoint holds 4 and 3 of them, and exists twice while it is serialised
SAVED_G, SAVED_D = 8, 6
INCEPTION_BYTES = 2**30  # weights, and the activations of a part of the images
FEATURE_BYTES = 80_000  # per sample: 2,048 features, and their copies in float64
SCORE_BYTES = 11_000
"""Bytes per sample during an evaluation, next to its image and noise: features, moments, sorted projections."""


def parts(config: Config, arch: Arch, *, on_cpu: bool) -> dict[str, int]:
    """Return the flags that decide on memory, and the bytes that each group needs on the device."""
    g, d = _count(arch.generator_shapes()), _count(arch.discriminator_shapes())
    weights = FLOAT * (g * G_COPIES + d * D_COPIES)
    if config.output_dir is not None and on_cpu:
        weights += FLOAT * (g * SAVED_G + d * SAVED_D)
    pixels = math.prod(arch.image)
    per_image = _activations(arch)
    in_step, in_score = _copies(config)
    batch = FLOAT * config.bs * (config.latent_dim * config.n_critic + int(in_step * per_image))
    batch = max(batch, FLOAT * int(min(config.samples, CHUNK) * in_score * per_image))
    samples = config.samples * (2 * FLOAT * config.latent_dim + 2 * pixels + SCORE_BYTES)
    inception = INCEPTION_BYTES + config.samples * FEATURE_BYTES if config.inception else 0
    return {
        "--inception": inception,
        "--latent-dim, --g-hidden and --d-hidden": weights,
        "--bs, --n-critic, --g-hidden and --d-hidden": batch,
        "--samples": samples,
    }


def _copies(config: Config) -> tuple[float, float]:
    """How often the activations exist: in a step, and while the images of a score are generated."""
    if config.model == "resnet":  # few of many activations are kept for a gradient penalty
        return 2.1 + 0.4 * (bool(config.r1_gamma) + bool(config.r2_gamma)), 0.5
    return 6, 2  # forward, backward, and both again for a gradient penalty


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _activations(arch: Arch) -> int:
    """Numbers that both networks compute for one image."""
    c, h, w = arch.image
    if arch.model == "mlp":
        return sum(arch.g_hidden) + sum(arch.d_hidden) + 3 * c * h * w
    total = 3 * c * h * w
    if arch.model == "resnet":
        # a block's input, twice its inner channels before and after LeakyReLU, and its output
        for widths in (arch.g_hidden[::-1], arch.d_hidden):
            for i, channels in enumerate(widths):
                pixels = -(-h // 2**i) * -(-w // 2**i)
                total += (2 + 4 * EXPANSION) * channels * pixels
        return total
    scale = 2 ** len(arch.g_hidden)
    height, width = -(-h // scale), -(-w // scale)
    for channels in arch.g_hidden:
        height, width = 2 * height, 2 * width
        # the enlarged input of the convolution, and its output
        total += 2 * channels * height * width
    for channels in arch.d_hidden:
        h, w = (h + 1) // 2, (w + 1) // 2
        total += channels * h * w
    return total
