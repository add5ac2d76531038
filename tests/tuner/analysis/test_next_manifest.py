"""The next manifest keeps what its author wrote, and says why something else changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner import experiments
from tuner import manifest
from tuner.analysis.advice import Change, Kind
from tuner.analysis.next_manifest import next_name, revise
from tuner.check import check_data
from tuner.errors import CommandError, GantuneError
from tuner.experiment.model import Experiment
from tuner.space import Categorical, Discrete, Distribution, Double, Int

ROOT = Path(__file__).resolve().parents[3]
LR = Double("lr", 1e-4, 4e-3, distribution=Distribution.LOG_UNIFORM)
SHRINK = Change(Kind.SHRINK, "lr", "because of {odd}: [text] # here", space=LR)
WIDEN = Change(Kind.WIDEN, "bs", "on the bound", space=Int("bs", 8, 128))
FIX = Change(Kind.FIX, "bs", "no effect", value=64)
BUDGET = Change(Kind.BUDGET, "", "still improves", trials=40)
SHIPPED = sorted((ROOT / "manifests").glob("*.yaml"))


def shipped(name: str) -> tuple[str, Experiment]:
    path = ROOT / "manifests" / f"{name}.yaml"
    return path.read_text(), manifest.load(path)


def loaded(written: str, folder: Path) -> Experiment:
    path = folder / "next.yaml"
    path.write_text(written)
    return manifest.load(path)


def test_only_the_changes_differ(tmp_path: Path) -> None:
    text, experiment = shipped("bayes")
    written = revise(text, experiment, [SHRINK, WIDEN, BUDGET], name="gan-bayes-2")
    new = loaded(written, tmp_path)
    assert new.parameters == (LR, Int("bs", 8, 128))
    assert (new.name, new.max_trials, new.first_trials) == ("gan-bayes-2", 40, ())
    added = [line for line in written.splitlines() if line not in text.splitlines()]
    assert added == [
        "# The search after gan-bayes, written by gantune next; changed as commented below",
        "  name: gan-bayes-2",
        "  # run 40 trials: still improves",
        "  maxTrialCount: 40",
        "  # shrink lr to [0.0001, 0.004]: because of {odd}: [text] # here",
        '      min: "0.0001"',
        '      max: "0.004"',
        "  # widen bs to [8, 128]: on the bound",
        '      min: "8"',
    ]
    gone = [line.strip() for line in text.splitlines() if line not in written.splitlines()]
    lost = [line for line in gone if "#" in line]
    assert lost == [], "no comment of the author is lost"


def test_fixed_value_enters_the_command(tmp_path: Path) -> None:
    text, experiment = shipped("bayes")
    written = revise(text, experiment, [FIX], name="x")
    new = loaded(written, tmp_path)
    assert [parameter.name for parameter in new.parameters] == ["lr"]
    assert set(new.template.references) == {"lr", "trial"}
    assert "- --bs=64\n" in written
    assert "# fix bs at 64: no effect\n" in written


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_manifest_has_a_next(path: Path, tmp_path: Path) -> None:
    experiment = manifest.load(path)
    last = experiment.parameters[-1]
    value = last.choices[0] if isinstance(last, Categorical | Discrete) else last.low
    changes = (
        [Change(Kind.FIX, last.name, "no effect", value=value)]
        if len(experiment.parameters) > 1
        else []
    )
    changes += (
        [Change(Kind.BUDGET, "", "the grid has this many points", trials=3)]
        if path.stem == "grid"
        else []
    )
    written = revise(path.read_text(), experiment, changes, name="next")
    assert loaded(written, tmp_path).parameters == experiment.parameters[:-1]
    before = {problem.rule for problem in check_data(path.read_bytes(), "")}
    assert {problem.rule for problem in check_data(written.encode(), "")} <= before


def test_document_without_text_is_written(tmp_path: Path) -> None:
    experiment = manifest.from_document(
        experiments.document(parameters=[experiments.LR, experiments.BS])
    )
    written = revise("", experiment, [SHRINK, FIX], name="study-2")
    new = loaded(written, tmp_path)
    assert new.parameters == (LR,)
    container = new.template.spec["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--lr=${trialParameters.lr}", "--bs=64"]
    assert 'value: "7"' in written, "a number that is text stays text"


def test_fixed_value_never_becomes_code() -> None:
    line = "train --lr ${trialParameters.lr} --act ${trialParameters.bs}"
    experiment = manifest.from_document(experiments.document(command=["sh", "-c"], args=[line]))
    for value in ("$(touch X)", "a; touch X"):
        with pytest.raises(CommandError, match=r"of parameter bs could be code"):
            revise("", experiment, [replace(FIX, value=value)], name="study-2")
    assert "--act relu" in revise("", experiment, [replace(FIX, value="relu")], name="study-2")


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system [touch X]", "!!python/object/new:os.system [touch X]"],
)
def test_tags_of_a_manifest_create_no_objects(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, experiment = shipped("bayes")
    other = f"---\nkind: Other\nvalue: {tag}\n"
    written = revise(text + other, experiment, [], name="gan-bayes-2")
    assert tag.split(" ", 1)[0] in written
    assert list(tmp_path.iterdir()) == []


def test_text_of_another_study_is_not_used(tmp_path: Path) -> None:
    text, _ = shipped("tpe")
    experiment = manifest.from_document(experiments.document())
    assert (
        loaded(revise(text, experiment, [], name="study-2"), tmp_path).parameters
        == experiment.parameters
    )


def test_widened_choices_are_loaded(tmp_path: Path) -> None:
    experiment = manifest.from_document(experiments.document("grid", trials=9))
    space = Discrete("bs", ("16", "32", "64"))
    changes = [Change(Kind.WIDEN, "bs", "bound", space=space)]
    written = revise("", experiment, changes, name="s")
    new = loaded(written, tmp_path)
    assert new.parameters[1] == space


def test_one_parameter_stays_with_its_comment(tmp_path: Path) -> None:
    text, experiment = shipped("wide")
    kept = ("lr", "r1Gamma")
    fixed = [
        Change(
            Kind.FIX,
            p.name,
            "no effect",
            value=p.choices[0] if isinstance(p, Categorical | Discrete) else p.low,
        )
        for p in experiment.parameters
        if p.name not in kept
    ]
    written = revise(text, experiment, fixed, name="wide-2")
    assert [p.name for p in loaded(written, tmp_path).parameters] == list(kept)
    lines = [
        line
        for line in text.splitlines()
        if line.strip().startswith(("- name: lr #", "- name: r1Gamma #"))
    ]
    assert len(lines) == 2
    assert all(line in written.splitlines() for line in lines)


def test_invalid_next_manifest_is_refused() -> None:
    text, experiment = shipped("bayes")
    bad = Change(Kind.SHRINK, "lr", "x", space=replace(LR, low=1.0, high=0.1))
    with pytest.raises(GantuneError, match=r"the next manifest would not be valid \(line \d+\)"):
        revise(text, experiment, [bad], name="x")


def test_names_count_up() -> None:
    assert [next_name(name) for name in ("gan", "gan-2", "gan-9", "resnet-50", "x-1")] == [
        "gan-2", "gan-3", "gan-10", "resnet-51", "x-1-2"
    ]  # fmt: skip
