#!/usr/bin/env bash
# Gives the node nvidia.com/gpu as an extended resource, and the label of NVIDIA's feature discovery, so that GPU manifests are
# scheduled on a laptop. There is no GPU: the trainer then finds none and trains on the CPU.
#   fake-gpus.sh [COUNT]    0 takes them away
# The node gets the label gan-tuner/fake-gpus=true too; one whose GPUs have no such label is real, and is never touched.
# GANTUNER_KUBECONFIG=FILE names another cluster than kind's, as the e2e tests do; KUBECONFIG is not obeyed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kubectl
export KUBECONFIG=${GANTUNER_KUBECONFIG:-$KUBECONFIG}
count=${1:-$GANTUNER_FAKE_GPUS}
[[ $count =~ ^[0-9]+$ ]] || { echo "fake-gpus.sh: COUNT is a number of GPUs, got '$count'" >&2; exit 2; }

# NODE faked|real|tainted|free, a line each
kinds='{{range .items}}{{.metadata.name}} {{if index .metadata.labels "gan-tuner/fake-gpus"}}faked{{else if or'
kinds+=' (index .metadata.labels "nvidia.com/gpu.present") (index .status.capacity "nvidia.com/gpu")}}real'
kinds+='{{else if .spec.taints}}tainted{{else}}free{{end}}{{"\n"}}{{end}}'
nodes=$(kubectl get nodes -o go-template="$kinds")
# first KIND: the first node of a kind, or nothing
first() {
  local node kind
  while read -r node kind; do
    if [ "$kind" = "$1" ]; then echo "$node"; return; fi
  done <<<"$nodes"
}
node=$(first faked)
real=$(first real)
if [ -n "$real" ] && ! { [ "$count" = 0 ] && [ -n "$node" ]; }; then
  echo "fake-gpus.sh: node $real has nvidia.com/gpu, or its label, that this script did not pretend, and is left alone:" \
    "name a cluster without GPUs with GANTUNER_KUBECONFIG=FILE" >&2
  exit 2
fi
if [ "$count" = 0 ]; then
  [ -n "$node" ] || { echo "no node has pretended GPUs"; exit 0; }
  kubectl patch node "$node" --subresource=status --type=merge -p '{"status": {"capacity": {"nvidia.com/gpu": null}}}'
  kubectl label node "$node" nvidia.com/gpu.present- gan-tuner/fake-gpus-
  exit
fi
node=${node:-$(first free)}
[ -n "$node" ] || { echo "fake-gpus.sh: every node has a taint, so that no trial could run: kubectl describe nodes" >&2; exit 1; }
kubectl label --overwrite node "$node" gan-tuner/fake-gpus=true nvidia.com/gpu.present=true
kubectl patch node "$node" --subresource=status --type=merge -p "{\"status\": {\"capacity\": {\"nvidia.com/gpu\": \"$count\"}}}"
