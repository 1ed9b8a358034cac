"""Whether a request may come in at all: its Host, its origin, its token. Pure decisions on headers and addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from schedule_zero.errors import BadRequest, CrossOrigin, Forbidden, Misdirected, Unauthenticated
from schedule_zero.service.specs import Principal
from schedule_zero.web.api.routing import Access, Route, allowed

MAX_TOKEN = 512
# What a proxy adds: behind one, every peer looks as if it were on this machine.
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via")


class Guard:
    """Checks requests before anything of their body is looked at."""

    def __init__(self, *, host: str, allowed_hosts: Sequence[str], authenticate: Callable[[str], Principal]) -> None:
        self._names = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in allowed_hosts)}
        # Binding to every address gives the server no name.
        self._names -= {"0.0.0.0", "::", ""}
        self._authenticate = authenticate
        self._headers_seen: set[str] = set()

    def check_host(self, header: str | None, local_address: Callable[[], str]) -> None:
        """Refuse a Host that isn't ours: a page of another site whose name was made to point here (DNS rebinding)."""
        # Nearly always one of a handful of spellings that were found good before.
        if header is not None and header in self._headers_seen:
            return
        if not header:
            raise BadRequest("the Host header is missing", header="Host")
        name = host_name(header)
        if name is None:
            raise BadRequest(f"the Host header is not a name or address with a port: {header[:100]!r}", header="Host")
        if name in self._names:
            if len(self._headers_seen) < 100:
                self._headers_seen.add(header)
            return
        # An address can't be rebound; the one on which this connection came in is ours.
        if name != local_address():
            raise Misdirected(
                f"this server is not known as {name[:100]!r}", header="Host", hint="add the name to http.allowed_hosts"
            )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse an unsafe request that a browser sends for a page of another site."""
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            raise CrossOrigin(f"this request comes from a page of another site ({site[:20]})", header="Sec-Fetch-Site")
        origin = headers.get("Origin")
        if origin is not None and _netloc(origin) != headers.get("Host", "").lower():
            raise CrossOrigin(f"this request comes from a page of {origin[:100]!r}", header="Origin")

    def admit(self, route: Route, headers: Mapping[str, str], remote_address: str) -> Principal | None:
        """Who asks; None where nobody has to say. Raises Unauthenticated or Forbidden."""
        access = route.access
        if access is Access.PUBLIC:
            return None
        header = headers.get("Authorization")
        if header is None:
            proxied = any(name in headers for name in PROXY_HEADERS)
            if access is Access.PROBE and is_loopback(remote_address) and not proxied:
                return None
            raise Unauthenticated("expected the header Authorization: Bearer <token>", header="Authorization")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise Unauthenticated("expected the header Authorization: Bearer <token>", header="Authorization")
        principal = self._authenticate(token.strip())
        if not allowed(principal.role, access):
            raise Forbidden(
                f"the token {principal.name!r} has the role {principal.role}; this needs "
                f"{'viewer' if access is Access.PROBE else access}"
            )
        return principal


def host_name(header: str) -> str | None:
    """The name in ``name``, ``name:port``, ``[v6]`` or ``[v6]:port``, in lower case; None if it is none of these."""
    try:
        parts = urlsplit(f"//{header}")
        name = parts.hostname
        # Reading it checks that it is a number in range.
        _ = parts.port
    except ValueError:
        return None
    if not name or parts.netloc != header or "@" in header or "," in header:
        return None
    return name.rstrip(".")


def is_loopback(address: str) -> bool:
    """Whether an IP literal is this machine's own."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _netloc(origin: str) -> str | None:
    """``http://name:port`` → ``name:port`` as Host would say it; None for ``null`` and nonsense."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in ("http", "https") or not rest:
        return None
    return rest.lower()
