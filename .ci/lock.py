"""Print .ci/requirements.txt: the pinned packages with the hashes of their wheels.

    python .ci/lock.py .ci/requirements.txt > new.txt && mv new.txt .ci/requirements.txt
    .venv/bin/pip freeze --exclude-editable | python .ci/lock.py - > .ci/requirements.txt     (other versions)

It asks pip, and thus the index that pip is configured for, which wheels it would install with each
Python below. Nothing is installed. Run it with the oldest supported Python, on Linux x86-64. It
takes some minutes.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PYTHONS = ("3.12", "3.13", "3.14")  # besides the one that runs this program
GLIBC = range(5, 35)  # 2.5 to 2.34: a Debian 12 or an Ubuntu 22.04 takes their wheels
HEADER = """\
# The packages that CI installs, with the hashes of their wheels for Linux x86-64 and Python 3.11 to 3.14. `.ci/run`
# installs them with --require-hashes. Constraints with hashes would refuse this project, which is installed from its
# directory. The images do not use this file: PyTorch's CPU wheels, from an index of their own, have other hashes.
# Made by .ci/lock.py
"""


def main(source: str) -> None:
    """Print the file for the pins of `source`, a requirements file or - for standard input."""
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    pins = sorted(set(re.findall(r"^[\w.-]+==[^\s;\\]+", text, re.MULTILINE)), key=str.lower)
    native = wheels(pins, [])
    hashes = {name: {digest} for name, (_, digest) in native.items()}
    # others are for every Python
    special = [pin for pin in pins if re.search(r"-(cp\d+)-\1-", native[normal(pin)][0])]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in reversed(GLIBC)]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS if special else ():
            options = [
                f"--python-version={python}",
                "--only-binary=:all:",
                f"--target={folder}",
                *platforms,
            ]
            for name, (_, digest) in wheels(special, options).items():
                hashes[name].add(digest)
    print(HEADER, end="")
    for pin in pins:
        print(
            " \\\n    ".join(
                [pin, *(f"--hash=sha256:{digest}" for digest in sorted(hashes[normal(pin)]))]
            )
        )


def wheels(pins: list[str], options: list[str]) -> dict[str, tuple[str, str]]:
    """Return the file and the SHA-256 that pip would install for each package."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
    ]
    done = subprocess.run(  # noqa: S603 - pip, with our own pins
        [*command, "--report=-", *options, *pins], stdout=subprocess.PIPE, text=True, check=True
    )
    found = {}
    for item in json.loads(done.stdout)["install"]:
        archive = item["download_info"]
        file = archive["url"].rpartition("/")[2]
        found[normal(item["metadata"]["name"])] = (
            file,
            archive["archive_info"]["hashes"]["sha256"],
        )
    return found


def normal(pin: str) -> str:
    """Return the normalised name of a package."""
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower()


if __name__ == "__main__":
    main(sys.argv[1])
