"""ScheduleZero: a distributed job scheduler. What handlers and clients need is here, and loaded when first used.

``import schedule_zero`` itself imports nothing: a handler file must not pay for the HTTP client, nor a client
for the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schedule_zero.client import AsyncClient, Client
    from schedule_zero.node.context import GiveUp, JobContext, Retry, current_job
    from schedule_zero.node.handler import BaseHandler, job

    __version__: str

__all__ = [
    "AsyncClient",
    "BaseHandler",
    "Client",
    "GiveUp",
    "JobContext",
    "Retry",
    "__version__",
    "current_job",
    "job",
]

_HOME = {
    "AsyncClient": "schedule_zero.client",
    "BaseHandler": "schedule_zero.node.handler",
    "Client": "schedule_zero.client",
    "GiveUp": "schedule_zero.node.context",
    "JobContext": "schedule_zero.node.context",
    "Retry": "schedule_zero.node.context",
    "current_job": "schedule_zero.node.context",
    "job": "schedule_zero.node.handler",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        value: Any = metadata.version("schedule-zero")
    elif name in _HOME:
        from importlib import import_module

        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
