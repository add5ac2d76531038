"""Access: finds studies in a store and on a cluster, brings them up to date, gives their engines."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tuner.commands import gantune
from tuner.engines import ENGINES
from tuner.engines.base import Engine
from tuner.errors import ClusterError, NoCluster, NoKatib
from tuner.experiment.model import Experiment
from tuner.katib.facts import NAMESPACE
from tuner.result import Result
from tuner.store.studies import EngineKind, Store

if TYPE_CHECKING:
    from tuner.analysis.view import View
    from tuner.engines.katib import KatibEngine
    from tuner.engines.local import LocalEngine


class Refreshed(NamedTuple):
    """A study that was brought up to date, as far as the cluster answered.

    Attributes:
        kind: The engine of the study.
        error: Why the cluster gave nothing; None if it did, or was not needed.
    """

    kind: EngineKind
    error: ClusterError | None = None


def warn(message: str) -> None:
    """Issue a UserWarning at the line outside this package that led to it."""
    frame, level = sys._getframe(1), 2
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class Access:
    """Gives the engines and the studies of one store and one cluster.

    The arguments are those of tuner.client.Client.
    """

    def __init__(
        self,
        store: str | Path | None = None,
        *,
        namespace: str = "",
        context: str | None = None,
        katib_namespace: str = NAMESPACE,
        notify: Callable[[str], None] = warn,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.store, self.notify, self.note = Store(store), notify, note
        self._namespace, self._context = namespace, context
        self._katib_namespace = katib_namespace

    def find(self, name: str, *, local: bool | None = None) -> EngineKind | None:
        """Return which engine has study NAME in the store; None if neither has.

        Raises StudyError where both have it, and `local` does not choose.
        """
        remote = local is False or bool(self._namespace or self._context)
        return self.store.find(
            name, EngineKind.KATIB if remote else None if local is None else EngineKind.LOCAL
        )

    def refresh(
        self, name: str, *, local: bool | None = None, timeout: float = 3.0, curves: bool = False
    ) -> Refreshed:
        """Bring what the store holds of a study up to date, and return its engine.

        A warning says that the stored result is shown where the cluster does not answer.

        Args:
            name: The name of the study.
            local: Whether the study is the local one; None takes the one that exists.
            timeout: Seconds of each request, which is sent once.
            curves: Whether to collect new learning curves too; a warning says which are missing.

        Raises:
            StudyNotFound: It shows similar names, or how to begin. Its cause is why the cluster
                gave nothing.
            StudyError: Both engines have such a study.
        """
        why = None
        if local is not True and self.find(name, local=local) is not EngineKind.LOCAL:
            from tuner.engines.katib import refresh

            why = refresh(
                self.store,
                name,
                namespace=self._namespace,
                context=self._context,
                katib_namespace=self._katib_namespace,
                timeout=timeout,
                curves=curves,
                notify=self.notify,
            )
            if why and name in self.store.of(EngineKind.KATIB).names():
                self.notify(f"{name} is shown as it was collected last: {why}")
            why = None if isinstance(why, NoCluster | NoKatib) else why
        if (kind := self.find(name, local=local)) is not None:
            return Refreshed(kind, why)
        raise self.store.unknown(name, f"nor on the cluster: {why}" if why else "") from why

    def local(self, **options: Any) -> LocalEngine:
        """Return the engine of this machine; the options are those of LocalEngine."""
        return cast("LocalEngine", ENGINES[EngineKind.LOCAL](self.store, **options))

    def cluster(self, **options: Any) -> KatibEngine:
        """Return the engine of the cluster; the options are those of KatibEngine."""
        engine = ENGINES[EngineKind.KATIB](
            self.store,
            namespace=self._namespace,
            context=self._context,
            katib_namespace=self._katib_namespace,
            notify=self.notify,
            note=self.note,
            **options,
        )
        return cast("KatibEngine", engine)

    def engine(
        self, name: str, *, local: bool | None = None, timeout: float | None = None
    ) -> Engine:
        """Return the engine of study NAME. A study that the store does not have is on the cluster.

        Raises StudyNotFound where there is no cluster either.
        """
        if local or self.find(name, local=local) is EngineKind.LOCAL:
            return self.local(timeout=timeout)
        engine = self.cluster(timeout=timeout)
        try:
            _ = engine.cluster
        except NoCluster as error:
            not_installed = isinstance(error.__cause__, ImportError)  # then it names the extra
            if not_installed or local is False or self.find(name, local=local) is not None:
                raise
            raise self.store.unknown(
                name,
                "a study on a cluster needs a kubeconfig (KUBECONFIG), and --context if it has "
                "several contexts",
            ) from error
        return engine

    def result(self, name: str, kind: EngineKind) -> Result:
        """Return what the store holds of a study; a local one is as its journal says."""
        if kind is EngineKind.LOCAL:
            return self.local().result(name)
        return self.store.of(kind).result(name)

    def experiment(self, name: str, kind: EngineKind) -> Experiment:
        """Return the Experiment of a study in the store."""
        return self.store.of(kind).experiment(name)

    def max_trials(self, name: str, kind: EngineKind) -> int | None:
        """Return how many trials a study will have; None without a limit, or if it is not stored."""
        studies = self.store.of(kind)
        return studies.experiment(name).max_trials if name in studies.names() else None

    def view(self, name: str, kind: EngineKind, *, images: bool = True) -> View:
        """Return what a report shows of a study in the store, with or without trials' images."""
        engine: Engine = self.local() if kind is EngineKind.LOCAL else self.cluster()
        command = gantune("next", name, *self.choosing(name, kind))
        return replace(engine.view(name, images=images), next_command=str(command))

    def choosing(self, name: str, kind: EngineKind) -> list[str]:
        """Return the option that chooses this study where both engines have one of its name."""
        others = [each for each in EngineKind if each is not kind]
        if not any(name in self.store.of(each).names() for each in others):
            return []
        return ["--local" if kind is EngineKind.LOCAL else "--cluster"]

    def earlier(self, reference: str) -> Result:
        """Return the study NAME, local/NAME or katib/NAME; one on the cluster is collected first.

        Raises StudyError.
        """
        name, kind = self.store.earlier(reference)
        if kind is not EngineKind.LOCAL:
            kind = self.refresh(name, local=None if kind is None else False).kind
        return self.result(name, kind)

    def katib_found(self, *, timeout: float) -> tuple[bool, str]:
        """Return whether the kubeconfig reaches a cluster with Katib, and why or why not."""
        from tuner.kube import has_katib

        return has_katib(self._context, timeout=timeout)

    @property
    def listed_namespace(self) -> str:
        """The namespace whose Experiments `studies` lists."""
        return self._namespace or self.cluster().cluster.namespace
