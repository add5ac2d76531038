"""`gantune` as a user meets it: real processes, real studies of small trials, wrong input, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests.tuner import commandline
from tests.tuner.samples import experiment, search
from tuner.cli.run import first_trials
from tuner.result import Result

MANIFEST = """\
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {{name: {name}, namespace: x}}
spec:
  objective: {{type: minimize, objectiveMetricName: fd, metricStrategies: [{{name: fd, value: latest}}]}}
  algorithm: {{algorithmName: random, algorithmSettings: [{{name: random_state, value: "1"}}]}}
  parallelTrialCount: 2
  maxTrialCount: {count}
  maxFailedTrialCount: 2
  resumePolicy: Never
  parameters:
  - {{name: lr, parameterType: double, feasibleSpace: {{min: "0.1", max: "10", distribution: logUniform}}}}
  - {{name: act, parameterType: categorical, feasibleSpace: {{list: ["; touch pwned", "$(touch pwned)"]}}}}
  trialTemplate:
    primaryContainerName: main
    trialParameters: [{{name: lr, reference: lr}}, {{name: act, reference: act}}]
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        backoffLimit: 0
        activeDeadlineSeconds: 60
        template:
          spec:
            restartPolicy: Never
            containers:
            - name: main
              image: example.com/toy:1
              command: [sh, {script}, "--lr=${{trialParameters.lr}}", "--act=${{trialParameters.act}}"]
"""
SCRIPT = """\
echo "2026-01-02T03:04:05Z fd=${1#--lr=}"
while [ -e ../wait ]; do sleep 0.02; done  # a running trial need not see changes of the start directory
"""
BROKEN = "echo no such luck >&2; exit 7\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with toy.yaml, whose trials print their lr, and wait while a file `wait` is next to it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "trial.sh").write_text(SCRIPT)
    (home / "toy.yaml").write_text(MANIFEST.format(name="toy", count=4, script=home / "trial.sh"))
    return home


def start(home: Path, *argv: str, kubeconfig: str = "", **how: object) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[3])
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KUBECONFIG", "GANTUNE_STORE")
    }
    env |= {"PYTHONPATH": root, "HOME": str(home), "COLUMNS": "80"}
    env |= {"KUBECONFIG": kubeconfig} if kubeconfig else {}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *argv], cwd=home, env=env, text=True, **pipes
    )  # type: ignore[call-overload,no-any-return]


def wait_for_trials(home: Path, process: subprocess.Popen[str], count: int) -> None:
    """Until that many trials have started, by the lines of the process."""
    assert process.stdout is not None
    seen = 0
    while seen < count:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        seen += "started" in line


def gantune(home: Path, *argv: str, kubeconfig: str = "") -> tuple[int, str, str]:
    variables = {"HOME": str(home), "COLUMNS": "80"} | (
        {"KUBECONFIG": kubeconfig} if kubeconfig else {}
    )
    done = commandline.gantune(home, *argv, without=("KUBECONFIG", "GANTUNE_STORE"), **variables)
    return done.returncode, done.stdout, done.stderr


def test_help_imports_nothing_but_click(home):
    code = "import sys, tuner.cli\ntry: tuner.cli.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.splitlines()[-1].split()}
    assert "click" in loaded
    assert not loaded & {
        "optuna",
        "torch",
        "numpy",
        "rich",
        "kubernetes",
        "ruamel",
        "plotly",
        "scipy",
    }


@pytest.mark.parametrize("command", ["run", "list", "status", "best", "report"])
def test_each_commands_help_is_light(command):
    code = "import sys, tuner.cli\ntry: tuner.cli.main([{!r}, '--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    code = code.format(command)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"Usage: gantune {command}")
    assert not {"optuna", "torch", "numpy", "kubernetes"} & set(run.stdout.splitlines()[-1].split())


def test_run_then_every_way_to_read_it(home):
    code, out, err = gantune(home, "run", "toy.yaml", "--local")
    assert (code, out.count("started"), out.count(" done  fd=")) == (0, 4, 4), err
    following = out.splitlines()[-1]
    # no flags can be taken out of a shell's command
    assert following == "next: gantune best toy --format env"
    assert gantune(home, *following.split()[2:])[1].startswith("lr=")
    code, out, _ = gantune(home, "status", "toy", "--format", "json")
    result = Result.from_json(json.loads(out))
    assert (code, len(result.trials), result.state) == (0, 4, "Succeeded")
    best = result.best
    assert best is not None
    assert best.metrics["fd"] == min(trial.parameters["lr"] for trial in result.trials)
    assert json.loads(gantune(home, "best", "toy", "--format", "json")[1]) == best.to_json()
    assert json.loads(gantune(home, "list", "--format", "json")[1])[0]["best"] == best.to_json()
    assert "toy" in gantune(home, "list")[1]
    assert "minimise fd" in gantune(home, "status", "toy")[1]
    shown = gantune(home, "best", "toy")[1]
    assert f"{best.parameters['lr']:.6g}" in shown
    assert repr(best.parameters["lr"]) not in shown, (
        "JSON and flags are exact, the table has six digits"
    )
    from ruamel.yaml import YAML

    assert (
        YAML(typ="safe").load(gantune(home, "best", "toy", "--format", "yaml")[1]) == best.to_json()
    )
    code, _, err = gantune(home, "report", "toy", "-o", "page.html")
    assert code == 0, err
    assert "<title>toy: minimise fd</title>" in (home / "page.html").read_text()
    code, _, err = gantune(home, "best", "toy", "--format", "args")
    assert code == 2
    assert "shell script" in err
    line = gantune(home, "best", "toy", "--format", "command")[1]
    again = subprocess.run(["sh", "-c", line], cwd=home, capture_output=True, text=True, check=True)
    assert again.stdout.split()[-1] == f"fd={best.metrics['fd']!r}"
    line = gantune(home, "best", "toy", "--format", "env")[1]
    script = f'{line}printf "%s|%s" "$lr" "$act"'
    shell = subprocess.run(
        ["sh", "-c", script], cwd=home, capture_output=True, text=True, check=True
    )
    assert shell.stdout == f"{best.parameters['lr']!r}|{best.parameters['act']}"
    assert not (home / "pwned").exists()


def test_first_option_adds_a_first_trial(home):
    point = "--first=lr=0.5,act=; touch pwned"
    code, _, err = gantune(home, "run", "toy.yaml", "--local", point)
    assert code == 0, err
    trials = Result.from_json(
        json.loads(gantune(home, "status", "toy", "--format", "json")[1])
    ).trials
    assert trials[0].parameters == {"lr": 0.5, "act": "; touch pwned"}
    best = min(trial.metrics["fd"] for trial in trials)
    said = (
        f"{100 * (0.5 - best) / 0.5:.2g} % better than the baseline 0.5"
        if best < 0.5
        else "no trial is better than"
    )
    for command in ("status", "best"):
        assert said in " ".join(gantune(home, command, "toy")[1].split())
    for wrong, reason in (
        ("lr=50,act=; touch pwned", "first trial 0: lr=50 is not in [0.1, 10]"),
        ("lr=0.5", "first trial 0: it must name every parameter, and act is missing"),
        ("lr", "a first trial is NAME=VALUE,NAME=VALUE,... and 'lr' is not"),
        ("lr=1,lr=2", "'lr=1,lr=2' names a parameter twice; remove one"),
        ("lr=0.6,act=; touch pwned", "another manifest (first_trials"),
    ):
        code, _, err = gantune(home, "run", "toy.yaml", "--local", "--first", wrong)
        assert code == 2
        assert reason in err


def test_first_trial_values_may_contain_commas():
    context, option = click.Context(click.Command("run")), click.Option(["--first"])
    found = first_trials(context, option, ("lr=2e-3,dHidden=512,256,bs=64",))
    assert found == ({"lr": "2e-3", "dHidden": "512,256", "bs": "64"},)


def test_rerun_adds_nothing_and_max_trials_extends(home):
    gantune(home, "run", "toy.yaml", "--local")
    first = gantune(home, "status", "toy", "--format", "json")[1]
    code, out, _ = gantune(home, "run", "toy.yaml", "--local")
    assert (code, out.count("started")) == (0, 0)
    assert gantune(home, "status", "toy", "--format", "json")[1] == first
    code, out, _ = gantune(
        home, "run", "toy.yaml", "--local", "--max-trials", "6", "--format", "json"
    )
    kinds = [json.loads(line)["event"] for line in out.splitlines()]
    assert (code, kinds.count("trial_ended"), kinds[-1]) == (0, 2, "study_ended")
    code, out, _ = gantune(home, "run", "toy.yaml", "--local", "--fresh")
    assert (code, out.count("started")) == (0, 4)


def test_all_trials_failing_exits_1_with_reason(home):
    (home / "trial.sh").write_text(BROKEN)
    code, out, _ = gantune(home, "run", "toy.yaml", "--local")
    assert code == 1
    assert "no such luck" in out
    code, _, err = gantune(home, "best", "toy")
    assert code == 2
    assert "toy has no trial with a finite fd" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["best", "nothing"], 2, "begin one with `gantune run FILE`"),
        (["status", "../../etc"], 2, "no study"),
        (["run", "missing.yaml", "--local"], 2, "missing.yaml"),
        (["run", "text.yaml", "--local"], 1, "text.yaml"),
        (["run", "other.yaml", "--local"], 2, "other.yaml:1: no Experiment"),
        (["run", ".", "--local"], 2, "."),
        (["run", "toy.yaml", "--local", "--workers", "0"], 2, "got '0'"),
        (["run", "toy.yaml", "--local", "--workers", "many"], 2, "got 'many'"),
        (["run", "toy.yaml", "--local", "--max-trials", "0"], 2, "--max-trials"),
        (["run", "toy.yaml", "--local", "--warm-start", "nothing"], 2, "nothing"),
        (["run", "toy.yaml", "--cluster", "--seed", "1"], 2, "--seed is for local runs"),
        (["run", "toy.yaml", "--local", "--store", "toy.yaml"], 2, "toy.yaml"),
        (["list", "--store", "absent"], 0, "no studies in absent"),
        (["statos"], 2, "did you mean 'status'?"),
        (["--nonsense"], 2, "--nonsense"),
        (["best"], 2, "NAME"),
    ],
)
def test_wrong_input_is_one_line_with_exit_code(home, argv, code, says):
    (home / "text.yaml").write_text("just: [text\n")
    (home / "other.yaml").write_text("kind: Namespace\n")
    found, out, err = gantune(home, *argv)
    assert found == code, err
    assert says in err
    assert out == ""
    passed_over = ("Usage:", "Try ", "toy.yaml: 2 warnings for use on a cluster")
    errors = [line for line in err.splitlines() if line and not line.startswith(passed_over)]
    assert len(errors) == 1, err


def test_a_name_near_the_one_that_was_meant(home):
    gantune(home, "run", "toy.yaml", "--local")
    assert "did you mean toy?" in gantune(home, "best", "tyo")[2]


def test_run_without_flag_says_where_and_why(home):
    code, _, err = gantune(home, "run", "toy.yaml")
    assert code == 0
    assert "runs here: no cluster" in err


def test_unusable_kubeconfig_runs_locally(home):
    """Without --cluster it is no error; the commands that need the cluster refuse it."""
    code, _, err = gantune(home, "run", "toy.yaml", kubeconfig="/nonexistent")
    assert code == 0
    assert (
        "runs here: KUBECONFIG=/nonexistent cannot be used (no such file): fix it, or unset it"
        in err
    )
    code, _, err = gantune(home, "submit", "toy.yaml", kubeconfig="/nonexistent")
    assert code == 6
    assert "KUBECONFIG=/nonexistent cannot be used (no such file)" in err


def test_a_closed_pipe_is_no_error(home):
    gantune(home, "run", "toy.yaml", "--local")
    command = f"{shlex.quote(sys.executable)} -m tuner status toy --format json | head -c 1; echo"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    run = subprocess.run(
        ["sh", "-c", command], cwd=home, env=env, capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("{\n", "")


def test_terminal_shows_table_and_restores_cursor(home):
    mine, theirs = pty.openpty()
    process = start(home, "run", "toy.yaml", "--local", stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(mine, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        text += chunk
    os.close(mine)
    assert process.wait(30) == 0
    shown = text.decode()
    assert "4 done" in shown
    assert "next: gantune best toy" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_page_and_flags_show_the_same_trial():
    """export and report read the same Result; a Result with a failed better trial must not confuse either."""
    from tuner.experiment import final

    found = search(30)
    assert found.best is not None
    names = list(found.best.parameters)
    flags = final.flags(
        experiment(
            ["x", *(f"--{n}=${{trialParameters.{n}}}" for n in names)], **{n: n for n in names}
        ),
        found.best.parameters,
    )
    assert flags == [f"--{name}={value}" for name, value in found.best.parameters.items()]


def test_a_clusters_study_reads_as_a_local_one(home):
    """What the katib engine stored is read by the same commands, without a cluster."""
    from tuner.manifest import load
    from tuner.store.studies import EngineKind, Store

    store = Store(home / ".gantune").of(EngineKind.KATIB)
    store.submit(load(home / "toy.yaml"))
    assert "Running" in gantune(home, "list")[1]
    trials = [
        replace(
            trial, parameters={"lr": trial.parameters["lr"], "act": "; touch pwned"}, node="gpu-1"
        )
        for trial in search(10).trials
    ]
    found = replace(search(0), name="toy", trials=tuple(trials))
    store.save_result(found)
    assert (
        Result.from_json(json.loads(gantune(home, "status", "toy", "--format", "json")[1])) == found
    )
    assert found.best is not None
    assert (
        json.loads(gantune(home, "best", "toy", "--format", "json")[1])["name"] == found.best.name
    )
    assert gantune(home, "report", "toy")[0] == 0


def test_local_and_cluster_studies_share_a_name(home):
    from tuner.manifest import load
    from tuner.store.studies import EngineKind, Store

    assert gantune(home, "run", "toy.yaml", "--local")[0] == 0
    remote = Store(home / ".gantune").of(EngineKind.KATIB)
    remote.submit(load(home / "toy.yaml"))
    remote.save_result(replace(search(0), name="toy"))
    for verb in ("status", "best", "report"):
        code, _, err = gantune(home, verb, "toy")
        assert code == 2
        assert "choose one with --local or --cluster" in err
    assert (
        len(json.loads(gantune(home, "status", "toy", "--local", "--format", "json")[1])["trials"])
        == 4
    )
    assert (
        json.loads(gantune(home, "status", "toy", "--cluster", "--format", "json")[1])["trials"]
        == []
    )
    listed = json.loads(gantune(home, "list", "--format", "json")[1])
    assert [(each["name"], each["engine"], each["trials"]) for each in listed] == [
        ("toy", "katib", 0),
        ("toy", "local", 4),
    ]
    code, out, _ = gantune(home, "run", "toy.yaml", "--local")
    assert code == 0
    assert out.splitlines()[-1] == "next: gantune best toy --local --format env"
    assert (
        "next: gantune best toy --local --format env" in gantune(home, "watch", "toy", "--local")[1]
    )


def test_logs_extend_and_delete_local_studies(home):
    gantune(home, "run", "toy.yaml", "--local")
    code, out, err = gantune(home, "logs", "toy", "--best")
    assert code == 0, err
    assert "fd=" in out
    assert gantune(home, "extend", "toy", "--max-trials", "4")[0] == 2
    assert gantune(home, "extend", "toy", "--max-trials", "5")[2] == "toy: maxTrialCount is now 5\n"
    code, _, err = gantune(home, "delete", "toy")
    assert code == 0
    assert "toy: deleted; 4 trials" in err
    assert not (home / ".gantune" / "local" / "toy").exists()


def test_stop_ends_a_local_search(home):
    (home.parent / "wait").touch()
    process = start(home, "run", "toy.yaml", "--local", "--workers", "2")
    wait_for_trials(home, process, 2)
    code, _, err = gantune(home, "stop", "toy")
    assert code == 0, err
    assert err.startswith("toy: stopped; ")
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert gantune(home, "stop", "toy")[0] == 0
    code, _, err = gantune(home, "stop", "nosuch", "--local")
    assert code == 2
    assert "no study 'nosuch'" in err
