"""Errors as RFC 9457 ``application/problem+json``, which also carry the earlier ScheduleZero's ``error`` object."""

from __future__ import annotations

from http import HTTPStatus

from msgspec import UNSET, Struct, UnsetType

from schedule_zero.errors import ScheduleZeroError

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:schedule-zero:error:"
MAX_TEXT = 1000


class ProblemItem(Struct, omit_defaults=True):
    """What, and where in the request: ``pointer`` (RFC 6901) into the body, else ``parameter`` or ``header``."""

    detail: str
    pointer: str | UnsetType = UNSET
    # Name of a query parameter, or ``id`` for the one in the path.
    parameter: str | UnsetType = UNSET
    header: str | UnsetType = UNSET


class ErrorObject(Struct):
    """The earlier ScheduleZero's form of an error."""

    code: str
    message: str


class Problem(Struct, omit_defaults=True):
    """What went wrong. ``error.code`` is stable; ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    error: ErrorObject
    request_id: str
    instance: str | UnsetType = UNSET
    errors: list[ProblemItem] | UnsetType = UNSET
    hint: str | UnsetType = UNSET
    # With ``duplicate``: who has the unique key.
    execution_id: str | UnsetType = UNSET
    # With ``result_incomplete``: so many bytes of the result are stored.
    upto: int | UnsetType = UNSET
    # With ``invalid_search``: the character of the search, from 0, that is wrong.
    position: int | UnsetType = UNSET


def problem_of(error: ScheduleZeroError, request_id: str, instance: str) -> Problem:
    """The error as it is shown."""
    message = error.message[:MAX_TEXT]
    problem = Problem(
        type=TYPE_PREFIX + error.code,
        title=_title(type(error)),
        status=error.http_status,
        detail=message,
        error=ErrorObject(code=error.code, message=message),
        request_id=request_id,
        instance=instance,
    )
    item = ProblemItem(detail=message)
    if error.pointer is not None:
        item.pointer = error.pointer[:MAX_TEXT]
    elif "parameter" in error.data:
        item.parameter = str(error.data["parameter"])[:MAX_TEXT]
    elif "header" in error.data:
        item.header = str(error.data["header"])[:MAX_TEXT]
    if item != ProblemItem(detail=message):
        problem.errors = [item]
    if error.data.get("execution_id"):
        problem.execution_id = error.data["execution_id"]
    if "upto" in error.data:
        problem.upto = int(error.data["upto"])
    if "position" in error.data:
        problem.position = int(error.data["position"])
    if error.hint:
        problem.hint = error.hint[:MAX_TEXT]
    return problem


def problem_headers(error: ScheduleZeroError) -> list[tuple[str, str]]:
    """The headers that a status asks for."""
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        return [("WWW-Authenticate", 'Bearer realm="ScheduleZero"')]
    if error.http_status == HTTPStatus.METHOD_NOT_ALLOWED:
        return [("Allow", ", ".join(error.data.get("allow", ())))]
    if error.http_status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return [("Retry-After", str(error.data.get("retry_after_s", 1)))]
    return []


def _title(kind: type[ScheduleZeroError]) -> str:
    return (kind.__doc__ or kind.code).strip().splitlines()[0].rstrip(".")
