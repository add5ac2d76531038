"""Values in text that a shell or an interpreter reads are never code. The commands run in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.experiments import document, experiment
from tuner import manifest
from tuner.engines.local import LocalEngine
from tuner.errors import CommandError
from tuner.experiment.command import build
from tuner.katib import shell
from tuner.store.studies import Store

K = "${trialParameters.lr}"
FOUND = {
    os.path.realpath(found): name for name in ("zsh", "bash", "sh") if (found := shutil.which(name))
}
SHELLS = sorted(FOUND.values())
# Each line would create a file if a value ended what surrounds it: a comment, a text, a document.
LINES = [
    f"# it's the trial's {K} touch X\necho fd=1",
    f"cat <<EOF\nit's {K}\n{K}\ntouch X\nEOF",
    f'echo "fd=1 $(echo {K})"',
    f"echo {K}",
    f'echo "{K} touch X"',
    f"echo '{K} touch X'",
    f"echo `echo {K}`",
    f'echo "${{NONE:-{K}}}"',
    f"echo $(( {K} ))",
    f'eval "echo {K}"',
    f'sh -c "echo {K}"',
    f"{sys.executable} -c \"print('{K}')\"",
    f"case {K} in a) touch X ;; esac",
    f"opt={K} true",
    f"cat < {K}",
    f"cat <<'EOF'\n{K}\ntouch X\nEOF",
    f"cat <<-EOF\n\t{K}\n\ttouch X\n\tEOF",
    f"if [ x{K} = y ]; then touch X; fi",
    f"for each in {K}; do echo $each; done",
    "echo $(LR) '$(LR)' \"$(LR)\"",
]
HOSTILE = [
    "$(touch X)", "`touch X`", "; touch X", "a;touch X", "\ntouch X", "& touch X", "| touch X", "a touch X",
    "' ; touch X '", "\"; touch X; \"", "'\"$(touch X)\"'", "${IFS}touch${IFS}X", "$HOME", "*", "?", "[a-z]", "~",
    "{touch,X}", "(touch X)", "<(touch X)", "> X", "a[$(touch X)]", "\\", "\\\ntouch X", "#", "!", "\r", "\t", "\0",
    "\nEOF\ntouch X\n", "'); open('X', 'w') #", "é $(touch X)", "\u2028;touch X", "a" * 100_000 + ";touch X", "\ud800",
]  # fmt: skip
PLAIN = [
    "0.001", "-0.5", "1e-05", "adam", "--amp", "-rf", "s3://bucket/a.b", "a=b", "../a", "é", "中文", "", "then",
    "touch", "X", "user@host", "50%", "a,b", "c++", "-", ".", "a" * 1000,
]  # fmt: skip


def argv(line: str, value: str, program: str = "sh") -> tuple[str, ...]:
    """The command of a trial whose manifest gives `line` to a shell, and the value to an env variable."""
    env = [{"name": "LR", "value": K}]
    what = experiment(command=[program, "-c"], args=[line], container={"env": env})
    return build(what, "study-4", {"lr": value, "bs": 1}).argv


@pytest.mark.parametrize("line", LINES)
def test_hostile_values_are_refused_in_every_context(line: str) -> None:
    for value in HOSTILE:
        with pytest.raises(CommandError, match=r"container main: the value .* could be code"):
            argv(line, value)


@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize("line", LINES)
def test_plain_values_run_nothing(line: str, program: str, tmp_path: Path) -> None:
    for value in ("0.001", "-rf", "a=b", "../a", "touch", "then", "", "é", "50%", "X"):
        subprocess.run(argv(line, value, program), cwd=tmp_path, capture_output=True, check=False)
        assert list(tmp_path.iterdir()) == [], value


@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize("quotes", ["", '"', "'"])
def test_plain_values_are_kept_as_text(program: str, quotes: str, tmp_path: Path) -> None:
    for value in PLAIN:
        line = f"printf '%s\\n' {quotes}x{K}{quotes}"
        done = subprocess.run(argv(line, value, program), capture_output=True, check=True)
        assert done.stdout.decode() == f"x{value}\n"


@pytest.mark.parametrize("program", SHELLS)
def test_hostile_values_pass_through_the_environment(program: str, tmp_path: Path) -> None:
    what = experiment(
        command=[program, "-c"],
        args=['printf "%s." "$LR"'],
        container={"env": [{"name": "LR", "value": K}]},
    )
    for value in HOSTILE:
        if value not in ("\0", "\ud800"):
            command = build(what, "study-4", {"lr": value, "bs": 1})
            done = subprocess.run(
                command.argv,
                env={**os.environ, **command.env},
                cwd=tmp_path,
                capture_output=True,
                check=True,
            )
            assert done.stdout.decode() == f"{value}."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        f"cat <<EOF\n{K}\ntouch X\nEOF",
        f"cat << 'EOF'\n{K}\ntouch X\nEOF",
        f"cat <<-\\EOF\n\t{K}\n\ttouch X\n\tEOF",
        f"cat <<\"E\"'OF'\nE{K}\ntouch X\nEOF".replace(f"E{K}", K),
        f"echo $(cat <<EOF\n{K})\ntouch X\nEOF\n)",
        f"cat <<EOF\nE\\\n{K}\ntouch X\nEOF",
    ],
)
def test_delimiters_of_here_documents_are_refused(line: str) -> None:
    value = "OF" if "E\\" in line else "EOF"
    with pytest.raises(CommandError, match="delimiter of a here-document"):
        argv(line, value)


def test_delimiter_elsewhere_is_data() -> None:
    line = f"cat <<EOF\nepochs {K}\nEOF\necho $((1<<2)) {K}"
    assert argv(line, "EOF")[2] == line.replace(K, "EOF")
    line = f"cat << EOF\n{K}\nEOF"
    assert argv(line, "")[2] == line.replace(K, "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["sh", "-c", "LINE", "$0", "$1"], {1, 2}),
        (["/bin/bash", "-lc", "LINE"], {1, 2}),
        (["bash", "-euo", "pipefail", "-c", "LINE"], {3, 4}),
        (["bash", "--norc", "-c", "-x", "LINE", "last", "-c"], {2, 4}),
        (["timeout", "60", "sh", "-ec", "LINE"], {3, 4}),
        (["python3", "-u", "-W", "ignore", "-c", "CODE", "x"], {4, 5}),
        (["python3", "-cCODE"], {1}),
        (["perl", "-ne", "CODE", "-e", "MORE", "file"], {1, 2, 3, 4}),
        (["node", "--eval", "CODE"], {1, 2}),
        (["bash", "train.sh", "-c", "config"], set()),
        (["python", "-u", "train.py", "-c", "config"], set()),
        (["python", "-m", "trainer", "-c", "config"], set()),
        (["train", "-c", "config"], set()),
        ([], set()),
    ],
)
def test_code_items_are_found(line: list[str], code: set[int]) -> None:
    assert shell.code_items(line) == code


@pytest.mark.parametrize(
    "command",
    [
        ["bash", "-euo", "pipefail", "-c", f"echo {K}"],
        ["env", "A=1", "/bin/sh", "-ec", f"echo {K}"],
        ["python", "-c", f"print('{K}')"],
        ["echo", K, "|", "cat"],
        [f"echo {K}"],
        ["echo", "$(LR)", "&&", "true"],
    ],
)
def test_every_command_with_code_refuses_hostile_values(command: list[str]) -> None:
    env = [{"name": "LR", "value": f"a{K}"}]
    what = experiment(command=command, args=[], container={"env": env})
    for value in HOSTILE:
        with pytest.raises(CommandError, match="could be code"):
            build(what, "study-4", {"lr": value, "bs": 1})
    build(what, "study-4", {"lr": "1e-3", "bs": 1})


@pytest.mark.parametrize("value", HOSTILE[:-1])
def test_arguments_without_a_shell_hold_any_value(value: str) -> None:
    what = experiment(command=["bash", "train.sh", K], args=["-c", f"--lr={K}"])
    if "\0" not in value:
        found = build(what, "study-4", {"lr": value, "bs": 1}).argv
        assert found == ("bash", "train.sh", value, "-c", f"--lr={value}")


def test_variables_of_the_manifest_stay_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a variable is the manifest's; only what comes from elsewhere must be plain."""
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    env = [
        {"name": "RUN", "value": f"echo {K} $$(id)"},
        {"name": "TOKEN", "valueFrom": secret},
        {"name": "CALL", "value": "$(RUN); echo '$(TOKEN)'"},
    ]
    what = experiment(
        command=["sh", "-c"], args=["$(CALL) $$(RUN) $(NONE)"], container={"env": env}
    )
    monkeypatch.setenv("TOKEN", "abc")
    line = build(what, "study-4", {"lr": 0.5, "bs": 1}).argv[2]
    assert line == "echo 0.5 $(id); echo 'abc' $(RUN) $(NONE)"
    monkeypatch.setenv("TOKEN", "'; touch X; '")
    with pytest.raises(CommandError, match=r'of env TOKEN could be code.*Write "\$TOKEN" instead'):
        build(what, "study-4", {"lr": 0.5, "bs": 1})


@pytest.mark.parametrize("value", ["$(touch X)", "EOF"])
def test_search_with_hostile_value_starts_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    space = {"list": [*(f"a{number}" for number in range(20)), value]}
    shape = document(
        command=["sh", "-c"],
        args=[f"touch ran; cat <<EOF\n{K}\ntouch X\nEOF\necho fd=1"],
        parameters=[{"name": "lr", "parameterType": "categorical", "feasibleSpace": space}],
    )
    engine = LocalEngine(Store(tmp_path / "store"), workers=1)
    with pytest.raises(CommandError, match=r"'\$\(touch X\)' of parameter lr|here-document"):
        list(engine.run(manifest.from_document(shape)))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("store", ["it's a store", "store"])
def test_volumes_in_shell_lines_need_a_plain_store(tmp_path: Path, store: str) -> None:
    mount = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
    shape = document(
        command=["sh", "-c"],
        args=[f"echo fd={K} > /out/a; cat /out/a"],
        container=mount,
        pod={"volumes": [{"name": "out", "emptyDir": {}}]},
        trials=1,
    )
    engine = LocalEngine(Store(tmp_path / store), workers=1)
    events = engine.run(manifest.from_document(shape))
    if store == "store":
        assert [*events][-1].result.best is not None
    else:
        with pytest.raises(CommandError, match="Choose a store whose path has only letters"):
            list(events)
