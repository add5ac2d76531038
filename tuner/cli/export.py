"""The best trial's parameters in the forms that the next command wants: flags, or shell variables.

`args` are those elements of the trial's own command that carry search parameters, so that
`python -m trainer $(gantune best gan-bayes --format args) --epochs 200` is the final training.
Values are data: each is quoted for the shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tuner.errors import CommandError
from tuner.experiment.model import Experiment, TrialTemplate
from tuner.katib.containers import primary_container
from tuner.katib.facts import PLACEHOLDER
from tuner.space import Value, text

META = re.compile(r"\$\{trial(?:Spec|Parameters)\.[^}]*\}")
SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")
# Names that change how a shell, the loader or an interpreter runs what comes next. zsh ties `path`
# to PATH.
RESERVED_VARIABLE = re.compile(
    r"(?:LD_|DYLD_|PYTHON|PERL5|RUBY|NODE_|GIT_|BASH|ZSH).*"
    r"|PATH|path|CDPATH|cdpath|FPATH|fpath|IFS|ENV|HOME|SHELL|SHELLOPTS|ZDOTDIR|PS[0-4]|PROMPT.*"
    r"|PWD|OLDPWD|UID|EUID|PPID|TMPDIR|TERM|USER|LOGNAME|EDITOR|PAGER"
)


def args(experiment: Experiment, parameters: Mapping[str, Value]) -> list[str]:
    """The argv elements that carry `parameters`, with the values in place.

    Raises CommandError where flags cannot be told apart: a shell script, a positional value, a
    parameter that reaches the trial in another way.
    """
    container = primary_container(experiment.template.spec, experiment.template.primary_container)
    argv = [
        str(part) for part in [*(container.get("command") or []), *(container.get("args") or [])]
    ]
    if argv and PurePosixPath(argv[0]).name in SHELLS:
        raise CommandError(
            f"flags cannot be taken out of a shell script ({argv[0]}), the command of {experiment.name}'s trials: "
            "use --format env or json"
        )
    found: list[str] = []
    given: set[str] = set()
    for index, element in enumerate(argv):
        names = _carried(element, experiment.template, parameters)
        if not names:
            continue
        if not element.startswith("-"):
            flag = argv[index - 1] if index > 0 else ""
            if not _is_flag(flag):
                raise CommandError(
                    f"{element!r} has no flag in the command of {experiment.name}'s trials, so its place matters: "
                    "use --format env or json"
                )
            found.append(flag)
        found.append(_filled(element, experiment.template, parameters))
        given |= names
    if missing := [name for name in parameters if name not in given]:
        raise CommandError(
            f"no flag of {experiment.name}'s trials carries {', '.join(missing)}: use --format env or json"
        )
    return found


def env(experiment: Experiment, parameters: Mapping[str, Value]) -> dict[str, str]:
    """Variables: under the container's own name where an env entry carries the parameter, else the parameter's name.

    Characters that a shell name cannot have become `_`. Raises CommandError where two would share a
    name, or where a name is reserved.
    """
    variables: dict[str, str] = {}
    given: set[str] = set()
    for entry in (
        primary_container(experiment.template.spec, experiment.template.primary_container).get(
            "env"
        )
        or []
    ):
        value = str(entry.get("value", ""))
        if names := _carried(value, experiment.template, parameters):
            variables[_shell_name(str(entry["name"]))] = _filled(
                value, experiment.template, parameters
            )
            given |= names
    for name, chosen in parameters.items():
        if name in given:
            continue
        if (variable := _shell_name(name)) in variables:
            raise CommandError(
                f"two parameters would be the variable {variable}: use --format json"
            )
        variables[variable] = text(chosen)
    if reserved := [name for name in variables if RESERVED_VARIABLE.fullmatch(name)]:
        raise CommandError(
            f"the variable {reserved[0]} would change how the shell or the next program runs: use --format json"
        )
    return variables


def simplest_form(experiment: Experiment, parameters: Mapping[str, Value]) -> str:
    """Return the first of `--format` args, env and json that can express `parameters`."""
    for form, attempt in (("args", args), ("env", env)):
        try:
            attempt(experiment, parameters)
        except CommandError:
            continue
        return form
    return "json"


def quoted(argv: Sequence[str]) -> tuple[str, bool]:
    """`argv` as one line of shell, and whether a plain `$(...)` would split one of its elements wrongly."""
    return shlex.join(argv), any(shlex.quote(element) != element for element in argv)


def _carried(element: str, template: TrialTemplate, parameters: Mapping[str, Value]) -> set[str]:
    """The search parameters in `element`; none where it also holds what differs from trial to trial (its name)."""
    references = [template.references.get(name, "") for name in PLACEHOLDER.findall(element)]
    if len(references) != len(META.findall(element)) or not all(
        name in parameters for name in references
    ):
        return set()
    return set(references)


def _filled(element: str, template: TrialTemplate, parameters: Mapping[str, Value]) -> str:
    return PLACEHOLDER.sub(lambda match: text(parameters[template.references[match[1]]]), element)


def _is_flag(element: str) -> bool:
    return (
        element.startswith("-")
        and element != "-m"
        and "=" not in element
        and not META.search(element)
    )


def _shell_name(name: str) -> str:
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if not cleaned[:1].isdigit() else f"_{cleaned}"
