"""Which Experiment a study of the store is: the origin of each study, and archives of earlier ones of the same name.

On a cluster, an Experiment of the same name can exist in another namespace, or again after a
deletion. NAME is then the one that was requested last, and the others are archived as NAME.1,
NAME.2. An Experiment may itself be called NAME.1;
the manifest decides: the manifest of an archive names NAME.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count

from tuner.errors import StudyDamaged, StudyError
from tuner.experiment.model import Experiment
from tuner.result import Result
from tuner.store.studies import MANIFEST, EngineKind, Store, Studies


@dataclass(frozen=True, slots=True)
class Origin:
    """Which Experiment on which cluster a study was collected from; the uid alone tells two of one name apart."""

    uid: str
    namespace: str
    server: str


class ClusterStudies(Studies):
    """The studies that were submitted to clusters, or collected from them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.of(EngineKind.KATIB).root)

    def remember(self, experiment: Experiment, origin: Origin) -> None:
        """Store an Experiment that the cluster has."""
        self.submit(experiment, place=asdict(origin))

    def save(self, result: Result, uid: str) -> None:
        """Store a result in the study of the Experiment with this uid. Without such a study, store nothing.

        So an old watch never writes into a newer study of the same name.
        """
        if name := self.kept(result.name, uid):
            self.save_result(replace(result, name=name))

    def origin(self, name: str) -> Origin | None:
        """Return where on a cluster the study was submitted or collected; None for an unknown or local study."""
        held = (self.held(name) or {}).get("origin")
        try:
            return Origin(**held) if held else None
        except TypeError as error:
            raise StudyDamaged(
                f"{self.folder(name) / MANIFEST} has a damaged origin: collect it again"
            ) from error

    def activate(self, name: str, uid: str) -> str:
        """Make `name` the study of the Experiment with this uid. Returns the archive of the study before it, or ""."""
        folder, back, free = self.folder(name), self.kept(name, uid), ""
        if back == name:
            return ""
        try:
            if self.held(name) is not None:
                own = self.archived(name) or name
                free = next(
                    each for n in count(1) if not self.folder(each := f"{own}.{n}").exists()
                )
                folder.rename(self.folder(free))
            if back:
                self.folder(back).rename(folder)
        except OSError as error:
            raise StudyError(
                f"{error.filename} cannot be moved to {error.filename2}: {error.strerror}"
            ) from error
        return free

    def kept(self, name: str, uid: str) -> str:
        """Return the study of this Experiment: `name`, or its archive; "" if there is none."""
        if self._is(name, uid):
            return name
        for other in self.names():
            if re.fullmatch(re.escape(name) + r"\.\d+", other):
                with suppress(StudyDamaged):  # a caller who asks for that one gets the error
                    if self._is(other, uid):
                        return other
        return ""

    def archived(self, name: str) -> str:
        """Return the name of the Experiment of an archive; "" for a study that is not an archive."""
        held = self.held(name) or {}
        try:
            own = str(held["document"]["metadata"]["name"]) if held.get("origin") else name
        except (KeyError, TypeError) as error:
            raise StudyDamaged(
                f"{self.folder(name) / MANIFEST} names no Experiment: restore it"
            ) from error
        return "" if own == name else own

    def _is(self, name: str, uid: str) -> bool:
        origin = self.origin(name)
        return origin is not None and origin.uid == uid
