"""The kinds of objects that the client reads or writes, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import quote

from tuner.katib.facts import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: its API group ("" for the core group), version and plural."""

    group: str
    version: str
    plural: str
    watched: bool = False

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """Return the URL path, for example /apis/kubeflow.org/v1beta1/namespaces/gan/trials/NAME."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        parts = [root + scope, self.plural, *(quote(part, safe="") for part in (name, sub) if part)]
        return "/".join(parts)

    def rule(self, verb: str, sub: str = "") -> str:
        """Return the RBAC rule that allows `verb`, as YAML in one line.

        What the client lists first and then watches needs both verbs.
        """
        verbs = '"list", "watch"' if verb in ("list", "watch") and self.watched else f'"{verb}"'
        plural = f"{self.plural}/{sub}" if sub else self.plural
        return f'{{apiGroups: ["{self.group}"], resources: ["{plural}"], verbs: [{verbs}]}}'


def quantity(amount: object) -> Decimal:
    """Return a Kubernetes quantity (`2`, `65k`, `1Gi`, `500m`) as a number within int64, or 0 for other text."""
    from kubernetes.utils.quantity import parse_quantity

    try:
        number = Decimal(parse_quantity(amount))
    except ValueError:
        return Decimal(0)
    return min(number, Decimal(2**63 - 1)) if number > 0 else Decimal(0)


EXPERIMENTS = Resource(GROUP, VERSION, "experiments", watched=True)
TRIALS = Resource(GROUP, VERSION, "trials", watched=True)
SUGGESTIONS = Resource(GROUP, VERSION, "suggestions")
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods", watched=True)
EVENTS = Resource("", "v1", "events")
NODES = Resource("", "v1", "nodes")
NAMESPACES = Resource("", "v1", "namespaces")
CONFIG_MAPS = Resource("", "v1", "configmaps")
