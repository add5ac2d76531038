"""What the trial may use of the machine: the device, CPU threads from the cgroup quota, matrix product precision."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from trainer.config import Config, UsageError

SMALL = 200_000  # weights of both networks: the default run on digits has 112,000


def device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> device. Raises UsageError where CUDA was asked for and is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device=cuda: torch {torch.__version__} sees no CUDA device here; use --device=cpu or auto,"
            " or run the -cuda image on a node with a GPU"
        )
    return torch.device(name)


def threads(
    asked: int, root: Path = Path("/sys/fs/cgroup"), environ: "os._Environ[str] | dict[str, str]" = os.environ
) -> int:
    """CPU threads to use: those asked for, or the least of OMP_NUM_THREADS, the cgroup's quota and the CPUs allowed.

    More threads than the quota are a cliff, not a slope: throttled threads make the others wait at every barrier.
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
    """CPUs that the cgroup grants: v2 `cpu.max` ("200000 100000"), v1 `cpu.cfs_quota_us`; None without a limit.

    Inside a container the cgroup's own files lie at the root of the mount. An unreadable file is no limit.
    """
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    for folder in (root / "cpu", root / "cpu,cpuacct"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            return None if quota_us < 0 else quota_us / int((folder / "cpu.cfs_period_us").read_text())
    return None


def threads_for(weights: int, available: int) -> int:
    """One thread for a step that is too small to share: at 200,000 weights a second one gains 3 % when it is free, and
    costs up to 30 times when another process holds the core (measured on 2 cores, docs/trainer.md).
    """
    return available if weights > SMALL else 1


@contextlib.contextmanager
def settings(config: Config) -> Iterator[None]:
    """Threads and TF32 as the flags say, and as they were afterwards: a worker runs many trials in one process."""
    if config.precision == "tf32" and device(config.device).type == "cpu":
        raise UsageError("--precision=tf32: there is no CUDA device here, and the CPU has no TF32; use fp32 or bf16")
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
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
    """The device in words, for the record of the run."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"cpu, {torch.get_num_threads()} threads"
