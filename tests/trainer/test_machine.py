"""CPU threads from cgroup files, and settings that are restored."""

import pytest
import torch

from trainer import machine
from trainer.config import Config, UsageError


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu.max": "100000 0"}, None),
        ({}, None),
    ],
)
def test_quota_of_cgroup_versions(tmp_path, files, quota):
    for name, text in files.items():
        write(tmp_path, name, text)
    assert machine.cgroup_quota(tmp_path) == quota


def test_threads_are_the_smallest_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert machine.threads(0, tmp_path, {}) == 8
    assert machine.threads(0, tmp_path, {"OMP_NUM_THREADS": "3"}) == 3
    write(tmp_path, "cpu.max", "250000 100000")
    assert machine.threads(0, tmp_path, {"OMP_NUM_THREADS": "3"}) == 2
    write(tmp_path, "cpu.max", "20000 100000")
    assert machine.threads(0, tmp_path, {}) == 1
    assert machine.threads(5, tmp_path, {}) == 5


def test_small_step_uses_one_thread():
    assert machine.threads_for(112_000, 8) == 1
    assert machine.threads_for(1_000_000, 8) == 8


def test_settings_are_restored():
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with machine.settings(Config.parse(["--threads=3"])):
            assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (3, "highest")
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (
            before[0],
            "high",
        )
    finally:
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_tf32_needs_a_gpu():
    config = Config.parse(["--precision=tf32"])
    with (
        pytest.raises(UsageError, match=r"--precision=tf32.*fp32 or bf16"),
        machine.settings(config),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_a_usage_error():
    with pytest.raises(UsageError, match=r"--device=cuda.*--device=cpu"):
        machine.device("cuda")
    assert machine.device("auto") == torch.device("cpu")
