"""Entity tags in conditional requests (RFC 9110, section 13): what If-Match and If-None-Match say."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from schedule_zero.errors import InvalidField, NotFound, PreconditionFailed
from schedule_zero.web.api.request import ApiRequest

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def known(request: ApiRequest, current: str) -> bool:
    """Whether the client has the current version already (If-None-Match on a GET)."""
    header = request.headers.get("If-None-Match")
    return header is not None and (header.strip() == "*" or current in tags(header, "If-None-Match", weak=True))


def create_only(request: ApiRequest) -> bool:
    """Whether a PUT may only create (``If-None-Match: *``)."""
    header = request.headers.get("If-None-Match")
    if header is not None and header.strip() != "*":
        raise InvalidField('expected If-None-Match: * ("only if there is none yet")', header="If-None-Match")
    return header is not None


async def if_match(request: ApiRequest, current: Callable[[], Awaitable[str]]) -> str | None:
    """The version that the thing has to have for this write; None if the client did not say.

    ``current`` is asked for the version that it has now, and may raise NotFound.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return None
    given = None if header.strip() == "*" else tags(header, "If-Match", weak=False)
    if given is not None and len(given) == 1:
        return given[0]
    # "*" or one of several: decided for the version that it has now, and held to that one by the store.
    try:
        now = await current()
    except NotFound as error:
        raise PreconditionFailed(error.message, header="If-Match") from None
    if given is not None and now not in given:
        raise PreconditionFailed(header="If-Match")
    return now


def tags(header: str, name: str, *, weak: bool) -> list[str]:
    """The opaque parts of a list of entity tags. A weak one never matches If-Match (RFC 9110, 13.1.1)."""
    found = []
    for part in header.split(","):
        tag = _ETAG.fullmatch(part.strip())
        if tag is None:
            raise InvalidField(f'{name} takes entity tags in double quotes, such as "1-3", or *', header=name)
        found.append(tag[2] if weak or not tag[1] else "W/")
    return found
