"""The rules of tests.tuner.suggestion.sequences on a few searches; `make chaos` plays 2,000."""

from __future__ import annotations

import pytest

from tests.tuner.suggestion import sequences


def test_random_request_sequences_keep_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sequences.run(20, start=1)
