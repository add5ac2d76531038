"""A user who may read the Experiment but may not list its trials: the store keeps what it had."""

from __future__ import annotations

import pytest

from tests.tuner.clusters import go_on
from tests.tuner.loopback import Loopback
from tuner.engines.katib import KatibEngine
from tuner.errors import Forbidden
from tuner.result import StudyState

REFUSED = {
    "kind": "Status",
    "status": "Failure",
    "message": 'trials.kubeflow.org is forbidden: User "reader" cannot list resource "trials" in API group '
    '"kubeflow.org" in the namespace "gan"',
    "reason": "Forbidden",
    "code": 403,
}


def refuse_trials(server: Loopback) -> None:
    for _ in range(5):
        server.answer("GET", "/trials", 403, REFUSED)


def test_refused_watch_stores_nothing(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    refuse_trials(server)
    with pytest.raises(Forbidden, match=r'the RBAC rule to add: .*"trials".*"list"'):
        list(engine.watch("random-ok"))
    assert engine.store.names() == []


def test_refused_collect_stores_nothing(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    refuse_trials(server)
    with pytest.raises(Forbidden, match="trials"):
        engine.result("random-ok")
    assert engine.store.names() == []


def test_refused_watch_keeps_earlier_results(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    engine.result("random-ok")
    before = engine.store.result("random-ok")
    refuse_trials(server)
    with pytest.raises(Forbidden, match="trials"):
        list(engine.watch("random-ok"))
    assert engine.store.result("random-ok") == before
    assert len(before.trials) == 6


def test_refused_watch_leaves_study_running(server: Loopback, engine: KatibEngine) -> None:
    """A study that was stored while it ran is not marked as finished without its trials."""
    server.replay("random-ok")
    finished = server.objects["experiments", "gan", "random-ok"]
    go_on(server, "random-ok")
    engine.result("random-ok")
    server.put("experiments", finished)
    refuse_trials(server)
    with pytest.raises(Forbidden, match="trials"):
        list(engine.watch("random-ok"))
    assert engine.store.result("random-ok").state is StudyState.RUNNING
