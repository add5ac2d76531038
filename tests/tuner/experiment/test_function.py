"""`tuner.tune`: a Python function becomes an Experiment that runs on both engines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tuner
from tests.tuner.engines.local.test_packages import NAME, missing_here, wheel
from tests.tuner.experiments import TRIALS
from tests.tuner.loopback import Loopback
from tuner import search
from tuner.check import check_data
from tuner.errors import GantuneError, ManifestError
from tuner.experiment import command, function
from tuner.kube import plain
from tuner.manifest import from_object
from tuner.result import StudyState, TrialState

LR = search.double(min=0.5, max=1.0)
DOCS = Path(__file__).parents[3] / "docs"


def quadratic(parameters: dict[str, Any]) -> float:
    return (parameters["lr"] - 0.75) ** 2


def test_returned_number_is_the_metric(tmp_path: Path) -> None:
    result = tuner.Client(tmp_path).tune(quadratic, {"lr": LR}, n_trials=3, seed=1)
    assert (result.name, result.state) == ("quadratic", StudyState.SUCCEEDED)
    assert len(result.trials) == 3
    for trial in result.trials:
        assert trial.metrics["loss"] == (float(trial.parameters["lr"]) - 0.75) ** 2


def returns_a_dict(parameters: dict[str, Any]) -> dict[str, object]:
    import math

    assert {name: type(value).__name__ for name, value in parameters.items()} == {
        "lr": "float", "bs": "int", "width": "float", "opt": "str", "fixed": "dict",
    }, parameters  # fmt: skip
    assert parameters["fixed"] == {"a": [1, None, "$$ $(HOME) it's"]}, parameters
    # Characters that a shell or Kubernetes would expand: $HOME `id` $(HOME) $$ \n " '
    text = "$HOME `id` $(HOME) $$ \" ' \\"
    return {"loss": math.sqrt(parameters["bs"]), "length": len(text)}


def test_values_keep_their_types_and_source_its_characters(tmp_path: Path) -> None:
    parameters = {
        "lr": LR,
        "bs": search.int(min=4, max=4, step=1) | {"feasibleSpace": {"min": "4", "max": "5"}},
        "width": {"parameterType": "discrete", "feasibleSpace": {"list": [0.5, 2]}},
        "opt": search.categorical(["it's $(touch X)", "`touch X`; touch X"]),
        "fixed": {"a": [1, None, "$$ $(HOME) it's"]},
    }
    env = {"HOME": "/home"}
    options: dict[str, Any] = {
        "n_trials": 2,
        "additional_metrics": ["length"],
        "env": env,
    }
    result = tuner.Client(tmp_path).tune(returns_a_dict, parameters, **options)
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 2, [
        t.reason for t in result.trials
    ]
    assert {trial.metrics["length"] for trial in result.trials} == {27.0}
    assert {trial.metrics["loss"] for trial in result.trials} <= {2.0, 5**0.5}
    assert {trial.parameters["opt"] for trial in result.trials} <= {
        "it's $(touch X)",
        "`touch X`; touch X",
    }
    assert not list(tmp_path.rglob("X"))
    assert parameters["lr"] is LR
    assert "name" not in LR


def leaves_a_line_unfinished(parameters: dict[str, Any]) -> float:
    import sys

    print("step 1 of 2", end="")
    sys.stderr.write("\rtrained_100")
    return 0.5


def test_unfinished_line_does_not_hide_the_metric(tmp_path: Path) -> None:
    result = tuner.Client(tmp_path).tune(leaves_a_line_unfinished, {"lr": LR}, n_trials=1)
    assert [trial.metrics for trial in result.trials] == [{"loss": 0.5}], result.trials[0].reason


def test_bounds_may_be_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    found = search.int(min=numpy.int64(1), max=numpy.int32(9), step=numpy.uint8(2))
    assert found["feasibleSpace"] == {
        "min": "1",
        "max": "9",
        "step": "2",
        "distribution": "uniform",
    }
    found = search.double(min=numpy.float32(0.5), max=numpy.float64(1))
    assert found["feasibleSpace"] == {"min": "0.5", "max": "1.0", "distribution": "uniform"}


def test_problems_of_an_object_name_no_file() -> None:
    with pytest.raises(ManifestError, match=r"\(and 1 more\)$"):
        from_object(function.document(quadratic, {"lr": search.int(min=1.5, max=2.5)}))  # type: ignore[arg-type]


def prints(parameters: dict[str, Any]) -> None:
    import surface_trial

    for epoch in range(3):
        print(
            f"epoch={epoch} accuracy={float(parameters['lr']) / (epoch + 1)} {surface_trial.__name__}=1"
        )


def test_printed_metrics_and_modules_of_the_start_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function for Katib's SDK prints its metrics and converts its parameters."""
    monkeypatch.chdir(TRIALS)
    options: dict[str, Any] = {
        "metric": "accuracy",
        "direction": "maximize",
        "name": "own-name",
    }
    result = tuner.Client(tmp_path).tune(
        prints, {"lr": LR}, n_trials=2, goal=99.0, parallel_trials=2, workers=2, **options
    )
    assert [trial.metrics["accuracy"] for trial in result.trials] == [
        t.parameters["lr"] for t in result.trials
    ]
    assert tuner.Client(tmp_path).best("own-name") == result.best


def test_same_call_continues_and_larger_count_extends(tmp_path: Path) -> None:
    first = tuner.Client(tmp_path).tune(quadratic, {"lr": LR}, n_trials=2, seed=1)
    second = tuner.Client(tmp_path).tune(quadratic, {"lr": LR}, n_trials=3, seed=1)
    assert second.trials[:2] == first.trials
    assert len(second.trials) == 3


def test_failure_of_the_function_is_a_failed_trial(tmp_path: Path) -> None:
    def fails(parameters: dict[str, Any]) -> None:
        raise ValueError("no data")

    result = tuner.Client(tmp_path).tune(fails, {"lr": LR}, n_trials=1)
    assert result.trials[0].state is TrialState.FAILED
    assert "ValueError: no data" in "\n".join(tuner.Client(tmp_path).logs("fails"))


def test_ranges_of_both_sdks_are_taken() -> None:
    katib = pytest.importorskip("kubeflow.katib")

    class Model:
        """As the models of kubeflow-katib-api, which are pydantic's."""

        def model_dump(self, **options: object) -> dict[str, Any]:
            assert options["by_alias"]
            space = {"min": "0.1", "max": "1", "distribution": "logUniform"}
            return {"parameterType": "double", "feasibleSpace": space}

    made = from_object(
        function.document(
            quadratic,
            {
                "lr": plain(katib.search.double(min=0.1, max=0.2, step=0.1)),
                "bs": plain(katib.search.int(min=1, max=2)),
                # 0.19 puts the list into `distribution`
                "opt": plain(katib.search.categorical(["a", "b"])),
                "decay": Model(),
            },
        )
    )
    spaces = {item["name"]: item["feasibleSpace"] for item in made.document["spec"]["parameters"]}
    assert spaces == {
        "lr": {"min": "0.1", "max": "0.2", "step": "0.1"},
        "bs": {"min": "1", "max": "2"},
        "opt": {"list": ["a", "b"]},
        "decay": {"min": "0.1", "max": "1", "distribution": "logUniform"},
    }


def test_experiment_passes_check_and_has_a_command() -> None:
    """Katib appends a redirection to the script: its last line must be what prints the metrics."""
    made = from_object(
        function.document(
            quadratic,
            {"lr": LR},
            image="ghcr.io/team/image:1",
            resources={"cpu": 2, "gpu": 1},
            trial_timeout=60,
            packages_to_install=["a>=1", "b[c]"],
            pip_index_urls=["one", "two"],
            max_failed_trials=2,
            algorithm_settings={"random_state": 7},
        )
    )
    assert [str(found) for found in check_data(json.dumps(made.document).encode(), "f.json")] == []
    spec = made.document["spec"]
    assert (spec["maxTrialCount"], spec["maxFailedTrialCount"]) == (10, 2)
    assert spec["algorithm"]["algorithmSettings"] == [{"name": "random_state", "value": "7"}]
    job = spec["trialTemplate"]["trialSpec"]["spec"]
    assert job["activeDeadlineSeconds"] == 60
    [container] = job["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/team/image:1"
    assert container["resources"] == {"limits": {"cpu": 2, "nvidia.com/gpu": 1}}
    first, *_, last = container["args"][0].splitlines()
    assert "--index-url one --extra-index-url two 'a>=1' 'b[c]' || exit 1" in first
    assert last.endswith('python -u "$program/quadratic.py"')
    argv = command.build(made, "trial", {"lr": 0.5}).argv
    assert {"name": "PARAMETER_lr", "value": "${trialParameters.lr}"} in container["env"]
    wrapped = [*argv[:2], f"{argv[2]} 1>{{log}} 2>&1 && echo completed"]
    assert "float(_os.environ['PARAMETER_lr'])" in wrapped[2]


def test_output_can_be_redirected_as_katib_does(tmp_path: Path) -> None:
    made = command.build(
        from_object(function.document(quadratic, {"lr": LR})), "trial", {"lr": 0.5}
    )
    argv, env = made.argv, {**os.environ, **made.env}
    log = tmp_path / "metrics.log"
    line = f"{argv[2]} 1>{log} 2>&1 && echo completed"
    done = subprocess.run(
        [*argv[:2], line], capture_output=True, text=True, check=False, cwd=tmp_path, env=env
    )
    assert (done.stdout, done.stderr) == ("completed\n", "")
    assert log.read_text() == "\nloss=0.0625\n"


def test_image_runs_on_the_cluster(
    server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    sent: list[dict[str, Any]] = []

    def controller(item: dict[str, Any]) -> list[Any]:
        sent.append(item)
        return [*server.steps("failing", uid=item["metadata"]["uid"])]

    server.controller = controller
    options: dict[str, Any] = {"name": "failing", "image": "python:3.12-slim"}
    with pytest.warns(UserWarning, match="2 of 2 trials failed"):
        assert (
            tuner.Client(tmp_path).tune(quadratic, {"lr": LR}, **options).state is StudyState.FAILED
        )
    script = sent[0]["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ][0]["args"][0]
    assert "def quadratic(parameters: dict[str, Any]) -> float:" in script


def test_packages_stay_out_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels")
    for name, value in (
        ("XDG_CACHE_HOME", tmp_path / "cache"), ("PIP_NO_INDEX", 1), ("PIP_FIND_LINKS", tmp_path / "wheels"),
    ):  # fmt: skip
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)

    def uses_package(parameters: dict[str, Any]) -> float:
        import gantune_fixture_package

        value: float = gantune_fixture_package.VALUE
        return value

    with pytest.warns(UserWarning, match="an environment of their own"):
        result = tuner.Client(tmp_path / "store").tune(
            uses_package,
            {"lr": LR},
            n_trials=1,
            packages_to_install=[NAME],
        )
    assert result.trials[0].metrics == {"loss": 1.0}
    assert missing_here()


OUTSIDE = 3


def uses_outside(parameters: dict[str, Any], other: int = OUTSIDE) -> float:
    class Local:
        value = json.dumps(other)

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    return recursive(len(Local.value))


def takes_two(parameters: dict[str, Any], other: int) -> None:
    pass


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (uses_outside, "uses_outside uses OUTSIDE, json from outside of the function"),
        (takes_two, "takes_two.* must take one argument"),
        (lambda parameters: 0, "must be a function that is written with def"),
        (print, "must be a function that is written with def"),
    ],
)
def test_function_must_be_complete(objective: Any, message: str) -> None:
    with pytest.raises(GantuneError, match=message):
        from_object(function.document(objective, {"lr": LR}))


def test_function_without_source_is_refused() -> None:
    scope: dict[str, Any] = {}
    exec("def made(parameters): return 1", scope)
    with pytest.raises(GantuneError, match="the source of made is not available"):
        from_object(function.document(scope["made"], {"lr": LR}))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lr": 0.1}, "no parameter has a range"),
        ({"lr": LR, "data": object()}, "parameter data is a object: a constant must be text"),
        ({"opt": search.categorical(['say "hi"'])}, "value 'say \"hi\"' contains a double"),
        (
            {"lr": LR, "text": "${trialParameters.lr}"},
            "parameter text must not contain ${trialParameters., which",
        ),
        ({"lr": search.double(min=2, max=1)}, "min"),
    ],
)
def test_parameters_that_cannot_be_passed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises((GantuneError, ManifestError), match=re.escape(message)):
        from_object(function.document(quadratic, parameters))


def test_example_of_the_documentation_runs(tmp_path: Path) -> None:
    [example] = re.findall(
        r"```python\n(.*?)```",
        (DOCS / "how-to" / "python-function.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\{'lr': .*, 'layers': \d\} \d\.\d+\n", done.stdout), done.stdout


def prints_reports(parameters: dict[str, Any]) -> None:
    for report in range(1, 6):
        print("epoch", report, end="  ")
        print(f"loss={parameters['x'] / report}", flush=True)


def test_function_stops_itself(tmp_path: Path) -> None:
    made = function.document(
        prints_reports, {"x": search.double(min=1, max=9)}, stop_factors={2: 1.5, 4: 1.2}
    )
    assert json.loads(made["metadata"]["annotations"]["gan-tuner/stop-factors"]) == {
        "2": 1.5,
        "4": 1.2,
    }
    [container] = made["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["env"][-1]["valueFrom"] == {
        "fieldRef": {"fieldPath": "metadata.labels['gan-tuner/stop-at']"}
    }
    (variable,) = (each["name"] for each in container["env"] if "value" in each)
    for label, lines in (("2gt4_4gt0.9", 4), ("2gt1.9", 2), ("2gt4_4gt1", 5), ("", 5)):
        ran = subprocess.run(
            ["sh", "-c", container["args"][0].replace("$$", "$")],
            cwd=tmp_path,
            env={**os.environ, variable: "4", "GAN_TUNER_STOP_AT": label},
            capture_output=True,
            text=True,
            check=True,
        )
        printed = [line for line in ran.stdout.splitlines() if line]
        assert sum("loss=" in line for line in printed) == lines, label
        assert ("stopped=1" in printed) is (lines < 5)


def test_local_engine_stops_a_function(tmp_path: Path) -> None:
    result = tuner.Client(tmp_path).tune(
        prints_reports,
        {"x": search.double(min=1, max=9)},
        n_trials=8,
        stop_factors={2: 1.5},
        seed=1,
    )
    states = {trial.state for trial in result.trials}
    assert states == {TrialState.SUCCEEDED, TrialState.EARLY_STOPPED}
