"""The changes of one Experiment, its trials and its pods, each watched by its own thread (tuner.kube.listwatch)."""

from __future__ import annotations

import queue
import threading

from tuner.engines.katib.clock import Clock
from tuner.engines.katib.experiment import LiveExperiment
from tuner.errors import ClusterError, Forbidden
from tuner.kube import EXPERIMENTS, PODS, TRIALS, Cluster, Resource
from tuner.kube.listwatch import Change, follow
from tuner.kube.streams import Stop


class Changes:
    """The changes of all three kinds, in the order in which they arrive."""

    def __init__(self, cluster: Cluster, study: LiveExperiment, clock: Clock) -> None:
        self._cluster, self._study, self._clock = cluster, study, clock
        self._queue: queue.Queue[Change | Forbidden | ClusterError] = queue.Queue(maxsize=256)
        self._stop = Stop()  # set() ends the three streams at once

    def start(self) -> None:
        """Start the three watches."""
        selectors = (
            (EXPERIMENTS, {"fields": f"metadata.name={self._study.name}"}),
            (TRIALS, {"labels": self._study.label}),
            (PODS, {"labels": self._study.label}),
        )
        for resource, selector in selectors:
            threading.Thread(target=self._follow, args=(resource, selector), daemon=True).start()

    def get(self, timeout: float) -> Change | Forbidden | None:
        """Return the next change, None after the timeout, or Forbidden where only the pods may not be listed.

        Raises what ended one of the watches.
        """
        try:
            change = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(change, ClusterError) and not isinstance(change, _PodsForbidden):
            raise change
        return change

    def close(self) -> None:
        """End the three watches; changes that were not read are dropped."""
        self._stop.set()

    def _follow(self, resource: Resource, selector: dict[str, str]) -> None:
        try:
            for change in follow(
                self._cluster,
                resource,
                self._stop,
                namespace=self._study.namespace,
                first_wait=self._clock.timeout(1.0),
                **selector,
            ):
                if not self._put(change):
                    return
        except ClusterError as error:
            self._put(
                _PodsForbidden(str(error))
                if isinstance(error, Forbidden) and resource is PODS
                else error
            )
        except Exception as error:  # if a thread failed silently, the watch would wait forever
            failure = ClusterError(
                f"the watch of {resource.plural} failed: {type(error).__name__}: {error}"
            )
            failure.__cause__ = error
            self._put(failure)

    def _put(self, change: Change | ClusterError) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(change, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False


class _PodsForbidden(Forbidden):
    """The pods may not be listed. The watch continues without them."""
