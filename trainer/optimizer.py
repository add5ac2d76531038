"""The weights of E networks in one tensor, and optimisers that call torch's fused kernels on each trial's row.

Shapes: E trials, N parameters of one network (padded). The kernels are fused because Adam moves
13.5 MB per step and trial at 784 pixels, and unfused arithmetic would read and write it six times.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.config import Config

ALIGNED = 16  # floats: each parameter starts on a 64-byte boundary, as a separate tensor would
NO_BIAS_CORRECTION = (
    # a step count at which Adam's bias correction is 1: RMSprop is Adam with beta1 = 0 and no
    # correction
    1e9
)


class Stack:
    """E copies of one network: `flat` [E, N], and `params`, views of it that are leaves for autograd."""

    def __init__(
        self, shapes: dict[str, tuple[int, ...]], trials: int, device: torch.device
    ) -> None:
        sizes = {
            name: -(-torch.Size(shape).numel() // ALIGNED) * ALIGNED
            for name, shape in shapes.items()
        }
        self.flat = torch.zeros(trials, sum(sizes.values()), device=device)
        self.params = {}
        for (name, shape), part in zip(
            shapes.items(), self.flat.split(list(sizes.values()), 1), strict=True
        ):
            self.params[name] = (
                part[:, : torch.Size(shape).numel()].unflatten(1, shape).requires_grad_()
            )

    def like(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the same views of another tensor with the layout of `flat`, without gradients."""
        return {
            k: flat.as_strided(p.shape, p.stride(), p.storage_offset() - self.flat.storage_offset())
            for k, p in self.params.items()
        }


class Optimizer:
    """torch's fused kernels on each trial's slices, so that every trial has its own rates."""

    def __init__(self, stack: Stack, configs: Sequence[Config], rates: Sequence[float]) -> None:
        self.kind = configs[0].optimizer
        start = NO_BIAS_CORRECTION if self.kind == "rmsprop" else 0.0
        self.steps = torch.full((len(configs),), start, device=stack.flat.device)
        self.first = torch.zeros_like(stack.flat)
        self.second = torch.zeros_like(stack.flat)
        views = [
            {k: p.detach() for k, p in stack.params.items()},
            stack.like(self.first),
            stack.like(self.second),
        ]
        self._slices = [
            [[p[e] for p in group.values()] for group in views] for e in range(len(configs))
        ]
        self._options = [self._of(c, lr) for c, lr in zip(configs, rates, strict=True)]

    def _of(self, c: Config, lr: float) -> dict[str, Any]:
        common: dict[str, Any] = {"lr": lr, "weight_decay": c.weight_decay, "maximize": False}
        if self.kind == "sgd":
            return common | {
                "momentum": c.beta1,
                "dampening": 0.0,
                "nesterov": False,
                "is_first_step": False,
            }
        beta1 = 0.0 if self.kind == "rmsprop" else c.beta1
        return common | {"beta1": beta1, "beta2": c.beta2, "eps": 1e-8, "amsgrad": False}

    @torch.no_grad()
    def __call__(self, gradients: Sequence[Tensor]) -> None:
        """Update the weights from gradients [E, ...], given in the order of the stack's parameters."""
        self.steps.add_(1)
        kernel = torch._fused_adamw_ if self.kind == "adamw" else torch._fused_adam_
        for e, ((p, first, second), options) in enumerate(
            zip(self._slices, self._options, strict=True)
        ):
            g = [x[e].contiguous() for x in gradients]  # the kernels ignore strides
            if self.kind == "sgd":
                torch._fused_sgd_(p, g, first if options["momentum"] else [], **options)
            else:
                kernel(p, g, first, second, [], [self.steps[e]] * len(p), **options)
