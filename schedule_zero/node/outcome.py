"""How one attempt ended, in the form in which it goes to the server: bounded JSON and text, nothing to revive."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from schedule_zero.errors import InvalidParams
from schedule_zero.model import AttemptOutcome, ErrorCategory, JobError
from schedule_zero.node.categories import category_of, error_name
from schedule_zero.node.context import MAX_RETRY_AFTER_S, GiveUp, Retry

T = TypeVar("T")

MAX_MESSAGE = 4 << 10
MAX_TRACEBACK = 16 << 10
MAX_TYPE = 256
MAX_BASES = 10
WORKER_DIED = "WorkerDied"
_ALL_HAVE = (Exception, BaseException)


class Outcome(NamedTuple):
    """The closed outcome of an attempt."""

    kind: AttemptOutcome
    result: bytes | None = None
    error: JobError | None = None
    retry_after_s: float | None = None
    give_up: bool = False
    # Of a result that is kept in a file of its own, instead of ``result``.
    result_bytes: int = 0
    # What its process used, where it had one of its own.
    cpu_us: int | None = None
    peak_rss_bytes: int | None = None


_encode = msgspec.json.Encoder().encode
_COMPLETED_NONE = Outcome(AttemptOutcome.COMPLETED, b"null")


def completed(value: Any, limit: int) -> Outcome:
    """The method returned ``value``; ``failed`` if that has no JSON form or takes more than ``limit`` bytes.

    Raises what ``value`` raises while it is read, or MemoryError.
    """
    if value is None:
        return _COMPLETED_NONE
    try:
        encoded = _encode(value)
        # NaN and the infinities are written as null: only then is it worth a closer look.
        if b"null" in encoded and _holds_non_finite(value):
            return _failed("InvalidResult", "the result holds NaN or Infinity, which JSON can't express")
    except RecursionError:
        return _failed("InvalidResult", "the result can't be written as JSON: it is nested too deeply, or holds itself")
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that it was never awaited, at some other time and place
        return _failed("InvalidResult", f"the result can't be written as JSON: {_text(error)}")
    if len(encoded) > limit:
        return _failed("ResultTooLarge", f"the result takes {len(encoded)} bytes as JSON; the limit is {limit}")
    return Outcome(AttemptOutcome.COMPLETED, encoded)


def failed(error: BaseException) -> Outcome:
    """The method raised ``error``, of whatever class. The traceback begins in the user's code."""
    kind = type(error)
    if issubclass(kind, InvalidParams):
        # The parameters won't be others next time, and no line of the job has run.
        refused = _job_error("InvalidParams", _text(error), "", ErrorCategory.CRITICAL)
        return Outcome(AttemptOutcome.FAILED, error=refused, give_up=True)
    return Outcome(
        AttemptOutcome.FAILED,
        error=_job_error(
            _read(lambda: error_name(kind), lambda _: "Exception"),
            _text(error),
            _read(lambda: _traceback(error), lambda inner: f"(its traceback could not be written: {inner})"),
            _read(lambda: category_of(error), lambda _: None),
            _read(lambda: _bases(kind), lambda _: ()),
        ),
        retry_after_s=_read(lambda: _retry_after_s(error), lambda _: None),
        give_up=issubclass(kind, GiveUp),
    )


def timed_out(timeout_s: float | None) -> Outcome:
    return Outcome(
        AttemptOutcome.TIMEOUT,
        error=_job_error(
            "Timeout", f"the attempt took longer than its timeout of {timeout_s or 0:g} s", "", ErrorCategory.TIMEOUT
        ),
    )


def fell_silent(heartbeat_timeout_s: float | None) -> Outcome:
    message = f"the attempt gave no sign of going on for {heartbeat_timeout_s or 0:g} s (heartbeat_timeout_s)"
    return Outcome(AttemptOutcome.TIMEOUT, error=_job_error("HeartbeatTimeout", message, "", ErrorCategory.TIMEOUT))


def cancelled() -> Outcome:
    return Outcome(AttemptOutcome.CANCELLED, error=_job_error("Cancelled", "the attempt was cancelled", ""))


def still_busy(ended: Outcome, node_id: str) -> Outcome:
    """The same, said of an attempt whose method went on although it was to stop."""
    error = ended.error
    if error is None:
        return ended
    busy = f"; its method did not stop, and holds a slot of node {node_id!r} until it ends"
    return ended._replace(error=replace(error, message=error.message + busy))


def handed_back(reason: str) -> Outcome:
    return Outcome(AttemptOutcome.HANDED_BACK, error=_job_error("HandedBack", reason, ""))


def not_isolated(why: str) -> Outcome:
    """There is no worker process for it."""
    return _failed("WorkerNotStarted", why)


def over_memory(limit_mb: int, used: str, *, refused: bool = False) -> Outcome:
    """``used``: its figures. ``refused``: it ended by itself when it was given no more."""
    how = "asked for more memory than its limit leaves" if refused else "took more memory than its limit"
    message = f"the job {how} of {limit_mb} MiB (memory_mb); {used}"
    return _failed("MemoryLimitExceeded", message, ErrorCategory.CRITICAL)


def over_cpu(limit_s: float, used: str) -> Outcome:
    message = f"the job took more CPU time than its limit of {limit_s:g} s (cpu_s); {used}"
    return _failed("CpuLimitExceeded", message, ErrorCategory.TIMEOUT)


def worker_died(how: str, used: str) -> Outcome:
    return _failed(WORKER_DIED, f"the job's process {how}; {used}")


def _failed(kind: str, message: str, category: ErrorCategory | None = None) -> Outcome:
    # Another attempt may well go otherwise, so that it is not given up.
    return Outcome(AttemptOutcome.FAILED, error=_job_error(kind, message, "", category))


def _job_error(
    kind: str, message: str, trace: str, category: ErrorCategory | None = None, bases: tuple[str, ...] = ()
) -> JobError:
    return JobError(
        type=_bounded(kind, MAX_TYPE),
        message=_bounded(message, MAX_MESSAGE),
        traceback=_bounded(trace, MAX_TRACEBACK),
        category=category,
        bases=bases,
    )


def _bases(kind: type[BaseException]) -> tuple[str, ...]:
    """What ``retry_on`` and ``give_up_on`` may name as well as the class itself."""
    named = [base for base in kind.__mro__[1:] if issubclass(base, BaseException) and base not in _ALL_HAVE]
    return tuple(_bounded(error_name(base), MAX_TYPE) for base in named[:MAX_BASES])


def _retry_after_s(error: BaseException) -> float | None:
    """None too if what it says is no time to wait: a class derived from ``Retry`` may hold anything there."""
    if not isinstance(error, Retry):
        return None
    after_s = float(error.after_s)
    return after_s if 0 <= after_s <= MAX_RETRY_AFTER_S else None


def _text(error: BaseException) -> str:
    return _read(lambda: str(error), lambda inner: f"(its message could not be read: {inner})")


def _traceback(error: BaseException) -> str:
    # The first frames are the runner's own.
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals.get("__name__", "").startswith("schedule_zero.node."):
        where = where.tb_next
    return "".join(traceback.format_exception(type(error), error, where, limit=60))


def _read(what: Callable[[], T], otherwise: Callable[[str], T]) -> T:
    """Ask a job's exception for something; ``otherwise``, with the name of what it raised, where it raises itself."""
    try:
        return what()
    except BaseException as inner:  # noqa: BLE001 - it may do anything when it is asked
        return otherwise(type(inner).__name__)


def _bounded(text: str, limit: int) -> str:
    """At most ``limit`` bytes of valid UTF-8; of a longer text, the beginning and (mostly) the end."""
    # By the class's own: the text may be of a class of the user's.
    encoded = str.encode(text, "utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    mark = f"\n… {len(encoded) - limit} bytes left out …\n".encode()
    head = limit // 4
    tail = limit - head - len(mark)
    return (encoded[:head] + mark + encoded[-tail:]).decode("utf-8", "ignore")


def _holds_non_finite(value: Any) -> bool:
    """Whether a float in ``value`` is NaN or infinite. Only called for values that were encoded, so they end."""
    pending = [msgspec.to_builtins(value, str_keys=True)]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
    return False
