#!/usr/bin/env bash
# Installs Katib with the configuration of manifests/overlays/$GANTUNER_OVERLAY and waits until it is ready.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need kubectl git # kubectl uses git to fetch the kustomization
kubectl apply -k "github.com/kubeflow/katib.git/manifests/v1beta1/installs/katib-standalone?ref=$GANTUNER_KATIB"
kubectl apply --server-side --force-conflicts -k "$here/../manifests/overlays/$GANTUNER_OVERLAY"
kubectl -n kubeflow rollout restart deployment katib-controller
for deployment in katib-mysql katib-db-manager katib-controller; do
  kubectl -n kubeflow rollout status deployment "$deployment" --timeout=300s
done
# The webhook times out for some seconds after a restart. Katib is ready when it admits an Experiment (in a dry run).
kubectl create namespace gan-tuner --dry-run=client -o yaml | kubectl apply -f -
kubectl label --overwrite namespace gan-tuner katib.kubeflow.org/metrics-collector-injection=enabled
admitted() { kubectl apply --dry-run=server -f "$here/../manifests/bayes.yaml"; }
for _ in $(seq 30); do
  if admitted >/dev/null 2>&1; then
    echo "Katib $GANTUNER_KATIB is ready"
    exit 0
  fi
  sleep 2
done
echo "install-katib.sh: Katib's webhook did not admit an Experiment within 60 s:" >&2
admitted
