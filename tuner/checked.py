"""A manifest that a command runs: parsed once, checked by the rules of `gantune check`, and read as an Experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner import manifest
from tuner.check import LOCAL_RULES, STOCK_SERVICE_RULES, Problem, Severity, check_documents
from tuner.experiment.model import Experiment
from tuner.katib import yamlfile
from tuner.katib.yamlfile import Document


@dataclass(frozen=True, slots=True)
class Checked:
    """The documents of a manifest and their problems, in the order of the file.

    Attributes:
        file: The name of the manifest in messages.
        documents: What the manifest contains.
        problems: What `gantune check` finds in it.
    """

    file: str
    documents: list[Document]
    problems: Sequence[Problem]

    @property
    def errors(self) -> list[Problem]:
        """The problems because of which Katib refuses the Experiment, or fails on it."""
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]

    def warnings(self, *, stock_services: bool) -> list[Problem]:
        """Return the other problems on a cluster, with or without the faults of Katib's own suggestion services."""
        hidden = LOCAL_RULES if stock_services else (*LOCAL_RULES, *STOCK_SERVICE_RULES)
        return [
            problem
            for problem in self.problems
            if problem.severity is not Severity.ERROR and problem.rule not in hidden
        ]

    def experiment(self, name: str | None = None) -> Experiment:
        """Return the Experiment, or of several the one with this name. Raises ManifestError."""
        return manifest.choose(self.documents, self.file, name, checked=True)


def read(source: str | bytes, file: str) -> Checked:
    """Return a manifest, from its path or from its bytes. Raises ManifestError where it is not YAML.

    Args:
        source: The path of a file, or what it contains.
        file: The name of the manifest in messages.
    """
    data = yamlfile.read_bytes(source) if isinstance(source, str) else source
    documents = yamlfile.parse(data, file)
    return Checked(documents[0].file if documents else file, documents, check_documents(documents))
