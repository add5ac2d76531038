"""The Inception network: equal to torch-fidelity's on random weights, and files that hold something else."""

import dataclasses

import pytest
import safetensors.torch
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from trainer import data
from trainer.data import DataError
from trainer.evaluate import SCORES, Evaluator
from trainer.inception import load_inception


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """torch-fidelity's network with random weights."""
    with pytest.MonkeyPatch.context() as patch:
        # the constructor insists on a file with weights
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="none")
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "bn.bias")):
            tensor.normal_(0, 0.1)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("conv.weight"):
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
    return network


@pytest.fixture(scope="module")
def weights(oracle, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    state = {k: v.contiguous() for k, v in oracle.state_dict().items() if v.is_floating_point()}
    safetensors.torch.save_file(state, path)
    return path


@pytest.mark.parametrize("shape", [(2, 3, 32, 20), (1, 3, 400, 299)])
def test_features_equal_torch_fidelity(shape, oracle, weights):
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).byte()
    (expected,) = oracle(images)
    torch.testing.assert_close(load_inception(weights)(images), expected, rtol=1e-4, atol=1e-4)


def test_grey_images_count_as_colour(weights):
    grey = torch.randint(0, 256, (1, 1, 8, 8), dtype=torch.uint8)
    extractor = load_inception(weights)
    assert torch.equal(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))


def test_other_files_are_refused(weights, tmp_path):
    state = safetensors.torch.load_file(weights)
    for change in ({"Mixed_7c.branch_pool.conv.weight": torch.zeros(3)}, {"fc.weight": None}):
        broken = {k: v for k, v in (state | change).items() if v is not None}
        del broken["Mixed_6e.branch1x1.bn.bias"]
        path = tmp_path / "other.safetensors"
        safetensors.torch.save_file(broken, path)
        with pytest.raises(DataError, match="does not hold the weights of Inception"):
            load_inception(path)
    path.write_bytes(b"\x80\x04\x95cos\nsystem")
    with pytest.raises(DataError, match=r"--inception=.*other\.safetensors"):
        load_inception(path)
    with pytest.raises(DataError, match="No such file"):
        load_inception(tmp_path / "missing")


@pytest.mark.slow
def test_evaluator_scores_with_inception(weights):
    digits = data.load("digits", None, torch.device("cpu"))
    few = dataclasses.replace(digits, train=digits.train[:12], held_out=digits.held_out[:8])
    scores = Evaluator(few, load_inception(weights), 8)(digits.train[100:108])
    assert tuple(scores) == SCORES
    assert 0 < scores["fd"] < float("inf")
