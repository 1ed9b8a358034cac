"""Which option is in force: the submission's, else the schedule's, else the method's, else the default.

An execution keeps the options in force, and who said each: what a method or a schedule says later bears on later ones.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from schedule_zero.job_options import (
    Backoff,
    Isolation,
    JobOptions,
    OnDuplicate,
    OnLost,
    Priority,
    Strategy,
    UniqueWhile,
)

DEFAULT_PRIORITY = int(Priority.NORMAL)
# So long a wait is worth one step of priority.
AGEING_US = 60_000_000
DEFAULT_MAX_ATTEMPTS = 1
DEFAULT_RETRY_DELAY_S = 5.0


class Source(StrEnum):
    """Who said an option."""

    SUBMISSION = "submission"
    SCHEDULE = "schedule"
    METHOD = "method"


class EffectiveOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every option, decided."""

    priority: int = DEFAULT_PRIORITY
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_delay_s: float = DEFAULT_RETRY_DELAY_S
    backoff: Backoff = Backoff.FIXED
    retry_delays_s: tuple[float, ...] | None = None
    retry_max_delay_s: float | None = None
    retry_jitter: bool = False
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()
    timeout_s: float | None = None
    on_lost: OnLost = OnLost.RERUN
    queue_timeout_s: float | None = None
    heartbeat_timeout_s: float | None = None
    max_instances: int | None = None
    concurrency_key: str | None = None
    max_per_key: int = 1
    weight: int = 1
    rate_limit: str | None = None
    rate_burst: int = 1
    rate_key: str | None = None
    unique_key: str | None = None
    unique_while: UniqueWhile = UniqueWhile.OPEN
    unique_for_s: float | None = None
    on_duplicate: OnDuplicate = OnDuplicate.REJECT
    require: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    strategy: Strategy = Strategy.LEAST_LOADED
    sticky_key: str | None = None
    isolation: Isolation = Isolation.NONE
    memory_mb: int | None = None
    cpu_percent: int | None = None
    cpu_s: float | None = None


DEFAULTS = EffectiveOptions()


class StoredOptions(EffectiveOptions, frozen=True, kw_only=True, omit_defaults=True):
    """As an execution keeps them: without those that are the default."""

    # option → who said it; what is not among them is the default.
    sources: dict[str, Source] = {}


NAMES = EffectiveOptions.__struct_fields__
NO_OPTIONS = JobOptions()


def effective(said: dict[Source, JobOptions]) -> StoredOptions:
    """Merge, the narrowest first.

    ``on_lost`` unsaid is ``fail`` for a job declared not idempotent (C10); who says delays means ``backoff: list``;
    who limits a process means that there is one.
    """
    chosen: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source, options in said.items():
        for name in NAMES:
            value = _said(options, name)
            if value is not None and name not in chosen:
                chosen[name], sources[name] = value, source
    source, idempotent = next(
        ((source, options.idempotent) for source, options in said.items() if options.idempotent is not None),
        (Source.METHOD, None),
    )
    if idempotent is False and "on_lost" not in chosen:
        chosen["on_lost"], sources["on_lost"] = OnLost.FAIL, source
    return StoredOptions(**chosen, sources=sources)


def overridden(stored: StoredOptions, narrow: JobOptions) -> StoredOptions:
    """The options of an execution, but for what a later submission of the same work says."""
    said = effective({Source.SUBMISSION: narrow})
    if not said.sources:
        return stored
    kept = {name: getattr(stored, name) for name in stored.sources}
    chosen = {name: getattr(said, name) for name in said.sources}
    return StoredOptions(**{**kept, **chosen}, sources={**stored.sources, **said.sources})


def _said(options: JobOptions, name: str) -> Any:
    if name == "backoff" and options.backoff is None and options.retry_delays_s is not None:
        return Backoff.LIST
    if name == "isolation" and options.isolation is None and _limits_process(options):
        return Isolation.PROCESS
    return getattr(options, name)


def _limits_process(options: JobOptions) -> bool:
    return any(limit is not None for limit in (options.memory_mb, options.cpu_percent, options.cpu_s))


_decode = msgspec.json.Decoder(JobOptions).decode
_decode_stored = msgspec.json.Decoder(StoredOptions).decode


@lru_cache(maxsize=4096)
def options_said(stored: bytes | None) -> JobOptions:
    """What a schedule says itself (``Schedule.options``)."""
    return NO_OPTIONS if stored is None else _decode(stored)


@lru_cache(maxsize=4096)
def options_of(stored: bytes | None) -> EffectiveOptions:
    """The options of an execution as its row keeps them (``Execution.options``); ``None``: all defaults."""
    return DEFAULTS if stored is None else _decode_stored(stored)


def stored_options(stored: bytes | None) -> StoredOptions:
    """The same, with who said what."""
    return StoredOptions() if stored is None else _decode_stored(stored)


def shown(stored: bytes | None) -> bytes:
    """Every option in force as JSON, and in ``sources`` who said those that are not the default."""
    options = DEFAULTS if stored is None else _decode_stored(stored)
    said = options.sources if isinstance(options, StoredOptions) else {}
    return msgspec.json.encode({**{name: getattr(options, name) for name in NAMES}, "sources": said})


def aged_us(priority: int, waits_since_us: int) -> int:
    """Where in its queue something stands, the smallest first: a minute of waiting is worth one step of priority, so
    nothing starves. The same two executions stand in the same order for ever, so the order can be an index.
    """
    return waits_since_us - priority * AGEING_US
