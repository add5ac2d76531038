"""`gantune check` as a user types it: a real process, its output and exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tuner.cli import gantune

CLEAN = Path(__file__).parents[1] / "data" / "clean.yaml"


def gantune_check(*args: str, stdin: str | None = None) -> tuple[int, str, str]:
    from click.exceptions import ClickException

    from tuner.errors import GantuneError

    done = CliRunner().invoke(gantune, ["check", *args], input=stdin, standalone_mode=False)
    if isinstance(done.exception, ClickException | GantuneError):
        return done.exception.exit_code, done.stdout, done.stderr + str(done.exception)
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.stdout, done.stderr


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text(
        CLEAN.read_text()
        .replace('min: "32"', 'min: "256"')
        .replace("        backoffLimit: 0\n", "")
    )
    return path


def test_no_problems_is_0_and_says_so() -> None:
    assert gantune_check(str(CLEAN)) == (0, "", "1 file checked: no problems\n")


def test_errors_are_1_with_one_line_each(broken: Path) -> None:
    code, out, err = gantune_check("--strict", str(broken), str(CLEAN))
    assert code == 1
    assert out.splitlines() == [
        f"{broken}:37: error: parameter 'bs': bayesianoptimization needs min below max, "
        "got min=256, max=128 [bounds-order]",
        f"{broken}:57: warning: the Job has no backoffLimit: a failing trial is tried 6 more times; "
        "write backoffLimit: 0 [backoff-limit]",
    ]
    assert err == "2 files checked: 1 error, 1 warning\n"


def test_warnings_alone_are_0_and_can_be_ignored(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(CLEAN.read_text().replace("        backoffLimit: 0\n", ""))
    assert gantune_check(str(path))[1] == ""
    code, out, err = gantune_check("--strict", str(path))
    assert (code, out.count("\n"), err) == (0, 1, "1 file checked: 1 warning\n")
    assert gantune_check("--strict", str(path), "--ignore", "backoff-limit")[1] == ""
    assert gantune_check(str(path), "--ignore", "bounds-order")[0] == 2
    assert "did you mean 'backoff-limit'" in gantune_check(str(path), "--ignore", "backofflimit")[2]


def test_json_lists_each_problem(broken: Path) -> None:
    code, out, _ = gantune_check("--format", "json", str(broken))
    first = json.loads(out)[0]
    assert code == 1
    assert first == {
        "file": str(broken),
        "line": 37,
        "severity": "error",
        "rule": "bounds-order",
        "path": "spec.parameters[1].feasibleSpace.min",
        "message": "parameter 'bs': bayesianoptimization needs min below max, got min=256, max=128",
    }
    assert gantune_check("--format", "json", str(CLEAN))[1] == "[]\n"


def test_reads_standard_input(broken: Path) -> None:
    code, out, _ = gantune_check("-", stdin=broken.read_text())
    assert code == 1
    assert out.startswith("<stdin>:37: error: ")


def test_unreadable_file_exits_2_after_other_checks(broken: Path) -> None:
    code, out, err = gantune_check("nosuch.yaml", str(broken))
    assert code == 2
    assert "bounds-order" in out
    assert (
        err.splitlines()[0]
        == "gantune: error: nosuch.yaml: cannot read the manifest: No such file or directory"
    )


def test_explain_prints_the_rule() -> None:
    code, out, _ = gantune_check("--explain", "parallel-duplicates")
    assert code == 0
    assert out.startswith("parallel-duplicates (warning)\n")
    assert "hyperopt/base_service.py:302-314" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    code, _, err = gantune_check("--explain", "paralel-duplicates")
    assert code == 2
    assert "did you mean 'parallel-duplicates'?" in err
    assert "grid-size" in gantune_check("--explain", "all")[1]


def test_no_file_is_a_usage_error() -> None:
    assert gantune_check()[0] == 2


def test_as_a_process(broken: Path) -> None:
    command = [sys.executable, "-m", "tuner", "check", str(broken)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "[bounds-order]" in done.stdout
    assert "Traceback" not in done.stderr
