"""Rules on spec.trialTemplate and the collector (validator.go:305-574)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tuner.check.fields import nearest
from tuner.check.rule import Finding, error, style, warning
from tuner.check.spec import CONFIG, DEFAULTS, VALIDATOR, one_of
from tuner.check.view import View, dig, strings
from tuner.errors import UnsupportedError
from tuner.katib.facts import COLLECTORS, PLACEHOLDER
from tuner.katib.filters import Filter
from tuner.katib.yamlfile import Path

AT: Path = ("spec", "trialTemplate")
SPEC_AT: Path = (*AT, "trialSpec")
KINDS = {
    "Job": "batch/v1", "TrainJob": "trainer.kubeflow.org/v1alpha1", "TFJob": "kubeflow.org/v1",
    "PyTorchJob": "kubeflow.org/v1", "MPIJob": "kubeflow.org/v1", "XGBoostJob": "kubeflow.org/v1",
}  # fmt: skip
META = re.compile(
    r"\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|(Annotations|Labels)\[.+\]|Annotations|Labels)\}"
)
TWO_GROUPS = re.compile(r".*\(.*\).*\(.*\).*")


def template(view: View) -> Iterator[Finding]:
    """Check that trialTemplate is complete."""
    if "trialTemplate" not in view.spec:
        yield AT, "spec.trialTemplate must be given"
        return
    if not view.template.get("primaryContainerName"):
        yield (
            AT,
            "trialTemplate.primaryContainerName must be given: the name of the container that trains",
        )
    if "trialParameters" not in view.template:
        yield (
            AT,
            "trialTemplate.trialParameters must be given: which parameter replaces which ${trialParameters.NAME}",
        )
    inline, by_map = "trialSpec" in view.template, view.template.get("configMap")
    if inline == (by_map is not None):
        yield (
            AT,
            f"trialTemplate must hold trialSpec or configMap, got {'both' if inline else 'neither'}",
        )
    keys = ("configMapName", "configMapNamespace", "templatePath")
    if by_map is not None and (missing := [key for key in keys if not by_map.get(key)]):
        yield (*AT, "configMap"), f"trialTemplate.configMap must hold {', '.join(missing)} too"
    if dig(view.job, "kind") not in list(KINDS):
        for key in ("successCondition", "failureCondition"):
            if not view.template.get(key):
                yield (
                    AT,
                    f"trialTemplate.{key} must be given: trialSpec is of none of the kinds {', '.join(KINDS)}",
                )


def trial_parameters(view: View) -> Iterator[Finding]:
    """Check that trialParameters have distinct names, and that each references a parameter."""
    names: set[str] = set()
    references: set[str] = set()
    known = [item.get("name", "") for _, item in view.parameters]
    for path, item in view.trial_parameters:
        name, reference = item.get("name", ""), item.get("reference", "")
        if not name or not reference or "{" in name or "}" in name:
            yield (
                path,
                f"a trialParameter needs a name (no braces) and a reference, got {name!r} and {reference!r}",
            )
        elif name in names:
            yield (*path, "name"), f"two trialParameters are named {name!r}; names must differ"
        elif reference in references:
            remedy = "use one trialParameter and its placeholder twice"
            yield (*path, "reference"), f"two trialParameters refer to {reference!r}; {remedy}"
        elif known and reference not in known and not META.search(reference):
            yield (
                (*path, "reference"),
                f"trialParameter {name!r} refers to {reference!r}, which is no parameter ({', '.join(known)})"
                f"{nearest(reference, known)}",
            )
        names.add(name)
        references.add(reference)


def placeholder(view: View) -> Iterator[Finding]:
    """Check that every trialParameter has a placeholder in trialSpec, and every placeholder a trialParameter."""
    if view.job is None:
        return
    used = dict.fromkeys(PLACEHOLDER.findall(view.job_text))
    for path, item in view.trial_parameters:
        if (name := item.get("name", "")) and name not in used:
            yield (
                (*path, "name"),
                f"${{trialParameters.{name}}} is not used in trialSpec{nearest(name, used)}",
            )
    for name in used:
        if name not in view.references and "trialParameters" in view.template:
            yield (
                SPEC_AT,
                f"${{trialParameters.{name}}} is not among trialParameters{nearest(name, view.references)}",
            )


def unreferenced(view: View) -> Iterator[Finding]:
    """Check that a trialParameter references every search parameter."""
    if not view.trial_parameters:
        return
    used = set(view.references.values())
    for path, item in view.parameters:
        name = item.get("name", "")
        if name and name not in used:
            yield (
                path,
                f"parameter {name!r} is never used; add {{name: {name}, reference: {name}}} to trialParameters",
            )


def trial_spec(view: View) -> Iterator[Finding]:
    """Check apiVersion, kind and metadata of the trial."""
    if view.job is None:
        return
    kind, version = view.job.get("kind"), view.job.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        yield SPEC_AT, "trialSpec must have apiVersion and kind, such as batch/v1 and Job"
    elif KINDS.get(kind, version) != version:
        yield (
            (*SPEC_AT, "apiVersion"),
            f"the apiVersion of a {kind} must be {KINDS[kind]}, got {version[:60]!r}",
        )
    for key in ("name", "namespace"):
        if dig(view.job, "metadata", key):
            yield (
                (*SPEC_AT, "metadata", key),
                f"trialSpec must have no metadata.{key}: Katib names each trial; take it out",
            )


def trial_kind(view: View) -> Iterator[Finding]:
    """Check that Katib watches this kind by default."""
    kind = dig(view.job, "kind")
    if isinstance(kind, str) and kind and kind not in KINDS:
        known = f"as it ships Katib watches {', '.join(KINDS)}"
        yield (
            (*SPEC_AT, "kind"),
            f"{known}, got {kind[:60]!r}; add it to trialResources in katib-config{nearest(kind, KINDS)}",
        )


def primary_container(view: View) -> Iterator[Finding]:
    """Check that a pod of a training operator's job has the primary container."""
    wanted = view.template.get("primaryContainerName", "")
    if view.is_batch_job or not wanted or not any(containers for _, _, containers in view.pods):
        return
    names = {
        role: [str(item.get("name")) for _, item in containers] for _, role, containers in view.pods
    }
    known = [name for each in names.values() for name in each]
    if wanted not in known:
        got = "; ".join(f"{role}: {', '.join(each) or 'none'}" for role, each in names.items())
        problem = f"is in no pod of the {dig(view.job, 'kind')} ({got}){nearest(wanted, known)}"
        yield (*AT, "primaryContainerName"), f"primaryContainerName {wanted!r} {problem}"


def image(view: View) -> Iterator[Finding]:
    """Check that every container has an image."""
    for _, _, containers in view.pods:
        for path, item in containers:
            if not item.get("image"):
                yield (
                    path,
                    f"container {str(item.get('name', ''))[:60]!r} must have an image: Kubernetes refuses the pod",
                )


def pod(view: View) -> Iterator[Finding]:
    """Check that the pod has the primary container, and a restartPolicy that a Job may have."""
    if not view.is_batch_job:
        return
    at = (*SPEC_AT, "spec", "template", "spec")
    wanted = view.template.get("primaryContainerName", "")
    names = [name for _, item in view.containers if isinstance(name := item.get("name"), str)]
    if not view.containers:
        yield SPEC_AT, "the Job must have spec.template.spec.containers"
    elif wanted and wanted not in names:
        got = f"the pod's containers are {', '.join(names)}"
        yield (
            (*AT, "primaryContainerName"),
            f"primaryContainerName {wanted!r} is not in the pod; {got}{nearest(wanted, names)}",
        )
    policy = dig(view.job, "spec", "template", "spec", "restartPolicy")
    if view.containers and policy not in ("Never", "OnFailure"):
        where = (*at, "restartPolicy") if policy else at
        yield (
            where,
            f"a Job's restartPolicy must be Never or OnFailure, got {policy or 'none, which is Always'!r}; write Never",
        )


def collector(view: View) -> Iterator[Finding]:
    """Check the kind of the collector, and its file or directory."""
    at: Path = ("spec", "metricsCollectorSpec")
    if view.collector not in COLLECTORS:
        yield (
            (*at, "collector"),
            f"the metrics collector's kind {one_of(view.collector, COLLECTORS)}",
        )
        return
    files = view.source.get("fileSystemPath", {})
    where = (*at, "source", "fileSystemPath")
    path, kind, form = files.get("path"), files.get("kind"), files.get("format")
    wanted = {"File": "File", "TensorFlowEvent": "Directory"}.get(view.collector)
    if wanted and path and not path.startswith("/"):
        yield (
            (*where, "path"),
            f"the collector's path must be absolute, got {path[:80]!r}; begin it with /",
        )
    if wanted and kind and kind != wanted:
        yield (
            (*where, "kind"),
            f"fileSystemPath.kind must be {wanted} for collector {view.collector}, got {kind[:60]!r}",
        )
    if view.collector == "File" and form and form not in ("TEXT", "JSON"):
        yield (*where, "format"), f"fileSystemPath.format {one_of(form, ('TEXT', 'JSON'))}"
    if view.collector == "TensorFlowEvent" and form:
        yield (
            (*where, "format"),
            "fileSystemPath.format must be left out for collector TensorFlowEvent",
        )
    if view.collector == "Custom":
        if not dig(view.spec, "metricsCollectorSpec", "collector", "customCollector"):
            yield (*at, "collector"), "collector Custom needs customCollector, its container"
        if files and (not (path or "").startswith("/") or kind not in ("File", "Directory")):
            yield (
                where,
                "fileSystemPath needs an absolute path and kind File or Directory for collector Custom",
            )


def collector_filter(view: View) -> Iterator[Finding]:
    """Check that filters compile, have two groups and no semicolon, and are not combined with JSON."""
    at: Path = ("spec", "metricsCollectorSpec", "source", "filter")
    if (
        view.collector == "File"
        and dig(view.source, "fileSystemPath", "format") == "JSON"
        and "filter" in view.source
    ):
        yield at, "a filter does not go with format JSON; take it out, or use TEXT"
    for i, text in enumerate(dig(view.source, "filter", "metricsFormat") or []):
        where = (*at, "metricsFormat", i)
        try:
            Filter(text)
        except UnsupportedError as failure:
            yield where, str(failure)
            continue
        if not TWO_GROUPS.search(text):
            yield (
                where,
                f"the filter {text[:60]!r} must have two groups, the metric's name and its value",
            )
        if ";" in text:
            yield where, f"the filter {text[:60]!r} must have no ';': Katib joins filters with it"


def metric_name(view: View) -> Iterator[Finding]:
    """Check that the default filter can read the names of the metrics."""
    if (
        view.collector not in ("StdOut", "File")
        or dig(view.source, "fileSystemPath", "format") == "JSON"
    ):
        return
    if dig(view.source, "filter", "metricsFormat"):
        return
    at: Path = ("spec", "objective")
    named = [((*at, "objectiveMetricName"), view.objective.get("objectiveMetricName", ""))]
    named += [
        ((*at, "additionalMetricNames", i), m)
        for i, m in enumerate(view.objective.get("additionalMetricNames", []))
    ]
    for path, metric in named:
        if isinstance(metric, str) and metric and not re.fullmatch(r"[\w|-]+", metric, re.ASCII):
            end = re.split(r"[^\w|-]", metric, flags=re.ASCII)[-1]
            read = f"reads it as {end!r}" if end else "never matches it"
            yield (
                path,
                f"metric {metric[:60]!r}: Katib's default filter {read}; use letters, digits and _, or give a filter",
            )


def early_stopping_collector(view: View) -> Iterator[Finding]:
    """Check that early stopping has a collector that reads files."""
    if "earlyStopping" in view.spec and view.collector not in ("StdOut", "File"):
        yield (
            ("spec", "earlyStopping"),
            f"early stopping needs collector StdOut or File, got {view.collector}",
        )


def backoff_limit(view: View) -> Iterator[Finding]:
    """Check spec.backoffLimit of the Job."""
    if view.is_batch_job and dig(view.job, "spec", "backoffLimit") is None:
        yield (
            (*SPEC_AT, "spec"),
            "the Job has no backoffLimit: a failing trial is tried 6 more times; write backoffLimit: 0",
        )


def deadline(view: View) -> Iterator[Finding]:
    """Check activeDeadlineSeconds of the Job."""
    places = [dig(view.job, "spec"), dig(view.job, "spec", "template", "spec")]
    if view.is_batch_job and all(dig(place, "activeDeadlineSeconds") is None for place in places):
        yield (
            (*SPEC_AT, "spec"),
            "the Job has no activeDeadlineSeconds: a trial that hangs holds its place for ever; set one",
        )


def arguments(view: View) -> list[str]:
    """Return command and args of the primary container, as one list."""
    item = view.primary[1] if view.primary else {}
    return strings(item.get("command")) + strings(item.get("args"))


RULES = (
    error(
        "template",
        "What the webhook wants of trialTemplate. Conditions are filled in for Job, TrainJob and the Kubeflow v1 "
        "jobs when trialSpec is inline.",
        f"{VALIDATOR}:305-345; {DEFAULTS}:98-137",
        template,
    ),
    error(
        "trial-parameter",
        "The webhook wants names and references, each once, and references that exist. (A reference may also be "
        "${trialSpec.Name} and the like.)",
        f"{VALIDATOR}:355-395",
        trial_parameters,
    ),
    error(
        "placeholder",
        "The webhook wants every trialParameter to replace something, and every placeholder to have a trialParameter.",
        f"{VALIDATOR}:397-415",
        placeholder,
    ),
    error(
        "parameter-unused",
        "The webhook lets it pass; then no trial can be made, because Katib wants as many values as trialParameters.",
        "kubeflow/katib 33c8ff4, pkg/controller.v1beta1/experiment/manifest/generator.go:109-197",
        unreferenced,
    ),
    error(
        "trial-spec",
        "The webhook wants apiVersion and kind, and no name or namespace: Katib names trials.",
        f"{VALIDATOR}:417-432",
        trial_spec,
    ),
    warning(
        "trial-kind",
        "Katib's controller watches the kinds of katib-config's trialResources. A trial of another kind "
        "is made, and never ends for Katib.",
        CONFIG,
        trial_kind,
    ),
    error(
        "pod",
        "The webhook does not look for the primary container; the pod webhook does, and every trial fails. A Job "
        "whose restartPolicy is Always, the default of a pod, is refused by the API server.",
        "kubeflow/katib 33c8ff4, pkg/webhook/v1beta1/pod/utils.go:173; kubernetes pkg/apis/batch/validation",
        pod,
    ),
    error(
        "primary-container",
        "The webhook finds the container to wrap by its name in the pod of a training job, and refuses the pod "
        "without it.",
        "kubeflow/katib 33c8ff4, pkg/webhook/v1beta1/pod/utils.go:96-199",
        primary_container,
    ),
    error(
        "image",
        "Kubernetes requires an image for each container. A Job without one is refused when Katib creates it, and the "
        "trial fails.",
        "Kubernetes API reference, Container v1 core",
        image,
    ),
    error(
        "collector",
        "StdOut, File, TensorFlowEvent, Custom, Push. None is gone since 0.18, and PrometheusMetric is refused "
        "with the katib-config that ships.",
        f"{VALIDATOR}:487-556; {CONFIG}",
        collector,
    ),
    error(
        "collector-filter",
        "The webhook checks filters under File and Custom only; under StdOut a bad one passes and the collector "
        "dies. Filters travel joined with ';'. Locally, a filter that needs more than 10 s of CPU time for 1 MiB of "
        "text makes the trial MetricsUnavailable.",
        f"{VALIDATOR}:557-572; kubeflow/katib 33c8ff4, pkg/webhook/v1beta1/pod/inject_webhook.go:314",
        collector_filter,
    ),
    error(
        "metric-name",
        "The default filter reads names of word characters, '-' and '|': val/fid is read as fid, and the "
        "objective is never found.",
        "kubeflow/katib 33c8ff4, pkg/metricscollector/v1beta1/common/const.go:47",
        metric_name,
    ),
    error(
        "early-stopping-collector",
        "The program that stops trials is in the sidecar that reads the metrics file.",
        "kubeflow/katib 33c8ff4, cmd/metricscollector/v1beta1/file-metricscollector/main.go:336-386",
        early_stopping_collector,
    ),
    style(
        "backoff-limit",
        "A Job's backoffLimit is 6 unless given: six retries on a GPU before Katib sees a failure.",
        "https://github.com/kubeflow/katib/issues/2452",
        backoff_limit,
    ),
    style(
        "deadline",
        "Katib has no time limit for a trial; the Job's activeDeadlineSeconds is the only one.",
        "https://github.com/kubeflow/katib/issues/1151",
        deadline,
    ),
)
