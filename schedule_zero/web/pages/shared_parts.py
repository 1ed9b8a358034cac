"""Parts of pages that many have open: rendered and compressed once for all who see the same.

A part may be shared if nothing in it is of one session alone: no forms, since each has its session's word in it. Who
sees the same: the same facts (the very same objects), in the same zone, with the same role.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.preferences import preferences

# Kept at once: parts × zones × roles.
MOST = 200
GZIP_LEVEL = 4


class _Kept(Struct, frozen=True):
    sources: tuple[object, ...]
    plain: Response
    gzipped: Response


_kept: dict[tuple[Any, ...], _Kept] = {}


def shared_part(
    request: ApiRequest, name: str, sources: tuple[object, ...], render: Callable[[], Response], *also: object
) -> Response:
    """The part as ``render`` makes it, or as it was made of the same ``sources`` before.

    ``also``: what it depends on beside the sources, the viewer's role and in which zone he wants times.
    """
    wanted = preferences(request.headers)
    key = (name, request.principal.role, wanted.time, wanted.zone.key, *also)
    kept = _kept.get(key)
    if kept is None or not _same(kept.sources, sources):
        plain = render()
        assert isinstance(plain.body, bytes)  # a rendered template
        packed = gzip.compress(plain.body, GZIP_LEVEL, mtime=0)
        headers = (*plain.headers, ("Content-Encoding", "gzip"))
        kept = _Kept(
            sources, replace(plain, compress=False), replace(plain, body=packed, headers=headers, compress=False)
        )
        _kept.pop(key, None)
        _kept[key] = kept
        if len(_kept) > MOST:
            del _kept[next(iter(_kept))]
    return kept.gzipped if "gzip" in request.headers.get("Accept-Encoding", "") else kept.plain


def _same(mine: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(mine) == len(others) and all(one is other for one, other in zip(mine, others, strict=True))
