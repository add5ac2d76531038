"""One optimisation step of E GANs side by side. The command line uses the same code with E = 1.

Shapes: E trials, B batch, Z latent, N parameters of one network. The weights of a network are one
[E, N] tensor, and the parameters are views of it. Losses are [E]. The gradient of their sum is each
trial's own gradient, because no operation mixes trials. Each trial has its own random generator for
weights, noise and batch order, so its results do not depend on the other trials, and a non-finite
value stays within its trial.

    step = Step(arch, configs, images)      # uint8 [n, C, H, W] on the device where everything happens
    for _ in range(100): step()
    step.sums / 100                         # [2, E]: mean loss of D and of G
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer import models, spectral
from trainer.augment import DRAWS, augment
from trainer.config import Config
from trainer.data import from_unit, to_unit
from trainer.losses import LOSSES
from trainer.optimizer import Optimizer, Stack

CHUNK = 256  # images that are generated at a time for a score


class Step:
    """The state of E trials. Calling it updates all of them by one generator step."""

    def __init__(self, arch: models.Arch, configs: Sequence[Config], images: Tensor) -> None:
        self.config = c = configs[0]
        self.arch, self.images, self.device = arch, images, images.device
        self.loss = LOSSES[c.loss]
        self.trials = e = len(configs)
        self.generators = [torch.Generator(self.device).manual_seed(c.seed) for c in configs]
        self.g = Stack(arch.generator_shapes(), e, self.device)
        self.d = Stack(arch.discriminator_shapes(), e, self.device)
        vectors = (
            spectral.singular_vectors(arch.discriminator_shapes()) if arch.spectral_norm else {}
        )
        self.u = {k: torch.zeros(e, *s, device=self.device) for k, s in vectors.items()}
        with torch.no_grad():
            for params in (self.g.params, self.d.params, self.u):
                models.initialise(params, self.generators)
        self.ema = self.g.flat.clone()
        self.g_optimizer = Optimizer(self.g, configs, [c.lr for c in configs])
        self.d_optimizer = Optimizer(self.d, configs, [c.lr * c.d_lr_ratio for c in configs])
        self.gamma1 = self._column(configs, "r1_gamma")[:, 0]
        self.gamma2 = self._column(configs, "r2_gamma")[:, 0]
        self.smooth = self._column(configs, "label_smoothing")
        self.fading = 1 - self._column(configs, "ema_decay")
        self.r1, self.r2 = any(c.r1_gamma for c in configs), any(c.r2_gamma for c in configs)
        self.sums = torch.zeros(2, e, dtype=torch.float64, device=self.device)
        self.age = torch.zeros(1, device=self.device)  # steps so far, on the device
        self.order = torch.zeros(e, len(images), dtype=torch.int64, device=self.device)
        self.position = len(images)  # images of `order` that are used already
        self.index = torch.zeros(c.n_critic, e, c.bs, dtype=torch.int64, device=self.device)
        self.z = torch.zeros(c.n_critic, e, c.bs, c.latent_dim, device=self.device)
        self.uniform = torch.zeros(c.n_critic, e, 2, DRAWS, c.bs, device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Draw noise and batches, then update every trial, without waiting for the device."""
        self.draw()
        if self.device.type == "cuda" and self._graph is None:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        else:
            self.update()

    def sample(self, trial: int, z: Tensor, weights: Tensor | None = None) -> Tensor:
        """Map noise [S, Z] to images, uint8 [S, C, H, W], with one trial's evaluated generator (the running mean)."""
        params = {
            k: p[trial : trial + 1]
            for k, p in self.g.like(self.ema if weights is None else weights).items()
        }
        with torch.no_grad():
            parts = [
                from_unit(self.arch.generate(params, part.unsqueeze(0))[0])
                for part in z.split(CHUNK)
            ]
        return torch.cat(parts)

    def current_losses(self, z: Tensor) -> Tensor:
        """Return the present losses [2, E] on noise [E, B, Z] and the first B images, without a change of state."""
        with torch.no_grad():
            images = to_unit(self.images[: z.shape[1]]).expand(self.trials, -1, -1, -1, -1)
            real = self.arch.discriminate(self._d(), images)
            fake = self.arch.discriminate(self._d(), self.arch.generate(self.g.params, z))
            return torch.stack(
                [self.loss.discriminator(real, fake, self.smooth), self.loss.generator(fake, real)]
            )

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that a later step depends on. They are not copies: store them, but do not change them."""
        o, p = self.g_optimizer, self.d_optimizer
        tensors = {
            "g": self.g.flat, "d": self.d.flat, "ema": self.ema, "sums": self.sums, "age": self.age,
            "g.first": o.first, "g.second": o.second, "g.steps": o.steps,
            "d.first": p.first, "d.second": p.second, "d.steps": p.steps,
            "order": self.order,
        }  # fmt: skip
        tensors |= {f"u.{k}": v for k, v in self.u.items()}
        tensors |= {f"rng.{e}": g.get_state() for e, g in enumerate(self.generators)}
        return tensors | {"position": torch.tensor(self.position)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore in place what `state` returned. Raises ValueError if it is not a state of these networks."""
        own = self.state()
        if state.keys() != own.keys():
            raise ValueError("it has other tensors")
        for name, tensor in own.items():
            if state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
                raise ValueError(f"tensor {name} has another shape or type")
        n, position = len(self.images), int(state["position"])
        if (
            not 0 <= position <= n
            or int(state["order"].min()) < 0
            or int(state["order"].max()) >= n
        ):
            raise ValueError("the order of the images has numbers out of range")
        with torch.no_grad():
            for name, tensor in own.items():
                if name != "position" and not name.startswith("rng."):
                    tensor.copy_(state[name])
        for e, generator in enumerate(self.generators):
            generator.set_state(state[f"rng.{e}"].cpu())
        self.position = position

    def draw(self) -> None:
        """Fill `z` and `index` from the random generator of each trial."""
        for k in range(self.config.n_critic):
            for e, generator in enumerate(self.generators):
                torch.randn(self.z.shape[2:], generator=generator, out=self.z[k, e])
                if self.config.augment:
                    u = self.uniform[k, e]
                    torch.rand(u.shape, generator=generator, out=u)
            filled = 0
            # a batch may continue in the next epoch, so that no image is left out
            while filled < self.config.bs:
                if self.position == len(self.images):
                    self._shuffle()
                n = min(self.config.bs - filled, len(self.images) - self.position)
                self.index[k, :, filled : filled + n] = self.order[
                    :, self.position : self.position + n
                ]
                filled, self.position = filled + n, self.position + n

    def _shuffle(self) -> None:
        for e, generator in enumerate(self.generators):
            torch.randperm(len(self.images), generator=generator, out=self.order[e])
        self.position = 0

    def update(self) -> None:
        """Update both networks of every trial from `z` and `index`, without the CUDA graph."""
        c = self.config
        with self._precision():
            for k in range(c.n_critic):
                last = k == c.n_critic - 1
                changes = self.uniform[k].permute(1, 2, 0, 3)  # for real images, for generated ones
                real = augment(to_unit(self.images[self.index[k]]), c.augment, changes[0])
                with torch.set_grad_enabled(last):
                    fake = self.arch.generate(self.g.params, self.z[k])
                    fake = augment(fake, c.augment, changes[1])
                d_value, gradients = self._d_gradients(real, fake.detach())
                self.d_optimizer(gradients)
            g_value, gradients = self._g_gradients(real, fake)
        self.g_optimizer(gradients)
        with torch.no_grad():
            # It starts as a plain mean, so that early evaluations do not see the initial weights.
            self.ema.lerp_(self.g.flat, torch.maximum(self.fading, 9 / (10 + self.age)))
            self.age.add_(1)
            self.sums.add_(torch.stack([d_value, g_value]))

    def _d_gradients(self, real: Tensor, fake: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        spectral.power_iteration(self.d.params, self.u)
        weights = self._d()
        if self.r1 or self.r2:
            real.requires_grad_(self.r1)
            fake.requires_grad_(self.r2)
            on_real, on_fake = (
                self.arch.discriminate(weights, images).float() for images in (real, fake)
            )
        else:  # one pass over the weights for both batches
            on_real, on_fake = (
                self.arch.discriminate(weights, torch.cat([real, fake], 1)).float().chunk(2, 1)
            )
        value = self.loss.discriminator(on_real, on_fake, self.smooth)
        total = value
        if self.r1:
            total = total + self.gamma1 * gradient_penalty(on_real, real)
        if self.r2:
            total = total + self.gamma2 * gradient_penalty(on_fake, fake)
        return value.detach(), torch.autograd.grad(total.sum(), list(self.d.params.values()))

    def _g_gradients(self, real: Tensor, fake: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        weights = {k: p.detach() for k, p in self._d().items()}
        scores = None
        if self.loss.pairs:
            scores = self.arch.discriminate(weights, real.detach()).float()
        value = self.loss.generator(self.arch.discriminate(weights, fake).float(), scores)
        return value.detach(), torch.autograd.grad(value.sum(), list(self.g.params.values()))

    def _d(self) -> models.Params:
        return spectral.normalise(self.d.params, self.u) if self.u else self.d.params

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def _capture(self) -> None:
        """Record the update as one CUDA graph: launching such small kernels takes longer than running them."""
        before = {k: v.clone() for k, v in self.state().items()}
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            # libraries choose kernels and allocate on first use, which cannot be recorded
            for _ in range(3):
                self.update()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.update()
        self.load_state(before)

    def _column(self, configs: Sequence[Config], name: str) -> Tensor:
        return torch.tensor([[getattr(c, name)] for c in configs], device=self.device)


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Mean over B of |dD/dx|^2 / 2, [E]: R1 on real images (arXiv 1801.04406, eq. 9 without gamma), R2 on fake ones."""
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return slope.flatten(2).square().sum(2).mean(1) / 2
