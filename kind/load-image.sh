#!/usr/bin/env bash
# Builds the CPU image of the trainer and the image of the client, and loads them into the cluster. No registry is needed.
#   GANTUNER_OVERLAY=katib-suggestions kind/load-image.sh           builds the image of the suggestion service too
#   BUILD_ARGS="--build-arg TORCH_INDEX=..." kind/load-image.sh     builds the small CPU image (see the Dockerfile)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
need docker kind
read -ra arguments <<<"${BUILD_ARGS:-}" # bash 3.2 treats an empty array as unset under set -u, hence the + below
docker build ${arguments[@]+"${arguments[@]}"} --tag "$GANTUNER_TRAINER_IMAGE" "$here/.."
docker build ${arguments[@]+"${arguments[@]}"} --tag "$GANTUNER_CLIENT_IMAGE" --target client "$here/.."
kind load docker-image --name "$GANTUNER_CLUSTER" "$GANTUNER_TRAINER_IMAGE" "$GANTUNER_CLIENT_IMAGE"
if [ "$GANTUNER_OVERLAY" = katib-suggestions ]; then
  docker build ${arguments[@]+"${arguments[@]}"} --tag "$GANTUNER_SUGGESTION_IMAGE" --target suggestion "$here/.."
  kind load docker-image --name "$GANTUNER_CLUSTER" "$GANTUNER_SUGGESTION_IMAGE"
fi
