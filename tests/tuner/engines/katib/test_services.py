"""Which suggestion service answers: what `submit` says about it, and which settings it adds for ours."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.tuner.experiments import document
from tests.tuner.experiments import run as run_locally
from tests.tuner.loopback import Loopback
from tuner import manifest
from tuner.engines.katib import KatibEngine
from tuner.engines.katib.services import Kind, service_of
from tuner.errors import StudyChanged, UnsupportedError
from tuner.experiment.model import AlgorithmSpec, Experiment, with_first_trials
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.samplers.earlier import EARLIER_SETTING, MOST_EARLIER
from tuner.samplers.first import FIRST_SETTING

OVERLAYS = Path(__file__).parents[4] / "manifests" / "overlays"
FAULT = "or install manifests/overlays/katib-suggestions, whose service does not have this fault"


def config(name: str) -> str:
    return (OVERLAYS / name / "katib-config.yaml").read_text()


def configure(server: Loopback, text: str) -> None:
    """Let the cluster have this katib-config."""
    [held] = [item for key, item in server.objects.items() if key[2] == "katib-config"]
    server.put("configmaps", copy.deepcopy(held) | {"data": {"katib-config.yaml": text}})


def bayes(trials: int = 20, **options: Any) -> Experiment:
    body = document("bayesianoptimization", trials=trials, **options)
    body["metadata"] |= {"namespace": "gan", "name": "bayes"}
    body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["restartPolicy"] = (
        "Never"
    )
    return manifest.from_document(body)


def sent(server: Loopback) -> dict[str, str]:
    """The algorithm settings of the Experiment on the cluster."""
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    return {each["name"]: each["value"] for each in item["spec"]["algorithm"]["algorithmSettings"]}


def earlier(count: int, name: str = "before") -> Result:
    trials = tuple(
        Trial(
            n,
            f"{name}-{n}",
            TrialState.SUCCEEDED,
            {"lr": 1e-5 + n * 1e-6, "bs": 32 + n % 97},
            {"fd": float(n)},
        )
        for n in range(count)
    )
    return Result(name, StudyState.SUCCEEDED, bayes().objective, trials)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("ghcr.io/gan-tuner/suggestion:0.1.0", Kind.OURS),
        ("mirror.example/gan-tuner/suggestion@sha256:00", Kind.OURS),
        ("ghcr.io/kubeflow/katib/suggestion-skopt:v0.19.0", Kind.STOCK),
        ("lab.local/katib/suggestion-hyperopt:py1", Kind.STOCK),
        ("example.com/my-suggestion:1", Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
    ],
)
def test_service_is_recognized_by_its_image(image: str, kind: Kind) -> None:
    assert service_of({"image": image}).kind is kind


def test_submit_says_who_answers(server: Loopback, engine: KatibEngine) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(bayes())
    assert engine.served == (
        "bayesianoptimization is served by the suggestion service of gan-tuner (ghcr.io/gan-tuner/suggestion:0.1.0)"
    )


@pytest.mark.parametrize(
    ("overlay", "memory", "trials", "warned"),
    [
        ("katib", "100Mi", 46, True),
        ("katib", "100Mi", 45, False),
        ("katib", "256Mi", 90, False),
        ("katib", "256Mi", 91, True),
        ("katib", "1Gi", 500, False),
        ("katib-suggestions", "100Mi", 500, False),
    ],
)
def test_skopt_memory_matters_only_below_limit(
    overlay: str,
    memory: str,
    trials: int,
    warned: bool,
    server: Loopback,
    engine: KatibEngine,
    notes: list[str],
) -> None:
    configure(server, config(overlay).replace("memory: 1Gi", f"memory: {memory}"))
    engine.submit(bayes(trials))
    found = [note for note in notes if "is killed" in note]
    assert bool(found) is warned
    assert all(note.endswith(FAULT) for note in found)


@pytest.mark.parametrize(("overlay", "warned"), [("katib", True), ("katib-suggestions", False)])
def test_equal_tpe_points_are_a_hyperopt_fault(
    overlay: str, warned: bool, server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config(overlay))
    body = copy.deepcopy(dict(bayes().document))
    body["spec"]["algorithm"] = {"algorithmName": "tpe", "algorithmSettings": []}
    engine.submit(manifest.from_document(body))
    assert any("gives the same point" in note and note.endswith(FAULT) for note in notes) is warned


def with_first() -> Experiment:
    return with_first_trials(bayes(), [{"lr": "2e-3", "bs": "64"}])


def test_first_trials_become_a_setting_of_ours(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(with_first())
    assert json.loads(sent(server)[FIRST_SETTING]) == [{"lr": 0.002, "bs": 64}]
    engine.submit(with_first())  # joined: the added setting is no difference
    assert any(note.startswith("joined bayes") for note in notes)
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    # what was read back is valid
    assert manifest.from_object(item).first_trials == with_first().first_trials


def test_note_names_first_trials_beyond_the_budget(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(
        with_first_trials(bayes(trials=1), [{"lr": "2e-3", "bs": bs} for bs in ("32", "64")])
    )
    assert (
        "only 1 of the 2 first trials run, because maxTrialCount is 1; set it to 2 or more" in notes
    )


def test_joined_study_keeps_its_first_trials(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(with_first())
    engine.submit(bayes())  # names none, so nothing is lost
    assert not any("will not run" in note for note in notes)
    engine.submit(with_first_trials(with_first(), [{"lr": "3e-3"}]))
    assert notes[-1] == "1 of the first trials will not run: bayes was already on the cluster"
    assert engine.store.experiment("bayes").first_trials == ({"lr": 0.002, "bs": 64},)


def test_unreadable_annotations_of_a_live_search_are_ignored(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(bayes())
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    invalid = {
        "gan-tuner/first-trials": "lr=2e-3",
        "gan-tuner/stop-factors": '{"0": 1}',
        "team": "a",
    }
    item["metadata"]["annotations"] = invalid  # Katib does not check them
    server.put("experiments", item)
    assert engine.result("bayes").baseline == {}
    assert engine.store.experiment("bayes").document["metadata"]["annotations"] == {"team": "a"}
    engine.submit(with_first())
    assert notes[-1] == "1 of the first trials will not run: bayes was already on the cluster"
    assert engine.store.experiment("bayes").first_trials == ()


OBEYS = {
    "env": [
        {
            "name": "GAN_TUNER_STOP_AT",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['gan-tuner/stop-at']"}},
        }
    ]
}


def on_cluster(server: Loopback) -> dict[str, Any]:
    """The spec of the Experiment on the cluster."""
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    spec: dict[str, Any] = item["spec"]
    return spec


def test_our_service_receives_stop_factors(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    what = replace(bayes(container=OBEYS), stop_factors=((1, 2.0), (4, 1.5)))
    engine.submit(what)
    assert json.loads(sent(server)["stop_factors"]) == {"1": 2.0, "4": 1.5}
    assert on_cluster(server)["objective"]["additionalMetricNames"] == ["loss", "stopped"]
    assert not any("stop" in note for note in notes)
    engine.submit(what)  # the same Experiment
    assert notes[-1].startswith("joined bayes")


def test_our_service_replaces_katibs_medianstop(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    text = YAML(typ="safe", pure=True).load(config("katib-suggestions"))
    text["runtime"]["earlyStoppings"] = []  # it is not needed
    configure(server, json.dumps(text))
    what = bayes(early_stopping={"start_step": "2"})
    engine.submit(what)
    assert json.loads(sent(server)["medianstop"]) == {"start_step": "2"}
    assert "earlyStopping" not in on_cluster(server)
    assert any("must have the variable GAN_TUNER_STOP_AT" in note for note in notes)
    engine.submit(what)
    assert notes[-1].startswith("joined bayes")
    with pytest.raises(StudyChanged, match="earlyStopping"):
        engine.submit(bayes(early_stopping={"start_step": "3"}))


def test_stock_service_stops_no_trial(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib"))
    engine.submit(replace(bayes(), stop_factors=((1, 2.0),)))
    assert "stop_factors" not in sent(server)
    assert any("the stop factors stop no trial: bayesianoptimization" in note for note in notes)


def test_first_trials_do_not_reach_a_stock_service(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib"))
    engine.submit(with_first())
    assert FIRST_SETTING not in sent(server)
    assert any(
        note.startswith("the manifest's 1 first trials will not run: bayesianoptimization")
        for note in notes
    )


def test_warm_start_gives_the_local_engines_points(
    server: Loopback, engine: KatibEngine, notes: list[str], tmp_path: Path
) -> None:
    """The setting makes the same sampler that `gantune run --warm-start` makes."""
    configure(server, config("katib-suggestions"))
    before = earlier(30)
    outside = replace(before.trials[0], number=30, parameters={"lr": 7.0, "bs": 64})
    engine.earlier = replace(before, trials=(*before.trials, outside))
    engine.submit(bayes())
    assert "30 trials of before are known to the sampler, 1 lie outside this space" in notes
    [item] = [item for key, item in server.objects.items() if key[0] == "experiments"]
    remote = manifest.from_document(item).sampler(7)
    local = bayes().sampler(7)
    known = [({each.name: each.encode(t.parameters[each.name]) for each in local.dimensions}, t.metrics["fd"])
             for t in before.trials]  # fmt: skip
    assert remote.propose([]) == bayes().sampler(7, known).propose([])
    assert remote.propose([]) != local.propose([])


def test_large_earlier_study_is_cut_to_a_bound(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.earlier = earlier(1000)
    engine.submit(bayes())
    rows = json.loads(sent(server)[EARLIER_SETTING])["trials"]
    assert len(rows) == MOST_EARLIER
    assert [row[-1] for row in rows[:100]] == list(range(100))  # the best half, minimized
    assert rows[-1][-1] > 900
    assert any("800 are left out for their number" in note for note in notes)


def test_warm_start_does_not_change_joined_search(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    configure(server, config("katib-suggestions"))
    engine.submit(bayes())
    engine.earlier = earlier(3)
    engine.submit(bayes())
    assert EARLIER_SETTING not in sent(server)
    assert notes[-1] == "--warm-start has no effect: bayes was already on the cluster"


def test_warm_start_on_stock_service_names_overlay(server: Loopback, engine: KatibEngine) -> None:
    configure(server, config("katib"))
    engine.earlier = earlier(3)
    with pytest.raises(
        UnsupportedError,
        match=r"--warm-start is not possible: .*install manifests/overlays/katib-sug",
    ):
        engine.submit(bayes())
    assert not any(key[0] == "experiments" for key in server.objects)


@pytest.mark.parametrize(
    "written", ["", "[]", "{}", '{"parameters": 3, "trials": [[1]]}', "x" * 200_000, "[" * 9_000]
)
def test_unreadable_setting_is_one_sentence(written: str) -> None:
    algorithm = AlgorithmSpec("tpe", {EARLIER_SETTING: written or "null"})
    with pytest.raises(UnsupportedError, match="setting earlier_trials must be"):
        replace(bayes(), algorithm=algorithm).sampler(0)


def test_submit_warm_starts_from_a_local_study(
    server: Loopback,
    kubeconfig: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.tuner.experiments import TRIALS
    from tuner.cli import main

    monkeypatch.chdir(TRIALS)
    configure(server, config("katib-suggestions"))
    run_locally(tmp_path / "store", manifest.from_document(document("random", name="before")))
    body = dict(bayes().document)
    file = tmp_path / "bayes.yaml"
    with file.open("w") as target:
        YAML().dump(body, target)
    monkeypatch.setattr(
        "sys.argv",
        ["gantune", "submit", str(file), "--warm-start=before", f"--store={tmp_path}/store"],
    )
    with pytest.raises(SystemExit) as done:
        main()
    told = capsys.readouterr()
    assert done.value.code in (0, None), told.err
    assert len(json.loads(sent(server)[EARLIER_SETTING])["trials"]) == 9
    assert "bayesianoptimization is served by the suggestion service of gan-tuner" in told.err
