#!/bin/sh
# Installs torch into /opt/venv of the image under construction. VARIANT cuda takes the wheel with all it depends on;
# cpu leaves out the CUDA libraries and triton, which nothing but a GPU uses.
#   image-torch.sh VARIANT VERSION [INDEX]
set -eu
variant=$1 version=$2 index=${3:-}
pip=/opt/venv/bin/pip
case $variant in
cuda) $pip install ${index:+--index-url "$index"} "torch==$version" ;;
cpu)
  $pip install --no-deps ${index:+--index-url "$index"} "torch==$version"
  $pip install filelock typing-extensions sympy networkx jinja2 fsspec setuptools
  ;;
*) echo "VARIANT is cpu or cuda, got '$variant'" >&2; exit 2 ;;
esac
