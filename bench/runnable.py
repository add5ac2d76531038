"""How many Experiments of a directory run on this machine without a change, each with two short trials.

    python -m bench.runnable DIRECTORY [--list]

DIRECTORY holds manifests (.yaml, .yml, .json), such as examples/v1beta1 of a clone of
kubeflow/katib, or what `KatibClient.tune` and the Kubeflow SDK create. The images' programs are not
on this machine. So a program that does not exist (a script, a module, an executable) is replaced by
a stand-in, which prints each metric of the Experiment as the collector expects it. All else is
real: the check, the engine's refusals, the sampler, the trials, the collector.

runs      a trial has a value of the objective. "program" says what was replaced, so what you must provide
command   as "runs", but the manifest leaves the command to the image: `gantune run --command` was given
invalid   `gantune check` finds an error: Katib refuses the manifest, or fails on it
refused   the local engine refuses it, with the reason
fails     no trial gives the objective
"""

import argparse
import collections
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.provenance import line
from tuner import check, manifest
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine
from tuner.engines.local.adapt import adapt
from tuner.errors import GantuneError, ManifestError
from tuner.experiment.model import CollectorKind, Experiment, FileFormat
from tuner.katib import shell, yamlfile
from tuner.katib.containers import primary_container
from tuner.katib.facts import is_experiment
from tuner.store.studies import Store

TRIALS = 2
SHAPES = ("{n}={v}", "{n}: {v}", "{n} : {v}", "{{metricName: {n}, metricValue: {v}}}")
LIMIT = 120.0  # seconds for the trials of one Experiment
STAND_IN = """#!{python}
import json, os, random, sys, time
NAMES, KIND, PATH = {names!r}, {kind!r}, os.environ.get("STAND_IN_PATH", "")
values = {{name: random.random() for name in NAMES}}
if KIND == "TensorFlowEvent":
    from torch.utils.tensorboard import SummaryWriter
    for name, value in values.items():
        folder, _, tag = name.rpartition("/")
        with SummaryWriter(os.path.join(PATH, folder)) as writer:
            writer.add_scalar(tag, value, 1)
elif KIND == "Push":
    import kubeflow.katib
    kubeflow.katib.report_metrics(values)
else:
    shapes = [json.dumps({{n: str(v) for n, v in values.items()}})]
    if not {json!r}:  # one of them suits the filter of each public manifest
        shapes = [s.format(n=n, v=v) for n, v in values.items() for s in {shapes!r}]
    text = "\\n".join(shapes) + "\\n"
    print(text)
    if PATH:
        with open(PATH, "a") as file:
            file.write(text)
"""


@dataclass(frozen=True)
class Verdict:
    """What became of one Experiment. `program` is what a stand-in replaced."""

    file: str
    name: str
    kind: str
    program: str = ""
    reason: str = ""


def main() -> None:
    """Print the shares, and with --list a line for each Experiment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--list", action="store_true", help="print a line for each Experiment")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found = list(verdicts(args.directory.resolve()))
    print(line("optuna"))
    counts = collections.Counter(verdict.kind for verdict in found)
    run = counts["runs"] + counts["command"]
    print(
        f"{run} of {len(found)} run; "
        + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    )
    for verdict in found:
        if args.list or verdict.kind not in ("runs", "command"):
            program = f" (program: {verdict.program})" if verdict.program else ""
            print(
                f"{verdict.kind:8} {verdict.file} {verdict.name}{program} {verdict.reason}".rstrip()
            )


def verdicts(directory: Path) -> Iterator[Verdict]:
    """Yield the verdict on each Experiment below a directory."""
    files = sorted(
        path for path in directory.rglob("*") if path.suffix in (".yaml", ".yml", ".json")
    )
    home = Path.cwd()
    for path in files:
        name = str(path.relative_to(directory))
        try:
            documents = yamlfile.read(path)
        except ManifestError as error:
            if "kind: Experiment" in path.read_text(encoding="utf-8", errors="replace"):
                yield Verdict(name, "", "invalid", reason=error.message)
            continue
        for document in documents:
            if is_experiment(document.value):
                with tempfile.TemporaryDirectory() as folder:
                    os.chdir(folder)
                    try:
                        yield replace(_verdict(document, Path(folder)), file=name)
                    finally:
                        os.chdir(home)
        if "Experiment" in str(documents) and not any(
            is_experiment(each.value) for each in documents
        ):
            problem = check.missing(documents, name)[0]
            if "holds one" in problem.message:
                yield Verdict(name, "", "invalid", reason=problem.message)


def _verdict(document: yamlfile.Document, folder: Path) -> Verdict:
    name = str((document.value.get("metadata") or {}).get("name", ""))
    errors = [
        found for found in check.check_document(document) if found.severity is check.Severity.ERROR
    ]
    if errors:
        return Verdict("", name, "invalid", reason=f"[{errors[0].rule}] {errors[0].message}")
    try:
        experiment = manifest.from_read(document)
        changed, program = with_stand_in(experiment, folder)
        command = (str(folder / "stand_in"),) if program == "command" else ()
        result, seen = _run(changed, folder, command)
    except GantuneError as error:
        return Verdict("", name, "refused", reason=str(error))
    if result is None or result.best is None:
        reasons = [trial.reason for trial in result.trials if trial.reason] if result else []
        return Verdict("", name, "fails", program, "; ".join([*reasons[:1], *seen[:1]]))
    return Verdict("", name, "command" if command else "runs", program, "; ".join(seen))


def _run(experiment: Experiment, folder: Path, command: tuple[str, ...]) -> tuple[Any, list[str]]:
    engine = LocalEngine(
        Store(folder / ".gantune"), workers=TRIALS, seed=0, max_trials=TRIALS, command=command
    )
    seen, result = [], None
    timer = threading.Timer(LIMIT, engine.stop, [experiment.name])
    timer.start()
    try:
        for event in engine.run(experiment):
            result = event.result
            if event.kind is EventKind.WARNING:
                seen.append(event.message)
    finally:
        timer.cancel()
    return result, seen


def with_stand_in(experiment: Experiment, folder: Path) -> tuple[Experiment, str]:
    """Return the Experiment with a stand-in for the program that is not on this machine, and what was replaced."""
    document = yamlfile.parse(_json(experiment.document), "made")[0].value
    spec = document["spec"]["trialTemplate"]["trialSpec"]
    container: Any = primary_container(spec, experiment.template.primary_container)
    collector = experiment.collector
    names = (experiment.objective.metric, *experiment.additional_metrics)
    kind = collector.kind.value
    code = STAND_IN.format(
        python=sys.executable,
        names=names,
        kind=kind,
        json=collector.format is FileFormat.JSON,
        shapes=SHAPES,
    )
    program = folder / "stand_in"
    program.write_text(code, encoding="utf-8")
    program.chmod(0o755)
    if collector.path and collector.kind is not CollectorKind.STDOUT:
        container["env"] = [
            *(container.get("env") or ()),
            {"name": "STAND_IN_PATH", "value": collector.path},
        ]
    items = list(container.get("command") or ())
    if not items:
        return replace(manifest.from_document(document), name=experiment.name), "command"
    items += container.get("args") or ()
    replaced = "" if shell.is_shell(items) else _replace(items, program)
    container["command"] = items
    container.pop("args", None)
    adapted = adapt(manifest.from_document(document))[0]
    return replace(adapted, document=document, name=experiment.name or "generated"), replaced


def _replace(items: list[str], program: Path) -> str:
    """Put the stand-in into a command, in place; returns what it replaces, "" if the program exists."""
    for at, item in enumerate(items):
        if item.endswith(".py") and not Path(item).exists():
            items[at] = str(program)
            return item
        if (
            item == "-m"
            and at + 1 < len(items)
            and importlib.util.find_spec(items[at + 1].partition(".")[0]) is None
        ):
            items[at : at + 2] = [str(program)]
            return f"-m {items[at + 1]}"
    if shutil.which(items[0]) is None and not shell.is_python(items[0]):
        first, items[0] = items[0], str(program)
        return first
    return ""


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


if __name__ == "__main__":
    main()
