#!/usr/bin/env bash
# Builds main.go with the pinned Katib and runs it: Experiments on standard input, the webhook's answers on standard output.
#   python -m tests.tuner.validator_cases --print | tests/tuner/data/validator/run.sh
# It needs Go 1.24 or newer and some minutes for the first build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
katib=github.com/kubeflow/katib version=v0.19.0
build=${GANTUNE_ORACLE:-$(mktemp -d)}
if [ ! -x "$build/oracle" ]; then
  mkdir -p "$build"
  cp "$here/main.go" "$build/"
  module=$(cd "$build" && go mod download -json "$katib@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  (
    cd "$build"
    cp "$module/go.mod" "$module/go.sum" . # its own versions of Kubernetes, and its replace directives
    chmod u+w go.mod go.sum
    sed -i "s|^module .*|module oracle|" go.mod
    go mod edit -require "$katib@$version"
    cp "$module/manifests/v1beta1/installs/katib-standalone/katib-config.yaml" .
    GOFLAGS=-mod=mod go build -o oracle . >&2
  )
fi
"$build/oracle" "$build/katib-config.yaml"
