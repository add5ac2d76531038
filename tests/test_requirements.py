"""The lock of CI's packages: every version has hashes, no index is named, and every declared package is in it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / ".ci" / "requirements.txt"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pinned_package_has_hashes() -> None:
    entries = re.sub(
        r"\\\n\s*", "", re.sub(r"^#.*\n", "", LOCK.read_text(), flags=re.MULTILINE)
    ).splitlines()
    assert len(entries) > 100
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( --hash=sha256:[0-9a-f]{64})+", entry), entry
    names = [normal(entry.partition("==")[0]) for entry in entries]
    assert len(set(names)) == len(names)


def test_pins_are_constraints_without_hashes() -> None:
    pins = subprocess.run(
        [ROOT / ".ci" / "pins.sh"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", pin) for pin in pins)
    assert len(pins) == LOCK.read_text().count("==")


def test_declared_packages_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # MLflow's packages need another protobuf than Katib's SDK, so CI does not install them
    extras = (v for k, v in project["optional-dependencies"].items() if k != "mlflow")
    declared = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {normal(re.split(r"[\[<>=~!;]", one)[0].strip()) for one in declared} - {"gan-tuner"}
    pinned = {normal(name) for name in re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE)}
    assert names <= pinned
