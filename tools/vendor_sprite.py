"""Makes one SVG file of many icons: ``<use href="….svg#i-NAME">`` shows one. Pure: bytes in, bytes out.

Only shapes and how they are drawn get through. Anything else, such as an ``id`` that could clash, a style or a script,
is an error: a person has to judge it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

SVG = "{http://www.w3.org/2000/svg}"
VIEW_BOX = "0 0 24 24"

# How an icon is drawn: goes along to its symbol, whose shapes inherit it.
DRAWN = ("fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin")
# Said by whoever uses the symbol.
LEFT_OUT = {"class", "width", "height", "viewBox"}
GEOMETRY = {"d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height"}
SHAPES = {"path", "circle", "rect", "line", "ellipse", "polyline", "polygon"}


class IconError(Exception):
    """An icon is not made of what we expect icons to be made of."""


def sprite(icons: Mapping[str, bytes], *, notice: str) -> bytes:
    """SVG with a ``<symbol id="i-NAME">`` for each icon, one a line, in the order of ``icons``.

    ``notice`` says in a comment whose they are. Raises IconError.
    """
    lines = ['<svg xmlns="http://www.w3.org/2000/svg">', f"<!-- {escape(notice).replace('--', '- -')} -->"]
    lines += [symbol(name, content) for name, content in icons.items()]
    return ("\n".join([*lines, "</svg>"]) + "\n").encode()


def symbol(name: str, content: bytes) -> str:
    try:
        root = ET.fromstring(content)  # noqa: S314 (its hash was verified; what is in it is looked at below)
    except ET.ParseError as error:
        raise IconError(f"icon {name!r}: expected SVG: {error}") from error
    if root.tag != f"{SVG}svg" or root.get("viewBox") != VIEW_BOX:
        raise IconError(
            f"icon {name!r}: expected <svg viewBox={VIEW_BOX!r}>, got <{local(root)} viewBox={root.get('viewBox')!r}>"
        )
    if unknown := set(root.keys()) - LEFT_OUT - set(DRAWN):
        raise IconError(f"icon {name!r}: <svg> has {', '.join(sorted(unknown))}, which we do not know")
    drawn = {key: value for key in DRAWN if (value := root.get(key)) is not None}
    return (
        f"<symbol{attributes({'id': f'i-{name}', 'viewBox': VIEW_BOX} | drawn)}>{''.join(shapes(name, root))}</symbol>"
    )


def shapes(name: str, root: ET.Element) -> Iterator[str]:
    for shape in root:
        if not shape.tag.startswith(SVG) or local(shape) not in SHAPES or len(shape):
            raise IconError(f"icon {name!r}: expected {', '.join(sorted(SHAPES))}, got <{local(shape)}>")
        if unknown := set(shape.keys()) - GEOMETRY - set(DRAWN):
            raise IconError(f"icon {name!r}: <{local(shape)}> has {', '.join(sorted(unknown))}, which we do not know")
        yield f"<{local(shape)}{attributes(shape.attrib)}/>"


def local(element: ET.Element) -> str:
    return element.tag.removeprefix(SVG)


def attributes(values: Mapping[str, str]) -> str:
    return "".join(f" {key}={quoteattr(value)}" for key, value in values.items())
