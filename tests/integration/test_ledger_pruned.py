"""Executions that have been kept long enough are deleted; the ledger, its audit and its explanations stay right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schedule_zero.config import RetentionConfig, TimingConfig
from schedule_zero.ops.retention import Retention
from schedule_zero.rules.facts import Answer
from schedule_zero.service.explain import ExplainService
from tests.integration.ledger_bed import Life, life
from tests.integration.timing_bed import MINUTE
from tests.support import ManualClock

pytestmark = pytest.mark.anyio


async def prune(server: Life, clock: ManualClock) -> int:
    config = RetentionConfig(completed_s=600.0)
    return await Retention(store=server.store, clock=clock, config=config, sleep=lambda _: asyncio.sleep(0)).run_once()


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "interval", "minutes": 1},
        {"type": "interval", "minutes": 1, "anchor": "end"},
    ],
)
async def test_the_ledger_of_pruned_executions_is_complete_and_can_be_explained(
    tmp_path: Path, clock: ManualClock, trigger: dict[str, object]
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", trigger)
        for _ in range(5):
            await server.go(60)
            await server.finish()
        clock.advance(0.5)
        report = await server.audit()
        assert (report.tally.missed, report.tally.duplicate, report.tally.extra) == (0, 0, 0)
        before = await server.ledger()

        for _ in range(10):
            await server.go(60)
            await server.finish()
        assert await prune(server, clock) >= 4

        assert (await server.ledger())[: len(before)] == before
        report = await server.audit()
        assert (report.tally.missed, report.tally.duplicate, report.tally.extra) == (0, 0, 0)
        service = ExplainService(store=server.store, timer=server.timer, clock=server.clock, timing=TimingConfig())
        told = await service.explain("a", start_us + MINUTE)
        assert told.said.answer is Answer.EXECUTED
        assert f"Its execution {before[0].execution_id} is not stored any more." in told.said.sentence
