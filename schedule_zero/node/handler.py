"""What a user writes: a subclass of ``BaseHandler`` whose public methods are jobs, and ``@job`` to set their options.

Nothing here runs a job or talks to a server; ``methods.py`` reads these classes, ``runner.py`` runs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from msgspec import Struct

from schedule_zero.model import JobOptions, OnLost

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__schedule_zero_job__"


class JobMark(Struct, frozen=True, kw_only=True):
    """What ``@job`` leaves on a function."""

    name: str | None = None
    options: JobOptions = JobOptions()


class BaseHandler:
    """Base class of handlers: set ``handler_id``; each public method is a job method.

    A method takes the job's parameters by name, or all of them as one dict if its only parameter is called
    ``params``. Plain methods run in threads, ``async`` ones on the node's event loop (don't block it there).
    Type hints become the JSON schema that the server checks parameters against; what arrives is converted
    to the hinted types. What a method returns must be expressible in JSON. Names with a leading underscore,
    static methods, class methods and properties are helpers, not jobs.
    """

    handler_id: str = ""

    def setup(self) -> Awaitable[None] | None:
        """Called once before the node connects; may be ``async``. An error here stops the node."""
        return None

    def teardown(self) -> Awaitable[None] | None:
        """Called once after the last job ended, if the node stops in an orderly way; may be ``async``."""
        return None


@overload
def job(function: F, /) -> F: ...


@overload
def job(
    *,
    name: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    retry_delay_s: float | None = None,
    timeout_s: float | None = None,
    on_lost: OnLost | str | None = None,
    idempotent: bool | None = None,
) -> Callable[[F], F]: ...


def job(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    retry_delay_s: float | None = None,
    timeout_s: float | None = None,
    on_lost: OnLost | str | None = None,
    idempotent: bool | None = None,
) -> F | Callable[[F], F]:
    """Mark a method as a job method, and say how it wants to be run; a schedule or a submission may say otherwise.

    ``name``: what it is called outside (default: the method's own name). ``priority``: higher runs first (default 5).
    ``max_attempts`` and ``retry_delay_s``: how often, and how long after a failure. ``timeout_s``: one attempt
    may take this long. ``on_lost``: ``rerun``, ``fail`` or ``wait`` when its node dies with it.
    ``idempotent=False``: running it twice does harm, so a lost attempt is not rerun unless ``on_lost`` says so.
    Unmarked public methods are job methods too, with the defaults.
    """
    _check("max_attempts", max_attempts, max_attempts is None or max_attempts >= 1, "at least 1")
    _check("retry_delay_s", retry_delay_s, retry_delay_s is None or retry_delay_s >= 0, "not negative")
    _check("timeout_s", timeout_s, timeout_s is None or timeout_s > 0, "greater than 0")
    lost_values = [policy.value for policy in OnLost]
    _check("on_lost", on_lost, on_lost is None or on_lost in lost_values, f"one of {', '.join(lost_values)}")
    options = JobOptions(
        priority=priority,
        max_attempts=max_attempts,
        retry_delay_s=retry_delay_s,
        timeout_s=timeout_s,
        on_lost=None if on_lost is None else OnLost(on_lost),
        idempotent=idempotent,
    )
    mark = JobMark(name=name, options=options)

    def decorate(target: F) -> F:
        setattr(target, _MARK, mark)
        return target

    return decorate if function is None else decorate(function)


def mark_of(function: object) -> JobMark | None:
    """What ``@job`` said about ``function``, if it was marked."""
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, JobMark) else None


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"@job({name}=…) must be {expected}, not {value!r}")
