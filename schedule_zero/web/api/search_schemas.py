"""What the API takes to find executions, and to do something with all that it found: query strings and bodies."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schedule_zero.errors import InvalidField
from schedule_zero.model import State
from schedule_zero.rules.search_parse import MAX_TEXT
from schedule_zero.store.execution_lists import Filter
from schedule_zero.web.api.schemas import DEFAULT_LIMIT, Body, Cursor, Limit, Moment, Query, given, moment_us
from schedule_zero.wire.messages import Name

SearchText = Annotated[
    str, Meta(max_length=MAX_TEXT, description="A search, such as `state:failed job:etl.* since:2h arg.customer:42`.")
]
ViewerZone = Annotated[
    str, Meta(min_length=1, max_length=64, description="An IANA zone: whose days and local times the search means.")
]
Ids = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1)]
OfGroup = Annotated[Name, Meta(description="Of this group, backfill, requeue or batch.")]
Since = Annotated[Moment, Meta(description="Created at this moment or later.")]
Until = Annotated[Moment, Meta(description="Created at this moment or earlier.")]


class FoundQuery(Query, frozen=True, kw_only=True):
    """Which executions: all of what is given has to hold."""

    q: SearchText = ""
    timezone: ViewerZone | UnsetType = UNSET
    handler_id: Name | UnsetType = UNSET
    job_method: Name | UnsetType = UNSET
    # The same thing by its name and by the earlier one.
    schedule_id: Name | UnsetType = UNSET
    job_id: Name | UnsetType = UNSET
    node_id: Name | UnsetType = UNSET
    group_id: OfGroup | UnsetType = UNSET
    status: Annotated[list[State], Meta(description="One or more, by comma or repeated.")] | UnsetType = UNSET
    since: Since | UnsetType = UNSET
    until: Until | UnsetType = UNSET

    def filter(self) -> Filter:
        """All but the search. InvalidField: one thing by two names."""
        schedule_id, job_id = given(self.schedule_id), given(self.job_id)
        if schedule_id is not None and job_id is not None and schedule_id != job_id:
            raise InvalidField("job_id is the earlier name of schedule_id: give one of them", parameter="job_id")
        return Filter(
            handler_id=given(self.handler_id),
            schedule_id=job_id if schedule_id is None else schedule_id,
            job_method=given(self.job_method),
            node_id=given(self.node_id),
            group_id=given(self.group_id),
            states=given(self.status) or [],
            since_us=moment_us(self.since),
            until_us=moment_us(self.until),
        )


class ExecutionsQuery(FoundQuery, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class HistogramQuery(FoundQuery, frozen=True, kw_only=True):
    pass


class ExportQuery(FoundQuery, frozen=True, kw_only=True):
    format: Annotated[
        Literal["csv", "json", "jsonl"], Meta(description="`json`: one list; `jsonl`: an object on each line.")
    ] = "csv"


class SuggestQuery(Query, frozen=True, kw_only=True):
    q: SearchText = ""
    at: (
        Annotated[int, Meta(ge=0, le=MAX_TEXT, description="The place of the caret, from 0; unless given, the end.")]
        | UnsetType
    ) = UNSET


class FoundBody(Body, frozen=True, kw_only=True):
    """Which executions: `ids`, or all that all the other fields say; at least one of them."""

    ids: Ids | None = None
    q: SearchText | None = None
    timezone: ViewerZone | None = None
    handler_id: Name | None = None
    job_method: Name | None = None
    schedule_id: Name | None = None
    group_id: OfGroup | None = None
    node_id: Name | None = None
    status: list[State] | None = None
    since: Since | None = None
    until: Until | None = None
    dry_run: Annotated[bool, Meta(description="Only count.")] = False

    def named(self) -> list[str]:
        """The fields that say which, beside ids."""
        fields = ("q", "handler_id", "job_method", "schedule_id", "group_id", "node_id", "status", "since", "until")
        return [name for name in fields if getattr(self, name) is not None]

    def filter(self) -> Filter:
        """All but ids and search. InvalidField: nothing says which, or two ways do."""
        named = self.named()
        if self.ids is not None and named:
            raise InvalidField(f"give ids, or {' and '.join(named)}, not both", pointer="/ids")
        if self.ids is None and not named:
            expected = "q, handler_id, job_method, schedule_id, group_id, node_id, status, since, until"
            raise InvalidField(f"expected ids, or at least one of {expected}", pointer="")
        if self.ids is not None and self.dry_run:
            raise InvalidField("dry_run counts what a filter finds; ids are counted already", pointer="/dry_run")
        return Filter(
            handler_id=self.handler_id,
            job_method=self.job_method,
            schedule_id=self.schedule_id,
            group_id=self.group_id,
            node_id=self.node_id,
            states=self.status or [],
            since_us=moment_us(self.since),
            until_us=moment_us(self.until),
        )


class CancelManyBody(FoundBody, frozen=True, kw_only=True):
    """Which executions to cancel: `ids`, or everything open that all the other fields say; at least one of them.

    With `q` it is done by the server, in a batch, however many there are.
    """

    status: Annotated[
        list[State] | None,
        Meta(description="Only in these states. Without `running`, nothing that has started is touched."),
    ] = None
    cursor: Annotated[Cursor | None, Meta(description="`next_cursor` of the answer before.")] = None


class RetryManyBody(FoundBody, frozen=True, kw_only=True):
    """Which executions to run again: `ids`, or everything that is over and that all the other fields say."""

    ids: (
        Annotated[
            list[Annotated[str, Meta(pattern=r"^[0-9a-hjkmnp-tv-z]{26}(?!\n)$")]], Meta(min_length=1, max_length=500)
        ]
        | None
    ) = None
