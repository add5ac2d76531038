#!/bin/sh
# Prints the versions of requirements.txt without hashes, for pip's --constraint.
sed -n 's/^\([^ #][^ ]*==[^ ;\\]*\).*/\1/p' "$(dirname "$0")/requirements.txt"
