#!/usr/bin/env bash
# Deletes the cluster and its kubeconfig; nothing happens if there is none.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kind
kind delete cluster --name "$GANTUNER_CLUSTER" --kubeconfig "$KUBECONFIG"
rm -f "$KUBECONFIG"
