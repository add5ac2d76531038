"""Client: a store and a cluster, on which the functions of tuner.api and the command line work."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tuner.engines import ENGINES
from tuner.engines.base import Engine
from tuner.errors import ClusterError, NoCluster, NoKatib, StudyNotFound
from tuner.experiment.model import Experiment
from tuner.katib.facts import NAMESPACE
from tuner.result import Result
from tuner.store.studies import EngineKind, Store

if TYPE_CHECKING:
    from tuner.engines.katib import KatibEngine
    from tuner.engines.local import LocalEngine
    from tuner.report import View


def warn(message: str) -> None:
    """Issue a UserWarning at the line outside this package that led to it."""
    frame, level = sys._getframe(1), 2
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == __package__
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class Client:
    """Gives the functions of tuner.api and the command line access to a store and a cluster.

    Args:
        store: The directory of the studies; None takes GANTUNE_STORE, or else .gantune.
        namespace: The namespace of Experiments; "" takes the study's, the manifest's or the
        context's.
        context: The kubeconfig's context; None takes the current one.
        katib_namespace: Where Katib is installed.
        notify: Receives each warning.
    """

    def __init__(
        self,
        store: str | Path | None = None,
        *,
        namespace: str = "",
        context: str | None = None,
        katib_namespace: str = NAMESPACE,
        notify: Callable[[str], None] = warn,
    ) -> None:
        self.store, self.notify = Store(store), notify
        self._cluster = {
            "namespace": namespace,
            "context": context,
            "katib_namespace": katib_namespace,
        }

    def local(self, **options: Any) -> LocalEngine:
        """Return the local engine; the options are those of LocalEngine."""
        from tuner.engines.local import LocalEngine

        return LocalEngine(self.store, **options)

    def cluster(self, *, timeout: float | None = None) -> KatibEngine:
        """Return the cluster's engine; a watch ends after `timeout` seconds. Raises Unreachable without kubeconfig."""
        engine = ENGINES[EngineKind.KATIB](
            self.store, **self._cluster, timeout=timeout, notify=self.notify
        )
        return cast("KatibEngine", engine)

    def find(self, name: str, *, local: bool | None = None) -> EngineKind | None:
        """Return which engine has study NAME in the store. Raises StudyError where both have and `local` is None."""
        remote = local is False or bool(self._cluster["namespace"] or self._cluster["context"])
        return self.store.find(
            name, EngineKind.KATIB if remote else None if local is None else EngineKind.LOCAL
        )

    def engine(self, name: str, *, local: bool | None = None) -> Engine:
        """Return the engine of study NAME. A study that the store does not have is assumed to be on the cluster.

        Raises StudyNotFound where there is no cluster either.
        """
        if local or self.find(name, local=local) is EngineKind.LOCAL:
            return ENGINES[EngineKind.LOCAL](self.store)
        return self.on_cluster(name, local=local)

    def on_cluster(
        self, name: str, *, local: bool | None = None, timeout: float | None = None
    ) -> KatibEngine:
        """Return the cluster's engine for study NAME. Raises StudyNotFound where neither store nor cluster exists."""
        try:
            return self.cluster(timeout=timeout)
        except NoCluster as error:
            not_installed = isinstance(error.__cause__, ImportError)  # then it names the extra
            if not_installed or local is False or self.find(name, local=local) is not None:
                raise
            raise self.store.unknown(
                name,
                "a study on a cluster needs a kubeconfig (KUBECONFIG), and --context if it has several contexts",
            ) from error

    def refresh(self, name: str, *, timeout: float = 3.0) -> ClusterError | None:
        """Bring what the store holds of a study on the cluster up to date; returns why the cluster gave nothing."""
        from tuner.engines.katib import refresh

        return refresh(self.store, name, **self._cluster, timeout=timeout, notify=self.notify)  # type: ignore[arg-type]

    def update(self, name: str, *, timeout: float = 3.0) -> ClusterError | None:
        """Do what `refresh` does, and warn that the stored result is shown if the cluster does not answer.

        Returns why the cluster gave nothing; None if there is no cluster.
        """
        error = self.refresh(name, timeout=timeout)
        if error and name in self.store.of(EngineKind.KATIB).names():
            self.notify(f"{name} is shown as it was collected last: {error}")
        return None if isinstance(error, NoCluster | NoKatib) else error

    def look(self, name: str) -> str:
        """Keep what only the cluster has of a study: curves, and images of running trials.

        Returns which curves are missing, and why; "" where none is. Raises StudyError.
        """
        from tuner.snapshot import take

        context, katib_namespace = self._cluster["context"], str(self._cluster["katib_namespace"])
        return take(self.store, name, context=context, katib_namespace=katib_namespace)

    def locate(self, name: str, *, local: bool | None = None, timeout: float = 3.0) -> EngineKind:
        """Return the engine of a study, which is brought up to date; a warning says where the cluster does not answer.

        Without `local`, the study is the one that exists.

        Raises:
            StudyNotFound: It shows similar names, or how to begin. Its cause is why the cluster
            gave nothing.
            StudyError: Both engines have such a study.
        """
        why = None
        if local is not True and self.find(name, local=local) is not EngineKind.LOCAL:
            why = self.update(name, timeout=timeout)
        if (kind := self.find(name, local=local)) is not None:
            return kind
        raise self.store.unknown(name, f"nor on the cluster: {why}" if why else "") from why

    def place(self, name: str, *, local: bool | None = None) -> EngineKind:
        """Do what `locate` does, with more patience, and raise the cluster's error where that is why there is none."""
        try:
            return self.locate(name, local=local, timeout=30.0)
        except StudyNotFound as error:
            missing = error
        raise missing.__cause__ or missing

    def result(self, name: str, kind: EngineKind) -> Result:
        """Return what the store holds of a study: the local engine's journal, or the result collected last."""
        if kind is EngineKind.LOCAL:
            return ENGINES[kind](self.store).collect(name)
        return self.store.of(kind).result(name)

    def earlier(self, reference: str) -> Result:
        """Return the study NAME, local/NAME or katib/NAME; one on the cluster is collected first. Raises StudyError."""
        name, kind = self.store.earlier(reference)
        if kind is EngineKind.KATIB:
            self.update(name)
        return self.result(name, kind or self.locate(name))

    def experiment(self, name: str, kind: EngineKind) -> Experiment:
        """Return the Experiment of a study in the store."""
        return self.store.of(kind).experiment(name)

    def study(self, name: str, kind: EngineKind, *, images: bool = True) -> View:
        """Return what a report shows of a study in the store, with or without the trials' images."""
        from tuner.gather import gather

        return gather(self.store, name, kind, images=images)

    def katib_found(self, *, timeout: float) -> tuple[bool, str]:
        """Return whether the kubeconfig reaches a cluster with Katib, and a sentence that says so or why not."""
        from tuner.kube import has_katib

        return has_katib(self._cluster["context"], timeout=timeout)
