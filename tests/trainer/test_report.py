"""The metric line as Katib reads it, the files, and the gauges on a real socket."""

import io
import json
import math
import re
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import report

# pkg/metricscollector/v1beta1/common/const.go, DefaultFilter; Go's RE2 and Python's re agree on it
KATIB_FILTER = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)", re.ASCII)
# time.RFC3339Nano, with which file-metricscollector.go parses the first word of a line
RFC3339_NANO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
TIME = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def as_katib_reads(text: str) -> tuple[str, dict[str, float]]:
    """Return the time and the metrics of a line, as parseLogsInTextFormat does."""
    time = text.split(" ", 1)[0]
    assert RFC3339_NANO.fullmatch(time)
    return time, {
        match[1].strip(): float(match[2].strip()) for match in KATIB_FILTER.finditer(text)
    }


def test_line_follows_the_grammar():
    values = {"epoch": 3, "step": 120, "loss": 0.25, "fd": 1e-05, "copied": 0.0, "diverged": 0}
    expected = "2026-01-02T03:04:05.123456Z epoch=3 step=120 loss=0.25 fd=1e-05 copied=0 diverged=0"
    assert report.line(TIME, values) == expected


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    ),
    st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
)
def test_katib_reads_back_every_value_exactly(values, time):
    _, found = as_katib_reads(report.line(time, values))
    assert found == values


def test_time_is_utc_with_microseconds():
    local = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert report.line(local, {"fd": 1}) == "2026-01-02T03:04:05.000000Z fd=1"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_value_is_refused(value, tmp_path):
    stream = io.StringIO()
    with report.Sink(stream, tmp_path / "m.log", tmp_path) as sink:
        with pytest.raises(ValueError, match="must be finite, got fd="):
            sink.write(TIME, {"loss": 1.0, "fd": value})
        assert (
            stream.getvalue()
            == (tmp_path / "m.log").read_text()
            == (tmp_path / "metrics.jsonl").read_text()
            == ""
        )


@pytest.mark.parametrize("name", ["", "val/fid", "a b", "fd=", "fd\n", "größe"])
def test_name_that_katib_cuts_is_refused(name):
    with pytest.raises(ValueError, match="name must be"):
        report.line(TIME, {name: 1})


def test_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="with a zone"):
        report.line(datetime(2026, 1, 1), {"fd": 1})


def test_all_outputs_agree_and_are_flushed(tmp_path):
    stream = io.StringIO()
    with report.Sink(stream, tmp_path / "new" / "m.log", tmp_path / "out") as sink:
        for step in (1, 2):
            sink.write(TIME, {"step": step, "fd": 0.1 + 0.2})
            # flushed: a killed trial keeps it
            assert (tmp_path / "new" / "m.log").read_text() == stream.getvalue()
    records = [
        json.loads(text) for text in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert records[1] == {"time": "2026-01-02T03:04:05.123456Z", "step": 2, "fd": 0.1 + 0.2}
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize(("append", "lines"), [(False, 1), (True, 2)])
def test_only_a_resumed_run_appends(append, lines, tmp_path):
    for keep in (False, append):
        with report.Sink(None, tmp_path / "m.log", None, append=keep) as sink:
            sink.write(TIME, {"fd": 1})
    assert len((tmp_path / "m.log").read_text().splitlines()) == lines


def test_unwritable_file_names_the_flag(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        report.ReportError, match=r"^--metrics-file: cannot write .*\. Choose a writable"
    ) as caught:
        report.Sink(None, tmp_path / "file" / "m.log", None)
    assert "\n" not in str(caught.value)
    with pytest.raises(report.ReportError, match=r"^--output-dir: cannot write"):
        report.Sink(None, tmp_path / "m.log", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # no partial file


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return response.read().decode()


def test_gauges_stop_with_the_run():
    with report.Gauges(0, "127.0.0.1") as gauges:
        assert "gan_trainer" not in scrape(gauges.port)  # no zero before the first evaluation
        gauges.set({"fd": 21.5, "coverage": 0.5, "not_a_metric": 1.0})
        text = scrape(gauges.port)
        assert (
            "# TYPE gan_trainer_frechet_distance gauge\ngan_trainer_frechet_distance 21.5\n" in text
        )
        assert "gan_trainer_coverage_ratio 0.5" in text
        gauges.set({"fd": 14.25})
        assert "gan_trainer_frechet_distance 14.25" in scrape(gauges.port)
    with pytest.raises(urllib.error.URLError):
        scrape(gauges.port)
    with report.Gauges(gauges.port, "127.0.0.1") as again:
        assert again.port == gauges.port


def test_two_runs_have_separate_gauges():
    with report.Gauges(0, "127.0.0.1") as one, report.Gauges(0, "127.0.0.1") as two:
        one.set({"fd": 1})
        two.set({"fd": 2})
        assert "gan_trainer_frechet_distance 1.0" in scrape(one.port)
        assert "gan_trainer_frechet_distance 2.0" in scrape(two.port)


def test_used_port_names_the_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                report.ReportError,
                match=rf"^--metrics-port={port} on --metrics-host=127.0.0.1: .*\. Choose a free port",
            ),
            report.Gauges(port, "127.0.0.1"),
        ):
            pass


def test_without_a_port_nothing_is_served():
    with report.Gauges(None) as gauges:
        gauges.set({"fd": 1.0})
        assert gauges.port is None


def test_every_metric_has_a_gauge():
    line = (
        "epoch step loss generator_loss discriminator_loss fd sw precision recall density coverage train_fd copied"
        " images_per_second train_seconds diverged"
    )
    assert list(report.GAUGES) == line.split()
    names = [name for name, _ in report.GAUGES.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"gan_trainer_[a-z_]+", name) for name in names)
