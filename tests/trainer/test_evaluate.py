"""The metrics compared with their authors' code and with known answers, on the bundled digits."""

import math
import warnings

import numpy as np
import pytest
import safetensors.torch
import scipy.linalg
import scipy.stats
import torch

from trainer import data, evaluate

CPU = torch.device("cpu")
KEYS = ["fd", "sw", "precision", "recall", "density", "coverage", "train_fd", "copied"]


@pytest.fixture(scope="module")
def digits() -> data.Images:
    return data.load("digits", None, CPU)


@pytest.fixture(scope="module")
def extractor(digits):
    return evaluate.load_extractor(digits)


@pytest.fixture(scope="module")
def evaluator(digits, extractor):
    return evaluate.Evaluator(digits, extractor, 449)


def draw(n, d=16, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 2, d)
        + shift
    )


class Doubled(torch.nn.Module):
    """A feature module for torchmetrics: the bundled extractor."""

    def __init__(self, extractor):
        super().__init__()
        self.extractor, self.num_features = extractor, evaluate.FEATURES

    def forward(self, images):
        return self.extractor(images).double()


def as_updates(metric, real, fake):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.update(real, real=True)
        metric.update(fake, real=False)
        return metric.compute()


def test_fd_of_real_images_equals_torchmetrics(digits, extractor, evaluator):
    from torchmetrics.image.fid import FrechetInceptionDistance

    fake = digits.train[:449].flip(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = FrechetInceptionDistance(feature=Doubled(extractor), input_img_size=(1, 8, 8))
        metric.set_dtype(torch.float64)
    expected = float(as_updates(metric, digits.held_out, fake))
    assert expected > 10
    assert evaluator(fake)["fd"] == pytest.approx(expected, rel=1e-5)


def test_kid_of_real_images_equals_torchmetrics(digits, extractor):
    from torchmetrics.image.kid import KernelInceptionDistance

    fake = digits.train[:449].flip(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(feature=Doubled(extractor), subsets=1, subset_size=449)
    mean, _ = as_updates(metric, digits.held_out, fake)
    assert evaluate.kid(extractor(digits.held_out), extractor(fake)) == pytest.approx(
        float(mean), rel=1e-5
    )


@pytest.mark.parametrize(("n", "s"), [(300, 300), (300, 517), (517, 300)])
def test_manifold_metrics_equal_prdc(n, s):
    from prdc import compute_prdc

    real, fake = draw(n), draw(s, shift=0.3, seed=1)
    expected = compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    found = evaluate.manifold(real, fake, 5)
    assert 0 < found["precision"] < 1
    assert 0 < found["recall"] < 1
    assert found == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-5
    )


def test_manifold_metrics_of_real_images_equal_prdc(digits, extractor, evaluator):
    from prdc import compute_prdc

    fake = digits.train[:449].roll(1, dims=3)
    expected = compute_prdc(
        extractor(digits.held_out).double().numpy(), extractor(fake).double().numpy(), nearest_k=5
    )
    assert {k: v for k, v in evaluator(fake).items() if k in expected} == pytest.approx(
        expected, abs=1e-5
    )


def test_fd_equals_the_matrix_square_root_of_scipy():
    real, fake = draw(500), draw(400, shift=0.5, seed=1) @ draw(16, seed=2)
    a, b = np.cov(real.numpy().T), np.cov(fake.numpy().T)
    expected = (real.mean(0) - fake.mean(0)).square().sum() + np.trace(
        a + b - 2 * scipy.linalg.sqrtm(a @ b).real
    )
    found = evaluate.frechet(evaluate.Moments(real), evaluate.Moments(fake))
    assert found == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("s", [200, 333])
def test_sliced_wasserstein_equals_scipy_in_one_dimension(s):
    real, fake = draw(200, d=1), draw(s, d=1, shift=0.4, seed=3)
    expected = scipy.stats.wasserstein_distance(real[:, 0], fake[:, 0])
    assert evaluate.sliced_wasserstein(real, fake) == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_keeps_the_random_state():
    real, fake = draw(100), draw(100, shift=1.0, seed=1)
    before = torch.get_rng_state()
    first = evaluate.sliced_wasserstein(real, fake)
    assert torch.equal(before, torch.get_rng_state())
    assert evaluate.sliced_wasserstein(real, fake) == first > 0


def test_kth_distances_are_to_other_points():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert evaluate.kth_distances(points, 1).tolist() == [1, 1, 4, 16]
    assert evaluate.kth_distances(points, 99).tolist() == [49, 36, 16, 49]


def test_blocks_cover_every_row():
    x, y = draw(2 * evaluate.ROWS + 7), draw(11, seed=1)
    blocks = torch.cat([block.clone() for _, block in evaluate.squared_distances(x, y)])
    assert torch.allclose(blocks, torch.cdist(x, y).square(), atol=1e-9)


def test_real_images_score_near_the_floor(digits, extractor):
    evaluator = evaluate.Evaluator(digits, extractor, 1348)
    noise = torch.randint(
        0, 256, digits.train.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    real, wrong = evaluator(digits.train), evaluator(noise)
    assert real["fd"] < 3
    assert wrong["fd"] > 60
    assert real["sw"] * 5 < wrong["sw"]
    assert real["coverage"] > 0.9
    assert wrong["coverage"] < 0.1
    assert real["train_fd"] == pytest.approx(0, abs=1e-6)
    assert list(real) == KEYS


def test_only_training_images_are_copies(digits, evaluator):
    assert evaluator(digits.train[:449])["copied"] > 0.99
    noisy = digits.train[:449].float() + 8 * torch.randn(
        449, 1, 8, 8, generator=torch.Generator().manual_seed(0)
    )
    # a copy with noise is still a copy
    assert evaluator(noisy.clamp(0, 255).to(torch.uint8))["copied"] > 0.95
    assert evaluator(digits.held_out)["copied"] == pytest.approx(evaluate.COPY_QUANTILE, abs=0.005)


def test_inverted_images_are_not_copies(digits, evaluator):
    assert evaluator(255 - digits.held_out)["copied"] < 0.02


DEGENERATE = {
    "black": lambda d: torch.zeros_like(d.held_out),
    "white": lambda d: torch.full_like(d.held_out, 255),
    "one training image": lambda d: d.train[:1].expand(449, -1, -1, -1),
    "two images": lambda d: d.train[:2].repeat(225, 1, 1, 1)[:449],
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_collapsed_generator_scores_badly(kind, digits, evaluator):
    scores = evaluator(DEGENERATE[kind](digits))
    assert all(math.isfinite(value) for value in scores.values()), scores
    assert scores["fd"] > 50
    assert scores["recall"] < 0.05
    assert scores["coverage"] < 0.1


def test_other_sample_count_is_refused(digits, evaluator):
    with pytest.raises(ValueError, match="exactly 449 samples, got 448"):
        evaluator(digits.held_out[:448])


def test_evaluation_restores_the_precision(digits, evaluator):
    torch.set_float32_matmul_precision("medium")
    try:
        evaluator(digits.held_out)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 1, 1), (3, 5, 100)]
)
def test_extractor_fits_any_image_shape(shape):
    shapes = evaluate.weight_shapes(*shape)
    weights = {name: torch.zeros(size) for name, size in shapes.items()}
    assert evaluate.features(weights, torch.zeros(2, *shape)).shape == (2, evaluate.FEATURES)


@pytest.fixture
def photos(digits, tmp_path):
    """A prepared folder of images: the digits under another name, with their extractor."""
    raw = (data.ASSETS / "digits-extractor.safetensors").read_bytes()
    (tmp_path / "extractor.safetensors").write_bytes(raw)
    return data.Images("photos", digits.train, digits.held_out, digits.sha256, tmp_path)


def test_prepared_extractor_is_loaded(photos, extractor):
    assert evaluate.load_extractor(photos).sha256 == extractor.sha256


def damaged(photos, content: bytes) -> str:
    """The message about an extractor file with this content."""
    (photos.folder / "extractor.safetensors").write_bytes(content)
    with pytest.raises(data.DataError) as caught:
        evaluate.load_extractor(photos)
    assert f"Delete {photos.folder} and run python -m trainer.prepare again" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_extractor_is_refused(photos):
    (photos.folder / "extractor.safetensors").unlink()
    with pytest.raises(data.DataError, match=r"missing or damaged.*run python -m trainer\.prepare"):
        evaluate.load_extractor(photos)


def test_damaged_extractor_is_refused(photos, extractor):
    about = {"about": f"of images {photos.sha256}; x"}

    def stored(**changes):
        return safetensors.torch.save(extractor.weights | changes, about)

    assert "missing or damaged" in damaged(photos, b"\x80\x04not safetensors")
    assert "does not fit" in damaged(photos, stored(scale=torch.ones(2)))
    assert "finite float32" in damaged(photos, stored(scale=torch.tensor(1.0, dtype=torch.float64)))
    assert "finite float32" in damaged(photos, stored(scale=torch.tensor(math.nan)))
    (photos.folder / "extractor.safetensors").write_bytes(stored())
    assert evaluate.load_extractor(photos).weights.keys() == extractor.weights.keys()


def test_extractor_of_other_images_is_refused(photos, digits):
    other = data.Images("photos", digits.train, digits.held_out, "0" * 64, photos.folder)
    with pytest.raises(data.DataError, match="was trained on other images"):
        evaluate.load_extractor(other)
