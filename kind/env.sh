# The environment that each script in kind/ sources: the versions, and a separate kubeconfig, so that your current context is
# neither read nor changed.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=versions.env
source "$here/versions.env"
export KUBECONFIG="$here/kubeconfig"
export PATH="$here/../.bin:$PATH"

# need PROGRAM...: fail with a message if a program is missing
need() {
  local program
  for program; do
    command -v "$program" >/dev/null || {
      echo "$(basename "$0"): $program was not found on the PATH. Install it (make tools builds kind; install Docker, kubectl and git yourself)" >&2
      exit 1
    }
  done
}

# running: succeed if the cluster exists
running() { kind get clusters 2>/dev/null | grep -qx "$GANTUNER_CLUSTER"; }
