"""The suggestion services of a cluster: the points that they choose, the time to the first trial, their memory.

    python -m bench.suggestion_services --namespace lab --image lab.local/base:1 random tpe
    bayesianoptimization python -m bench.suggestion_services ... tpe --overlay
    manifests/overlays/katib manifests/overlays/katib-suggestions

Each search has 20 trials of a known function (the optimum is 10 at lr 5e-4, bs 64), 3 at a time;
every trial above lr 5e-3 fails, and grid has 20 points. The service is the one in katib-config.
--overlay installs each overlay in turn (it restarts Katib's controller) and runs every search with
it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.provenance import line

TRIALS, PARALLEL = 20, 3
TIMEOUT = 600  # seconds for a search; some services stop proposing trials
COMMAND = (
    "(awk -v l=${trialParameters.lr} 'BEGIN{exit !(l>0.005)}' && { sleep 3; exit 1; }; "
    "awk -v l=${trialParameters.lr} -v b=${trialParameters.bs} 'BEGIN{x=log(l)/log(10)+3.3; if(x<0)x=-x; "
    'y=(b-64)/16; if(y<0)y=-y; printf "fd=%.6f\\n", 10+30*x+y}\'; sleep 3)'
)
LR = {"min": "0.00001", "max": "0.01", "distribution": "logUniform"}
GRID = {"lr": ["0.00001", "0.0001", "0.0005", "0.002", "0.01"], "bs": ["32", "64", "96", "128"]}
USED = "cat /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes 2>/dev/null"


def main() -> None:
    """Run the searches one after the other and print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("algorithms", nargs="+")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--image", default="busybox:1.37")
    parser.add_argument(
        "--overlay", nargs="+", default=[""], help="Install these configurations of Katib in turn."
    )
    options = parser.parse_args()
    print(f"{line('optuna')}; load {os.getloadavg()[0]:.1f}; {TRIALS} trials, {PARALLEL} at a time")
    print(
        "algorithm            service        trials  distinct  failed  best     first trial  whole search  peak memory"
    )
    for overlay in options.overlay:
        if overlay:
            _install(overlay)
        for algorithm in options.algorithms:
            _run(algorithm, options.namespace, options.image)


def _install(overlay: str) -> None:
    controller = ["-n", "kubeflow", "rollout"]
    for words in (
        ["apply", "--server-side", "--force-conflicts", "-k", overlay],
        [*controller, "restart", "deployment", "katib-controller"],
        [*controller, "status", "deployment", "katib-controller", "--timeout=300s"],
    ):
        subprocess.run(["kubectl", *words], check=True, stdout=subprocess.DEVNULL)


def _run(algorithm: str, namespace: str, image: str) -> None:
    from tuner.engines.katib import KatibEngine
    from tuner.errors import Deadline
    from tuner.kube import EXPERIMENTS, TRIALS, Cluster
    from tuner.manifest import from_document
    from tuner.store.studies import Store

    name = f"bench-{algorithm[:12]}-{int(time.time()) % 10000}"
    body = _body(name, algorithm, image)
    with tempfile.TemporaryDirectory() as folder:
        engine = KatibEngine(
            Cluster.connect(), Store(Path(folder)), namespace=namespace, timeout=TIMEOUT
        )
        engine.submit(from_document(body))
        try:
            result, stuck = list(engine.watch(name))[-1].result, ""
        except Deadline:
            result, stuck = engine.store.result(name), f"; stuck, stopped after {TIMEOUT} s"
        made = engine.cluster.get(EXPERIMENTS, name, namespace=namespace)["metadata"][
            "creationTimestamp"
        ]
        label = f"katib.kubeflow.org/experiment={name}"
        trials = list(engine.cluster.list(TRIALS, namespace=namespace, labels=label))
        begun = min(trial["metadata"]["creationTimestamp"] for trial in trials)
        last = max(trial["status"].get("completionTime") or begun for trial in trials)
        service = engine.served.rpartition("/")[2].rstrip(")")
        memory = _memory(name, namespace)
        engine.cluster.delete(EXPERIMENTS, name, namespace=namespace)
    points = {json.dumps(dict(trial.parameters), sort_keys=True) for trial in result.trials}
    failed = sum(not math.isfinite(trial.metrics.get("fd", math.nan)) for trial in result.trials)
    best = f"{result.best.metrics['fd']:.3f}" if result.best else "none"
    print(
        f"{algorithm:20} {service[:28]:28} {len(result.trials):3} {len(points):3} {failed:3}  {best:8} "
        f"{_seconds(made, begun):4.0f} s {_seconds(made, last):5.0f} s {memory}; load {os.getloadavg()[0]:.0f}{stuck}",
        flush=True,
    )


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _memory(name: str, namespace: str) -> str:
    """The most memory that the service's container used, page cache included; "-" where its image has no shell."""
    pod = [
        "kubectl",
        "-n",
        namespace,
        "get",
        "pods",
        "-l",
        f"katib.kubeflow.org/suggestion={name}",
        "-o",
        "name",
    ]
    found = subprocess.run(pod, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        return "-"
    command = [
        "kubectl",
        "-n",
        namespace,
        "exec",
        found[0],
        "-c",
        "suggestion",
        "--",
        "sh",
        "-c",
        USED,
    ]
    used = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return f"{int(used[0]) >> 20} MiB" if used else "-"


def _settings(algorithm: str) -> list[dict[str, str]]:
    """Return a seed for the services that take one: goptuna's sobol has no settings."""
    return [] if algorithm == "sobol" else [{"name": "random_state", "value": "1"}]


def _body(name: str, algorithm: str, image: str) -> dict[str, Any]:
    spaces: dict[str, dict[str, Any]] = {"lr": LR, "bs": {"min": "32", "max": "128"}}
    kinds = {"lr": "double", "bs": "int"}
    if algorithm == "grid":
        spaces, kinds = (
            {key: {"list": values} for key, values in GRID.items()},
            dict.fromkeys(GRID, "discrete"),
        )
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
    }
    secure |= {"runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "trainer", "image": image, "command": ["sh", "-c"], "args": [COMMAND]}
    pod = {"restartPolicy": "Never", "containers": [container | {"securityContext": secure}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    return copy.deepcopy(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": name},
            "spec": {
                "objective": {
                    "type": "minimize",
                    "objectiveMetricName": "fd",
                    "metricStrategies": [{"name": "fd", "value": "latest"}],
                },
                "algorithm": {
                    "algorithmName": algorithm,
                    "algorithmSettings": _settings(algorithm),
                },
                "parallelTrialCount": PARALLEL,
                "maxTrialCount": TRIALS,
                "maxFailedTrialCount": TRIALS,
                "resumePolicy": "LongRunning",  # the service stays, so that its memory can be read
                "parameters": [
                    {"name": key, "parameterType": kinds[key], "feasibleSpace": space}
                    for key, space in spaces.items()
                ],
                "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
                "trialTemplate": {
                    "primaryContainerName": "trainer",
                    "trialParameters": [{"name": key, "reference": key} for key in spaces],
                    "trialSpec": job,
                },
            },
        }
    )


if __name__ == "__main__":
    main()
