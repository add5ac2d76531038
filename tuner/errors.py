"""The client's exception tree. Every message is one line: rule, values, fix; the command line prints it and exits.

GantuneError                 exit code 2, except where noted
├── ManifestError            the manifest cannot be read, or breaks a rule; carries path, line and rule
├── UnsupportedError         the manifest is right, but this engine cannot do it (darts, a Custom collector)
├── CommandError             a trial's command cannot be built or found
├── StudyError               the store under .gantune/
│   ├── StudyNotFound
│   ├── StudyChanged         same name, another manifest
│   ├── StudyLocked          another process works on it
│   └── StudyDamaged         its files cannot be read back
└── ClusterError             exit code 6: what the Kubernetes API said (tuner.kube raises these and nothing else)
    ├── NotFound
    │   └── NoKatib          no CRD, with the command that installs it
    ├── Conflict
    ├── Forbidden            which verb on which resource, and the RBAC rule to add
    ├── Denied               an admission webhook's refusal, with its message
    ├── Unreachable
    │   └── NoCluster        nothing to connect to: no kubeconfig, or no client installed
    └── Timeout              of one request
        └── Deadline         exit code 5: a watch reached its timeout
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class GantuneError(Exception):
    """The root. `str(error)` is one line that a user can act upon."""

    exit_code = 2


class ManifestError(GantuneError):
    """A manifest that cannot be read or breaks a rule, with the place where it does.

    `path` is for people (`spec.parameters[0].name`), `where` the same as keys and indices.
    `problems` holds everything that `gantune check` finds in the manifest (tuner.check.Problem).
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        line: int = 0,
        path: str = "",
        rule: str = "",
        where: tuple[str | int, ...] = (),
        problems: Sequence[Any] = (),
    ) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message)
        self.message, self.file, self.line, self.path, self.rule = message, file, line, path, rule
        self.where, self.problems = where, problems


class UnsupportedError(GantuneError):
    """The manifest is valid, but the chosen engine cannot run it."""


class CommandError(GantuneError):
    """A trial's command cannot be built from the template, or its program cannot be found."""


class StudyError(GantuneError):
    """The store of studies under .gantune/."""


class StudyNotFound(StudyError):
    """No study of that name in the store."""


class StudyChanged(StudyError):
    """The store holds a study of that name with another manifest."""


class StudyLocked(StudyError):
    """Another process works on the study."""


class StudyDamaged(StudyError):
    """The study's files cannot be read back."""


class ClusterError(GantuneError):
    """The Kubernetes API refused a request, or could not be reached."""

    exit_code = 6


class NotFound(ClusterError):
    """The object does not exist."""


class NoKatib(NotFound):
    """The cluster does not know Katib's objects."""


class Conflict(ClusterError):
    """The object exists already, or another client changed it."""


class Forbidden(ClusterError):
    """RBAC refuses the verb."""


class Denied(ClusterError):
    """An admission webhook refused the object."""


class Unreachable(ClusterError):
    """No API server answers."""


class NoCluster(Unreachable):
    """There is no cluster to ask: no kubeconfig and not in a pod, or the client's packages are not installed."""


class Timeout(ClusterError):
    """One request took too long."""


class Deadline(Timeout):
    """The time that the caller gave a watch has passed; the search continues."""

    exit_code = 5


def similar(path: str | Path) -> str:
    """Return `; did you mean 'x'?` for a file that does not exist, "" if no name there is similar."""
    try:
        names = [each.name for each in Path(path).parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(Path(path).name, names, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""
