#!/bin/sh
# Installs this project into a virtual environment: install.sh DIRECTORY EXTRAS. Prints a line a minute, because torch takes
# minutes. The Makefile calls it.
set -eu
directory=$1
"$directory/bin/python" -m pip install --quiet -e ".[$2]" &
pip=$!
trap 'kill "$pip" 2>/dev/null; exit 130' INT TERM
seconds=0
while kill -0 "$pip" 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    [ $((seconds % 60)) -ne 0 ] ||
        echo "still installing after $((seconds / 60)) min: $(du -sm "$directory" | cut -f1) MB so far"
done
wait "$pip"
