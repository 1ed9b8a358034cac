"""What a user writes: a subclass of ``BaseHandler`` whose public methods are jobs, and ``@job`` to set their options.

Nothing here runs a job or talks to a server; ``methods.py`` reads these classes, ``runner.py`` runs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

import msgspec
from msgspec import Struct

from schedule_zero.job_options import (
    Backoff,
    Isolation,
    JobOptions,
    OnDuplicate,
    OnLost,
    OptionsBase,
    Strategy,
    UniqueWhile,
)
from schedule_zero.node.categories import error_name

F = TypeVar("F", bound=Callable[..., Any])

# Exception classes or names of such, one or several.
Errors = str | type[BaseException] | Sequence[str | type[BaseException]]

_CHOICES: dict[str, list[str]] = {
    "backoff": [*Backoff],
    "on_lost": [*OnLost],
    "unique_while": [*UniqueWhile],
    "on_duplicate": [*OnDuplicate],
    "strategy": [*Strategy],
    "isolation": [*Isolation],
}
_MARK = "__schedule_zero_job__"


class JobMark(Struct, frozen=True, kw_only=True):
    """What ``@job`` leaves on a function."""

    name: str | None = None
    options: JobOptions = JobOptions()


class JobWords(OptionsBase, total=False):
    """What ``@job`` takes, beside the name."""

    retry_on: Errors
    give_up_on: Errors


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
        """Called once before the node connects; may be ``async``. An error here stops the node.

        Each worker process of isolated jobs calls it too.
        """
        return None

    def teardown(self) -> Awaitable[None] | None:
        """Called once after the last job ended, if the node stops in an orderly way; may be ``async``."""
        return None


@overload
def job(function: F, /) -> F: ...


@overload
def job(*, name: str | None = None, **said: Unpack[JobWords]) -> Callable[[F], F]: ...


def job(function: F | None = None, /, *, name: str | None = None, **said: Unpack[JobWords]) -> F | Callable[[F], F]:
    """Mark a method as a job method, and say how it wants to be run; a schedule or a submission may say otherwise.

    ``name``: what it is called outside (default: the method's own name). ``priority``: higher runs first (default 5).
    ``max_attempts`` and ``retry_delay_s``: how often, and how long after a failure; with ``backoff`` (``fixed``,
    ``linear``, ``exponential``, ``fibonacci``, or ``retry_delays_s`` one by one) the delay grows, up to
    ``retry_max_delay_s``, and with ``retry_jitter`` it is anything up to that. ``retry_on``, ``give_up_on``: the errors
    after which there is another attempt, or none: exception classes, their names, or a category (``transient``,
    ``timeout``, ``dependency``, ``critical``). ``timeout_s``: one attempt may take this long. ``on_lost``: ``rerun``,
    ``fail`` or ``wait`` when its node dies with it. ``idempotent=False``: running it twice does harm, so a lost attempt
    is not rerun unless ``on_lost`` says so. ``isolation="process"``: in a process of its own, which may use
    ``memory_mb``, ``cpu_s`` and ``cpu_percent``. Unmarked public methods are job methods too, with the defaults.
    """
    options = _options({option: value for option, value in said.items() if value is not None})
    mark = JobMark(name=name, options=options)

    def decorate(target: F) -> F:
        setattr(target, _MARK, mark)
        return target

    return decorate if function is None else decorate(function)


def mark_of(function: object) -> JobMark | None:
    """What ``@job`` said about ``function``, if it was marked."""
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, JobMark) else None


def _options(said: dict[str, Any]) -> JobOptions:
    """Checked as those of a schedule or a submission are. TypeError for one that there isn't, else ValueError."""
    unknown = sorted(said.keys() - set(JobOptions.__struct_fields__))
    if unknown:
        raise TypeError(f"@job() has no option {unknown[0]!r}")
    for option in ("retry_on", "give_up_on"):
        if option in said:
            said[option] = _names(option, said[option])
    try:
        return msgspec.convert(said, JobOptions)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`").partition("[")[0]
        if name in _CHOICES:
            what = f"expected one of {', '.join(_CHOICES[name])}"
        raise ValueError(f"@job({name}=…): {what[:1].lower()}{what[1:]}, got {said.get(name)!r}") from None


def _names(option: str, errors: Errors) -> tuple[str, ...]:
    if isinstance(errors, str | type):
        errors = [errors]
    names = []
    for error in errors:
        if isinstance(error, type) and issubclass(error, BaseException):
            names.append(error_name(error))
        elif isinstance(error, str):
            names.append(error)
        else:
            raise TypeError(f"@job({option}=…): expected exception classes or their names, got {error!r}")
    return tuple(names)
