"""Small plots as inline SVG: lines and points over time with fault windows, histograms, bars. No script, no request.

Colours come from the page's style (classes ``data``, ``axis``, ``fault``), so that a plot is light or dark with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from schedule_zero.testbed.html import Html, el, join

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 480.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 12.0, 26.0, 42.0
MOST_POINTS = 800
MOST_BINS = 40
BAR, GAP = 22.0, 8.0
TICKS = 5
LONGEST_NAME = 24
# Of more windows, the names would cover what is drawn.
MOST_NAMED = 3


class Window(NamedTuple):
    """When something was done, and what. ``to`` None: it lasted to the end."""

    name: str
    begin: float
    to: float | None


class Axis(NamedTuple):
    low: float
    high: float
    ticks: list[float]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def lines(title: str, points: Points, *, x: str, y: str, windows: Sequence[Window] = ()) -> Html:
    """Points joined in their order."""
    return _over_time(title, points, x=x, y=y, windows=windows, joined=True)


def scatter(title: str, points: Points, *, x: str, y: str, windows: Sequence[Window] = ()) -> Html:
    return _over_time(title, points, x=x, y=y, windows=windows, joined=False)


def _over_time(title: str, points: Points, *, x: str, y: str, windows: Sequence[Window], joined: bool) -> Html:
    if not points:
        return _empty(title)
    shown = thin(points)
    across = axis(min(p[0] for p in points), max(p[0] for p in points))
    # From zero, unless something is below it: a line that seems to double has doubled.
    up = axis(min(0.0, *(p[1] for p in points)), max(p[1] for p in points))
    places = [(_x(across, px), _y(up, py)) for px, py in shown]
    if joined:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        data = el("polyline", points=path, class_="data line")
    else:
        data = join(*(el("circle", cx=px, cy=py, r=1.8, class_="data point") for px, py in places))
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    said = f"{title}: {len(points)} points, {y} from {label(low)} to {label(high)}"
    shades = bands(windows, across, lambda at: _x(across, at), TOP, HEIGHT - BOTTOM)
    return svg(said, title, _axes(across, up, x, y), shades, data)


def histogram(title: str, values: Sequence[float], *, x: str) -> Html:
    """How often which value; what lies beyond the 99th of a hundred is told, and not drawn."""
    if not values:
        return _empty(title)
    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    across = axis(ordered[0], top)
    bins = min(MOST_BINS, max(5, round(2 * math.sqrt(len(ordered)))))
    counts = [0] * bins
    inside = [value for value in ordered if value <= across.high]
    for value in inside:
        counts[min(bins - 1, int(across.share(value) * bins))] += 1
    up = axis(0.0, float(max(counts)), least=1.0)
    width = (WIDTH - LEFT - RIGHT) / bins
    bars = [
        el(
            "rect",
            x=LEFT + at * width,
            y=_y(up, n),
            width=max(width - 1, 1),
            height=_y(up, 0) - _y(up, n),
            class_="data",
        )
        for at, n in enumerate(counts)
        if n
    ]
    beyond = len(ordered) - len(inside)
    more = f", {beyond} beyond {label(across.high)} (at most {label(ordered[-1])})" if beyond else ""
    said = f"{title}: {len(ordered)} values from {label(ordered[0])} to {label(ordered[-1])} {x}{more}"
    return svg(said, title, _axes(across, up, x + more, "times"), *bars)


def bars(title: str, values: Mapping[str, float], *, unit: str) -> Html:
    """One bar for each name, from left to right, with its figure."""
    if not values:
        return _empty(title)
    top = max(*values.values(), 0.0) or 1.0
    height = TOP + len(values) * (BAR + GAP) + GAP
    left, room = 150.0, WIDTH - 150.0 - 70.0
    rows = []
    for at, (name, value) in enumerate(values.items()):
        y = TOP + GAP + at * (BAR + GAP)
        width = max(0.0, value) / top * room
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        rows += [
            el("text", short, x=left - 6, y=y + BAR * 0.7, text_anchor="end", class_="axis"),
            el("rect", x=left, y=y, width=width, height=BAR, class_="data"),
            el("text", label(value), x=left + width + 6, y=y + BAR * 0.7, class_="axis"),
        ]
    said = f"{title}, in {unit}: " + ", ".join(f"{name} {label(value)}" for name, value in values.items())
    return svg(said, f"{title} ({unit})", *rows, height=height)


# --- parts ----------------------------------------------------------------------------------------------


def axis(low: float, high: float, *, least: float = 0.0) -> Axis:
    """An axis from a round figure to a round one, with some five ticks between, no less than ``least`` apart."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = max(least, _round_step((high - low) / TICKS))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, [number * step for number in range(first, last + 1)])


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * 0.999), 10 * power)


def thin(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most about so many: of each stretch its lowest and its highest, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) * 2 // most)
    kept: list[tuple[float, float]] = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = {
            min(range(len(stretch)), key=lambda at: stretch[at][1]),
            max(range(len(stretch)), key=lambda at: stretch[at][1]),
        }
        kept += [stretch[at] for at in sorted(ends)]
    return kept


def label(value: float) -> str:
    """A figure beside a tick or a bar."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:,.2f}".rstrip("0").rstrip(".")


def _x(across: Axis, value: float) -> float:
    return LEFT + across.share(value) * (WIDTH - LEFT - RIGHT)


def _y(up: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - up.share(value) * (HEIGHT - TOP - BOTTOM)


def _axes(across: Axis, up: Axis, x: str, y: str) -> Html:
    floor, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in up.ticks:
        at = _y(up, value)
        parts.append(el("line", x1=LEFT, x2=end, y1=at, y2=at, class_="grid"))
        parts.append(el("text", label(value), x=LEFT - 6, y=at + 4, text_anchor="end", class_="axis"))
    for value in across.ticks:
        at = _x(across, value)
        parts.append(el("line", x1=at, x2=at, y1=floor, y2=floor + 4, class_="rule"))
        parts.append(el("text", label(value), x=at, y=floor + 17, text_anchor="middle", class_="axis"))
    parts.append(el("line", x1=LEFT, x2=end, y1=floor, y2=floor, class_="rule"))
    parts.append(el("text", x, x=end, y=HEIGHT - 8, text_anchor="end", class_="axis name"))
    parts.append(el("text", y, x=end, y=15, text_anchor="end", class_="axis name"))
    return join(*parts)


def bands(
    windows: Sequence[Window],
    across: Axis,
    place: Callable[[float], float],
    top: float,
    floor: float,
    *,
    most_named: int = MOST_NAMED,
) -> Html:
    """What was done, as bands over the whole height; at least so wide that one sees them. ``place``: x of a moment."""
    parts: list[Html] = []
    names: list[Html] = []
    for window in windows:
        begin = max(across.low, window.begin)
        end = min(across.high, across.high if window.to is None else window.to)
        if begin > across.high or end < across.low:
            continue
        x1, x2 = place(begin), place(max(begin, end))
        said = el("title", window.name)
        parts.append(el("rect", said, x=x1, y=top, width=max(x2 - x1, 2), height=floor - top, class_="fault"))
        if len(windows) <= most_named:
            name = window.name if len(window.name) <= LONGEST_NAME else f"{window.name[: LONGEST_NAME - 1]}…"
            at, anchor = (x2 - 4, "end") if begin > (across.low + across.high) / 2 else (x1 + 4, "start")
            y = top + 14 + len(names) * 15
            names.append(el("text", name, x=at, y=y, text_anchor=anchor, class_="axis named"))
    return join(*parts, *names)


def svg(said: str, title: str, *parts: Html, width: float = WIDTH, height: float = HEIGHT) -> Html:
    """A picture with its heading; ``said``: what it shows, in words."""
    return el(
        "svg",
        el("title", said),
        el("text", title if len(title) <= 60 else f"{title[:59]}…", x=4, y=15, class_="heading"),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=said,
        class_="plot",
    )


def _empty(title: str) -> Html:
    nothing = el("text", "nothing to draw", x=WIDTH / 2, y=50, text_anchor="middle", class_="axis")
    return svg(f"{title}: nothing to draw", title, nothing, height=80)
