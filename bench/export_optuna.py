"""Seconds to write a study of 2,000 trials as an Optuna storage: `gantune export --to optuna`, and Optuna's own way.

    python -m bench.export_optuna [--trials 2000]

Both write the same SQLite file with the same settings; the trials are those of bench.report_page.
One run each. The journal is what `-o FILE.journal` writes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import provenance, report_page
from tuner.client import Client
from tuner.export import rdb, storage
from tuner.store import curves
from tuner.store.studies import EngineKind


def main() -> None:
    """Print the seconds of each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=2_000)
    args = parser.parse_args()
    print(provenance.line("optuna", "sqlalchemy"))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        name = report_page.study(store, args.trials)
        client, kind = Client(store), EngineKind.LOCAL
        result, experiment = client.result(name, kind), client.experiment(name, kind)
        seen = curves.read(client.store.of(kind).folder(name))

        def write(file: str) -> Callable[[], None]:
            return lambda: storage.write(Path(folder) / file, result, experiment, seen)

        write("warm.db")()  # Optuna's imports
        _measure("gantune export --to optuna", args.trials, write("fast.db"))
        _measure("gantune export --to optuna -o FILE.journal", args.trials, write("fast.journal"))
        rdb.add_trials = lambda kept, study_id, trials: [  # type: ignore[assignment]
            kept.create_new_trial(study_id, template_trial=trial) for trial in trials
        ]  # what Study.add_trials does
        _measure("Study.add_trials", args.trials, write("slow.db"))


def _measure(what: str, trials: int, write: Callable[[], None]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    write()
    seconds, busy = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {trials:,} trials in {seconds:.1f} s ({busy:.1f} s of CPU time)", flush=True)


if __name__ == "__main__":
    main()
