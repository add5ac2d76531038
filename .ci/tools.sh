#!/usr/bin/env bash
# Builds the Kubernetes tools of the tests and of the e2e suite from Go modules, at pinned versions, into .bin/.
# A tool that already has the right version is not built again.
#   .ci/tools.sh            the tools of the tests: helm (3), helm4, untt (helm-unittest), kubeconform; kustomize if kubectl is
#                           missing (`go install` cannot build kubectl); shellcheck and chromium from apt if run as root
#   .ci/tools.sh e2e        additionally kind
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.bin
HELM=v3.22.0 HELM4=v4.3.1 UNITTEST=v1.1.2 KUBECONFORM=v0.8.0 KUSTOMIZE=v5.8.1 KIND=v0.33.0

if ! command -v go >/dev/null; then
  echo "tools.sh: Go was not found. Install Go 1.24 or newer to build helm, helm-unittest and kubeconform; tests that need them are skipped" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
mkdir -p "$bin"

# have NAME VERSION: succeed if this version is already built
have() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.version" 2>/dev/null)" = "$2" ]; }
# put NAME VERSION FILE: move the built program to .bin/
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
# `go install` refuses modules with replace directives, such as helm-unittest: build it in a copy of the module.
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
# Without these two flags, helm 3 built from source assumes Kubernetes 1.20 when it renders without a cluster.
package=helm.sh/helm/v3/pkg/chartutil
install helm "$HELM" helm.sh/helm/v3/cmd/helm "-X $package.k8sVersionMajor=1 -X $package.k8sVersionMinor=36"
unittest
install helm4 "$HELM4" helm.sh/helm/v4/cmd/helm
# Debian's programs: shellcheck for the scripts, a browser for the tests of the report.
missing=()
command -v shellcheck >/dev/null || missing+=(shellcheck)
command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
fi
