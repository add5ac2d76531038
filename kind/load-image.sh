#!/usr/bin/env bash
# Builds the trainer's CPU image and the client's, and loads them into the cluster, so that no registry is asked for them.
#   BUILD_ARGS="--build-arg TORCH_INDEX=..." kind/load-image.sh     the small CPU image: see the Dockerfile
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need docker kind
read -ra arguments <<<"${BUILD_ARGS:-}"
docker build "${arguments[@]}" --tag "$TRAINER_IMAGE" "$here/.."
docker build "${arguments[@]}" --tag "$CLIENT_IMAGE" --target client "$here/.."
kind load docker-image --name "$CLUSTER" "$TRAINER_IMAGE" "$CLIENT_IMAGE"
