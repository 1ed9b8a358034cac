"""Requests of a node to its server over HTTP, and what their answers mean: an answer, or the end of the session.

httpx is imported with the first client that is made, not with this module.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from schedule_zero.clock import to_us
from schedule_zero.config import is_loopback
from schedule_zero.node.link import BACKOFF_MAX_S, End
from schedule_zero.node.settings import HttpAccess

if TYPE_CHECKING:
    import httpx

CONNECT_S = 5.0

_encode = msgspec.json.Encoder().encode


class _Error(Struct):
    code: str = ""
    message: str = ""


class _Problem(Struct):
    error: _Error = msgspec.field(default_factory=_Error)


_decode_problem = msgspec.json.Decoder(_Problem).decode
# What a decoder raises over an answer, whoever gave it; the last over brackets without end.
_NOT_OURS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reply(Struct):
    """An answer, whatever its status."""

    status: int
    # Of our server's problem document; "" for an answer of somebody else.
    code: str
    message: str
    retry_after_s: float
    body: bytes


class Over(Exception):
    """The end of a session."""

    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end


class Requests:
    """One connection pool for as long as the link runs."""

    def __init__(self, access: HttpAccess, transport: Any = None) -> None:
        self._access = access
        # For tests.
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Make the client."""
        import httpx

        url = httpx.URL(self._access.url)
        self._http = httpx.AsyncClient(
            base_url=url,
            # Making a TLS context costs 100 ms, and over http:// there is no TLS to verify.
            verify=url.scheme == "https",
            # A proxy of the environment can't reach this machine's loopback.
            trust_env=not is_loopback(url.host),
            limits=httpx.Limits(max_connections=10, keepalive_expiry=30.0),
            transport=self._transport,
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def post(self, path: str, body: dict[str, Any], answer_s: float) -> Reply:
        import httpx

        if self._http is None:
            raise AssertionError("a request before open()")
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._access.read_token()}"}
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        try:
            response = await self._http.post(path, content=_encode(body), headers=headers, timeout=timeout)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise Over(End("unreachable", f"{type(error).__name__}: {error}"[:200])) from None
        code, message = "", ""
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            try:
                problem = _decode_problem(response.content).error
                code, message = problem.code, problem.message
            except _NOT_OURS:
                # Not our server's: a proxy's page.
                message = f"HTTP {response.status_code} without a reason that this node understands"
        return Reply(response.status_code, code, message, _retry_after_s(response), response.content)


def checked(reply: Reply) -> None:
    """Raises ``Over`` for whatever is no success."""
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if reply.status == HTTPStatus.UNAUTHORIZED:
        raise Over(End("unauthenticated", reply.message))
    if reply.status == HTTPStatus.FORBIDDEN:
        raise Over(End("forbidden", reply.message))
    raise Over(End(f"http_{reply.status}", reply.message[:200], reply.retry_after_s))


def decoded(reply: Reply, decode: Any) -> Any:
    """The answer of a success; anything else ends the session."""
    checked(reply)
    return decoded_problem(reply, decode)


def decoded_problem(reply: Reply, decode: Any) -> Any:
    """The answer of a refusal of which the node understands more than its code."""
    try:
        return decode(reply.body)
    except _NOT_OURS as error:
        raise Over(End("not_understood", f"is it a ScheduleZero server? {error}"[:200])) from None


def _retry_after_s(response: httpx.Response) -> float:
    said = response.headers.get("retry-after", "")
    return min(float(said), BACKOFF_MAX_S) if said.isascii() and said.isdigit() else 0.0


def moment_us(moment: str) -> int:
    """What the server wrote as RFC 3339."""
    try:
        return to_us(datetime.fromisoformat(moment))
    except (ValueError, TypeError):  # none at all, one without a zone
        raise Over(End("not_understood", f"{moment[:50]!r} is no moment")) from None
