"""The cluster engine: one Experiment submitted to Katib, watched, collected, extended, stopped, deleted.

    engine = KatibEngine(Cluster.connect(), Store())
    name = engine.submit(load("manifests/bayes.yaml"))
    for event in engine.watch(name): ...

Katib's own verdicts are checked: `currentOptimalTrial` and a reached goal can be wrong once a trial reports a NaN
(KATIB.md section 3.3), so the best trial is always Result.best, recomputed from the trials.
"""

from tuner.engines.katib.engine import KatibEngine
from tuner.engines.katib.sync import refresh

__all__ = ["KatibEngine", "refresh"]
