"""An Experiment from a Python function, as `KatibClient.tune` and the Kubeflow SDK make one.

The function's source becomes a program in the trial's command, so the Experiment runs on both
engines and needs nothing but Python in the image. Therefore the function must be complete: what it
uses is imported or defined inside it.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import json
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

from tuner.errors import GantuneError
from tuner.experiment.annotations import STOP_ANNOTATION
from tuner.experiment.early_stopping import STOP_VARIABLE
from tuner.katib.facts import API_VERSION
from tuner.samplers.labels import STOP_LABEL

_CONTAINER = "training-container"  # as in Katib's SDK
_END = "END_OF_PROGRAM"
_PLACEHOLDER = "${trialParameters."
_READERS = {
    "double": "float({})",
    "int": "int(float({}))",
    "discrete": "float({})",
    "categorical": "{}",
}
_NOT_IN_JSON = re.compile(r'["\\\x00-\x1f]')

# Ends the program at a missed threshold (docs/how-to/early-stopping.md), in Python 3.7 and newer.
# METRIC is the name of the objective.
_WATCHER = r"""
import re as _re, sys as _sys
_stop_at = [_re.split("([gl]t)", each) for each in _os.environ.get("GAN_TUNER_STOP_AT", "").split("_") if each]
class _Watched:
    values, line = [], ""
    def __getattr__(self, name):
        return getattr(_sys.__stdout__, name)
    def write(self, text):
        count = _sys.__stdout__.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for value in _re.findall(r"(?m)(?:^|\s)METRIC\s*=\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)", "\n".join(lines)):
            self.values.append(float(value))
            low, high, count_of = min(self.values), max(self.values), len(self.values)
            if any(count_of == int(n) and (low > float(t) if how == "gt" else high < float(t)) for n, how, t in _stop_at):
                print("stopped=1", file=_sys.__stdout__, flush=True)
                _sys.exit(0)
        return count
if _stop_at:
    _sys.stdout = _Watched()
"""
Objective = Callable[[dict[str, Any]], Any]


def document(
    objective: Objective,
    parameters: Mapping[str, Any],
    *,
    name: str = "",
    n_trials: int = 10,
    metric: str = "loss",
    direction: str = "minimize",
    goal: float | None = None,
    additional_metrics: Sequence[str] = (),
    algorithm: str = "random",
    algorithm_settings: Mapping[str, object] | None = None,
    stop_factors: Mapping[int, float] | None = None,
    parallel_trials: int = 1,
    max_failed_trials: int | None = None,
    packages_to_install: Sequence[str] = (),
    pip_index_urls: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    resources: Mapping[str, object] | None = None,
    trial_timeout: int | None = None,
    image: str = "",
) -> dict[str, Any]:
    """Return the Experiment that `tuner.tune` runs with the same arguments."""
    ranges = {
        key: found for key, value in parameters.items() if (found := _range(key, value)) is not None
    }
    if not ranges:
        raise GantuneError(
            "no parameter has a range: give one, such as lr=search.double(min=1e-4, max=1e-1)"
        )
    variables = _variables(ranges)
    inputs = ", ".join(
        f"{key!r}: "
        + (_read(variables[key], ranges[key]) if key in ranges else _constant(key, value))
        for key, value in parameters.items()
    )
    watcher = _WATCHER.replace("METRIC", re.escape(metric)) if stop_factors else ""
    script = _installation(packages_to_install, pip_index_urls) + _script(
        objective, inputs, metric, _escaped(watcher)
    )
    spec: dict[str, Any] = {
        "objective": _given(
            {"type": direction, "goal": goal, "objectiveMetricName": metric}
            | {"additionalMetricNames": list(additional_metrics)}
        ),
        "algorithm": _given(
            {
                "algorithmName": algorithm,
                "algorithmSettings": [
                    {"name": k, "value": str(v)} for k, v in (algorithm_settings or {}).items()
                ],
            }
        ),
        "maxTrialCount": n_trials,
        "parallelTrialCount": parallel_trials,
        "maxFailedTrialCount": max_failed_trials,
        "parameters": [{"name": key, **found} for key, found in ranges.items()],
        "trialTemplate": _template(
            script,
            image,
            {**(env or {}), **{variables[key]: f"{_PLACEHOLDER}{key}}}" for key in ranges}},
            resources or {},
            trial_timeout,
            thresholds=bool(stop_factors),
        )
        | {"trialParameters": [{"name": key, "reference": key} for key in ranges]},
    }
    metadata: dict[str, Any] = {
        "name": name or objective.__name__.lower().replace("_", "-").strip("-")
    }
    if stop_factors:
        factors = {str(report): factor for report, factor in stop_factors.items()}
        metadata["annotations"] = {STOP_ANNOTATION: json.dumps(factors)}
    return {
        "apiVersion": API_VERSION,
        "kind": "Experiment",
        "metadata": metadata,
        "spec": _given(spec),
    }


def _template(
    script: str,
    image: str,
    env: Mapping[str, str],
    resources: Mapping[str, object],
    timeout: int | None,
    *,
    thresholds: bool,
) -> dict[str, Any]:
    """Return the trialTemplate of a Job that runs the script, without trialParameters."""
    variables: list[dict[str, Any]] = [
        {"name": key, "value": str(value)} for key, value in env.items()
    ]
    if thresholds:
        path = f"metadata.labels['{STOP_LABEL}']"
        variables.append({"name": STOP_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    container = {
        "name": _CONTAINER,
        "image": image or f"python:{sys.version_info.major}.{sys.version_info.minor}-slim",
        "command": ["sh", "-c"],
        "args": [script],
        "env": variables,
        "resources": {
            "limits": {"nvidia.com/gpu" if key == "gpu" else key: v for key, v in resources.items()}
        },
    }
    job: dict[str, Any] = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": timeout,
        "template": {"spec": {"restartPolicy": "Never", "containers": [_given(container)]}},
    }
    spec = {"apiVersion": "batch/v1", "kind": "Job", "spec": _given(job)}
    return {"primaryContainerName": _CONTAINER, "trialSpec": spec}


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value: Kubernetes does not store empty ones."""
    return {
        key: value for key, value in fields.items() if value not in (None, [], {}, {"limits": {}})
    }


def _range(name: str, value: Any) -> dict[str, Any] | None:
    """Return a parameter's type and space as in a manifest, None for a constant."""
    if hasattr(value, "model_dump"):  # one of kubeflow-katib-api, which the Kubeflow SDK uses
        value = value.model_dump(by_alias=True, exclude_none=True, exclude={"name"})
    if not (isinstance(value, Mapping) and "parameterType" in value):
        return None
    space = dict(value.get("feasibleSpace") or {})
    if isinstance(space.get("distribution"), list):  # katib.search.categorical of 0.19 (katib#2625)
        space["list"] = space.pop("distribution")
    if "list" in space:
        space["list"] = [str(choice) for choice in space["list"]]
        for choice in space["list"]:
            if _NOT_IN_JSON.search(choice):
                raise GantuneError(
                    f"parameter {name}: value {choice[:60]!r} contains a double quotation mark, a "
                    "backslash or a control character, which Katib cannot insert into a template. "
                    "Choose other names for the values"
                )
    return {"parameterType": value["parameterType"], "feasibleSpace": space}


def _variables(names: Iterable[str]) -> dict[str, str]:
    """Return the environment variable of each parameter: in the script, its value could be code."""
    found: dict[str, str] = {}
    for name in names:
        variable = re.sub(r"\W", "_", f"PARAMETER_{name}", flags=re.ASCII)
        while variable in found.values():
            variable += "_"
        found[name] = variable
    return found


def _read(variable: str, found: Mapping[str, Any]) -> str:
    """Return the Python expression that reads a parameter's value."""
    return _READERS.get(found["parameterType"], "{}").format(f"_os.environ[{variable!r}]")


def _constant(name: str, value: Any) -> str:
    """Return the Python expression of a value that is no range."""
    text = repr(value)
    try:
        same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise GantuneError(
            f"parameter {name} is a {type(value).__name__}: a constant must be text, a number, a bool, None, or a "
            "list, tuple, set or dict of these"
        )
    if _PLACEHOLDER in text:
        raise GantuneError(
            f"parameter {name} must not contain {_PLACEHOLDER}, which Katib replaces: {text[:60]}"
        )
    return _escaped(text)


def _script(objective: Objective, inputs: str, metric: str, watcher: str) -> str:
    """Return the line of `sh -c` that writes the program and runs it; its last command prints the metrics.

    An empty line comes first, because a progress bar may have left its last line unfinished.
    """
    program = f"{objective.__name__}.py"
    return (
        "program=$(mktemp -d)\n"
        "trap 'rm -rf \"$program\"' EXIT\n"
        f"cat > \"$program/{program}\" <<'{_END}'\n"
        f"{_escaped(_source(objective))}\n"
        f"import os as _os\n{watcher}"
        f"metrics = {objective.__name__}({{{inputs}}})\n"
        f"if metrics is not None and not isinstance(metrics, dict):\n    metrics = {{{metric!r}: metrics}}\n"
        "print()\nfor name, value in (metrics or {}).items():\n    print(f'{name}={float(value)!r}')\n"
        f"{_END}\n"
        f'PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}" python -u "$program/{program}"'
    )


def _escaped(text: str) -> str:
    """Return text that Kubernetes and Katib leave as it is: `$$` and `$(NAME)` are variables in a command."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _source(objective: Objective) -> str:
    """Return the function's source as a program. Raises GantuneError if it is not complete."""
    if not inspect.isfunction(objective) or objective.__name__ == "<lambda>":
        raise GantuneError(
            f"the objective must be a function that is written with def, got {objective!r}"[:200]
        )
    name = objective.__name__
    try:
        inspect.signature(objective).bind({})
    except TypeError:
        raise GantuneError(
            f"{name}{inspect.signature(objective)} must take one argument, the dict of the parameters' values"
        ) from None
    try:
        source = textwrap.dedent(inspect.getsource(objective))
    except (OSError, TypeError):
        raise GantuneError(
            f"the source of {name} is not available: define it in a file or in a notebook"
        ) from None
    source = f"from __future__ import annotations\n\n{source}"
    if _END in source or _PLACEHOLDER in source:
        raise GantuneError(f"{name} must contain neither {_END} nor {_PLACEHOLDER}")
    try:
        missing = _outside(compile(source, f"{name}.py", "exec", dont_inherit=True))
    except SyntaxError as error:
        raise GantuneError(
            f"the source of {name} cannot stand alone ({error}): define it with def"
        ) from None
    if missing:
        raise GantuneError(
            f"{name} uses {', '.join(sorted(missing))} from outside of the function, which a trial does not have: "
            "import or define it inside the function, or pass it as a parameter"
        )
    return source


def _outside(code: CodeType) -> set[str]:
    """Return the names that a program reads and never defines."""
    read: set[str] = set()
    defined: set[str] = set()
    for each in _codes(code):
        for step in dis.get_instructions(each):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(step.argval)
            elif step.opname in ("STORE_GLOBAL", "STORE_NAME"):
                defined.add(step.argval)
    return {name for name in read - defined - set(dir(builtins)) if not name.startswith("__")}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _installation(packages: Sequence[str], index_urls: Sequence[str]) -> str:
    """Return the line that installs packages into the trial's container, "" for none."""
    if not packages:
        return ""
    options = ["--index-url", *index_urls[:1]] if index_urls else []
    options += [word for url in index_urls[1:] for word in ("--extra-index-url", url)]
    words = ["--quiet", "--prefer-binary", "--no-warn-script-location", *options, *packages]
    return f"PIP_DISABLE_PIP_VERSION_CHECK=1 python -m pip install {shlex.join(words)} || exit 1\n"
