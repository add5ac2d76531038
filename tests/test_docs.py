"""What README.md and docs/ tell people to type is held against the real programs.

Every command in a fenced `sh` or `console` block is read with the parser that would read it
(gantune's, the trainer's, the Makefile's targets), files it names must exist, and those that need
no study, cluster or network are run. After an idea of simonw/sqlite-utils. A program that this file
does not know fails, so that nobody forgets to add it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()
]
FENCE = re.compile(r"^```(sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INNER = re.compile(r"\$\(([^()]*)\)")
SEPARATORS = {"&&", "||", ";", "|", "&", ">", ">>", "<"}
RUN = {"check", "list", "--help", "--version"}  # gantune commands that need nothing
KNOWN = {
    "apt-get", "brew", "buildah", "cat", "cd", "chromium", "crane", "curl", "docker", "echo", "eval", "export", "git",
    "go", "head", "helm", "jq", "kind", "kubectl", "ls", "mkdir", "open", "pip", "podman", "pytest", "rm", "sh", "sudo",
    "xdg-open",
}  # fmt: skip


def blocks(text: str) -> Iterator[str]:
    """The lines that are typed: all of an `sh` block, those after a prompt in a `console` block."""
    for language, body in FENCE.findall(text):
        lines = body.replace("\\\n", " ").splitlines()
        typed = (
            (line.removeprefix("$ ") for line in lines if line.startswith("$ "))
            if language == "console"
            else lines
        )
        yield from (line for line in typed if line.strip() and not line.lstrip().startswith("#"))


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, each as its words; those inside $( ) too."""
    for inner in INNER.findall(line):
        yield from commands(inner)
    lexer = shlex.shlex(INNER.sub("--lr=0.001", line), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            command.append(word)
            continue
        while command and re.fullmatch(r"[A-Za-z_]\w*=.*", command[0]):
            command.pop(0)  # an environment variable for the command
        if command:
            yield command
        command = []


def documented() -> list[tuple[str, list[str]]]:
    """(page, words) of every command, once."""
    found = {
        (page.name, tuple(words)): None
        for page in PAGES
        for line in blocks(page.read_text(encoding="utf-8"))
        for words in commands(line)
    }
    return [(page, list(words)) for page, words in found]


def files(words: list[str]) -> Iterator[str]:
    """The words that name a file of this repository."""
    return (
        word
        for word in words
        if re.match(r"(\./)?(manifests|charts|kind|bench|tests|docs|examples)/", word)
    )


@pytest.mark.parametrize(
    ("page", "words"),
    documented(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_documented_command_is_valid(
    page: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for name in files(words):
        assert list(ROOT.glob(name.removeprefix("./").rstrip("/"))), (
            f"{page}: {name} is not in the repository"
        )
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "gantune" or words[:3] == ["python", "-m", "tuner"]:
        read_by_gantune(rest if program == "gantune" else words[3:])
    elif words[:2] == ["python", "-m"] and words[2].startswith("trainer"):
        read_by_trainer(words[2], words[3:])
    elif words[:2] == ["python", "-m"]:
        read_by_source(words[2], words[3:])
    elif program == "make":
        read_by_make(rest)
    elif program in ("python", "python3"):
        assert rest, f"{page}: {words}"
    else:
        assert program in KNOWN, (
            f"{page} tells people to type {program!r}: check it in tests/test_docs.py"
        )


def read_by_gantune(argv: list[str]) -> None:
    """Parse `argv` with the real command; run it where it needs nothing."""
    from tuner.cli import COMMANDS, gantune

    if argv and argv[0] in COMMANDS and "--help" not in argv:
        command = gantune.get_command(click.Context(gantune), argv[0])
        assert command is not None
        command.make_context(
            argv[0], [word.replace("FILE", "manifests/bayes.yaml") for word in argv[1:]]
        )
    # a reader's own manifests
    others = [word for word in argv if word.endswith(".yaml") and word not in files(argv)]
    if (
        argv
        and argv[0] in RUN
        and "--cluster" not in argv
        and not others
        and not any(map(str.isupper, argv))
    ):
        expanded = (
            [str(path) for word in argv for path in sorted(ROOT.glob(word)) or [word]]
            if "*" in str(argv)
            else argv
        )
        run = subprocess.run(
            [sys.executable, "-m", "tuner", *expanded],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def read_by_trainer(module: str, argv: list[str]) -> None:
    """Parse `argv` with the trainer's own parser; other modules of it only have to exist."""
    if module != "trainer":
        assert (ROOT / (module.replace(".", "/") + ".py")).exists()
        return
    if "--help" not in argv:
        from trainer.config import Config

        Config.parse(argv)


def read_by_source(module: str, argv: list[str]) -> None:
    """Check that a module of this repository has the options of `argv`; another one (pip, venv) only has a name."""
    source = ROOT / (module.replace(".", "/") + ".py")
    source = source if source.exists() else source.with_suffix("") / "__main__.py"
    if module.partition(".")[0] in {path.parent.name for path in ROOT.glob("*/__init__.py")}:
        text = source.read_text(encoding="utf-8")
        for word in argv:
            option = word.partition("=")[0]
            assert not option.startswith("--") or f'"{option}"' in text, (
                f"{module} has no option {option}"
            )


def inline() -> list[tuple[str, str]]:
    """(page, command) of every command of this project in running text, such as `gantune best NAME`."""
    found: dict[tuple[str, str], None] = {}
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        for span in re.findall(
            r"`((?:gantune|python -m (?:bench|trainer|tuner)[^\s`]*) [^`\n]+|python -m bench[^\s`]+)`",
            text,
        ):
            found[page.name, span] = None
    return list(found)


@pytest.mark.parametrize(("page", "command"), inline(), ids=lambda value: value)
def test_command_in_running_text_exists(page: str, command: str) -> None:
    words = command.split()
    if words[0] == "gantune":
        options_of_gantune(words[1:])
    elif words[2] == "trainer":
        from trainer.config import Config, flag

        known = {flag(field.name) for field in dataclasses.fields(Config)}
        wanted = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert wanted <= known | {"--help"}, f"the trainer has no {wanted - known}"
    elif not words[2].startswith("trainer"):
        read_by_source(words[2], words[3:])


def options_of_gantune(words: list[str]) -> None:
    """Check that the command exists and has the options; arguments are names for the reader to replace."""
    from tuner.cli import COMMANDS, gantune

    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version", "-h", "-V")
        return
    assert words[0] in COMMANDS, f"there is no command {words[0]}"
    command = gantune.get_command(click.Context(gantune), words[0])
    assert command is not None
    if not command.context_settings.get("allow_interspersed_args", True):
        context = click.Context(command, **command.context_settings)
        command.make_parser(context).parse_args(list(words[1:]))  # the rest is the program's
        return
    known = {
        option
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
    }
    end = words.index("--") if "--" in words else len(words)
    for word in words[1:end]:
        option = word.partition("=")[0]
        assert not option.startswith("--") or option in known | {"--help"}, (
            f"{words[0]} has no option {option}"
        )


def read_by_make(argv: list[str]) -> None:
    """Return whether make knows the target; a dry run, which executes nothing."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(
        ["make", "--dry-run", *argv], capture_output=True, text=True, cwd=ROOT, env=env, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_docs_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing, f"{page.name}: {missing}"


def test_finds_commands_in_pages() -> None:
    text = "```sh\n# no\nA=1 make tune  # yes\npython -m trainer $(gantune best x --format args) \\\n  --epochs 2\n```\n"
    text += "```console\n$ gantune list | head -1\nfd 1\n```\n```yaml\ngantune: no\n```\n"
    found = [words for line in blocks(text) for words in commands(line)]
    assert found == [
        ["make", "tune"],
        ["gantune", "best", "x", "--format", "args"],
        ["python", "-m", "trainer", "--lr=0.001", "--epochs", "2"],
        ["gantune", "list"],
        ["head", "-1"],
    ]
    with pytest.raises(click.UsageError):
        read_by_gantune(["best", "x", "--format", "nonsense"])
    with pytest.raises(AssertionError):
        read_by_make(["no-such-target"])


@pytest.mark.timeout(600)
def test_tutorial_runs_as_written(tmp_path: Path) -> None:
    """Every command of the tutorial, one after the other, in a copy of what it needs."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "moons.py").symlink_to(ROOT / "examples" / "moons.py")
    text = (ROOT / "docs" / "tutorial" / "first-search.md").read_text(encoding="utf-8")
    typed = [line for line in blocks(text) if line != "pip install ."]
    assert len(typed) > 8
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "GANTUNE_STORE": str(tmp_path / ".gantune")}
    for line in typed:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert "val_error=" in done.stdout


def test_site_builds_without_broken_links(tmp_path: Path) -> None:
    from tuner.cli import COMMANDS

    pytest.importorskip("mkdocs", reason="the site needs the extra dev")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "cli.html").read_text(encoding="utf-8")
    assert all(f"gantune {name}" in page for name in COMMANDS)
    assert "tune" in (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
