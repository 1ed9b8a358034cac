"""Which option is in force for an execution: the submission's, else the schedule's, else the method's, else the default."""

from __future__ import annotations

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

    def said(name: str) -> object | None:
        for options in narrowest_first:
            value = getattr(options, name)
            if value is not None:
                return value
        return None

    chosen = {name: said(name) for name in EffectiveOptions.__struct_fields__}
    if chosen["on_lost"] is None and said("idempotent") is False:
        chosen["on_lost"] = OnLost.FAIL
    return msgspec.structs.replace(DEFAULTS, **{name: value for name, value in chosen.items() if value is not None})
