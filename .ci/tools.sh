#!/usr/bin/env bash
# Builds the Kubernetes tools that the tests and the e2e suite use, at pinned versions, from the Go module proxy into .bin/.
# What is there at the right version is left alone, so that a second run takes no time.
#   .ci/tools.sh            what the tests need: helm (3), helm4, untt (helm-unittest), kubeconform; kustomize where there is no
#                           kubectl, which `go install` cannot build; shellcheck from apt where root
#   .ci/tools.sh e2e        kind besides
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.bin
HELM=v3.22.0 HELM4=v4.3.1 UNITTEST=v1.1.2 KUBECONFORM=v0.8.0 KUSTOMIZE=v5.8.1 KIND=v0.33.0

if ! command -v go >/dev/null; then
  echo "tools.sh: needs Go 1.24 or newer to build helm, helm-unittest and kubeconform; tests that use them will be skipped" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
mkdir -p "$bin"

# have NAME VERSION: is this very version there already?
have() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.version" 2>/dev/null)" = "$2" ]; }
# put NAME VERSION FILE: keep the program that was built
put() {
  mv "$3" "$bin/$1"
  echo "$2" >"$bin/.$1.version"
  echo "tools.sh: $1 $2 (${SECONDS}s)"
}
# install NAME VERSION PACKAGE [LDFLAGS]: go install PACKAGE@VERSION as .bin/NAME
install() {
  have "$1" "$2" && return
  local out=$scratch/$1
  mkdir -p "$out"
  GOBIN=$out go install -ldflags "-s -w ${4:-}" "$3@$2"
  put "$1" "$2" "$out"/*
}
# helm-unittest's go.mod has replace directives, which `go install` refuses: build it in a copy of its module.
unittest() {
  have untt "$UNITTEST" && return
  local module=github.com/helm-unittest/helm-unittest dir
  dir=$(cd "$scratch" && go mod download -json "$module@$UNITTEST" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  cp -r "$dir" "$scratch/unittest"
  chmod -R u+w "$scratch/unittest"
  (cd "$scratch/unittest" && go build -ldflags "-s -w" -o untt ./cmd/helm-unittest)
  put untt "$UNITTEST" "$scratch/unittest/untt"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ "${1:-}" = e2e ]; then
  install kind "$KIND" sigs.k8s.io/kind
fi
install kubeconform "$KUBECONFORM" github.com/yannh/kubeconform/cmd/kubeconform
command -v kubectl >/dev/null || install kustomize "$KUSTOMIZE" sigs.k8s.io/kustomize/kustomize/v5
# Without these two, a helm 3 from source takes Kubernetes for 1.20 when it renders without a cluster.
package=helm.sh/helm/v3/pkg/chartutil
install helm "$HELM" helm.sh/helm/v3/cmd/helm "-X $package.k8sVersionMajor=1 -X $package.k8sVersionMinor=36"
unittest
install helm4 "$HELM4" helm.sh/helm/v4/cmd/helm
if ! command -v shellcheck >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends shellcheck; } >/dev/null
fi
