"""YAML 1.2 with line numbers: bytes -> documents, each a plain Python value and the line of every path in it.

It reads the events of a YAML parser and resolves scalars itself (YAML 1.2 core schema, section
10.3.2), because a
manifest is untrusted: no tag makes an object, and depth, size and alias expansion are bounded. JSON
is YAML, so .json files come the same way.

Two parsers give the events. libyaml (in C, by PyYAML) is 20 times as fast. ruamel.yaml follows YAML
1.2 and names the cause of an error better, so it reads what libyaml refuses or might read
differently, and what has an error.

A Kubernetes list (`kind: List`, or ExperimentList, as `kubectl get -o yaml` writes it) is read as
its items.

What reads without harm but means something else to kubectl (whose parser is YAML 1.1's in part), or
is lost by it, comes back as `Note`s; `tuner.check` makes rules of them.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import yaml
from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from tuner.errors import ManifestError, similar

Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 3 * 2**20  # twice what etcd lets an object have
MAX_DEPTH = 64
MAX_NODES = 100_000  # after aliases are expanded: "billion laughs" ends here

_INT = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NAMED: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_YAML_11_BOOL = {
    text
    for word in ("y", "n", "yes", "no", "on", "off")
    for text in (word, word.title(), word.upper())
}
_YAML_11_INT = re.compile(
    r"[-+]?(0[0-7_]+|0b[01_]+|[0-9][0-9_]*_[0-9_]*|0x[0-9a-fA-F_]*_[0-9a-fA-F_]*)\Z"
)
_TEMPLATE = re.compile(r"\{\{-?\s*[\w.$/(\"]")  # of Helm, or of Go's text/template
_RENDER = (
    "not YAML, but a template with {{ ... }}: render it first, for example with `helm template`"
)
# PyYAML's wheels have libyaml; a build from source may not
_LIBYAML: Any = getattr(yaml, "CSafeLoader", None)
# a tab, what is a line's end to libyaml (YAML 1.1) alone, or a comment without a blank after `|`
_ONLY_RUAMEL = re.compile("[\t\x85\u2028\u2029]|[|>][-+0-9]{0,2}#")
_Alias = (events.AliasEvent, yaml.AliasEvent)
_DocumentStart = (events.DocumentStartEvent, yaml.DocumentStartEvent)
_Scalar = (events.ScalarEvent, yaml.ScalarEvent)
_Sequence = (events.SequenceStartEvent, yaml.SequenceStartEvent)
_SequenceEnd = (events.SequenceEndEvent, yaml.SequenceEndEvent)
_Mapping = (events.MappingStartEvent, yaml.MappingStartEvent)
_MappingEnd = (events.MappingEndEvent, yaml.MappingEndEvent)
_TAGS = {
    "tag:yaml.org,2002:" + name: name
    for name in ("str", "int", "float", "bool", "null", "map", "seq")
}


@dataclass(frozen=True, slots=True)
class Note:
    """Something that reads, but not as it seems. `rule` is the name of the rule that `gantune check` makes of it."""

    rule: str
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `lines` counts from 1; a path below an alias has the line of the alias."""

    value: Any
    file: str
    start: int
    lines: Mapping[Path, int] = field(repr=False)
    notes: tuple[Note, ...] = ()

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing above it that was written."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return self.start


def show(path: Path) -> str:
    """A path as people write it: `spec.parameters[0].feasibleSpace.min`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(
        "."
    )


def read(file: str | FilePath) -> list[Document]:
    """All documents of a file; ManifestError where it cannot be read or is not YAML."""
    return parse(read_bytes(file), str(file))


def read_bytes(file: str | FilePath) -> bytes:
    """A file's content, not much beyond MAX_BYTES; ManifestError where it cannot be read.

    A named pipe, a socket or a device is refused, because reading it may wait for ever. A pipe that
    the user's shell has opened, as `<(...)` or /dev/stdin, is read to its end.
    """
    opened = str(file).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/"))
    try:
        with open(file, "rb", opener=None if opened else _open_at_once) as stream:
            if not (opened or stat.S_ISREG(os.fstat(stream.fileno()).st_mode)):
                raise ValueError("it is not a regular file, so reading it could wait for ever")
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        near = similar(file) if isinstance(error, FileNotFoundError) else ""
        raise ManifestError(
            f"cannot read the manifest: {reason}{near}", file=str(file), rule="unreadable"
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # of a named pipe, without waiting for its writer


def parse(data: bytes, file: str) -> list[Document]:
    """All documents of `data`, empty ones left out; ManifestError with the line where it is not YAML."""
    if len(data) > MAX_BYTES:
        message = f"a manifest may have at most {MAX_BYTES} bytes (etcd stores 1.5 MiB an object); split the file"
        raise _error(message, file, 0)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8"
        raise _error(message, file, line) from error
    if _LIBYAML is not None and not _ONLY_RUAMEL.search(text):
        try:
            return _documents(_Reader(yaml.parse(text, Loader=_LIBYAML), file))
        except (ManifestError, yaml.YAMLError):
            pass  # read again, by the parser that names the cause
    reader = _Reader(YAML(typ="safe", pure=True).parse(text), file)
    try:
        return _documents(reader)
    except ManifestError as error:
        if _TEMPLATE.search(text):
            raise _error(_RENDER, file, error.line) from error
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        problem = f"not YAML: {_one_line(error.problem or error.context)}"
        raise _error(_RENDER if _TEMPLATE.search(text) else problem, file, line) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _error(
            f"not YAML: character U+{ord(text[error.position]):04X} is not allowed", file, line
        ) from error
    except Exception as error:  # ruamel.yaml raises a handful of others on damaged input (ValueError, IndexError, ...)
        raise _error(
            f"not YAML: {_one_line(str(error)) or type(error).__name__}", file, reader.line
        ) from error


def _documents(reader: _Reader) -> list[Document]:
    return [item for document in reader.documents() for item in _items(document)]


def _items(document: Document) -> Iterator[Document]:
    """A Kubernetes list as the documents of its items; any other document as it is."""
    value = document.value
    items = (
        value.get("items")
        if isinstance(value, dict) and str(value.get("kind", "")).endswith("List")
        else None
    )
    if not isinstance(items, list):
        yield document
        return
    lines: list[dict[Path, int]] = [{} for _ in items]
    for path, line in document.lines.items():
        if len(path) > 1 and path[0] == "items" and isinstance(path[1], int):
            lines[path[1]][path[2:]] = line
    notes: list[list[Note]] = [[] for _ in items]
    for note in document.notes:
        if len(note.path) > 1 and note.path[0] == "items" and isinstance(note.path[1], int):
            notes[note.path[1]].append(Note(note.rule, note.path[2:], note.message))
    for item, its_lines, its_notes in zip(items, lines, notes, strict=True):
        if item is not None:
            yield Document(
                item, document.file, its_lines.get((), document.start), its_lines, tuple(its_notes)
            )


def _error(message: str, file: str, line: int) -> ManifestError:
    return ManifestError(message, file=file, line=line, rule="yaml-syntax")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]


def scalar(text: str) -> Any:
    """A plain scalar's value under YAML 1.2's core schema."""
    if text in _NAMED:
        return _NAMED[text]
    if len(text) > 400 or text[0] not in "+-.0123456789":
        return text
    if _INT.match(text):
        return int(text)
    if _OTHER_INT.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


class _Reader:
    """Events -> values. `line` is the line of the last event, for errors that have no mark."""

    def __init__(self, parsed: Iterable[Any], file: str) -> None:
        self._events: Iterator[Any] = iter(parsed)
        self._file = file
        self.line = 1
        self._nodes = 0
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._lines: dict[Path, int] = {}
        self._notes: list[Note] = []

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, _DocumentStart):
                self._anchors, self._lines, self._notes, self._nodes = {}, {}, [], 0
                first = next(self._events)
                start = first.start_mark.line + 1
                value = self._value(first, ())
                if value is not None:
                    yield Document(value, self._file, start, self._lines, tuple(self._notes))

    def _fail(self, message: str) -> ManifestError:
        return _error(message, self._file, self.line)

    def _value(self, event: Any, path: Path) -> Any:
        self.line = event.start_mark.line + 1
        self._lines.setdefault(path, self.line)
        self._count(1)
        if isinstance(event, _Alias):
            if event.anchor not in self._anchors:
                raise self._fail(
                    f"alias *{event.anchor} is before its anchor, or in it; define &{event.anchor} first"
                )
            value, size = self._anchors[event.anchor]
            self._count(size)
            return value
        if len(path) > MAX_DEPTH:
            raise self._fail(f"nested deeper than {MAX_DEPTH} levels; no Kubernetes object is")
        before = self._nodes
        if isinstance(event, _Scalar):
            value = self._scalar(event, path)
        elif isinstance(event, _Mapping):
            value = self._mapping(path)
        elif isinstance(event, _Sequence):
            value = self._sequence(path)
        else:
            raise self._fail("not YAML: a value is missing")
        if event.anchor:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fail(
                f"more than {MAX_NODES} values once aliases are expanded; write the manifest out"
            )

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), _SequenceEnd):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        items: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), _MappingEnd):
            if not isinstance(event, _Scalar):
                self.line = event.start_mark.line + 1
                raise self._fail("a key must be plain text; quote it")
            key, line = event.value, event.start_mark.line + 1
            below = (*path, key)
            if key == "<<" and not event.style:
                self._merge(merged, self._value(next(self._events), below))
                continue
            if key in items:
                first = self._lines[below]
                self._notes.append(
                    Note(
                        "duplicate-key",
                        below,
                        f"key {key!r} is given twice (first on line {first})",
                    )
                )
            self._lines[below] = line
            items[key] = self._value(next(self._events), below)
        return merged | items

    def _merge(self, into: dict[str, Any], value: Any) -> None:
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                raise self._fail("a merge key (<<) takes a mapping or a list of mappings")
            for key, item in mapping.items():
                into.setdefault(key, item)

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is not None and tag != "!":
            return self._tagged(str(tag), text)
        if event.style or tag == "!":
            return text
        if text in _YAML_11_BOOL:
            self._ambiguous(path, text, "a boolean", "text")
        elif _YAML_11_INT.match(text) and text not in ("0", "00"):
            self._ambiguous(
                path,
                text,
                "another number",
                "a number" if isinstance(scalar(text), int) else "text",
            )
        return scalar(text)

    def _ambiguous(self, path: Path, text: str, there: str, here: str) -> None:
        message = f"plain {text} is {there} to kubectl (YAML 1.1) and {here} in YAML 1.2; quote it, or write what you mean"
        self._notes.append(Note("yaml-ambiguous", path, message))

    def _tagged(self, tag: str, text: str) -> Any:
        kind = _TAGS.get(tag)
        value = text if kind == "str" else scalar(text)
        right = {
            "str": str,
            "int": int,
            "float": (int, float),
            "bool": bool,
            "null": type(None),
        }.get(kind or "")
        if right is None or not isinstance(value, right):  # type: ignore[arg-type]
            raise self._fail(
                f"tag {_one_line(tag)} on {_one_line(text)!r} is not understood; leave the tag out"
            )
        return float(value) if kind == "float" else value
