"""What an execution is born with: the options in force, and all that follows from them once and for ever. Pure.

Everything that gives birth to executions (submissions, fires, backfills) does it with ``equip``.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from schedule_zero.job_options import JobOptions, Strategy
from schedule_zero.model import Execution, Origin, State, new_id
from schedule_zero.rules.keys import fill_in
from schedule_zero.rules.options import (
    DEFAULTS,
    NO_OPTIONS,
    EffectiveOptions,
    Source,
    StoredOptions,
    effective,
    options_of,
    overridden,
    stored_options,
)

_decode_params = msgspec.json.Decoder(dict).decode


class LaneSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which nodes may run an execution, and how much of them it takes: those that agree in this wait in one queue."""

    require: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    strategy: Strategy = Strategy.LEAST_LOADED
    weight: int = 1
    # The one node that it is for (one of a broadcast).
    node: str | None = None


PLAIN = LaneSpec()


class Outfit(msgspec.Struct, frozen=True):
    """What the options of a kind of execution come to."""

    priority: int
    # ``Execution.options``; None: all are defaults.
    options: bytes | None
    lane: str | None
    queue_timeout_us: int | None
    # (field of ``Execution``, template).
    templates: tuple[tuple[str, str], ...]


@lru_cache(maxsize=4096)
def outfit(narrow: JobOptions, method: JobOptions, source: Source) -> Outfit:
    """``narrow`` is what the ``source`` (a submission, a schedule) says itself."""
    return outfit_of(effective({source: narrow, Source.METHOD: method}))


def outfit_of(chosen: StoredOptions) -> Outfit:
    """What decided options come to."""
    names = ("concurrency_key", "rate_key", "sticky_key", "unique_key")
    said = [(name, getattr(chosen, name)) for name in names]
    if chosen.strategy is Strategy.STICKY_KEY and chosen.sticky_key is None:
        # Those with the same parameters.
        said.append(("sticky_key", "{*}"))
    return Outfit(
        priority=chosen.priority,
        options=msgspec.json.encode(chosen) if chosen.sources else None,
        lane=lane_text(lane_spec(chosen)),
        queue_timeout_us=None if chosen.queue_timeout_s is None else round(chosen.queue_timeout_s * 1e6),
        templates=tuple((name, template) for name, template in said if template is not None),
    )


def lane_spec(options: EffectiveOptions) -> LaneSpec:
    return LaneSpec(require=options.require, prefer=options.prefer, strategy=options.strategy, weight=options.weight)


def lane_text(spec: LaneSpec) -> str | None:
    """As executions keep it; None: nothing special."""
    return None if spec == PLAIN else msgspec.json.encode(spec).decode()


@lru_cache(maxsize=4096)
def lane_of(text: str | None) -> LaneSpec:
    """The opposite of ``lane_text``."""
    return PLAIN if text is None else msgspec.json.decode(text, type=LaneSpec)


def pinned(row: Execution, node_id: str) -> str | None:
    """The lane of a member of a broadcast: which of several nodes gets it is not a question any more."""
    spec = lane_of(row.lane)
    return lane_text(LaneSpec(require=spec.require, weight=spec.weight, node=node_id))


def equip(row: Execution, narrow: JobOptions, method: JobOptions, source: Source) -> None:
    """Give a fresh execution what follows from its options; ``row`` has its parameters and its times."""
    # Most say nothing: cheaper to see than to look up. (And what is the same object need not be hashed again.)
    if narrow == NO_OPTIONS:
        if method == NO_OPTIONS:
            return
        narrow = NO_OPTIONS
    dress(row, outfit(narrow, method, source))


def again(
    old: Execution,
    now_us: int,
    *,
    params: bytes | None = None,
    narrow: JobOptions = NO_OPTIONS,
    not_before_us: int | None = None,
    group_id: str | None = None,
) -> Execution:
    """A new execution of the same work, with the options that ``old`` had, but for what ``narrow`` says."""
    row = Execution(
        id=new_id(),
        handler_id=old.handler_id,
        job_method=old.job_method,
        params=old.params if params is None else params,
        state=State.PENDING if not_before_us is None else State.SCHEDULED,
        origin=Origin.RETRY,
        schedule_id=old.schedule_id,
        not_before_us=not_before_us,
        parent_id=old.id,
        group_id=group_id,
        idempotency_key=old.idempotency_key,
        created_us=now_us,
        shard=old.shard,
    )
    if old.options is None and narrow == NO_OPTIONS:
        row.priority = old.priority
    else:
        dress(row, outfit_of(overridden(stored_options(old.options), narrow)))
    node = lane_of(old.lane).node
    if node is not None:
        # One of a broadcast: it is that node's.
        row.lane = lane_text(msgspec.structs.replace(lane_of(row.lane), node=node))
    return row


def dress(row: Execution, wear: Outfit) -> None:
    row.priority, row.options, row.lane = wear.priority, wear.options, wear.lane
    if wear.queue_timeout_us is not None:
        row.start_by_us = (row.not_before_us or row.created_us) + wear.queue_timeout_us
    if wear.templates:
        params = _decode_params(row.params)
        for name, template in wear.templates:
            key = fill_in(template, params)
            # Others may run at once whatever their job; but what is unique is one of its job.
            setattr(row, name, f"{row.handler_id}.{row.job_method}:{key}" if name == "unique_key" else key)


def start_by_us(row: Execution, from_us: int) -> int | None:
    """Until when it has to be started, if it can be from a moment on."""
    timeout_s = options_of(row.options).queue_timeout_s
    return None if timeout_s is None else from_us + round(timeout_s * 1e6)


assert lane_spec(DEFAULTS) == PLAIN
