"""CPU seconds to check manifests of 3 MB, with libyaml and with ruamel.yaml alone, in interleaved rounds.

    python -m bench.check_speed [--rounds 3]

many Experiments   the shipped bayes.yaml, repeated under other names
one list           an Experiment whose categorical parameter has 90,000 values
one script         an Experiment that holds a program of 55,000 lines
"""

import argparse
import statistics
import time
from pathlib import Path
from unittest import mock

from bench.provenance import line
from tuner import check
from tuner.katib import yamlfile

MANIFEST = Path(__file__).parents[1] / "manifests" / "bayes.yaml"
LIMIT = 2.0  # CPU seconds that a file of 3 MB may take


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(line("PyYAML", "ruamel.yaml"))
    print(f"n = {args.rounds} rounds, medians (range) of CPU seconds; the limit is {LIMIT:g}")
    for name, data in contents().items():
        fast, slow = [], []
        for _ in range(args.rounds):
            fast.append(_seconds(data))
            with mock.patch.object(yamlfile, "_LIBYAML", None):
                slow.append(_seconds(data))
        print(
            f"{name:17} {len(data) / 2**20:.2f} MiB   libyaml {_text(fast)}   ruamel.yaml {_text(slow)}"
        )


def contents() -> dict[str, bytes]:
    """Return the manifests by name."""
    text = MANIFEST.read_text(encoding="utf-8")
    count = (yamlfile.MAX_BYTES - 1000) // (len(text.encode()) + 8)
    many = "\n---\n".join(
        text.replace("name: gan-bayes", f"name: gan-bayes-{i}", 1) for i in range(count)
    )
    values = "".join(f"      - value-{i:09}\n" for i in range(90_000))
    extra = (
        f"  - name: big\n    parameterType: categorical\n    feasibleSpace:\n      list:\n{values}"
    )
    script = "".join(
        f"      print({i})  # some line of a program with words\n" for i in range(55_000)
    )
    return {
        "many Experiments": many.encode(),
        "one list": text.replace("  parameters:\n", f"  parameters:\n{extra}", 1).encode(),
        "one script": text.replace(
            "metadata:\n", f"metadata:\n  annotations:\n    script: |\n{script}", 1
        ).encode(),
    }


def _seconds(data: bytes) -> float:
    begin = time.process_time()
    problems = check.check_data(data, "big.yaml")
    spent = time.process_time() - begin
    if any(problem.rule == "yaml-syntax" for problem in problems):
        raise SystemExit(f"the manifest was not read: {problems[0]}")
    return spent


def _text(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):5.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
