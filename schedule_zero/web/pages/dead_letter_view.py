"""Dead letters as their pages show them: groups, requeues with how far they are, and what a form asks for."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from schedule_zero.errors import BadRequest, InvalidField, ScheduleZeroError
from schedule_zero.model import JobError, Requeue, RequeueState
from schedule_zero.service.dead_letters import Edit
from schedule_zero.store.dead_letters import Group, Which
from schedule_zero.web.api.decode import check_depth, check_keys, explain

DEFAULT_RATE = "10"
MIN_RATE, MAX_RATE = 0.001, 1000.0
# Of an error's message, in a list.
MAX_MESSAGE = 500
_decode_error = msgspec.json.Decoder(JobError).decode


class GroupRow(Struct, frozen=True, kw_only=True):
    """What failed alike, with what its newest error says."""

    group: Group
    error_type: str
    message: str
    traceback: str
    category: str


class RequeueRow(Struct, frozen=True, kw_only=True):
    """A requeue, and how far it is."""

    row: Requeue
    # What it is about, in words.
    about: str
    # Letters that it has dealt with, of ``row.total``.
    handled: int
    percent: float
    running: bool
    # Seconds until it is done, at its rate.
    left_s: float | None


class WhichForm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of group, handler (with a method or without) and all."""

    group: str = ""
    handler: str = ""
    method: str = ""
    all: bool = False

    def which(self) -> Which:
        """InvalidField unless it is one of them."""
        said = [name for name in ("group", "handler", "all") if getattr(self, name)]
        if len(said) != 1:
            got = " and ".join(said) or "none of them"
            raise InvalidField(f"expected one of group, handler and all, got {got}", parameter="group")
        return Which(dead_letter=self.group or None, handler_id=self.handler or None, job_method=self.method or None)


class RequeueForm(WhichForm, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is typed stays as it was typed."""

    rate: str = ""
    patch: str = ""


class Asked(Struct, frozen=True, kw_only=True):
    """What a form comes to, and what is wrong with its fields."""

    # 0: it can't be told.
    rate_per_s: float
    edit: Edit
    problems: dict[str, str]


def group_row(group: Group) -> GroupRow:
    error = None if group.error is None else _decode_error(group.error)
    message = "" if error is None else error.message
    return GroupRow(
        group=group,
        error_type="" if error is None else error.type,
        message=message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…",
        traceback="" if error is None else error.traceback,
        category="" if error is None or error.category is None else error.category.value,
    )


def requeue_row(row: Requeue) -> RequeueRow:
    handled = min(row.created + row.refused, row.total)
    running = row.state is RequeueState.RUNNING
    return RequeueRow(
        row=row,
        about=about(Which(dead_letter=row.dead_letter, handler_id=row.handler_id, job_method=row.job_method)),
        handled=handled,
        percent=100 * handled / row.total if row.total else 100.0,
        running=running,
        left_s=(row.total - handled) / row.rate_per_s if running else None,
    )


def about(which: Which) -> str:
    """Which letters are meant, in words."""
    if which.dead_letter is not None:
        return f"the group {which.dead_letter}"
    if which.handler_id is None:
        return "all dead letters"
    return f"all dead letters of {which.handler_id}{f'.{which.job_method}' if which.job_method else ''}"


def asked(form: RequeueForm, max_depth: int) -> Asked:
    """Read the fields that are typed."""
    problems: dict[str, str] = {}
    rate, patch = 0.0, None
    try:
        said = float(form.rate or DEFAULT_RATE)
    except ValueError:
        problems["rate"] = f"expected a number, got {form.rate[:100]!r}"
    else:
        # (Infinity and not-a-number are neither.)
        if MIN_RATE <= said <= MAX_RATE:
            rate = said
        else:
            problems["rate"] = f"expected {MIN_RATE} to {MAX_RATE:g} a second, got {form.rate[:100]}"
    try:
        patch = _patch(form.patch, max_depth)
    except ScheduleZeroError as error:
        problems["patch"] = error.message
    return Asked(rate_per_s=rate, edit=Edit(patch=patch), problems=problems)


def _patch(text: str, max_depth: int) -> dict[str, Any] | None:
    if not text.strip():
        return None
    body = text.encode()
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error, body, dict) from None
    if not isinstance(document, dict):
        raise BadRequest(f'expected a JSON object, such as {{"page": 2}}, got {text.strip()[:100]}')
    check_depth(body, max_depth)
    check_keys(body)
    return document
