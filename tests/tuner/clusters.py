"""What the tests of the katib engine share: playing a recording, and listening to a watch."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.tuner.loopback import Loopback
from tuner.engines.base import Event, EventKind
from tuner.engines.katib import KatibEngine
from tuner.engines.katib.clock import Clock
from tuner.kube import Cluster
from tuner.store.studies import Store

SPEED = 50.0  # of the tests' clock: the first look for a stall comes after 0.4 s instead of 20
NOWHERE = "127.0.0.1:9"  # no DB manager


class FastClock(Clock):
    """A clock that runs `speed` times as fast as the machine's."""

    def __init__(self, speed: float = SPEED) -> None:
        self.speed = speed

    def now(self) -> float:
        return time.monotonic() * self.speed

    def timeout(self, seconds: float) -> float:
        return seconds / self.speed


def engine_on(store: Path, **options: Any) -> KatibEngine:
    """An engine on the KUBECONFIG's cluster, quick, without a DB manager."""
    return KatibEngine(
        Cluster.connect(), Store(store), **({"clock": FastClock(), "db_manager": NOWHERE} | options)
    )


def play(server: Loopback, scenario: str) -> threading.Thread:
    """Begin a scenario, and go on with it in the background."""
    steps = server.steps(scenario)
    next(step for step in steps if step["kind"] == "experiments")

    def rest() -> None:
        for _ in steps:
            time.sleep(0.001)

    thread = threading.Thread(target=rest, daemon=True)
    thread.start()
    return thread


def play_until(
    server: Loopback, scenario: str, good: Callable[[dict[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """Replay up to the first change that is `good`; the rest can be had from what is returned."""
    steps = server.steps(scenario)
    next(step for step in steps if good(step))
    return steps


def condition(step: dict[str, Any], kind: str, name: str) -> bool:
    """Whether the change gives an object of this kind a true condition."""
    found = step["object"].get("status", {}).get("conditions") or ()
    return step["kind"] == kind and any(c["type"] == name and c["status"] == "True" for c in found)


def change(
    server: Loopback, plural: str, name: str, edit: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    """Edit an object as a controller would: the next version, to be seen by every watch."""
    item = copy.deepcopy(
        next(item for key, item in server.objects.items() if key[0] == plural and key[2] == name)
    )
    edit(item)
    return server.put(plural, item)


def go_on(server: Loopback, name: str) -> None:
    """Let an Experiment that has ended be Created, no more."""
    change(
        server,
        "experiments",
        name,
        lambda it: it["status"].update(conditions=it["status"]["conditions"][:1]),
    )


def all_watched(server: Loopback) -> None:
    """Wait until the three watches have begun; what fails before that, the first list, ends the watch."""
    end = time.monotonic() + 10
    while server.count("GET", "watch=1") < 3:
        assert time.monotonic() < end
        time.sleep(0.01)


def names(server: Loopback, plural: str, part: str = "") -> list[str]:
    """The names of the objects of a kind."""
    return sorted(key[2] for key in server.objects if key[0] == plural and part in key[2])


def warnings(events: list[Event]) -> list[str]:
    """What was warned of."""
    return [event.message for event in events if event.kind is EventKind.WARNING]


def told(events: list[Event], kind: EventKind) -> list[str]:
    """The trials of which this was told, in order."""
    return [event.trial.name for event in events if event.kind is kind and event.trial]


def until(events: Iterator[Event], good: Callable[[Event], bool]) -> list[Event]:
    """Events up to the first that is `good`; the watch is closed then."""
    seen = []
    for event in events:
        seen.append(event)
        if good(event):
            events.close()  # type: ignore[attr-defined]
            return seen
    raise AssertionError(f"never came; last {seen[-1:]}")


def until_warned(events: Iterator[Event], words: str) -> list[str]:
    """The warnings up to the one that holds `words`."""
    return warnings(
        until(events, lambda event: event.kind is EventKind.WARNING and words in event.message)
    )
