"""The cluster engine: one Experiment submitted to Katib, watched, collected, extended, stopped, deleted.

    engine = KatibEngine(Cluster.connect(), Store())
    name = engine.submit(load("manifests/bayes.yaml"))
    for event in engine.watch(name): ...

Katib's `currentOptimalTrial` and its report of a reached goal can be wrong after a trial reported a
NaN. So the best trial is always Result.best, computed again from the trials.
"""

from tuner.engines.katib.engine import KatibEngine
from tuner.engines.katib.sync import refresh

__all__ = ["KatibEngine", "refresh"]
