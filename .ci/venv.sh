#!/bin/sh
# Creates a virtual environment with Python 3.11 or newer: venv.sh DIRECTORY [PYTHON]. The Makefile calls it.
# Without PYTHON, it uses the newest suitable python3.x on the PATH. Each error message says how to fix the problem.
set -eu
directory=$1
wanted=${2:-}
suits='import sys; sys.exit(sys.version_info < (3, 11))'

fail() {
    echo "make: $1" >&2
    exit 1
}

if [ -n "$wanted" ]; then
    "$wanted" -c "$suits" 2>/dev/null || fail "PYTHON=$wanted is not Python 3.11 or newer: name another one"
    python=$wanted
else
    python=
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c "$suits" 2>/dev/null; then
            python=$name
            break
        fi
    done
    [ -n "$python" ] || fail "Python 3.11 or newer was not found on the PATH: install it (apt-get install python3.11 python3.11-venv), or set PYTHON="
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module: apt-get install python$version-venv"
if ! "$python" -m venv "$directory"; then
    rm -rf "$directory"
    fail "$python -m venv $directory failed; see the message above"
fi
echo "created $directory with Python $version"
