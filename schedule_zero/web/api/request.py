"""What an endpoint gets and gives: one request with everything decoded and checked, one response."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.errors import InvalidField, ScheduleZeroError
from schedule_zero.service.sessions import Live
from schedule_zero.service.specs import IdemKey, Principal

if TYPE_CHECKING:
    from schedule_zero.config import ServerConfig
    from schedule_zero.service import Service

JSON = "application/json"
IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_IDEMPOTENCY_KEY = 255


class ApiRequest(Struct):
    """One admitted request."""

    service: Service
    config: ServerConfig
    # Who asks; None only on public routes and on probes from this machine.
    caller: Principal | None
    method: str
    path: str
    # The id in the path, "" where it has none.
    id: str
    # The route's query Struct and body Struct (or one of its two, for OneOrMany), decoded.
    query: Any
    body: Any
    headers: Mapping[str, str]
    raw_body: bytes
    # The browser's session, if it is one that asks.
    live: Live | None = None
    # Of the peer, and of this request: for the change log.
    address: str = ""
    request_id: str = ""
    # The last event before a page's facts were read: what came later, it does not show.
    since_seq: int = 0
    # What the cookie of sessions is called here.
    cookie_name: str = ""

    @property
    def principal(self) -> Principal:
        """Who asks, on a route that wants a token."""
        if self.caller is None:
            raise AssertionError(f"{self.path} has no principal: it is public")
        return replace(self.caller, address=self.address, request_id=self.request_id)

    def wait_s(self, wanted_s: float) -> float:
        """How long this request may wait: what the client wants, cut to the server's limit."""
        return min(wanted_s, self.config.http.max_wait_s)

    def idempotency_key(self, body: bytes | None = None) -> IdemKey | None:
        """The key that the client gave this write, bound to what it wrote: ``body``, else the body as it came."""
        key = self.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            return None
        if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY or not key.isascii() or not key.isprintable():
            raise InvalidField(
                f"{IDEMPOTENCY_KEY} has to be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters",
                header=IDEMPOTENCY_KEY,
            )
        digest = hashlib.sha256(f"{self.method} {self.path}\n".encode())
        digest.update(self.raw_body if body is None else body)
        return IdemKey(key=key, fingerprint=digest.hexdigest())


class Response(Struct):
    """``body`` is sent as it is when it is bytes, else as JSON; None is an empty body."""

    body: Any = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON
    # For a client that takes gzip. (Not where a secret stands beside what somebody else may choose.)
    compress: bool = False


class EventStream(Struct):
    """A response in chunks, sent as they come, until there are no more or the client goes."""

    chunks: AsyncGenerator[bytes, None]
    content_type: str = "text/event-stream"
    # How many bytes that will be, where it is known.
    length: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


def replayed(was_replayed: bool) -> tuple[tuple[str, str], ...]:
    """The header that tells a repetition's answer from a first one's."""
    return (("Idempotent-Replayed", "true"),) if was_replayed else ()


@contextmanager
def pointing_into(prefix: str, *, when: bool = True) -> Iterator[None]:
    """Move the pointer of an error below ``prefix``: a list of one item is still a list to its sender."""
    try:
        yield
    except ScheduleZeroError as error:
        if when and error.pointer is not None and not error.pointer.startswith(prefix):
            error.pointer = prefix + error.pointer
        raise
