"""Training time: what train_seconds counts, and trials of equal time."""

import time

import pytest
import torch

from trainer import data
from trainer.__main__ import main
from trainer.config import Config, UsageError
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Training

SMALL = ["--samples=64", "--g-hidden=16,16", "--d-hidden=16,16", "--bs=32"]


@pytest.fixture(scope="module")
def images():
    return data.load("digits", None, torch.device("cpu"))


@pytest.fixture(scope="module")
def evaluator(images):
    return Evaluator(images, load_extractor(images), 64)


def training(images, evaluator, *flags):
    return Training([Config.parse([*SMALL, *flags])], images, evaluator)


def test_training_time_excludes_evaluations(images, evaluator):
    def slow(fake):
        time.sleep(0.1)
        return evaluator(fake)

    slow.samples = 64
    start = time.perf_counter()
    found = list(training(images, slow, "--epochs=1", "--evals=5").run())
    total = time.perf_counter() - start
    seconds = [e.values["train_seconds"] for e in found]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] < total - 5 * 2 * 0.1


def test_training_time_accumulates_over_resumes(images, evaluator):
    first = training(images, evaluator, "--epochs=1", "--evals=2")
    next(run := first.run())
    run.close()
    first.train_seconds += 100  # as if this part had taken long
    second = training(images, evaluator, "--epochs=1", "--evals=2")
    second.load_state(*first.state())
    last = list(second.run())[-1]
    assert 100 < last.values["train_seconds"] < 200


def test_speed_is_images_per_training_second(images, evaluator):
    (final,) = training(images, evaluator, "--epochs=1", "--evals=1").run()
    expected = final.values["step"] * 32 / final.values["train_seconds"]
    assert final.values["images_per_second"] == pytest.approx(expected, rel=0.05)


def test_budget_of_seconds_is_kept(images, evaluator):
    found = list(training(images, evaluator, "--budget-seconds=0.4", "--evals=4").run())
    assert [e.final for e in found] == [False, False, False, True]
    for evaluation, due in zip(found, (0.1, 0.2, 0.3, 0.4), strict=True):
        assert due - 0.001 <= evaluation.values["train_seconds"] < due + 0.3
    assert found[-1].values["step"] > found[0].values["step"] > 0


def test_budget_smaller_than_a_step_trains_a_step(images, evaluator):
    found = list(training(images, evaluator, "--budget-seconds=0.001", "--evals=3").run())
    assert [e.values["step"] for e in found] == [1, 2, 3]


def test_budget_of_seconds_resumes(images, evaluator):
    flags = ["--budget-seconds=0.3", "--evals=3"]
    first = training(images, evaluator, *flags)
    next(run := first.run())
    run.close()
    second = training(images, evaluator, *flags)
    second.load_state(*first.state())
    list(second.run())
    assert len(second.history) == 3
    assert 0.3 <= second.history[-1].values["train_seconds"] < 0.6


def test_two_budgets_are_refused():
    with pytest.raises(UsageError, match="--budget-seconds and --epochs are both given"):
        Config.parse(["--budget-seconds=1", "--epochs=1"])


def test_command_prints_the_training_time(tmp_path, capsys):
    assert main([*SMALL, "--budget-seconds=0.2", "--evals=1", f"--output-dir={tmp_path}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert 0.2 <= float(dict(pair.split("=") for pair in line.split()[1:])["train_seconds"]) < 1
