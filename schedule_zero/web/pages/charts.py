"""What charts are made of: data for ``<sz-chart>`` (chart.js draws it), and sparklines that need no script at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from markupsafe import Markup
from msgspec import Struct

WIDTH, HEIGHT = 100, 24

_encode = msgspec.json.Encoder().encode


class Line(Struct, frozen=True, omit_defaults=True):
    """One series: a value for each bucket; None: there is none. ``colour`` is a token of app.css."""

    label: str
    colour: str
    values: Sequence[float | None]
    dash: bool = False


class Chart(Struct, frozen=True, kw_only=True):
    """Buckets of ``step`` seconds from ``from_s`` (Unix time) on."""

    # ``stack``: counts upon one another; ``lines``.
    kind: Literal["stack", "lines"]
    unit: Literal["count", "s"]
    from_s: int
    step: int
    # In which its times are written.
    zone: str
    lines: list[Line]
    # Values over many powers of ten.
    log: bool = False


def chart_data(chart: Chart) -> Markup:
    """A block of data in the page: no script runs, so the strict policy lets it stand.

    Nothing in it may end the element that it stands in, whatever is in the labels.
    """
    text = _encode(chart).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    # (Escaped as JSON right above: as HTML its quotes would be spoilt.)
    return Markup('<script type="application/json">') + Markup(text) + Markup("</script>")  # noqa: S704


def three_digits(value: float | None) -> float | None:
    """As exact as a chart can be looked at."""
    return None if value is None else float(f"{value:.3g}")


def sparkline(values: Sequence[float | None], label: str = "") -> Markup:
    """Values as a line in the colour of the text around it; decoration, unless it has a label. Without any: nothing."""
    known = [value for value in values if value is not None]
    if len(values) < 2 or not known:
        return Markup("")
    top = max(*known, 1e-9)
    lines, areas = [], []
    for points in _stretches(values, top):
        line = " ".join(f"{x:g},{y:g}" for x, y in points)
        lines.append(f"M{line}")
        areas.append(f"M{points[0][0]:g},{HEIGHT} L{line} L{points[-1][0]:g},{HEIGHT}Z")
    said = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup(
        '<svg class="spark" {} viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<path d="{}" fill="currentColor" fill-opacity=".14"/>'
        '<path d="{}" fill="none" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>'
    ).format(said, WIDTH, HEIGHT, " ".join(areas), " ".join(lines))


def _stretches(values: Sequence[float | None], top: float) -> list[list[tuple[float, float]]]:
    """The points of each stretch without a gap; a single one is a short dash."""
    step = WIDTH / (len(values) - 1)
    found: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            found.append([])
            continue
        # (A line at the very edge would be cut in half.)
        found[-1].append((round(place * step, 1), round(HEIGHT - 1 - value / top * (HEIGHT - 2), 1)))
    return [points if len(points) > 1 else [points[0], (points[0][0] + 1, points[0][1])] for points in found if points]
