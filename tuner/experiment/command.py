"""Builds what one trial runs from a trial template and a point: argv, environment, working directory, timeout.

Katib's generator.go replaces `${trialParameters.x}` in the template's JSON text. This module
replaces it in each string
of the template, so that a value is data: quotes break nothing, and a value remains one argument.
Then Kubernetes' own
rules for the primary container apply: `command` and `args` joined, `$(VAR)` expanded from its env,
`$$(VAR)` an escape.

Katib's pod webhook joins command and args with spaces and gives the line to `sh -c`. Most commands
mean the same without that shell, and an argument list keeps spaces and quotes intact. A command
relies on the shell (tuner.katib.shell) if an item, as the template has it, is an operator of the shell or
holds a whole command line. It then runs as `sh -c LINE`. A `sh -c` of the manifest stays as it is.

Text that a shell or an interpreter reads as code takes plain values only, which are never code
(tuner.katib.shell). Any other value is refused there, because only a complete parser of the language
could quote it.

A trial has no container and no volumes. Every emptyDir and PersistentVolumeClaim mount, and the
directory of a File collector, becomes a directory of the trial, wherever its path appears in argv,
env or workingDir (`Command.inside`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tuner.errors import CommandError, UnsupportedError
from tuner.experiment.model import CollectorKind, Experiment, TrialTemplate
from tuner.katib import shell
from tuner.katib.containers import (
    every_container,
    init_containers,
    items,
    listed,
    primary_container,
    replicas,
    sidecars,
)
from tuner.katib.facts import PLACEHOLDER, SHARED_BYTES, SHARED_MEMORY, WRAPPED_COLLECTORS
from tuner.katib.quantity import whole_bytes
from tuner.samplers.labels import STOP_LABEL
from tuner.samplers.pbt import DIRECTORY_SETTING
from tuner.space import Value, text

_META = re.compile(
    r"\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|Annotations\[(.+)\]|Labels\[(.+)\])\}"
)
_STOP_FIELD = f"metadata.labels['{STOP_LABEL}']"
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")


@dataclass(frozen=True, slots=True)
class Command:
    """What one trial runs.

    Attributes:
        mounts: Absolute container paths that the trial has for itself.
        aliases: Mounts that show the volume of another one, and that one's path.
        name: The name of the container.
        init: The commands of the init containers, in order.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""  # "" is the directory that the search was started from
    deadline: float | None = None  # seconds: the Job's activeDeadlineSeconds
    mounts: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    init: tuple[Command, ...] = ()

    @property
    def module(self) -> str:
        """MODULE of `python -m MODULE ...`, "" for any other command."""
        plain = len(self.argv) > 2 and self.argv[1] == "-m"
        return self.argv[2] if plain and shell.is_python(self.argv[0]) else ""

    def inside(self, folder: Path) -> Command:
        """The same command with every mount path replaced by its directory under `folder`.

        Raises CommandError where that path could be code for a shell.
        """
        init = tuple(one.inside(folder) for one in self.init)
        if not self.mounts:
            return replace(self, init=init)
        # One pass for all mounts, because `folder` itself may be below one of them, as in /tmp.
        mounts = _path_pattern(self.mounts)

        def own(path: str) -> str:
            return str(place(folder, self.aliases.get(path, path)))

        def local(text: str) -> str:
            return mounts.sub(lambda found: own(found.group()), text)

        code = (self.argv[index] for index in shell.code_items(self.argv))
        if any(map(mounts.search, code)) and not shell.is_plain(str(folder)):
            raise CommandError(
                f"container {self.name}: its shell line names a volume, which is below {folder} "
                "on this machine, and characters of that path could be code. Choose a store whose "
                f"path has only letters, digits and {shell.PUNCTUATION}: --store DIRECTORY"
            )
        argv = [local(part) for part in self.argv]
        env = {name: local(value) for name, value in self.env.items()}
        return replace(self, argv=tuple(argv), env=env, cwd=local(self.cwd), init=init)

    def hidden_paths(self) -> list[tuple[str, str]]:
        """Return paths that argv, env or workingDir name and this machine has, but that the trial's mounts hide.

        Each comes with its mount.
        """
        if not self.mounts:
            return []
        pattern = re.compile(f"({_path_pattern(self.mounts).pattern})/[^\\s'\";,:|&<>()]+")
        texts = [*self.argv, *self.env.values(), self.cwd]
        found = {match.group(): match[1] for text in texts for match in pattern.finditer(text)}
        return [(path, mount) for path, mount in found.items() if os.path.lexists(path)]


def place(folder: Path, mount: str) -> Path:
    """Where the container path `mount` lies for a trial whose own directory is `folder`."""
    return folder / "mounts" / (mount.strip("/").replace("/", "-") or "root")


def build(experiment: Experiment, name: str, parameters: Mapping[str, Value]) -> Command:
    """The command of trial `name` at `parameters`.

    Raises CommandError where the template has no such container or command, UnsupportedError where
    an environment variable can only come from a cluster.
    """
    template = experiment.template
    values = {
        label: _reference(experiment, name, parameters, reference)
        for label, reference in template.references.items()
    }
    spec = insert(template.spec, values)
    container = primary_container(spec, template.primary_container)
    as_written = primary_container(template.spec, template.primary_container)
    fields = {"metadata.name": name, "metadata.namespace": experiment.namespace or "default"}
    mounts = dict(_mounts(spec, container, experiment))
    wrapped = experiment.collector.kind in WRAPPED_COLLECTORS
    main = _command(as_written, container, fields, values, wrapped=wrapped)
    init = []
    for one, own in zip(
        init_containers(template.spec, as_written), init_containers(spec, container), strict=True
    ):
        paths = dict(_volume_mounts(spec, own))
        shared = {
            path: next(mine for mine, its in mounts.items() if its == volume)
            for path, volume in paths.items()
            if volume in mounts.values() and mounts.get(path) != volume
        }
        built = _command(one, own, fields, values, wrapped=False)
        init.append(replace(built, mounts=tuple(paths), aliases=shared))
    return replace(main, deadline=_deadline(spec), mounts=tuple(mounts), init=tuple(init))


def _command(
    as_written: Mapping[str, Any],
    container: Mapping[str, Any],
    fields: Mapping[str, str],
    values: Mapping[str, str],
    *,
    wrapped: bool,
) -> Command:
    """Build a container's command.

    Args:
        as_written: The container in the template.
        container: The same with the values.
        fields: The fields of the pod that `fieldRef` may name.
        values: The values of the trialParameters.
        wrapped: Whether Katib adds a shell.
    """
    name = str(container.get("name") or "of the trainer")
    if not container.get("command"):
        raise CommandError(
            f"container {name} has no command, so its image's entry point would run, and a local run has no image. "
            "Write the command into the trialTemplate"
        )
    env = _environment(container, fields) | {"KATIB_TRIAL_NAME": fields["metadata.name"]}
    argv = filled(as_written, values, env, wrapped=wrapped)
    for what, text_ in [
        *(("the command", part) for part in argv),
        *((f"env {key}", env[key]) for key in env),
    ]:
        if fault := _fault(text_):
            raise CommandError(
                f"container {name}: {what} contains {fault}, which no process can receive: remove it"
            )
    return Command(argv=tuple(argv), env=env, cwd=str(container.get("workingDir") or ""), name=name)


def written(container: Mapping[str, Any], *, wrapped: bool) -> list[str]:
    """Return the argument list of a container's command, in the shell that Katib adds if it relies on that."""
    argv = items(container)
    return ["sh", "-c", " ".join(argv)] if wrapped and shell.relies_on_shell(argv) else argv


def filled(
    container: Mapping[str, Any],
    values: Mapping[str, str],
    env: Mapping[str, str] | None = None,
    *,
    wrapped: bool = True,
) -> list[str]:
    """Return the argument list of a container's command with its values.

    Args:
        container: The container in the template.
        values: The values of trialParameters.
        env: All variables of the container.
        wrapped: Whether Katib adds a shell.

    Raises:
        CommandError: A value could be code.
    """
    argv, static = written(container, wrapped=wrapped), static_environment(container)
    code = shell.code_items(argv)
    try:
        return [
            _code(part, static, env or {}, values)
            if index in code
            else _expanded(insert(part, values), env or {})
            for index, part in enumerate(argv)
        ]
    except CommandError as error:
        raise CommandError(f"container {container.get('name')}: {error}") from None


def refuse_code(template: TrialTemplate, values: Mapping[str, str]) -> None:
    """Raise CommandError where a container of the template would read one of these values as code."""
    for container in every_container(template.spec):
        filled(container, values)


def static_environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables whose text is in the manifest, with the placeholders in it."""
    entries = [one for one in container.get("env") or () if not one.get("valueFrom")]
    return _environment({"env": entries}, {})


def _code(
    text_: str, static: Mapping[str, str], env: Mapping[str, str], values: Mapping[str, str]
) -> str:
    """Return text of a command that is code, with its values. Raises CommandError for what could be code itself.

    Args:
        text_: The text in the template.
        static: The variables whose text is in the template, with its placeholders.
        env: All variables of the container.
        values: The values of the trialParameters.
    """

    def plain(found: re.Match[str]) -> str:
        label, name = found[1], found[3]
        if label in values:
            value, what = values[label], f"parameter {label}"
            fix = f'Set a variable of env to {found[0]} and write "$NAME" in its place'
        elif name in env and name not in static:
            value, what = env[name], f"env {name}"
            fix = f'Write "${name}" instead of {found[0]}'
        else:
            return found[0]
        if not shell.is_plain(value):
            raise CommandError(
                f"the value {value[:40]!r} of {what} could be code, because the command gives it to "
                f"a shell or an interpreter as part of a program. {fix}, or choose values of "
                f"letters, digits and {shell.PUNCTUATION}"
            )
        return value

    template = _expanded(text_, static)
    filled = re.sub(f"{PLACEHOLDER.pattern}|{_VARIABLE.pattern}", plain, template)
    if shell.ends_here_document(template, filled):
        raise CommandError(
            "a parameter's value is the delimiter of a here-document (<<), so the rest of its text "
            "would be code. Choose another delimiter"
        )
    return filled


def _fault(value: str) -> str:
    """Return what keeps `value` from any process, "" for nothing."""
    try:
        return "a NUL character" if b"\0" in os.fsencode(value) else ""
    except UnicodeEncodeError:
        return "half of a surrogate pair"


def warnings(experiment: Experiment) -> list[str]:
    """Return what of the trial template a local run does not do."""
    spec, name = experiment.template.spec, experiment.template.primary_container
    main = primary_container(spec, name)
    found = []
    for container in (main, *init_containers(spec, main)):
        sources = [
            f"{kind.removesuffix('Ref')} {reference.get('name')}"
            for entry in container.get("envFrom") or ()
            for kind, reference in entry.items()
            if isinstance(reference, Mapping)
        ]
        if sources:
            found.append(
                f"container {container.get('name', name)} takes variables from {', '.join(sources)} (envFrom), which "
                "exists only in a cluster. Set the variables that the trial needs in this shell"
            )
    others = [*replicas(spec, main), *sidecars(spec, main)]
    if others:
        found.append(
            f"a local trial runs only container {name}, as a single process (world size 1). These do not run: "
            f"{', '.join(others)}"
        )
    return found


def _reference(
    experiment: Experiment, name: str, parameters: Mapping[str, Value], reference: str
) -> str:
    meta = _META.fullmatch(reference)
    if meta is None:
        if reference not in parameters:
            raise CommandError(
                f"trialParameters reference {reference!r} must name a search parameter"
            )
        return text(parameters[reference])
    spec = experiment.template.spec
    metadata = spec.get("metadata") or {}
    if meta[2] or meta[3]:
        kind, key = ("annotations", meta[2]) if meta[2] else ("labels", meta[3])
        held = metadata.get(kind) or {}
        if key not in held:
            raise CommandError(
                f"reference {reference!r} needs {kind} {key!r} in the trialSpec's metadata"
            )
        return str(held[key])
    known = {
        "Name": name,
        "Namespace": experiment.namespace or "default",
        "Kind": str(spec.get("kind", "")),
        "APIVersion": str(spec.get("apiVersion", "")),
    }
    return known[meta[1]]


def insert(node: Any, values: Mapping[str, str]) -> Any:
    """Return a part of a template with these values in place of their placeholders."""
    if isinstance(node, str):
        return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), node)
    if isinstance(node, Mapping):
        return {key: insert(value, values) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [insert(item, values) for item in node]
    return node


def _expanded(value: str, env: Mapping[str, str]) -> str:
    """Kubernetes' expansion (third_party/forked/golang/expansion): unknown variables stay as they are written."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else env.get(match[2], match[0])

    return _VARIABLE.sub(replaced, value)


def _environment(container: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for entry in container.get("env") or ():
        name, source = str(entry["name"]), entry.get("valueFrom")
        if not name or "=" in name or _fault(name):
            raise CommandError(
                f"env name {name!r} must have no '=' and no NUL character: rename the variable"
            )
        if not source:
            env[name] = _expanded(str(entry.get("value") or ""), env)
            continue
        path = (source.get("fieldRef") or {}).get("fieldPath", "")
        kind, reference = next(iter(source.items()))
        if path == _STOP_FIELD:
            continue  # this engine stops the trial itself
        if path in fields:
            env[name] = fields[path]
        elif name in os.environ:
            env[name] = os.environ[name]
        elif not (isinstance(reference, Mapping) and reference.get("optional")):
            raise UnsupportedError(
                f"env {name} comes from the cluster ({kind}), which a local run does not have. Set {name} in this shell"
            )
    return env


def _deadline(spec: Mapping[str, Any]) -> float | None:
    """The shortest activeDeadlineSeconds of the job, its run policy and its pods."""
    found: list[float] = []

    def visit(node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                if key == "activeDeadlineSeconds" and isinstance(value, int | float) and value > 0:
                    found.append(float(value))
                else:
                    visit(value)
        elif isinstance(node, list | tuple):
            for item in node:
                visit(item)

    visit(spec)
    return min(found, default=None)


def _mounts(
    spec: Mapping[str, Any], container: Mapping[str, Any], experiment: Experiment
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the mount paths that a trial writes to, each with its volume."""
    if experiment.collector.kind in (CollectorKind.FILE, CollectorKind.TF_EVENT):
        yield collector_mount(experiment), ("", "metrics")
    if inherited := inherited_mount(experiment):
        yield inherited, ("", "suggestion")
    yield from _volume_mounts(spec, container)


def _volume_mounts(
    spec: Mapping[str, Any], container: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield path and (volume, subPath) of writable mounts; a read-only claim holds existing data and keeps its path."""
    volumes = {volume.get("name"): volume for volume in listed(spec, "volumes")}
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount.get("name")) or {}
        claim = volume.get("persistentVolumeClaim")
        if "emptyDir" in volume or (
            claim is not None and not mount.get("readOnly") and not claim.get("readOnly")
        ):
            path = "/" + str(mount["mountPath"]).strip("/")
            if path not in ("/", SHARED_MEMORY):
                yield path, (str(mount.get("name")), str(mount.get("subPath") or ""))


def shared_memory(experiment: Experiment) -> int | None:
    """Return the limit of a trial's /dev/shm in bytes: that of its emptyDir, None without a limit, or else a pod's."""
    template = experiment.template
    volumes = {volume.get("name"): volume for volume in listed(template.spec, "volumes")}
    container = primary_container(template.spec, template.primary_container)
    for mount in listed(container, "volumeMounts"):
        empty = (volumes.get(mount.get("name")) or {}).get("emptyDir")
        if str(mount.get("mountPath")).rstrip("/") == SHARED_MEMORY and isinstance(empty, Mapping):
            return whole_bytes(empty.get("sizeLimit"))
    return SHARED_BYTES


def inherited_mount(experiment: Experiment) -> str:
    """Return the directory in which a trial of pbt finds what its parent left; "" for any other algorithm."""
    algorithm = experiment.algorithm
    return (
        "/" + algorithm.settings.get(DIRECTORY_SETTING, "").strip("/")
        if algorithm.name == "pbt"
        else ""
    )


def collector_mount(experiment: Experiment) -> str:
    """Return the part of a collector's path that is each trial's own: a directory, or the file where that is `/`.

    A program may receive a directory above the collector's, as in `--logs=/logs` with a collector
    that reads `/logs/test`. Then that one is the trial's own, unless this machine has it: it may
    hold data there.
    """
    collector = experiment.collector
    path = PurePosixPath("/" + collector.path.strip("/"))
    directory = path if collector.kind is CollectorKind.TF_EVENT else path.parent
    if directory == PurePosixPath("/"):
        return str(path)
    container = primary_container(experiment.template.spec, experiment.template.primary_container)
    texts = [
        *items(container),
        *(str(entry.get("value", "")) for entry in container.get("env") or ()),
    ]
    for above in reversed(directory.parents[:-1]):  # the outermost one first, without `/`
        named = re.compile(rf"(?<![\w./-]){re.escape(str(above))}/?(?![\w./-])")
        if any(named.search(text) for text in texts) and not os.path.lexists(above):
            return str(above)
    return str(directory)


def _path_pattern(paths: Sequence[str]) -> re.Pattern[str]:
    """Any of `paths` whole or as the head of a longer one: /out in `--dir=/out/a`, not in `/layout` or `/output`."""
    longest_first = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.compile(rf"(?<![\w./-])(?:{longest_first})(?=/|$|[^\w.-])")
