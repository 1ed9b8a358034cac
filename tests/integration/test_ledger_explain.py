"""Every moment of a schedule can be explained: what the real rounds wrote, looked up again and put into words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from schedule_zero.clock import to_us
from schedule_zero.config import TimingConfig
from schedule_zero.errors import NotFound
from schedule_zero.model import CatchUp, FireOutcome, SkipReason, State
from schedule_zero.rules.facts import Answer
from schedule_zero.service.explain import ExplainService, Explanation
from tests.integration.ledger_bed import ADA, BOB, Life, life, tamper
from tests.integration.timing_bed import DAY, HOUR, MINUTE, S, bed_in
from tests.support import ManualClock

pytestmark = pytest.mark.anyio

MINUTELY = {"type": "interval", "minutes": 1}
HALF_HOURS = {"type": "cron", "expression": "*/30 * * * *", "timezone": "Europe/Berlin"}


async def why(server: Life, at: int | datetime | None, id_: str = "a") -> Explanation:
    service = ExplainService(store=server.store, timer=server.timer, clock=server.clock, timing=TimingConfig())
    return await service.explain(id_, at)


# --- it ran -----------------------------------------------------------------------------------------


async def test_what_ran_is_told_with_its_execution_and_version(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(60)
        clock.advance(3.2)
        await server.finish(error=b'{"type":"ValueError","message":"no"}', state=State.FAILED)
        await server.go(56.8)

        told = await why(server, start_us + MINUTE)

        assert told.said.answer is Answer.EXECUTED
        assert told.said.sentence == (
            "It was due at 2023-11-14 22:14:20 UTC, and ran. Its execution started less than 1 ms after it was due on "
            "node n1, and failed after 3.2 s: ValueError: no."
        )
        facts = told.facts
        assert facts.fire == (await server.ledger())[0]
        assert facts.execution is not None
        assert facts.fire is not None
        assert facts.execution.id == facts.fire.execution_id
        assert facts.ruling is not None
        assert (facts.ruling.from_us, facts.ruling.schedule.updated_by) == (start_us, "ada")
        assert (facts.before_us, facts.after_us) == (None, start_us + 2 * MINUTE)


async def test_a_whole_second_means_the_first_nominal_time_in_it_and_a_fraction_just_itself(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", {"type": "interval", "milliseconds": 250, "start": start_us / 1e6 + 0.1})
        await server.go(2)

        second = await why(server, start_us + S)
        assert (second.facts.nominal_us, second.facts.in_second) == (start_us + S + 100_000, 4)
        assert "the first of 4 in that second" in second.said.sentence
        exact = await why(server, start_us + S + 350_000)
        assert (exact.said.answer, exact.facts.nominal_us) == (Answer.EXECUTED, start_us + S + 350_000)
        beside = await why(server, start_us + S + 350_001)
        assert beside.said.answer is Answer.NOT_DUE
        assert (beside.facts.before_us, beside.facts.after_us) == (start_us + 1_350_000, start_us + 1_600_000)


async def test_the_fire_after_the_last_one_of_a_version_is_the_next_versions(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(61)
        await server.schedules.pause(ADA, "a")

        [*_, last] = await server.ledger()
        said = await why(server, last.nominal_us)

        assert said.facts.ruling.to_us is not None
        assert said.facts.after_us == last.nominal_us + MINUTE


async def test_without_a_moment_it_is_the_last_nominal_time_or_what_it_was(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        before = await why(server, None)
        await server.go(90)
        await server.schedules.pause(BOB, "a", "why")
        await server.go(60)
        [*_, last] = await server.ledger()

        told = await why(server, None)

        assert before.said.answer is Answer.NOT_DUE
        assert (told.said.answer, told.facts.at_us) == (Answer.SKIPPED, last.nominal_us)
        assert 'the schedule was paused by bob ("why")' in told.said.sentence
        beside = await why(server, last.nominal_us + 1)
        assert ", which was skipped (paused), and is due after" in beside.said.sentence


async def test_what_was_caught_up_names_the_outage(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(90)
    stopped_us = clock.wall_us()
    clock.advance(650)
    async with life(tmp_path, clock) as server:
        began_us = clock.wall_us()
        await server.decide()

        *_, missed, caught_up = await server.ledger()
        last = await why(server, caught_up.nominal_us)
        assert last.said.answer is Answer.CAUGHT_UP
        assert last.facts.outage is not None
        assert (last.facts.outage.from_us, last.facts.outage.to_us) == (stopped_us, began_us)
        one = await why(server, missed.nominal_us)
        assert one.said.answer is Answer.MISSED
        assert one.facts.latest_us == caught_up.nominal_us
        assert "the server was not running from 2023-11-14 22:14:50 UTC to 2023-11-14 22:25:40 UTC" in one.said.sentence
        assert "only the latest is caught up" in one.said.sentence


async def test_what_was_missed_names_the_one_that_was_caught_up_not_those_that_were_still_in_time(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "interval", "seconds": 1}, misfire_grace_s=2)
        await server.go(3, every_s=1)
    clock.advance(12.5)
    async with life(tmp_path, clock) as server:
        await server.decide()

        [caught_up] = [fire for fire in await server.ledger() if fire.outcome is FireOutcome.CAUGHT_UP]
        told = await why(server, caught_up.nominal_us - 5 * S)

        assert (told.said.answer, told.facts.latest_us) == (Answer.MISSED, caught_up.nominal_us)
        assert (await server.ledger())[-1].nominal_us == caught_up.nominal_us + 2 * S


async def test_what_was_missed_before_a_freeze_does_not_name_what_the_thaw_made_up_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        clock.advance(330)
        await server.freezes.freeze(BOB, "upgrade")
        clock.advance(300)
        await server.freezes.thaw(BOB, CatchUp.LATEST)
        await server.decide()

        told = await why(server, start_us + 2 * MINUTE)

        assert [fire.nominal_us for fire in await server.ledger() if fire.outcome is FireOutcome.CAUGHT_UP] == [
            start_us + 5 * MINUTE,
            start_us + 10 * MINUTE,
        ]
        assert (told.said.answer, told.facts.latest_us) == (Answer.MISSED, start_us + 5 * MINUTE)


async def test_a_server_that_was_killed_is_missed_from_about_when_it_was_last_seen(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock, killed=True) as server:
        await server.put("a", MINUTELY, policies={"catch_up": "none"})
        await server.go(90)
        await server.seen()
        seen_us = clock.wall_us()
        clock.advance(7)
    clock.advance(7200)
    async with life(tmp_path, clock) as server:
        await server.decide()

        told = await why(server, seen_us + 30 * S)

        assert told.facts.outage is not None
        assert (told.facts.outage.from_us, told.facts.outage.about) == (seen_us, True)
        assert "from about" in told.said.sentence
        assert "catch_up: none" in told.said.sentence
        assert told.said.policy["catch_up"] == "none"


async def test_a_killed_server_was_there_until_it_last_decided_anything(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock, killed=True) as server:
        await server.put("a", MINUTELY)
        await server.put("b", {"type": "interval", "seconds": 50})
        await server.seen()
        await server.go(60, every_s=10)
        decided_us = (await server.ledger("a"))[-1].decided_us
        clock.advance(5)
    clock.advance(600)
    async with life(tmp_path, clock) as server:
        await server.decide()

        # By its own rows, and by those of another schedule.
        for id_ in ("a", "b"):
            told = await why(server, decided_us + 55 * S, id_)
            assert told.facts.outage is not None
            assert (told.facts.outage.from_us, told.facts.outage.about) == (decided_us, True)
        assert (await why(server, decided_us - S)).facts.outage is None


async def test_what_was_decided_a_moment_early_by_a_server_that_was_killed_then_lies_in_no_outage(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock, killed=True) as server:
        await server.put("a", MINUTELY)
        await server.go(60)
        tamper(server, "UPDATE fires SET decided_us = nominal_us - 2000")
    clock.advance(600)
    async with life(tmp_path, clock) as server:
        first = (await server.ledger())[0]

        assert (await why(server, first.nominal_us)).facts.outage is None
        assert (await why(server, first.nominal_us + 1)).facts.outage is not None


async def test_a_moment_of_an_outage_names_it_whatever_became_of_it(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, misfire_grace_s=120)
        await server.put("b", {"type": "interval", "seconds": 10}, policies={"coalesce": True})
        await server.put("c", MINUTELY)
        await server.go(65, every_s=5)
    stopped_us = clock.wall_us()
    clock.advance(58)
    async with life(tmp_path, clock) as server:
        began_us = clock.wall_us()
        await server.put("c", {"type": "interval", "hours": 1}, BOB)
        await server.decide()
        away = "the server was not running from 2023-11-14 22:14:25 UTC to 2023-11-14 22:15:23 UTC"

        due_us = stopped_us + 55 * S
        for us, id_, answer in (
            (due_us, "a", Answer.EXECUTED),
            (due_us, "b", Answer.EXECUTED),
            (due_us, "c", Answer.SKIPPED),
            (due_us - 50 * S, "b", Answer.MISSED),
            (due_us - 3 * S, "a", Answer.NOT_DUE),
        ):
            told = await why(server, us, id_)

            assert told.said.answer is answer
            assert told.facts.outage is not None
            assert (told.facts.outage.from_us, told.facts.outage.to_us) == (stopped_us, began_us)
            assert away in told.said.sentence


async def test_what_was_due_while_the_server_was_starting_says_so(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, misfire_grace_s=1, policies={"catch_up": "none"})
        await server.go(58)
    async with life(tmp_path, clock) as server:
        await server.go(3.5)
        await server.go(60)

        first, second = [await why(server, fire.nominal_us) for fire in await server.ledger()]

        assert (first.said.answer, first.facts.outage) == (Answer.MISSED, None)
        assert (
            "the server had just started, at 2023-11-14 22:14:18 UTC, and decided it only 1.5 s after"
            in first.said.sentence
        )
        assert "just started" not in second.said.sentence


async def test_a_server_that_was_there_but_late_says_how_late(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        due_us = clock.wall_us() + MINUTE
        await server.go(65.5)
        on_time = await why(server, due_us)
        await server.go(75 + 60)
        late = await why(server, due_us + MINUTE)

        assert "ran 5.5 s late, which is within its grace of 10 s" in on_time.said.sentence
        assert (late.said.answer, late.facts.outage) == (Answer.MISSED, None)
        assert "the server decided it only 1 min 20 s after it was due" in late.said.sentence


# --- it was skipped ---------------------------------------------------------------------------------


async def test_who_paused_it_and_why_is_told(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(30)
        await server.schedules.pause(BOB, "a", "stock-taking")
        await server.go(3 * 3600)
        await server.schedules.resume(ADA, "a")
        await server.go(60)

        # A row of its own, and one of those that one row stands for.
        for us in (start_us + 170 * MINUTE, start_us + 10 * MINUTE):
            told = await why(server, us)
            assert told.said.answer is Answer.SKIPPED
            assert 'paused by bob ("stock-taking") at 2023-11-14 22:13:50 UTC' in told.said.sentence
        assert "One row of the ledger stands for" in told.said.sentence


async def test_an_overlap_names_what_was_in_the_way(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY, policies={"overlap": "skip"})
        await server.go(180, every_s=60)
        [running] = await server.bed.executions("a")

        told = await why(server, start_us + 3 * MINUTE)

        assert (
            f"an earlier execution ({running.id}, that of 2023-11-14 22:14:20 UTC) was not over" in told.said.sentence
        )
        assert told.said.policy == {"overlap": "skip"}


@pytest.mark.parametrize("overlap", ["cancel_running", "replace_pending"])
async def test_what_a_later_fire_of_its_round_replaced_says_so_and_blames_no_older_execution(
    tmp_path: Path, clock: ManualClock, overlap: str
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY, policies={"overlap": overlap, "catch_up": "all"})
        await server.go(60)
        await server.go(180)

        told = await why(server, start_us + 2 * MINUTE)

        assert (told.said.answer, told.said.reason) == (Answer.SKIPPED, SkipReason.OVERLAP)
        assert (told.facts.latest_us, told.facts.in_the_way) == (start_us + 4 * MINUTE, None)
        assert f"that of 2023-11-14 22:17:20 UTC, took its place (overlap: {overlap})" in told.said.sentence


@pytest.mark.parametrize(("overlap", "skipped"), [("skip", 3), ("buffer_one", 4)])
async def test_what_gave_way_to_an_earlier_fire_of_its_round_names_its_execution(
    tmp_path: Path, clock: ManualClock, overlap: str, skipped: int
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY, policies={"overlap": overlap, "catch_up": "all"})
        await server.go(300)

        told = await why(server, start_us + skipped * MINUTE)

        earlier = (await server.bed.executions("a"))[-1]
        assert told.facts.in_the_way is not None
        assert (told.facts.latest_us, told.facts.in_the_way.id) == (None, earlier.id)


async def test_skip_coalesce_and_catch_up_limit_are_told(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", {"type": "interval", "seconds": 2}, policies={"coalesce": True})
        await server.put("b", MINUTELY, policies={"catch_up": "all", "catch_up_max": 2})
        await server.schedules.skip(BOB, "b", 1)
        asked = await why(server, start_us + MINUTE, "b")
        await server.go(8.5)
        await server.go(591.5)

        coalesced = await why(server, start_us + 4 * S)
        assert (coalesced.said.answer, coalesced.facts.latest_us) == (Answer.SKIPPED, start_us + 8 * S)
        assert asked.said.answer is Answer.UPCOMING
        assert "but bob has asked to leave it out" in asked.said.sentence
        requested = await why(server, start_us + MINUTE, "b")
        assert "had asked to leave it out" in requested.said.sentence
        limit = await why(server, start_us + 3 * MINUTE, "b")
        assert "only the newest 2 are caught up" in limit.said.sentence


async def test_a_freeze_is_told_before_and_after_it_is_over(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(30)
        await server.freezes.freeze(BOB, "upgrade")
        due_us = clock.wall_us() + 30 * S
        coming = await why(server, due_us)
        await server.go(300)
        open_ = await why(server, due_us)
        await server.freezes.thaw(BOB, CatchUp.NONE)
        await server.decide()
        over = await why(server, due_us)

        frozen = 'all schedules were frozen by bob ("upgrade") from 2023-11-14 22:13:50 UTC'
        assert coming.said.answer is Answer.UPCOMING
        assert f"but it will not be decided before a thaw: {frozen}." in coming.said.sentence
        assert (open_.said.answer, f"{frozen}." in open_.said.sentence) == (Answer.UNDECIDED, True)
        assert over.said.answer is Answer.SKIPPED
        assert f"{frozen} to 2023-11-14 22:18:50 UTC, and nothing of it" in over.said.sentence
        assert over.facts.freeze is not None


async def test_a_skip_during_a_freeze_leaves_out_the_first_that_was_due_in_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.freezes.freeze(BOB, "upgrade")
        clock.advance(150)
        await server.schedules.skip(ADA, "a", 1)
        await server.freezes.thaw(BOB, CatchUp.ALL)
        await server.decide()

        left_out, made_up_for = await why(server, start_us + MINUTE), await why(server, start_us + 2 * MINUTE)

        assert left_out.said.reason is SkipReason.REQUESTED
        assert made_up_for.said.answer is Answer.CAUGHT_UP


@pytest.mark.parametrize("change", ["skip", "pause"])
async def test_what_is_undecided_in_a_freeze_stays_so_whatever_version_was_made_in_it(
    tmp_path: Path, clock: ManualClock, change: str
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(61)
        await server.freezes.freeze(BOB, "upgrade")
        await server.go(3 * 60)
        if change == "skip":
            await server.schedules.skip(ADA, "a", 1)
        else:
            await server.schedules.pause(ADA, "a")
        await server.go(5)

        last, before = await why(server, None), await why(server, start_us + 4 * MINUTE + 5 * S)

        assert (last.said.answer, last.facts.at_us) == (Answer.UNDECIDED, start_us + 4 * MINUTE)
        assert (before.facts.before_us, before.facts.after_us) == (start_us + 4 * MINUTE, start_us + 5 * MINUTE)
        between = await why(server, start_us + 3 * MINUTE + S)
        assert (between.facts.before_us, between.facts.after_us) == (start_us + 3 * MINUTE, start_us + 4 * MINUTE)


async def test_a_moment_of_a_freeze_names_it_though_nothing_was_due(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.put("by-hand", {"type": "manual"})
        await server.put("over", MINUTELY, policies={"max_fires": 1})
        await server.go(60)
        await server.freezes.freeze(BOB, "upgrade")
        at_us = clock.wall_us() + 100 * S
        await server.go(150)
        during = [await why(server, at_us, id_) for id_ in ("a", "by-hand", "over")]
        assert (await why(server, clock.wall_us() + HOUR, "by-hand")).facts.freeze is None
        await server.freezes.thaw(BOB, CatchUp.NONE)
        await server.go(60)
        after = [await why(server, at_us, id_) for id_ in ("a", "by-hand", "over")]

        frozen = 'At that time all schedules were frozen by bob ("upgrade") from 2023-11-14 22:14:20 UTC'
        for told, end in [*((one, ".") for one in during), *((one, " to 2023-11-14 22:16:50 UTC.") for one in after)]:
            assert told.facts.freeze is not None
            assert told.said.sentence.endswith(frozen + end)
        assert [told.said.answer for told in after] == [Answer.NOT_DUE, Answer.NOT_DUE, Answer.ENDED]


async def test_a_freeze_to_come_with_an_end_is_named_as_one_to_come(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("by-hand", {"type": "manual"})
        await server.freezes.freeze(BOB, until_us=clock.wall_us() + HOUR, catch_up=CatchUp.NONE)

        told = await why(server, clock.wall_us() + MINUTE, "by-hand")

        assert "At that time all schedules will be frozen by bob from" in told.said.sentence


async def test_what_has_finished_names_the_outage_of_a_moment(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, policies={"max_fires": 1})
        await server.go(90)
    clock.advance(600)
    async with life(tmp_path, clock) as server:
        told = await why(server, clock.wall_us() - 5 * MINUTE)

        assert told.said.answer is Answer.ENDED
        assert told.said.sentence.endswith(
            "At that time the server was not running from 2023-11-14 22:14:50 UTC to 2023-11-14 22:24:50 UTC."
        )


async def test_a_start_that_is_not_on_record_yet_is_not_decided_yet(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", {"type": "startup"})
        await server.put("both", [{"type": "startup"}, MINUTELY])
        await server.decide()
    clock.advance(20)
    async with bed_in(tmp_path, clock) as bed:
        # The server answers before its timer has begun.
        server = Life(bed, clock, TimingConfig())
        await server.book.load()
        start_us = server.timer.started_us
        clock.advance(4)
        early = [await why(server, start_us, id_) for id_ in ("a", "both")]
        await server.timer._begin()
        begun = [await why(server, start_us, id_) for id_ in ("a", "both")]
        await server.decide()
        decided = [await why(server, start_us, id_) for id_ in ("a", "both")]

        assert [told.said.answer for told in early + begun] == [Answer.UNDECIDED] * 4
        assert [told.said.answer for told in decided] == [Answer.EXECUTED] * 2


async def test_a_change_before_the_decision_is_told(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        due_us = clock.wall_us() + MINUTE
        await server.put("a", MINUTELY)
        await server.put("b", MINUTELY)
        clock.advance(90)
        await server.put("a", HALF_HOURS, BOB)
        await server.schedules.delete(BOB, "b")
        clock.advance(1)

        changed, deleted = await why(server, due_us), await why(server, due_us, "b")

        assert "the schedule was changed by bob at 2023-11-14 " in changed.said.sentence
        assert "the schedule was deleted by bob at 2023-11-14 22:14:50 UTC" in deleted.said.sentence
        assert changed.facts.ruling is not None
        assert changed.facts.ruling.schedule.version == 1


async def test_a_quarantine_is_told_with_its_note_and_ends_it(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        clock.advance(60)
        due_us = clock.wall_us()
        [alarm] = await server.rounds.take()
        alarm.broken, alarm.plan = "the trigger failed: X", None
        await server.rounds.write([alarm])
        await server.rounds.settled()
        clock.advance(3600)

        assert 'put into quarantine ("the trigger failed: X")' in (await why(server, due_us)).said.sentence
        later = await why(server, due_us + MINUTE)
        assert (later.said.answer, later.facts.before_us) == (Answer.ENDED, due_us)
        assert 'was in quarantine ("the trigger failed: X")' in later.said.sentence


# --- it was not due ---------------------------------------------------------------------------------


async def test_what_is_no_nominal_time_has_its_neighbours(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", HALF_HOURS)
        await server.go(7200, every_s=900)

        told = await why(server, datetime(2023, 11, 14, 23, 45, tzinfo=UTC))

        assert told.said.answer is Answer.NOT_DUE
        assert told.said.sentence == (
            "Nothing was due at 2023-11-15 00:45:00 Europe/Berlin (2023-11-14 23:45:00 UTC). The trigger: "
            f"{told.facts.trigger_words}. It was due before that at 2023-11-15 00:30:00 Europe/Berlin (2023-11-14 "
            "23:30:00 UTC), which ran late, and after that at 2023-11-15 01:00:00 Europe/Berlin (00:00:00 UTC)."
        )


async def test_before_it_was_made_after_it_was_deleted_and_in_between(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        clock.advance(600)
        await server.put("a", MINUTELY)
        await server.go(600)
        await server.schedules.delete(BOB, "a")
        clock.advance(600)
        await server.put("a", HALF_HOURS, BOB)
        clock.advance(60)

        before, between = await why(server, start_us + 5 * MINUTE), await why(server, start_us + 25 * MINUTE)
        there = await why(server, start_us + 15 * MINUTE)
        await server.schedules.delete(ADA, "a")
        clock.advance(60)
        after = await why(server, None)

        assert (before.said.answer, before.facts.created and before.facts.created.who) == (Answer.NOT_CREATED, "ada")
        assert between.said.answer is Answer.DELETED
        assert between.facts.deleted is not None
        assert between.facts.created is not None
        assert (between.facts.deleted.who, between.facts.created.who) == ("bob", "bob")
        assert there.said.answer is Answer.MISSED
        assert (after.said.answer, after.facts.deleted and after.facts.deleted.who) == (Answer.DELETED, "ada")
        with pytest.raises(NotFound):
            await why(server, None, "b")


async def test_each_moment_is_explained_by_the_version_of_then(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(300, every_s=60)
        await server.put("a", {"type": "interval", "seconds": 90, "start": start_us / 1e6}, BOB)
        await server.go(300, every_s=30)

        old, new = await why(server, start_us + 2 * MINUTE), await why(server, start_us + 7 * MINUTE)

        assert (old.said.answer, new.said.answer) == (Answer.EXECUTED, Answer.NOT_DUE)
        assert (new.facts.before_us, new.facts.after_us) == (start_us + 360 * S, start_us + 450 * S)
        assert [told.facts.ruling and told.facts.ruling.schedule.version for told in (old, new)] == [1, 2]


async def test_after_its_last_run_it_has_finished(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, policies={"max_fires": 2})
        coming = await why(server, clock.wall_us() + 3 * MINUTE)
        await server.put("once", {"type": "date", "run_date": clock.wall_us() / 1e6 + 60})
        await server.go(600, every_s=60)

        assert "by then the schedule has run as often as it may (max_fires: 2)" in coming.said.sentence
        for id_ in ("a", "once"):
            for us in (clock.wall_us() - MINUTE, clock.wall_us() + HOUR):
                assert (await why(server, us, id_)).said.answer is Answer.ENDED
        assert 'had finished ("finished after 2 runs")' in (await why(server, clock.wall_us() - MINUTE)).said.sentence


async def test_what_finished_by_its_number_of_runs_was_due_for_the_last_time_at_its_last_row(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, policies={"max_fires": 2})
        await server.go(150, every_s=10)
        [*_, last] = await server.ledger()
        far_us = last.nominal_us + 10_000 * MINUTE

        # One of its trigger's times, one beside them, and one that is to come.
        for at_us in (last.nominal_us + MINUTE, last.nominal_us + 90 * S, far_us):
            told = await why(server, at_us)

            assert (told.said.answer, told.facts.nominal_us) == (Answer.ENDED, None)
            assert (told.facts.before_us, told.facts.after_us) == (last.nominal_us, None)
            assert told.said.sentence.endswith("It was due for the last time at 2023-11-14 22:15:20 UTC.")


async def test_what_had_finished_and_was_changed_later_had_finished_in_between(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY, policies={"max_fires": 2})
        await server.go(300, every_s=60)
        last = (await server.ledger())[-1]
        await server.put("a", HALF_HOURS, BOB)
        await server.go(3600, every_s=600)

        between, then = await why(server, last.nominal_us + MINUTE), await why(server, clock.wall_us())

        assert (between.said.answer, between.facts.before_us) == (Answer.ENDED, last.nominal_us)
        assert between.facts.after_us == (await server.ledger())[2].nominal_us
        assert then.said.answer is Answer.NOT_DUE


async def test_without_a_moment_what_is_over_is_explained_by_its_last_nominal_time(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("counted", MINUTELY, policies={"max_fires": 2})
        await server.put("ended", MINUTELY | {"end": start_us / 1e6 + 130})
        await server.put("deleted", MINUTELY)
        await server.go(150, every_s=10)
        await server.schedules.delete(BOB, "deleted")
        clock.advance(3600)

        for id_ in ("counted", "ended", "deleted"):
            told = await why(server, None, id_)

            assert (told.said.answer, told.facts.at_us) == (Answer.EXECUTED, start_us + 2 * MINUTE)
        gone = await why(server, clock.wall_us(), "deleted")
        assert (gone.said.answer, gone.facts.before_us) == (Answer.DELETED, start_us + 2 * MINUTE)


async def test_a_date_that_had_passed_when_it_was_asked_for_is_explained(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        us = clock.wall_us() - 20 * S
        await server.put("a", {"type": "date", "run_date": us / 1e6})
        await server.decide()

        told = await why(server, us)

        assert (told.said.answer, told.facts.ruling is not None) == (Answer.CAUGHT_UP, True)


async def test_what_is_to_come_is_told_with_what_may_keep_it(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        due_us = clock.wall_us() + 5 * MINUTE

        free = await why(server, due_us)
        await server.schedules.pause(BOB, "a", "why")
        paused = await why(server, due_us)

        assert free.said.sentence == (
            "It is due at 2023-11-14 22:18:20 UTC, in 5 min, and will run unless the schedule is changed before."
        )
        assert 'unless the schedule is resumed: the schedule was paused by bob ("why")' in paused.said.sentence
        assert (await why(server, due_us + 1)).said.answer is Answer.NOT_DUE


async def test_what_the_ledger_lost_is_called_by_its_name(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        await server.put("a", MINUTELY)
        await server.go(300, every_s=60)
        gone_us = clock.wall_us() - 2 * MINUTE
        tamper(server, f"DELETE FROM fires WHERE nominal_us = {gone_us}")

        assert (await why(server, gone_us)).said.answer is Answer.UNACCOUNTED


async def test_versions_that_are_not_known_are_not_invented(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(120, every_s=60)
        await server.put("a", HALF_HOURS)
        await server.go(30)
        tamper(server, "DELETE FROM schedule_versions")

        unknown, known = await why(server, start_us + 90 * S), await why(server, start_us + MINUTE)

        assert unknown.said.answer is Answer.UNKNOWN
        assert unknown.facts.known_since_us == start_us + 120 * S
        # The ledger still knows what happened.
        assert known.said.answer is Answer.EXECUTED


# --- local times ------------------------------------------------------------------------------------

BERLIN_NIGHTLY = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}


async def test_a_local_time_is_meant_in_the_schedules_zone(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=to_us(datetime(2026, 6, 1, tzinfo=UTC)))
    async with life(tmp_path, clock) as server:
        await server.put("a", BERLIN_NIGHTLY)
        await server.go(86_400, every_s=1800)

        told = await why(server, datetime(2026, 6, 1, 2, 30))

        assert (told.said.answer, told.facts.at_us) == (Answer.EXECUTED, to_us(datetime(2026, 6, 1, 0, 30, tzinfo=UTC)))
        assert told.facts.clock_note is None


@pytest.mark.parametrize("gap", ["shift", "skip"])
@pytest.mark.parametrize("offset", [None, 1, 2])
async def test_a_local_time_that_did_not_exist_is_said_to_be_none(tmp_path: Path, gap: str, offset: int | None) -> None:
    clock = ManualClock(wall_us=to_us(datetime(2026, 3, 28, 12, tzinfo=UTC)))
    async with life(tmp_path, clock) as server:
        await server.put("a", BERLIN_NIGHTLY | {"dst_gap": gap})
        await server.go(86_400, every_s=1800)

        zone = None if offset is None else timezone(timedelta(hours=offset))
        told = await why(server, datetime(2026, 3, 29, 2, 30, tzinfo=zone))

        note = (
            "There was no 02:30:00 on 2026-03-29 in Europe/Berlin: the clocks were set forward by 1 h, to 2026-03-29 "
        )
        assert note + "03:00:00." in told.said.sentence
        # The shifted time is the first moment after the gap.
        ran = gap == "shift" and offset is None
        assert told.said.answer is (Answer.EXECUTED if ran else Answer.NOT_DUE)


async def test_a_local_time_that_came_twice_is_said_to(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=to_us(datetime(2026, 10, 24, 12, tzinfo=UTC)))
    async with life(tmp_path, clock) as server:
        await server.put("a", BERLIN_NIGHTLY)
        await server.go(86_400, every_s=1800)

        told = await why(server, datetime(2026, 10, 25, 2, 30))

        assert told.said.answer is Answer.EXECUTED
        assert told.said.sentence.endswith(
            "02:30:00 on 2026-10-25 came twice in Europe/Berlin; this is about the first. The second was at 2026-10-25 "
            "02:30:00 Europe/Berlin (01:30:00 UTC)."
        )


async def test_every_nominal_time_of_a_long_history_has_an_explanation(tmp_path: Path, clock: ManualClock) -> None:
    async with life(tmp_path, clock, config=TimingConfig(catch_up_rows=5)) as server:
        start_us = clock.wall_us()
        await server.put("a", MINUTELY)
        await server.go(600, every_s=60)
        await server.schedules.pause(BOB, "a")
        await server.go(1800)
        await server.schedules.resume(BOB, "a")
        await server.go(1800)
        await server.put("a", {"type": "interval", "seconds": 40, "start": start_us / 1e6}, BOB)
        await server.go(600, every_s=20)
    clock.advance(1800)
    async with life(tmp_path, clock) as server:
        await server.decide()
        answers = set()
        for us in range(start_us + 20 * S, clock.wall_us() + 120 * S, 20 * S):
            told = await why(server, us)
            answers.add(told.said.answer)
            assert told.facts.ruling is not None

        assert answers == {
            Answer.EXECUTED, Answer.CAUGHT_UP, Answer.SKIPPED, Answer.MISSED, Answer.NOT_DUE, Answer.UPCOMING,
        }  # fmt: skip
        assert clock.wall_us() - start_us < DAY
