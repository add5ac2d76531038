"""CPU seconds to read 10 MB of metrics log completely, by content.

    python -m bench.metrics_log

Prints the median of 5 reads for each content, and its ratio to the fastest one.
"""

import statistics
import tempfile
import time
from pathlib import Path

from tuner.experiment.model import Collector, CollectorKind
from tuner.metrics import MetricsTail

SIZE = 10_000_000  # bytes
REPEATS = 5
CONTENTS = {
    "one line of word characters": b"a",
    "one line of name=value": b"loss=0.25 fd = 12.5, ",
    "short lines": b"epoch=1 loss=0.3 fd=12.5\n",
    "progress bars": b"\r 50%|#####     | 5/10 [00:01<00:01] loss = 0.5",
}


def main() -> None:
    """Print the table."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.log"
        for name, content in CONTENTS.items():
            path.write_bytes(content * (SIZE // len(content)))
            seconds[name] = statistics.median(_seconds(path) for _ in range(REPEATS))
    fastest = min(seconds.values())
    for name, value in seconds.items():
        print(f"{name:30} {value:6.2f} s  {value / fastest:6.1f} x")


def _seconds(path: Path) -> float:
    reader = MetricsTail(path, ("fd", "loss"), Collector(CollectorKind.FILE, str(path)))
    start = time.process_time()
    reader.read_all()
    return time.process_time() - start


if __name__ == "__main__":
    main()
