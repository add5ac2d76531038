"""The step: equal to plain torch, stacked trials equal to solo trials, and trials that do not affect each other."""

import dataclasses

import pytest
import torch
from torch.nn.functional import softplus

from trainer.config import WIDTHS, Config
from trainer.data import to_unit
from trainer.models import Arch
from trainer.step import Step

IMAGES = torch.randint(
    0, 256, (50, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LOSSES = Config.__dataclass_fields__["loss"].metadata["choices"]
OPTIMIZERS = Config.__dataclass_fields__["optimizer"].metadata["choices"]


def arch(c: Config, image: tuple[int, int, int] = (1, 4, 4)) -> Arch:
    return Arch(c.model, image, c.latent_dim, c.g_hidden, c.d_hidden, c.spectral_norm)


def step_of(configs: list[Config], device: str = "cpu") -> Step:
    return Step(arch(configs[0]), configs, IMAGES.to(device))


def small(*flags: str, model: str = "mlp") -> Config:
    return Config.parse(
        [
            f"--model={model}",
            "--bs=16",
            "--latent-dim=6",
            "--g-hidden=12,16",
            "--d-hidden=16,12",
            *flags,
        ]
    )


def waves(*flags: str, model: str = "mlp") -> list[Config]:
    """Three trials that differ in every per-trial flag."""
    smoothing = (
        [] if "--loss=hinge" in flags or "--loss=wgan" in flags else ["--label-smoothing=0.1"]
    )
    each = [
        ["--lr=1e-3", "--seed=1", "--beta1=0", "--ema-decay=0.9"],
        [
            "--lr=3e-4",
            "--seed=2",
            "--beta1=0.5",
            "--beta2=0.9",
            "--weight-decay=0.01",
            "--d-lr-ratio=2",
            *smoothing,
        ],
        ["--lr=2e-3", "--seed=3", "--beta1=0.9", "--r1-gamma=0.3", "--r2-gamma=0.1"],
    ]
    return [small(*flags, *own, model=model) for own in each]


def drift(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance of two vectors of weights."""
    return float((a - b).norm() / b.norm())


def check_stacked_is_solo(configs: list[Config], steps: int = 100) -> None:
    together = step_of(configs)
    for _ in range(steps):
        together()
    for e, config in enumerate(configs):
        alone = step_of([config])
        for _ in range(steps):
            alone()
        assert drift(together.g.flat[e], alone.g.flat[0]) < 1e-5
        assert drift(together.d.flat[e], alone.d.flat[0]) < 1e-5
        assert drift(together.ema[e], alone.ema[0]) < 1e-5
        assert drift(together.sums[:, e], alone.sums[:, 0]) < 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_stack_equals_solo_per_loss(loss):
    check_stacked_is_solo(waves(f"--loss={loss}"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stack_equals_solo_per_optimizer(optimizer):
    check_stacked_is_solo(waves(f"--optimizer={optimizer}"))


def test_stack_equals_solo_with_spectral_norm():
    check_stacked_is_solo(waves("--n-critic=2", "--spectral-norm", "--bs=37"), 50)


def test_stack_equals_solo_for_convolutions():
    check_stacked_is_solo(waves(model="dcgan"), 30)


@pytest.mark.parametrize("flags", [[], ["--augment=color,translation,cutout", "--n-critic=2"]])
def test_stack_equals_solo_for_resnet(flags, monkeypatch):
    """In float64, because Adam enlarges the rounding errors of gradients near 0, such as those of new blocks."""
    monkeypatch.setattr("trainer.step.to_unit", lambda images: to_unit(images).double())
    torch.set_default_dtype(torch.float64)
    try:
        check_stacked_is_solo(waves("--loss=rpgan", *flags, model="resnet"))
    finally:
        torch.set_default_dtype(torch.float32)


def test_stack_equals_solo_for_resnet_in_fp32():
    configs = waves("--loss=rpgan", "--optimizer=sgd", model="resnet")
    check_stacked_is_solo([dataclasses.replace(c, lr=1e-2) for c in configs])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_one_trial_equals_plain_torch(optimizer, gamma):
    """Compared with autograd and torch.optim, on the same noise and batches."""
    c = small(f"--optimizer={optimizer}", f"--r1-gamma={gamma}", "--lr=1e-3", "--beta1=0.5", "--beta2=0.9",
              "--weight-decay=0.01", "--ema-decay=0")  # fmt: skip
    ours, net = step_of([c]), arch(c)
    g, d = (
        {k: p.detach().clone().requires_grad_() for k, p in s.params.items()}
        for s in (ours.g, ours.d)
    )
    adam = {"lr": 1e-3, "betas": (0.5, 0.9), "weight_decay": 0.01}
    make = {
        "adam": lambda p: torch.optim.Adam(p, **adam),
        "adamw": lambda p: torch.optim.AdamW(p, **adam),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.5, weight_decay=0.01),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9, weight_decay=0.01),
    }[optimizer]
    g_optimizer, d_optimizer = make(list(g.values())), make(list(d.values()))
    for _ in range(20):
        ours()
        real, z = to_unit(IMAGES[ours.index[0]]).requires_grad_(), ours.z[0]
        fake = net.generate(g, z)
        scores = net.discriminate(d, real)
        value = softplus(-scores).mean() + softplus(net.discriminate(d, fake.detach())).mean()
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        d_optimizer.zero_grad()
        (value + gamma / 2 * slope.flatten(2).square().sum(2).mean()).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        softplus(-net.discriminate(d, fake)).mean().backward()
        g_optimizer.step()
    for theirs, stack in ((g, ours.g), (d, ours.d)):
        for name, p in theirs.items():
            torch.testing.assert_close(
                stack.params[name][0], p[:].squeeze(0) if p.ndim > 3 else p[0], rtol=1e-4, atol=1e-6
            )
    torch.testing.assert_close(ours.ema, ours.g.flat, rtol=0, atol=0)


def test_nan_does_not_change_other_trials():
    for model in WIDTHS:
        calm = waves(model=model)
        wild = [
            calm[0],
            small("--lr=10", "--optimizer=adam", "--seed=2", "--d-lr-ratio=1e4", model=model),
            calm[2],
        ]
        a, b = step_of(calm), step_of(wild)
        b.g.flat[1] = float("nan")
        for _ in range(30):
            a()
            b()
        assert not b.d.flat[1].isfinite().all()
        for e in (0, 2):
            for mine, other in ((a.g.flat, b.g.flat), (a.d.flat, b.d.flat), (a.ema, b.ema)):
                assert torch.equal(mine[e], other[e])


def test_trial_does_not_depend_on_the_stack():
    trio = waves()
    a, b = step_of(trio), step_of([trio[2], trio[0]])
    for _ in range(10):
        a()
        b()
    assert torch.equal(a.order[0], b.order[1])
    assert torch.equal(a.z[:, 2], b.z[:, 0])
    assert drift(a.g.flat[0], b.g.flat[1]) < 1e-6


def test_epoch_shows_every_image_once():
    c = small("--bs=16")
    step, seen = step_of([c]), []
    for _ in range(25):  # 400 images: 8 epochs of 50
        step()
        seen.append(step.index[0, 0].clone())
    for epoch in torch.cat(seen).split(50):
        assert sorted(epoch.tolist()) == list(range(50))


def test_batch_larger_than_the_data():
    step = step_of([small("--bs=120")])
    step()
    assert torch.bincount(step.index[0, 0], minlength=50).min() >= 2


def test_running_mean_starts_as_plain_mean():
    c = small("--ema-decay=0.9", "--lr=1e-2")
    step = step_of([c])
    expected = step.g.flat.clone()
    for t in range(30):
        step()
        expected.lerp_(step.g.flat, max(0.1, 9 / (10 + t)))
    torch.testing.assert_close(step.ema, expected)
    assert drift(step.ema, step.g.flat) > 1e-4


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("mlp", ["--spectral-norm", "--n-critic=2"]),
        ("mlp", ["--optimizer=sgd"]),
        ("mlp", ["--loss=rpgan"]),
        ("resnet", ["--augment=color,translation,cutout", "--n-critic=2"]),
    ],
)
def test_state_resumes_bit_for_bit(model, flags):
    a, b = (step_of(waves(*flags, model=model)) for _ in range(2))
    for _ in range(7):
        a()
    b.load_state({k: v.clone() for k, v in a.state().items()})
    for _ in range(7):
        a()
        b()
    for (name, mine), other in zip(a.state().items(), b.state().values(), strict=True):
        assert torch.equal(mine, other), name


def test_bf16_trains_in_fp32_weights():
    a, b = step_of([small("--precision=bf16")]), step_of([small()])
    for _ in range(5):
        a()
        b()
    assert a.g.flat.dtype == torch.float32
    assert 0 < drift(a.g.flat, b.g.flat) < 0.05


def test_reading_losses_changes_nothing():
    step = step_of(waves())
    before = {k: v.clone() for k, v in step.state().items()}
    values = step.current_losses(torch.randn(3, 16, 6))
    assert values.shape == (2, 3)
    assert values.isfinite().all()
    assert all(torch.equal(v, before[k]) for k, v in step.state().items())


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("mlp", []),
        ("mlp", ["--n-critic=2", "--spectral-norm"]),
        ("mlp", ["--optimizer=sgd"]),
        ("mlp", ["--loss=rpgan"]),
        ("dcgan", []),
        ("resnet", ["--augment=color,translation,cutout", "--n-critic=2"]),
    ],
)
def test_cuda_graph_equals_eager_step(model, flags, monkeypatch):
    graphed, eager = (step_of(waves(*flags, model=model), "cuda") for _ in range(2))
    monkeypatch.setattr(eager, "_capture", lambda: None)
    for _ in range(50):
        graphed()
        eager()
    assert drift(graphed.g.flat, eager.g.flat) < 1e-5
    assert drift(graphed.sums, eager.sums) < 1e-5
