"""A whole schedule as a form: from what the API calls a schedule to fields, and back to a body of the API. Pure.

What the fields say is decoded by the very types that the API's bodies are; so the two refuse the same things, in the
same words, and an error's pointer is the name of its field.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.errors import ScheduleZeroError
from schedule_zero.model import NO_POLICIES, Policies, Schedule, ScheduleState
from schedule_zero.rules.options import options_said
from schedule_zero.rules.policies import policies_of
from schedule_zero.service.specs import PreviewSpec, ScheduleSpec
from schedule_zero.web.api.decode import BodyDecoder
from schedule_zero.web.api.schemas import ScheduleBody
from schedule_zero.web.pages import job_form, param_form, trigger_form
from schedule_zero.web.pages.duration_text import duration_text
from schedule_zero.web.pages.fields import Pairs, typed
from schedule_zero.web.pages.json_values import read_json, write_json
from schedule_zero.web.pages.option_fields import (
    GRACE,
    fields_of_options,
    fields_of_policies,
    read_grace,
    read_options,
    read_policies,
)
from schedule_zero.web.pages.param_shape import Shape

ID, HANDLER, METHOD, PAUSED, NOTE = "/id", "/handler_id", "/job_method", "/paused", "/note"
MAX_DEPTH = 32


class Draft(Struct, kw_only=True):
    """What a form says: a body of the API as far as it could be read, and what is wrong with the rest, by pointer."""

    body: dict[str, Any]
    errors: dict[str, str]
    # Of its trigger, as the form has it.
    kind: str = "json"
    # Of ``body``, once nothing is wrong with it.
    spec: ScheduleSpec | None = None


# --- from the form ------------------------------------------------------------------------------------


def read_schedule(pairs: Pairs, shape: Shape, schedule_id: str | None = None) -> Draft:
    """``schedule_id``: of the schedule that is edited; a new one says its own, or gets one."""
    errors: dict[str, str] = {}
    body: dict[str, Any] = {}
    id_ = schedule_id or typed(pairs, ID).strip()
    if id_:
        body["id"] = id_
    for pointer, expected in ((HANDLER, "a handler"), (METHOD, "a method")):
        said = typed(pairs, pointer).strip()
        if said:
            body[pointer.removeprefix("/")] = said
        else:
            errors[pointer] = f"expected {expected}: choose one"
    params = param_form.read(shape, pairs)
    errors |= params.errors
    body["job_params"] = params.document
    trigger, zone = trigger_form.read_trigger(pairs, errors)
    if trigger is not None:
        body["trigger"] = trigger
    grace_s = read_grace(pairs, errors)
    more = {
        "timezone": zone,
        "options": read_options(pairs, errors) or None,
        "policies": read_policies(pairs, errors) or None,
        "misfire_grace_s": grace_s,
        "paused": typed(pairs, PAUSED) == "true" or None,
        "note": typed(pairs, NOTE).strip() or None,
    }
    body |= {name: value for name, value in more.items() if value is not None}
    draft = Draft(body=body, errors=errors, kind=trigger_form.kind_of(pairs))
    if not errors:
        try:
            draft.spec = body_decoder().decode(write_json(body).encode()).spec()
        except ScheduleZeroError as error:
            add_error(draft, error)
    return draft


@cache
def body_decoder() -> BodyDecoder:
    """What reads the body of a schedule."""
    return BodyDecoder(ScheduleBody, MAX_DEPTH)


def add_error(draft: Draft, error: ScheduleZeroError) -> None:
    """Put what the server has against it where its field is."""
    pointer = trigger_form.field_of(draft.kind, error.pointer or "")
    message = job_form.said(error, str(draft.body.get("handler_id")), str(draft.body.get("job_method")))
    below = (error.pointer or "").removeprefix(f"{pointer}/")
    if draft.kind == "json" and pointer == trigger_form.TRIGGER and below not in ("", error.pointer):
        # The field is a whole document.
        message = f"{below}: {message}"
    draft.errors[pointer] = message


def preview_spec(draft: Draft, count: int) -> PreviewSpec | None:
    """What can be previewed of a draft that may not be ready. None: it has no trigger yet."""
    trigger = draft.body.get("trigger")
    if not isinstance(trigger, dict | list):
        return None
    try:
        policies = msgspec.convert(draft.body.get("policies", {}), Policies)
    except msgspec.ValidationError:
        # Said at its field; the trigger is worth a look all the same.
        policies = NO_POLICIES
    id_ = draft.body.get("id")
    return PreviewSpec(
        trigger=trigger, timezone=draft.body.get("timezone"), policies=policies, id=id_ or None, count=count
    )


# --- to the form --------------------------------------------------------------------------------------


def fields_of_schedule(row: Schedule, shape: Shape, server_grace_s: float, *, copy: bool = False) -> Pairs:
    """What has to stand in the fields for this schedule; of a ``copy``, what is not the original's own."""
    trigger = msgspec.json.decode(row.trigger)
    if copy and isinstance(trigger, dict) and trigger.get("seed") == row.id:
        # With H, the copy is to have times of its own.
        del trigger["seed"]
    ended = row.state in (ScheduleState.FINISHED, ScheduleState.QUARANTINED)
    return [
        (HANDLER, row.handler_id),
        (METHOD, row.job_method),
        *param_form.fields_of(shape, read_json(row.params.decode())),
        *trigger_form.fields_of_trigger(trigger),
        *fields_of_options(options_said(row.options)),
        *fields_of_policies(policies_of(row.policies)),
        (GRACE, "" if row.misfire_grace_s == server_grace_s else duration_text(row.misfire_grace_s)),
        (PAUSED, "true" if row.state is ScheduleState.PAUSED else ""),
        # The note of one that has ended says how that came; what is made of it begins anew.
        (NOTE, "" if ended else row.note or ""),
    ]
