# The environment of the scripts of kind/, sourced by each: the versions, and a kubeconfig of the cluster's own, so that your
# current context is neither read nor written.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=versions.env
source "$here/versions.env"
export KUBECONFIG="$here/kubeconfig"
export PATH="$here/../.bin:$PATH"

# need PROGRAM...: say what is missing before anything is half done
need() {
  local program
  for program; do
    command -v "$program" >/dev/null || {
      echo "$(basename "$0"): needs $program on the PATH (make tools builds kind; Docker, kubectl and git are yours to install)" >&2
      exit 1
    }
  done
}

# running: does the cluster exist?
running() { kind get clusters 2>/dev/null | grep -qx "$GANTUNER_CLUSTER"; }
