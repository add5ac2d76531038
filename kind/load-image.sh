#!/usr/bin/env bash
# Builds the trainer's CPU image and the client's, and loads them into the cluster, so that no registry is asked for them.
#   BUILD_ARGS="--build-arg TORCH_INDEX=..." kind/load-image.sh     the small CPU image: see the Dockerfile
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need docker kind
read -ra arguments <<<"${BUILD_ARGS:-}" # an empty list is no list to bash 3.2 under set -u, hence the + below
docker build ${arguments[@]+"${arguments[@]}"} --tag "$GANTUNER_TRAINER_IMAGE" "$here/.."
docker build ${arguments[@]+"${arguments[@]}"} --tag "$GANTUNER_CLIENT_IMAGE" --target client "$here/.."
kind load docker-image --name "$GANTUNER_CLUSTER" "$GANTUNER_TRAINER_IMAGE" "$GANTUNER_CLIENT_IMAGE"
