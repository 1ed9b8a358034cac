"""Which option is in force: the submission's, else the schedule's, else the method's, else the default."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from schedule_zero.model import JobOptions, OnLost

DEFAULT_PRIORITY = 5
DEFAULT_MAX_ATTEMPTS = 1
DEFAULT_RETRY_DELAY_S = 5.0


class EffectiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Every option, decided."""

    priority: int = DEFAULT_PRIORITY
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_delay_s: float = DEFAULT_RETRY_DELAY_S
    timeout_s: float | None = None
    on_lost: OnLost = OnLost.RERUN


DEFAULTS = EffectiveOptions()


def effective(*narrowest_first: JobOptions) -> EffectiveOptions:
    """Merge, the narrowest first. ``on_lost`` unsaid is ``fail`` for a job declared not idempotent (C10)."""

    def said(name: str) -> Any:
        for options in narrowest_first:
            value = getattr(options, name)
            if value is not None:
                return value
        return None

    chosen = {name: said(name) for name in EffectiveOptions.__struct_fields__}
    if chosen["on_lost"] is None and said("idempotent") is False:
        chosen["on_lost"] = OnLost.FAIL
    return msgspec.structs.replace(DEFAULTS, **{name: value for name, value in chosen.items() if value is not None})


NO_OPTIONS = JobOptions()
_decode = msgspec.json.Decoder(JobOptions).decode


@lru_cache(maxsize=4096)
def options_said(stored: bytes | None) -> JobOptions:
    """What a schedule says itself (``Schedule.options``)."""
    return NO_OPTIONS if stored is None else _decode(stored)


@lru_cache(maxsize=4096)
def options_of(stored: bytes | None) -> EffectiveOptions:
    """The options of an execution as its row keeps them (``Execution.options``); ``None``: all defaults."""
    return DEFAULTS if stored is None else effective(_decode(stored))


@lru_cache(maxsize=4096)
def merged(narrow: JobOptions, method: JobOptions) -> tuple[int, bytes | None]:
    """The priority in force, and the options as an execution keeps them (``Execution.options``)."""
    if narrow == NO_OPTIONS and method == NO_OPTIONS:
        return DEFAULT_PRIORITY, None
    chosen = effective(narrow, method)
    return chosen.priority, msgspec.json.encode(chosen)
