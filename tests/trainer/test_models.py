"""Networks of stacked parameters compared with those of torch.nn, trial by trial."""

import pytest
import torch
from torch import nn

from trainer import models, spectral
from trainer.config import WIDTHS
from trainer.models import Arch

MLP = Arch("mlp", (1, 8, 8), 10, (12, 20), (20, 12))
DCGAN = Arch("dcgan", (3, 10, 7), 10, (8, 6), (6, 8))
RESNET = Arch("resnet", (3, 10, 7), 10, (24, 8), (8, 24))


def stacked(shapes: models.Shapes, trials: int = 3) -> models.Params:
    params = {k: torch.zeros(trials, *s) for k, s in shapes.items()}
    models.initialise(params, [torch.Generator().manual_seed(e) for e in range(trials)])
    return params


def dense(p: models.Params, i: int, e: int) -> nn.Linear:
    w, b = p[f"linear{i}.weight"][e].T, p[f"linear{i}.bias"][e, 0]
    layer = nn.Linear(w.shape[1], w.shape[0])
    layer.load_state_dict({"weight": w, "bias": b})
    return layer


def conv(p: models.Params, i: int, e: int, stride: int) -> nn.Conv2d:
    w, b = p[f"conv{i}.weight"][e], p[f"conv{i}.bias"][e]
    layer = nn.Conv2d(w.shape[1], w.shape[0], 3, stride, 1)
    layer.load_state_dict({"weight": w, "bias": b})
    return layer


def test_mlp_equals_torch_layers():
    g, d = stacked(MLP.generator_shapes()), stacked(MLP.discriminator_shapes())
    z = torch.randn(3, 5, 10)
    images = MLP.generate(g, z)
    logits = MLP.discriminate(d, images)
    for e in range(3):
        generator = nn.Sequential(
            dense(g, 0, e), nn.ReLU(), dense(g, 1, e), nn.ReLU(), dense(g, 2, e), nn.Tanh()
        )
        torch.testing.assert_close(images[e].flatten(1), generator(z[e]))
        critic = nn.Sequential(
            dense(d, 0, e), nn.LeakyReLU(0.2), dense(d, 1, e), nn.LeakyReLU(0.2), dense(d, 2, e)
        )
        torch.testing.assert_close(logits[e], critic(images[e].flatten(1)).squeeze(1))


def test_dcgan_is_one_network_per_group():
    g, d = stacked(DCGAN.generator_shapes()), stacked(DCGAN.discriminator_shapes())
    z = torch.randn(3, 5, 10)
    images = DCGAN.generate(g, z)
    logits = DCGAN.discriminate(d, images)
    assert images.shape == (3, 5, 3, 10, 7)
    for e in range(3):
        up = nn.Upsample(scale_factor=2)
        head = nn.Sequential(dense(g, 0, e), nn.ReLU(), nn.Unflatten(1, (8, 3, 2)))
        generator = nn.Sequential(
            head, up, conv(g, 0, e, 1), nn.ReLU(), up, conv(g, 1, e, 1), nn.Tanh()
        )
        torch.testing.assert_close(images[e], generator(z[e])[:, :, :10, :7])
        leaky = nn.LeakyReLU(0.2)
        critic = nn.Sequential(
            conv(d, 0, e, 2), leaky, conv(d, 1, e, 2), leaky, nn.Flatten(), dense(d, 0, e)
        )
        torch.testing.assert_close(logits[e], critic(images[e]).squeeze(1))


class Block(nn.Module):
    """R3GAN's residual block, with the weights of one trial."""

    def __init__(self, p: models.Params, i: int, e: int) -> None:
        super().__init__()
        self.layers = [
            (p[f"block{i}.{name}.weight"][e], p.get(f"block{i}.{name}.bias"))
            for name in ("expand", "conv", "project")
        ]
        self.trial = e

    def forward(self, x):
        y = x
        for n, (weight, bias) in enumerate(self.layers):
            y = nn.functional.leaky_relu(y, 0.2) if n else y
            groups = y.shape[1] // weight.shape[1]
            own = None if bias is None else bias[self.trial]
            y = nn.functional.conv2d(y, weight, own, padding=weight.shape[2] // 2, groups=groups)
        return x + y


def pointwise(p: models.Params, name: str, e: int) -> nn.Conv2d:
    w, b = p[f"{name}.weight"][e], p.get(f"{name}.bias")
    layer = nn.Conv2d(w.shape[1], w.shape[0], 1, bias=b is not None)
    layer.load_state_dict({"weight": w} | ({} if b is None else {"bias": b[e]}))
    return layer


def test_resnet_is_one_network_per_group():
    g, d = stacked(RESNET.generator_shapes()), stacked(RESNET.discriminator_shapes())
    for params in (g, d):
        for name, p in params.items():  # blocks start as the identity: change them
            p.add_(0.1 * torch.randn(p.shape)) if name.endswith(("project.weight", "bias")) else p
    z = torch.randn(3, 5, 10)
    images = RESNET.generate(g, z)
    logits = RESNET.discriminate(d, images)
    assert g["block0.conv.weight"].shape == (3, 48, 16, 3, 3)
    for e in range(3):
        up = nn.Upsample(scale_factor=2, mode="bilinear")
        head = nn.Sequential(dense(g, 0, e), nn.Unflatten(1, (24, 5, 4)), Block(g, 0, e))
        tail = nn.Sequential(
            pointwise(g, "change0", e), up, Block(g, 1, e), pointwise(g, "colours", e), nn.Tanh()
        )
        expected = tail(head(z[e]))[:, :, :10, :7]
        torch.testing.assert_close(images[e], expected, rtol=1e-4, atol=1e-5)
        down = nn.AvgPool2d(2, ceil_mode=True)
        critic = nn.Sequential(
            pointwise(d, "colours", e), Block(d, 0, e), down, pointwise(d, "change0", e),
            Block(d, 1, e), nn.Flatten(), dense(d, 0, e),
        )  # fmt: skip
        torch.testing.assert_close(logits[e], critic(images[e]).squeeze(1), rtol=1e-4, atol=1e-5)


def test_residual_blocks_start_as_identity():
    arch = Arch("resnet", (3, 32, 32), 64, (64, 64, 64, 64), (64, 64, 64, 64))
    p = stacked(arch.discriminator_shapes(), 1)
    gain = (2 / 1.04) ** 0.5 * 4**-0.25
    for name, factor in (("expand", 1 / 64), ("conv", 1 / 144)):
        assert p[f"block0.{name}.weight"].std() == pytest.approx(gain * factor**0.5, rel=0.05)
        assert not p[f"block0.{name}.bias"].any()
    assert not p["block3.project.weight"].any()
    x = torch.randn(1, 8, 64, 8, 8)
    assert torch.equal(models._block(p, 0, x), x)


@pytest.mark.parametrize("image", [(1, 28, 28), (1, 8, 8), (3, 1, 1), (3, 33, 5)])
@pytest.mark.parametrize("model", WIDTHS)
def test_any_image_size_fits(model, image):
    arch = Arch(model, image, 4, (6, 5), (5, 6))
    images = arch.generate(stacked(arch.generator_shapes(), 1), torch.randn(1, 2, 4))
    assert images.shape == (1, 2, *image)
    assert images.abs().max() <= 1
    assert arch.discriminate(stacked(arch.discriminator_shapes(), 1), images).shape == (1, 2)


def test_initial_weights_have_torchs_bounds():
    p = stacked(Arch("mlp", (1, 8, 8), 100, (128, 256), (256, 128)).generator_shapes(), 1)
    for i, fan_in in enumerate((100, 128, 256)):
        for name in ("weight", "bias"):
            assert 0.9 * fan_in**-0.5 < p[f"linear{i}.{name}"].abs().max() <= fan_in**-0.5


@pytest.mark.parametrize("arch", [MLP, DCGAN])
def test_spectral_norm_bounds_singular_values(arch):
    p = stacked(arch.discriminator_shapes())
    u = stacked(spectral.singular_vectors(arch.discriminator_shapes()))
    for _ in range(300):
        spectral.power_iteration(p, u)
    normal = spectral.normalise(p, u)
    for name in u:
        matrices = normal[name] if normal[name].ndim == 3 else normal[name].flatten(2)
        torch.testing.assert_close(
            torch.linalg.matrix_norm(matrices, 2), torch.ones(3), rtol=1e-3, atol=0
        )
        assert torch.equal(
            normal[name.replace("weight", "bias")], p[name.replace("weight", "bias")]
        )
