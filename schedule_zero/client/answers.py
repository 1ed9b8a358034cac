"""The answers that a verb unpacks, rather than gives back as they are."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schedule_zero.client.records import HandlerRecord, JobError, NodeRecord, ScheduleRecord


class Ids(Struct):
    ids: list[str]


class Created(Struct):
    id: str


class Deleted(Struct):
    deleted: list[str]


class Ran(Struct):
    status: str
    execution_id: str
    message: str = ""
    result: Any = None
    result_bytes: int | None = None
    error: JobError | None = None


class Schedules(Struct):
    schedules: list[ScheduleRecord]


class Handlers(Struct):
    handlers: list[HandlerRecord]


class Nodes(Struct):
    nodes: list[NodeRecord]
