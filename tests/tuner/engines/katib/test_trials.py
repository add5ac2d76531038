"""The roster: whose pod speaks, what outlives it, and how trials are numbered."""

from __future__ import annotations

import itertools

import pytest

from tuner.engines.katib.objects import PodView
from tuner.engines.katib.trials import Arrivals, Listed, in_order, merged, placed, youngest
from tuner.result import Trial, TrialState


def pod(name: str, created: str, reason: str = "", node: str = "", trial: str = "t") -> PodView:
    return PodView(name, trial, created, node, "Running", reason, ())


def trial(
    name: str = "t", number: int = 0, state: TrialState = TrialState.RUNNING, **of: str
) -> Trial:
    return Trial(number, name, state, {}, reason=of.get("reason", ""), node=of.get("node", ""))


def test_youngest_pod_decides_in_any_order() -> None:
    first, second = pod("z", "2026-01-01T00:00:00Z", "OOMKilled"), pod("a", "2026-01-01T00:00:09Z")
    assert youngest([first, second]) == youngest([second, first]) == {"t": second}


def test_reason_comes_from_the_pod_that_has_one() -> None:
    master, worker = (
        pod("master", "1"),
        pod("a-worker", "1", "Unschedulable: 1 Insufficient nvidia.com/gpu"),
    )
    assert youngest([worker, master]) == youngest([master, worker]) == {"t": worker}


@pytest.mark.parametrize(
    ("fresh", "now", "known", "reason", "node"),
    [
        (trial(), pod("p", "1", "Unschedulable"), None, "Unschedulable", ""),
        # the pod has gone, and its reason too
        (trial(), None, trial(reason="Unschedulable", node="n"), "found", ""),
        (trial(state=TrialState.SUCCEEDED), None, trial(node="n"), "", "n"),
        (
            trial(state=TrialState.FAILED, reason="limit"),
            None,
            trial(reason="Unschedulable", node="n"),
            "limit",
            "n",
        ),
        (
            trial(state=TrialState.FAILED, reason="limit"),
            None,
            trial(state=TrialState.FAILED, reason="OOMKilled", node="n"),
            "OOMKilled",
            "n",
        ),
        (
            trial(state=TrialState.FAILED, reason="limit"),
            pod("p", "1", "OOMKilled", "m"),
            None,
            "OOMKilled",
            "m",
        ),
        (
            trial(state=TrialState.METRICS_UNAVAILABLE, reason="no fd"),
            pod("p", "1", "exit code 1"),
            None,
            "no fd",
            "",
        ),
    ],
)
def test_what_is_said_of_a_trial(
    fresh: Trial, now: PodView | None, known: Trial, reason: str, node: str
) -> None:
    said = placed(fresh, now, known, "found")
    assert (said.reason, said.node) == (reason, node)


def test_numbers_ignore_order_of_arrival() -> None:
    """Two trials of the same second get the same numbers, whichever comes first."""
    listed = [Listed("1", trial("b")), Listed("1", trial("a")), Listed("2", trial("c"))]
    for order in itertools.permutations(listed):
        arrivals = Arrivals()
        for now, one in enumerate(order):
            arrivals.put(one, float(now))
        assert [one.trial.name for one in in_order(arrivals.take())] == ["a", "b", "c"]
        assert arrivals.take() == []


def test_later_second_does_not_delay_earlier() -> None:
    arrivals = Arrivals()
    for now, one in enumerate(
        [Listed("1", trial("b")), Listed("2", trial("c")), Listed("1", trial("a"))]
    ):
        arrivals.put(one, float(now))
    assert [one.trial.name for one in in_order(arrivals.take(before=0.5))] == ["a", "b"]
    assert arrivals.get("c") == trial("c")
    assert arrivals.take(before=0.5) == []
    assert [one.trial.name for one in in_order(arrivals.take(before=1.0))] == ["c"]


def test_numbers_are_kept_and_follow_creation() -> None:
    listed = [
        Listed("3", trial("a")),
        Listed("2", trial("b")),
        Listed("2", trial("c")),
        Listed("1", trial("d")),
    ]
    trials = merged(
        listed, {}, [trial("b", 5), trial("gone", 7, TrialState.SUCCEEDED), trial("lost", 2)]
    )
    assert [(one.number, one.name) for one in trials] == [
        (2, "lost"), (5, "b"), (7, "gone"), (8, "d"), (9, "c"), (10, "a"),
    ]  # fmt: skip
    assert [one.state for one in trials[:3]] == [
        TrialState.KILLED,
        TrialState.RUNNING,
        TrialState.SUCCEEDED,
    ]


def test_label_decides_the_number_whatever_the_order() -> None:
    listed = [Listed("1", trial("b"), 2), Listed("3", trial("a"), 0), Listed("2", trial("c"), 1)]
    for order in itertools.permutations(listed):
        assert [one.name for one in merged(order, {}, [])] == ["a", "c", "b"]


def test_number_is_not_given_twice() -> None:
    labels = {"a": 3, "b": 3, "c": None, "d": 1}
    listed = [
        Listed(str(second), trial(name), label)
        for second, (name, label) in enumerate(labels.items())
    ]
    assert [(one.number, one.name) for one in merged(listed, {}, [])] == [
        (1, "d"),
        (3, "a"),
        (4, "b"),
        (5, "c"),
    ]
