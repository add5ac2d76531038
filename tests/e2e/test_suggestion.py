"""Our suggestion service on a real cluster: the local engine's points, and searches that nothing stops.

It needs the overlay manifests/overlays/katib-suggestions: without it these tests are skipped.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import kubectl
from tests.e2e.test_client import experiment
from tuner.engines.katib import KatibEngine
from tuner.engines.katib.services import Kind
from tuner.engines.local import LocalEngine
from tuner.experiment.model import Experiment
from tuner.kube import Cluster
from tuner.result import Result, StudyState, TrialState
from tuner.space import text
from tuner.store.studies import Store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
VALUE = (  # the optimum is 10, at lr 5e-4 and bs 64
    "awk -v l=${trialParameters.lr} -v b=${trialParameters.bs} 'BEGIN{x=log(l)/log(10)+3.3; if(x<0)x=-x; "
    'y=(b-64)/16; if(y<0)y=-y; printf "fd=%.6f\\n", 10+30*x+y}\''
)
SURFACE = f"{VALUE}; sleep 3"  # so that the collector sees the process
ABOVE = "awk -v l=${trialParameters.lr} 'BEGIN{exit !(l>0.002)}' && { sleep 3; "
FAILS, NANS, SILENT = (
    f"{ABOVE}{deed}; }}; {SURFACE}" for deed in ("exit 1", "echo fd=nan; exit 0", "exit 0")
)


def search(
    name: str, algorithm: str, command: str = SURFACE, *, trials: int, parallel: int
) -> Experiment:
    """An Experiment whose failures never end it."""
    settings = [{"name": "random_state", "value": "7"}]
    return experiment(
        name,
        command,
        algorithm={"algorithmName": algorithm, "algorithmSettings": settings},
        maxTrialCount=trials,
        maxFailedTrialCount=trials,
        parallelTrialCount=parallel,
        metricsCollectorSpec={"collector": {"kind": "StdOut"}},
    )


class Lab:
    """Katib with our service, and a namespace."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.engine = KatibEngine(Cluster.connect(), Store(folder / "cluster"), namespace=namespace)

    def start(self, what: Experiment) -> None:
        """Submit it; skips the test where Katib's own service answers."""
        self.engine.submit(what)
        if Kind.OURS.value not in self.engine.served:
            pytest.skip(f"{self.engine.served}: apply manifests/overlays/katib-suggestions first")

    def finish(self, name: str) -> Result:
        """Watch it to its end."""
        return list(self.engine.watch(name))[-1].result

    def locally(self, what: Experiment) -> Result:
        """The same manifest on this machine."""
        engine = LocalEngine(Store(self.folder / "local"), workers=1)
        return list(engine.run(what))[-1].result


@pytest.fixture
def lab(namespace: str, tmp_path: Path) -> Lab:
    return Lab(namespace, tmp_path)


def points(result: Result) -> list[dict[str, str]]:
    return [
        {name: text(value) for name, value in trial.parameters.items()} for trial in result.trials
    ]


@pytest.mark.parametrize(
    ("algorithm", "trials"), [("bayesianoptimization", 12), ("tpe", 14), ("cmaes", 8)]
)
def test_cluster_and_local_engine_choose_the_same_points(
    algorithm: str, trials: int, lab: Lab
) -> None:
    what = search(f"parity-{algorithm[:5]}", algorithm, trials=trials, parallel=1)
    lab.start(what)
    remote, local = lab.finish(what.name), lab.locally(what)
    assert [trial.number for trial in remote.trials] == list(range(trials))
    assert points(remote) == points(local)
    assert [trial.metrics["fd"] for trial in remote.trials] == [
        trial.metrics["fd"] for trial in local.trials
    ]


@pytest.mark.parametrize("algorithm", ["bayesianoptimization", "tpe"])
def test_parallel_trials_choose_the_local_points(algorithm: str, lab: Lab) -> None:
    """The first trial is shorter than the others, so that two trials at a time finish one after the other."""
    name, trials = f"pair-{algorithm[:5]}", 14
    local = lab.locally(search(name, algorithm, VALUE, trials=trials, parallel=2))
    first = text(local.trials[0].parameters["lr"])
    paced = f"{VALUE}; [ ${{trialParameters.lr}} = {first} ] && sleep 6 || sleep 14"
    lab.start(search(name, algorithm, f"({paced})", trials=trials, parallel=2))
    remote = lab.finish(name)
    assert remote.state is StudyState.SUCCEEDED
    ordered = in_order(remote, 2)
    assert ordered >= trials - 2, (
        f"only {ordered} trials finished in order: the machine is too busy for this test"
    )
    assert points(remote)[:ordered] == points(local)[:ordered]


def in_order(result: Result, parallel: int) -> int:
    """Return how many trials, from the first, began after all trials had finished that they learn from."""
    for trial in result.trials:
        for earlier in result.trials[: max(0, trial.number - parallel + 1)]:
            if earlier.ended is None or trial.started is None or earlier.ended > trial.started:
                return trial.number
    return len(result.trials)


@pytest.mark.parametrize("algorithm", ["random", "bayesianoptimization"])
def test_service_runs_in_a_restricted_namespace(
    algorithm: str, make_namespace: Callable[..., str], tmp_path: Path
) -> None:
    lab = Lab(make_namespace("pod-security.kubernetes.io/enforce=restricted"), tmp_path)
    lab.start(search("restricted", algorithm, trials=4, parallel=2))
    result = lab.finish("restricted")
    assert result.state is StudyState.SUCCEEDED
    assert len({tuple(point.values()) for point in points(result)}) == 4


def test_search_survives_ten_killed_pods(lab: Lab) -> None:
    """The pod is also killed after a trial without metrics, which Katib does not send."""
    what = search("killed", "tpe", SILENT, trials=30, parallel=3)
    lab.start(what)
    done = threading.Event()
    kills: list[float] = []

    def kill() -> None:
        label = "katib.kubeflow.org/suggestion=killed"
        while len(kills) < 10 and not done.wait(6):
            if kubectl(
                "-n",
                lab.namespace,
                "delete",
                "pod",
                "-l",
                label,
                "--grace-period=0",
                "--force",
                check=False,
            ):
                kills.append(time.monotonic())

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        result = lab.finish("killed")
    finally:
        done.set()
        thread.join()
    assert len(kills) >= 5
    assert result.state is StudyState.SUCCEEDED
    missing = [trial for trial in result.trials if trial.state is TrialState.METRICS_UNAVAILABLE]
    assert missing
    assert missing[0].number < 15, "the pod must be killed after the first one"
    # Katib does not count trials without metrics towards maxTrialCount, and asks for others
    assert [trial.number for trial in result.trials] == list(range(len(result.trials)))
    assert len(result.trials) >= 30
    assert len({tuple(point.values()) for point in points(result)}) == len(result.trials)


@pytest.mark.parametrize(
    ("kind", "command"), [("failing", FAILS), ("nan", NANS), ("silent", SILENT)]
)
def test_search_leaves_a_region_without_values(kind: str, command: str, lab: Lab) -> None:
    """Trials there fail, report NaN, or report nothing; the search has its twenty trials all the same."""
    lab.start(search(kind, "tpe", command, trials=20, parallel=3))
    result = lab.finish(kind)
    assert result.state is StudyState.SUCCEEDED
    without = [
        trial for trial in result.trials if not math.isfinite(trial.metrics.get("fd", math.nan))
    ]
    assert len(result.trials) - len(without) >= 14
    assert len({tuple(point.values()) for point in points(result)}) == len(result.trials)
    # the last may still run when it ends
    assert all(trial.state is not TrialState.SUCCEEDED for trial in without)


def test_deleted_trial_is_made_again(lab: Lab) -> None:
    what = search("deleted", "random", trials=8, parallel=2)
    lab.start(what)
    events: Any = lab.engine.watch("deleted")
    first = next(event.trial for event in events if event.trial)
    kubectl("-n", lab.namespace, "delete", "trial", first.name)
    result = list(events)[-1].result
    assert result.state is StudyState.SUCCEEDED
    assert len({tuple(point.values()) for point in points(result)}) == 8


@pytest.mark.slow
def test_two_hundred_trials_need_no_restart(lab: Lab) -> None:
    lab.start(search("large", "bayesianoptimization", trials=200, parallel=5))
    label = "katib.kubeflow.org/suggestion=large"
    restarts = set()
    for event in lab.engine.watch("large"):
        if event.trial is not None and event.trial.number % 20 == 0:
            path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}"
            restarts |= set(
                kubectl("-n", lab.namespace, "get", "pods", "-l", label, "-o", path).split()
            )
        result = event.result
    assert restarts == {"0"}
    assert [trial.number for trial in result.trials] == list(range(200))
    assert len({tuple(point.values()) for point in points(result)}) == 200
