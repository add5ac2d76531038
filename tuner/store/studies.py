"""The studies on this machine: one directory for each, `.gantune/ENGINE/NAME/`.

An engine and a name identify a study, so `local/gan-bayes` and `katib/gan-bayes` are different
studies.

manifest.json   the Experiment as it was submitted, its place on a cluster (tuner.engines.katib.archive), and the id by
                which a local study recognises its own files
journal.jsonl   local engine: every trial (tuner.engines.local.journal)
curves.jsonl    every value that finished trials reported; running-curves.json: of running trials (tuner.store.curves)
*.commit        the commit marks of the journal and the curves (tuner.store.records), which find a lost end
samples/        Katib engine: thumbnails of the images of trials (tuner.store.images)
result.json     the result that the engine saved last
lock            a process that works on the study holds it (flock); the kernel releases it when the process exits
trials/NAME/    local engine: one directory for each trial: output.log, and what it wrote under its mounts
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tuner import manifest
from tuner.commands import gantune
from tuner.errors import GantuneError, StudyChanged, StudyDamaged, StudyError, StudyNotFound
from tuner.experiment.model import Experiment
from tuner.result import Result, StudyState
from tuner.store import files, records
from tuner.store.lock import LOCK, Lock

MANIFEST, _RESULT = "manifest.json", "result.json"
_CHOSEN = "max_trials"  # the key of a number of trials that `run --max-trials` or `extend` chose
# fields that may differ on resume: the counts that Katib lets one edit, except parallelTrialCount
_BUDGET = ("max_trials", "max_failed_trials")
_IGNORED_FIELDS = (
    *_BUDGET,
    "document",
    "file",
    "source",
    "resume_policy",
    "generate_name",
    "namespace",
    "required_files",
)


class EngineKind(StrEnum):
    """Which engine runs a study."""

    LOCAL = "local"
    KATIB = "katib"


class Store:
    """The studies of all engines under one directory."""

    def __init__(self, root: Path | str | None = None) -> None:
        """Open the store at `root`, or else at GANTUNE_STORE, or else at .gantune in the current directory."""
        self.root = Path(root or os.environ.get("GANTUNE_STORE") or files.STORE)

    def of(self, engine: EngineKind) -> Studies:
        """Return the studies of one engine."""
        return Studies(self.root / engine.value)

    def all(self) -> list[tuple[str, EngineKind]]:
        """Return the name and engine of every study, sorted."""
        return sorted((name, engine) for engine in EngineKind for name in self.of(engine).names())

    def find(self, name: str, engine: EngineKind | None = None) -> EngineKind | None:
        """Return which engine has study `name`, or None where no engine has it.

        Args:
            name: The name of a study.
            engine: Consider only this engine.

        Raises:
            StudyError: Several engines have a study of this name, and `engine` does not choose one.
        """
        found = [
            kind for kind in EngineKind if engine in (None, kind) and name in self.of(kind).names()
        ]
        if len(found) > 1:
            raise StudyError(
                f"{name} is the name of a local study and of a study on a cluster: choose one with --local or --cluster"
            )
        return found[0] if found else None

    def unknown(self, name: str, cluster: str = "") -> StudyNotFound:
        """Return the error for a study that no engine has; `cluster` says what was found on a cluster."""
        return _not_found(self.root, name, dict.fromkeys(name for name, _ in self.all()), cluster)

    def earlier(self, reference: str, own: str = "") -> tuple[str, EngineKind | None]:
        """Return the name and the engine of the study to warm-start from, None where no engine has it.

        Args:
            reference: NAME, local/NAME or katib/NAME.
            own: The local study that starts. If `reference` is its name, a study on the cluster is
                preferred.

        Raises:
            StudyError: `reference` has another form, or several engines have a study NAME.
        """
        engine, _, name = reference.rpartition("/")
        if engine not in ("", *EngineKind):
            raise StudyError(
                f"the study to warm-start from is NAME, local/NAME or katib/NAME, got {reference[:80]}"
            )
        if engine:
            return name, EngineKind(engine)
        if name == own and self.find(name, EngineKind.KATIB):
            return name, EngineKind.KATIB
        try:
            return name, self.find(name)
        except StudyError as error:
            raise StudyError(
                f"{name} is the name of a local study and of a study on a cluster: "
                f"choose one with --warm-start local/{name} or --warm-start katib/{name}"
            ) from error


class Studies:
    """The studies of one engine. Every method raises StudyError or one of its subclasses, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Return the names of all studies, sorted."""
        try:
            return sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST}"))
        except OSError as error:
            raise StudyError(f"{self.root} cannot be read: {error.strerror}") from error

    def folder(self, name: str) -> Path:
        """The directory of a study, there or not; a name is a single path component."""
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
            raise StudyNotFound(f"a study's name is letters, digits, dots and dashes, got {name!r}")
        return self.root / name

    def ensure_writable(self, name: str) -> None:
        """Raise StudyError if study `name` cannot be stored. Use "" for a name that is not known yet."""
        folder = self.folder(name) if name and self.folder(name).exists() else self.root
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from error

    def create(self, name: str) -> Path:
        """Create the directory of study `name`, if it does not exist, and return it. Raises StudyError."""
        self.ensure_writable(name)
        folder = self.folder(name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from error
        return folder

    def submit(
        self,
        experiment: Experiment,
        *,
        fresh: bool = False,
        place: Mapping[str, str] | None = None,
        max_trials: int | None = None,
        lock: Lock | None = None,
    ) -> Experiment:
        """Store the Experiment as a study, or join the study that exists.

        Args:
            experiment: The Experiment to store.
            fresh: Remove everything that an existing study of this name holds.
            place: Where the engine runs it, stored with the manifest. Such an engine has checked
                that the study is the same one; without a place, a different manifest is refused.
            max_trials: The number of trials instead of the manifest's. Without it, the larger one
                of the manifest's number and of the one that was chosen before.
            lock: The study's lock, if the caller holds it.

        Returns:
            The Experiment with its number of trials.

        Raises:
            StudyChanged: The study has another manifest; the message shows the difference.
        """
        folder = self.create(experiment.name)
        try:
            if fresh:
                _refuse_link(folder)
                with nullcontext() if lock else Lock(folder):
                    _clear(folder)
            held = self.held(experiment.name)
            if held is not None and place is None:
                _refuse_change(held, experiment)
            shape = {"experiment": _shape(experiment), "document": experiment.document}
            identity = {"id": held["id"]} if held and held.get("id") else {}
            text = experiment.source or (held or {}).get("source")
            source = {"source": text} if text else {}
            origin = {"origin": dict(place)} if place else {}
            count = max_trials or _chosen_before(held, experiment)
            chosen = {_CHOSEN: count} if count else {}
            _write(folder / MANIFEST, shape | identity | source | origin | chosen)
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from error
        return replace(experiment, max_trials=count) if count else experiment

    def source(self, name: str) -> str:
        """Return the text of the manifest that was submitted last, with its comments; "" where there is none."""
        return str(self._known(name).get("source", ""))

    def identity(self, name: str) -> str:
        """Return the id by which the study knows its own files; "" until `identify` has set it."""
        return str((self.held(name) or {}).get("id", ""))

    def identify(self, name: str, identity: str) -> None:
        """Set the id by which the study knows its own files."""
        path = self.folder(name) / MANIFEST
        try:
            _write(path, self._known(name) | {"id": identity})
        except OSError as error:
            raise StudyError(f"{path} cannot be written: {error.strerror}") from error

    def choose_max_trials(self, name: str, count: int) -> None:
        """Set the number of trials of a study, instead of its manifest's."""
        path = self.folder(name) / MANIFEST
        try:
            _write(path, self._known(name) | {_CHOSEN: count})
        except OSError as error:
            raise StudyError(f"{path} cannot be written: {error.strerror}") from error

    def experiment(self, name: str) -> Experiment:
        """The Experiment as it was submitted last, with the number of trials that was chosen."""
        held = self._known(name)
        document, file = held["document"], str(self.folder(name) / MANIFEST)
        if count := held.get(_CHOSEN):
            document = {**document, "spec": {**document["spec"], "maxTrialCount": count}}
        try:
            return replace(manifest.from_document(document), name=name, file=file)
        except GantuneError as error:
            raise StudyDamaged(
                f"{file} holds no valid Experiment ({error}): start over with --fresh"
            ) from error

    def result(self, name: str) -> Result:
        """Return the result that the study's engine saved last; a running study without trials before the first one."""
        path = self.folder(name) / _RESULT
        objective = self.experiment(name).objective
        if not path.exists():
            return Result(name, StudyState.RUNNING, objective)
        try:
            return replace(Result.from_json(_read(path)), name=name)
        except (KeyError, TypeError, ValueError) as error:
            raise StudyDamaged(f"{path} is no result ({error}): collect it again") from error

    def save_result(self, result: Result) -> None:
        """Store a result; the file is replaced as a whole."""
        folder = self.folder(result.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / _RESULT, result.to_json())
        except OSError as error:
            raise StudyError(f"{folder} cannot be written: {error.strerror}") from error

    def delete(self, name: str) -> None:
        """Remove a study and everything its trials wrote."""
        self._known(name)
        folder = self.folder(name)
        _refuse_link(folder)
        with Lock(folder):
            _clear(folder)
            files.remove(folder)

    def held(self, name: str) -> dict[str, Any] | None:
        """Return what manifest.json of a study holds; None where there is no such study."""
        path = self.folder(name) / MANIFEST
        return _read(path) if path.exists() else None

    def _known(self, name: str) -> dict[str, Any]:
        held = self.held(name)
        if held is not None:
            return held
        raise _not_found(self.root, name, self.names())


def _not_found(root: Path, name: str, names: Collection[str], more: str = "") -> StudyNotFound:
    """Return the error for a study that a directory does not have, with the most similar names or how to begin."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"begin one with `{gantune('run', 'FILE')}`"
    )
    if names and not near:
        hint = f"there {'is' if len(names) == 1 else 'are'} {', '.join(list(names)[:5])}"
    return StudyNotFound(f"no study {name!r} in {root}: {hint}{f'; {more}' if more else ''}")


def _refuse_link(folder: Path) -> None:
    """Raise StudyError for a study whose directory is a link: what it points to may not be the store's to delete."""
    if folder.is_symlink():
        raise StudyError(
            f"{folder} is a symbolic link to {folder.readlink()}, and nothing is deleted through a link: "
            "remove the link, or use another store with --store DIR"
        )


def _chosen_before(held: Mapping[str, Any] | None, experiment: Experiment) -> int | None:
    """Return the number of trials that was chosen earlier, if the manifest does not ask for more."""
    count = (held or {}).get(_CHOSEN)
    limit = experiment.max_trials
    return count if isinstance(count, int) and limit is not None and count >= limit else None


def _refuse_change(held: Mapping[str, Any], experiment: Experiment) -> None:
    changes = list(_difference(held.get("experiment"), _shape(experiment), ""))
    if changes:
        raise StudyChanged(
            f"study {experiment.name} has another manifest ({'; '.join(changes[:6])}"
            f"{' ...' if len(changes) > 6 else ''}): rename it, or start over with --fresh"
        )


def _shape(experiment: Experiment) -> dict[str, Any]:
    """The Experiment without what may change, as JSON holds it."""
    bare = replace(experiment, document={})
    shape = {key: value for key, value in asdict(bare).items() if key not in _IGNORED_FIELDS}
    shape["parameters"] = {
        parameter.name: {"type": type(parameter).__name__} | asdict(parameter)
        for parameter in experiment.parameters
    }
    loaded: dict[str, Any] = json.loads(json.dumps(shape, default=str))
    return loaded


def _difference(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        # an earlier version did not store a field that it did not know; empty, it changes nothing
        for key in [*old, *(key for key in new if key not in old and new[key])]:
            yield from _difference(
                old.get(key), new.get(key), f"{path}.{key}" if path else str(key)
            )
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _clear(folder: Path) -> None:
    """Everything but the lock; the manifest last, so that a removal cut short is still seen as a study."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):
        if path.is_dir() and not path.is_symlink():
            files.remove(path)
        elif path.name != LOCK:
            path.unlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        return records.unseal(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StudyDamaged(
            f"{path} cannot be read ({error}): restore it, use the version of gantune that wrote it, "
            "or start over with --fresh"
        ) from error


def _write(path: Path, shape: Mapping[str, Any]) -> None:
    """Replace the file as a whole, or not at all."""
    files.replace(path, records.seal(shape))
