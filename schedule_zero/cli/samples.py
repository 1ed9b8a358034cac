"""``schedule-zero-server --demo``: puts the sample schedules there as soon as a node brings the demo handler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog

from schedule_zero import demo
from schedule_zero.errors import AlreadyExists
from schedule_zero.model import Role
from schedule_zero.service.specs import Principal
from schedule_zero.web.api.schemas import ScheduleBody

if TYPE_CHECKING:
    from schedule_zero.server import Server

log = structlog.get_logger(__name__)

LOOK_S = 0.1
PRINCIPAL = Principal(name="demo", role=Role.ADMIN, token_id="")


async def load_samples(server: Server) -> None:
    """Create those of the sample schedules that don't exist; what is there stays as it is."""
    known = server.service.system.handlers
    while not any(handler.handler_id == demo.HANDLER_ID for handler in known()):  # noqa: ASYNC110 - has no signal
        await asyncio.sleep(LOOK_S)
    for document in demo.sample_schedules():
        # Through the API's own form, so that a sample is whatever a user could have sent.
        spec = msgspec.json.decode(msgspec.json.encode(document), type=ScheduleBody).spec()
        try:
            await server.service.schedules.create(PRINCIPAL, [spec], None)
        except AlreadyExists:
            continue
        log.info("sample_schedule_created", schedule_id=spec.id)
