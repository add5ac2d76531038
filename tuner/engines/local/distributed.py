"""The environment in which the training operators of Kubeflow start a distributed program, for a world of one process.

A program that calls `torch.distributed.init_process_group()`, or that `torchrun` starts, needs
these variables. Each trial gets a port of its own, so that several of them can run at once.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

_HOST = "127.0.0.1"


def environment(kind: str) -> Mapping[str, str]:
    """Return the variables of the only process of a job: empty for a kind that needs none.

    They are those of the PyTorchJob and XGBoostJob controllers of kubeflow/training-operator and of
    the torch runtime of kubeflow/trainer. A TFJob with a single replica has no TF_CONFIG there
    either.
    """
    if kind not in ("PyTorchJob", "XGBoostJob", "TrainJob"):
        return {}
    port = _free_port()
    plain = {"MASTER_ADDR": _HOST, "MASTER_PORT": port, "WORLD_SIZE": "1", "RANK": "0"}
    torchrun = {  # it reads each of its options from PET_OPTION
        "PET_NNODES": "1",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": _HOST,
        "PET_MASTER_PORT": port,
    }
    return {"XGBoostJob": plain, "TrainJob": torchrun}.get(kind, plain | torchrun)


def _free_port() -> str:
    with socket.socket() as one:
        one.bind((_HOST, 0))
        return str(one.getsockname()[1])
