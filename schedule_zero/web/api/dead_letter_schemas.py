"""What the API takes about dead letters: one Struct per body and per query string."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from schedule_zero.errors import InvalidField
from schedule_zero.job_options import JobOptions
from schedule_zero.rules.options import NO_OPTIONS
from schedule_zero.service.dead_letters import Edit
from schedule_zero.store.dead_letters import Which
from schedule_zero.web.api.schemas import DEFAULT_LIMIT, Body, Cursor, Limit, Note, Params, Query
from schedule_zero.wire.messages import Name

DEFAULT_RATE = 10.0
GroupId = Annotated[str, Meta(min_length=1, max_length=300, description="The `id` of a group.")]
Rate = Annotated[float, Meta(ge=0.001, le=1000, description="Executions per second; for a group or a filter 10.")]


class GroupsQuery(Query, frozen=True, kw_only=True):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET
    handler_id: Name | UnsetType = UNSET
    job_method: Annotated[Name, Meta(description="Together with `handler_id`.")] | UnsetType = UNSET


class LettersQuery(Query, frozen=True, kw_only=True):
    group: GroupId | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | UnsetType = UNSET


class LettersExportQuery(Query, frozen=True, kw_only=True):
    group: GroupId


class WhichBody(Body, frozen=True, kw_only=True):
    """Which dead letters: exactly one of `ids`, `group`, `handler_id` (with `job_method` or without) and `all`."""

    ids: Annotated[list[Name], Meta(min_length=1, max_length=500, description="Of executions.")] | None = None
    group: GroupId | None = None
    handler_id: Name | None = None
    job_method: Name | None = None
    all: bool = False

    def which(self) -> Which | list[str]:
        """InvalidField unless it is one of them."""
        said = [name for name in ("ids", "group", "handler_id", "all") if getattr(self, name)]
        if len(said) != 1:
            got = " and ".join(said) or "none of them"
            raise InvalidField(f"expected one of ids, group, handler_id and all, got {got}", pointer="")
        if self.ids:
            if len(set(self.ids)) != len(self.ids):
                raise InvalidField("expected each id once", pointer="/ids")
            return self.ids
        if self.job_method is not None and self.handler_id is None:
            raise InvalidField("a method is one of a handler: expected handler_id as well", pointer="/handler_id")
        return Which(dead_letter=self.group, handler_id=self.handler_id, job_method=self.job_method)


class RequeueBody(WhichBody, frozen=True, kw_only=True):
    """Dead letters to be run again."""

    job_params: Annotated[Params, Meta(description="Instead of the old ones; for a single id.")] | UnsetType = UNSET
    job_params_patch: (
        Annotated[dict[str, Any], Meta(description="RFC 7386: merged into the parameters of each of them.")] | None
    ) = None
    options: Annotated[JobOptions, Meta(description="Job options that are to be others than before.")] = NO_OPTIONS
    rate_per_s: Rate | None = None
    dry_run: Annotated[bool, Meta(description="Only count.")] = False

    def edit(self) -> Edit:
        """InvalidField for one that can't be meant."""
        params = None if isinstance(self.job_params, UnsetType) else self.job_params
        if params is not None:
            if self.ids is None or len(self.ids) != 1:
                said = "whole parameters are for one id: expected job_params_patch for several"
                raise InvalidField(said, pointer="/job_params")
            if self.job_params_patch is not None:
                said = "expected one of job_params and job_params_patch, got both"
                raise InvalidField(said, pointer="/job_params_patch")
        return Edit(job_params=params, patch=self.job_params_patch, options=self.options)


class DiscardBody(WhichBody, frozen=True, kw_only=True):
    """Dead letters that nobody waits for any more."""

    note: Note | None = None
    dry_run: Annotated[bool, Meta(description="Only count.")] = False
