"""The audit of all schedules: complete, each nominal time once, and it says what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from schedule_zero.model import CatchUp
from schedule_zero.service import audit_rounds
from schedule_zero.service.audit_rounds import AuditRounds
from schedule_zero.store import fire_audit
from tests.integration.ledger_bed import BOB, Life, life, tamper
from tests.integration.timing_bed import DAY, HOUR, MINUTE
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

MINUTELY = {"type": "interval", "minutes": 1}
HOURLY = {"type": "cron", "expression": "7 * * * *", "timezone": "Europe/Berlin"}
INSERT = (
    "INSERT INTO fires (schedule_id, generation, nominal_us, outcome, count, decided_us)"
    " SELECT schedule_id, generation, {}, outcome, 1, 0 FROM fires WHERE schedule_id = '{}' ORDER BY nominal_us DESC"
    " LIMIT 1"
)


def rounds_of(server: Life, every_s: float = 3600.0) -> AuditRounds:
    return AuditRounds(
        store=server.store, timer=server.timer, audits=server.audits, clock=server.clock, every_s=every_s
    )


def found(rounds: AuditRounds) -> dict[str, tuple[int, int, int]]:
    stats = rounds.stats
    assert (stats.missed, stats.duplicate, stats.extra) == tuple(
        sum(counts[at] for counts in stats.found.values()) for at in range(3)
    )
    return stats.found


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_rounds, "PAUSE_S", 0.0)
    monkeypatch.setattr(audit_rounds, "PAUSE_RATIO", 0.0)
    monkeypatch.setattr(audit_rounds, "PAGE", 3)


async def test_whatever_happened_to_its_schedules_nothing_is_found(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        for n in range(5):
            await server.put(f"plain{n}", MINUTELY)
            await server.put(f"hourly{n}", HOURLY)
        await server.put("paused", MINUTELY, paused=True)
        await server.put("changed", MINUTELY)
        await server.put("deleted", MINUTELY)
        await server.put("again", MINUTELY)
        await server.put("three", MINUTELY, policies={"max_fires": 3})
        await server.put("late", {"type": "date", "run_date": clock.wall_us() / 1e6 - 20})
        await server.put("once", {"type": "date", "run_date": clock.wall_us() / 1e6 + 700})
        await server.put("new year", {"type": "cron", "expression": "0 0 1 1 *"})
        for _ in range(4):
            await server.go(1800, every_s=60)
            await server.put("changed", MINUTELY, BOB, note=str(clock.wall_us()))
            await server.schedules.delete(BOB, "again")
            await server.put("again", MINUTELY)
            await server.go(1900)
            assert await rounds.run_if_due()
        await server.schedules.delete(BOB, "deleted")
        await server.go(3700, every_s=600)
        assert await rounds.run_if_due()

        assert found(rounds) == {}
        # "again" counts for each of its deletions as well, and "deleted" for its own.
        assert rounds.stats.schedules == 4 * (18 + 1) + (17 + 1)


async def test_what_was_tampered_with_is_found_counted_and_logged(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        for n in range(10):
            await server.put(f"s{n}", MINUTELY)
        await server.go(7200, every_s=60)
        newest = "(SELECT max(nominal_us) FROM fires)"
        tamper(
            server,
            f"DELETE FROM fires WHERE schedule_id = 's3' AND nominal_us < {newest} - {50 * MINUTE}",
            INSERT.format("nominal_us - 5", "s7"),
            f"UPDATE fires SET count = 9 WHERE schedule_id = 's9' AND nominal_us = {newest}",
        )

        with capture_logs() as logs:
            assert await rounds.run_if_due()

        assert found(rounds) == {"s3": (69, 0, 0), "s7": (0, 0, 1), "s9": (0, 0, 8)}
        failed = [line for line in logs if line["event"] == "ledger_audit_failed"]
        assert [(line["log_level"], line["schedule_id"], line["missed"]) for line in failed] == [
            ("error", "s3", 69), ("error", "s7", 0), ("error", "s9", 0),
        ]  # fmt: skip
        # The next one has new nominal times to look at.
        await server.go(3700, every_s=60)
        assert await rounds.run_if_due()
        assert found(rounds) == {"s3": (69, 0, 0), "s7": (0, 0, 1), "s9": (0, 0, 8)}


async def test_a_duplicate_is_found(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        await server.put("a", MINUTELY)
        await server.go(3700, every_s=60)
        for statement in (
            "CREATE TABLE f AS SELECT * FROM fires",
            "DROP TABLE fires",
            "ALTER TABLE f RENAME TO fires",
            INSERT.format("nominal_us", "a"),
        ):
            tamper(server, statement)

        await rounds.run_if_due()

        assert found(rounds) == {"a": (0, 1, 0)}


async def test_it_is_due_again_after_its_interval_also_for_the_next_process(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        assert await rounds.run_if_due(), "nothing was ever audited"
        clock.advance(3599)
        assert not await rounds.run_if_due()
        clock.advance(1)
        assert await rounds.run_if_due()
        audited_us = clock.wall_us()
        clock.advance(60)
        assert not await rounds_of(server).run_if_due()
        assert await server.store.read(fire_audit.marked) == audited_us
        clock.step_wall(-86_400)
        assert not await rounds.run_if_due()


@pytest.mark.parametrize("process", ["the same", "the next"])
async def test_what_was_behind_is_audited_when_it_has_come_up_and_no_time_is_left_out(
    tmp_path: Path, clock: ManualClock, process: str
) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        await server.put("a", MINUTELY)
        await server.put("b", HOURLY)
        await server.go(1800, every_s=60)
        frozen_us = clock.wall_us()
        await server.freezes.freeze(BOB)
        for _ in range(3):
            await server.go(3700, every_s=600)
            assert await rounds.run_if_due()
        assert found(rounds) == {}
        # A new process begins where the last one had to stop.
        assert await server.store.read(fire_audit.marked) == frozen_us + MINUTE - 1
        await server.freezes.thaw(BOB, CatchUp.NONE)
        await server.decide()
        gone_us = (await server.ledger())[-9].nominal_us
        tamper(server, f"DELETE FROM fires WHERE schedule_id = 'a' AND nominal_us = {gone_us}")
        await server.go(3600, every_s=60)

        if process == "the next":
            rounds = rounds_of(server)
        assert await rounds.run_if_due()
        assert found(rounds) == {"a": (1, 0, 0)}


async def test_what_was_deleted_is_audited_to_its_end(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        for n in range(8):
            await server.put(f"s{n}", MINUTELY)
        await server.go(600, every_s=60)
        tamper(server, f"DELETE FROM fires WHERE schedule_id = 's5' AND nominal_us = {clock.wall_us()}")
        for n in range(8):
            await server.schedules.delete(BOB, f"s{n}")
        await server.go(3600)

        await rounds.run_if_due()

        assert found(rounds) == {"s5": (1, 0, 0)}


async def test_a_trigger_that_raises_does_not_stop_the_audit_of_the_others(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with life(tmp_path, clock) as server:
        rounds = rounds_of(server)
        for id_ in "abc":
            await server.put(id_, {"type": "interval", "seconds": 60 if id_ == "b" else 30})
        await server.go(3700, every_s=60)
        tamper(server, f"DELETE FROM fires WHERE schedule_id = 'c' AND nominal_us = {clock.wall_us() - 40_000_000}")
        good = server.timer.resolver.trigger

        def trigger(row: Any) -> Any:
            if row.id == "b":
                raise ZeroDivisionError
            return good(row)

        monkeypatch.setattr(server.timer.resolver, "trigger", trigger)
        with capture_logs() as logs:
            assert await rounds.run_if_due()

        assert found(rounds) == {"c": (1, 0, 0)}
        assert [line["schedule_id"] for line in logs if line["event"] == "audit_failed"] == ["b"]


async def test_an_outage_of_a_week_is_audited_and_one_of_a_year_as_far_as_is_sensible(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        assert await rounds_of(server).run_if_due()
    clock.advance(6 * 86_400)
    async with life(tmp_path, clock) as server:
        await server.decide()
        rounds = rounds_of(server)
        assert await rounds.run_if_due()
        assert found(rounds) == {}
    clock.advance(365 * 86_400)
    async with life(tmp_path, clock) as server:
        await server.decide()
        rounds = rounds_of(server)
        assert await rounds.run_if_due()
        assert found(rounds) == {}
        assert audit_rounds.FARTHEST_US == 7 * DAY > HOUR
