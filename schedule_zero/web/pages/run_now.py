"""Running a job once, from a form; and running one again, with other parameters."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from schedule_zero.clock import rfc3339
from schedule_zero.errors import InvalidField, NotFound, ScheduleZeroError, WrongState
from schedule_zero.model import Execution, JobMethod
from schedule_zero.rules.options import Source, StoredOptions, effective, stored_options
from schedule_zero.rules.states import TERMINAL
from schedule_zero.service.specs import IdemKey, SubmitItem
from schedule_zero.timing.trigger import LATEST_US
from schedule_zero.web.api.decode import BodyDecoder
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import AnyForm
from schedule_zero.web.api.schemas import SubmitBody
from schedule_zero.web.pages import param_form
from schedule_zero.web.pages.copy_as import LABELS, copy_job_as
from schedule_zero.web.pages.duration_text import seconds_of
from schedule_zero.web.pages.fields import FormField, Pairs, place, typed
from schedule_zero.web.pages.job_form import (
    COPY_AS,
    base_url,
    idempotency,
    method_of,
    once,
    params_facts,
    params_shape,
    said,
    turned,
)
from schedule_zero.web.pages.json_values import read_json, write_json
from schedule_zero.web.pages.moments import moment_us
from schedule_zero.web.pages.option_fields import option_groups, read_options
from schedule_zero.web.pages.preferences import preferences
from schedule_zero.web.pages.render import CLOCK, done, page, url

METHOD, NOT_BEFORE = "/job_method", "/not_before"
MAX_DEPTH = 32


class RunQuery(Struct, frozen=True, forbid_unknown_fields=True):
    method: Annotated[str, Meta(max_length=128)] = ""


class Job(Struct, kw_only=True):
    """What is to be run, and what is in force where its form says nothing."""

    handler_id: str
    job_method: str
    # None: it is not known any more.
    method: JobMethod | None
    in_force: StoredOptions
    # The execution that it is a retry of.
    old: Execution | None = None

    @property
    def path(self) -> str:
        """Where its form is."""
        if self.old is not None:
            return url("/executions", self.old.id, "retry-edit")
        return url("/handlers", self.handler_id, "run")


class JobDraft(Struct, kw_only=True):
    """What a form says."""

    pairs: Pairs
    errors: dict[str, str]
    # Once nothing is wrong with it.
    item: SubmitItem | None = None


# --- one run ------------------------------------------------------------------------------------------


async def show(request: ApiRequest) -> Response:
    """The form of a method's parameters; without a method, the choice of one. Raises NotFound."""
    query: RunQuery = request.query
    if not query.method:
        return _choice(request)
    return _shown(request, _job(request, query.method), [])


async def draft(request: ApiRequest) -> Response:
    """What a form comes to; nothing is run."""
    pairs = _sent(request)
    return _shown(request, _job(request, typed(pairs, METHOD)), pairs)


async def run(request: ApiRequest) -> Response:
    """Run the job as the form says; one goes to its execution."""
    pairs = _sent(request)
    job = _job(request, typed(pairs, METHOD))
    draft = _read(request, job, pairs)
    if draft.item is None:
        return _refused(request, job, draft, 422)
    idem = _idem(request, job, pairs)
    try:
        made = await request.service.executions.submit(request.principal, [draft.item], idem)
    except ScheduleZeroError as error:
        return _refused(request, job, _with(draft, error, job), error.http_status)
    text = f"{job.handler_id}.{job.job_method} has its unique key already" if made.existing else "It was submitted"
    return done(request, text, to=url("/executions", made.ids[0]), go=True)


# --- a retry ------------------------------------------------------------------------------------------


async def show_retry(request: ApiRequest) -> Response:
    """The form of an execution that is over, with what it was run with. Raises NotFound, WrongState."""
    job = await _retried(request)
    if job.old is None:
        raise AssertionError("a retry is one of something")
    params = read_json(job.old.params.decode())
    return _shown(request, job, param_form.fields_of(params_shape(job.method), params))


async def draft_retry(request: ApiRequest) -> Response:
    """What a form comes to; nothing is run."""
    return _shown(request, await _retried(request), _sent(request))


async def retry(request: ApiRequest) -> Response:
    """Run it again as the form says; one goes to the new execution."""
    pairs, job = _sent(request), await _retried(request)
    draft = _read(request, job, pairs)
    item = draft.item
    if item is None:
        return _refused(request, job, draft, 422)
    idem = _idem(request, job, pairs)
    try:
        made = await request.service.executions.retry(
            request.principal,
            request.id,
            idem,
            params=bytes(item.job_params),
            options=item.options,
            not_before_us=item.not_before_us,
        )
    except ScheduleZeroError as error:
        return _refused(request, job, _with(draft, error, job), error.http_status)
    return done(request, "It is run again", to=url("/executions", made.ids[0]), go=True)


async def _retried(request: ApiRequest) -> Job:
    old = (await request.service.executions.get(request.id)).execution
    if old.state not in TERMINAL:
        raise WrongState(f"execution {old.id} is {old.state}; only one that is over can be retried")
    method = method_of(request, old.handler_id, old.job_method)
    return Job(
        handler_id=old.handler_id,
        job_method=old.job_method,
        method=method,
        in_force=stored_options(old.options),
        old=old,
    )


# --- the form -----------------------------------------------------------------------------------------


def _sent(request: ApiRequest) -> Pairs:
    body: AnyForm = request.body
    return body.fields


def _job(request: ApiRequest, job_method: str) -> Job:
    method = method_of(request, request.id, job_method)
    if method is None:
        raise NotFound(f"handler {request.id!r} has no method {job_method[:128]!r}", hint="choose one of its methods")
    in_force = effective({Source.METHOD: method.options})
    return Job(handler_id=request.id, job_method=job_method, method=method, in_force=in_force)


def _read(request: ApiRequest, job: Job, pairs: Pairs) -> JobDraft:
    """What the form says, as the API would be told."""
    draft = JobDraft(pairs=pairs, errors={})
    body = _body(job, pairs, draft.errors, request)
    if not draft.errors:
        try:
            item: SubmitItem = body_decoder().decode(write_json(body).encode()).item()
            request.service.executions.check(item)
        except ScheduleZeroError as error:
            return _with(draft, error, job)
        draft.item = item
    return draft


def _body(job: Job, pairs: Pairs, errors: dict[str, str], request: ApiRequest) -> dict[str, Any]:
    params = param_form.read(params_shape(job.method), pairs)
    errors |= params.errors
    body = {"handler_id": job.handler_id, "job_method": job.job_method, "job_params": params.document}
    options = read_options(pairs, errors)
    not_before_us = _not_before_us(typed(pairs, NOT_BEFORE).strip(), preferences(request.headers).zone, errors)
    body |= {"options": options} if options else {}
    return body | ({"not_before": rfc3339(not_before_us)} if not_before_us is not None else {})


def _idem(request: ApiRequest, job: Job, pairs: Pairs) -> IdemKey | None:
    """The key of this form with what was typed: ``+2h`` is another moment a second later, and the same request."""
    body = _body(job, pairs, {}, request) | {"not_before": typed(pairs, NOT_BEFORE)}
    return idempotency(request, pairs, write_json(body).encode())


def _not_before_us(text: str, zone: ZoneInfo, errors: dict[str, str]) -> int | None:
    """A moment as it is typed everywhere, or ``10m``; what names no offset is on the viewer's wall."""
    if not text:
        return None
    now_us = CLOCK.wall_us()
    try:
        return moment_us(text, now_us, zone, field="not_before")
    except InvalidField as error:
        problem = error.message
    try:
        us = now_us + round(seconds_of(text.removeprefix("+")) * 1e6)
    except (ValueError, OverflowError):
        us = LATEST_US + 1
    if us <= LATEST_US:
        return us
    errors[NOT_BEFORE] = problem
    return None


@cache
def body_decoder() -> BodyDecoder:
    """What reads the body of a submission."""
    return BodyDecoder(SubmitBody, MAX_DEPTH)


def _with(draft: JobDraft, error: ScheduleZeroError, job: Job) -> JobDraft:
    draft.errors[error.pointer or ""] = said(error, job.handler_id, job.job_method)
    return draft


# --- showing ------------------------------------------------------------------------------------------


def _choice(request: ApiRequest) -> Response:
    found = next((one for one in request.service.system.handlers() if one.handler_id == request.id), None)
    if found is None:
        raise NotFound(f"no handler {request.id!r} is known")
    return page(request, "run_choice.html", title=f"Run {request.id}", handler=found)


def _refused(request: ApiRequest, job: Job, draft: JobDraft, status: int) -> Response:
    return _form(request, job, draft, marked=True, status=status)


def _shown(request: ApiRequest, job: Job, pairs: Pairs) -> Response:
    return _form(request, job, _read(request, job, pairs), marked=False)


def _form(request: ApiRequest, job: Job, draft: JobDraft, *, marked: bool, status: int = 200) -> Response:
    shape = params_shape(job.method)
    pairs = turned(draft.pairs, shape)
    params = params_facts(shape, pairs)
    options = option_groups(pairs, job.in_force, "this execution")
    zone = preferences(request.headers).zone
    not_before = FormField(
        pointer=NOT_BEFORE,
        label="Not before",
        value=typed(pairs, NOT_BEFORE),
        placeholder="now",
        description=f"10m, 18:00, tomorrow 09:00 or 2030-01-31 09:00 (in {zone.key}, if it names no offset).",
    )
    fields = [params["params"], not_before, *options]
    problems = place(fields, draft.errors, mark=marked)
    what = f"{job.handler_id}.{job.job_method}"
    copy_key = typed(pairs, COPY_AS) or "curl"
    texts = copy_job_as(draft.item, base_url(request)) if draft.item is not None and job.old is None else []
    return page(
        request,
        "run.html",
        title=f"Run {what}" if job.old is None else f"Retry {what}",
        status=status,
        job=job,
        action=job.path,
        draft_path=f"{job.path}/draft",
        back=url("/handlers", job.handler_id) if job.old is None else url("/executions", job.old.id),
        **params,
        option_groups=options,
        not_before=not_before,
        problems=problems if marked else [],
        todo=problems,
        text=next((one for one in texts if one.key == copy_key), texts[0] if texts else None),
        copy_choices=list(LABELS.items()),
        once=once(),
    )
