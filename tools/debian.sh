#!/bin/sh
# Installs the Debian packages (each named like its command) that some tests need, if root asks on a Debian.
#
#   tools/debian.sh COMMAND…
#
# For anybody else it does nothing: those tests then say what is missing, and skip.
# Exit codes: 69 one could not be installed (the message says what to do).
set -eu

missing=
for command; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
if [ -z "$missing" ] || ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    exit 0
fi
echo "Installing from Debian:$missing …" >&2
# shellcheck disable=SC2086 # one word for each package
if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -q $missing \
    || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q $missing; }; } >&2; then
    echo "That did not help. Install it by hand, then try again:" >&2
    echo "  apt-get install -y$missing" >&2
    exit 69
fi
