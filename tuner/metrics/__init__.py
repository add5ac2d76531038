r"""What a trial reported, read as Katib's file-metricscollector reads it (v0.19, file-metricscollector.go).

A local run records one complete read of the file when the trial has finished
(`MetricsTail.read_all`). Following the file (`MetricsTail.poll`) serves the display and early
stopping only. A trial that runs again after a kill continues
the file that it left, without an unfinished last line, or truncates it: what counts is what the
file holds at the end.

Differences from Katib, on purpose:

- A value that is not a finite number is kept as NaN. Katib keeps an empty text, which can become
the best trial.
- A line is read up to 1 MiB. Beyond that, the default filter continues piece by piece (a word of
more than 1 MiB may be
  cut), a custom filter ignores the rest of the line, and format JSON reports an error. Katib reads
  lines of any length into memory.
- A custom filter that takes more than 10 s of CPU time for 1 MiB of text is an error. Each match is
linear, but
  a search for all matches is quadratic where each of them looks ahead to the end of the line, as
  with `(fd)=(\d.*z|\d)`.
- A filter with fewer than two groups is refused. Katib accepts it under StdOut, and ignores its
matches.
- The year 0000 and the offset +24:00 give no time, because Python's datetime has neither.
- JSON may be nested up to 500 levels, Go's decoder accepts 10,000.

tests/tuner/data/collector.jsonl records what Go's own packages read from 557 files; the tests
compare with it.
"""

from tuner.katib.filters import DEFAULT_FILTER, Filter, compiled
from tuner.metrics.observations import UNDATED, ObservationLog
from tuner.metrics.parsing import JsonLineError, number, parse_json, parse_text
from tuner.metrics.reader import MetricsReader
from tuner.metrics.tail import MetricsTail

__all__ = [
    "DEFAULT_FILTER",
    "UNDATED",
    "Filter",
    "JsonLineError",
    "MetricsReader",
    "MetricsTail",
    "ObservationLog",
    "compiled",
    "number",
    "parse_json",
    "parse_text",
]
