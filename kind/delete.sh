#!/usr/bin/env bash
# Deletes the cluster and its kubeconfig. Does nothing if the cluster does not exist.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kind
kind delete cluster --name "$GANTUNER_CLUSTER" --kubeconfig "$KUBECONFIG"
rm -f "$KUBECONFIG"
