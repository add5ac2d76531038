"""YAML 1.2 with lines: values, places, and clean errors for everything that is none."""
# ruff: noqa: E501 - tables

from __future__ import annotations

import math
import os
import textwrap
from pathlib import Path
from random import Random

import pytest

from tuner.errors import ManifestError
from tuner.katib import yamlfile


def one(text: str) -> yamlfile.Document:
    (document,) = yamlfile.parse(text.encode(), "f.yaml")
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("-1", -1), ("+1", 1), ("0x1F", 31), ("0o17", 15), ("010", 10),
        ("~", None), ("null", None), ("true", True), ("False", False), (".inf", math.inf), ("-.inf", -math.inf),
        ("on", "on"), ("yes", "yes"), ("1_000", "1_000"), ("0b11", "0b11"), ("1.2.3", "1.2.3"), ("2026-01-01", "2026-01-01"),
        ('"1"', "1"), ("'on'", "on"), ("!!str 1", "1"), ("!!int 1", 1), ("!!float 1", 1.0), ("! 1", "1"), ("12e", "12e"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    got = one(f"a: {text}").value["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "noted"),
    [("on", 1), ("yes", 1), ("N", 1), ("010", 1), ("1_000", 1), ("0b1", 1), ('"on"', 0), ("0", 0), ("10", 0), ("0x1F", 0), ("1e-3", 0), ("0.1", 0), ("none", 0)],
)  # fmt: skip
def test_what_kubectl_reads_otherwise_is_noted(text: str, noted: int) -> None:
    assert [note.rule for note in one(f"a: {text}").notes] == ["yaml-ambiguous"] * noted


def test_every_path_has_its_line() -> None:
    document = one("# c\na:\n  b: 1\n  c:\n    - x\n    - {y: 2,\n       z: 3}\n")
    lines = {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1, "y"): 6,
        ("a", "c", 1, "z"): 7,
    }
    assert {path: document.line(path) for path in lines} == lines
    assert document.line(("a", "missing", "below")) == 2
    assert document.line(("nosuch",)) == 2


def test_documents_anchors_merges_and_duplicates() -> None:
    text = "a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n---\n# empty\n---\nd: 1\nd: 2\n"
    first, second = yamlfile.parse(text.encode(), "f.yaml")
    assert first.value == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}}
    assert first.line(("b", "p")) == 2
    assert second.value == {"d": 2}
    assert [(note.rule, note.path) for note in second.notes] == [("duplicate-key", ("d",))]


def test_json_is_yaml() -> None:
    assert one('{"a": [1, true, null, "x\\u00e9\\n"],\n "b": 1e-3}').value == {
        "a": [1, True, None, "xé\n"],
        "b": 0.001,
    }


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{p}'] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"a: [", 1, "not YAML"),
        (b"a:\n\tb: 1", 2, "not YAML"),
        (b"a: 1\nb: \xff", 2, "not UTF-8"),
        (b"a: 1\nb: \x00", 2, "U+0000 is not allowed"),
        (b"a: &x [*x]", 1, "before its anchor"),
        (b"a: *y", 1, "before its anchor"),
        (b"? [1]\n: 2", 1, "key must be plain text"),
        (b"a: !foo 1", 1, "tag"),
        (b"[" * 5000, 1, "nested deeper"),
        (b"- " * 5000, 1, "nested deeper"),
        (b"{a: " * 5000, 1, "nested deeper"),
        (LAUGHS.encode(), 6, "once aliases are expanded"),
        (b"<<: 1", 1, "merge key"),
        (b"%YAML 3.0\n---\na", 0, "not YAML"),
        (b'a: "\\q"', 1, "not YAML"),
        (b"x" * (yamlfile.MAX_BYTES + 1), 0, "bytes"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_not_a_manifest_is_one_line(data: bytes, line: int, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        yamlfile.parse(data, "f.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.rule == "yaml-syntax"
    assert line in (0, caught.value.line)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nosuch.yaml", tmp_path, "a\0b"):
        with pytest.raises(ManifestError, match="cannot read the manifest"):
            yamlfile.read(path)


def test_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "m.yaml"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", "/dev/null"):
        with pytest.raises(ManifestError, match="cannot read the manifest: it is not a regular"):
            yamlfile.read(path)


def test_pipe_of_the_shell_is_read() -> None:
    """As `gantune check <(helm template ...)` gives it."""
    reading, writing = os.pipe()
    os.write(writing, b"a: 1")
    os.close(writing)
    try:
        assert [each.value for each in yamlfile.read(f"/dev/fd/{reading}")] == [{"a": 1}]
    finally:
        os.close(reading)


MANIFEST = (Path(__file__).parents[3] / "manifests" / "bayes.yaml").read_text(encoding="utf-8")
PIECES = [
    ":", ": ", "- ", "\n", "\n\n", "  ", "\t", "#", " #", '"', "'", "{", "}", "[", "]", ",", "|", ">", "|-", "&a ", "*a",
    "!", "!!str ", "!<x> ", "%", "---\n", "...\n", "? ", "\\", "`", "é", "\u2028", "\x85", "\ufeff", "\r", "<<: ", "- - ",
    "%YAML 1.1\n---\n", "%TAG ! x\n---\n", "null", "# c\n", "\u00a0", "''", "{a: b}", '"a":1', "\\\n",
]  # fmt: skip


def outcome(text: str) -> object:
    try:
        return [
            (repr(each.value), each.start, each.lines, each.notes)
            for each in yamlfile.parse(text.encode(), "f")
        ]
    except ManifestError as error:
        return str(error)


def test_both_parsers_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a manifest with one to three random changes: values, lines, notes and errors are equal."""
    random, read = Random(0), 0
    lines = MANIFEST.splitlines(keepends=True)
    for _ in range(300):
        first = random.randrange(len(lines))
        text = textwrap.dedent("".join(lines[first : first + random.randrange(1, 30)]))
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(text) + 1)
            text = text[:at] + random.choice(PIECES) + text[at + random.choice([0, 0, 1, 5]) :]
        with_libyaml = outcome(text)
        with monkeypatch.context() as patch:
            patch.setattr(yamlfile, "_LIBYAML", None)
            assert outcome(text) == with_libyaml, repr(text)
        read += not isinstance(with_libyaml, str)
    assert 50 < read < 250, "the changes should give both valid and invalid files"


def test_libyaml_reads_ordinary_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 20 times as fast: without it, a file of 3 MB takes more than 2 s."""

    def refuse(**_: object) -> None:
        raise AssertionError("ruamel.yaml was asked")

    monkeypatch.setattr(yamlfile, "YAML", refuse)
    assert len(yamlfile.parse(MANIFEST.encode(), "f.yaml")) >= 1


def test_missing_file_names_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "moons.yaml").write_text("a: 1")
    with pytest.raises(
        ManifestError, match=r"No such file or directory; did you mean 'moons.yaml'"
    ):
        yamlfile.read(tmp_path / "moon.yaml")
    with pytest.raises(ManifestError, match=r"No such file or directory$"):
        yamlfile.read(tmp_path / "other" / "x.yaml")
