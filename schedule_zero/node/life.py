"""The begin and the end of handlers: ``setup`` and ``teardown``, in a node and in each of its worker processes."""

from __future__ import annotations

import inspect

import structlog

from schedule_zero.errors import InvalidHandler
from schedule_zero.node.handler import BaseHandler

log = structlog.get_logger(__name__)


async def set_up(handler: BaseHandler) -> None:
    """Raises InvalidHandler where the handler's own ``setup`` fails."""
    try:
        awaited = handler.setup()
        if inspect.isawaitable(awaited):
            await awaited
    except Exception as error:  # whatever the user's setup does
        raise InvalidHandler(
            f"setup() of the handler {handler.handler_id!r} failed: {type(error).__name__}: {error}"
        ) from error


async def tear_down(handler: BaseHandler) -> None:
    try:
        awaited = handler.teardown()
        if inspect.isawaitable(awaited):
            await awaited
    except Exception as error:  # noqa: BLE001 - whatever the user's teardown does; the others get their turn
        log.warning("teardown_failed", handler_id=handler.handler_id, error=f"{type(error).__name__}: {error}"[:500])
