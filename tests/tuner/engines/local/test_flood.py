"""A trial that floods its output: the client's memory stays bounded, and its neighbours are not kept waiting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS

CLIENT = """
import json, resource, sys
from pathlib import Path
from tests.tuner.experiments import events, experiment
from tuner.engines.local import LocalEngine
from tuner.store.studies import Store
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine = LocalEngine(Store(Path(sys.argv[1])), workers=2)
what = experiment(command=["sh", "-c"], args=[sys.argv[2]], trials=4, parallel=3)
before, order, messages = 0, [], []
for event in engine.run(what):
    before = before or peak()
    if event.kind.value == "trial_ended":
        order.append(event.trial.number)
    messages.append(event.message)
final = event.result.trials[0]
print(json.dumps([peak() - before, order, messages, dict(final.metrics)]))
"""
FLOODS = {
    "lines": "yes fd=1 | head -c 10000000; echo fd=0.5; echo fd=2",
    "line": "head -c 20000000 /dev/zero | tr '\\\\0' x; echo; echo fd=0.5; echo fd=2",
}


@pytest.mark.parametrize("how", FLOODS)
def test_flood_delays_no_neighbour(tmp_path: Path, how: str) -> None:
    script = f'case "$KATIB_TRIAL_NAME" in *-0) {FLOODS[how]};; *) echo fd=3;; esac'
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(tmp_path), script],
        cwd=TRIALS,
        env=os.environ | {"PYTHONPATH": str(TRIALS.parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    memory, order, messages, metrics = json.loads(done.stdout)
    assert memory < 50 << 10  # KiB
    assert metrics == {"fd": 2.0}
    if how == "lines":
        assert order[0] != 0  # a neighbour was judged while the flood was read
        assert any(m.startswith("study-0 reported 2,000,002 values of fd: ") for m in messages)
