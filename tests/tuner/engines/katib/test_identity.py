"""Which Experiment a study is: one name in two places, or twice; what the store refuses before a cluster is asked."""

from __future__ import annotations

import copy
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.clusters import change, names
from tests.tuner.loopback import RESPONSES, Loopback, many
from tuner.engines.katib import KatibEngine
from tuner.engines.local import LocalEngine
from tuner.errors import Conflict, NotFound, StudyError
from tuner.experiment.model import Experiment
from tuner.kube import Cluster
from tuner.manifest import from_document
from tuner.result import StudyState, TrialState
from tuner.store.studies import EngineKind, Store

BODY = RESPONSES["create-201"]["request"]["body"]


def experiment(**spec: Any) -> Experiment:
    body = copy.deepcopy(BODY)
    body["spec"] |= spec
    return from_document(body)


def big(server: Loopback, count: int, namespace: str) -> None:
    for plural, item in many(count, namespace=namespace):
        item["metadata"]["uid"] = f"{namespace}-{item['metadata']['name']}"
        server.put(plural, item)


def test_one_name_in_two_namespaces_is_two_studies(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    big(server, 2, "team-a")
    big(server, 3, "team-b")
    counts = []
    for namespace in ("team-a", "team-b", "team-a", "team-b"):
        engine.namespace = namespace
        counts.append(len(engine.result("big").trials))
        assert len(engine.store.result("big").trials) == counts[-1]
    assert counts == [2, 3, 2, 3]
    assert engine.store.names() == ["big", "big.1"]
    assert len(engine.store.result("big.1").trials) == 2
    engine.namespace = ""
    assert len(engine.result("big").trials) == 3  # where it was collected last
    assert "the store's big was another Experiment: its results are big.1 now" in notes


def test_stop_keeps_what_the_archive_alone_knows(server: Loopback, engine: KatibEngine) -> None:
    big(server, 2, "team-a")
    big(server, 3, "team-b")
    engine.namespace = "team-a"
    engine.result("big")
    server.remove("trials", "team-a", "big-00000000")
    engine.namespace = "team-b"
    engine.result("big")
    engine.namespace = "team-a"
    engine.stop("big")
    assert [trial.name for trial in engine.store.result("big").trials] == [
        "big-00000000",
        "big-00000001",
    ]
    assert engine.store.archived("big.2") == "big"


def test_experiment_named_like_archive_keeps_it(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    big(server, 2, "gan")
    change(server, "experiments", "big", lambda item: item.update(status={}))  # at work
    engine.result("big")
    big(server, 3, "team-b")
    engine.namespace = "team-b"
    engine.result("big")
    dotted = copy.deepcopy(server.objects["experiments", "gan", "gpu-unschedulable"])
    dotted["metadata"] |= {"name": "big.1", "uid": "dotted"}
    server.put("experiments", dotted)
    engine.namespace = "gan"
    assert engine.result("big.1").trials == ()
    assert [engine.store.archived(name) for name in engine.store.names()] == ["", "", "big"]
    archive = engine.store.result("big.2")
    assert (archive.state, len(archive.trials)) == (StudyState.RUNNING, 2)


def test_a_damaged_archive_stands_in_nobodys_way(server: Loopback, engine: KatibEngine) -> None:
    for count, namespace in enumerate(("team-a", "team-b", "gan"), 1):
        big(server, count, namespace)
        engine.namespace = namespace
        assert len(engine.result("big").trials) == count
        for path in engine.store.root.glob("big.*/*.json"):
            path.write_text("{")
    assert list(engine.watch("big"))[-1].result.state is StudyState.SUCCEEDED


def test_another_cluster_has_its_own(server: Loopback, engine: KatibEngine, tmp_path: Path) -> None:
    big(server, 2, "gan")
    engine.result("big")
    with Loopback() as other:
        engine.cluster = _cluster(other, tmp_path / "other")
        with pytest.raises(NotFound, match=rf"the store has it from {server.url}: pass --context"):
            engine.result("big")
        big(other, 3, "gan")
        change(other, "experiments", "big", lambda item: item["metadata"].update(uid="another"))
        assert len(engine.result("big").trials) == 3
    assert len(engine.store.result("big.1").trials) == 2


def _cluster(server: Loopback, path: Path) -> Cluster:
    before, os.environ["KUBECONFIG"] = os.environ["KUBECONFIG"], str(server.kubeconfig(path))
    try:
        return Cluster.connect()
    finally:
        os.environ["KUBECONFIG"] = before


def test_deleted_name_accepts_another_spec(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    big(server, 2, "gan")
    body = copy.deepcopy(server.objects["experiments", "gan", "big"])
    engine.result("big")
    # at work again, when it is deleted
    change(server, "experiments", "big", lambda item: item.update(status={}))
    assert engine.delete("big").state is StudyState.DELETED
    body["spec"]["parameters"] = body["spec"]["parameters"][:1]
    assert engine.submit(from_document({**body, "metadata": {"name": "big"}})) == "big"
    new = engine.store.result("big")
    assert (new.state, new.trials) == (StudyState.RUNNING, ())
    assert len(engine.store.experiment("big").parameters) == 1
    assert len(engine.store.result("big.1").trials) == 2
    assert any("its results are big.1 now" in note for note in notes)


def test_replaced_running_experiment_is_finished(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    engine.result("gpu-unschedulable")
    body = copy.deepcopy(server.remove("experiments", "gan", "gpu-unschedulable"))
    engine.submit(from_document({**body, "metadata": {"name": "gpu-unschedulable"}}))
    old = engine.store.result("gpu-unschedulable.1")
    assert old.state is StudyState.DELETED
    assert {trial.state for trial in old.trials} == {TrialState.KILLED}


def test_an_old_watch_writes_into_its_own_study(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    watch = engine.watch("gpu-unschedulable")
    next(event for event in watch if len(event.result.trials) == 2)
    body = copy.deepcopy(server.objects["experiments", "gan", "gpu-unschedulable"])
    server.remove("experiments", "gan", "gpu-unschedulable")
    engine.submit(from_document({**body, "metadata": {"name": "gpu-unschedulable"}}))
    assert list(watch)[-1].result.state is StudyState.DELETED
    assert engine.store.result("gpu-unschedulable").trials == ()
    assert len(engine.store.result("gpu-unschedulable.1").trials) == 2


def test_a_local_study_may_have_the_same_name(
    server: Loopback, engine: KatibEngine, tmp_path: Path
) -> None:
    here = Store(tmp_path / "store").of(EngineKind.LOCAL)
    here.submit(experiment())
    assert engine.submit(experiment()) == "made"
    assert engine.result("made").state is StudyState.RUNNING
    assert here.names() == engine.store.names() == ["made"]
    assert "origin" not in (here.held("made") or {})


@pytest.mark.parametrize("generate", [False, True])
def test_unwritable_store_is_reported_before_creation(
    server: Loopback, engine: KatibEngine, tmp_path: Path, generate: bool
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    metadata = {"generateName": "made-"} if generate else {"name": "made"}
    with pytest.raises(StudyError, match="cannot be written"):
        engine.submit(from_document(copy.deepcopy(BODY) | {"metadata": metadata}))
    assert server.count("POST") == 0


def test_store_failure_after_creation_is_a_warning(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    def full(item: dict[str, Any]) -> None:
        shutil.rmtree(engine.store.root)
        engine.store.root.write_text("")

    server.controller = full
    assert engine.submit(experiment()) == "made"
    assert any(
        note.startswith("made is on the cluster, but could not be stored: ") for note in notes
    )


def test_one_that_is_being_deleted_is_waited_for(server: Loopback, engine: KatibEngine) -> None:
    server.finalizing = True
    engine.submit(experiment())
    change(
        server,
        "experiments",
        "made",
        lambda item: item["metadata"].update(finalizers=["update-prometheus-metrics"]),
    )
    engine.delete("made")
    uid = server.objects["experiments", "gan", "made"]["metadata"]["uid"]
    threading.Timer(0.05, server.remove, ("experiments", "gan", "made")).start()
    assert engine.submit(experiment()) == "made"
    assert server.objects["experiments", "gan", "made"]["metadata"]["uid"] != uid
    assert server.count("POST") == 2


def test_one_that_never_goes_is_a_conflict(server: Loopback, engine: KatibEngine) -> None:
    server.finalizing = True
    engine.submit(experiment())
    change(
        server, "experiments", "made", lambda item: item["metadata"].update(finalizers=["stuck"])
    )
    engine.delete("made")
    with pytest.raises(
        Conflict, match="being deleted since 2026-11-22T19:19:13Z: submit it again when it is gone"
    ):
        engine.submit(experiment())
    assert server.count("POST") == 1


def test_template_is_read_from_config_map(server: Loopback, engine: KatibEngine) -> None:
    big(server, 2, "gan")
    item = server.objects["experiments", "gan", "big"]
    written = item["spec"]["trialTemplate"].pop("trialSpec")
    source = {"configMapName": "templates", "configMapNamespace": "gan", "templatePath": "job.yaml"}
    item["spec"]["trialTemplate"]["configMap"] = source
    assert len(engine.result("big").trials) == 2  # nothing but an export needs it
    assert engine.store.experiment("big").template.spec == {}
    metadata = {"name": "templates", "namespace": "gan"}
    server.put("configmaps", {"metadata": metadata, "data": {"job.yaml": json.dumps(written)}})
    engine.result("big")
    assert engine.store.experiment("big").template.spec == written
    engine.stop("big")
    engine.delete("big")


def test_going_on_here_leaves_the_clusters_study(
    server: Loopback, engine: KatibEngine, tmp_path: Path
) -> None:
    """`gantune run FILE --local --warm-start NAME`, with the FILE that NAME came from, then once more with --fresh."""
    server.replay("random-ok")
    body = copy.deepcopy(server.objects["experiments", "gan", "random-ok"])
    engine.result("random-ok")
    container = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    container["command"] = [
        "python",
        "-c",
        "open('/var/log/katib/metrics.log', 'w').write('fd=1\\n')",
    ]
    container["args"] = ["${trialParameters.lr}", "${trialParameters.bs}"]
    body["spec"] |= {"maxTrialCount": 1, "parallelTrialCount": 1, "maxFailedTrialCount": 1}
    for fresh in (False, True):
        here = LocalEngine(
            Store(tmp_path / "store"), warm_start="random-ok", workers=1, fresh=fresh
        )
        events = list(here.run(from_document({**body, "metadata": {"name": "random-ok"}})))
        assert any(
            "6 trials of random-ok are known to the sampler" in event.message for event in events
        )
    assert len(engine.store.result("random-ok").trials) == 6
    assert len(here.result("random-ok").trials) == 1


def test_fresh_never_clears_the_clusters_study(
    server: Loopback, engine: KatibEngine, tmp_path: Path
) -> None:
    server.replay("random-ok")
    engine.result("random-ok")
    held = engine.store.experiment("random-ok")
    Store(tmp_path / "store").of(EngineKind.LOCAL).submit(held, fresh=True)
    assert len(engine.store.result("random-ok").trials) == 6


def test_a_local_study_may_start_over_from_itself(
    engine: KatibEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tuner import experiments

    monkeypatch.chdir(experiments.TRIALS)
    what = experiments.experiment(trials=3)
    experiments.run(tmp_path / "store", what)
    again = LocalEngine(Store(tmp_path / "store"), warm_start="study", fresh=True)
    assert any(
        "3 trials of study are known" in event.message for event in experiments.events(again, what)
    )


def test_only_its_own_objects_are_touched(server: Loopback, engine: KatibEngine) -> None:
    big(server, 2, "team-a")
    big(server, 3, "team-b")
    engine.namespace = "team-a"
    engine.delete("big")
    assert {key[1] for key in server.objects if key[0] == "trials"} == {"team-b"}
    assert len(names(server, "trials")) == 3
