"""tuner.kube: requests, errors and streams, over real HTTP against what a real API server said."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path

import pytest

from tests.tuner.loopback import RESPONSES, Loopback, many
from tuner.errors import ClusterError, Conflict, Denied, Forbidden, NoCluster, NotFound, Timeout, Unreachable
from tuner.kube import EXPERIMENTS, NODES, TRIALS, Cluster, Resource, has_katib
from tuner.kube.failures import Expired, Request, from_status
from tuner.kube.following import Change, ChangeKind, follow
from tuner.kube.streams import Stop

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
        ("create-denied-by-validator", Denied, "spec.parallelTrialCount: Invalid value: 0: must be greater than 0"),
        ("create-denied-by-defaulter", Denied, "cannot unmarshal string into Go struct field"),
        ("create-namespace-unlabelled", Denied, "katib.kubeflow.org/metrics-collector-injection: enabled"),
        ("create-namespace-missing", NotFound, 'namespaces "nosuch" not found'),
        ("create-name-invalid", Denied, "a lowercase RFC 1123 subdomain must consist of"),
        ("forbidden-create-403", Forbidden, 'resources: ["experiments"], verbs: ["create"]'),
        ("unauthorized-401", Forbidden, "log in again"),
        ("unknown-resource-404", NotFound, "install it: kubectl apply -k"),
    ],
)
def test_a_refused_create_keeps_the_servers_words_and_is_sent_once(
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
    assert '{apiGroups: ["kubeflow.org"], resources: ["experiments/status"], verbs: ["patch"]}' in message


def test_a_create_is_not_repeated_when_the_server_fails(server: Loopback, cluster: Cluster) -> None:
    server.answer("POST", "/experiments", 503, {"message": "overloaded"})
    with pytest.raises(Unreachable, match="503: overloaded"):
        cluster.create(EXPERIMENTS, BODY, namespace="gan")
    assert server.count("POST") == 1


def test_a_create_is_repeated_once_when_the_webhook_was_silent(server: Loopback, cluster: Cluster) -> None:
    down = {"message": 'Internal error occurred: failed calling webhook "validator...": context deadline exceeded'}
    server.answer("POST", "/experiments", 500, down)
    assert cluster.create(EXPERIMENTS, BODY, namespace="gan")["metadata"]["name"] == "made"
    assert server.count("POST") == 2


def test_a_get_is_repeated_until_the_server_is_well(server: Loopback, cluster: Cluster) -> None:
    for status in (500, 429, 503):
        server.answer("GET", "/nodes", status, {"message": "not now"})
    assert [node["metadata"]["name"] for node in cluster.list(NODES)] == ["lab"]
    assert server.count("GET", "/nodes") == 4


def test_a_get_gives_up_when_the_server_stays_away(server: Loopback, cluster: Cluster) -> None:
    server.silent = True
    with pytest.raises(Unreachable, match=r"no API server answers at http://127\.0\.0\.1:\d+") as caught:
        cluster.get(EXPERIMENTS, "made", namespace="gan")
    assert caught.value.__cause__ is not None
    assert server.count("GET") == 4


def test_a_slow_answer_is_a_timeout(server: Loopback, cluster: Cluster) -> None:
    cluster._timeout = 0.05
    with server.changed, pytest.raises(Timeout, match="did not answer in time"):  # the server waits for the lock
        cluster.create(EXPERIMENTS, {"metadata": {"name": "slow"}}, namespace="gan")


def test_an_answer_that_is_no_json_is_said(server: Loopback, cluster: Cluster) -> None:
    server.answer("GET", "/experiments/", 200, "<html>a login page</html>")
    server.scripted *= 4
    with pytest.raises(Unreachable, match="does not answer as an API server does: <html>"):
        cluster.get(EXPERIMENTS, "made", namespace="gan")


def test_a_list_comes_in_pages_and_whole(server: Loopback, cluster: Cluster) -> None:
    for plural, item in many(600):
        server.put(plural, item)
    names = {trial["metadata"]["name"] for trial in cluster.list(TRIALS, namespace="gan")}
    assert len(names) == 600
    assert server.count("GET", "/trials") == 3


def test_a_list_that_expires_between_two_pages_begins_again(server: Loopback, cluster: Cluster) -> None:
    for plural, item in many(300):
        server.put(plural, item)
    server.answer("GET", "continue=", 410, {"message": "The provided continue parameter is too old", "code": 410})
    assert len(list(cluster.list(TRIALS, namespace="gan"))) == 300


def test_a_watch_from_an_old_version_is_expired(server: Loopback, cluster: Cluster) -> None:
    server.expire()
    with pytest.raises(Expired, match="too old resource version"):
        list(cluster.watch(TRIALS, "1", namespace="gan"))


def test_following_lists_again_after_410_and_after_a_cut(server: Loopback, cluster: Cluster) -> None:
    server.replay("random-ok")
    stop = Stop()
    changes = follow(cluster, EXPERIMENTS, stop, namespace="gan", first_wait=0.01)
    assert [change.kind for change in islice(changes, 2)] == [ChangeKind.LISTED, ChangeKind.SYNCED]
    later = threading.Timer(0.2, server.expire)
    later.start()
    seen = _until_synced(changes)
    assert [change.kind for change in seen][-2:] == [ChangeKind.LISTED, ChangeKind.SYNCED]
    item = server.objects["experiments", "gan", "random-ok"]
    threading.Timer(0.2, server.put, ("experiments", dict(item, touched=1))).start()
    assert next(change for change in changes if change.kind is ChangeKind.PUT).object["touched"] == 1
    stop.set()


def _until_synced(changes: object) -> list[Change]:
    seen = []
    for change in changes:
        seen.append(change)
        if change.kind is ChangeKind.SYNCED:
            return seen
    raise AssertionError("the stream ended")


def test_without_any_kubeconfig_there_is_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(NoCluster, match="set KUBECONFIG or pass --local"):
        Cluster.connect()


@pytest.mark.parametrize("text", ["", "[]", "a: [", "clusters: 3\ncurrent-context: x", "\x00"])
def test_a_broken_kubeconfig_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unreachable) as caught:
        Cluster.connect()
    assert "\n" not in str(caught.value)


def test_an_unknown_context_is_named(kubeconfig: Path) -> None:
    with pytest.raises(Unreachable, match="no usable context prod"):
        Cluster.connect("prod")


def test_has_katib_says_yes_and_why_not(server: Loopback, kubeconfig: Path) -> None:
    assert has_katib(timeout=30) == (True, f"{server.url} has Katib")
    server.katib = False
    found, why = has_katib(timeout=30)
    assert not found
    assert "this cluster has no Katib" in why


def test_names_cannot_leave_their_place_in_the_path() -> None:
    path = Resource("kubeflow.org", "v1beta1", "trials").path("gan", "../../secrets?x=1")
    assert path == "/apis/kubeflow.org/v1beta1/namespaces/gan/trials/..%2F..%2Fsecrets%3Fx%3D1"
