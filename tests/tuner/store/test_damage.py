"""Whatever happens to a file of a study: it is found, or what the study says is the same."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import TRIALS, experiment, run, table
from tuner.engines.local import LocalEngine
from tuner.errors import StudyError
from tuner.store import curves, files
from tuner.store.studies import EngineKind, Store

SLOW = (pytest.mark.slow, pytest.mark.timeout(1800))
COUNTS = pytest.mark.parametrize(
    ("flips", "truncations"), [(400, 60), pytest.param(5000, 500, marks=SLOW)]
)
Observe = Callable[[], Any]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Observe]:
    """A finished local study, and what it says."""
    monkeypatch.chdir(TRIALS)
    run(tmp_path, experiment(trials=3, parallel=1))
    store = Store(tmp_path)
    studies, folder = store.of(EngineKind.LOCAL), tmp_path / "local" / "study"

    def observe() -> Any:
        held = studies.held("study")
        return table(LocalEngine(store).result("study")), held, curves.read(folder)

    return folder, observe


@pytest.fixture
def remote(local: tuple[Path, Observe], tmp_path: Path) -> tuple[Path, Observe]:
    """A stored study of a cluster, and what it says."""
    result = LocalEngine(Store(tmp_path)).result("study")
    studies = Store(tmp_path / "remote").of(EngineKind.KATIB)
    studies.submit(experiment(trials=3, parallel=1))
    folder = studies.folder("study")
    studies.save_result(result)
    curves.replace_running(folder, {})

    def observe() -> Any:
        found = curves.read(folder, running=True)
        return table(studies.result("study")), studies.held("study"), found

    return folder, observe


def check(folder: Path, observe: Observe, change: Callable[[bytes], bytes], file: Path) -> bool:
    """Change a file, and change it back. Return whether the change was found."""
    whole, before = observe(), file.read_bytes()
    file.write_bytes(change(before))
    try:
        said = observe()
    except StudyError as error:
        said = str(error)
    finally:
        file.write_bytes(before)
    found = isinstance(said, str)
    assert "\n" not in said if found else said == whole, (file, said)
    return found


@COUNTS
@pytest.mark.parametrize("kind", ["local", "remote"])
def test_no_change_is_silent(
    kind: str, flips: int, truncations: int, request: pytest.FixtureRequest
) -> None:
    folder, observe = request.getfixturevalue(kind)
    rng = random.Random(int(os.environ.get("CHAOS_SEED", "7")))
    names = {path for path in folder.iterdir() if path.is_file()} - {folder / "lock"}
    expected = {"manifest.json", "result.json"}
    expected |= {"journal.jsonl", "journal.commit"} if kind == "local" else {"running-curves.json"}
    assert expected <= {path.name for path in names}
    chosen = sorted(path for path in names if kind == "remote" or path.name != "result.json")

    def flip(data: bytes) -> bytes:
        place = rng.randrange(len(data))
        return data[:place] + bytes([data[place] ^ rng.randrange(1, 256)]) + data[place + 1 :]

    found = sum(check(folder, observe, flip, rng.choice(chosen)) for _ in range(flips // 2))
    assert found == flips // 2
    for _ in range(truncations // 2):
        size = rng.random()

        def cut(data: bytes, size: float = size) -> bytes:
            return data[: int(size * len(data))]

        def zeros(data: bytes, size: float = size) -> bytes:
            return cut(data, size) + bytes(len(data) - int(size * len(data)))

        for change in (cut, zeros):
            assert check(folder, observe, change, rng.choice(chosen))


def test_damaged_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "one.jpg"
    files.replace_checked(path, b"an image")
    data = path.read_bytes()
    assert data.startswith(b"an image")
    assert files.read_checked(path) == b"an image"
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="the checksum is wrong"):
            files.read_checked(path)
        path.write_bytes(data[:place])
        with pytest.raises(ValueError, match="the checksum is wrong"):
            files.read_checked(path)
