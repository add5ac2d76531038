"""Checks before an Experiment is created what would make it fail later. Sends three requests and changes nothing.

What Katib would refuse raises an error. What may resolve itself (a node pool that scales up from
zero) is a warning. A check that RBAC forbids is skipped, because the create reports the problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuner.engines.katib.services import Kind, Service, ours, service_of
from tuner.errors import Denied, Forbidden, NotFound
from tuner.experiment.model import Experiment
from tuner.katib.facts import INJECTION_LABEL
from tuner.kube import CONFIG_MAPS, NAMESPACES, NODES, Cluster, quantity

_EFFECTS = ("NoSchedule", "NoExecute")
Object = Mapping[str, Any]


def preflight(
    cluster: Cluster, experiment: Experiment, namespace: str, katib_namespace: str
) -> tuple[Service, list[str]]:
    """Return the suggestion service that will answer, and warnings.

    Raises NotFound for a missing namespace, Denied for what Katib's webhook would refuse.
    """
    _check_namespace(cluster, namespace)
    service = _service(cluster, experiment, katib_namespace)
    try:
        nodes = list(cluster.list(NODES, limit=0))  # in one request, however many
    except Forbidden:
        return service, []
    return service, list(room(nodes, experiment))


def _check_namespace(cluster: Cluster, namespace: str) -> None:
    label = f"kubectl label namespace {namespace} {INJECTION_LABEL}=enabled"
    try:
        found = cluster.get(NAMESPACES, namespace)
    except Forbidden:
        return
    except NotFound as error:
        raise NotFound(
            f"namespace {namespace} does not exist: kubectl create namespace {namespace} && {label}"
        ) from error
    if (found["metadata"].get("labels") or {}).get(INJECTION_LABEL) != "enabled":
        raise Denied(f"namespace {namespace} lacks the label that Katib asks for: {label}")


def _service(cluster: Cluster, experiment: Experiment, katib_namespace: str) -> Service:
    """Return the service of the algorithm. Raises Denied if katib-config has none."""
    try:
        data = cluster.get(CONFIG_MAPS, "katib-config", namespace=katib_namespace).get("data") or {}
        config = YAML(typ="safe", pure=True).load(data.get("katib-config.yaml", ""))
    except (Forbidden, NotFound, YAMLError):
        return service_of(None)
    runtime = (config or {}).get("runtime") or {}
    entries = {entry.get("algorithmName", ""): entry for entry in runtime.get("suggestions") or ()}
    service = service_of(entries.get(experiment.algorithm.name))
    wanted = [("suggestions", "algorithm", experiment.algorithm.name)]
    if experiment.early_stopping and not (service.kind is Kind.OURS and ours(experiment)):
        wanted.append(("earlyStoppings", "early stopping", experiment.early_stopping.name))
    for key, what, name in wanted:
        known = sorted({entry.get("algorithmName", "") for entry in runtime.get(key) or ()})
        if known and name not in known:
            raise Denied(
                f"{what} {name} is not in this cluster's katib-config, which has {', '.join(known)}: "
                f"use one of these, or add it to ConfigMap katib-config in namespace {katib_namespace}"
            )
    return service


def room(nodes: list[Any], experiment: Experiment) -> Iterator[str]:
    """Warnings on where the trials' pods could run, for each pod of the template."""
    for spec in pod_specs(experiment.template.spec):
        fitting = [node for node in nodes if fits(node, spec)]
        if not fitting:
            wants = ", ".join(
                f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()
            )
            yield (
                f"none of the {len(nodes)} nodes can run the trial's pods"
                f"{f' (nodeSelector {wants})' if wants else ''}: check nodeSelector, affinity and tolerations against "
                "`kubectl get nodes --show-labels`; the pods wait until a node pool scales up"
            )
            continue
        for resource, each in extended(spec).items():
            have = [
                int(quantity((node["status"].get("allocatable") or {}).get(resource, 0)))
                for node in fitting
            ]
            asked = each * experiment.parallel_trials
            if each > max(have):
                most = (
                    f"no node that fits has more than {max(have)}"
                    if max(have)
                    else "no node that fits has any"
                )
                yield (
                    f"a trial asks for {each} {resource}, {most}: it waits until such a node is added; "
                    "if none will be, remove the limit from the trialTemplate, as manifests/overlays/cpu does"
                )
            elif asked > sum(have):
                yield (
                    f"{experiment.parallel_trials} parallel trials ask for {asked} {resource}, the nodes that fit have "
                    f"{sum(have)}: set parallelTrialCount to {max(1, sum(have) // each)}, or trials wait while Katib "
                    "says Running"
                )


def pod_specs(template: Any) -> Iterator[Object]:
    """Every pod spec in a trial template, whatever its kind: an object that has containers."""
    if isinstance(template, Mapping):
        if isinstance(template.get("containers"), list):
            yield template
            return
        for value in template.values():
            yield from pod_specs(value)
    elif isinstance(template, list):
        for value in template:
            yield from pod_specs(value)


def extended(spec: Object) -> dict[str, int]:
    """Whole devices that one pod asks for, by resource name: {"nvidia.com/gpu": 1}."""
    found: dict[str, int] = {}
    for container in spec["containers"]:
        for resource, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in resource and (devices := int(quantity(amount))):
                found[resource] = found.get(resource, 0) + devices
    return found


def fits(node: Object, spec: Object) -> bool:
    """Whether the scheduler could place the pod on the node by selector, affinity and taints."""
    labels = node["metadata"].get("labels") or {}
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if affinity and not any(
        _term(term, labels) for term in affinity.get("nodeSelectorTerms") or ()
    ):
        return False
    taints = [
        taint
        for taint in (node.get("spec") or {}).get("taints") or ()
        if taint.get("effect") in _EFFECTS
    ]
    return all(
        any(_tolerates(one, taint) for one in spec.get("tolerations") or ()) for taint in taints
    )


def _term(term: Object, labels: Mapping[str, str]) -> bool:
    return all(_expression(expression, labels) for expression in term.get("matchExpressions") or ())


def _expression(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    operator = expression.get("operator")
    if operator in ("Gt", "Lt"):
        if value is None or not value.isdigit() or not values:
            return False
        return (int(value) > int(values[0])) is (operator == "Gt") and int(value) != int(values[0])
    held = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
    return held.get(str(operator), value is None)  # DoesNotExist


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return (toleration.get("key"), toleration.get("value", "")) == (
        taint["key"],
        taint.get("value", ""),
    )
