"""The client without I/O: what to send, when to try again, what an answer means.

A *flow* is a generator that yields what is to be done (``Send``, ``Sleep``) and is given what came of it (``Reply``,
``Failure``). Each verb is written once as a flow (``verbs``); ``Client`` and ``AsyncClient`` differ only in how
they carry out those two effects. So every decision about retries is here, and is tested without a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from schedule_zero import errors
from schedule_zero.clock import Clock
from schedule_zero.errors import ScheduleZeroError, ServerUnreachable

T = TypeVar("T")

CONNECT_S = 5.0
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0
# A Retry-After beyond this is no reason to sit and wait.
MAX_RETRY_AFTER_S = 60.0


class Request(NamedTuple):
    """One request; ``path`` is encoded already."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    # Sending it twice does no more than sending it once: by its method, or because it carries an Idempotency-Key.
    repeatable: bool = True
    # How long the server may take over it on purpose (a long poll).
    wait_s: float = 0.0


class Reply(NamedTuple):
    """An answer, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Failure(NamedTuple):
    """No answer. ``reached``: the server may have got the request, and acted on it."""

    message: str
    reached: bool


class Send(NamedTuple):
    request: Request
    timeout_s: float


class Sleep(NamedTuple):
    seconds: float


Effect = Send | Sleep
Outcome = Reply | Failure | None
Flow = Generator[Effect, Outcome, T]


class Patience(NamedTuple):
    """How long one verb may take: ``timeout_s`` for each answer, ``retry_s`` for trying again after failures."""

    timeout_s: float = 30.0
    retry_s: float = 30.0


def exchange(
    request: Request, patience: Patience, *, clock: Clock, random: Callable[[], float]
) -> Generator[Effect, Outcome, Reply]:
    """Send until there is a final answer; returns a 2xx, raises the typed error of anything else.

    Tried again, with full jitter and the same Idempotency-Key, for ``retry_s`` from the first failure: what never
    reached the server, 429 and 503 (nothing was done), and, where the request is repeatable, lost answers, 502 and
    504 (nobody knows).
    """
    give_up_s: float | None = None
    tries = 0
    uncertain = False
    while True:
        outcome = yield Send(request, patience.timeout_s + request.wait_s)
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return outcome
        if outcome is None:
            raise AssertionError("a Send is answered by a Reply or a Failure")
        if uncertain and request.method == "DELETE" and isinstance(outcome, Reply) and outcome.status == 404:
            # An earlier try did it; only its answer was lost.
            return Reply(200, {}, b"null")
        now_s = clock.mono_s()
        if give_up_s is None:
            give_up_s = now_s + patience.retry_s
        pause_s = delay_s(outcome, tries, random())
        if not worth_another_try(outcome, request) or now_s + pause_s >= give_up_s:
            raise error_after(outcome, request)
        tries += 1
        uncertain = uncertain or _nobody_knows(outcome)
        yield Sleep(pause_s)


def _nobody_knows(outcome: Reply | Failure) -> bool:
    """Whether the server may have done it, all the same."""
    return outcome.reached if isinstance(outcome, Failure) else outcome.status in (502, 504)


def worth_another_try(outcome: Reply | Failure, request: Request) -> bool:
    """Whether the same request may succeed later, and does no harm twice."""
    if _nobody_knows(outcome):
        return request.repeatable
    return isinstance(outcome, Failure) or outcome.status in (429, 503)


def delay_s(outcome: Reply | Failure, tries: int, random: float) -> float:
    """How long to wait before the next try: full jitter, but not shorter than the server asks."""
    # 2**16 is beyond the cap already; more would only overflow.
    cap: float = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(tries, 16))
    return max(random * cap, _retry_after_s(outcome))


def _retry_after_s(outcome: Reply | Failure) -> float:
    """Seconds that the server asks us to wait (the date form of the header isn't used by anyone we meet)."""
    said = outcome.headers.get("retry-after", "") if isinstance(outcome, Reply) else ""
    return min(float(said), MAX_RETRY_AFTER_S) if said.isascii() and said.isdigit() else 0.0


# --- answers → errors -------------------------------------------------------------------------------


def _all_errors(root: type[ScheduleZeroError]) -> Iterator[type[ScheduleZeroError]]:
    yield root
    for child in root.__subclasses__():
        yield from _all_errors(child)


BY_CODE: dict[str, type[ScheduleZeroError]] = {kind.code: kind for kind in _all_errors(ScheduleZeroError)}
# For answers that are not the server's own, or of a newer server's.
BY_STATUS: dict[int, type[ScheduleZeroError]] = {
    400: errors.BadRequest,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.Unprocessable,
    429: errors.TooManyRequests,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def error_after(outcome: Reply | Failure, request: Request) -> ScheduleZeroError:
    """The typed error of a request that got this at last."""
    if isinstance(outcome, Failure):
        return ServerUnreachable(outcome.message, hint="is it running? schedule-zero-server prints its address")
    return error_of(outcome, f"{request.method} {request.path}")


def error_of(reply: Reply, what: str) -> ScheduleZeroError:
    """The typed error of an answer that is no success: by its code, else by its status."""
    try:
        problem = msgspec.json.decode(reply.body, type=dict[str, Any])
        said = problem["error"]
        code, message = str(said["code"]), str(said["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        kind = BY_STATUS.get(reply.status, ScheduleZeroError)
        excerpt = reply.body[:200].decode(errors="replace").strip()
        return kind(f"{what}: HTTP {reply.status}, and not in the server's own words: {excerpt}", status=reply.status)
    kind = BY_CODE.get(code) or BY_STATUS.get(reply.status, ScheduleZeroError)
    items = problem.get("errors") or [{}]
    return kind(
        message,
        pointer=items[0].get("pointer") or items[0].get("parameter") or items[0].get("header"),
        hint=problem.get("hint"),
        status=reply.status,
        code=code,
        request_id=problem.get("request_id"),
        **({"execution_id": problem["execution_id"]} if "execution_id" in problem else {}),
    )
