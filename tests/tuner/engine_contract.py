"""What every engine must do, as one class: subclass it as TestX with an `engine` and a `manifest` fixture.

engine: a fresh tuner.engines.base.Engine on an empty store. manifest: an Experiment that it can run to
its end in seconds, whose trials succeed. `changed` gives the same name with another search space.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest

from tuner.engines.base import Engine, EventKind
from tuner.errors import GantuneError, StudyChanged, UnsupportedError
from tuner.experiment.model import Experiment
from tuner.manifest import from_document
from tuner.result import Result, StudyState


class EngineContract:
    """Holds for the local engine and for Katib's."""

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    @pytest.fixture
    def manifest(self) -> Experiment:
        """What it runs."""
        raise NotImplementedError

    def test_study_ended_comes_once_and_last(self, engine: Engine, manifest: Experiment) -> None:
        kinds = [event.kind for event in engine.run(manifest)]
        assert kinds.index(EventKind.STUDY_ENDED) == len(kinds) - 1

    def test_each_trial_starts_once_and_finishes_once(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        events = list(engine.run(manifest))
        for trial in events[-1].result.trials:
            kinds = [
                event.kind for event in events if event.trial and event.trial.name == trial.name
            ]
            assert kinds.count(EventKind.TRIAL_ENDED) == 1
            assert EventKind.TRIAL_STARTED in kinds[: kinds.index(EventKind.TRIAL_ENDED)]

    def test_every_event_holds_the_whole_result(self, engine: Engine, manifest: Experiment) -> None:
        for event in engine.run(manifest):
            assert event.result.name == manifest.name
            if event.trial:
                assert event.trial.number in {trial.number for trial in event.result.trials}

    def test_watching_changes_nothing(self, engine: Engine, manifest: Experiment) -> None:
        *_, last = engine.run(manifest)
        *_, again = engine.watch(manifest.name)
        assert again.kind is EventKind.STUDY_ENDED
        assert again.result == last.result

    def test_view_shows_the_result_and_its_commands(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        *_, last = engine.run(manifest)
        view = engine.view(manifest.name, images=False)
        assert view.result == last.result
        assert view.experiment.parameters == manifest.parameters
        assert dict(view.record)["algorithm"].startswith(manifest.algorithm.name)
        assert set(view.commands) <= {trial.number for trial in last.result.trials}

    def test_result_is_what_the_last_event_gave(self, engine: Engine, manifest: Experiment) -> None:
        *_, last = engine.run(manifest)
        name = manifest.name
        assert engine.result(name) == last.result
        assert last.result.state is StudyState.SUCCEEDED

    def test_best_is_finite_and_first_of_equals(self, engine: Engine, manifest: Experiment) -> None:
        *_, last = engine.run(manifest)
        best, metric = last.result.best, manifest.objective.metric
        assert best is not None
        assert math.isfinite(best.metrics[metric])
        values = [t.metrics[metric] for t in last.result.trials if metric in t.metrics]
        assert not any(manifest.objective.better(value, best.metrics[metric]) for value in values)

    def test_result_survives_json(self, engine: Engine, manifest: Experiment) -> None:
        *_, last = engine.run(manifest)
        assert Result.from_json(json.loads(json.dumps(last.result.to_json()))) == last.result

    def test_submitting_again_joins_the_same_study(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        *_, last = engine.run(manifest)
        *_, again = engine.run(manifest)
        assert [trial.name for trial in again.result.trials] == [
            trial.name for trial in last.result.trials
        ]

    def test_another_manifest_under_the_name_is_refused(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        list(engine.run(manifest))
        # as written: that is what a cluster is asked for
        document = copy.deepcopy(dict(manifest.document))
        document["spec"]["parameters"] = document["spec"]["parameters"][:1]
        other = replace(from_document(document), name=manifest.name)
        with pytest.raises(StudyChanged) as caught:
            engine.run(other)
        assert isinstance(caught.value, GantuneError)
        assert "parameters" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_finished_study_is_listed_and_deleted(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        *_, last = engine.run(manifest)
        name = manifest.name
        (listed,) = engine.studies()
        assert listed[:3] == (name, StudyState.SUCCEEDED, len(last.result.trials))
        engine.stop(name)  # a finished study is not changed
        assert engine.result(name).state is StudyState.SUCCEEDED
        assert engine.delete(name) == last.result
        assert engine.studies() == []

    def test_extension_to_fewer_trials_is_refused(
        self, engine: Engine, manifest: Experiment
    ) -> None:
        *_, last = engine.run(manifest)
        name = manifest.name
        with pytest.raises(UnsupportedError, match="must exceed"):
            engine.extend(name, len(last.result.trials))
