"""Groups: one job on every matching node, or in parts; with one outcome together."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.errors import InvalidField, NotFound
from schedule_zero.model import Group, GroupKind, GroupState, State
from schedule_zero.store.executions import Filter
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages.execution_lines import lines
from schedule_zero.web.pages.render import HTML, done, page, part, search, url
from schedule_zero.web.pages.words import plural

TOPICS = ["group", "execution"]
GROUPS = 50
MEMBERS = 50
KIND_WORDS = {GroupKind.BROADCAST: "on every node", GroupKind.SHARDS: "in parts"}
Text = Annotated[str, Meta(max_length=200)]


class GroupsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    cursor: Text = ""


class MembersQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    state: Text = ""
    cursor: Text = ""

    def states(self) -> list[State]:
        """InvalidField for a word that is no state."""
        if not self.state:
            return []
        if self.state not in set(State):
            raise InvalidField(f"expected a state, got {self.state!r}", parameter="state")
        return [State(self.state)]


class GroupRow(Struct, frozen=True, kw_only=True):
    """A group, and how far it is."""

    group: Group
    kind: str
    over: int
    running: bool


def group_row(group: Group) -> GroupRow:
    return GroupRow(
        group=group,
        kind=KIND_WORDS[group.kind],
        over=group.completed + group.failed + group.cancelled,
        running=group.state is GroupState.RUNNING,
    )


async def index(request: ApiRequest) -> Response:
    """Groups, newest first."""
    query: GroupsQuery = request.query
    found = await request.service.groups.find(cursor=query.cursor or None, limit=GROUPS)
    return page(
        request,
        "groups.html",
        title="Groups",
        topics=TOPICS,
        rows=[group_row(group) for group in found.rows],
        here=url("/groups", cursor=query.cursor),
        first_url="/groups" if query.cursor else "",
        next_url=url("/groups", cursor=found.next_cursor) if found.next_cursor else "",
    )


async def show(request: ApiRequest) -> Response:
    """One group with its members. NotFound."""
    query: MembersQuery = request.query
    wanted = query.states()
    service, asked, group_id = request.service, part(request), request.id
    try:
        group = await service.groups.get(group_id)
    except NotFound:
        return await _elsewhere(request)
    facts: dict[str, Any] = {}
    if asked in (None, "now"):
        states = await service.groups.states(group_id)
        facts["states"] = [(state.value, states[state]) for state in State if states.get(state)]
    if asked in (None, "members"):
        members = await service.executions.find(
            Filter(group_id=group_id, states=wanted, cursor=query.cursor or None, limit=MEMBERS)
        )
        facts["members"] = lines(members.rows)
        more = members.next_cursor
        facts["next_url"] = url("/groups", group_id, state=query.state, cursor=more) if more else ""
    return page(
        request,
        "group.html",
        title=f"{group.handler_id}.{group.job_method} {KIND_WORDS[group.kind]}",
        topics=TOPICS,
        one=group_row(group),
        query=query,
        here=url("/groups", group_id, state=query.state, cursor=query.cursor),
        first_url=url("/groups", group_id, state=query.state) if query.cursor else "",
        **facts,
    )


async def _elsewhere(request: ApiRequest) -> Response:
    """What a requeue or a backfill made has its id as ``group_id``, too: go where that is shown."""
    group_id = request.id
    try:
        to = url("/requeues", (await request.service.dead_letters.show(group_id)).id)
    except NotFound:
        if not (await request.service.executions.find(Filter(group_id=group_id, limit=1))).rows:
            raise NotFound(f"there is no group {group_id!r}") from None
        to = search(group=group_id)
    return Response(status=303, headers=(("Location", to),), content_type=HTML)


async def cancel(request: ApiRequest) -> Response:
    """End every member that isn't over."""
    group = await request.service.groups.cancel(request.principal, request.id)
    left = group.total - group.completed - group.failed - group.cancelled
    said = f"Cancelled; {plural(left, 'member')} still to confirm it" if left else "Cancelled"
    return done(request, said, to=url("/groups", group.id))
