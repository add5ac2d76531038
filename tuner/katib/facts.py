"""Facts of Katib's API (v0.19): the one place for names, defaults, labels and placeholders that Katib decides.

Sources are files of kubeflow/katib at commit 33c8ff4. Rules on values are in tuner.check, and what
the algorithms do with their settings is in tuner.samplers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GROUP, VERSION = "kubeflow.org", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
NAMESPACE = "kubeflow"  # where Katib is installed by default
GRPC_PORT = 6789  # of the DB manager and of suggestion services
# gRPC services (api.proto)
DB_MANAGER, SUGGESTION_SERVICE = "api.v1.beta1.DBManager", "api.v1.beta1.Suggestion"
KINDS = ("Experiment", "Trial", "Suggestion")

# Names that an Experiment may use: manifests/v1beta1/installs/katib-standalone/katib-config.yaml,
# and the types below pkg/apis/controller.
ALGORITHMS = (
    "random", "tpe", "multivariate-tpe", "grid", "bayesianoptimization", "cmaes", "sobol", "hyperband",
    "pbt", "enas", "darts",
)  # fmt: skip
EARLY_STOPPING = ("medianstop",)
RESUME_POLICIES = ("Never", "LongRunning", "FromVolume")
PARAMETER_TYPES = ("double", "int", "discrete", "categorical")
DISTRIBUTIONS = ("uniform", "logUniform", "normal", "logNormal")
COLLECTORS = ("StdOut", "File", "TensorFlowEvent", "Custom", "Push")

# Defaults: pkg/apis/controller/experiments/v1beta1/constants.go and
# pkg/apis/controller/common/v1beta1/common_types.go.
DEFAULT_PARALLEL_TRIALS = 3
DEFAULT_COLLECTOR = "StdOut"
# of a collector: the kind of its fileSystemPath, and its path
DEFAULT_PATHS: Mapping[str, tuple[str, str]] = {
    "File": ("File", "/var/log/katib/metrics.log"),
    "TensorFlowEvent": ("Directory", "/var/log/katib/tfevent/"),
}

# The webhook joins the command into one line of a shell for these collectors
# (pkg/webhook/v1beta1/pod/utils.go), unless it starts with one of these shells and -c.
WRAPPED_COLLECTORS = ("StdOut", "File", "TensorFlowEvent")
SHELLS = ("sh", "bash")

# pkg/controller.v1beta1/consts/const.go
PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.+?)\}")  # TrialTemplateParamReplaceFormatRegex
UNAVAILABLE_METRIC = "unavailable"
EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
TRIAL_LABEL = "katib.kubeflow.org/trial"
SUGGESTION_LABEL = "katib.kubeflow.org/suggestion"
COMPONENT_LABEL = "katib.kubeflow.org/component"  # of Katib's own pods
INJECTION_LABEL = "katib.kubeflow.org/metrics-collector-injection"  # of a namespace
SIDECAR = "metrics-logger-and-collector"  # the container that reads the metrics
SUGGESTION_CONTAINER = "suggestion"


def is_experiment(value: Any) -> bool:
    """True for an object of Katib's kind Experiment, whatever it contains."""
    return (
        isinstance(value, dict)
        and value.get("kind") == "Experiment"
        and value.get("apiVersion") == API_VERSION
    )


# a directory of shared memory in every pod, and its limit without a volume of its own
SHARED_MEMORY, SHARED_BYTES = "/dev/shm", 64 << 20  # noqa: S108
