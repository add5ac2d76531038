"""Rules on the primary container's command: what Katib's metrics collector changes in it, and what a value can change.

For StdOut, File and TensorFlowEvent the webhook joins command and args with blanks, unquoted, into
one `sh -c` text and adds `&& echo completed > .../PID.pid`; under StdOut also `1>metrics.log 2>&1`.
Katib recognises only a command that starts with exactly `sh -c` or `bash -c` as a shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tuner.check.rule import Finding, error, warning
from tuner.check.template import arguments
from tuner.check.view import View, strings
from tuner.katib.facts import PLACEHOLDER, SHELLS, WRAPPED_COLLECTORS
from tuner.katib.shell import PUNCTUATION, code_items, is_plain, relies_on_shell
from tuner.katib.yamlfile import Path

UTILS = "kubeflow/katib 33c8ff4, pkg/webhook/v1beta1/pod/utils.go:96-199"
_SUBSTITUTED = re.compile(
    r"\$\{trialParameters\.[^}]*\}|\$\{trialSpec\.[^}]*\}|\$\([A-Za-z_][A-Za-z0-9_]*\)"
)
_SPECIAL = re.compile(r"[\s;&|<>()$`\\\"'*?#~!{}\[\]]")
_TRAINS = re.compile(  # the last command of a script whose other commands only prepare
    r"\s*(exec\s+)?(\w+=\S*\s+)*(\S*/)?(python[\d.]*|torchrun|accelerate|deepspeed|mpirun|horovodrun|java|node|go)\b"
)
_INTERPRETER = re.compile(r"python[\d.]*|perl|ruby|node|Rscript|julia")


def parts(view: View) -> Iterator[tuple[Path, str]]:
    """Yield (path, text) of the primary container's command and args if a collector wraps them."""
    if view.primary and view.collector in WRAPPED_COLLECTORS:
        path, item = view.primary
        for key in ("command", "args"):
            for i, text in enumerate(strings(item.get(key))):
                yield (*path, key, i), text


def script(view: View) -> tuple[Path, str] | None:
    """Return the text after `sh -c` if Katib recognises the command as a shell."""
    found = list(parts(view))
    if len(found) > 2 and found[0][1] in SHELLS and found[1][1] == "-c":
        return found[2]
    return None


def command_missing(view: View) -> Iterator[Finding]:
    """Check that the manifest contains a command."""
    if (
        view.primary
        and view.collector in WRAPPED_COLLECTORS
        and not strings(view.primary[1].get("command"))
    ):
        path, item = view.primary
        what = f"container {item.get('name')!r} has no command: Katib asks the image's registry for its ENTRYPOINT"
        yield path, f"{what}, which needs egress and pull secrets; write the command"


def command_shell_path(view: View) -> Iterator[Finding]:
    """Check that the shell is `sh`, not `/bin/sh`."""
    found = list(parts(view))
    if (
        len(found) > 1
        and re.fullmatch(r"/\S*/(sh|bash|dash|ash|zsh)", found[0][1])
        and found[1][1].startswith("-")
    ):
        shell = found[0][1].rsplit("/", 1)[1]
        plain = "bash" if shell == "bash" else "sh"
        yield (
            found[0][0],
            f"{found[0][1]} -c is wrapped in a second shell, which takes the script apart; write {plain}",
        )


def command_newline(view: View) -> Iterator[Finding]:
    """Check that the script does not end with a newline."""
    for path, text in parts(view):
        if text.endswith("\n"):
            yield (
                path,
                "the text ends in a newline, and what Katib adds becomes a command of its own; write |- instead of |",
            )


def command_exec(view: View) -> Iterator[Finding]:
    """Check that the script does not use exec."""
    found = script(view)
    first = found or next(iter(parts(view)), None)
    if first and re.search(
        r"(^|[;&|]|\n)\s*exec\s+[^<>0-9&\s]", first[1] if found else f"{first[1]} x"
    ):
        yield (
            first[0],
            "exec replaces the shell that must write Katib's completion marker, and the trial fails; leave exec out",
        )


def command_sequence(view: View) -> Iterator[Finding]:
    """Check that a script under the StdOut collector is one command."""
    found = script(view)
    if view.collector != "StdOut" or not found:
        return
    text = found[1].strip()
    if text.startswith(("(", "{")) and text.endswith((")", "}")):
        return
    plain = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    *_, last = re.split(r"[;\n]|&&|\|\|", plain.rstrip("; \n"))
    if re.search(r"[;\n]|&&|\|\|", plain) and not _TRAINS.match(last):
        yield (
            found[0],
            "under StdOut only the last command is redirected to the metrics file; put ( ... ) around the script",
        )


def command_pipeline(view: View) -> Iterator[Finding]:
    """Check that there is no pipeline with early stopping."""
    found = script(view)
    if (
        found
        and "earlyStopping" in view.spec
        and re.search(r"(?<!\|)\|(?!\|)", re.sub(r"'[^']*'|\"[^\"]*\"", "", found[1]))
    ):
        yield (
            found[0],
            "a pipeline has several processes, and early stopping wants exactly one; write to a file instead",
        )


def command_split(view: View) -> Iterator[Finding]:
    """Check that a command without a shell has no blanks or shell characters in its arguments."""
    found = list(parts(view))
    if script(view) or (len(found) > 1 and found[1][1] == "-c" and found[0][1].endswith("sh")):
        return
    if relies_on_shell([text for _, text in found]):  # on purpose: `&&`, `|` or `>` as an argument
        return
    for path, text in found:
        # "${...}" is quoted for the shell on purpose
        plain = _SUBSTITUTED.sub("", text).replace('""', "")
        if not (special := _SPECIAL.search(plain.rstrip("\n"))):
            continue
        if interpreter := _interpreter(found, path):
            yield (
                path,
                (
                    "Katib joins the command with blanks into one line for a shell, so the shell reads this "
                    f"script, not {interpreter}, and every trial fails; put the script into a file of the image"
                ),
            )
        else:
            shown = f"{text[:40]!r}"
            yield (
                path,
                f"argument {shown} has {special.group()!r}, which a shell reads under Katib; avoid it, or use sh -c",
            )


def _interpreter(found: list[tuple[Path, str]], path: Path) -> str:
    """Return the program whose script the argument at `path` is, as in `python3 -c SCRIPT`, or ""."""
    index = [place for place, _ in found].index(path)
    program = found[0][1].rpartition("/")[2]
    is_script = (
        index > 1 and found[index - 1][1] in ("-c", "-e") and _INTERPRETER.fullmatch(program)
    )
    return program if is_script and not _quoted(found[index][1]) else ""


def _quoted(text: str) -> bool:
    """Return whether a shell reads the text as one word, because its author quoted it for one."""
    try:
        return text[:1] in ("'", '"') and len(shlex.split(text)) == 1
    except ValueError:
        return False


def value_in_shell(view: View) -> Iterator[Finding]:
    """Find values of a list that could be code where a shell or an interpreter reads them."""
    command = arguments(view)
    read_as_code = {command[index] for index in code_items(command)}
    wrapped = view.collector in WRAPPED_COLLECTORS
    if wrapped and relies_on_shell(command):
        read_as_code = set(command)
    plain = f"letters, digits and {PUNCTUATION} only"
    for path, name, space in view.spaces("categorical", "discrete"):
        items = {item for item in command if name in _used(view, item)}
        code = bool(items & read_as_code)
        if not code and not (wrapped and items):
            continue
        for i, value in enumerate(space.get("list", [])):
            where = (*path, "list", i)
            if code and not is_plain(value):
                what = "is inserted into code, which a local run refuses"
                yield (
                    where,
                    f"value {value[:40]!r} of {name!r} {what}; pass it through env, or use {plain}",
                )
            elif not code and not (value and is_plain(value)):  # an empty word is no argument
                what = "reaches the shell in which Katib wraps the command unquoted"
                yield where, f"value {value[:40]!r} of {name!r} {what}; use {plain}"


def _used(view: View, text: str) -> set[str]:
    """Return the search parameters whose placeholders are in a text."""
    return {view.references.get(name, "") for name in PLACEHOLDER.findall(text)}


def value_in_json(view: View) -> Iterator[Finding]:
    """Find values that break the JSON of the template."""
    for path, name, space in view.spaces("categorical", "discrete"):
        for i, value in enumerate(space.get("list", [])):
            if re.search(r"[\"\\\x00-\x1f]", value):
                where = (*path, "list", i)
                yield (
                    where,
                    f"value {value[:40]!r} of {name!r} has a quote, backslash or control character",
                )


RULES = (
    warning(
        "command-missing",
        "With a wrapping collector, Katib's controller fetches the image's ENTRYPOINT from the registry when the "
        "container has no command.",
        f"{UTILS}; https://github.com/kubeflow/katib/issues/1309",
        command_missing,
    ),
    warning(
        "command-shell-path",
        "Only exactly `sh -c` or `bash -c` is recognised; with /bin/sh the script is split at its blanks by a "
        "second shell.",
        UTILS,
        command_shell_path,
    ),
    warning(
        "command-newline",
        "A YAML block `|` ends in a newline; Katib's `1>metrics.log && echo completed` is then on a "
        "separate line, and the metrics file stays empty.",
        UTILS,
        command_newline,
    ),
    warning(
        "command-exec",
        "exec replaces the shell, so the completion marker is never written and the collector fails the trial.",
        UTILS,
        command_exec,
    ),
    warning(
        "command-sequence",
        "Katib appends its redirection to the script's end: of `a; b` only b's output is collected.",
        UTILS,
        command_sequence,
    ),
    warning(
        "command-pipeline",
        "With early stopping the collector dies when the shell has more than one child.",
        "kubeflow/katib 33c8ff4, cmd/metricscollector/v1beta1/file-metricscollector/main.go:288",
        command_pipeline,
    ),
    warning(
        "command-split",
        "Katib joins command and args with blanks and no quotes into one shell text, so blanks, quotes and $ are "
        "read again by the shell.",
        UTILS,
        command_split,
    ),
    warning(
        "value-in-shell",
        "A value is data, but under a shell `; rm -rf /` is a command. A local run passes arguments without a "
        "shell, and refuses such values in a shell line. Both engines pass them through env unchanged.",
        f"{UTILS}; generator.go:109-197",
        value_in_shell,
    ),
    error(
        "value-in-json",
        "Katib replaces placeholders in the template's JSON text without escaping the value.",
        "kubeflow/katib 33c8ff4, pkg/controller.v1beta1/experiment/manifest/generator.go:109-197",
        value_in_json,
    ),
)
