#!/usr/bin/env bash
# Makes the cluster of kind/versions.env, once; its kubeconfig is kind/kubeconfig, and yours is left alone.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kind kubectl
if running; then
  kind export kubeconfig --name "$GANTUNER_CLUSTER" --kubeconfig "$KUBECONFIG"
  echo "cluster $GANTUNER_CLUSTER is there already"
else
  kind create cluster --name "$GANTUNER_CLUSTER" --image "kindest/node:$GANTUNER_KUBERNETES" --config "$here/cluster.yaml" \
    --kubeconfig "$KUBECONFIG" --wait 120s
fi
echo "use it: export KUBECONFIG=$KUBECONFIG"
