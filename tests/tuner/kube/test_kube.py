"""tuner.kube: requests, errors and streams, over real HTTP against what a real API server said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tuner.loopback import RESPONSES, TOKEN, Loopback, many
from tuner.errors import (
    ClusterError,
    Conflict,
    Deadline,
    Denied,
    Forbidden,
    NoKatib,
    NotFound,
    Timeout,
    Unreachable,
)
from tuner.kube import EXPERIMENTS, NODES, TRIALS, Cluster, Resource, has_katib
from tuner.kube.errors import Expired, Request, from_status

BODY = RESPONSES["create-201"]["request"]["body"]


@pytest.fixture
def cluster(kubeconfig: Path) -> Cluster:
    cluster = Cluster.connect(timeout=30)
    cluster._backoff = 0.01
    return cluster


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("create-again-409", Conflict, 'experiments.kubeflow.org "made" already exists'),
        (
            "create-denied-by-validator",
            Denied,
            "spec.parallelTrialCount: Invalid value: 0: must be greater than 0",
        ),
        ("create-denied-by-defaulter", Denied, "cannot unmarshal string into Go struct field"),
        (
            "create-namespace-unlabelled",
            Denied,
            "katib.kubeflow.org/metrics-collector-injection: enabled",
        ),
        ("create-namespace-missing", NotFound, 'namespaces "nosuch" not found'),
        ("create-name-invalid", Denied, "a lowercase RFC 1123 subdomain must consist of"),
        ("forbidden-create-403", Forbidden, 'resources: ["experiments"], verbs: ["create"]'),
        ("unauthorized-401", Forbidden, "log in again"),
        ("unknown-resource-404", NoKatib, "install it: kubectl apply -k"),
    ],
)
def test_refused_create_is_sent_once_and_quoted(
    server: Loopback, cluster: Cluster, answer: str, kind: type[ClusterError], words: str
) -> None:
    server.recorded("POST", "/experiments", answer)
    with pytest.raises(kind) as caught:
        cluster.create(EXPERIMENTS, BODY, namespace="gan")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert server.count("POST") == 1


def test_forbidden_names_the_rule_for_a_subresource() -> None:
    request = Request("patch", EXPERIMENTS, "gan", "made", "status")
    says = 'experiments.kubeflow.org "made" is forbidden: User "u" cannot patch resource "experiments/status"'
    message = str(from_status(403, json.dumps({"message": says}), request))
    assert (
        '{apiGroups: ["kubeflow.org"], resources: ["experiments/status"], verbs: ["patch"]}'
        in message
    )


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (
            'admission webhook "validation.gatekeeper.sh" denied the request: [labels] you must provide labels',
            Denied,
        ),
        (
            'experiments.kubeflow.org "made" is forbidden: exceeded quota: trials, requested: count=1, used: 3',
            Forbidden,
        ),
        ("unable to create new content in namespace gan because it is being terminated", Forbidden),
    ],
)
def test_403_outside_rbac_names_no_rule(
    server: Loopback, cluster: Cluster, says: str, kind: type[ClusterError]
) -> None:
    server.answer("POST", "/experiments", 403, {"kind": "Status", "message": says, "code": 403})
    with pytest.raises(kind) as caught:
        cluster.create(EXPERIMENTS, BODY, namespace="gan")
    assert says.partition("denied the request: ")[2] or says in str(caught.value)
    assert "RBAC" not in str(caught.value)
    assert type(caught.value) is kind


def test_a_webhooks_message_is_never_cut(server: Loopback, cluster: Cluster) -> None:
    says = "; ".join(f"spec.parameters[{i}]: must have a name" for i in range(60))
    message = (
        f'admission webhook "validator.experiment.katib.kubeflow.org" denied the request: {says}'
    )
    server.answer("POST", "/experiments", 400, {"kind": "Status", "message": message, "code": 400})
    with pytest.raises(Denied, match=r"name$") as caught:
        cluster.create(EXPERIMENTS, BODY, namespace="gan")
    assert says in str(caught.value)


def test_a_gateways_timeout_is_no_deadline(server: Loopback, cluster: Cluster) -> None:
    for _ in range(4):
        server.answer(
            "GET", "/trials", 504, {"message": "the server was unable to return a response in time"}
        )
    with pytest.raises(Timeout, match="took too long") as caught:
        list(cluster.list(TRIALS, namespace="gan"))
    assert not isinstance(caught.value, Deadline)
    assert (caught.value.exit_code, Deadline.exit_code) == (6, 5)


def test_expired_token_says_to_log_in(server: Loopback, kubeconfig: Path) -> None:
    kubeconfig.write_text(
        kubeconfig.read_text().replace(f'"token": "{TOKEN}"', '"token": "expired"')
    )
    with pytest.raises(Forbidden, match=r"401 Unauthorized.*log in again"):
        list(Cluster.connect().list(TRIALS, namespace="gan"))


def test_create_is_not_repeated_after_server_error(server: Loopback, cluster: Cluster) -> None:
    server.answer("POST", "/experiments", 503, {"message": "overloaded"})
    with pytest.raises(Unreachable, match="503: overloaded"):
        cluster.create(EXPERIMENTS, BODY, namespace="gan")
    assert server.count("POST") == 1


def test_create_is_repeated_once_after_webhook_timeout(server: Loopback, cluster: Cluster) -> None:
    down = {
        "message": 'Internal error occurred: failed calling webhook "validator...": context deadline exceeded'
    }
    server.answer("POST", "/experiments", 500, down)
    assert cluster.create(EXPERIMENTS, BODY, namespace="gan")["metadata"]["name"] == "made"
    assert server.count("POST") == 2


def test_get_is_repeated_until_server_recovers(server: Loopback, cluster: Cluster) -> None:
    for status in (500, 429, 503):
        server.answer("GET", "/nodes", status, {"message": "not now"})
    assert [node["metadata"]["name"] for node in cluster.list(NODES)] == ["lab"]
    assert server.count("GET", "/nodes") == 4


def test_get_gives_up_on_absent_server(server: Loopback, cluster: Cluster) -> None:
    server.silent = True
    with pytest.raises(
        Unreachable, match=r"no API server responds at http://127\.0\.0\.1:\d+"
    ) as caught:
        cluster.get(EXPERIMENTS, "made", namespace="gan")
    assert caught.value.__cause__ is not None
    assert server.count("GET") == 4


def test_a_slow_answer_is_a_timeout(server: Loopback, cluster: Cluster) -> None:
    cluster._timeout = 0.05
    # the server waits for the lock
    with server.changed, pytest.raises(Timeout, match="did not answer in time"):
        cluster.create(EXPERIMENTS, {"metadata": {"name": "slow"}}, namespace="gan")


def test_an_answer_that_is_no_json_is_said(server: Loopback, cluster: Cluster) -> None:
    server.answer("GET", "/experiments/", 200, "<html>a login page</html>")
    server.scripted *= 4
    with pytest.raises(Unreachable, match="does not answer like an API server: <html>"):
        cluster.get(EXPERIMENTS, "made", namespace="gan")


def test_a_list_comes_in_pages_and_whole(server: Loopback, cluster: Cluster) -> None:
    for plural, item in many(600):
        server.put(plural, item)
    names = {trial["metadata"]["name"] for trial in cluster.list(TRIALS, namespace="gan")}
    assert len(names) == 600
    assert server.count("GET", "/trials") == 3


def test_list_expired_between_pages_restarts(server: Loopback, cluster: Cluster) -> None:
    for plural, item in many(300):
        server.put(plural, item)
    server.answer(
        "GET",
        "continue=",
        410,
        {"message": "The provided continue parameter is too old", "code": 410},
    )
    assert len(list(cluster.list(TRIALS, namespace="gan"))) == 300


def test_a_watch_from_an_old_version_is_expired(server: Loopback, cluster: Cluster) -> None:
    server.expire()
    with pytest.raises(Expired, match="too old resource version"):
        list(cluster.watch(TRIALS, "1", namespace="gan"))


def test_has_katib_says_yes_and_why_not(server: Loopback, kubeconfig: Path) -> None:
    assert has_katib(timeout=30) == (True, f"{server.url} has Katib")
    server.katib = False
    found, why = has_katib(timeout=30)
    assert not found
    assert "this cluster has no Katib" in why


def test_names_cannot_leave_their_place_in_the_path() -> None:
    path = Resource("kubeflow.org", "v1beta1", "trials").path("gan", "../../secrets?x=1")
    assert path == "/apis/kubeflow.org/v1beta1/namespaces/gan/trials/..%2F..%2Fsecrets%3Fx%3D1"
