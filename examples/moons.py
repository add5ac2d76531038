"""A program to tune that is no GAN: a small neural network that tells two half moons apart. It needs NumPy and Pillow.

    python examples/moons.py --lr 0.1 --bs 32
    gantune init -- python examples/moons.py --lr 0.1 --bs 32

It follows the few rules of docs/how-to/your-program.md: a metric is printed as name=value, the exit code
is 0, `main(argv)` can be called, and pictures go to samples.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
PIXELS = 96  # of samples.png, in each direction


def moons(count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Return `count` points [count, 2] of two noisy half moons, and which of them each belongs to."""
    label = random.integers(0, 2, count).astype(np.float64)
    angle = np.pi * random.random(count)
    x = np.cos(angle) * (1 - 2 * label) + label
    y = np.sin(angle) * (1 - 2 * label) + 0.5 * label
    return np.stack([x, y], axis=1) + 0.25 * random.standard_normal((count, 2)), label


class Network:
    """One hidden layer of `hidden` tanh units, and a logistic output."""

    def __init__(self, hidden: int, random: np.random.Generator) -> None:
        self.first = random.standard_normal((3, hidden))  # the last row is the bias
        self.second = random.standard_normal(hidden + 1) / np.sqrt(hidden)

    def predict(self, x: Array) -> Array:
        """Return the probability of the second moon for each point: [N, 2] -> [N]."""
        return np.asarray(
            1 / (1 + np.exp(-np.clip(_biased(self._hidden(x)) @ self.second, -50, 50)))
        )

    def step(self, x: Array, label: Array, lr: float, decay: float) -> None:
        """Take one step of gradient descent on the cross-entropy."""
        hidden = self._hidden(x)
        error = (self.predict(x) - label) / len(x)  # [N], the gradient at the output
        back = np.outer(error, self.second[:-1]) * (1 - hidden**2)
        self.second -= lr * (_biased(hidden).T @ error + decay * self.second)
        self.first -= lr * (_biased(x).T @ back + decay * self.first)

    def _hidden(self, x: Array) -> Array:
        return np.asarray(np.tanh(_biased(x) @ self.first))


def _biased(x: Array) -> Array:
    return np.hstack([x, np.ones((len(x), 1))])


def draw(network: Network, x: Array, label: Array) -> None:
    """Write samples.png: the network's decision everywhere, and the held-out points."""
    across, down = np.meshgrid(np.linspace(-2, 3, PIXELS), np.linspace(1.8, -1.3, PIXELS))
    decision = network.predict(np.stack([across.ravel(), down.ravel()], axis=1)).reshape(
        PIXELS, PIXELS
    )
    pixels = (64 + 128 * decision).astype(np.uint8)
    column = np.clip((x[:, 0] + 2) / 5 * PIXELS, 0, PIXELS - 1).astype(int)
    row = np.clip((1.8 - x[:, 1]) / 3.1 * PIXELS, 0, PIXELS - 1).astype(int)
    pixels[row, column] = np.where(label > 0, 255, 0)
    Image.fromarray(pixels).save("samples.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print one line of metrics per epoch, and return the exit code."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--bs", type=int, default=32, help="batch size")
    parser.add_argument("--hidden", type=int, default=16, help="units of the hidden layer")
    parser.add_argument("--weight-decay", type=float, default=1e-4, help="penalty on large weights")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the weights and of the order of the points"
    )
    options = parser.parse_args(argv)
    data = np.random.default_rng(0)  # the same points for every trial
    x, label = moons(500, data)
    held_x, held_label = moons(1000, data)
    random = np.random.default_rng(options.seed)
    network = Network(options.hidden, random)
    for epoch in range(options.epochs):
        for batch in np.array_split(random.permutation(len(x)), max(len(x) // options.bs, 1)):
            network.step(x[batch], label[batch], options.lr, options.weight_decay)
        predicted = network.predict(held_x)
        loss = -np.mean(np.log(np.where(held_label > 0, predicted, 1 - predicted) + 1e-12))
        error = np.mean((predicted > 0.5) != (held_label > 0))
        print(f"epoch={epoch} val_loss={loss:.6f} val_error={error:.4f}", flush=True)
    draw(network, held_x, held_label)
    return 0


if __name__ == "__main__":
    sys.exit(main())
