"""Whether a request may come in at all: its Host, its origin, its token or session. Pure decisions on headers.

Programs show a token. Browsers show the cookie of a session, which the browser adds to whatever a page makes it send;
so what a session may change, it changes with the word that only our own pages know (``XSRF``).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from schedule_zero.errors import BadRequest, CrossOrigin, Forbidden, Misdirected, NotOurForm, Unauthenticated
from schedule_zero.service.sessions import Live
from schedule_zero.service.specs import Principal
from schedule_zero.web.api.routing import Access, Route, allowed

MAX_TOKEN = 512
# What a proxy adds: behind one, every peer looks as if it were on this machine.
PROXY_HEADERS = ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via")
# The header in which our own pages say the session's word; a form that is sent without JavaScript has it as a field.
XSRF = "X-Xsrf-Token"
XSRF_FIELD = "_xsrf"


class Caller(Struct, frozen=True):
    """Who asks: nobody in particular, a program with a token, or a browser with a session."""

    principal: Principal | None = None
    live: Live | None = None


NOBODY = Caller()


class Guard:
    """Checks requests before anything of their body is looked at."""

    # Cookies are shared by all ports of a host, so its name has ours in it, once that is known.
    cookie = "sz_session"

    def __init__(
        self,
        *,
        host: str,
        allowed_hosts: Sequence[str],
        authenticate: Callable[[str], Principal],
        session: Callable[[str], Live | None],
    ) -> None:
        self._names = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in allowed_hosts)}
        # Binding to every address gives the server no name.
        self._names -= {"0.0.0.0", "::", ""}
        self._authenticate = authenticate
        self._session = session
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

    def admit(self, route: Route, headers: Mapping[str, str], remote_address: str) -> Caller:
        """Who asks. Raises Unauthenticated, Forbidden, or NotOurForm.

        A page's form without the header says its word in the body, which is not here yet: ``check_form``.
        """
        access = route.access
        if access is Access.PUBLIC:
            return NOBODY
        live: Live | None = None
        header = headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
                raise Unauthenticated("expected the header Authorization: Bearer <token>", header="Authorization")
            principal = self._authenticate(token.strip())
        else:
            live = self.session(headers)
            if live is None:
                proxied = any(name in headers for name in PROXY_HEADERS)
                if access is Access.PROBE and is_loopback(remote_address) and not proxied:
                    return NOBODY
                raise Unauthenticated("expected the header Authorization: Bearer <token>", header="Authorization")
            principal = live.principal
        if not allowed(principal.role, access):
            raise Forbidden(
                f"{'the session of' if live else 'the token'} {principal.name!r} has the role {principal.role}; this "
                f"needs {'viewer' if access is Access.PROBE else access}"
            )
        if live is not None and route.unsafe and not (route.page and XSRF not in headers):
            _check_word(live, headers.get(XSRF))
        return Caller(principal, live)

    def session(self, headers: Mapping[str, str]) -> Live | None:
        """The session whose cookie the browser shows, if it is good now."""
        cookie = cookies(headers).get(self.cookie)
        return None if not cookie or len(cookie) > MAX_TOKEN else self._session(cookie)


def check_form(caller: Caller, headers: Mapping[str, str], fields: Mapping[str, str]) -> None:
    """Refuse a form of a session that does not say its word. Raises NotOurForm."""
    if caller.live is not None and XSRF not in headers:
        _check_word(caller.live, fields.get(XSRF_FIELD))


def _check_word(live: Live, word: str | None) -> None:
    if word is None or not hmac.compare_digest(word.encode(), live.session.xsrf.encode()):
        raise NotOurForm(hint=f"our own pages send it as the header {XSRF}")


def cookies(headers: Mapping[str, str]) -> dict[str, str]:
    """The cookies of a request, as they were sent."""
    found: dict[str, str] = {}
    for part in headers.get("Cookie", "").split(";"):
        name, equals, value = part.strip().partition("=")
        if equals:
            found.setdefault(name, value)
    return found


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
