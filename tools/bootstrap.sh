#!/bin/sh
# Makes .venv exactly as uv.lock says, from nothing but python3.11 (or newer) and its venv module.
#
# Nothing is written outside .venv and the user's caches. A stamp in .venv remembers what it was made
# from, so that every further call takes milliseconds and needs no network.
#
# PYTHON=…  the interpreter to use; otherwise that of the present .venv, otherwise the first of python3,
#           python3.14 … python3.11 that will do.
# Exit codes: 69 something of the system is missing (the message says what to install), 1 otherwise.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

key() {
    # The folder is part of it: scripts in .venv/bin name it, so a moved checkout needs a new one.
    { cat pyproject.toml uv.lock tools/uv.txt tools/bootstrap.sh; pwd; } | sha256 | cut -d ' ' -f 1
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi
}

# Python >= 3.11 that is not a stub (pyenv's shims exist for versions that are not chosen).
will_do() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Whether .venv is there, works, and was made from the interpreter that was asked for, if one was.
venv_fits() {
    will_do .venv/bin/python || return 1
    if [ -n "${PYTHON-}" ]; then [ "$(origin .venv/bin/python)" = "$(origin "$PYTHON")" ]; fi
}

origin() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON-}" ]; then
        if will_do "$PYTHON"; then printf '%s\n' "$PYTHON"; return; fi
        say "PYTHON=$PYTHON is not a Python 3.11 or newer."
        exit 69
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if will_do "$candidate"; then printf '%s\n' "$candidate"; return; fi
    done
    say "ScheduleZero needs Python 3.11 or newer, and found none."
    say "  Debian, Ubuntu:  apt-get install -y python3.11 python3.11-venv"
    say "  elsewhere:       make PYTHON=/path/to/python3"
    exit 69
}

# Debian splits ensurepip off into its own package.
need_venv() {
    if "$1" -c 'import venv; from ensurepip import version' >/dev/null 2>&1; then return; fi
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if ! command -v apt-get >/dev/null 2>&1; then
        say "$1 has no venv module with pip. Install the package of your system that brings it ($package on Debian)."
        exit 69
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "The Debian package $package is missing. Ask root for:"
        say "  apt-get install -y $package"
        exit 69
    fi
    say "Installing the Debian package $package …"
    if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$package" \
        || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$package"; }; } >&2 \
        || ! "$1" -c 'import venv; from ensurepip import version' >/dev/null 2>&1; then
        say "That did not help. Install it by hand, then try again:"
        say "  apt-get install -y $package"
        exit 69
    fi
}

want=$(key)
if [ "$(cat .venv/.stamp 2>/dev/null)" = "$want" ] && venv_fits; then
    exit 0
fi

# The caller's own environments and settings for pip and uv must not leak in.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH CONDA_PREFIX UV_PYTHON PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV
export UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1

rm -f .venv/.stamp
if ! venv_fits || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    # Only an own venv is ever replaced, never somebody's folder of that name.
    if [ -e .venv ] && [ ! -e .venv/pyvenv.cfg ]; then
        say ".venv is in the way: it is not a virtual environment. Move it and try again."
        exit 1
    fi
    need_venv "$python"
    say "Making .venv with $("$python" --version) …"
    "$python" -m venv --clear .venv
fi

say "Installing what uv.lock names (about 90 MB the first time) …"
.venv/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r tools/uv.txt
# Two steps, so that the package is built by the locked hatchling instead of one fetched for the occasion.
.venv/bin/uv sync --frozen --all-extras --quiet --python .venv/bin/python --no-install-project
.venv/bin/uv sync --frozen --all-extras --quiet --python .venv/bin/python --no-build-isolation
printf '%s\n' "$want" >.venv/.stamp
