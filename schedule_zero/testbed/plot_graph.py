"""The DAG that ran, as inline SVG: bars over time, a lane for each node, lines from what was waited for to what waited.

Steps are told by place and text as well as by colour, which is the page's (classes ``step``, ``edge``, ``violated``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schedule_zero.reports.record import Edge, Graph, Step
from schedule_zero.testbed.answers import duration, number
from schedule_zero.testbed.graph import violated
from schedule_zero.testbed.html import Html, el, join
from schedule_zero.testbed.plots import Axis, Window, axis, bands, label, svg

WIDTH = 960.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 14.0, 30.0, 40.0
MOST_STEPS = 150
MOST_EDGES = 800
# Rows are as high as there is room for; a name is written into bars of such rows where it fits.
ROOM, HIGHEST, LOWEST, WITH_NAMES = 420.0, 16.0, 5.0, 11.0
LANE_GAP = 8.0
NARROWEST = 2.0
# A bar that is hollow.
HOLLOW = 5.0
CHAR = 6.2
LONGEST_NAME = 12
# So many names are told of what did not run, or was violated.
TOLD = 5


class Bar(NamedTuple):
    step: Step
    x: float
    width: float
    y: float
    # Where its edges begin and end.
    middle: float


def dag(graph: Graph, *, windows: Sequence[Window] = ()) -> Html:
    """A figure, with its caption in words."""
    bad = violated(graph)
    shown = chosen(graph, bad)
    said = words(graph, bad, len(shown), windows)
    caption = el("figcaption", " ".join(said), class_="soft")
    if not shown:
        return el("figure", el("p", f"{graph.name}: nothing of it ran."), caption, class_="graph")
    picture = _picture(graph, shown, bad, windows, f"{graph.name}: {' '.join(said)}")
    return el("figure", el("div", picture, class_="wide"), caption, class_="graph")


def chosen(graph: Graph, bad: Sequence[Edge]) -> list[Step]:
    """Those that are drawn, in the order of their starts: what ran; of too much, whole parts as long as there is room.

    Parts in which something is odd come first, then those that began first.
    """
    ran = sorted((step for step in graph.steps if step.start_s is not None), key=_start_s)
    if len(ran) <= MOST_STEPS:
        return ran
    odd = {name for edge in bad for name in edge} | {step.name for step in ran if step.outcome != "ok"}
    parts = sorted(_parts(ran, graph.edges), key=lambda part: not any(step.name in odd for step in part))
    kept: list[Step] = []
    for part in parts:
        if len(kept) + len(part) <= MOST_STEPS:
            kept += part
    # One that is too large alone: as much of it as there may be.
    return sorted(kept or parts[0][:MOST_STEPS], key=_start_s)


def _parts(ran: Sequence[Step], edges: Sequence[Edge]) -> list[list[Step]]:
    """Steps that hang together, in the order of their starts; so are the parts."""
    names = {step.name for step in ran}
    beside: dict[str, list[str]] = {name: [] for name in names}
    for one, then in edges:
        if one in names and then in names:
            beside[one].append(then)
            beside[then].append(one)
    part_of: dict[str, int] = {}
    for at, step in enumerate(ran):
        open_ = [step.name]
        while open_:
            name = open_.pop()
            if name not in part_of:
                part_of[name] = at
                open_ += beside[name]
    parts: dict[int, list[Step]] = {}
    for step in ran:
        parts.setdefault(part_of[step.name], []).append(step)
    return list(parts.values())


def words(graph: Graph, bad: Sequence[Edge], drawn: int, windows: Sequence[Window] = ()) -> list[str]:
    """What the picture shows, in sentences."""
    ran = [step for step in graph.steps if step.start_s is not None]
    nodes = len({step.node for step in ran})
    took_s = max(map(_over_s, ran)) - min(map(_start_s, ran)) if ran else 0.0
    edges = len(graph.edges)
    until = "start" if graph.overlap else "end"
    order = f"Of {_many(edges, 'dependency', 'dependencies')} none was violated."
    if bad:
        told = _some([f"{after} began before the {until} of {before}" for before, after in bad])
        order = f"{number(len(bad))} of {_many(edges, 'dependency', 'dependencies')} violated: {told}."
    said = [f"{_many(len(ran), 'run', 'runs')} on {_many(nodes, 'node', 'nodes')} in {duration(took_s)}.", order]
    if failed := [step.name for step in ran if step.outcome == "error"]:
        said.append(f"{number(len(failed))} failed: {_some(failed)}.")
    if blind := [step.name for step in ran if step.end_s is None]:
        said.append(f"Of {number(len(blind))} nothing tells of the end: {_some(blind)}.")
    if idle := [step.name for step in graph.steps if step.start_s is None]:
        said.append(f"{number(len(idle))} did not run: {_some(idle)}.")
    if drawn < len(ran):
        said.append(f"{number(drawn)} of them are drawn: where something is odd, then what began first.")
    if ran and windows:
        said.append(f"Shaded: {_some([window.name for window in windows])}.")
    return said


# --- parts ----------------------------------------------------------------------------------------------


def _picture(graph: Graph, shown: Sequence[Step], bad: Sequence[Edge], windows: Sequence[Window], said: str) -> Html:
    across = axis(_start_s(shown[0]), max(map(_over_s, shown)))
    packed = {node: _packed([step for step in shown if step.node == node], across) for node in _nodes(shown)}
    high = min(HIGHEST, max(LOWEST, ROOM / sum(len(rows) for rows in packed.values())))
    bars: dict[str, Bar] = {}
    lanes: list[Html] = []
    top = TOP
    for node, rows in packed.items():
        tall = max(len(rows) * high, HIGHEST)
        short = node if len(node) <= LONGEST_NAME else f"{node[: LONGEST_NAME - 1]}…"
        lanes.append(el("rect", x=LEFT, y=top, width=WIDTH - LEFT - RIGHT, height=tall, class_="lane"))
        lanes.append(el("text", short, x=LEFT - 8, y=top + tall / 2 + 4, text_anchor="end", class_="axis"))
        for at, row in enumerate(rows):
            for step in row:
                x, width = _place(step, across)
                bars[step.name] = Bar(step, x, width, top + at * high, top + (at + 0.5) * high)
        top += tall + LANE_GAP
    floor = top
    odd, wrong = set(bad), {after for _, after in bad}
    drawn = [(bars[one], bars[then], (one, then) in odd) for one, then in graph.edges if one in bars and then in bars]
    drawn = sorted(drawn, key=lambda edge: edge[2])[-MOST_EDGES:]
    return svg(
        said,
        graph.name,
        *lanes,
        _axis(across, floor),
        # (Their names stand in the caption: here they would be under bars.)
        bands(windows, across, lambda at: _x(across, at), TOP, floor, most_named=0),
        *(_edge(one, then, graph, bad=False) for one, then, is_bad in drawn if not is_bad),
        *(_bar(bar, high, wrong=bar.step.name in wrong) for bar in bars.values()),
        # On top of all.
        *(_edge(one, then, graph, bad=True) for one, then, is_bad in drawn if is_bad),
        width=WIDTH,
        height=floor + BOTTOM,
    )


def _nodes(shown: Sequence[Step]) -> list[str]:
    return sorted({step.node for step in shown})


def _packed(steps: Sequence[Step], across: Axis) -> list[list[Step]]:
    """Rows of steps that don't overlap, as few as it takes; each step goes into the first in which there is room."""
    rows: list[list[Step]] = []
    ends: list[float] = []
    for step in steps:
        x, width = _place(step, across)
        at = next((at for at, end in enumerate(ends) if end <= x), len(rows))
        if at == len(rows):
            rows.append([])
            ends.append(0.0)
        rows[at].append(step)
        ends[at] = x + width + 1
    return rows


def _place(step: Step, across: Axis) -> tuple[float, float]:
    x = _x(across, _start_s(step))
    return x, max(_x(across, _over_s(step)) - x, NARROWEST if step.end_s is not None else HOLLOW)


def _bar(bar: Bar, high: float, *, wrong: bool) -> Html:
    step = bar.step
    kind = "open" if step.end_s is None else "error" if step.outcome == "error" else "ok"
    y, height = bar.y + 0.5, high - 1
    box = el(
        "rect",
        el("title", _told(step)),
        x=bar.x,
        y=y,
        width=bar.width,
        height=height,
        rx=min(2.0, bar.width / 2),
        class_=f"step {kind}{' violated' if wrong else ''}",
    )
    if kind == "open" or high < WITH_NAMES or bar.width < len(step.name) * CHAR + 6:
        return box
    return join(box, el("text", step.name, x=bar.x + 3, y=y + height / 2 + 3.7, class_="inside"))


def _told(step: Step) -> str:
    start_s = _start_s(step)
    where = f"{step.name} on {step.node}"
    if step.end_s is None:
        return f"{where}: from {label(start_s)} s; nothing tells of its end"
    took = duration(step.end_s - start_s)
    return f"{where}: {step.outcome or 'over'}, from {label(start_s)} s to {label(step.end_s)} s ({took})"


def _edge(one: Bar, then: Bar, graph: Graph, *, bad: bool) -> Html:
    x1 = one.x if graph.overlap or one.step.end_s is None else one.x + one.width
    until = "start" if graph.overlap else "end"
    said = f"{then.step.name} began before the {until} of {one.step.name}" if bad else None
    return el(
        "line",
        el("title", said) if said else None,
        x1=x1,
        y1=one.middle,
        x2=then.x,
        y2=then.middle,
        class_="edge violated" if bad else "edge",
    )


def _axis(across: Axis, floor: float) -> Html:
    end = WIDTH - RIGHT
    parts = [el("line", x1=LEFT, x2=end, y1=floor, y2=floor, class_="rule")]
    for value in across.ticks:
        at = _x(across, value)
        parts.append(el("line", x1=at, x2=at, y1=TOP, y2=floor + 4, class_="grid"))
        parts.append(el("text", label(value), x=at, y=floor + 17, text_anchor="middle", class_="axis"))
    parts.append(el("text", "s", x=end, y=floor + 33, text_anchor="end", class_="axis name"))
    return join(*parts)


def _x(across: Axis, value: float) -> float:
    return LEFT + across.share(value) * (WIDTH - LEFT - RIGHT)


def _start_s(step: Step) -> float:
    return step.start_s or 0.0


def _over_s(step: Step) -> float:
    """Its end; of what has none, its start."""
    return _start_s(step) if step.end_s is None else max(step.end_s, _start_s(step))


def _many(count: int, one: str, more: str) -> str:
    return f"{number(count)} {one if count == 1 else more}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {number(more)} more" if more > 0 else "")
