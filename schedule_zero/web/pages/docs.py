"""The documentation, offline: its pages, the reference of the API with a form to try each operation, and a search."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

from markupsafe import Markup
from msgspec import Meta, Struct

from schedule_zero.errors import NotFound
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import allowed
from schedule_zero.web.pages import api_view, static
from schedule_zero.web.pages import docs_library as library
from schedule_zero.web.pages.render import HTML, page
from schedule_zero.web.pages.session_cookie import origin

if TYPE_CHECKING:
    from schedule_zero.web.pages.docs_markdown import Rendered

Words = Annotated[str, Meta(max_length=200)]


class SearchQuery(Struct, frozen=True, forbid_unknown_fields=True):
    q: Words = ""


class ChapterQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # The operation that is shown open.
    op: Annotated[str, Meta(max_length=100)] = ""


async def index(request: ApiRequest) -> Response:
    """The contents, or what was found."""
    query: SearchQuery = request.query
    words = query.q.strip()
    # The first search reads all pages, and the first look makes the reference: neither holds anybody up.
    found = await asyncio.to_thread(library.find, words) if words else []
    operations = await asyncio.to_thread(api_view.find, words) if words else []
    chapters = await asyncio.to_thread(api_view.chapters)
    contents = await _rendered(library.HOME) if library.HOME in library.names() else None
    return page(
        request,
        "docs.html",
        title=f"{words} – docs" if words else "API and docs",
        words=words,
        found=found,
        operations=operations[:40],
        chapters=chapters.values(),
        contents=contents,
    )


async def show(request: ApiRequest) -> Response:
    """A page of the documentation, or a picture in it. NotFound."""
    name = unquote(request.id)
    if name == "api":
        return Response(status=303, headers=(("Location", "/docs"),), content_type=HTML)
    if name.endswith(library.PICTURES):
        headers = (("Cache-Control", "private, max-age=3600"),)
        return Response(library.picture(name), content_type=static.TYPES[name[-4:]], headers=headers)
    rendered = await _rendered(name)
    group, _, _ = name.partition("/")
    return page(request, "docs_page.html", title=rendered.title, name=name, group=group, rendered=rendered)


async def chapter(request: ApiRequest) -> Response:
    """A chapter of the API's reference. NotFound."""
    query: ChapterQuery = request.query
    found = (await asyncio.to_thread(api_view.chapters)).get(request.id)
    if found is None:
        raise NotFound(f"the API's reference has no chapter {request.id[:100]!r}", hint="see /docs")
    return page(
        request,
        "docs_api.html",
        title=f"{found.title} – API",
        chapter=found,
        opened=query.op,
        origin=origin(request.headers),
        may=lambda operation: allowed(request.principal.role, operation.access),
        inline=_inline,
    )


async def _rendered(name: str) -> Rendered:
    from schedule_zero.web.pages import docs_markdown

    return await asyncio.to_thread(docs_markdown.page, name)


def _inline(markdown: str) -> Markup:
    from schedule_zero.web.pages import docs_markdown

    return docs_markdown.inline(markdown, "reference/api")
