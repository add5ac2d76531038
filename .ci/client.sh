#!/usr/bin/env bash
# Installs the client alone into a fresh environment, as `pip install .` does, and uses it as a newcomer would: without torch.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-$root/.venv/bin/python}" -m venv "$work/venv"
cp -r "$root"/{pyproject.toml,README.md,LICENSE,tuner,trainer} "$work/" # a build leaves no files in the checkout
begin=$SECONDS
"$work/venv/bin/pip" install --quiet "$work"
megabytes=$(du -sm "$work/venv" | cut -f1)
echo "pip install . took $((SECONDS - begin)) s and $megabytes MB"
[ "$megabytes" -lt 500 ]
if "$work/venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "the client installs torch" >&2
  exit 1
fi

mkdir "$work/home"
cd "$work/home"
export PATH="$work/venv/bin:$PATH"
cat >train.py <<'PROGRAM'
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-2)
parser.add_argument("--bs", type=int, default=32)
flags = parser.parse_args()
for epoch in range(3):
    print(f"epoch={epoch} loss={abs(flags.lr - 3e-3) + flags.bs / 1000 + 1 / (epoch + 1)}")
PROGRAM
gantune init -- python train.py --lr 1e-2 --bs 32
gantune check train.yaml
gantune run train.yaml --local --max-trials 12
for algorithm in random tpe; do
  sed "s/algorithmName: .*/algorithmName: $algorithm/; s/^  name: .*/  name: $algorithm/" train.yaml >$algorithm.yaml
  gantune run $algorithm.yaml --local --max-trials 12
done
gantune best tpe
gantune report tpe
gantune report train random -o report.html
cat >api.py <<'PROGRAM'
from tuner import best, run, search, tune


def loss(parameters):
    return (parameters["x"] - 1) ** 2


assert len(run("random.yaml", local=True, max_trials=12).trials) == 12
assert best("random") is not None
assert tune(loss, {"x": search.double(min=-3, max=3)}, n_trials=4).best is not None
PROGRAM
python api.py
echo "the client works without torch"
