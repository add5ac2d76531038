#!/usr/bin/env bash
# Gives the node nvidia.com/gpu as an extended resource, and the label of NVIDIA's feature discovery, so that GPU manifests are
# scheduled on a laptop. There is no GPU: the trainer then finds none and trains on the CPU.
#   fake-gpus.sh [COUNT]    0 takes them away
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kubectl
count=${1:-$FAKE_GPUS}
[[ $count =~ ^[0-9]+$ ]] || { echo "fake-gpus.sh: COUNT is a number of GPUs, got '$count'" >&2; exit 2; }
node=$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')
if [ "$count" = 0 ]; then
  kubectl patch node "$node" --subresource=status --type=json \
    -p '[{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]'
  kubectl label node "$node" nvidia.com/gpu.present-
else
  kubectl patch node "$node" --subresource=status --type=merge \
    -p "{\"status\": {\"capacity\": {\"nvidia.com/gpu\": \"$count\"}}}"
  kubectl label --overwrite node "$node" nvidia.com/gpu.present=true
fi
