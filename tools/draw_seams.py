"""Draws what a change of the clock does to a trigger: ``docs/reference/img/dst-gap.svg`` and ``dst-fold.svg``.

What is drawn is asked of the triggers themselves, in Berlin in 2027, so that the pictures cannot say anything else than
the code does. ``gen_docs.py`` writes the files. Colours are chosen by the reader's scheme, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from schedule_zero.clock import from_us, to_us
from schedule_zero.timing import Trigger, parse_trigger
from schedule_zero.timing.seams import skipped_by_gap

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "reference" / "img"
ZONE = "Europe/Berlin"
BERLIN = ZoneInfo(ZONE)

WIDTH, LEFT, RIGHT = 800, 285, 40
PLOT_TOP, PLOT_HEIGHT, ROWS_TOP, ROW = 58, 190, 292, 40

STYLE = """
  .paper { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e } .grid { stroke: #d1d9e0; stroke-width: 1 }
  .wall { stroke: #0969da; stroke-width: 2.5; fill: none } .jump { stroke: #0969da; stroke-width: 1.5; fill: none;
  stroke-dasharray: 2 4 } .named { stroke: #9a6700; stroke-width: 1.5; stroke-dasharray: 6 4 }
  .band { fill: #9a6700; fill-opacity: 0.10 } .fire { fill: #1a7f37 } .lost { stroke: #d1242f; stroke-width: 2.5 }
  .late { fill: #9a6700 } .lane { stroke: #818b98; stroke-width: 1 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif }
  .title { font-size: 15px; font-weight: 600 } .code { font-family: ui-monospace, Menlo, Consolas, monospace }
  .small { font-size: 11.5px }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .ink { fill: #f0f6fc } .soft { fill: #9198a1 } .grid { stroke: #3d444d }
    .wall, .jump { stroke: #4493f8 } .named { stroke: #d29922 } .band, .late { fill: #d29922 } .fire { fill: #3fb950 }
    .lost { stroke: #f85149 } .lane { stroke: #656c76 }
  }
"""


@dataclass(frozen=True)
class Row:
    """One trigger, and how the reader would write it."""

    expression: str
    policy: dict[str, str]
    says: str

    @property
    def trigger(self) -> Trigger:
        return parse_trigger({"type": "cron", "expression": self.expression, "timezone": ZONE, **self.policy})

    @property
    def written(self) -> str:
        return " ".join(f"{name} {value}" for name, value in self.policy.items())


@dataclass(frozen=True)
class Picture:
    """A window of real time, in which the clock changes in the middle."""

    name: str
    title: str
    start: datetime
    hours: int
    # The local hour that is jumped over or repeated.
    hour: int
    rows: tuple[Row, ...]

    def x(self, moment: datetime) -> float:
        share = (moment - self.start) / timedelta(hours=self.hours)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, local: datetime) -> float:
        # Up to an hour more than the window is long: that is where a jump leads.
        first = self.start.astimezone(BERLIN).replace(tzinfo=None)
        share = (local.replace(tzinfo=None) - first) / timedelta(hours=self.hours + 1)
        return round(PLOT_TOP + PLOT_HEIGHT * (1 - share), 1)


GAP = Picture(
    "dst-gap",
    "The gap: on 28 March 2027 the clock in Berlin jumps from 02:00 to 03:00",
    datetime(2027, 3, 27, 23, tzinfo=UTC),
    5,
    2,
    (
        Row("30 2 * * *", {"dst_gap": "shift"}, "fires at 03:00 instead"),
        Row("30 2 * * *", {"dst_gap": "skip"}, "does not fire on this day"),
        Row("0,30 2 * * *", {"dst_gap": "shift"}, "once for both"),
        Row("0 2,3 * * *", {"dst_gap": "shift"}, "03:00 exists: once"),
        Row("0 * * * *", {}, "every hour of real time"),
    ),
)
FOLD = Picture(
    "dst-fold",
    "The fold: on 31 October 2027 the clock in Berlin is set back from 03:00 to 02:00",
    datetime(2027, 10, 30, 22, tzinfo=UTC),
    5,
    2,
    (
        Row("30 2 * * *", {"dst_fold": "first"}, "at the first 02:30"),
        Row("30 2 * * *", {"dst_fold": "second"}, "at the second 02:30"),
        Row("30 2 * * *", {"dst_fold": "both"}, "at both"),
        Row("0 * * * *", {}, "every hour of real time"),
        Row("0 * * * *", {"dst_fold": "first"}, "each local hour once"),
    ),
)


def draw(picture: Picture) -> str:
    height = ROWS_TOP + ROW * len(picture.rows) + 26
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-labelledby="title">'
        ),
        f'<title id="title">{picture.title}</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="ink title" x="20" y="30">{picture.title}</text>',
        *_wall(picture),
        *_rows(picture),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _wall(picture: Picture) -> Iterator[str]:
    """What the clock on the wall shows, over real time."""
    bottom = ROWS_TOP + ROW * len(picture.rows) - 14
    yield f'<text class="soft small" x="20" y="{PLOT_TOP + 8}">what the clock on the wall shows</text>'
    for hour in range(picture.hours + 1):
        moment = picture.start + timedelta(hours=hour)
        x = picture.x(moment)
        yield f'<line class="grid" x1="{x}" y1="{PLOT_TOP}" x2="{x}" y2="{bottom}"/>'
        yield f'<text class="soft small" x="{x}" y="{bottom + 22}" text-anchor="middle">{moment:%H:%M}</text>'
    yield f'<text class="soft small" x="20" y="{bottom + 22}">real time (UTC)</text>'
    day = picture.start.astimezone(BERLIN).replace(tzinfo=None, hour=0, minute=0)
    top, low = (picture.y(day + timedelta(hours=picture.hour + more)) for more in (1, 0))
    right = WIDTH - RIGHT
    yield f'<rect class="band" x="{LEFT}" y="{top}" width="{right - LEFT}" height="{low - top}"/>'
    for hour in range(picture.hour - 1, picture.hour + 3):
        y = picture.y(day + timedelta(hours=hour))
        yield f'<text class="soft small" x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{hour:02}:00</text>'
    half = picture.y(day + timedelta(hours=picture.hour, minutes=30))
    yield f'<line class="named" x1="{LEFT}" y1="{half}" x2="{right}" y2="{half}"/>'
    yield f'<text class="late" x="{LEFT - 10}" y="{half + 4}" text-anchor="end">02:30</text>'
    yield from _clock(picture)


def _clock(picture: Picture) -> Iterator[str]:
    points: list[list[str]] = [[]]
    before = None
    for minute in range(picture.hours * 60 + 1):
        moment = picture.start + timedelta(minutes=minute)
        local = moment.astimezone(BERLIN)
        if before is not None and local.utcoffset() != before.utcoffset():
            # Up to the moment of the change, and on from there at another time.
            reached = (before + timedelta(minutes=1)).replace(tzinfo=None)
            points[-1].append(f"{picture.x(moment)},{picture.y(reached)}")
            x, y = picture.x(moment), (picture.y(reached), picture.y(local))
            yield f'<line class="jump" x1="{x}" y1="{y[0]}" x2="{x}" y2="{y[1]}"/>'
            points.append([])
        if minute % 30 == 0 or not points[-1]:
            points[-1].append(f"{picture.x(moment)},{picture.y(local)}")
        before = local
    for part in points:
        yield f'<polyline class="wall" points="{" ".join(part)}"/>'


def _rows(picture: Picture) -> Iterator[str]:
    """The fires of each trigger, each with what the wall shows."""
    start_us, end_us = to_us(picture.start), to_us(picture.start + timedelta(hours=picture.hours))
    for index, row in enumerate(picture.rows):
        y = ROWS_TOP + ROW * index
        yield f'<text class="ink code" x="20" y="{y}">{row.expression}</text>'
        yield f'<text class="soft small" x="20" y="{y + 15}">{row.written or "no policy"}: {row.says}</text>'
        yield f'<line class="lane" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
        for lost in {skipped.at_us for skipped in skipped_by_gap(row.trigger, start_us, end_us)}:
            x = picture.x(from_us(lost))
            yield f'<path class="lost" d="M{x - 5} {y - 5}L{x + 5} {y + 5}M{x - 5} {y + 5}L{x + 5} {y - 5}"/>'
        us = row.trigger.next_after(start_us - 1)
        while us is not None and us <= end_us:
            moment = from_us(us)
            kind = "late" if row.trigger.marks(us) == ("dst_gap",) else "fire"
            x = picture.x(moment)
            yield f'<circle class="{kind}" cx="{x}" cy="{y}" r="5"/>'
            local = f"{moment.astimezone(BERLIN):%H:%M}"
            yield f'<text class="soft small" x="{x}" y="{y - 9}" text-anchor="middle">{local}</text>'
            us = row.trigger.next_after(us)


def pictures() -> dict[Path, str]:
    """The files and what they should hold."""
    return {IMAGES / f"{picture.name}.svg": draw(picture) for picture in (GAP, FOLD)}
