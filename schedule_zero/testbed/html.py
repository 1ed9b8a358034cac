"""HTML and SVG as values: whatever is not ``Html`` is text, and becomes it. So nothing in a report can be markup."""

from __future__ import annotations

from html import escape


class Html(str):
    """Markup that was made by ``el``."""

    __slots__ = ()


Child = str | Html | None
# Elements without an end.
_VOID = frozenset({"meta", "br", "rect", "line", "circle", "path", "polyline"})


def clean(text: str) -> str:
    """A text without what does not print: control characters, marks that turn the direction of writing."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)


def text(said: str) -> Html:
    return said if isinstance(said, Html) else Html(escape(clean(said)))


def el(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """One element. In an attribute's name ``_`` is ``-``, and nothing at its end (``class_``). None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(_short(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(text(child) for child in children if child is not None)
    if name in _VOID and not inner:
        return Html(f"<{name}{said}/>")
    return Html(f"<{name}{said}>{inner}</{name}>")


def join(*children: Child) -> Html:
    return Html("".join(text(child) for child in children if child is not None))


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
