"""Values of a YAML or JSON file as parameters: each trial gets a copy with its values in place.

The text of the file goes into the manifest, with placeholders for the values, and the trial's
command writes it before the program starts. Everything else in the file, comments too, stays as it
is.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from tuner.errors import UnsupportedError
from tuner.init.usage import Flag, Place

_SUFFIXES = {".yaml", ".yml", ".json"}
_BYTES = 64 * 1024  # of a file: it becomes a part of the manifest
_MARK = "END_OF_CONFIGURATION"


def files(argv: Sequence[str]) -> list[str]:
    """Return the configuration files that a command line names."""
    named = (word.partition("=")[2] if "=" in word else word for word in argv[1:])
    return [
        name
        for name in dict.fromkeys(named)
        if PurePosixPath(name).suffix.lower() in _SUFFIXES and os.path.isfile(name)
    ]


def places(file: str) -> list[Place]:
    """Return the values of a file, by their keys with dots. Raises UnsupportedError."""
    text = _text(file)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        found = list(_scalars(root, "", 0))
    except (yaml.YAMLError, RecursionError) as error:
        why = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UnsupportedError(f"{file} is neither YAML nor JSON: {why}") from error
    return [
        Place(
            Flag((key,), node.value), file=file, span=(node.start_mark.index, node.end_mark.index)
        )
        for key, node in found
    ]


def copies(argv: list[str], changed: Sequence[tuple[Place, str]]) -> tuple[list[str], list[str]]:
    """Return the command line, and the shell lines that write its files with these values in place.

    A file outside of the working directory is copied into it, so that no trial changes it.
    """
    by_file: dict[str, list[tuple[Place, str]]] = {}
    for place, value in changed:
        by_file.setdefault(place.file, []).append((place, value))
    lines = []
    for file, edits in by_file.items():
        text, own = _text(file), os.path.normpath(file)
        for place, value in sorted(edits, key=lambda edit: -edit[0].span[0]):
            start, end = place.span
            quote = text[start] if text[start] in "\"'" else ""
            text = text[:start] + quote + value + quote + text[end:]
        if os.path.isabs(own) or own.startswith(".."):
            own = PurePosixPath(own).name
            argv = [
                word[: -len(file)] + own if word == file or word.endswith(f"={file}") else word
                for word in argv
            ]
        path = shlex.quote(own)
        body = text if text.endswith("\n") else f"{text}\n"
        lines.append(f"rm -f {path} && cat > {path} <<'{_MARK}'\n{body}{_MARK}")
    return argv, lines


def _text(file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnsupportedError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(text) > _BYTES or re.search(rf"^{_MARK}|\$\{{trialParameters", text, re.MULTILINE):
        raise UnsupportedError(
            f"{file} cannot become a part of the manifest: it may have {_BYTES >> 10} KiB, and no "
            "placeholders of Katib"
        )
    return text


def _scalars(node: yaml.Node | None, key: str, depth: int) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode) and key and node.style not in ("|", ">"):
        yield key, node
    if isinstance(node, yaml.MappingNode) and depth < 20:
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                dotted = f"{key}.{name.value}" if key else name.value
                yield from _scalars(value, dotted, depth + 1)


def find(name: str, by_key: Mapping[str, Place]) -> Place | None:
    """Return the value of a key, which may be the end of a longer one where only one ends so."""
    if name in by_key:
        return by_key[name]
    ends = [place for key, place in by_key.items() if key.endswith(f".{name}")]
    return ends[0] if len(ends) == 1 else None
