#!/usr/bin/env bash
# Gives the node nvidia.com/gpu as an extended resource, and the label of NVIDIA's feature discovery, so that GPU manifests are
# scheduled on a laptop. There is no GPU: the trainer then finds none and trains on the CPU.
#   fake-gpus.sh [COUNT]    0 takes them away
# GANTUNER_KUBECONFIG=FILE names another cluster than kind's, as the e2e tests do; KUBECONFIG is not obeyed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kubectl
export KUBECONFIG=${GANTUNER_KUBECONFIG:-$KUBECONFIG}
count=${1:-$GANTUNER_FAKE_GPUS}
[[ $count =~ ^[0-9]+$ ]] || { echo "fake-gpus.sh: COUNT is a number of GPUs, got '$count'" >&2; exit 2; }
node=$(kubectl get nodes -o go-template='{{range .items}}{{if not .spec.taints}}{{.metadata.name}}{{" "}}{{end}}{{end}}')
node=${node%% *}
[ -n "$node" ] || { echo "fake-gpus.sh: every node has a taint, so that no trial could run: kubectl describe nodes" >&2; exit 1; }
if [ "$count" = 0 ]; then
  kubectl patch node "$node" --subresource=status --type=merge -p '{"status": {"capacity": {"nvidia.com/gpu": null}}}'
  kubectl label node "$node" nvidia.com/gpu.present-
else
  kubectl patch node "$node" --subresource=status --type=merge \
    -p "{\"status\": {\"capacity\": {\"nvidia.com/gpu\": \"$count\"}}}"
  kubectl label --overwrite node "$node" nvidia.com/gpu.present=true
fi
