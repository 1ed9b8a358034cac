"""The figures of the overview as its template shows them: tiles, charts and what they say in words, a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Literal
from urllib.parse import quote

from markupsafe import Markup
from msgspec import Struct

from schedule_zero.clock import from_us
from schedule_zero.dispatch.dispatcher import NodeView
from schedule_zero.model import NodeState
from schedule_zero.rules.series import Bucket, Spread
from schedule_zero.service.overview import Standing
from schedule_zero.service.series import SeriesView
from schedule_zero.web.pages.charts import Chart, Line, chart_data, sparkline, three_digits
from schedule_zero.web.pages.render import url
from schedule_zero.web.pages.words import count, duration, plural

# Nodes that are shown one by one; those with trouble are the first.
MOST_NODES = 40


class Range(StrEnum):
    """How far back the charts go."""

    QUARTER = "15m"
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"


# How long each is, and its buckets, in seconds.
RANGES = {
    Range.QUARTER: (900, 60),
    Range.HOUR: (3_600, 60),
    Range.SIX_HOURS: (21_600, 300),
    Range.DAY: (86_400, 600),
    Range.WEEK: (604_800, 3_600),
}
RANGE_WORDS = {
    Range.QUARTER: "15 minutes",
    Range.HOUR: "hour",
    Range.SIX_HOURS: "6 hours",
    Range.DAY: "24 hours",
    Range.WEEK: "7 days",
}
# What ends are called, and in which colour they are drawn, from the bottom up.
ENDS = (
    ("completed", "completed", "ok"),
    ("failed", "failed", "bad"),
    ("timeout", "timeout", "wait"),
    ("dead", "dead", "dead"),
    ("cancelled", "cancelled", "muted"),
    ("misfired", "misfired", "run"),
)
QUANTILES = (("p50", "run", False), ("p95", "wait", False), ("p99", "bad", True))


class Tile(Struct, frozen=True, kw_only=True):
    label: str
    value: str
    note: str = ""
    kind: str = ""
    href: str
    spark: Markup = Markup("")


class Drawn(Struct, frozen=True, kw_only=True):
    """A chart with what it says to those who don't see it."""

    id: str
    title: str
    says: str
    data: Markup


class Figures(Struct, frozen=True, kw_only=True):
    """A row of the table: what the charts show of one bucket, and the executions of that time."""

    from_us: int
    href: str
    ended: list[int]
    lateness: str
    queue_wait: str
    run_time: str
    open: int | None
    running: int | None


def executions_url(from_us: int, to_us: int, q: str = "") -> str:
    """The executions that were created in ``[from_us, to_us)``, in the search language."""
    said = f"{q} since:{_second(from_us)} until:{_second(to_us)}".strip()
    # As chart.js writes it: readable.
    return f"/executions?q={quote(said, safe=':')}"


def _second(us: int) -> str:
    return f"{from_us(us):%Y-%m-%dT%H:%M:%SZ}"


def tiles(standing: Standing) -> list[Tile]:
    """What runs, what waits, what became of the last hour, what is late, what is left to be dealt with."""
    spark = standing.spark
    waiting = [
        None if open_ is None or running is None else max(0, open_ - running)
        for open_, running in zip(spark.open, spark.running, strict=True)
    ]
    completed, failed, late = sum(spark.completed), sum(spark.failed), sum(spark.late)
    slots = sum(node.slots for node in standing.nodes if node.state is NodeState.ONLINE)
    share = failed / (failed + completed) if failed else 0
    lateness = spark.lateness
    return [
        Tile(
            label="Running",
            value=count(standing.running),
            note=f"of {plural(slots, 'slot')}",
            kind="run" if standing.running else "",
            href=url("/executions", q="state:running"),
            spark=sparkline(spark.running),
        ),
        Tile(
            label="Waiting",
            value=count(standing.waiting),
            note="open, not running",
            kind="wait" if standing.waiting else "",
            href=url("/executions", q="state:pending,scheduled,retry_scheduled,blocked"),
            spark=sparkline(waiting),
        ),
        Tile(
            label="Completed",
            value=count(completed),
            note="in the last hour",
            kind="ok" if completed else "",
            href=url("/executions", q="state:completed since:1h"),
            spark=sparkline(spark.completed),
        ),
        Tile(
            label="Failed",
            value=count(failed),
            note=f"{_percent(share)} in the last hour" if failed else "in the last hour",
            kind="bad" if failed else "",
            href=url("/executions", q="state:failed-like since:1h"),
            spark=sparkline(spark.failed),
        ),
        Tile(
            label="Late fires",
            value=count(late),
            note="over 1 s, in the last hour" if lateness is None else f"p95 {duration(lateness.p95_s)} now",
            kind="wait" if late else "",
            href="#charts-head",
            spark=sparkline(spark.late),
        ),
        Tile(
            label="Dead letters",
            value=count(standing.dead_letters),
            note="to be dealt with" if standing.dead_letters else "nothing to deal with",
            kind="bad" if standing.dead_letters else "",
            href="/dead-letters",
        ),
    ]


def _percent(share: float) -> str:
    return f"{share * 100:.2g}%"


# --- charts -----------------------------------------------------------------------------------------


def charts(view: SeriesView, zone: str) -> list[Drawn]:
    """Throughput, what is open, and three kinds of times."""
    stats = [bucket.stats for bucket in view.buckets]
    ends = [(label, colour, [one.ended.get(state, 0) for one in stats]) for state, label, colour in ENDS]
    # What never happened needs no place in the legend, but for the usual two.
    ends = [one for one in ends if any(one[2]) or one[0] in ("completed", "failed")]
    says = ", ".join(f"{sum(values):,} {label}" for label, _, values in ends)
    open_, running = [one.open for one in stats], [one.running for one in stats]
    throughput = _chart(view, zone, [Line(*one) for one in ends], kind="stack")
    in_flight = _chart(view, zone, [Line("open", "wait", open_), Line("running", "run", running)])
    return [
        Drawn(id="throughput", title=f"Ended per {_step_words(view)}", says=says, data=throughput),
        Drawn(
            id="open",
            title="Open and running",
            says=f"most open {_most(open_)}, most running {_most(running)}",
            data=in_flight,
        ),
        _times(view, zone, "lateness", "Lateness: due to decided", lambda bucket: bucket.lateness),
        _times(view, zone, "queue", "Queue wait: created to sent", lambda bucket: bucket.queue_wait),
        _times(view, zone, "run", "Run time", lambda bucket: bucket.run_time),
    ]


def _times(view: SeriesView, zone: str, id_: str, title: str, of: Callable[[Bucket], Spread | None]) -> Drawn:
    spreads = [of(bucket) for bucket in view.buckets]
    lines = [
        Line(
            name,
            colour,
            [None if spread is None else three_digits(_quantile(spread, name)) for spread in spreads],
            dash=dash,
        )
        for name, colour, dash in QUANTILES
    ]
    worst = max((spread.p95_s for spread in spreads if spread is not None), default=None)
    says = "none in this time" if worst is None else f"worst p95 {duration(worst)}"
    return Drawn(id=id_, title=title, says=says, data=_chart(view, zone, lines, unit="s"))


def _chart(
    view: SeriesView,
    zone: str,
    lines: list[Line],
    *,
    kind: Literal["stack", "lines"] = "lines",
    unit: Literal["count", "s"] = "count",
) -> Markup:
    return chart_data(
        Chart(
            kind=kind,
            unit=unit,
            from_s=view.from_us // 1_000_000,
            step=view.step_us // 1_000_000,
            zone=zone,
            lines=lines,
            log=unit == "s",
        )
    )


def _quantile(spread: Spread, name: str) -> float:
    return {"p50": spread.p50_s, "p95": spread.p95_s, "p99": spread.p99_s}[name]


def _step_words(view: SeriesView) -> str:
    minutes = view.step_us // 60_000_000
    if minutes < 60:
        return "minute" if minutes == 1 else f"{minutes} minutes"
    return "hour" if minutes == 60 else f"{minutes // 60} hours"


def _most(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):,}" if known else "unknown"


def figures(view: SeriesView) -> tuple[list[str], list[Figures]]:
    """The names of the ends, and the buckets in which anything was counted, the newest first."""
    rows = [
        Figures(
            from_us=bucket.from_us,
            href=executions_url(bucket.from_us, bucket.from_us + view.step_us),
            ended=[bucket.stats.ended.get(state, 0) for state, _, _ in ENDS],
            lateness=_spread(bucket.lateness),
            queue_wait=_spread(bucket.queue_wait),
            run_time=_spread(bucket.run_time),
            open=bucket.stats.open,
            running=bucket.stats.running,
        )
        for bucket in reversed(view.buckets)
        if bucket.stats.eventful
    ]
    return [label for _, label, _ in ENDS], rows


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{duration(spread.p50_s)} · {duration(spread.p95_s)} · {duration(spread.p99_s)}"


# --- nodes ------------------------------------------------------------------------------------------

_ORDER = {NodeState.LOST: 0, NodeState.SUSPECT: 1, NodeState.ONLINE: 3, NodeState.OFFLINE: 4}


def nodes_shown(nodes: Sequence[NodeView]) -> tuple[list[NodeView], int]:
    """Those with trouble first, ``MOST_NODES`` at most; and how many are left out."""
    order = sorted(
        nodes, key=lambda node: (2 if node.operation and _ORDER[node.state] == 3 else _ORDER[node.state], node.node_id)
    )
    return order[:MOST_NODES], max(0, len(order) - MOST_NODES)
