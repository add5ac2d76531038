"""Every rule: a manifest that breaks it is reported on the right line, and the clean one is not."""
# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tuner import manifest
from tuner.check import RULES, Severity, check_data, check_document, check_file, explain
from tuner.cli.options import load
from tuner.errors import GantuneError
from tuner.katib.yamlfile import parse

CLEAN = Path(__file__).parents[1] / "data" / "clean.yaml"
COSTS = ("  namespace: gan-tuner\n", "  annotations: {gan-tuner/cost-metric: seconds}\n")
TEXT = CLEAN.read_text()
BAYES = "algorithmName: bayesianoptimization"
SETTINGS = """    algorithmSettings:
      - {name: random_state, value: "1"}
      - {name: n_initial_points, value: "5"}
"""
BS = """      parameterType: int
      feasibleSpace:
        min: "32"
        max: "128"
        distribution: uniform
"""
COMMAND = """                command: [python, -m, trainer]
                args:
                  - --lr=${trialParameters.lr}
                  - --bs=${trialParameters.bs}
                  - --metrics-file=/var/log/katib/metrics.log
                  - --output-dir=/output
"""
USE = "${trialParameters.lr} ${trialParameters.bs}"
LR = """        min: "1e-5"
        max: "1e-2"
        distribution: logUniform
"""


def shell(script: str) -> tuple[str, str]:
    return COMMAND, f"                command: [sh, -c]\n                args: [{script!r}]\n"


def grid(space: str, rest: str = "") -> list[tuple[str, str]]:
    return [
        (BAYES, "algorithmName: grid"),
        (SETTINGS, ""),
        (LR, space),
        *([tuple(rest.split("=>"))] if rest else []),
    ]


def algorithm(name: str, *settings: str) -> list[tuple[str, str]]:
    lines = "".join(
        f"      - {{name: {s.split('=')[0]}, value: '{s.split('=')[1]}'}}\n" for s in settings
    )
    return [
        (BAYES, f"algorithmName: {name}"),
        (SETTINGS, f"    algorithmSettings:\n{lines}" if lines else ""),
    ]


def choice(kind: str, *values: str) -> tuple[str, str]:
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return BS, f"      parameterType: {kind}\n      feasibleSpace:\n        list: [{listed}]\n"


def factors(text: str) -> list[tuple[str, str]]:
    annotation = f"  annotations:\n    gan-tuner/stop-factors: '{text}'\n"
    return [("  namespace: gan-tuner\n", f"  namespace: gan-tuner\n{annotation}")]


def required(text: str) -> list[tuple[str, str]]:
    annotation = f"  annotations:\n    gan-tuner/required-files: '{text}'\n"
    return [("  namespace: gan-tuner\n", f"  namespace: gan-tuner\n{annotation}")]


def first(text: str) -> list[tuple[str, str]]:
    return [
        (
            "  namespace: gan-tuner\n",
            f"  namespace: gan-tuner\n  annotations:\n    gan-tuner/first-trials: '{text}'\n",
        )
    ]


STDOUT = ("      kind: File\n    source:", "      kind: StdOut\n    source:")
LIST_GRID = '        list: ["1e-4", "1e-3"]\n'

# rule, what to replace, a piece of the line on which it must be reported
CASES: list[tuple[str, list[tuple[str, str]], str]] = [
    ("yaml-syntax", [("kind: Experiment", "kind: [Experiment")], "metadata:"),
    ("yaml-syntax", [("  name: gan-bayes", "\tname: gan-bayes")], "name: gan-bayes"),
    ("duplicate-key", [("  maxTrialCount: 20", "  maxTrialCount: 20\n  maxTrialCount: 30")], "maxTrialCount: 30"),
    ("yaml-ambiguous", [("description: batch size", "description: on")], "description: on"),
    ("kind", [("kind: Experiment", "kind: Experimnt")], "kind: Experimnt"),
    ("kind", [("apiVersion: kubeflow.org/v1beta1", "apiVersion: kubeflow.org/v1alpha3")], "v1alpha3"),
    ("ignored-key", [("kind: Experiment", "x-base: {a: 1}\nkind: Experiment")], "x-base"),
    ("unknown-key", [("  maxFailedTrialCount:", "  maxfailedtrials: 1\n  maxFailedTrialCount:")], "maxfailedtrials"),
    ("unknown-key", [("restartPolicy: Never", "restartPolicy: Never\n            volume: []")], "volume: []"),
    ("wrong-type", [('min: "1e-5"', "min: 1e-5")], "min: 1e-5"),
    ("wrong-type", [("maxTrialCount: 20", 'maxTrialCount: "20"')], "maxTrialCount"),
    ("wrong-type", [('value: "1"}', "value: 1}")], "random_state"),
    ("wrong-type", [("backoffLimit: 0", "backoffLimit: ${trialParameters.bs}")], "backoffLimit"),
    ("job-round-trip", [("restartPolicy: Never", "restartPolicy: Never\n            hostNetwork: false")], "hostNetwork"),
    ("first-trials", first('[{"lr": "2e-3", "bs": "16"}]'), "gan-tuner/first-trials"),
    ("first-trials", first('[{"lr": "2e-3"}]'), "gan-tuner/first-trials"),
    ("first-trials", first("lr=2e-3"), "gan-tuner/first-trials"),
    ("required-files", required("data/a.npz"), "gan-tuner/required-files"),
    ("required-files", required('["data/a.npz"]'), "gan-tuner/required-files"),
    ("required-files", required('{"data/a.npz": 1}'), "gan-tuner/required-files"),
    ("required-files", required('{"data/a.npz": "two\\nlines"}'), "gan-tuner/required-files"),
    ("required-files", required('{"data/a.npz": "%s"}' % ("x" * 201)), "gan-tuner/required-files"),
    ("missing-file", required('{"no/such.npz": "python prepare.py"}'), "gan-tuner/required-files"),
    ("stop-factors", factors("[1.5]"), "gan-tuner/stop-factors"),
    ("stop-factors", factors('{"0": 1.5}'), "gan-tuner/stop-factors"),
    ("stop-factors", factors('{"4": 1}'), "gan-tuner/stop-factors"),
    ("stop-factors", [*factors('{"4": 2}'), ("type: minimize", "type: maximize")], "gan-tuner/stop-factors"),
    ("name", [("name: gan-bayes", "name: Gan_Bayes")], "Gan_Bayes"),
    ("name", [("name: gan-bayes", "name: gan.bayes")], "gan.bayes"),
    ("name", [("name: gan-bayes", "name: " + "a" * 41)], "name: aaa"),
    ("name", [("name: gan-bayes", "generateName: " + "a" * 36)], "generateName"),
    ("name", [("  name: gan-bayes\n", "")], "metadata:"),
    ("count-range", [("maxFailedTrialCount: 5", "maxFailedTrialCount: -1")], "maxFailedTrialCount"),
    ("count-range", [("parallelTrialCount: 2", "parallelTrialCount: 0")], "parallelTrialCount"),
    ("failed-above-max", [("maxFailedTrialCount: 5", "maxFailedTrialCount: 21")], "maxFailedTrialCount"),
    ("parallel-above-max", [("parallelTrialCount: 2", "parallelTrialCount: 21")], "parallelTrialCount"),
    ("objective", [("type: minimize", "type: minimise")], "minimise"),
    ("objective", [("[precision, recall", "[fd, recall"), ("name: precision", "name: recall")], "[fd"),
    ("metric-strategy", [("{name: fd, value: latest}", "{name: fd, value: last}")], "value: last}"),
    ("cost-strategy", [COSTS, ("[precision, recall", "[seconds, precision, recall")], "additionalMetricNames"),
    ("cost-metric", [COSTS], "gan-tuner/cost-metric"),
    ("seed-noise", [("  namespace: gan-tuner\n", "  annotations:\n    gan-tuner/seed-noise: 4 %\n")], "gan-tuner/seed-noise"),
    ("metric-strategy-unused", [("{name: recall, value", "{name: recal, value")], "name: recal,"),
    ("algorithm", [*algorithm("bayesian")], "bayesian"),
    ("algorithm", [("  parallelTrialCount", "  earlyStopping: {algorithmName: hyperband}\n  parallelTrialCount")], "earlyStopping"),
    ("resume-policy", [("resumePolicy: Never", "resumePolicy: Always")], "Always"),
    ("explicit-counts", [("  maxFailedTrialCount: 5\n", "")], "spec:"),
    ("explicit-strategy", [("      - {name: fd, value: latest}\n", "")], "objective:"),
    ("explicit-resume-policy", [("  resumePolicy: Never\n", "")], "spec:"),
    ("parameters", [("- name: bs\n", "- name: lr\n"), ("- {name: bs, reference: bs, description: batch size}", ""), ("--bs=${trialParameters.bs}", "--x")], "- name: lr"),
    ("parameter-type", [("parameterType: int", "parameterType: integer")], "integer"),
    ("distribution", [("distribution: logUniform", "distribution: loguniform")], "loguniform"),
    ("bounds-missing", [('        max: "128"\n', "")], "feasibleSpace:"),
    ("bounds-missing", [('        max: "128"\n', '        max: "128"\n        list: ["1"]\n')], "list:"),
    ("bounds-missing", [choice("categorical", "a", "b"), ("        list: ['a'", "        min: \"1\"\n        list: ['a'")], 'min: "1"'),
    ("list-empty", [choice("categorical")], "list: []"),
    ("list-duplicate", [choice("categorical", "a", "b", "a")], "list:"),
    ("discrete-number", [choice("discrete", "16", "many")], "list:"),
    ("bounds-number", [('min: "1e-5"', 'min: "tiny"')], "tiny"),
    ("bounds-number", [('max: "128"', 'max: "128.5"')], "128.5"),
    ("bounds-number", [('max: "1e-2"', 'max: "inf"')], "inf"),
    ("bounds-order", [('min: "32"', 'min: "256"')], "256"),
    ("bounds-order", [('min: "32"', 'min: "128"')], 'min: "128"'),
    ("step-range", [*algorithm("random"), ('        max: "128"\n', '        max: "128"\n        step: "0"\n')], "step"),
    ("log-bound", [('min: "1e-5"', 'min: "0"')], 'min: "0"'),
    ("grid-step", grid('        min: "0.1"\n        max: "0.3"\n', "maxTrialCount: 20=>maxTrialCount: 9"), "feasibleSpace:"),
    ("grid-size", [*grid('        min: "0.1"\n        max: "0.3"\n        step: "0.1"\n'), choice("discrete", "16", "32")], "maxTrialCount"),
    ("grid-end", grid('        min: "0.1"\n        max: "0.35"\n        step: "0.1"\n'), "step:"),
    ("algorithm-setting", [("random_state,", "seed,")], "seed"),
    ("algorithm-setting", [('value: "5"', 'value: "0"')], "n_initial_points"),
    ("algorithm-setting", [("{name: n_initial_points", "{name: random_state")], 'value: "5"'),
    ("algorithm-setting", algorithm("multivariate-tpe", "n_startup_trials=few"), "n_startup"),
    ("algorithm-setting", [*algorithm("tpe", "gamma=1.5"), ("parallelTrialCount: 2", "parallelTrialCount: 1")], "gamma"),
    ("algorithm-setting", [("  parallelTrialCount", "  earlyStopping: {algorithmName: medianstop, algorithmSettings: [{name: start_step, value: '0'}]}\n  parallelTrialCount")], "earlyStopping"),
    ("algorithm-setting", algorithm("hyperband", "eta=3"), "algorithm:"),
    ("hyperband", algorithm("hyperband", "r_l=9", "resource_name=bs"), "parallelTrialCount"),
    ("cmaes-dimensions", [*algorithm("cmaes"), choice("categorical", "a", "b")], "algorithmName"),
    ("nas", algorithm("darts"), "darts"),
    ("pbt", algorithm("pbt", "suggestion_trial_dir=/x", "n_population=5", "truncation_threshold=0.2"), "parameterType: int"),
    ("template", [("    primaryContainerName: trainer\n", "")], "trialTemplate:"),
    ("template", [("      kind: Job", "      kind: Workflow")], "trialTemplate:"),
    ("trial-kind", [("      kind: Job", "      kind: Workflow")], "kind: Workflow"),
    ("trial-parameter", [("reference: bs", "reference: batch")], "reference: batch"),
    ("trial-parameter", [("{name: bs, reference", "{name: lr, reference")], "name: lr, reference: bs"),
    ("trial-parameter", [("reference: bs", "reference: lr")], "name: bs, reference: lr"),
    ("placeholder", [("${trialParameters.bs}", "${trialParameters.batch}")], "trialSpec:"),
    ("placeholder", [("--bs=${trialParameters.bs}", "--bs=64")], "name: bs, reference"),
    ("parameter-unused", [("      - {name: bs, reference: bs, description: batch size}\n", ""), ("--bs=${trialParameters.bs}", "--bs=64")], "- name: bs"),
    ("trial-spec", [("      kind: Job\n", "      kind: Job\n      metadata: {name: mine}\n")], "metadata: {name"),
    ("trial-spec", [("apiVersion: batch/v1", "apiVersion: batch/v1beta1")], "batch/v1beta1"),
    ("pod", [("primaryContainerName: trainer", "primaryContainerName: train")], "primaryContainerName"),
    ("pod", [("            restartPolicy: Never\n", "")], "          spec:"),
    ("collector", [("      kind: File\n    source", "      kind: None\n    source")], "collector:"),
    ("collector", [("        path: /var", "        path: var")], "path: var"),
    ("collector", [("        format: TEXT", "        format: CSV")], "CSV"),
    ("collector-filter", [("        format: TEXT", "        format: TEXT\n      filter: {metricsFormat: ['(a=(']}")], "filter"),
    ("collector-filter", [("        format: TEXT", "        format: TEXT\n      filter: {metricsFormat: ['(a)=b']}")], "filter"),
    ("collector-filter", [("        format: TEXT", "        format: JSON\n      filter: {}")], "filter"),
    ("metric-name", [("objectiveMetricName: fd", "objectiveMetricName: val/fd"), ("{name: fd,", "{name: val/fd,")], "val/fd"),
    ("early-stopping-collector", [("      kind: File\n    source", "      kind: Push\n    source"), ("  parallelTrialCount", "  earlyStopping: {algorithmName: medianstop}\n  parallelTrialCount")], "earlyStopping"),
    ("backoff-limit", [("        backoffLimit: 0\n", "")], "      spec:"),
    ("deadline", [("        activeDeadlineSeconds: 3600\n", "")], "      spec:"),
    ("command-missing", [("                command: [python, -m, trainer]\n", "")], "- name: trainer"),
    ("command-shell-path", [(COMMAND, f"                command: [/bin/sh, -c]\n                args: ['train {USE}']\n")], "/bin/sh"),
    ("command-newline", [(COMMAND, f"                command: [sh, -c]\n                args:\n                  - |\n                    train {USE}\n")], "- |"),
    ("command-exec", [shell(f"exec train {USE}")], "exec"),
    ("command-sequence", [STDOUT, shell(f"prepare; train {USE}")], "prepare"),
    ("command-pipeline", [shell(f"train {USE} | tee x"), ("  parallelTrialCount", "  earlyStopping: {algorithmName: medianstop}\n  parallelTrialCount")], "tee"),
    ("command-split", [("--output-dir=/output", "--title=two words")], "two words"),
    ("value-in-shell", [choice("categorical", "adam", "; rm -rf /")], "rm -rf"),
    ("value-in-json", [choice("categorical", "adam", 'say "hi"')], "say"),
    ("distribution-ignored", [("distribution: logUniform", "distribution: uniform")], "distribution: uniform"),
    ("distribution-ignored", [*algorithm("cmaes")], "logUniform"),
    ("distribution-explicit", [*algorithm("random"), ("        distribution: logUniform\n", "")], "feasibleSpace:"),
    ("distribution-outside", [*algorithm("random"), ("distribution: logUniform", "distribution: normal")], "normal"),
    ("skopt-bound", [('min: "1e-5"', 'min: "0"'), ("distribution: logUniform", "distribution: uniform")], 'min: "0"'),
    ("step-portable", [('        max: "1e-2"\n', '        max: "1e-2"\n        step: "1e-4"\n')], "step"),
    ("parallel-duplicates", algorithm("tpe"), "parallelTrialCount"),
    ("resume-state", [*algorithm("multivariate-tpe"), ("resumePolicy: Never", "resumePolicy: LongRunning")], "LongRunning"),
    ("service-memory", [("maxTrialCount: 20", "maxTrialCount: 90")], "maxTrialCount: 90"),
    ("gan-loss", [("objectiveMetricName: fd", "objectiveMetricName: g_loss"), ("{name: fd,", "{name: g_loss,")], "g_loss"),
    ("gan-loss", [("objectiveMetricName: fd", "objectiveMetricName: loss"), ("{name: fd,", "{name: loss,")], "MetricName: loss"),
]  # fmt: skip


def changed(edits: list[tuple[str, str]]) -> str:
    text = TEXT
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def test_clean_manifest_has_no_problem() -> None:
    assert check_file(CLEAN, strict=True) == []


@pytest.mark.parametrize(
    ("rule", "edits", "line"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_a_breach_is_reported_on_its_line(
    rule: str, edits: list[tuple[str, str]], line: str
) -> None:
    text = changed(edits)
    problems = check_data(text.encode(), "m.yaml", strict=True)
    found = [problem for problem in problems if problem.rule == rule]
    assert found, [str(problem) for problem in problems]
    assert any(line in text.splitlines()[problem.line - 1] for problem in found), [
        str(problem) for problem in found
    ]
    for problem in problems:
        assert "\n" not in problem.message
        assert problem.severity is RULES[problem.rule].severity
        assert str(problem).startswith(f"m.yaml:{problem.line}: {problem.severity}: ")


def test_every_rule_has_a_case_here() -> None:
    assert set(RULES) - {rule for rule, _, _ in CASES} == {
        "duplicate-name",
        "no-experiment",
        "primary-container",
        "image",
    }


def test_two_experiments_of_one_name() -> None:
    problems = check_data(f"{TEXT}\n---\n{TEXT}".encode(), "m.yaml")
    assert [problem.rule for problem in problems] == ["duplicate-name"]
    assert problems[0].line > len(TEXT.splitlines())
    assert check_data(f"{TEXT}\n---\n{TEXT.replace('gan-tuner', 'other')}".encode(), "m.yaml") == []


@pytest.mark.parametrize(
    "edits",
    [
        algorithm("multivariate-tpe"),
        algorithm("random", "random_state=3"),
        [*algorithm("tpe"), ("parallelTrialCount: 2", "parallelTrialCount: 1")],
        [choice("categorical", "16", "32", "64")],
        [choice("discrete", "16", "32", "64")],
        [*grid(LIST_GRID), ("parameterType: double", "parameterType: discrete"), choice("discrete", "16", "32"), ("maxTrialCount: 20", "maxTrialCount: 4"), ("maxFailedTrialCount: 5", "maxFailedTrialCount: 2")],
        [*grid('        min: "0.1"\n        max: "0.3"\n        step: "0.1"\n'), choice("discrete", "16", "32"), ("maxTrialCount: 20", "maxTrialCount: 6")],
        [shell(f"( prepare; train {USE} )")],
        [shell(f"prepare && train {USE}")],  # File: the file is written by the trainer itself
        [("objectiveMetricName: fd", "objectiveMetricName: loss"), ("{name: fd,", "{name: loss,"), ("gan-bayes", "mnist"), ("trainer]", "classify]")],
        [("--output-dir=/output", "--name=$(KATIB_TRIAL_NAME)")],
        [("      - {name: lr", "      - {name: trial, reference: '${trialSpec.Name}'}\n      - {name: lr"), ("/output\n", "/output/${trialParameters.trial}\n")],
    ],
)  # fmt: skip
def test_ways_out_that_the_messages_name_pass(edits: list[tuple[str, str]]) -> None:
    assert [str(problem) for problem in check_data(changed(edits).encode(), "m.yaml")] == []


def test_other_kinds_are_passed_over() -> None:
    others = "kind: ConfigMap\napiVersion: v1\ndata: {a: yes}\n---\njust text\n---\n- 1\n---\n"
    assert check_data((others + TEXT).encode(), "m.yaml") == []


def test_a_misspelt_key_is_suggested() -> None:
    text = changed([("parameterType: int", "paramterType: int")])
    problem = next(
        found for found in check_data(text.encode(), "m.yaml") if found.rule == "unknown-key"
    )
    assert "did you mean 'parameterType'?" in problem.message


def test_explain_knows_every_rule_and_suggests_the_nearest() -> None:
    for name, rule in RULES.items():
        assert explain(name) is rule
        assert rule.why.rstrip(")").endswith(".")
        assert rule.source
        assert rule.severity in Severity
    with pytest.raises(GantuneError, match="did you mean 'grid-step'"):
        explain("gridstep")


STEP = '        max: "128"\n'


@pytest.mark.parametrize("name", ["grid", "multivariate-tpe"])
@pytest.mark.parametrize(
    "edit", [('min: "32"', 'min: "128"'), (STEP, STEP + '        step: "500"\n')]
)
def test_one_value_suits_some_algorithms(name: str, edit: tuple[str, str]) -> None:
    problems = check_data(changed([*algorithm(name), edit]).encode(), "m.yaml")
    assert not {"bounds-order", "step-range"} & {problem.rule for problem in problems}
    others = check_data(changed([*algorithm("random"), edit]).encode(), "m.yaml")
    assert {"bounds-order", "step-range"} & {problem.rule for problem in others}


def test_style_rules_need_strict() -> None:
    data = changed([("        backoffLimit: 0\n", ""), ("  resumePolicy: Never\n", "")]).encode()
    assert check_data(data, "m.yaml") == []
    found = [problem.rule for problem in check_data(data, "m.yaml", strict=True)]
    assert sorted(found) == ["backoff-limit", "explicit-resume-policy"]


def test_unknown_strategy_of_unused_metric_warns() -> None:
    text = changed([("{name: recall, value: latest}", "{name: recal, value: last}")])
    found = check_data(text.encode(), "m.yaml")
    assert [(problem.rule, problem.severity) for problem in found] == [
        ("metric-strategy-unused", Severity.WARNING)
    ]


@pytest.mark.parametrize(("strategy", "warned"), [("min", True), ("max", False), ("latest", False)])
def test_training_time_needs_its_last_value(strategy: str, warned: bool) -> None:
    listed = (
        "{name: recall, value: latest}",
        f"{{name: recall, value: latest}}\n      - {{name: seconds, value: {strategy}}}",
    )
    text = changed([COSTS, ("[precision, recall", "[seconds, precision, recall"), listed])
    assert [problem.rule for problem in check_data(text.encode(), "m.yaml")] == [
        "cost-strategy"
    ] * warned


@pytest.mark.parametrize(
    ("name", "step", "warned"),
    [("random", "3", True), ("random", "32", False), ("multivariate-tpe", "3", False)],
)
def test_hyperopt_leaves_the_step_grid(name: str, step: str, warned: bool) -> None:
    text = changed([*algorithm(name), (STEP, f'{STEP}        step: "{step}"\n')])
    found = [problem.rule for problem in check_data(text.encode(), "m.yaml")]
    assert ("step-portable" in found) is warned


@pytest.mark.parametrize(
    ("script", "fails"),
    [
        ("|-\n                    import sys\n                    print(sys.argv)\n", True),
        ("|\n                    import sys\n                    print(sys.argv)\n", True),
        ("print(1)\n", True),
        ("\"'import sys; print(sys.argv)'\"\n", False),
    ],
)
def test_scripts_of_interpreters_reach_a_shell(script: str, fails: bool) -> None:
    """On a cluster `python3 -c` gets the first word of an unquoted script, and the trial fails."""
    command = f"                command:\n                  - python3\n                  - -c\n                  - {script}"
    problems = check_data(changed([(COMMAND, command)]).encode(), "m.yaml")
    said = [problem.message for problem in problems if problem.rule == "command-split"]
    assert any("the shell reads this script, not python3" in message for message in said) is fails


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("[sh, -c]\n                args: ['train ${trialParameters.bs} ${trialParameters.lr}']", True),
        ("[python, -c, 'print(${trialParameters.bs}, ${trialParameters.lr})']", True),
        ("[train, '${trialParameters.bs}', '&&', 'echo', '${trialParameters.lr}']", True),
        ("[train, '${trialParameters.bs}', '${trialParameters.lr}']", False),
    ],
)  # fmt: skip
def test_values_in_code_are_named(command: str, found: bool) -> None:
    """Under a collector that needs no shell too, because the manifest's own command reads them."""
    edits = [
        (COMMAND, f"                command: {command}\n"),
        choice("categorical", "adam", "a b"),
        ("      kind: File\n    source", "      kind: Push\n    source"),
    ]
    if "&&" in command:
        del edits[2]
    problems = check_data(changed(edits).encode(), "m.yaml")
    said = [problem.message for problem in problems if problem.rule == "value-in-shell"]
    assert any("value 'a b' of 'bs' is inserted into code" in text for text in said) is found


@pytest.mark.parametrize("name", ["grid", "random", "multivariate-tpe", "bayesianoptimization"])
@pytest.mark.parametrize("step", ["1e-320", "5e-324", "1e-308", "1.7e308"])
@pytest.mark.parametrize(
    ("low", "high"), [("0", "1"), ("1", "1e300"), ("-1.7e308", "1.7e308"), ("1e-323", "1e-322")]
)
def test_extreme_steps_are_checked(name: str, step: str, low: str, high: str) -> None:
    space = f'        min: "{low}"\n        max: "{high}"\n        step: "{step}"\n'
    edits = grid(space) if name == "grid" else [*algorithm(name), (LR, space)]
    found = check_data(changed(edits).encode(), "m.yaml")
    assert all("inf" not in problem.message or "max - min" in problem.message for problem in found)


def test_long_lists_are_checked_quickly() -> None:
    values = ", ".join(f"'{i}'" for i in range(20_000))
    text = changed(
        [
            (
                BS,
                f"      parameterType: discrete\n      feasibleSpace:\n        list: [{values}, '0']\n",
            )
        ]
    )
    document = parse(text.encode(), "m.yaml")[0]
    begun = time.perf_counter()
    found = [problem.rule for problem in check_document(document)]
    assert "list-duplicate" in found
    assert time.perf_counter() - begun < 2


def test_missing_file_is_no_warning_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = changed(required('{"no/such.npz": "python prepare.py"}'))
    (tmp_path / "m.yaml").write_text(text)
    assert "missing-file" in [problem.rule for problem in check_data(text.encode(), "m.yaml")]
    load(tmp_path / "m.yaml", None, warnings=True)
    assert "missing-file" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "edit",
    [
        ("maxTrialCount: 20", "maxTrialCount: 20.0"),
        ("type: minimize", "type: minimize\n    goal: 1e308"),
    ],
)
def test_numbers_that_katib_decodes_are_accepted(edit: tuple[str, str]) -> None:
    text = changed([edit]).encode()
    assert check_data(text, "m.yaml") == []
    assert manifest.read(text)[0].max_trials == 20
