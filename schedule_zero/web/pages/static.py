"""Files of the UI: read once, compressed once, and named by their content, so that a browser never asks twice.

Their address has a hash of all of them in it: modules import each other by relative names, so a new version of one is a
new address of all.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

from msgspec import Struct

from schedule_zero.errors import NotFound
from schedule_zero.web.api.request import ApiRequest, Response

FOLDER = Path(__file__).parent.parent / "static"
PREFIX = "/static/"
FOREVER = ("Cache-Control", "public, max-age=31536000, immutable")
# An address of another version: what is there now, to be asked for again soon.
SOON = ("Cache-Control", "no-cache")
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
}


class StaticFile(Struct, frozen=True):
    content_type: str
    plain: bytes
    gzipped: bytes


class StaticFiles(Struct, frozen=True):
    """All files by their path, and the hash that stands for them all."""

    version: str
    by_path: dict[str, StaticFile]

    def url(self, path: str) -> str:
        """The address of a file. Raises KeyError for one that isn't there: a template's mistake."""
        if path not in self.by_path:
            raise KeyError(f"no static file {path!r}")
        return f"{PREFIX}{self.version}/{path}"


@cache
def files() -> StaticFiles:
    """Read when the first page is asked for: a server that shows none doesn't pay for them."""
    digest = hashlib.sha256()
    by_path = {}
    for path in sorted(FOLDER.rglob("*")):
        content_type = TYPES.get(path.suffix)
        if content_type is None or not path.is_file():
            continue
        name, plain = path.relative_to(FOLDER).as_posix(), path.read_bytes()
        digest.update(f"{name}\0{len(plain)}\0".encode())
        digest.update(plain)
        by_path[name] = StaticFile(content_type, plain, gzip.compress(plain, 9, mtime=0))
    return StaticFiles(digest.hexdigest()[:12], by_path)


async def send(request: ApiRequest) -> Response:
    """One file; ``id`` is ``<version>/<path>``."""
    version, _, path = request.id.partition("/")
    found = files().by_path.get(path)
    if found is None:
        raise NotFound(f"there is no file {path[:200]!r}")
    headers = (FOREVER if version == files().version else SOON, ("Vary", "Accept-Encoding"))
    if "gzip" in request.headers.get("Accept-Encoding", "") and len(found.gzipped) < len(found.plain):
        return Response(
            found.gzipped, headers=(*headers, ("Content-Encoding", "gzip")), content_type=found.content_type
        )
    return Response(found.plain, headers=headers, content_type=found.content_type)
