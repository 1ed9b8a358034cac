"""The logs of executions as the API takes and gives them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from schedule_zero.clock import rfc3339
from schedule_zero.model import State
from schedule_zero.service.logs import LogView
from schedule_zero.web.api.records import Count, Moment, Record
from schedule_zero.web.api.schemas import Query
from schedule_zero.wire.log_lines import Line

MAX_LINES = 5_000

_Number = Annotated[int, Meta(ge=0, le=2**53 - 1, description="The first line to show; the first of all is 0.")]
_Attempt = Annotated[int, Meta(ge=1, le=1_000_000, description="Of this attempt; the newest.")]
_Tail = Annotated[int, Meta(ge=0, le=MAX_LINES, description="The last so many lines.")]
_Grep = Annotated[str, Meta(min_length=1, max_length=1000, description="Only lines with this text in them.")]
_Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    Meta(description="Only lines of this level or a worse one; what was printed has none."),
]
_Stream = Annotated[Literal["stdout", "stderr", "log", "node"], Meta(description="Only lines of this stream.")]


class LogsQuery(Query, frozen=True, kw_only=True):
    attempt: _Attempt | UnsetType = UNSET
    from_: _Number | UnsetType = field(default=UNSET, name="from")
    limit: Annotated[int, Meta(ge=1, le=MAX_LINES, description="At most so many lines.")] = 1000
    tail: _Tail | UnsetType = UNSET
    grep: _Grep | UnsetType = UNSET
    ignore_case: Annotated[bool, Meta(description="Of `grep`.")] = False
    level: _Level | UnsetType = UNSET
    stream: _Stream | UnsetType = UNSET
    format: Literal["json", "text"] = "json"


class FollowQuery(Query, frozen=True, kw_only=True):
    attempt: Annotated[int, Meta(ge=1, le=1_000_000, description="Begin with this attempt.")] | UnsetType = UNSET
    from_: _Number | UnsetType = field(default=UNSET, name="from")
    tail: _Tail | UnsetType = UNSET
    grep: _Grep | UnsetType = UNSET
    ignore_case: Annotated[bool, Meta(description="Of `grep`.")] = False
    level: _Level | UnsetType = UNSET
    stream: _Stream | UnsetType = UNSET


class LogLine(Record, kw_only=True):
    """One line. ``stream`` is ``stdout``, ``stderr``, ``log`` (the job's logger), or ``node``: words of its node."""

    line: Count
    at: Moment | None
    stream: str
    level: str | None
    text: str


class LogPage(Record, kw_only=True):
    """Lines of one attempt; ``next`` is where to go on (``from``), null at the end of what there is."""

    id: str
    attempt: int
    count: Count
    lines: list[LogLine]
    next: int | None
    # Lines that the log has by now; with ``complete``, there will be no more.
    total_lines: Count
    complete: bool


def line_record(number: int, line: Line) -> LogLine:
    at = rfc3339(line.at_us) if line.at_us else None
    return LogLine(line=number, at=at, stream=line.stream, level=line.level, text=line.text)


def log_page(view: LogView) -> LogPage:
    found = view.found
    return LogPage(
        id=view.execution_id,
        attempt=view.attempt,
        count=len(found.lines),
        lines=[line_record(number, line) for number, line in found.lines],
        next=found.following,
        total_lines=found.total,
        complete=view.complete,
    )


class LogEnd(Record, kw_only=True):
    """The last event of a stream; not ``complete``: its node died, or was gone, before it had sent everything."""

    status: State
    complete: bool


def end_data(view: LogView) -> Any:
    return LogEnd(status=view.state, complete=view.complete or not view.token)
