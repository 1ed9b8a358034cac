"""Making and changing a schedule in a form, with a look ahead while it is typed."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from schedule_zero.errors import AlreadyExists, NotFound, PreconditionFailed, ScheduleZeroError
from schedule_zero.model import Schedule
from schedule_zero.rules.changes import Difference
from schedule_zero.rules.options import Source, effective
from schedule_zero.store.schedules import etag
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import AnyForm
from schedule_zero.web.pages import trigger_form
from schedule_zero.web.pages.fields import FormField, Pairs, Widget, place, typed
from schedule_zero.web.pages.job_form import (
    COPY_AS,
    idempotency,
    method_of,
    once,
    params_facts,
    params_shape,
    pickers,
    turned,
)
from schedule_zero.web.pages.json_values import write_json
from schedule_zero.web.pages.option_fields import option_groups, policy_groups
from schedule_zero.web.pages.outlook import Outlook, copy_choices, outlook
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import done, page, part, url
from schedule_zero.web.pages.schedule_form import (
    HANDLER,
    ID,
    METHOD,
    NOTE,
    PAUSED,
    Draft,
    add_error,
    fields_of_schedule,
    read_schedule,
)

EDITING, VERSION, OVER = "editing", "version", "over"
# ``over`` of a schedule that was deleted meanwhile.
ANEW = "anew"
# Parts for which the service is not asked what it would do.
QUIET = frozenset({"job", "when", "how"})
MAX_DIFFERENCES = 50


class NewQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # Of a schedule that is to be copied.
    from_: Annotated[str, Meta(max_length=128)] = field(name="from", default="")
    handler: Annotated[str, Meta(max_length=128)] = ""
    method: Annotated[str, Meta(max_length=128)] = ""


class Conflict(Struct, kw_only=True):
    """Somebody else was faster."""

    # None: it was deleted.
    theirs: Schedule | None
    # What they changed, as (pointer, before, after) in JSON; None: not known any more.
    differences: list[tuple[str, str, str]] | None
    # What ``over`` has to be for saving in spite of it.
    over: str


class Form(Struct, kw_only=True):
    """One form as it came, or as it is shown first."""

    pairs: Pairs
    # The schedule that is changed; "": a new one.
    editing: str
    # The version that was read when the form was opened.
    version: str
    draft: Draft
    # Errors are shown beside their fields.
    marked: bool = False
    conflict: Conflict | None = None


# --- pages --------------------------------------------------------------------------------------------


async def new(request: ApiRequest) -> Response:
    """An empty form, or a copy of a schedule. Raises NotFound."""
    query: NewQuery = request.query
    if query.from_:
        row = await request.service.schedules.get(query.from_)
        pairs = _fields(request, row, copy=True)
    else:
        zone = _zone(request)
        pairs = [(HANDLER, query.handler), (METHOD, query.method), ("/trigger/timezone", zone)]
    return await _shown(request, _form(request, pairs, ""))


async def edit(request: ApiRequest) -> Response:
    """The form of a schedule. Raises NotFound."""
    row = await request.service.schedules.get(request.id)
    form = _form(request, _fields(request, row), request.id)
    form.version = etag(row)
    return await _shown(request, form)


async def draft(request: ApiRequest) -> Response:
    """What a form comes to, as it is typed; nothing is stored."""
    pairs = _sent(request)
    return await _shown(request, _form(request, pairs, typed(pairs, EDITING)))


async def create(request: ApiRequest) -> Response:
    """Make a schedule of the form."""
    pairs = _sent(request)
    form = _form(request, pairs, "")
    spec = form.draft.spec
    if spec is None:
        return await _refused(request, form, 422)
    idem = idempotency(request, pairs, write_json(form.draft.body).encode())
    try:
        written = await request.service.schedules.create(request.principal, [spec], idem)
    except ScheduleZeroError as error:
        if isinstance(error, AlreadyExists):
            error.pointer = ID
        add_error(form.draft, error)
        return await _refused(request, form, error.http_status)
    made = written.schedules[0]
    return done(request, f"{made.id} was created", to=url("/schedules", made.id), go=True)


async def save(request: ApiRequest) -> Response:
    """Put the form in the place of the schedule, unless somebody else changed that meanwhile."""
    pairs = _sent(request)
    form = _form(request, pairs, request.id)
    spec = form.draft.spec
    if spec is None:
        return await _refused(request, form, 422)
    over = typed(pairs, OVER)
    try:
        await request.service.schedules.put(
            request.principal,
            request.id,
            spec,
            None if over == ANEW else over or form.version or None,
            create_only=over == ANEW,
        )
    except (PreconditionFailed, AlreadyExists) as error:
        form.conflict = await _conflict(request, form.version)
        return await _refused(request, form, error.http_status)
    except ScheduleZeroError as error:
        add_error(form.draft, error)
        return await _refused(request, form, error.http_status)
    return done(request, f"{request.id} was saved", to=url("/schedules", request.id), go=True)


# --- the form -----------------------------------------------------------------------------------------


def _sent(request: ApiRequest) -> Pairs:
    body: AnyForm = request.body
    return body.fields


def _form(request: ApiRequest, pairs: Pairs, editing: str) -> Form:
    shape = params_shape(method_of(request, typed(pairs, HANDLER), typed(pairs, METHOD)))
    return Form(
        pairs=pairs,
        editing=editing,
        version=typed(pairs, VERSION),
        draft=read_schedule(pairs, shape, editing or None),
    )


def _fields(request: ApiRequest, row: Schedule, *, copy: bool = False) -> Pairs:
    shape = params_shape(method_of(request, row.handler_id, row.job_method))
    return fields_of_schedule(row, shape, request.config.timing.misfire_grace_s, copy=copy)


def _zone(request: ApiRequest) -> str:
    """The zone of a new schedule: the browser's, if it has told."""
    return preferences(request.headers).zone.key


async def _conflict(request: ApiRequest, version: str) -> Conflict:
    try:
        theirs = await request.service.schedules.get(request.id)
    except NotFound:
        return Conflict(theirs=None, differences=None, over=ANEW)
    differences = None
    generation, _, mine = version.partition("-")
    if generation == str(theirs.generation) and mine.isdecimal():
        try:
            diff = await request.service.versions.diff(request.id, int(mine), theirs.version, theirs.generation)
            differences = [_difference(one) for one in diff.differences[:MAX_DIFFERENCES]]
        except NotFound:
            # So old that it isn't kept any more.
            differences = None
    return Conflict(theirs=theirs, differences=differences, over=etag(theirs))


def _difference(one: Difference) -> tuple[str, str, str]:
    return one.pointer.removeprefix("/"), _json(one.before), _json(one.after)


def _json(value: Any) -> str:
    return "" if value is None else write_json(value)


# --- showing ------------------------------------------------------------------------------------------


async def _refused(request: ApiRequest, form: Form, status: int) -> Response:
    form.marked = True
    return await _shown(request, form, status=status)


async def _shown(request: ApiRequest, form: Form, *, status: int = 200) -> Response:
    wanted = part(request)
    errors_before = dict(form.draft.errors)
    ahead = Outlook()
    if wanted not in QUIET:
        copy_key = typed(form.pairs, COPY_AS)
        ahead = await outlook(request, form.draft, replaces=bool(form.editing), copy_key=copy_key)
    facts = _facts(request, form)
    fields: list[FormField] = facts.pop("fields")
    # What the look ahead found is told there; beside a field stands what was found when it was to be saved.
    marked = place(fields, errors_before if form.marked else {})
    todo = place(fields, form.draft.errors, mark=False)
    title = f"Edit {form.editing}" if form.editing else "New schedule"
    return page(
        request,
        "schedule_editor.html",
        title=title,
        status=status,
        form=form,
        ahead=ahead,
        todo=todo,
        problems=[] if form.conflict else marked,
        **facts,
    )


def _facts(request: ApiRequest, form: Form) -> dict[str, Any]:
    """What the template needs of the form; all of it is in memory."""
    pairs = form.pairs
    handler_id, job_method = typed(pairs, HANDLER), typed(pairs, METHOD)
    method = method_of(request, handler_id, job_method)
    shape = params_shape(method)
    pairs = turned(pairs, shape)
    params = params_facts(shape, pairs)
    handler, method_field = pickers(request.service.system.handlers(), handler_id, job_method)
    options = option_groups(pairs, effective({Source.METHOD: method.options} if method is not None else {}))
    timing = request.config.timing
    policies = policy_groups(pairs, timing.misfire_grace_s, timing.catch_up_window_s, request.service.calendars.names())
    plain, rare = trigger_form.shown_trigger(pairs)
    kind = trigger_form.kind_of(pairs)
    kinds = FormField(
        pointer=trigger_form.TYPE,
        label="Kind",
        widget=Widget.SELECT,
        value=kind,
        choices=list(trigger_form.KINDS.items()),
    )
    id_field = FormField(
        pointer=ID,
        label="Name",
        value=form.editing or typed(pairs, ID),
        placeholder="one is made",
        description="What it is called in lists and in the API; it can't be changed later.",
    )
    note = FormField(pointer=NOTE, label="Note", value=typed(pairs, NOTE), description="Why, for those who read it.")
    return {
        "action": url("/schedules", form.editing, "edit") if form.editing else "/schedules/new",
        "back": url("/schedules", form.editing) if form.editing else "/schedules",
        "id_field": id_field,
        "handler_field": handler,
        "method_field": method_field,
        "doc": "" if method is None else method.doc,
        **params,
        "option_groups": options,
        "policy_groups": policies,
        "kind_field": kinds,
        "when_fields": plain,
        "rare_fields": rare,
        "kept": trigger_form.kept(pairs),
        "note_field": note,
        "paused": typed(pairs, PAUSED) == "true",
        "zones": zones(),
        "copy_choices": copy_choices(),
        "once": once(),
        "fields": [
            id_field, handler, method_field, params["params"], *options, *policies, kinds, *plain, *rare, note,
        ],
    }  # fmt: skip


@cache
def zones() -> list[str]:
    """The names of all zones, for a list of suggestions."""
    return resources.files("tzdata").joinpath("zones").read_text().split()
