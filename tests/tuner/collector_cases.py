"""Prints the files of the table tests/tuner/data/collector.jsonl, without the verdicts of Go.

    python -m tests.tuner.collector_cases | go run tests/tuner/data/collector/main.go >
    tests/tuner/data/collector.jsonl

The verdicts are those of Go's own packages: tests/tuner/data/collector/main.go says how they are
obtained.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator

METRICS = ("fd", "loss", "--fid", "é")
SEED = 20260101
RANDOM_LINES = 120  # for the default filter
_PIECES = (
    *("fd", "loss", "--fid", "val-fd", "train_loss", "x", "fd2", "2fd", "é", "E5"),
    *("=", "=", "=", " = ", "\t=", "= ", "==", ":", "=\r", "\v=", "=\u00a0"),
    *(
        "1",
        "12.5",
        "-3",
        "+.5",
        "1.",
        "1e5",
        "1E-3",
        "1e",
        "1e+",
        "nan",
        "-inf",
        "0x1p2",
        "1_0",
        "1.2.3",
        "--1",
    ),
    *(" ", " ", ",", ", ", "|", "-", ".", "\r", "/", "\x1b[1m", "\x00"),
)
_BYTES = (b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf")

TEXT = [
    "fd=1", "fd = 1", "fd= 1", "fd =1", "fd\t=\t1", "fd\v=\v1", "fd\x0c=\x0c1", "fd\r=\r1", "fd\u00a0=1", "fd\x85=1",
    "fd=", "fd", "fd=nan", "fd=-inf", "fd=1e999", "fd=-1e999", "fd=1e-999", "fd=0x10", "fd=1_000", "fd=1,234.5",
    "fd=+", "fd=-", "fd=.5", "fd=5.", "fd=.", "fd=1e5", "fd=1e", "fd=E5", "fd=e5", "fd=1.5e-07", "fd=--5", "fd=+-5",
    "xfd=1", "fdx=1", "fd-x=1", "x-fd=1", "x|fd=1", "fd|=1", "val/fd=1", "val.fd=1", "a=1fd=2", "a=1.5fd=2",
    "a=1e5fd=2", "a=1e+5fd=2", "a=1.fd=2", "a=-fd=2", "a=+fd=2", "a=|fd=2", "a=fd=2", "a= fd=2", "a=\tfd=2", "a==fd=2",
    "fd=fd=fd=3", "fd=1fd=2fd=3", "fd=1loss=2", "loss=.5fd=2", "a=1efd=2", "a=1Efd=2", "a=E1fd=2", "a=1.5.5fd=2",
    "fd=1 fd=2 loss=3", "\x1b[1mfd\x1b[0m=3", "\rfd = 1\rfd = 2\r", "50%|#####     | 5/10 fd = 0.5", "{fd=1}", "fd:1",
    "\"fd\"=1", "'fd'=1", "fd\x00=1", "fd=1\x00", "é=1", "éfd=1", "fdé=1", "fd=1é", "fd=\uff11", "fd\uff1d1",
    "\uff46\uff44=1",
    "--fid=9", "---fid=9", "x--fid=9", "--fid=--fid=9", "\ufefffd=1", "fd = 1 = 2", "fd=1=2", "loss= fd= 1", "fd=1-2",
    "fd=00012", "fd=1e0005", "fd=123456789012345678901234567890", "fd=0.1e-320", "fd=1" + "0" * 400, "fd= \t\r\v\x0c 1",
    "fd=1\nfd=2\r\nfd=3", "\n\nfd=1\n\n", "fd\n=\n1", "fd=\n1", "a" * 3000 + " fd=1", "=" * 50 + "fd=1", "-" * 50,
]  # fmt: skip
STAMPS = [
    "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05-23:59",
    "2026-01-02T03:04:05", "2026-01-02", "2026-01-02T03:04Z", "20260102T030405Z", "2026-13-02T03:04:05Z",
    "2026-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T23:59:60Z",
    "2026-01-02t03:04:05Z", "2026-01-02T03:04:05z", "2026-01-02 03:04:05Z", "2026-01-02T3:04:05Z",
    "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05+0200", "2026-01-02T03:04:05+24:00",
    "2026-01-02T03:04:05+25:00", "2026-01-02T03:04:05+02:60", "2026-01-02T03:04:05+02:61", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00", "12026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.1234567890123456789Z", "-026-01-02T03:04:05Z", "٢٠٢٦-01-02T03:04:05Z", "",
    "2026-01-02T03:04:05-00:00", "1969-12-31T23:59:59.5Z", "2026-01-02T03:04:05Z,", "1767323045",
]  # fmt: skip
CUSTOM: list[tuple[list[str], list[str]]] = [
    ([r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}"],
     ["{metricName: fd, metricValue: 3.5}", "{metricName: fd, metricValue: 3.}{metricName: loss, metricValue: -1}"]),
    ([r"(\S+)\s*:\s*(\S+)"], ["fd: 3", "fd : nan loss:2", "fd:\u20283", "fd: 1,5 fd:0x1p-1 fd:inf fd:1_0"]),
    ([r"(.*)=(.*)"], [" fd =\t1 ", "\u00a0fd\u2003=\u30001\u00a0", "fd=1=2", "\x1cfd\x1c=\x1c1\x1c", "\ufefffd=1"]),
    ([r"(fd|loss)=(\d+)", r"(fd)=(\d)"], ["fd=12 loss=3", "loss=1 fd=23"]),
    ([r"(?i)(FD)=(\d)", r"(?s)(fd).=(.)"], ["fd=1 FD=2 Fd=3", "fd\r=7"]),
    ([r"([[:alpha:]]+)=(\d+)", r"(\pL+)=(\d+)"], ["fd=1", "é=2", "fdé=3"]),
    ([r"(fd)(\d)*="], ["fd=", "fd12=", "fd1="]),
    ([r"(?P<value>\d+) (?P<name>fd)"], ["1 fd"]),
    ([r"(fd)=(a|ab)(c|bcd)?"], ["fd=abcd"]),
    ([r"(fd)=(\d*?)(;|$)"], ["fd=12;fd=34"]),
    ([r"(fd)=(\d.*z|\d)"], ["fd=1 fd=2 fd=3z fd=4"]),
    ([r"(?m)^(fd)=(\d)$", r"\b(loss)=(\d)\b"], ["fd=1", "fd=1\r", "xloss=1 loss=2"]),
    ([r"(fd)?=(\d*)", r"(\w*)(\d*)"], ["=1 fd=2", "fd", ""]),
    ([r"(fd)=\d"], ["fd=1"]),
    ([r"\Q(fd)\E(=)(\d)", r"(fd)=([^\s]+)"], ["(fd)=1", "fd=1\u00a02"]),
    ([r"(fd)=(.)", r"(fd)=(.+)é"], ["fd=é", "fd=1é"]),
    ([r"(fd)=(\x{41}|\p{Greek}|\d)"], ["fd=A fd=\u03b1 fd=1"]),
    ([r"(fd)=(?:(?:\d{2}){2}|\d)(\.\d+)"], ["fd=1234.5 fd=1.25"]),
]  # fmt: skip
BAD = [
    r"(\w+)=(\d+)\1",
    r"(?<=x)(\w+)=(\d+)",
    r"(\w+)=(?!0)(\d+)",
    r"(\w+)=(\C)",
    r"(\w+)=(\d+)\Z",
    r"(a)=(\d{1001})",
    r"(\w+=(\d",
    r"(a)=(b)**",
    r"(a)=([z-a])",
    r"(a)=(\pQ)",
    r"(?<name>fd)=(\d)",
    r"(fd)=(\d++)",
    r"(a)=((b{1000}){1000})",
    r"(fd)=(\d){,3}",
    r"(fd)=(\d{2,1})",
    r"(fd)=(\u0041)",
    r"(fd)=(\N{DASH})",
    r"(?x)(fd) = (\d)",
    r"(?U)(fd)=(\d+)",
    r"(fd)=(\d)(?#note)",
    r"(?P<a>fd)=(?P<a>\d)",
    r"(fd)=(\d)\z",
    r"(fd)=(\d)$",
    r"(fd)=(\Ad)",
    r"(fd)=([[:word:]]+)",
    r"(fd)=([[:foo:]])",
    r"(fd)=(\d)|",
    r"(|fd)=(\d)",
    r"(fd)=(\d)\_",
    r"(fd)=(\h)",
    r"(fd)=(\R)",
    r"(fd)=(\X)",
    r"(fd)=(\K1)",
    r"(fd)=(?>\d)",
    r"(fd)=(\0)",
    r"(fd)=(\07)",
    r"(fd)=(\8)",
    r"(fd)=(\cA)",
    r"(fd)=(\e)",
    r"(fd)=(\a|\d)",
    "(fd)=(\ufffd)",
]
JSON = [
    '{"fd": "1"}', '{"fd": 1}', '{"fd": null}', '{"fd": true}', '{"fd": ["1"]}', '{"fd": "1", "fd": "2"}',
    '{"fd": "1", "fd": 2}', '{"fd": {"fd": "1"}}', '{"a": {"b": 1, "b": 2}, "fd": "3"}', '{"FD": "1"}', "{}", "null",
    "[]", "1", '"fd"', "true", "", " ", "\r", "\t", "hello", "fd=1", '{"fd": "1"}\n\n{"fd": "2"}\n', '{"fd": "1"} x',
    '{"fd": "1"}{"fd": "2"}', '{"fd": "1"}\r\n{"fd": "2"}\r', '\ufeff{"fd": "1"}', '{"fd": "1",}', '{"fd": "1" "x": 2}',
    "{'fd': '1'}", '{fd: "1"}', '{"fd": NaN}', '{"fd": "NaN"}', '{"x": Infinity}', '{"x": -Infinity}', '{"x": nan}',
    '{"x": 1e400}', '{"x": -1e400}', '{"x": 1e-400, "fd": "1"}', '{"x": 1' + "0" * 308 + "}",
    '{"x": 1' + "0" * 400 + "}",
    '{"x": 01}', '{"x": -0, "fd": "1"}', '{"x": +1}', '{"x": .5}', '{"x": 5.}', '{"x": 1e5, "fd": "1"}', '{"x": 1E+5}',
    '{"x": 1e}', '{"x": -}', '{"x": 0x10}', '{"x": 1_000}', '{"x": 1.7976931348623157e308, "fd": "1"}',
    '{"x": 1.7976931348623159e308, "fd": "1"}', '{"x": True}', '{"x": None}', '{"x": undefined}', '{"fd": "\ud83d"}',
    '{"fd": "1", "x": "\\ud800"}', '{"fd": "1", "x": "\\udc00\\ud800"}', '{"fd": "1", "x": "\\ud83d\\ude00"}',
    '{"x": "\\u12"}', '{"x": "\\u 123"}', '{"x": "\\u+123"}', '{"x": "\\uD8"}', '{"x": "\\x41"}', '{"x": "\\\'"}',
    '{"x": "\\/", "fd": "1"}', '{"x": "a\tb"}', '{"x": "a\x00b"}', '{"x": "a\x1fb"}', '{"x": "a\x7fb", "fd": "1"}',
    '{"x": "a\u2028b", "fd": "1"}', '{"\\u0066d": "1"}', '{"fd": "\\u0031"}', '{"fd": " 1"}', '{"fd": "1\\n"}',
    '{"fd": ""}', '{"fd": "1.5e3"}', '{"fd": "+1"}', '{"fd": ".5"}', '{"fd": "5."}', '{"fd": "0x1p-1"}',
    '{"fd": "1_0"}',
    '{"fd": "inf"}', '{"fd": "1e999"}', '{"fd": "\uff11"}', '{"fd": "1,5"}', '{"fd": "\\u001c1"}', '{"fd": "0x1"}',
    '{"fd": "1"}\u00a0', '\u00a0{"fd": "1"}', '{"fd"\u00a0: "1"}', '{"fd": "1"}\v', '{"fd": "1"}\x0c', '{"fd": "1"}//x',
    '{"fd": "1"} // x', '/* x */ {"fd": "1"}', '{"é": "1"}', '{"loss": "2", "fd": "1"}', '{"fd": "1"}\nhello\n',
    '{"x": ' + "[" * 900 + "]" * 900 + ', "fd": "1"}', '{"x": ' + "[" * 9000 + "]" * 9000 + ', "fd": "1"}',
    '{"x": ' + "[" * 10001 + "]" * 10001 + ', "fd": "1"}', '{"x": ' + '{"a":' * 950 + "1" + "}" * 950 + ', "fd": "1"}',
    '{"x": "' + "a" * 70000 + '", "fd": "1"}', '{"": "", "fd": "1"}', '{"fd": "1", "": NaN}', "{", "}",
    '{"fd"', '{"fd":',
    '{"fd": "1"', '{"fd": "1', '{"fd": "1"}}', '[{"fd": "1"}]', '{"fd": "1"},', ',{"fd": "1"}', '{"fd" "1"}', '{:1}',
    '{"a": [1,]}', '{"a": [,1]}', '{"a": tru}', '{"a": nullx}', '{"a": "b": "c"}', "nul", "NULL", "null null",
]  # fmt: skip
EPOCHS = ["1767323045", "1767323045.5", "1767323045.25", "1767323045.123456", "1.7673230455e9", "-1.5", "-0.5", "0",
          "1e-7", "1e12", "1e17", "1e19", "1e300", "0.1234567890123456", "true", "null", "[]", '"1767323045"', '""',
          "253402300799", "1767323045.0", "-0"]  # fmt: skip
BYTES = [b"fd=1", b"\xfffd=1", b"fd=1\xff", b"fd=\xff", b"fd\xff=1", b"fd\xc2=1", b"\xc3fd=1", b"a=\xfffd=1",
         b"x\xc3\xa9fd=2", b"\xed\xa0\x80 fd=1", b"fd=1 \xf0\x9f\x98"]  # fmt: skip


def cases() -> Iterator[dict[str, object]]:
    """Yield each file, with how the collector reads it."""
    yield from (_case(text) for text in TEXT)
    yield from (_case(f"{stamp} fd=1") for stamp in STAMPS)
    yield _case("2026-01-02T03:04:05Z\tfd=1")
    yield from (_case(text, filters) for filters, texts in CUSTOM for text in texts)
    yield from (_case("fd=1 fd=A (fd)=2 x=3", [pattern]) for pattern in BAD)
    yield from (
        _case(raw, filters)
        for raw in BYTES
        for filters in ([], [r"(.*fd.*)=(.*)", r"(fd)=(.)", r"(fd).=(.)"])
    )
    yield from (_case(text, form="JSON") for text in JSON)
    yield from (_case(f'{{"timestamp": {value}, "fd": "1"}}', form="JSON") for value in EPOCHS)
    yield from (_case(f'{{"timestamp": "{stamp}", "fd": "1"}}', form="JSON") for stamp in STAMPS)
    yield from (_case(b'{"fd": "1", "x": "' + raw + b'"}', form="JSON") for raw in _BYTES)
    yield from (_case(b'{"fd": "1"}' + raw, form="JSON") for raw in _BYTES)
    yield from (_case(line) for line in lines(random.Random(SEED), RANDOM_LINES))


def lines(generator: random.Random, count: int) -> Iterator[bytes]:
    """Yield lines that are made of pieces of names, values and what is between them; a tenth with invalid UTF-8."""
    for _ in range(count):
        pieces = [
            piece.encode() for piece in generator.choices(_PIECES, k=generator.randrange(1, 25))
        ]
        if generator.random() < 0.1:
            pieces.insert(generator.randrange(len(pieces)), generator.choice(_BYTES))
        yield b"".join(pieces)


def _case(
    content: str | bytes, filters: list[str] | None = None, form: str = "TEXT"
) -> dict[str, object]:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return {
        "format": form,
        "metrics": METRICS,
        "filters": filters or [],
        "content": base64.b64encode(raw).decode(),
    }


if __name__ == "__main__":
    for case in cases():
        print(json.dumps(case))
