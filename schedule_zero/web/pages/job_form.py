"""What the forms that start or schedule a job have in common: handler, method, parameters, options. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from schedule_zero.dispatch.registry import HandlerView
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.model import JobMethod, new_id
from schedule_zero.service.specs import IdemKey
from schedule_zero.web.api.request import ApiRequest
from schedule_zero.web.pages import param_form
from schedule_zero.web.pages.fields import JSON, FormField, Pairs, Widget, typed
from schedule_zero.web.pages.param_shape import ROOT, Kind, Shape, shape_of

# Whether the parameters are to be shown as JSON.
AS_JSON = "as_json"
# Which form this is: sent twice (a double click), it is obeyed once.
ONCE = "once"
# As which text it is to be shown.
COPY_AS = "copy_as"
MAX_ONCE = 64


def method_of(request: ApiRequest, handler_id: str, job_method: str) -> JobMethod | None:
    """The method that is chosen, if there is one of that name."""
    return request.service.system.method(handler_id, job_method) if handler_id and job_method else None


def params_shape(method: JobMethod | None) -> Shape:
    """The form of a method's parameters; of one that isn't known, JSON."""
    return shape_of(b"{}" if method is None else method.schema)


def pickers(handlers: list[HandlerView], handler_id: str, job_method: str) -> tuple[FormField, FormField]:
    """A handler, and one of its methods; one that is not known (any more) can be seen, and stays chosen."""
    found = next((one for one in handlers if one.handler_id == handler_id), None)
    methods = [] if found is None else sorted(method.name for method in found.methods)
    handler = _picker("/handler_id", "Handler", [one.handler_id for one in handlers], handler_id)
    method = _picker("/job_method", "Method", methods, job_method)
    if handler_id and found is None:
        handler.description = "This handler is not known; start a node that serves it."
    elif found is not None and not found.node_ids:
        handler.description = "No node serves it now; its jobs will wait."
    return handler, method


def _picker(pointer: str, label: str, names: list[str], chosen: str) -> FormField:
    choices = [("", "choose"), *((name, name) for name in names)]
    if chosen and chosen not in names:
        choices.append((chosen, f"{chosen} (not known)"))
    return FormField(pointer=pointer, label=label, widget=Widget.SELECT, value=chosen, choices=choices, required=True)


def params_facts(shape: Shape, pairs: Pairs) -> dict[str, Any]:
    """What the template of parameters needs."""
    whole = param_form.shown(shape, pairs)
    return {
        "params": whole,
        "as_json": whole.widget is Widget.JSON,
        # What is JSON anyway has nothing to be switched to.
        "can_switch": shape.kind is not Kind.JSON and bool(shape.members),
    }


def turned(pairs: Pairs, shape: Shape) -> Pairs:
    """The same form with its parameters as JSON, or as fields, as its switch says; unchanged where that can't be."""
    wanted, is_json = bool(typed(pairs, AS_JSON)), any(name == JSON + ROOT for name, _ in pairs)
    if wanted == is_json or shape.kind is Kind.JSON:
        return pairs
    reading = param_form.read(shape, pairs)
    if reading.errors:
        # What can't be read yet stays where it was typed.
        return pairs
    kept = [pair for pair in pairs if not _is_param(pair[0])]
    fields = (
        [(JSON + ROOT, param_form.as_json(reading.document))]
        if wanted
        else param_form.fields_of(shape, reading.document, exact=False)
    )
    return [*kept, *fields]


def _is_param(name: str) -> bool:
    pointer = name.removeprefix(JSON)
    return pointer == ROOT or pointer.startswith(f"{ROOT}/") or name == param_form.MORE


def said(error: ScheduleZeroError, handler_id: str, job_method: str) -> str:
    """What the server has against it; which job it is about is plain on that job's form."""
    message = error.message.removeprefix(f"{handler_id}.{job_method}: ")
    return f"{message}; {error.hint}" if error.hint else message


def idempotency(request: ApiRequest, pairs: Pairs, body: bytes) -> IdemKey | None:
    """The key of this form, bound to what it says."""
    return idem_key(request, typed(pairs, ONCE), body)


def idem_key(request: ApiRequest, key: str, body: bytes) -> IdemKey | None:
    """A form's key, bound to where it goes and what it says; None: it has none that we made."""
    if not 0 < len(key) <= MAX_ONCE or not key.isalnum() or not key.isascii():
        return None
    return IdemKey(key=key, fingerprint=hashlib.sha256(request.path.encode() + b"\n" + body).hexdigest())


def once() -> str:
    """A fresh key for a form."""
    return new_id()


def base_url(request: ApiRequest) -> str:
    """Where the browser finds this server, for texts that are copied from its pages."""
    return request.headers.get("Origin") or f"http://{request.headers.get('Host', 'localhost')}"
