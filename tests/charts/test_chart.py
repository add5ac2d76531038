"""charts/gan-tuner under Helm 3 and 4: lint, helm-unittest, validity, and the same Experiments as manifests/."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import rendering as k8s
from tuner.samplers.labels import NUMBER_LABEL, SEARCH_LABEL

CHART = k8s.ROOT / "charts" / "gan-tuner"
CASES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
HELMS = ("helm", "helm4")


@functools.cache
def render(*options: str, helm: str = "helm") -> str:
    """What `helm install gan charts/gan-tuner -n gan-tuner OPTIONS` would send."""
    command = [
        k8s.tool(helm),
        "template",
        "gan",
        str(CHART),
        "--namespace=gan-tuner",
        "--kube-version=1.36.0",
        *options,
    ]
    return k8s.output(*command)


def settings(*pairs: str) -> str:
    return "--set=" + ",".join(pairs)


def searches(*options: str) -> dict[str, dict[str, Any]]:
    """Experiments by their key in the values."""
    found = [d for d in k8s.documents(render(*options)) if d["kind"] == "Experiment"]
    return {d["metadata"]["labels"]["gan-tuner/search"]: d for d in found}


def values() -> dict[str, Any]:
    return k8s.documents((CHART / "values.yaml").read_text())[0]


def leaves(node: Any, path: str = "") -> list[str]:
    """Dotted paths of all values; a list is one value, and so is an empty map."""
    if isinstance(node, dict) and node:
        return [
            leaf
            for key, child in node.items()
            for leaf in leaves(child, f"{path}.{key}" if path else key)
        ]
    return [path]


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("case", [None, *CASES])
def test_lint_is_strict(helm: str, case: str | None) -> None:
    options = ["-f", str(CHART / "ci" / case)] if case else []
    k8s.output(k8s.tool(helm), "lint", "--strict", str(CHART), *options)


def test_helm_unittest_passes() -> None:
    k8s.output(k8s.tool("untt"), "-f", "tests/*_test.yaml", str(CHART))


@pytest.mark.parametrize("case", [None, *CASES])
def test_helm_3_and_4_render_the_same(case: str | None) -> None:
    options = ("-f", str(CHART / "ci" / case)) if case else ()
    three, four = (k8s.documents(render(*options, helm=helm)) for helm in HELMS)
    assert sorted(map(json.dumps, three)) == sorted(map(json.dumps, four))


@pytest.mark.parametrize("version", k8s.VERSIONS)
def test_renders_valid_objects(version: str, tmp_path: Path) -> None:
    objects = []
    for case in (None, *CASES):
        options = ("-f", str(CHART / "ci" / case)) if case else ()
        if case == "everything-values.yaml" and version < "1.34":
            options += (settings("gpu.mode=devicePlugin"),)
        objects += k8s.documents(render(*options))
    trials = [k8s.trial(document) for document in objects if document["kind"] == "Experiment"]
    # of the Prometheus operator
    known = [document for document in objects if document["kind"] != "PodMonitor"]
    assert len(known) == len(objects) - 1
    k8s.kubeconform(known + trials, version, tmp_path)


def comparable(experiment: dict[str, Any]) -> dict[str, Any]:
    """An Experiment without what a release adds: its names, labels, account, and the order of flags and strategies."""
    spec = json.loads(json.dumps(experiment["spec"]))
    job = spec["trialTemplate"]["trialSpec"]
    template = job["spec"]["template"]
    template["metadata"]["labels"].pop("app.kubernetes.io/instance", None)
    template["spec"].pop("serviceAccountName", None)
    container = template["spec"]["containers"][0]
    # the last one counts
    container["args"] = dict(flag.partition("=")[::2] for flag in container["args"])
    for claim in template["spec"].get("resourceClaims", []):
        claim["resourceClaimTemplateName"] = "the claim"
    for volume in template["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = "the volume"
    spec["algorithm"]["algorithmSettings"].sort(key=lambda setting: setting["name"])
    return spec


@pytest.mark.parametrize("name", k8s.SEARCHES)
def test_chart_matches_manifest(name: str) -> None:
    own = k8s.experiment(k8s.search(name))
    charted = searches("-f", str(CHART / "ci" / "searches-values.yaml"))[name]
    pod = own["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["nodeSelector"]["nvidia.com/gpu.present"] = "true"  # the chart always names a pool
    assert comparable(charted) == comparable(own)
    assert annotations(charted) == annotations(own)


def annotations(experiment: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations of gan-tuner: JSON as values, so that its order does not matter."""
    ours = {
        name: text
        for name, text in experiment["metadata"]["annotations"].items()
        if name.startswith("gan-tuner/")
    }
    return {name: json.loads(text) if text[0] in "[{" else text for name, text in ours.items()}


POOLS = {
    "cpu": ["gpu.pool=none"],
    "generic": [],
    "gke": ["gpu.pool=gke"],
    "eks": ["gpu.pool=eks"],
    "aks": ["gpu.pool=aks"],
    "mig": ["gpu.mode=mig"],
    "dra": ["gpu.mode=dra"],
    "kueue": ["kueue.queueName=gan-tuner"],
    "spot": ["spot.enabled=true", "checkpoints.enabled=true"],
}


@pytest.mark.parametrize("overlay", POOLS)
def test_chart_matches_overlay(overlay: str) -> None:
    charted = (
        searches(settings(*POOLS[overlay]))["bayes"] if POOLS[overlay] else searches()["bayes"]
    )
    assert comparable(charted) == comparable(k8s.experiment(k8s.overlay(overlay)))


@pytest.mark.parametrize("options", [(), ("--set=data.dataset=mnist,data.volume.enabled=true",)])
def test_chart_passes_gantune_check(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "chart.yaml").write_text(render(*options))
    assert k8s.check(tmp_path / "chart.yaml").endswith("no problems")


def test_init_container_waits_for_data(tmp_path: Path) -> None:
    trial = k8s.trial(searches("--set=data.dataset=mnist,data.volume.enabled=true")["bayes"])
    [wait] = trial["spec"]["template"]["spec"]["initContainers"]
    command = [
        *wait["command"],
        wait["args"][0].replace("/data/", f"{tmp_path}/").replace("sleep 2", "sleep 0.1"),
    ]
    file = tmp_path / "mnist" / "images.npz"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith(
            f"waiting for {file}, which the preparation Job of release gan"
        )
        assert waiting.poll() is None
        file.parent.mkdir()
        file.touch()
        assert waiting.wait(timeout=20) == 0
    assert (
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout == ""
    )


def jobs(*pairs: str) -> dict[str, str]:
    """Names of the release's own Jobs by their pod's component."""
    enabled = ("client.enabled=true", "data.dataset=fashion-mnist", "data.volume.enabled=true")
    found = [d for d in k8s.documents(render(settings(*enabled, *pairs))) if d["kind"] == "Job"]
    return {
        d["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: d["metadata"][
            "name"
        ]
        for d in found
    }


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("image.tag=other", {"prepare", "client"}),  # the client's Experiment is another then
        ("image.pullSecrets={s}", {"prepare", "client"}),
        ("trial.runAsUser=1234", {"prepare", "client"}),
        ("client.image.tag=other", {"client"}),
        ("katibNamespace=katib", {"client"}),
        ("podMonitor.labels.a=b", set()),
    ],
)
def test_changed_pod_gets_new_job(change: str, changed: set[str]) -> None:
    before, after = jobs(), jobs(change)
    assert {component for component in before if before[component] != after[component]} == changed


def test_job_name_fits_pod_label() -> None:
    release = "r" * 53  # Helm allows no more
    only = settings(
        "data.dataset=fashion-mnist", "data.volume.enabled=true", "experiments.bayes.enabled=false"
    )
    command = [k8s.tool("helm"), "template", release, str(CHART), "--kube-version=1.36.0", only]
    [job] = [d for d in k8s.documents(k8s.output(*command)) if d["kind"] == "Job"]
    assert len(job["metadata"]["name"]) <= 63


def test_immutable_fields_change_the_name() -> None:
    def name(*pairs: str) -> str:
        return str(
            searches(settings("experiments.bayes.resumePolicy=LongRunning", *pairs))["bayes"][
                "metadata"
            ]["name"]
        )

    assert name("experiments.bayes.budget.trials=40") == name()
    assert name("podMonitor.labels.a=b") == name()
    assert name("image.tag=other") != name()
    assert name("experiments.bayes.algorithm.settings.acq_func=EI") != name()


def test_extended_search_gets_new_client() -> None:
    extensible = ("client.enabled=true", "experiments.bayes.resumePolicy=LongRunning")
    changed = [("trials", 40), ("parallel", 1), ("maxFailed", 5)]
    first, *others = (
        (
            searches(settings(*extensible, *pairs))["bayes"]["metadata"]["name"],
            jobs(*extensible, *pairs)["client"],
        )
        for pairs in (
            [],
            *([f"experiments.bayes.budget.{count}={value}"] for count, value in changed),
        )
    )
    assert {name for name, _ in others} == {first[0]}
    assert len({first[1], *(client for _, client in others)}) == 1 + len(changed)


def test_finished_search_is_replaced() -> None:
    name = [
        searches(settings(f"experiments.bayes.budget.trials={n}"))["bayes"]["metadata"]["name"]
        for n in (20, 40)
    ]
    assert name[0] != name[1]


def test_large_numbers_keep_all_digits(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        "trial: {runAsUser: 1000650000, activeDeadlineSeconds: 2500000}\n"
        "experiments: {bayes: {budget: {trials: 3000000, parallel: 1, maxFailed: 2000000}}}\n"
    )
    spec = searches("-f", str(tmp_path / "values.yaml"))["bayes"]["spec"]
    assert (spec["maxTrialCount"], spec["maxFailedTrialCount"]) == (3000000, 2000000)
    job = spec["trialTemplate"]["trialSpec"]["spec"]
    assert job["activeDeadlineSeconds"] == 2500000
    assert job["template"]["spec"]["securityContext"]["runAsUser"] == 1000650000
    assert "e+" not in render("-f", str(tmp_path / "values.yaml"))


def test_refuses_client_without_experiment() -> None:
    command = [
        k8s.tool("helm"),
        "template",
        "gan",
        str(CHART),
        "--set=client.enabled=true,client.experiment=other",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "client.experiment must name an enabled experiment, got other: use one of bayes"
        in done.stderr
    )


LIVE = """\
suite: counts of an Experiment that is there
release: {name: gan, namespace: gan-tuner}
capabilities: {apiVersions: [kubeflow.org/v1beta1/Experiment]}
templates: [experiments.yaml]
tests:
- it: says what Katib would
  set: {experiments.bayes.resumePolicy: LongRunning, experiments.bayes.budget.trials: TRIALS}
  kubernetesProvider:
    scheme:
      kubeflow.org/v1beta1/Experiment:
        gvr: {group: kubeflow.org, version: v1beta1, resource: experiments}
        namespaced: true
    objects:
    - apiVersion: kubeflow.org/v1beta1
      kind: Experiment
      metadata: {name: NAME, namespace: gan-tuner}
      spec: {maxTrialCount: 20.0, parallelTrialCount: 2.0, maxFailedTrialCount: 4.0} # its fake copies no int
      status: {trials: 20.0, conditions: [{type: Running, status: "False"}, CONDITION]}
  asserts:
  - ASSERTION
"""
TRUE = '{type: %s, status: "True", reason: Experiment%s}'
AT_ITS_TRIALS = TRUE % ("Succeeded", "MaxTrialsReached")
AT_ITS_GOAL = TRUE % ("Succeeded", "GoalReached")
FAILED = TRUE % ("Failed", "Failed")
RUNNING = TRUE % ("Running", "Running")


@pytest.mark.parametrize(
    ("condition", "trials", "refusal"),
    [
        (AT_ITS_TRIALS, 40, None),
        (AT_ITS_TRIALS, 19, "greater than the 20 trials .*, got 19: increase .*trials"),
        (RUNNING, 19, "greater than the 20 trials"),
        (RUNNING, 21, None),
        (AT_ITS_GOAL, 40, "finished with ExperimentGoalReached: use another key"),
        (FAILED, 40, "another key .*--set experiments.bayes.budget.trials=20,"),
        (FAILED, 20, None),  # nothing changes
    ],
)
def test_refuses_counts_that_katib_refuses(
    condition: str, trials: int, refusal: str | None, tmp_path: Path
) -> None:
    name = searches(settings("experiments.bayes.resumePolicy=LongRunning"))["bayes"]["metadata"][
        "name"
    ]
    assertion = (
        f"failedTemplate: {{errorPattern: '{refusal}'}}" if refusal else "hasDocuments: {count: 1}"
    )
    suite = (
        LIVE.replace("NAME", name).replace("TRIALS", str(trials)).replace("CONDITION", condition)
    )
    chart = shutil.copytree(CHART, tmp_path / "gan-tuner", ignore=shutil.ignore_patterns("tests"))
    shutil.copytree(CHART / "templates" / "tests", chart / "templates" / "tests")
    (chart / "tests").mkdir()
    (chart / "tests" / "live_test.yaml").write_text(suite.replace("ASSERTION", assertion))
    k8s.output(k8s.tool("untt"), "-f", "tests/*_test.yaml", str(chart))


def test_chart_leaves_trial_labels_to_service() -> None:
    """Katib finds trials by the Experiment's labels, and would lose those whose labels a suggestion replaces."""
    for experiment in searches("-f", str(CHART / "ci" / "searches-values.yaml")).values():
        assert not {NUMBER_LABEL, SEARCH_LABEL} & experiment["metadata"]["labels"].keys()


@pytest.mark.parametrize("wanted", [False, True])
def test_notes_say_how_to_install_the_suggestion_service(wanted: bool) -> None:
    command = ["install", "gan", str(CHART), "-n", "gan-tuner", "--dry-run=client"]
    notes = k8s.output(
        k8s.tool("helm4"),
        *command,
        settings(f"suggestionService.instructions={str(wanted).lower()}"),
    )
    commands = [
        line.strip()
        for line in notes.splitlines()
        if "katib-suggestions" in line or "rollout" in line
    ]
    assert (
        commands
        == [
            "kubectl apply --server-side --force-conflicts -k manifests/overlays/katib-suggestions",
            "kubectl -n kubeflow rollout restart deployment katib-controller",
        ]
        * wanted
    )


def test_notes_show_next_commands() -> None:
    name = searches()["bayes"]["metadata"]["name"]
    command = [
        k8s.tool("helm4"),
        "install",
        "gan",
        str(CHART),
        "-n",
        "gan-tuner",
        "--dry-run=client",
    ]
    assert f"gantune watch {name} -n gan-tuner" in k8s.output(*command)
