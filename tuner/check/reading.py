"""Rules on a document before it is read as an Experiment: its YAML, kind, keys and types.

The modules that read the document find the problems (tuner.katib.yamlfile, tuner.check.fields,
tuner.check).
"""

from __future__ import annotations

from tuner.check.rule import Finding, error, warning
from tuner.check.spec import VALIDATOR
from tuner.check.view import View
from tuner.katib.facts import API_VERSION, KINDS


def _elsewhere(_: View) -> list[Finding]:
    return []


_UNMARSHAL = "encoding/json in Katib's defaulting webhook (`cannot unmarshal number into Go struct field ... of type string`)"

RULES = (
    error(
        "yaml-syntax",
        "The file must be UTF-8 and YAML 1.2, of bounded size, depth and alias expansion; keys are text, and no "
        "tag makes an object.",
        "https://yaml.org/spec/1.2.2/",
        _elsewhere,
    ),
    error(
        "duplicate-key",
        "kubectl takes the last of two equal keys silently, so one half of what is written is lost.",
        "sigs.k8s.io/yaml, Unmarshal; https://yaml.org/spec/1.2.2/#3213-node-comparison",
        _elsewhere,
    ),
    warning(
        "yaml-ambiguous",
        "kubectl's parser still reads parts of YAML 1.1: plain y, yes, on, no and off are booleans, 010 is 8, "
        "1_000 is 1000. YAML 1.2 reads them as text, 10 and text.",
        "go.yaml.in/yaml/v2, resolve.go",
        _elsewhere,
    ),
    error(
        "kind",
        f"Katib serves {KINDS[0]}, {KINDS[1]} and {KINDS[2]} of {API_VERSION}.",
        "kubeflow/katib 33c8ff4, manifests/v1beta1/components/crd",
        _elsewhere,
    ),
    error(
        "no-experiment",
        f"The file holds no Experiment of {API_VERSION}, so there is nothing to check. An Experiment inside a text or "
        "an object of another kind (an Argo Workflow, a pipeline component) is not read.",
        "kubeflow/katib 33c8ff4, manifests/v1beta1/components/crd",
        _elsewhere,
    ),
    error(
        "duplicate-name",
        "The second of two Experiments with one name is refused by the API server (409 Conflict), or by kubectl "
        "apply taken as a change of the first.",
        "Kubernetes API conventions",
        _elsewhere,
    ),
    error(
        "unknown-key",
        "Katib's CRD has no schema: a key that it does not know is dropped silently, and a default takes the "
        "place of the key that is meant. In a Job the webhook refuses it.",
        f"experiment_types.go, common_types.go; {VALIDATOR}:440-485",
        _elsewhere,
    ),
    warning(
        "ignored-key",
        "Katib's CRD has no schema: a key that it does not know is dropped silently. This one resembles no known "
        "key, so it may be a comment or hold anchors.",
        f"experiment_types.go, common_types.go; {VALIDATOR}:440-485",
        _elsewhere,
    ),
    error(
        "wrong-type",
        "A number where text is wanted, or text where a number is: the defaulting webhook cannot decode the "
        "object and refuses it. Bounds, lists and settings are text; counts and goal are numbers.",
        _UNMARSHAL,
        _elsewhere,
    ),
    error(
        "job-round-trip",
        "The webhook decodes the Job, encodes it again and refuses what differs. Nulls and empty values of "
        "fields marked omitempty get lost (hostNetwork: false, command: [], labels: {}), and quantities outside of "
        "resources are written in their shortest form (sizeLimit: 1024Mi is 1Gi).",
        f"{VALIDATOR}:440-485 (validatePatchJob), run on each of these with k8s.io/api v0.34.0",
        _elsewhere,
    ),
)
