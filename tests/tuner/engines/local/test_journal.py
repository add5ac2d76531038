"""The local engine's journal: whatever happens to its file is refused, or the study continues to the same table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS, experiment, run, table
from tuner.engines.local import LocalEngine
from tuner.engines.local.journal import FILE, Journal, fault
from tuner.errors import StudyDamaged, StudyError
from tuner.result import Result
from tuner.store.records import parse
from tuner.store.studies import EngineKind, Store

WHAT = experiment(trials=2, parallel=1)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


@pytest.fixture
def whole(tmp_path: Path) -> Result:
    """An uninterrupted run of a small study, whose journal is at `journal`."""
    return run(tmp_path, WHAT)


@pytest.fixture
def journal(whole: Result, tmp_path: Path) -> Path:
    """The journal of that study."""
    return tmp_path / "local" / whole.name / FILE


def read(journal: Path) -> Result:
    """What the engine makes of the file."""
    return LocalEngine(Store(journal.parents[2])).result("study")


def refused(journal: Path, data: bytes) -> bool:
    """Whether the engine refuses these contents of the file, in one line that says what to do."""
    problem = fault(parse(data), Store(journal.parents[2]).of(EngineKind.LOCAL).identity("study"))
    assert "\n" not in problem
    assert not problem or "--fresh" in problem or "check-store study --repair" in problem
    return bool(problem)


def test_single_bit_flips_are_refused(journal: Path) -> None:
    """A flip of the last line feed leaves an unfinished last line, which the commit mark misses."""
    data = journal.read_bytes()
    flips = (
        data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
        for i in range(len(data))
        for bit in range(8)
    )
    accepted = [flip for flip in flips if not refused(journal, flip)]
    assert [flip[:-1] for flip in accepted] == [data[:-1]] * 8
    for flip in accepted:
        journal.write_bytes(flip)
        with pytest.raises(StudyDamaged, match="bytes are missing"):
            read(journal)


def test_lost_ends_are_refused_and_repaired(journal: Path, whole: Result) -> None:
    data = journal.read_bytes()
    header = data.index(b"\n") + 1
    engine = LocalEngine(Store(journal.parents[2]))
    for size in [*range(0, len(data), 7), len(data) - 1]:
        for lost in (b"", bytes(len(data) - size)):
            journal.write_bytes(data[:size] + lost)
            with pytest.raises(StudyDamaged):
                read(journal)
        if size >= header and size % 3 == 0:
            journal.write_bytes(data[:size])
            engine.repair("study")
            assert table(run(journal.parents[2], WHAT)) == table(whole)
            data = journal.read_bytes()


def test_moved_and_missing_lines_are_refused(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    count = len(lines)
    swapped = [
        [*lines[:i], lines[j], *lines[i + 1 : j], lines[i], *lines[j + 1 :]]
        for j in range(count)
        for i in range(j)
    ]
    missing = [lines[:i] + lines[i + 1 :] for i in range(count - 1)]
    repeated = [lines[: i + 1] + lines[i:] for i in range(count)]
    assert all(refused(journal, b"".join(each)) for each in [*swapped, *missing, *repeated])


def test_concatenated_and_foreign_journals_are_refused(journal: Path, tmp_path: Path) -> None:
    own = journal.read_bytes()
    run(tmp_path / "other", WHAT)
    other = (tmp_path / "other" / "local" / "study" / FILE).read_bytes()
    for data in (own + own, own + other, other + own, other, b"", b"\n"):
        assert refused(journal, data)
        journal.write_bytes(data)
        with pytest.raises(StudyDamaged, match=rf"{journal}:\d+: "):
            LocalEngine(Store(tmp_path)).run(WHAT)


def test_missing_journal_is_refused(journal: Path) -> None:
    journal.unlink()
    with pytest.raises(StudyDamaged, match=r"journal\.jsonl is missing: restore it"):
        read(journal)
    with pytest.raises(StudyDamaged):
        LocalEngine(Store(journal.parents[2])).run(WHAT)


@pytest.mark.parametrize("torn", [b'{"crc":"00', b"{", b"\x00\x00"])
def test_torn_last_line_is_cut_off(torn: bytes, journal: Path, whole: Result) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data + torn)
    assert read(journal) == whole
    Journal(journal.parent, writable=True).close()
    assert journal.read_bytes() == data


@pytest.mark.parametrize(
    "line", [b"rubbish\n", b"{}\n", b'{"crc":"00000000","op":"end"}\n', b"\x00\x00\n"]
)
def test_complete_last_line_of_rubbish_is_refused(line: bytes, journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data + line)
    number = data.count(b"\n") + 1
    with pytest.raises(
        StudyDamaged,
        match=rf"journal\.jsonl:{number}: .* the {number - 1} records before it are intact",
    ):
        read(journal)


def test_journal_read_for_looking_is_not_written(journal: Path) -> None:
    data = journal.read_bytes() + b'{"crc"'
    journal.write_bytes(data)
    looking = Journal(journal.parent)
    with pytest.raises(StudyError, match="open for reading only"):
        looking.conclude(None)
    assert journal.read_bytes() == data
