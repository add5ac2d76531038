"""Training as an iterator: the schedule, divergence, and runs that resume after any step."""

import json
import math

import pytest
import torch

from trainer import data
from trainer.config import Config
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Evaluation, Training, check_stackable

KEYS = (  # noqa: SIM905 - as the line prints them
    "epoch step loss generator_loss discriminator_loss fd sw precision recall density coverage train_fd copied"
    " images_per_second train_seconds diverged"
).split()


@pytest.fixture(scope="module")
def images():
    return data.load("digits", None, torch.device("cpu"))


@pytest.fixture(scope="module")
def evaluator(images):
    return Evaluator(images, load_extractor(images), 128)


def config(*flags: str) -> Config:
    return Config.parse(
        [
            "--samples=128",
            "--bs=32",
            "--g-hidden=16,16",
            "--d-hidden=16,16",
            "--epochs=.6",
            "--evals=3",
            *flags,
        ]
    )


def lasting(evaluation: Evaluation) -> dict[str, float]:
    """The values that a repeated run reproduces: all except the measured times."""
    return {
        k: v
        for k, v in evaluation.values.items()
        if k not in ("images_per_second", "train_seconds")
    }


def test_evaluations_are_even_and_complete(images, evaluator):
    training = Training([config()], images, evaluator)
    found = list(training.run())
    assert [e.values["step"] for e in found] == [8, 17, 25]
    assert [e.final for e in found] == [False, False, True]
    assert found == training.history
    for evaluation in found:
        assert list(evaluation.values) == list(KEYS)
        assert all(math.isfinite(v) for v in evaluation.values.values())
        assert evaluation.values["loss"] == evaluation.values["generator_loss"]
        assert evaluation.values["diverged"] == 0
    assert found[-1].values["epoch"] == pytest.approx(25 * 32 / 1348, abs=1e-4)


def test_default_budget_in_images(images, evaluator):
    assert Training([Config.parse(["--bs=100", "--samples=128"])], images, evaluator).total == 2500
    assert (
        Training(
            [Config.parse(["--bs=100", "--n-critic=5", "--samples=128"])], images, evaluator
        ).total
        == 500
    )


def test_more_evaluations_than_steps(images, evaluator):
    assert Training([config("--epochs=.1", "--evals=50")], images, evaluator).schedule == [
        1,
        2,
        3,
        4,
    ]


def test_loss_is_mean_since_last_evaluation(images, evaluator):
    twin = Training([config()], images, evaluator)
    for _ in range(8):
        twin.step()
    first = next(Training([config()], images, evaluator).run())
    assert first.values["loss"] == twin.step.sums[1, 0].item() / 8
    assert first.values["discriminator_loss"] == twin.step.sums[0, 0].item() / 8


def test_run_is_reproducible(images, evaluator):
    a, b = (list(Training([config("--seed=4")], images, evaluator).run()) for _ in range(2))
    assert [lasting(e) for e in a] == [lasting(e) for e in b]
    other = list(Training([config("--seed=5")], images, evaluator).run())
    assert lasting(a[-1]) != lasting(other[-1])


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 20])
def test_resumed_run_matches_uninterrupted_run(images, evaluator, cut):
    whole = Training([config(), config("--lr=1e-3")], images, evaluator)
    list(whole.run())

    class Cut(Exception):
        pass

    first = Training([config(), config("--lr=1e-3")], images, evaluator)

    def between():
        if first.done == cut:
            raise Cut

    with pytest.raises(Cut):
        list(first.run(between))
    tensors, meta = first.state()
    second = Training([config(), config("--lr=1e-3")], images, evaluator)
    second.load_state({k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(meta)))
    list(second.run())
    assert [lasting(e) for e in second.history] == [lasting(e) for e in whole.history]
    for (name, a), b in zip(whole.state()[0].items(), second.state()[0].values(), strict=True):
        assert torch.equal(a, b), name


def test_diverged_trial_reports_untrained_scores(images, evaluator):
    training = Training(
        [config("--lr=10", "--loss=lsgan", "--optimizer=sgd", "--r1-gamma=1000", "--seed=3")],
        images,
        evaluator,
    )
    found = list(training.run())
    assert len(found) == 1
    assert found[0].diverged
    assert found[0].final
    assert found[0].values["step"] < 25  # stopped at once
    assert all(math.isfinite(v) for v in found[0].values.values())
    fresh = Training([config("--lr=1e-3", "--loss=lsgan", "--seed=3")], images, evaluator)
    scores = [evaluator(fresh.step.sample(0, z)) for z in fresh._noise]
    assert found[0].values["fd"] == sum(s["fd"] for s in scores) / 2


def test_divergence_does_not_affect_other_trials(images, evaluator):
    sgd = ["--optimizer=sgd", "--loss=lsgan"]
    calm = [config(*sgd, "--lr=1e-3", f"--seed={s}") for s in range(3)]
    wild = [calm[0], config(*sgd, "--lr=10", "--r1-gamma=1000", "--seed=1"), calm[2]]
    a, b = (list(Training(c, images, evaluator).run()) for c in (calm, wild))
    broken = [e for e in b if e.trial == 1]
    assert broken[-1].diverged
    assert [(e.trial, lasting(e)) for e in b if e.trial != 1] == [
        (e.trial, lasting(e)) for e in a if e.trial != 1
    ]


def test_infinite_weights_at_the_last_step(images, evaluator):
    training = Training([config("--evals=1")], images, evaluator)

    def between():
        if training.done == training.total:
            training.step.ema[0, 3] = math.inf

    assert [e.diverged for e in training.run(between)] == [True]


def test_stack_shares_the_other_flags():
    check_stackable([config("--lr=1e-3"), config("--beta1=.5", "--seed=9")])
    with pytest.raises(ValueError, match=r"--bs, got 32 and 16"):
        check_stackable([config(), config("--bs=16")])
