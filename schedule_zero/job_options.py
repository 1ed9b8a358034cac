"""How a job is to be run: what its method, its schedule and its submission may say, and the words for it.

Pure data. ``rules.options`` decides whose word counts; what each option means stands beside the rule that obeys it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Annotated, TypedDict

from msgspec import Meta, Struct

# Thirty days: the bound on every duration in JobOptions.
MAX_OPTION_S = 30 * 86_400
MAX_PRIORITY = 1_000


class OnLost(StrEnum):
    """What happens to an attempt whose node died with it (promise C10)."""

    RERUN = "rerun"
    FAIL = "fail"
    WAIT = "wait"


class Backoff(StrEnum):
    """How the delay before another attempt grows (``rules.retry``)."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"
    LIST = "list"


class Priority(IntEnum):
    """The usual priorities; any other whole number will do as well. Higher goes first."""

    LOW = 1
    NORMAL = 5
    HIGH = 10
    CRITICAL = 15


class UniqueWhile(StrEnum):
    """How long an execution keeps others with its ``unique_key`` out."""

    # Until it is started.
    PENDING = "pending"
    # Until it is over.
    OPEN = "open"


class OnDuplicate(StrEnum):
    """What becomes of an execution whose ``unique_key`` is taken."""

    REJECT = "reject"
    RETURN_EXISTING = "return_existing"
    # The new one takes the place of one that has not started.
    REPLACE = "replace"


class Strategy(StrEnum):
    """Which of the nodes that may run a job gets it."""

    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    STICKY_KEY = "sticky_key"
    PACK = "pack"
    WEIGHTED = "weighted"


class Isolation(StrEnum):
    """Where a method runs: in the node's own process, or in a worker process that can be killed and limited."""

    NONE = "none"
    PROCESS = "process"


# An exception's class, with its module or without; or an ``ErrorCategory``.
ErrorName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*(?!\n)$")]
DelayS = Annotated[float, Meta(ge=0, le=MAX_OPTION_S)]


# Text with ``{parameter}`` in it, filled in for each execution (``rules.keys``).
_TEMPLATE = r"^([^{}\x00-\x1f]|\{([A-Za-z_][A-Za-z0-9_]*|\*)\})+(?!\n)$"
KeyTemplate = Annotated[str, Meta(min_length=1, max_length=256, pattern=_TEMPLATE)]
# A condition on a node, such as ``gpu``, ``os == linux`` or ``memory_gb >= 16`` (``rules.routing``).
Condition = Annotated[str, Meta(min_length=1, max_length=256)]
# So many starts in each second, minute, hour or day.
Rate = Annotated[str, Meta(max_length=32, pattern=r"^[1-9][0-9]{0,8}/[smhd](?!\n)$")]


class JobOptions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, cache_hash=True):
    """How a job is to be run. Set on the method, the schedule or the submission; the narrower wins.

    ``None`` means "not said here"; ``rules.options.effective`` fills in the defaults.
    """

    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=1000)] | None = None
    retry_delay_s: DelayS | None = None
    backoff: Backoff | None = None
    # The delays of ``backoff: list``, which is meant where only these are said.
    retry_delays_s: Annotated[tuple[DelayS, ...], Meta(min_length=1, max_length=100)] | None = None
    retry_max_delay_s: DelayS | None = None
    # Full jitter: anything from nothing to the delay.
    retry_jitter: bool | None = None
    # Errors after which there is another attempt (none said: all), and those after which there is none.
    retry_on: Annotated[tuple[ErrorName, ...], Meta(max_length=100)] | None = None
    give_up_on: Annotated[tuple[ErrorName, ...], Meta(max_length=100)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=MAX_OPTION_S)] | None = None
    on_lost: OnLost | None = None
    idempotent: bool | None = None
    # Not started within this time, it is ``misfired``.
    queue_timeout_s: Annotated[float, Meta(gt=0, le=MAX_OPTION_S)] | None = None
    # One attempt may be silent (no progress, no ``ctx.heartbeat()``) for so long.
    heartbeat_timeout_s: Annotated[float, Meta(gt=0, le=MAX_OPTION_S)] | None = None
    # How many may run at once: of the schedule, if the schedule says it, else of the job method.
    max_instances: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # How many with the same key may run at once, whatever their job.
    concurrency_key: KeyTemplate | None = None
    max_per_key: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # How many slots of its node it takes.
    weight: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    # Starts in a time: of the job method, or of those with the same ``rate_key``; at most ``rate_burst`` at once.
    rate_limit: Rate | None = None
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    rate_key: KeyTemplate | None = None
    # One of its job method with this key, while that one is pending or running, or for a time.
    unique_key: KeyTemplate | None = None
    unique_while: UniqueWhile | None = None
    unique_for_s: Annotated[float, Meta(gt=0, le=MAX_OPTION_S)] | None = None
    on_duplicate: OnDuplicate | None = None
    # Nodes that may run it, nodes that should, and which of several does.
    require: Annotated[tuple[Condition, ...], Meta(max_length=20)] | None = None
    prefer: Annotated[tuple[Condition, ...], Meta(max_length=20)] | None = None
    strategy: Strategy | None = None
    sticky_key: KeyTemplate | None = None
    # In a process of its own, with its limits.
    isolation: Isolation | None = None
    memory_mb: Annotated[int, Meta(ge=16, le=1 << 20)] | None = None
    cpu_percent: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    cpu_s: Annotated[float, Meta(gt=0, le=MAX_OPTION_S)] | None = None


class OptionsBase(TypedDict, total=False):
    """The same as keyword arguments, but for ``retry_on`` and ``give_up_on``."""

    priority: int
    max_attempts: int
    retry_delay_s: float
    backoff: Backoff | str
    retry_delays_s: Sequence[float]
    retry_max_delay_s: float
    retry_jitter: bool
    timeout_s: float
    on_lost: OnLost | str
    idempotent: bool
    queue_timeout_s: float
    heartbeat_timeout_s: float
    max_instances: int
    concurrency_key: str
    max_per_key: int
    weight: int
    rate_limit: str
    rate_burst: int
    rate_key: str
    unique_key: str
    unique_while: UniqueWhile | str
    unique_for_s: float
    on_duplicate: OnDuplicate | str
    require: Sequence[str]
    prefer: Sequence[str]
    strategy: Strategy | str
    sticky_key: str
    isolation: Isolation | str
    memory_mb: int
    cpu_percent: int
    cpu_s: float


class Options(OptionsBase, total=False):
    """How a job is to be run, as keyword arguments of the verbs that start one."""

    # Exception classes by name, or categories.
    retry_on: Sequence[str]
    give_up_on: Sequence[str]
