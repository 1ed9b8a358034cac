"""Which server a client talks to, and with which token, where nobody said so explicitly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from schedule_zero import state_dir
from schedule_zero.config import is_loopback
from schedule_zero.errors import ConfigError


class Target(NamedTuple):
    """One server: ``url`` without a slash at its end, ``token`` None where none was found."""

    url: str
    token: str | None
    # Only this machine hears what is said to it.
    loopback: bool


def find(
    url: str | None, token: str | None, *, environ: Mapping[str, str], cwd: Path, states: Path | None = None
) -> Target:
    """Argument, else ``SCHEDULE_ZERO_URL`` / ``SCHEDULE_ZERO_TOKEN``, else what a server left in its state directory.

    The state directory's admin token is sent to this machine only: an URL from elsewhere doesn't get it.
    Raises ConfigError for something that is no URL of ours.
    """
    states = states or state_dir.default(cwd, environ)
    said = url or environ.get("SCHEDULE_ZERO_URL")
    if said:
        address, loopback = _checked(said)
    else:
        running = state_dir.read_server_json(states) or {}
        address, loopback = _checked(state_dir.reachable(str(running.get("http") or state_dir.DEFAULT_URL)))
    token = token or environ.get("SCHEDULE_ZERO_TOKEN")
    if not token and (loopback or not said):
        token = state_dir.read_admin_token(states)
    return Target(address, token or None, loopback)


def _checked(url: str) -> tuple[str, bool]:
    parts = urlsplit(url)
    try:
        plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        right = plain and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        right = False
    if not right:
        raise ConfigError(f'expected the server\'s URL as http://HOST:PORT or https://HOST, got "{url}"')
    host = parts.hostname or ""
    return url.rstrip("/"), is_loopback(host)
