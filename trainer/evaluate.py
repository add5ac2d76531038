"""Metrics: the distance of generated images to held-out images in the features of a small convolutional network.

Shapes: N real, S generated samples, D feature dimensions, K nearest neighbour, C x H x W pixels.
docs/reference/metrics.md says what each metric means, its sample count, its value on real images and its
source.

Features are multiplied by one number that is stored with the weights, so that training images have
a mean variance of 1 per dimension. A generator that always returns the mean image then has an fd of
about D.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Traversable
from itertools import pairwise

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from trainer.data import ASSETS, EXTRACTOR_FILE, DataError, Images, to_unit

SCORES = ("fd", "sw", "precision", "recall", "density", "coverage", "train_fd", "copied")
FEATURES = 128  # D
NEAREST_K = 5  # Naeem 2020's choice
MAX_SAMPLES = 10_000  # of a large held-out set
PROJECTIONS = 128  # directions of the sliced distance
COPY_SAMPLES = 1_000  # samples that are checked for copies: a standard error of at most 1.6 points
COPY_QUANTILE = 0.01  # by definition, this share of held-out images counts as copied
ROWS = 256  # rows of a distance matrix at a time: 10 MB at 10,000 columns
FORMAT = "gan-tuner extractor 1"


class Extractor:
    """A small convolutional classifier without its last layer: uint8 [N, C, H, W] -> float32 [N, D].

    weights: `conv.I.weight/bias`, strides 2 until at most 8 pixels remain (an 8x8 image starts with
    stride 1), `features.weight/bias`, and the number `scale`. sha256: the hash of their file.
    """

    def __init__(self, weights: dict[str, Tensor], sha256: str) -> None:
        self.weights = weights
        self.sha256 = sha256

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of uint8 [N, C, H, W] on the same device, in chunks of bounded memory, in full fp32."""
        weights = {name: tensor.to(images.device) for name, tensor in self.weights.items()}
        with torch.inference_mode(), full_precision():
            chunks = images.split(max(1, 2**23 // images[0].numel() // 16))
            return torch.cat(
                [features(weights, to_unit(chunk)) * weights["scale"] for chunk in chunks]
            )


def strides(height: int, width: int) -> list[int]:
    """Return the strides of the convolutions: at least two layers, until the longer side is at most 8."""
    halvings, side = 0, max(height, width)
    while side > 8 or not halvings:
        halvings, side = halvings + 1, -(-side // 2)
    return [1, 2] if halvings == 1 else [2] * halvings


def widths(channels: int, layers: int) -> list[int]:
    """Return the channels before, between and after the convolutions: C, 32, 64, 64 ..."""
    return [channels, 32, *[64] * (layers - 1)]


def features(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Map floats [N, C, H, W] in [-1, 1] to [N, D] before `scale`: 3x3 convolutions and a linear layer, with ReLU."""
    hidden = images
    for i, stride in enumerate(strides(*images.shape[2:])):
        hidden = F.relu(
            F.conv2d(
                hidden, weights[f"conv.{i}.weight"], weights[f"conv.{i}.bias"], stride, padding=1
            )
        )
    return F.relu(F.linear(hidden.flatten(1), weights["features.weight"], weights["features.bias"]))


def weight_shapes(channels: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of an extractor for C x H x W images."""
    steps = strides(height, width)
    shapes: dict[str, tuple[int, ...]] = {"scale": ()}
    for i, (before, after) in enumerate(pairwise(widths(channels, len(steps)))):
        shapes |= {f"conv.{i}.weight": (after, before, 3, 3), f"conv.{i}.bias": (after,)}
        height, width = -(-height // steps[i]), -(-width // steps[i])
    flat = widths(channels, len(steps))[-1] * height * width
    return shapes | {"features.weight": (FEATURES, flat), "features.bias": (FEATURES,)}


def load_extractor(images: Images) -> Extractor:
    """Return the extractor that trainer.prepare trained on these images (bundled for the bundled digits).

    Raises:
        DataError: It is missing, damaged, or was trained on other images.
    """
    path: Traversable = ASSETS / "digits-extractor.safetensors"
    fix = "Install gan-tuner again"
    if images.folder is not None:
        path = images.folder / EXTRACTOR_FILE
        fix = f"Delete {images.folder} and run python -m trainer.prepare again"
    try:
        raw = path.read_bytes()
        weights = safetensors.torch.load(raw)
    except (OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"the feature extractor {path} is missing or damaged ({reason}). {fix}"
        ) from error
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != weight_shapes(
        *images.shape
    ):
        raise DataError(
            f"the feature extractor {path} does not fit images of shape {list(images.shape)}. {fix}"
        )
    if any(
        tensor.dtype != torch.float32 or not tensor.isfinite().all() for tensor in weights.values()
    ):
        raise DataError(
            f"the feature extractor {path} is damaged: its weights must be finite float32. {fix}"
        )
    if f"of images {images.sha256};" not in _about(raw):
        raise DataError(
            f"the feature extractor {path} was trained on other images, so its scores are invalid. {fix}"
        )
    return Extractor(weights, hashlib.sha256(raw).hexdigest())


def _about(raw: bytes) -> str:
    """What trainer.prepare noted in the header of a valid safetensors file."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return str(header.get("__metadata__", {}).get("about", ""))


class Evaluator:
    """Scores generated images. The constructor computes everything that depends only on real images.

    samples: the number S of generated images per score. It changes the score (more samples give a
    smaller fd), so keep it fixed. Precision, recall, density and coverage use the first N samples,
    as many as there are held-out images.
    """

    def __init__(self, images: Images, extractor: Extractor, samples: int) -> None:
        self.samples = samples
        self.extractor = extractor
        with torch.inference_mode(), full_precision():
            train, real = extractor(images.train), extractor(images.held_out[:MAX_SAMPLES])
            self._centre = train.mean(0)  # small norms keep fp32 distances exact enough
            self._train, self._real = train - self._centre, real - self._centre
            self._train_moments, self._real_moments = Moments(self._train), Moments(self._real)
            self._radii = kth_distances(self._real, NEAREST_K)
            ratios = nearest_ratios(self._real[:COPY_SAMPLES], self._train)
            self.copy_threshold = float(ratios.quantile(COPY_QUANTILE))

    def __call__(self, fake: Tensor) -> dict[str, float]:
        """Return the SCORES of uint8 [S, C, H, W]; all are finite."""
        if len(fake) != self.samples:
            raise ValueError(f"a score needs exactly {self.samples} samples, got {len(fake)}")
        with torch.inference_mode(), full_precision():
            generated = self.extractor(fake) - self._centre
            moments = Moments(generated)
            ratios = nearest_ratios(generated[:COPY_SAMPLES], self._train)
            return {
                "fd": frechet(self._real_moments, moments),
                "sw": sliced_wasserstein(self._real, generated),
                **manifold(self._real, generated[: len(self._real)], NEAREST_K, self._radii),
                "train_fd": frechet(self._train_moments, moments),
                "copied": float((ratios < self.copy_threshold).double().mean()),
            }


@contextmanager
def full_precision() -> Iterator[None]:
    """Use true fp32 in the block: TF32 would make a score depend on --precision and on the device."""
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(allow_tf32=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


class Moments:
    """Mean [D], covariance [D, D] (unbiased) and its symmetric root, in float64, of features [N, D], N >= 2."""

    def __init__(self, features: Tensor) -> None:
        features = features.double()
        self.mean = features.mean(0)
        centred = features - self.mean
        self.covariance = centred.T @ centred / (len(features) - 1)
        self._root: Tensor | None = None

    @property
    def root(self) -> Tensor:
        """The symmetric positive semi-definite square root of the covariance, computed at first use."""
        if self._root is None:
            values, vectors = torch.linalg.eigh(self.covariance)
            self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        return self._root


def frechet(real: Moments, fake: Moments) -> float:
    """Fréchet distance of two Gaussians (Heusel 2017, arXiv 1706.08500): |m - n|^2 + tr(A + B - 2 (AB)^(1/2)).

    tr (AB)^(1/2) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2). That matrix is
    symmetric, so its eigenvalues are real, and a singular covariance is no problem.
    """
    cross = torch.linalg.eigvalsh(real.root @ fake.covariance @ real.root).clamp_min(0).sqrt().sum()
    distance = (
        (real.mean - fake.mean).square().sum()
        + real.covariance.trace()
        + fake.covariance.trace()
        - 2 * cross
    )
    return max(0.0, float(distance))


def sliced_wasserstein(real: Tensor, fake: Tensor, projections: int = PROJECTIONS) -> float:
    """Mean exact 1-Wasserstein distance of [N, D] and [S, D] over fixed random directions (Bonneel 2015)."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(
        torch.randn(projections, real.shape[1], generator=generator, dtype=torch.float64), dim=1
    )
    directions = directions.to(real)
    values, order = torch.cat([directions @ real.T, directions @ fake.T], dim=1).sort(dim=1)
    step = torch.tensor([1 / len(real), -1 / len(fake)], dtype=torch.float64, device=real.device)
    # of the two distribution functions
    difference = step[(order >= len(real)).long()].cumsum(1)[:, :-1]
    return float((difference.abs() * values.diff(dim=1)).sum(1).mean())


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, squared distances [rows, M]) of [N, D] and [M, D]. All blocks share one buffer."""
    x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    buffer = x.new_empty(min(ROWS, len(x)), len(y))
    for start in range(0, len(x), ROWS):
        rows = slice(start, min(start + ROWS, len(x)))
        block = torch.addmm(y_norms, x[rows], y.T, alpha=-2, out=buffer[: rows.stop - start])
        yield rows, block.add_(x_norms[rows, None])


def kth_distances(x: Tensor, k: int) -> Tensor:
    """Squared distance [N] of each point to its k-th nearest other point, or to the farthest one if k >= N."""
    k = min(k + 1, len(x))  # each point is nearest to itself
    nearest = [
        block.topk(k, largest=False, sorted=False).values.amax(1)
        for _, block in squared_distances(x, x)
    ]
    return torch.cat(nearest).clamp_min_(0)


def manifold(
    real: Tensor, fake: Tensor, k: int, real_radii: Tensor | None = None
) -> dict[str, float]:
    """Precision, recall (Kynkäänniemi 2019, arXiv 1904.06991), density, coverage (Naeem 2020, arXiv 2002.09797).

    real: [N, D]; fake: [S, D]; real_radii: kth_distances(real, k), if known. Equal to the authors'
    `prdc` package.
    """
    real_radii = kth_distances(real, k) if real_radii is None else real_radii
    fake_radii = kth_distances(fake, k)
    inside = real.new_zeros(len(fake))  # how many balls around real points contain each fake point
    ones = real.new_ones(ROWS)
    recalled = covered = torch.zeros((), dtype=torch.int64, device=real.device)
    for rows, block in squared_distances(real, fake):
        radii = real_radii[rows]
        covered = covered + (block.amin(1) < radii).sum()
        # a sum of booleans is ten times slower
        inside += ones[: len(block)] @ (block < radii[:, None]).to(real.dtype)
        recalled = recalled + (block.sub_(fake_radii).amin(1) < 0).sum()
    return {
        "precision": float((inside > 0).double().mean()),
        "recall": int(recalled) / len(real),
        "density": float(inside.double().sum()) / (k * len(fake)),
        "coverage": int(covered) / len(real),
    }


def nearest_ratios(x: Tensor, train: Tensor, k: int = NEAREST_K) -> Tensor:
    """Distance to the nearest training image over the mean distance to the next k - 1: [N], in 0..1.

    A copy has a ratio near 0. A new image has about the same distance to its nearest and second
    nearest (ratio near 1). Unlike the distance, the ratio does not mark every image of a dense
    region as a copy. 0 if both distances are 0.
    """
    blocks = (block for _, block in squared_distances(x, train))
    distances = (
        torch.cat([block.topk(k, largest=False).values for block in blocks]).clamp_min_(0).sqrt_()
    )
    return distances[:, 0] / distances[:, 1:].mean(1).clamp_min(torch.finfo(x.dtype).tiny)


def kid(real: Tensor, fake: Tensor) -> float:
    """Kernel distance (Bińkowski 2018, arXiv 1801.01401): unbiased MMD^2, kernel (x.y / D + 1)^3, in float64.

    real, fake: [N, D], with the same N. Unlike fd it has no bias from a finite sample, so
    docs/reference/metrics.md quotes it.
    """
    real, fake = real.double(), fake.double()
    n = len(real)

    def off_diagonal(x: Tensor) -> Tensor:
        kernel = (x @ x.T / x.shape[1] + 1) ** 3
        return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))

    cross = ((real @ fake.T / real.shape[1] + 1) ** 3).mean()
    return float(off_diagonal(real) + off_diagonal(fake) - 2 * cross)
