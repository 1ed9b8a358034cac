"""From the documentation's Markdown to HTML. HTML in it is taken for text, and links lead to our own pages.

Its author is the same as that of this code; nevertheless nothing in it becomes markup but what Markdown says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup
from msgspec import Struct

from schedule_zero.web.pages import docs_library as library
from schedule_zero.web.pages.render import environment

SCHEMES = frozenset({"http", "https", "mailto"})


class Heading(Struct, frozen=True):
    level: int
    text: str
    anchor: str


class Rendered(Struct, frozen=True):
    """A page: its title, what stands below it, and the headings in that."""

    title: str
    html: Markup
    headings: list[Heading]


class _Renderer(RendererHTML):
    """As the library has it, with our own elements around code and tables."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        macros: Any = environment().globals["ui"]
        return str(macros.code(tokens[idx].content.rstrip("\n")))

    code_block = fence

    def html_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        # Comments are for the tools that write parts of a page.
        text = tokens[idx].content
        return "" if text.lstrip().startswith("<!--") else f"<p>{escapeHtml(text)}</p>"

    def html_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        text = tokens[idx].content
        return "" if text.startswith("<!--") else escapeHtml(text)

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return '<div class="wide" tabindex="0"><table class="list">\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return "</table></div>\n"


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}, renderer_cls=_Renderer).enable("table")


@cache
def page(name: str) -> Rendered:
    """A page of the documentation. NotFound. The largest takes some 100 ms, once."""
    parser = _parser()
    tokens = parser.parse(library.text(name))
    anchors, headings = library.Anchors(), list[Heading]()
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            text = library.plain(tokens[place + 1].content)
            anchor = anchors.of(text)
            token.attrSet("id", anchor)
            headings.append(Heading(int(token.tag[1]), text, anchor))
        elif token.type in ("td_open", "th_open"):
            # (How it is aligned would be a style, which our pages have none of.)
            token.attrs.pop("style", None)
            if token.type == "th_open" and not tokens[place + 1].content:
                # A column without a name has no heading.
                token.tag = tokens[place + 2].tag = "td"
    _lead_home(tokens, name)
    # Its title is the page's own heading.
    if len(tokens) > 2 and tokens[0].tag == "h1":
        del tokens[:3]
        headings = headings[1:]
    html = parser.renderer.render(tokens, parser.options, {})
    # What this renderer makes, it has escaped.
    return Rendered(library.title(name), Markup(html), headings)  # noqa: S704


def inline(markdown: str, at: str = library.HOME) -> Markup:
    """One line, such as the meaning of a setting; its links are relative to the page ``at``."""
    parser = _parser()
    tokens = parser.parseInline(markdown)
    _lead_home(tokens, at)
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704


def _lead_home(tokens: Sequence[Token], name: str) -> None:
    """Links to other pages become addresses of ours; those to files that did not come along become plain text."""
    for token in _all(tokens):
        if token.type == "image":
            token.attrSet("src", target(str(token.attrs.get("src", "")), name) or "")
        elif token.type == "inline":
            open_links: list[str] = []
            for child in token.children or ():
                if child.type == "link_open":
                    to = target(str(child.attrs.get("href", "")), name)
                    child.tag = "a" if to else "span"
                    child.attrs = {"href": to} if to else {}
                    open_links.append(child.tag)
                elif child.type == "link_close":
                    child.tag = open_links.pop()


def _all(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())


def target(link: str, name: str) -> str | None:
    """Where a link in the page ``name`` leads to here; None: nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return link if parts.scheme in SCHEMES else None
    anchor = f"#{parts.fragment}" if parts.fragment else ""
    if not parts.path:
        return anchor or None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
    if path.endswith(library.PICTURES) and not path.startswith(".."):
        return f"/docs/{quote(path)}"
    there = path.removesuffix(".md")
    if not path.endswith(".md") or there not in library.names():
        return None
    return f"/docs{anchor}" if there == library.HOME else f"/docs/{quote(there)}{anchor}"


@cache
def setting_meanings() -> dict[str, Markup]:
    """What each setting means; empty where the documentation did not come along."""
    return {
        path: inline(meaning, "reference/configuration")
        for path, meaning in library.setting_meanings().items()
        if meaning
    }
