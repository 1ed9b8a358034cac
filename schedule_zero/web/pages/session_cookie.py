"""The cookie of a browser's session, and what else a browser says of how it came here."""

from __future__ import annotations

from collections.abc import Mapping


def name(port: int) -> str:
    """What it is called on a server that listens on ``port``: browsers share cookies between the ports of a host."""
    return f"sz_session_{port}"


def set_cookie(cookie: str, value: str, max_age_s: int, headers: Mapping[str, str]) -> tuple[str, str]:
    """The header that gives a browser its session; an empty ``value`` takes it away."""
    attributes = f"{cookie}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s if value else 0}"
    # Behind a proxy that speaks TLS it never goes over plain HTTP.
    if headers.get("X-Forwarded-Proto", "").lower() == "https":
        attributes += "; Secure"
    return "Set-Cookie", attributes


def origin(headers: Mapping[str, str]) -> str:
    """The address of this server as the browser has it: ``http://name:port``."""
    scheme = "https" if headers.get("X-Forwarded-Proto", "").lower() == "https" else "http"
    return f"{scheme}://{headers.get('Host', '')}"
