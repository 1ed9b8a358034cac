#!/bin/sh
# Installs Debian's strace for the tests that kill a server at a chosen system call, if root asks on a Debian.
#
# For anybody else it does nothing: those tests then say what is missing, and skip.
# Exit codes: 69 it could not be installed (the message says what to do).
set -eu

if command -v strace >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    exit 0
fi
echo "Installing the Debian package strace …" >&2
if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -q strace \
    || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q strace; }; } >&2; then
    echo "That did not help. Install it by hand, then try again:" >&2
    echo "  apt-get install -y strace" >&2
    exit 69
fi
