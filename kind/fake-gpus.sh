#!/usr/bin/env bash
# Adds nvidia.com/gpu as an extended resource to a node, and the label of NVIDIA GPU feature discovery, so that GPU manifests are
# scheduled on a laptop. No GPU is present: the trainer finds none and trains on the CPU.
#   fake-gpus.sh [COUNT]    0 removes the fake GPUs
# The node also gets the label gan-tuner/fake-gpus=true. Nodes with GPUs but without this label have real GPUs and are never changed.
# GANTUNER_KUBECONFIG=FILE selects another cluster than the kind cluster (the e2e tests use it). KUBECONFIG is ignored.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kubectl
export KUBECONFIG=${GANTUNER_KUBECONFIG:-$KUBECONFIG}
count=${1:-$GANTUNER_FAKE_GPUS}
[[ $count =~ ^[0-9]+$ ]] || { echo "fake-gpus.sh: COUNT must be a number of GPUs, got '$count'" >&2; exit 2; }

# prints one line per node: NODE faked|real|tainted|free
kinds='{{range .items}}{{.metadata.name}} {{if index .metadata.labels "gan-tuner/fake-gpus"}}faked{{else if or'
kinds+=' (index .metadata.labels "nvidia.com/gpu.present") (index .status.capacity "nvidia.com/gpu")}}real'
kinds+='{{else if .spec.taints}}tainted{{else}}free{{end}}{{"\n"}}{{end}}'
nodes=$(kubectl get nodes -o go-template="$kinds")
# first KIND: print the first node of that kind, if any
first() {
  local node kind
  while read -r node kind; do
    if [ "$kind" = "$1" ]; then echo "$node"; return; fi
  done <<<"$nodes"
}
node=$(first faked)
real=$(first real)
if [ -n "$real" ] && ! { [ "$count" = 0 ] && [ -n "$node" ]; }; then
  echo "fake-gpus.sh: node $real has real GPUs (nvidia.com/gpu or its label was not set by this script), so nothing was changed." \
    "Select a cluster without GPUs with GANTUNER_KUBECONFIG=FILE" >&2
  exit 2
fi
if [ "$count" = 0 ]; then
  [ -n "$node" ] || { echo "no node has fake GPUs"; exit 0; }
  kubectl patch node "$node" --subresource=status --type=merge -p '{"status": {"capacity": {"nvidia.com/gpu": null}}}'
  kubectl label node "$node" nvidia.com/gpu.present- gan-tuner/fake-gpus-
  exit
fi
node=${node:-$(first free)}
[ -n "$node" ] || { echo "fake-gpus.sh: every node has a taint, so no trial can run. See: kubectl describe nodes" >&2; exit 1; }
kubectl label --overwrite node "$node" gan-tuner/fake-gpus=true nvidia.com/gpu.present=true
kubectl patch node "$node" --subresource=status --type=merge -p "{\"status\": {\"capacity\": {\"nvidia.com/gpu\": \"$count\"}}}"
