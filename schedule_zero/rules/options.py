"""Which option is in force: the submission's, else the schedule's, else the method's, else the default.

An execution keeps the options in force, and who said each: what a method or a schedule says later bears on later ones.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from schedule_zero.model import Backoff, JobOptions, OnLost

DEFAULT_PRIORITY = 5
DEFAULT_MAX_ATTEMPTS = 1
DEFAULT_RETRY_DELAY_S = 5.0


class Source(StrEnum):
    """Who said an option."""

    SUBMISSION = "submission"
    SCHEDULE = "schedule"
    METHOD = "method"


class EffectiveOptions(msgspec.Struct, frozen=True, kw_only=True):
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


DEFAULTS = EffectiveOptions()


class StoredOptions(EffectiveOptions, frozen=True, kw_only=True):
    """As an execution keeps them."""

    # option → who said it; what is not among them is the default.
    sources: dict[str, Source] = {}


NAMES = EffectiveOptions.__struct_fields__
NO_OPTIONS = JobOptions()


def effective(said: dict[Source, JobOptions]) -> StoredOptions:
    """Merge, the narrowest first.

    ``on_lost`` unsaid is ``fail`` for a job declared not idempotent (C10); who says delays means ``backoff: list``.
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


def _said(options: JobOptions, name: str) -> Any:
    if name == "backoff" and options.backoff is None and options.retry_delays_s is not None:
        return Backoff.LIST
    return getattr(options, name)


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


@lru_cache(maxsize=4096)
def merged(narrow: JobOptions, method: JobOptions, source: Source) -> tuple[int, bytes | None]:
    """The priority in force, and the options as an execution keeps them (``Execution.options``)."""
    if narrow == NO_OPTIONS and method == NO_OPTIONS:
        return DEFAULT_PRIORITY, None
    chosen = effective({source: narrow, Source.METHOD: method})
    return chosen.priority, msgspec.json.encode(chosen)
