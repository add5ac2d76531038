#!/usr/bin/env bash
# Creates the cluster of kind/versions.env if it does not exist. Its kubeconfig is kind/kubeconfig; yours is not changed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kind kubectl
if running; then
  kind export kubeconfig --name "$GANTUNER_CLUSTER" --kubeconfig "$KUBECONFIG"
  echo "cluster $GANTUNER_CLUSTER already exists"
else
  kind create cluster --name "$GANTUNER_CLUSTER" --image "kindest/node:$GANTUNER_KUBERNETES" --config "$here/cluster.yaml" \
    --kubeconfig "$KUBECONFIG" --wait 120s
fi
echo "to use it: export KUBECONFIG=$KUBECONFIG"
