"""Dead letters: what failed for good, in groups, until somebody runs it again or puts it aside."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.clock import from_us
from schedule_zero.errors import Conflict, InvalidField, ScheduleZeroError
from schedule_zero.service.dead_letters import Edit
from schedule_zero.store.dead_letters import Which
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.pages import dead_letter_view as view
from schedule_zero.web.pages.dead_letter_view import RequeueForm, WhichForm
from schedule_zero.web.pages.execution_lines import lines
from schedule_zero.web.pages.render import done, message_of, page, part, url
from schedule_zero.web.pages.words import plural

# Not executions: they may end by the thousand, and hardly any of them is a dead letter.
TOPICS = ["dead_letters", "requeue"]
GROUPS = 25
LETTERS = 50
# Requeues that run, on the first page; and of one page of them.
RUNNING = 10
REQUEUES = 50
Text = Annotated[str, Meta(max_length=300)]
Note = Annotated[str, Meta(max_length=1000)]
Ids = Annotated[list[Annotated[str, Meta(max_length=26)]], Meta(min_length=1, max_length=500)]


class GroupsQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    handler: Text = ""
    method: Text = ""
    cursor: Text = ""


class CursorQuery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    cursor: Text = ""


class DiscardForm(WhichForm, frozen=True, forbid_unknown_fields=True, kw_only=True):
    note: Note = ""
    # How many were agreed to.
    count: int | None = None


class TickedForm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Executions that were ticked; ``group`` is where one goes on."""

    id: Ids
    group: Text = ""
    note: Note = ""


# --- look -----------------------------------------------------------------------------------------


async def index(request: ApiRequest) -> Response:
    """What failed alike, by job."""
    query: GroupsQuery = request.query
    if query.method and not query.handler:
        raise InvalidField("a method is one of a handler: expected handler as well", parameter="handler")
    service, asked = request.service.dead_letters, part(request)
    facts: dict[str, Any] = {}
    if asked in (None, "running"):
        running = await service.running()
        facts["running"] = [view.requeue_row(row) for row in running[:RUNNING]]
        facts["more_running"] = max(0, len(running) - RUNNING)
    if asked in (None, "groups"):
        which = Which(handler_id=query.handler or None, job_method=query.method or None)
        found = await service.groups(which, cursor=query.cursor or None, limit=GROUPS)
        facts["groups"] = [view.group_row(group) for group in found.rows]
        facts["next_url"] = (
            url("/dead-letters", handler=query.handler, method=query.method, cursor=found.next_cursor)
            if found.next_cursor
            else ""
        )
    return page(
        request,
        "dead_letters.html",
        title="Dead letters",
        topics=TOPICS,
        query=query,
        waiting=sorted((id_, n) for id_, n in service.waiting.items() if n),
        here=url("/dead-letters", handler=query.handler, method=query.method, cursor=query.cursor),
        first_url=url("/dead-letters", handler=query.handler, method=query.method) if query.cursor else "",
        **facts,
    )


async def show(request: ApiRequest) -> Response:
    """One group: its newest error, and its executions."""
    query: CursorQuery = request.query
    service, group_id = request.service.dead_letters, request.id
    group = await service.group(group_id)
    # (Asked for again after the last one is dealt with, the list is empty.)
    facts: dict[str, Any] = {"letters": [], "next_url": ""}
    if group is not None and part(request) in (None, "letters"):
        found = await service.executions(group_id, cursor=query.cursor or None, limit=LETTERS)
        facts["letters"] = lines(found.rows)
        facts["next_url"] = url("/dead-letters", group_id, cursor=found.next_cursor) if found.next_cursor else ""
    return page(
        request,
        "dead_letter.html",
        title=group_id,
        topics=TOPICS,
        group_id=group_id,
        job=group_id.rpartition(":")[0],
        found=None if group is None else view.group_row(group),
        here=url("/dead-letters", group_id, cursor=query.cursor),
        first_url=url("/dead-letters", group_id) if query.cursor else "",
        **facts,
    )


# --- run many again ---------------------------------------------------------------------------------


async def requeue_form(request: ApiRequest) -> Response:
    """How many are to be run again, how fast, and with which parameters."""
    form: RequeueForm = request.query
    return await _requeue_page(request, form, {})


async def preview(request: ApiRequest) -> Response:
    """The same with what was typed so far: nothing is done."""
    form: RequeueForm = request.body
    return await _requeue_page(request, form, {})


async def requeue(request: ApiRequest) -> Response:
    """Begin to run them again."""
    form: RequeueForm = request.body
    asked = view.asked(form, request.config.http.max_depth)
    if asked.problems:
        return await _requeue_page(request, form, asked.problems, 422)
    try:
        row, _ = await request.service.dead_letters.begin(request.principal, form.which(), asked.edit, asked.rate_per_s)
    except ScheduleZeroError as error:
        return await _requeue_page(request, form, {"": message_of(error)}, error.http_status)
    said = f"{plural(row.total, 'dead letter')} will be run again, {row.rate_per_s:g} a second"
    return done(request, said, to=url("/requeues", row.id), go=True)


async def _requeue_page(
    request: ApiRequest, form: RequeueForm, problems: dict[str, str], status: int = 200
) -> Response:
    which = form.which()
    asked = view.asked(form, request.config.http.max_depth)
    tried = await request.service.dead_letters.attempt(which, asked.edit)
    typed = {"group": form.group, "handler": form.handler, "method": form.method, "all": "true" if form.all else ""}
    return page(
        request,
        "requeue_form.html",
        title="Run dead letters again",
        status=status,
        topics=[],
        form=form,
        which={name: value for name, value in typed.items() if value},
        about=view.about(which),
        problems={**asked.problems, **problems},
        tried=tried,
        patched=asked.edit.patch is not None,
        rate=form.rate or view.DEFAULT_RATE,
        rate_per_s=asked.rate_per_s,
        back=url("/dead-letters", form.group) if form.group else url("/dead-letters", handler=form.handler),
    )


async def requeues(request: ApiRequest) -> Response:
    """Those that run, and those that did."""
    query: CursorQuery = request.query
    found = await request.service.dead_letters.find(cursor=query.cursor or None, limit=REQUEUES)
    return page(
        request,
        "requeues.html",
        title="Requeues",
        topics=["requeue"],
        rows=[view.requeue_row(row) for row in found.rows],
        here=url("/requeues", cursor=query.cursor),
        first_url="/requeues" if query.cursor else "",
        next_url=url("/requeues", cursor=found.next_cursor) if found.next_cursor else "",
    )


async def show_requeue(request: ApiRequest) -> Response:
    """How far one is. Raises NotFound."""
    row = await request.service.dead_letters.show(request.id)
    return page(
        request,
        "requeue.html",
        title=f"Requeue {from_us(row.created_us):%d %b %H:%M}",
        topics=["requeue"],
        one=view.requeue_row(row),
    )


async def cancel_requeue(request: ApiRequest) -> Response:
    """Run no more of them again."""
    row = await request.service.dead_letters.cancel(request.principal, request.id)
    left = plural(row.total - row.created, "dead letter")
    return done(request, f"Cancelled: {row.created:,} were run again, {left} stay", to=url("/requeues", row.id))


# --- a few ------------------------------------------------------------------------------------------


async def requeue_ticked(request: ApiRequest) -> Response:
    """Run those that are ticked again, at once."""
    form: TickedForm = request.body
    service = request.service.dead_letters
    made = await service.requeue(request.principal, list(dict.fromkeys(form.id)), Edit())
    await service.refresh()
    count = sum(id_ is not None for id_ in made.ids)
    already = len(made.ids) - count
    said = f"{plural(count, 'dead letter')} run again{f'; {already:,} were dealt with already' if already else ''}"
    return done(request, said, to=_back(form.group))


async def discard_ticked(request: ApiRequest) -> Response:
    """Put those that are ticked aside."""
    form: TickedForm = request.body
    return await _discard(request, list(dict.fromkeys(form.id)), form.note, _back(form.group))


async def discard(request: ApiRequest) -> Response:
    """Put a whole group aside, or all of a handler."""
    form: DiscardForm = request.body
    if form.count is not None:
        now = await request.service.dead_letters.count(form.which())
        if now != form.count:
            text = f"there are {now:,} of them by now, and {form.count:,} were agreed to; nothing is put aside"
            raise Conflict(text, hint="open the page again, and look")
    return await _discard(request, form.which(), form.note, url("/dead-letters", handler=form.handler))


async def _discard(request: ApiRequest, which: Which | list[str], note: str, to: str) -> Response:
    service = request.service.dead_letters
    gone = await service.discard(request.principal, which, note)
    await service.refresh()
    undo = None if gone.undo is None else url("/discards", gone.undo, "undo")
    return done(request, f"{plural(gone.count, 'dead letter')} put aside", to=to, undo=undo)


async def undo_discard(request: ApiRequest) -> Response:
    """They wait again."""
    service = request.service.dead_letters
    count = await service.restore(request.principal, request.id)
    await service.refresh()
    return done(request, f"{plural(count, 'dead letter')} back", to="/dead-letters")


def _back(group: str) -> str:
    return url("/dead-letters", group) if group else "/dead-letters"
