"""Whatever Katib or somebody else sends, the answer is a gRPC status with one sentence, and the next request works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from kubeflow.katib import katib_api_pb2 as api
from kubeflow.katib import katib_api_pb2_grpc as stubs

from tests.tuner.experiments import BS, LR, document
from tests.tuner.suggestion.controller import Controller, Trial, message_of, serving
from tests.tuner.suggestion.test_parity import surface
from tuner import check
from tuner.katib import yamlfile
from tuner.suggestion.server import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


def refusal(channel: grpc.Channel, request: Any) -> str:
    """The message of INVALID_ARGUMENT, after which the service still answers."""
    stub = stubs.SuggestionStub(channel)
    validated = isinstance(request, api.ValidateAlgorithmSettingsRequest)
    call = stub.ValidateAlgorithmSettings if validated else stub.GetSuggestions
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    assert caught.value.code() is INVALID
    assert (
        len(stub.GetSuggestions(Controller(document(), surface).request(1)).parameter_assignments)
        == 1
    )
    message = str(caught.value.details())
    assert "\n" not in message
    assert len(message) < 500
    return message


def both(channel: grpc.Channel, what: dict[str, Any]) -> str:
    """The refusal of an Experiment, the same from both methods."""
    told = refusal(channel, Controller(what, surface).request(1))
    assert told == refusal(
        channel, api.ValidateAlgorithmSettingsRequest(experiment=message_of(what))
    )
    return told


def changed(kind: str, **space: Any) -> dict[str, Any]:
    return document(
        "tpe", parameters=[LR, {"name": "x", "parameterType": kind, "feasibleSpace": space}]
    )


SPACES = [
    changed("double", min="2", max="1"),
    changed("double", min="a", max="1"),
    changed("double", min="0", max="inf"),
    changed("double", min="0", max="1", distribution="logUniform"),
    changed("double", min="0", max="1", step="-1"),
    changed("int", min="1.5", max="3"),
    changed("int", max="3"),
    changed("double", min="0", max="1", list=["1"]),
    changed("categorical"),
    changed("categorical", list=["a", "a"]),
    changed("discrete", list=["1", "two"]),
    document("grid", parameters=[LR]),
    document("grid", trials=10),
    document("cmaes", parameters=[LR]),
    document("tpe", parameters=[]),
    document("tpe", parameters=[LR, LR]),
    document("tpe", settings={"gamma": "2"}),
    document("tpe", settings={"gamma": "x" * 100_000}),
    document("tpe", settings={"n_startup_trials": "3"}),
    document("bayesianoptimization", settings={"random_state": "-1"}),
]


@pytest.mark.parametrize("what", SPACES, ids=range(len(SPACES)))
def test_message_is_that_of_gantune_check(what: dict[str, Any], channel: grpc.Channel) -> None:
    document_ = yamlfile.Document(what, "x.yaml", 1, {})
    found = [
        each.message
        for each in check.check_document(document_)
        if each.severity is check.Severity.ERROR
    ]
    assert both(channel, what) in found


def test_unknown_parameter_type_is_named(channel: grpc.Channel) -> None:
    told = both(channel, changed("fraction", min="0", max="1"))
    assert (
        told
        == "the type of parameter 'x' must be one of double, int, discrete, categorical, got 'unknown'"
    )


@pytest.mark.parametrize("name", ["pbt", "enas", "", "x" * 1_000_000])
def test_other_algorithm_gets_the_list_of_ours(name: str, channel: grpc.Channel) -> None:
    told = both(
        channel, document("random") | {"spec": document("random")["spec"] | algorithm(name)}
    )
    assert told.startswith(
        f"algorithm {name[:60]!r} is not available from this suggestion service; these are: grid,"
    )


def algorithm(name: str) -> dict[str, Any]:
    return {"algorithm": {"algorithmName": name, "algorithmSettings": []}}


def test_setting_that_only_another_engine_has(channel: grpc.Channel) -> None:
    told = both(channel, document("bayesianoptimization", settings={"base_estimator": "RF"}))
    assert told == (
        "setting base_estimator=RF of bayesianoptimization is not available locally: leave it out or write GP"
    )


@pytest.mark.parametrize(
    ("count", "total", "told"),
    [
        (0, 3, "current_request_number must be from 1 to 1000, got 0"),
        (-2, 3, "current_request_number must be from 1 to 1000, got -2"),
        (
            2_000_000_000,
            2_000_000_000,
            "current_request_number must be from 1 to 1000, got 2000000000",
        ),
        (3, -1, "total_request_number must be at least 0, got -1"),
        (
            1,
            2_000_000_000,
            "a search with random may have 10000 trials, got 2000000000; start a new one",
        ),
    ],
)
def test_impossible_count_is_refused(
    count: int, total: int, told: str, channel: grpc.Channel
) -> None:
    request = Controller(document(), surface).request(1)
    request.current_request_number, request.total_request_number = count, total
    assert refusal(channel, request).startswith(told)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"lr": "7", "bs": "64"},
            "trial t is outside the search space: lr=7 is not in [1e-05, 0.01]; if you",
        ),
        ({"lr": "1e-3", "bs": "x" * 100_000}, "trial t is outside the search space: bs=xxx"),
        ({"lr": "nan", "bs": "64"}, "trial t is outside the search space: lr=nan is not in"),
        (
            {"lr": "1e-3"},
            "trial t has no value for parameter bs; if you changed the search space, submit",
        ),
    ],
)
def test_trial_outside_the_space_is_named(
    values: dict[str, str], told: str, channel: grpc.Channel
) -> None:
    controller = Controller(document(), surface)
    controller.trials = [Trial("t", 0, values, {}, "SUCCEEDED", "1")]
    assert refusal(channel, controller.request(1)).startswith(told)


def test_text_that_is_not_utf8_is_refused(channel: grpc.Channel, server: Server) -> None:
    data = (
        Controller(document(), surface)
        .request(1)
        .SerializeToString()
        .replace(b"study", b"stu\xff\xfe")
    )
    for method in ("GetSuggestions", "ValidateAlgorithmSettings"):
        call = channel.unary_unary(f"/api.v1.beta1.Suggestion/{method}")
        for body in (data, b"\xff" * 1000, b""):
            with pytest.raises(grpc.RpcError) as caught:
                call(body, timeout=10)
            assert caught.value.code() is INVALID
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/api.v1.beta1.Suggestion/GetSuggestions")(data, timeout=10)
    assert caught.value.details().startswith("the request is not a message of GetSuggestions: ")


def test_ten_thousand_trials_are_answered(server: Server) -> None:
    controller = Controller(document("random", parallel=5), surface)
    controller.ask(server, 5)
    search = dict(controller.trials[0].labels)
    for number in range(5, 9_990):
        labels = {
            key: str(number) if key.endswith("number") else value for key, value in search.items()
        }
        controller.trials.append(
            Trial(f"t{number}", number, {"lr": "1e-3", "bs": "64"}, labels, "SUCCEEDED", "1")
        )
    assert len(controller.ask(server, 5)) == 5


def test_health_check_answers_while_a_request_is_computed(
    server: Server, channel: grpc.Channel
) -> None:
    health = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"\n\x1amanager.v1beta1.Suggestion", timeout=5) == b"\x08\x01"
    controller = Controller(document("bayesianoptimization", parallel=4, trials=14), surface)
    work: Callable[[], Any] = lambda: controller.run(lambda: server)  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        assert health(b"", timeout=10) == b"\x08\x01"
        time.sleep(0.02)
    assert len(controller.trials) == 14


def test_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/api.v1.beta1.Suggestion/Other")(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_two_experiments_share_a_server(server: Server) -> None:
    mixed = [
        Controller(document("tpe", parameters=[LR, BS], trials=14, parallel=2), surface)
        for _ in range(2)
    ]
    with serving() as other:
        alone = Controller(mixed[0].document, surface).run(lambda: other)
    for _ in range(14):
        for controller in mixed:
            controller.fill(server)
            controller.finish(controller.running[0])
    assert [[trial.values for trial in controller.trials] for controller in mixed] == [alone, alone]
