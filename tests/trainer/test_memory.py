"""Available memory from files as the kernel writes them, and refusals before an allocation."""

import ctypes
import math

import psutil
import pytest
import torch

from tests.trainer.test_bad_input import refused
from trainer import data, estimate, memory
from trainer.config import Config, UsageError
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Training, architecture
from trainer.step import Step

GIB = memory.GIB


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2 = {
    "memory.max": f"{4 * GIB}\n",
    "memory.current": f"{3 * GIB}\n",
    "memory.stat": f"anon 5\ninactive_file {GIB}\n",
}
V1 = {
    "memory/memory.limit_in_bytes": f"{4 * GIB}", "memory/memory.usage_in_bytes": f"{2 * GIB}",
    "memory/memory.stat": "total_inactive_file 0\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "", 8 * GIB),
        (V2, "0::/\n", 2 * GIB),
        ({f"pods/trial/{name}": text for name, text in V2.items()}, "0::/pods/trial\n", 2 * GIB),
        ({f"pods/{name}": text for name, text in V2.items()}, "0::/pods/trial\n", 2 * GIB),
        (V2 | {"memory.max": "max\n"}, "0::/\n", 8 * GIB),
        (V2 | {"memory.max": f"{GIB}\n"}, "0::/\n", 0),
        (V2 | {"memory.current": "nonsense"}, "0::/\n", 8 * GIB),
        (V1, "4:cpu,memory:/\n", 2 * GIB),
        (V2, "0::/../elsewhere\n", 2 * GIB),
    ],
)
def test_smallest_limit_is_available(files, own, expected, tmp_path):
    write(tmp_path / "cgroup", files)
    write(tmp_path, {"meminfo": "MemTotal: 1 kB\nMemAvailable: 8388608 kB\n", "own": own})
    assert (
        memory.available_bytes(tmp_path / "cgroup", tmp_path / "meminfo", tmp_path / "own")
        == expected
    )


def test_unknown_limit_allows_everything(tmp_path):
    assert memory.available_bytes(tmp_path, tmp_path / "a", tmp_path / "b") is None


def test_own_machine_agrees_with_psutil():
    available = memory.available_bytes()
    assert available is not None
    assert available <= 1.05 * psutil.virtual_memory().available


def test_message_names_flag_and_sizes():
    with pytest.raises(
        UsageError, match=r"^--samples needs about 3\.0 GiB of memory, but only 1\.0 GiB is"
    ):
        memory.require(3 * GIB, "--samples", "Lower it.", GIB)
    memory.require(GIB, "--samples", "Lower it.", GIB)


BATCH = "--bs, --n-critic, --g-hidden and --d-hidden"
WIDE = ",".join(["65536"] * 40)  # 40 matrices of 16 GiB


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        ([f"--g-hidden={WIDE}"], "--latent-dim, --g-hidden and --d-hidden"),
        (["--latent-dim=65536", f"--d-hidden={WIDE}"], "--latent-dim, --g-hidden and --d-hidden"),
        (["--latent-dim=65536", "--samples=1000000"], "--samples"),
        (["--latent-dim=65536", "--bs=65536", "--n-critic=100"], BATCH),
        (
            ["--model=dcgan", f"--g-hidden={','.join(['8'] * 24)}", "--d-hidden=4"],
            BATCH,
        ),
    ],
)
def test_flags_beyond_memory_are_refused(argv, flags, tmp_path, capsys):
    err = refused(capsys, [*argv, f"--output-dir={tmp_path / 'o'}"])
    assert err.startswith(f"trainer: {flags} needs about ")
    assert f"Lower {flags}" in err
    assert not (tmp_path / "o").exists()


def peak_over(work) -> int:
    """How many bytes the process's memory rises while `work` runs, by the kernel's own high-water mark."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests freed would not count
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset VmHWM
    before = psutil.Process().memory_info().rss
    work()
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024
    return peak - before


@pytest.mark.parametrize(
    "flags",
    [
        ["--g-hidden=2048,2048,2048", "--d-hidden=2048,2048", "--samples=64"],
        pytest.param(["--samples=60000", "--latent-dim=8"], marks=pytest.mark.slow),
        ["--samples=20000", "--latent-dim=2000"],
        ["--bs=16384", "--samples=64", "--epochs=40"],
    ],
)
def test_estimate_covers_the_measured_peak(flags):
    """Not below the peak of a real run, and not above three times of it plus 200 MB."""
    config = Config.parse(["--evals=1", "--epochs=0.2", *flags])
    images = data.load("digits", None, torch.device("cpu"))
    extractor = load_extractor(images)
    Evaluator(images, extractor, 64)  # libraries allocate their buffers at first use

    def work():
        for evaluation in Training(
            [config], images, Evaluator(images, extractor, config.samples)
        ).run():
            assert math.isfinite(evaluation.values["fd"])

    expected = sum(estimate.parts(config, architecture(config, images.shape), on_cpu=True).values())
    measured = peak_over(work)
    print(f"estimate {expected / 2**20:.0f} MB, measured {measured / 2**20:.0f} MB")
    # libraries keep buffers for the threads of earlier tests in this process
    assert measured <= expected + 250 * 2**20
    assert expected <= 3 * measured + 200 * 2**20


@pytest.mark.parametrize("penalty", ["--r2-gamma=1", "--r2-gamma=0"])
def test_estimate_for_resnet_is_within_a_fifth(penalty):
    images = torch.zeros(300, 3, 32, 32, dtype=torch.uint8)
    config = Config.parse(["--preset=r3gan", "--bs=256", "--samples=64", penalty])
    arch = architecture(config, (3, 32, 32))
    measured = peak_over(Step(arch, [config], images))
    expected = sum(estimate.parts(config, arch, on_cpu=True).values())
    print(f"estimate {expected / 2**20:.0f} MB, measured {measured / 2**20:.0f} MB")
    assert 0.8 * measured <= expected <= 1.2 * measured
