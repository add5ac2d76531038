"""What a trial uses of the machine: the device, the number of CPU threads, and the precision of matrix products."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from trainer.config import Config, UsageError

SMALL = 600_000  # weights of both networks: the default run has 112,000 on digits, 480,000 on MNIST


def device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`. Raises UsageError if CUDA is asked for and not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device=cuda: torch {torch.__version__} finds no CUDA device on this machine. Use --device=cpu or auto,"
            " or run the -cuda image on a node with a GPU"
        )
    return torch.device(name)


def threads(
    asked: int,
    root: Path = Path("/sys/fs/cgroup"),
    environ: "os._Environ[str] | dict[str, str]" = os.environ,
) -> int:
    """Return the number of CPU threads: `asked`, or the smallest of OMP_NUM_THREADS, cgroup quota and allowed CPUs.

    More threads than the quota are much slower, because throttled threads make the others wait at
    every barrier.
    """
    if asked:
        return asked
    limits = [float(len(os.sched_getaffinity(0)))]
    quota = cgroup_quota(root)
    if quota is not None:
        limits.append(quota)
    preset = environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if preset.isdigit() and int(preset):
        limits.append(int(preset))
    return max(1, int(min(limits)))


def cgroup_quota(root: Path) -> float | None:
    """Return the CPUs that the cgroup grants: v2 `cpu.max` ("200000 100000"), v1 `cpu.cfs_quota_us`, or None.

    Inside a container the cgroup's files are at the root of the mount. An unreadable file is no
    limit.
    """
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    for folder in (root / "cpu", root / "cpu,cpuacct"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            return (
                None if quota_us < 0 else quota_us / int((folder / "cpu.cfs_period_us").read_text())
            )
    return None


def threads_for(weights: int, available: int) -> int:
    """Return 1 for networks that are too small to gain from more threads, else `available` (docs/reference/trainer.md)."""
    return available if weights > SMALL else 1


@contextlib.contextmanager
def settings(config: Config) -> Iterator[None]:
    """Apply the flags to torch's threads and TF32 in the block, and restore both: a process may run many trials."""
    if config.precision == "tf32" and device(config.device).type == "cpu":
        raise UsageError(
            "--precision=tf32: there is no CUDA device, and the CPU has no TF32. Use fp32 or bf16"
        )
    before = (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
    torch.set_num_threads(threads(config.threads))
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]


def description(where: torch.device) -> str:
    """Return the name of the device, for run.json."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"cpu, {torch.get_num_threads()} threads"
