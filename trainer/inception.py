"""Features of the Inception network with which papers compute the FID, with weights that the user supplies.

Inception v3 (Szegedy 2015, arXiv 1512.00567) with the differences of its TensorFlow version, as in
torch-fidelity, which the tests compare it with. Shapes: N images, C x H x W pixels.
"""

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor

from trainer.data import DataError
from trainer.evaluate import Extractor, full_precision

SIDE, CHUNK = 299, 32  # pixels of the network's input, and images at a time
_POOLED, _3X3DBL = ("branch_pool", ""), ("branch3x3dbl", "123")
_A = (("branch1x1", ""), ("branch5x5", "12"), _3X3DBL, _POOLED)
_C = (("branch1x1", ""), ("branch7x7", "123"), ("branch7x7dbl", "12345"), _POOLED)
_E = (("branch1x1", ""), ("branch3x3", "12"), _3X3DBL, _POOLED)
BLOCKS = {  # block -> its branches: name, and the numbers of their layers
    "5b": _A, "5c": _A, "5d": _A, "6a": (("branch3x3", ""), _3X3DBL),
    "6b": _C, "6c": _C, "6d": _C, "6e": _C, "7a": (("branch3x3", "12"), ("branch7x7x3", "1234")),
    "7b": _E, "7c": _E,
}  # fmt: skip


class Inception(Extractor):
    """Maps uint8 [N, C, H, W], with C of 1 or 3, to float32 [N, 2048]."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features on the same device, in full fp32."""
        p = {name: tensor.to(images.device) for name, tensor in self.weights.items()}
        with torch.inference_mode(), full_precision():
            return torch.cat([_features(p, part.float()) for part in images.split(CHUNK)])


def load_inception(path: Path) -> Inception:
    """Return the network with the weights in a safetensors file. Raises DataError if they do not fit."""
    try:
        raw = path.read_bytes()
        found = Inception(safetensors.torch.load(raw), hashlib.sha256(raw).hexdigest())
        if found(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).isfinite().all():
            return found
        reason = "its features are not finite"
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError, IndexError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    fix = "Convert the file of torch-fidelity as docs/reference/metrics.md describes"
    raise DataError(
        f"--inception={path} does not hold the weights of Inception ({reason.splitlines()[0]}). {fix}"
    )


def _features(p: dict[str, Tensor], x: Tensor) -> Tensor:
    x = _resize(x.shape[2], x) @ x @ _resize(x.shape[3], x).T
    x = (x.expand(-1, 3, -1, -1) - 128) / 128
    x = _layer(p, "Conv2d_1a_3x3", x, stride=2)
    x = _layer(p, "Conv2d_2b_3x3", _layer(p, "Conv2d_2a_3x3", x, padding=0))
    x = _layer(p, "Conv2d_3b_1x1", F.max_pool2d(x, 3, 2))
    x = F.max_pool2d(_layer(p, "Conv2d_4a_3x3", x, padding=0), 3, 2)
    for block in BLOCKS:
        x = _mixed(p, block, x)
    return x.mean((2, 3))


def _mixed(p: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    outputs, halves = [], block in ("6a", "7a")
    for branch, layers in BLOCKS[block]:
        y, name = x, f"Mixed_{block}.{branch}"
        if (
            branch == "branch_pool"
        ):  # only the last block takes the maximum, which is an error of the original
            y = (
                F.max_pool2d(x, 3, 1, 1)
                if block == "7c"
                else F.avg_pool2d(x, 3, 1, 1, False, False)
            )
        names = [f"{name}_{layer}" for layer in layers] or [name]
        for each in names[:-1]:
            y = _layer(p, each, y)
        if f"{names[-1]}a.conv.weight" in p:  # it is split in two
            outputs += [_layer(p, names[-1] + half, y) for half in "ab"]
        else:
            outputs.append(_layer(p, names[-1], y, stride=1 + halves))
    return torch.cat([*outputs, F.max_pool2d(x, 3, 2)] if halves else outputs, 1)


def _layer(
    p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int | None = None
) -> Tensor:
    """Convolution, batch norm and ReLU. Without stride, the default padding keeps the size."""
    w = p[f"{name}.conv.weight"]
    same = (w.shape[2] // 2, w.shape[3] // 2) if padding is None and stride == 1 else 0
    mean, variance, gain, bias = (
        p[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
    )
    x = F.conv2d(x, w, None, stride, same)
    return F.relu(F.batch_norm(x, mean, variance, gain, bias, eps=0.001))


def _resize(size: int, like: Tensor) -> Tensor:
    """Return the matrix [SIDE, size] of TensorFlow 1's bilinear interpolation, without half-pixel centres."""
    at = torch.arange(SIDE, device=like.device) * (size / SIDE)
    low = at.long()
    weight = (at - low)[:, None]
    one = torch.eye(size, device=like.device)
    return one[low] * (1 - weight) + one[(low + 1).clamp_max(size - 1)] * weight
