"""``ctx.log``: a structlog logger whose lines go to the attempt's log, at every level, and to the process's log."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import structlog

from schedule_zero.logs import mask
from schedule_zero.node.capture import render
from schedule_zero.node.context import CURRENT
from schedule_zero.wire.log_lines import code_of

if TYPE_CHECKING:
    from schedule_zero.node.context import JobContext

_CODES = {level: code_of("log", level) for level in ("debug", "info", "warning", "error", "critical")}
# structlog's other names.
_CODES |= {"exception": _CODES["error"], "fatal": _CODES["critical"], "warn": _CODES["warning"], "msg": _CODES["info"]}
_BOUND = structlog.make_filtering_bound_logger(0)


def make(context: JobContext) -> Any:
    """The logger of one attempt."""
    return structlog.wrap_logger(
        _Ends(context),
        processors=[structlog.processors.format_exc_info, _as_they_are],
        wrapper_class=_BOUND,
        context_class=dict,
        cache_logger_on_first_use=False,
    )


def _as_they_are(_logger: Any, method: str, event: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (method, event), {}


class _Ends:
    """The two places where a line goes."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._process = structlog.get_logger("schedule_zero.job").bind(
            execution_id=context.execution_id,
            attempt=context.attempt,
            handler_id=context.handler_id,
            job_method=context.job_method,
        )

    def __getattr__(self, name: str) -> Any:
        return self._write

    def _write(self, method: str, event: dict[str, Any]) -> None:
        masked = mask(None, method, dict(event))
        self._context.say(_CODES.get(method, _CODES["info"]), render(dict(masked)) + "\n")
        # As if no job ran here: what the process logs to may be a stream that listens to jobs.
        copy_context().run(self._forward, method, dict(event))

    def _forward(self, method: str, fields: dict[str, Any]) -> None:
        CURRENT.set(None)  # type: ignore[arg-type]
        getattr(self._process, method, self._process.info)(fields.pop("event", ""), **fields)
