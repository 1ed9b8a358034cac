"""Each case of an explanation, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from schedule_zero.model import (
    CatchUp,
    Execution,
    Fire,
    FireOutcome,
    Freeze,
    Schedule,
    ScheduleState,
    SkipReason,
    State,
)
from schedule_zero.rules.explain import explain
from schedule_zero.rules.facts import Answer, Change, Facts, Outage, Ruling
from schedule_zero.rules.phrases import Wall, length

S = 1_000_000
MINUTE, HOUR = 60 * S, 3600 * S
# 2026-11-20 08:00:00 UTC, 09:00 in Berlin.
T = 1_795_161_600 * S
BERLIN = "Europe/Berlin"
DUE = "It was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC)"
OUTAGE = (
    "the server was not running from 2026-11-20 08:50:00 Europe/Berlin (07:50:00 UTC) to 2026-11-20 10:00:00 "
    "Europe/Berlin (09:00:00 UTC)"
)


def row(**fields: Any) -> Schedule:
    return Schedule(**{"id": "a", "handler_id": "demo", "job_method": "noop", "trigger": b"{}", **fields})


def ruling(to_us: int | None = None, deleted: bool = False, ended_by: str | None = None, **fields: Any) -> Ruling:
    return Ruling(schedule=row(**fields), from_us=T - HOUR, to_us=to_us, deleted=deleted, ended_by=ended_by)


def fire(outcome: FireOutcome, reason: SkipReason | None = None, late_us: int = 4000, **fields: Any) -> Fire:
    return Fire(
        **{
            "schedule_id": "a", "generation": 1, "nominal_us": T, "outcome": outcome, "reason": reason,
            "decided_us": T + late_us, **fields,
        }
    )  # fmt: skip


def executed(**fields: Any) -> Execution:
    return Execution(
        **{
            "id": "x1", "handler_id": "demo", "job_method": "noop", "state": State.COMPLETED, "nominal_us": T,
            "attempt": 1, "node_id": "n1", "dispatched_us": T + 5000, "started_us": T + 21_000,
            "finished_us": T + 21_000 + 3_200_000, **fields,
        }
    )  # fmt: skip


def facts(**fields: Any) -> Facts:
    made = {"at_us": T, "now_us": T + 24 * HOUR, "zone": BERLIN, "nominal_us": T, "window_us": HOUR, **fields}
    made.setdefault("ruling", ruling())
    if "fire" in made:
        made.setdefault("decider", made["ruling"])
    return Facts(**made)


def skipped(reason: SkipReason, late_us: int = 4000, **fields: Any) -> Facts:
    of_fire = {name: fields.pop(name) for name in ("detail", "count", "last_nominal_us") if name in fields}
    return facts(fire=fire(FireOutcome.SKIPPED, reason, late_us, **of_fire), **fields)


RAN = fire(FireOutcome.EXECUTED, execution_id="x1")
LATE = fire(FireOutcome.CAUGHT_UP, late_us=HOUR, execution_id="x1")
MISSED = fire(FireOutcome.MISSED, late_us=HOUR)
AWAY = Outage(from_us=T - 10 * MINUTE, to_us=T + HOUR)


def frozen(catch_up: CatchUp) -> Freeze:
    return Freeze(id="f", from_us=T - MINUTE, to_us=T + HOUR, by="bob", note="upgrade", catch_up=catch_up)


FROZE = (
    'all schedules were frozen by bob ("upgrade") from 2026-11-20 08:59:00 Europe/Berlin (07:59:00 UTC) to '
    "2026-11-20 10:00:00 Europe/Berlin (09:00:00 UTC)"
)
FROZE_BY_NOBODY = FROZE.replace(' by bob ("upgrade")', "")
STARTED = "Its execution started 21 ms after it was due on node n1"

JUST_STARTED = "the server had just started, at 2026-11-20 08:59:59 Europe/Berlin (07:59:59 UTC)"

CASES: dict[str, tuple[Facts, Answer, str]] = {
    # --- it ran on time ---
    "on time": (
        facts(fire=RAN, execution=executed()),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and completed after 3.2 s.",
    ),
    "within its grace": (
        facts(fire=fire(FireOutcome.EXECUTED, late_us=5 * S + 200_000, execution_id="x1"), execution=executed()),
        Answer.EXECUTED,
        f"{DUE}, and ran 5.2 s late, which is within its grace of 10 s. {STARTED}, and completed after 3.2 s.",
    ),
    "within its grace, after an outage": (
        facts(fire=fire(FireOutcome.EXECUTED, late_us=9 * S, execution_id="x1"), execution=executed(), outage=AWAY),
        Answer.EXECUTED,
        f"{DUE}, and ran 9 s late, which is within its grace of 10 s: {OUTAGE}. {STARTED}, and completed after 3.2 s.",
    ),
    "within its grace, after a thaw": (
        facts(
            fire=fire(FireOutcome.EXECUTED, late_us=9 * S, execution_id="x1"),
            execution=executed(),
            freeze=frozen(CatchUp.ALL),
        ),
        Answer.EXECUTED,
        f"{DUE}, and ran 9 s late, which is within its grace of 10 s: {FROZE}. {STARTED}, and completed after 3.2 s.",
    ),
    "within its grace, right after a start": (
        facts(
            fire=fire(FireOutcome.EXECUTED, late_us=2 * S, execution_id="x1"),
            execution=executed(),
            just_started_us=T - S,
        ),
        Answer.EXECUTED,
        (
            f"{DUE}, and ran 2 s late, which is within its grace of 10 s: {JUST_STARTED}. {STARTED}, and completed "
            "after 3.2 s."
        ),
    ),
    "failed": (
        facts(
            fire=RAN,
            execution=executed(state=State.FAILED, attempt=3, error=b'{"type":"ValueError","message":"no such file"}'),
        ),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and failed after 3.2 s (attempt 3): ValueError: no such file.",
    ),
    "a long error": (
        facts(fire=RAN, execution=executed(state=State.FAILED, error=b'{"type":"","message":"%s"}' % (b"x" * 500))),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and failed after 3.2 s: {'x' * 119}….",
    ),
    "timed out": (
        facts(fire=RAN, execution=executed(state=State.TIMEOUT)),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and was stopped by its timeout after 3.2 s.",
    ),
    "dead": (
        facts(fire=RAN, execution=executed(state=State.DEAD, finished_us=None, stored_us=None)),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and was given up as one that kills its nodes.",
    ),
    "cancelled while it ran": (
        facts(fire=RAN, execution=executed(state=State.CANCELLED)),
        Answer.EXECUTED,
        f"{DUE}, and ran. {STARTED}, and was cancelled after 3.2 s.",
    ),
    "cancelled before it started": (
        facts(fire=RAN, execution=executed(state=State.CANCELLED, started_us=None, node_id=None)),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution was cancelled before it started.",
    ),
    "misfired": (
        facts(fire=RAN, execution=executed(state=State.MISFIRED, started_us=None)),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution came too late to be started.",
    ),
    "running": (
        facts(fire=RAN, execution=executed(state=State.RUNNING, finished_us=None), now_us=T + 90 * S + 21_000),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution has been running on node n1 for 1 min 30 s.",
    ),
    "pending": (
        facts(fire=RAN, execution=executed(state=State.PENDING)),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution waits for a node that serves demo and has room.",
    ),
    "retry": (
        facts(fire=RAN, execution=executed(state=State.RETRY_SCHEDULED, error=b'{"type":"E","message":"m"}')),
        Answer.EXECUTED,
        f"{DUE}, and ran. Attempt 1 failed: E: m, and another one follows.",
    ),
    "blocked": (
        facts(fire=RAN, execution=executed(state=State.BLOCKED), ruling=ruling(policies=b'{"overlap":"buffer_all"}')),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution waits until an earlier one is over (overlap: buffer_all).",
    ),
    "its execution is forgotten": (
        facts(fire=RAN),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution x1 is not stored any more.",
    ),
    "with jitter": (
        facts(
            fire=RAN,
            execution=executed(not_before_us=T + 12 * S, started_us=T + 12 * S + 1000, finished_us=T + 12 * S + 1500),
            ruling=ruling(policies=b'{"jitter_s":30}'),
        ),
        Answer.EXECUTED,
        (
            f"{DUE}, and ran. Its execution started 12 s after it was due (put off by 12 s: jitter of up to 30 s) "
            "on node "
            "n1, and completed after less than 1 ms."
        ),
    ),
    "jitter to come": (
        facts(fire=RAN, execution=executed(state=State.SCHEDULED, not_before_us=T + 12 * S)),
        Answer.EXECUTED,
        f"{DUE}, and ran. Its execution is to start (put off by 12 s: jitter).",
    ),
    "the first of many": (
        facts(fire=RAN, in_second=100, execution=executed()),
        Answer.EXECUTED,
        f"{DUE}, the first of 100 in that second, and ran. {STARTED}, and completed after 3.2 s.",
    ),
    # --- it ran late ---
    "caught up after an outage": (
        facts(fire=LATE, outage=AWAY, execution=executed(started_us=T + HOUR, finished_us=T + HOUR + S)),
        Answer.CAUGHT_UP,
        (
            f"{DUE}, and ran 1 h late: {OUTAGE}, and it was caught up afterwards. Its execution started 1 h after "
            "it was "
            "due on node n1, and completed after 1 s."
        ),
    ),
    "caught up after a freeze that asked for it": (
        facts(fire=LATE, freeze=frozen(CatchUp.ALL)),
        Answer.CAUGHT_UP,
        (
            f"{DUE}, and ran 1 h late: {FROZE}, and what was due meanwhile was to be made up for (catch_up: all). Its "
            "execution x1 is not stored any more."
        ),
    ),
    "caught up by its own policy after a freeze": (
        facts(fire=LATE, freeze=Freeze(id="f", from_us=T - MINUTE, to_us=T + HOUR)),
        Answer.CAUGHT_UP,
        (
            f"{DUE}, and ran 1 h late: {FROZE_BY_NOBODY}, and it was caught up afterwards. Its execution x1 is "
            "not stored "
            "any more."
        ),
    ),
    "caught up although the server was there": (
        facts(fire=LATE),
        Answer.CAUGHT_UP,
        (
            f"{DUE}, and ran 1 h late: the server decided it only 1 h after it was due, and it was caught up "
            "afterwards. "
            "Its execution x1 is not stored any more."
        ),
    ),
    # --- it was skipped ---
    "paused": (
        skipped(SkipReason.PAUSED, ruling=ruling(state=ScheduleState.PAUSED, note="stock-taking", updated_by="bob")),
        Answer.SKIPPED,
        (
            f'{DUE}, and was skipped: the schedule was paused by bob ("stock-taking") at 2026-11-20 08:00:00 '
            "Europe/Berlin (07:00:00 UTC)."
        ),
    ),
    "snoozed": (
        skipped(SkipReason.PAUSED, ruling=ruling(state=ScheduleState.PAUSED, resume_us=T + HOUR)),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was paused at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC) "
            "until "
            "2026-11-20 10:00:00 Europe/Berlin (09:00:00 UTC)."
        ),
    ),
    "paused without a note": (
        skipped(SkipReason.PAUSED, ruling=ruling(state=ScheduleState.PAUSED, note="paused by bob", updated_by="bob")),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was paused by bob at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 "
            "UTC)."
        ),
    ),
    "paused by nobody knows whom": (
        skipped(SkipReason.PAUSED),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: the schedule was paused.",
    ),
    "overlap": (
        skipped(
            SkipReason.OVERLAP,
            ruling=ruling(policies=b'{"overlap":"skip"}'),
            in_the_way=executed(id="x0", nominal_us=T - HOUR),
        ),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: an earlier execution (x0, that of 2026-11-20 08:00:00 Europe/Berlin "
            "(07:00:00 UTC)) "
            "was not over (overlap: skip)."
        ),
    ),
    "overlap of a buffer": (
        skipped(SkipReason.OVERLAP, ruling=ruling(policies=b'{"overlap":"buffer_one"}')),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: an earlier execution was not over, and another one was waiting already (overlap: "
            "buffer_one)."
        ),
    ),
    "replaced by a later one of its round": (
        skipped(
            SkipReason.OVERLAP, HOUR, ruling=ruling(policies=b'{"overlap":"cancel_running"}'), latest_us=T + 30 * MINUTE
        ),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: a later one that was decided at the same time, that of 2026-11-20 09:30:00 "
            "Europe/Berlin (08:30:00 UTC), took its place (overlap: cancel_running)."
        ),
    ),
    "replaced by one of a long round": (
        skipped(SkipReason.OVERLAP, HOUR, ruling=ruling(policies=b'{"overlap":"replace_pending"}')),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: a later one that was decided at the same time took its place (overlap: "
            "replace_pending)."
        ),
    ),
    "blackout": (
        skipped(SkipReason.BLACKOUT, detail="nights: 22:00 to 06:00"),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: a named calendar forbids it (nights: 22:00 to 06:00).",
    ),
    "holiday": (
        skipped(SkipReason.HOLIDAY, detail="german: Buß- und Bettag"),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: a named calendar forbids it (german: Buß- und Bettag).",
    ),
    "beyond the catch-up maximum": (
        skipped(
            SkipReason.CATCH_UP_LIMIT, HOUR, ruling=ruling(policies=b'{"catch_up":"all","catch_up_max":5}'), outage=AWAY
        ),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: {OUTAGE}, and of what comes too late only the newest 5 are caught up "
            "(catch_up: all)."
        ),
    ),
    "coalesced": (
        skipped(SkipReason.COALESCED, latest_us=T + 3 * S),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: several were due when they were decided, and only the latest runs "
            "(coalesce), that "
            "of 2026-11-20 09:00:03 Europe/Berlin (08:00:03 UTC)."
        ),
    ),
    "coalesced after an outage": (
        skipped(SkipReason.COALESCED, latest_us=T + 3 * S, outage=AWAY),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: several were due when they were decided, and only the latest runs (coalesce), "
            f"that of 2026-11-20 09:00:03 Europe/Berlin (08:00:03 UTC): {OUTAGE}."
        ),
    ),
    "coalesced on time, soon after a start": (
        skipped(SkipReason.COALESCED, just_started_us=T - S),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: several were due when they were decided, and only the latest runs (coalesce).",
    ),
    "requested": (
        skipped(SkipReason.REQUESTED, asked_by="cyd"),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: cyd had asked to leave it out.",
    ),
    "requested by nobody knows whom": (
        skipped(SkipReason.REQUESTED),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: somebody had asked to leave it out.",
    ),
    "frozen": (
        skipped(SkipReason.FROZEN, freeze=frozen(CatchUp.NONE)),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: {FROZE}, and nothing of it was to be made up for.",
    ),
    "frozen, and another one was the latest": (
        skipped(SkipReason.FROZEN, freeze=frozen(CatchUp.LATEST)),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: {FROZE}, and only the latest of it was to be made up for.",
    ),
    "changed": (
        skipped(SkipReason.CHANGED, ruling=ruling(to_us=T + S, ended_by="bob")),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was changed by bob at 2026-11-20 09:00:01 Europe/Berlin (08:00:01 "
            "UTC), before it was decided."
        ),
    ),
    "deleted before it was decided": (
        skipped(SkipReason.CHANGED, ruling=ruling(to_us=T + S, ended_by="bob", deleted=True)),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was deleted by bob at 2026-11-20 09:00:01 Europe/Berlin (08:00:01 "
            "UTC), before it was decided."
        ),
    ),
    "changed after an outage": (
        skipped(SkipReason.CHANGED, HOUR, decider=None, outage=AWAY),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: the schedule was changed before it was decided: {OUTAGE}.",
    ),
    "changed by a version that is not known": (
        skipped(SkipReason.CHANGED, decider=None),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: the schedule was changed before it was decided.",
    ),
    "quarantined": (
        skipped(SkipReason.QUARANTINED, ruling=ruling(state=ScheduleState.QUARANTINED, note="the trigger failed: X")),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: it could not be decided, and the schedule was put into quarantine "
            '("the trigger failed: X").'
        ),
    ),
    "gap": (
        skipped(SkipReason.DST_GAP),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: its local time did not exist that day, and its trigger leaves such times out "
            "(dst_gap: skip)."
        ),
    ),
    "duplicate": (
        skipped(SkipReason.DUPLICATE, detail="01x"),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: execution 01x had its unique key.",
    ),
    "no node for a broadcast": (
        skipped(SkipReason.NO_NODE, detail="no node that serves demo.noop is connected"),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: it was to run on every node that matches, and there was none: "
            "no node that serves demo.noop is connected."
        ),
    ),
    "backpressure": (
        skipped(SkipReason.BACKPRESSURE),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: too much was waiting already.",
    ),
    "a row without a reason": (
        facts(fire=fire(FireOutcome.SKIPPED)),
        Answer.SKIPPED,
        f"{DUE}, and was skipped: the ledger does not say why.",
    ),
    "one of many": (
        skipped(SkipReason.PAUSED, count=1234, last_nominal_us=T + HOUR),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was paused. One row of the ledger stands for 1,234 such times from "
            "2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC) to 2026-11-20 10:00:00 Europe/Berlin (09:00:00 UTC)."
        ),
    ),
    "one of many of two kinds": (
        skipped(SkipReason.PAUSED, count=2, last_nominal_us=T + HOUR, perhaps=[fire(FireOutcome.MISSED, count=3)]),
        Answer.SKIPPED,
        (
            f"{DUE}, and was skipped: the schedule was paused. One row of the ledger stands for 2 such times from "
            "2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC) to 2026-11-20 10:00:00 Europe/Berlin (09:00:00 "
            "UTC). Others "
            "of the same time stand for missed; which one it was, they do not say."
        ),
    ),
    # --- it was missed ---
    "missed, the latest ran": (
        facts(fire=MISSED, outage=AWAY, latest_us=T + 30 * MINUTE),
        Answer.MISSED,
        (
            f"{DUE}, and was missed: {OUTAGE}, and of what comes too late only the latest is caught up (catch_up: "
            "latest), which was that of 2026-11-20 09:30:00 Europe/Berlin (08:30:00 UTC)."
        ),
    ),
    "missed, killed": (
        facts(fire=MISSED, outage=Outage(from_us=T - 10 * MINUTE, to_us=T + HOUR, about=True)),
        Answer.MISSED,
        (
            f"{DUE}, and was missed: {OUTAGE.replace('from ', 'from about ', 1)}, and of what comes too late only the "
            "latest is caught up (catch_up: latest)."
        ),
    ),
    "missed, beyond the window": (
        facts(fire=fire(FireOutcome.MISSED, late_us=3 * HOUR), outage=AWAY),
        Answer.MISSED,
        f"{DUE}, and was missed: {OUTAGE}, and that was 3 h before, longer than its catch-up window of 1 h.",
    ),
    "missed, nothing is caught up": (
        facts(fire=MISSED, ruling=ruling(policies=b'{"catch_up":"none"}')),
        Answer.MISSED,
        (
            f"{DUE}, and was missed: the server decided it only 1 h after it was due, and what comes too late is not "
            "caught up (catch_up: none)."
        ),
    ),
    "missed, right after a start": (
        facts(
            fire=fire(FireOutcome.MISSED, late_us=2 * S),
            ruling=ruling(policies=b'{"catch_up":"none"}', misfire_grace_s=1.0),
            just_started_us=T - S,
        ),
        Answer.MISSED,
        (
            f"{DUE}, and was missed: {JUST_STARTED}, and decided it only 2 s after it was due, and what comes too late "
            "is not caught up (catch_up: none)."
        ),
    ),
    # --- it has no row ---
    "undecided": (
        facts(due=True, now_us=T + 5 * S),
        Answer.UNDECIDED,
        f"{DUE}, and is not decided yet: the server is 5 s behind.",
    ),
    "undecided in a freeze": (
        facts(due=True, freeze=Freeze(id="f", from_us=T - MINUTE, by="bob")),
        Answer.UNDECIDED,
        (
            f"{DUE}, and is not decided yet: all schedules were frozen by bob from 2026-11-20 08:59:00 Europe/Berlin "
            "(07:59:00 UTC)."
        ),
    ),
    "unaccounted": (
        facts(),
        Answer.UNACCOUNTED,
        (
            f"{DUE}, and the ledger has no row for it. That must not be: the schedule's audit says how many there "
            "are of "
            "this kind."
        ),
    ),
    "not due": (
        facts(nominal_us=None, trigger_words="every hour", before_us=T - HOUR, after_us=T + HOUR),
        Answer.NOT_DUE,
        (
            "Nothing was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC). The trigger: every hour. It was due "
            "before that at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC), and after that at 2026-11-20 10:00:00 "
            "Europe/Berlin (09:00:00 UTC)."
        ),
    ),
    "not due, and what became of the time before": (
        facts(nominal_us=None, before_us=T - HOUR, before=fire(FireOutcome.SKIPPED, SkipReason.PAUSED)),
        Answer.NOT_DUE,
        (
            "Nothing was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC). It was due before that at 2026-11-20 "
            "08:00:00 Europe/Berlin (07:00:00 UTC), which was skipped (paused)."
        ),
    ),
    "not due, in an outage": (
        facts(nominal_us=None, after_us=T + HOUR, outage=AWAY),
        Answer.NOT_DUE,
        (
            "Nothing was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC). It was due after that at 2026-11-20 "
            f"10:00:00 Europe/Berlin (09:00:00 UTC). At that time {OUTAGE}."
        ),
    ),
    "not due, in the gap of a clock change": (
        facts(nominal_us=None, after_us=T + HOUR, clock_note="There was no 02:30:00 on 2026-03-29 in Europe/Berlin."),
        Answer.NOT_DUE,
        (
            "Nothing was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC). It was due after that at 2026-11-20 "
            "10:00:00 Europe/Berlin (09:00:00 UTC). There was no 02:30:00 on 2026-03-29 in Europe/Berlin."
        ),
    ),
    "never due": (
        facts(nominal_us=None, trigger_words="only when somebody runs it", now_us=T - HOUR),
        Answer.NOT_DUE,
        "Nothing is due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC). The trigger: only when somebody runs it.",
    ),
    "finished": (
        facts(
            ended=True, ruling=ruling(state=ScheduleState.FINISHED, note="finished after 3 runs"), before_us=T - HOUR
        ),
        Answer.ENDED,
        (
            'Nothing was due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC): the schedule had finished ("finished '
            'after 3 runs"). It was due for the last time at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC).'
        ),
    ),
    "in quarantine": (
        facts(ended=True, ruling=ruling(state=ScheduleState.QUARANTINED), now_us=T - HOUR),
        Answer.ENDED,
        "Nothing is due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC): the schedule is in quarantine.",
    ),
    "not created": (
        facts(ruling=None, created=Change(us=T + HOUR, who="ada")),
        Answer.NOT_CREATED,
        (
            "There was no such schedule at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC): it was created by ada at "
            "2026-11-20 10:00:00 Europe/Berlin (09:00:00 UTC)."
        ),
    ),
    "deleted": (
        facts(ruling=None, deleted=Change(us=T - HOUR, who="bob")),
        Answer.DELETED,
        (
            "There was no such schedule at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC): it had been deleted "
            "by bob "
            "at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC)."
        ),
    ),
    "deleted and created again": (
        facts(ruling=None, deleted=Change(us=T - HOUR), created=Change(us=T + HOUR, who="ada")),
        Answer.DELETED,
        (
            "There was no such schedule at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC): it had been deleted at "
            "2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC), and was created by ada at 2026-11-20 10:00:00 "
            "Europe/Berlin (09:00:00 UTC) again."
        ),
    ),
    "not known": (
        facts(ruling=None, known_since_us=T + HOUR),
        Answer.UNKNOWN,
        (
            "What this schedule was at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC) is not known: its versions are "
            "kept since 2026-11-20 10:00:00 Europe/Berlin (09:00:00 UTC), and the ledger has no row for that moment."
        ),
    ),
}

IS_DUE = "It is due at 2026-11-20 09:00:00 Europe/Berlin (08:00:00 UTC), in 1 h"


def coming(**fields: Any) -> Facts:
    return facts(now_us=T - HOUR, **fields)


CASES |= {
    "upcoming": (coming(), Answer.UPCOMING, f"{IS_DUE}, and will run unless the schedule is changed before."),
    "upcoming, paused": (
        coming(ruling=ruling(state=ScheduleState.PAUSED, note="why", updated_by="bob")),
        Answer.UPCOMING,
        (
            f'{IS_DUE}, but it will be skipped unless the schedule is resumed: the schedule was paused by bob ("why") '
            "at 2026-11-20 08:00:00 Europe/Berlin (07:00:00 UTC)."
        ),
    ),
    "upcoming, snoozed until before it": (
        coming(ruling=ruling(state=ScheduleState.PAUSED, resume_us=T)),
        Answer.UPCOMING,
        f"{IS_DUE}, and will run unless the schedule is changed before.",
    ),
    "upcoming, frozen": (
        coming(freeze=Freeze(id="f", from_us=T - 2 * HOUR, by="bob")),
        Answer.UPCOMING,
        (
            f"{IS_DUE}, but it will not be decided before a thaw: all schedules were frozen by bob from 2026-11-20 "
            "07:00:00 Europe/Berlin (06:00:00 UTC)."
        ),
    ),
    "upcoming, frozen until before it": (
        coming(freeze=Freeze(id="f", from_us=T - 2 * HOUR, to_us=T - MINUTE)),
        Answer.UPCOMING,
        f"{IS_DUE}, and will run unless the schedule is changed before.",
    ),
    "upcoming, to be skipped": (
        coming(to_skip=True, asked_by="cyd"),
        Answer.UPCOMING,
        f"{IS_DUE}, but cyd has asked to leave it out.",
    ),
    "upcoming, forbidden": (
        coming(forbidden="german: Neujahr"),
        Answer.UPCOMING,
        f"{IS_DUE}, but a named calendar forbids it (german: Neujahr).",
    ),
    "upcoming, beyond its last run": (
        coming(runs_out=True, ruling=ruling(policies=b'{"max_fires":3}')),
        Answer.UPCOMING,
        f"{IS_DUE}, but by then the schedule has run as often as it may (max_fires: 3).",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_case_has_its_sentence(name):
    given, answer, sentence = CASES[name]

    said = explain(given)

    assert said.sentence == sentence
    assert said.answer is answer


def test_every_answer_and_every_reason_has_a_case():
    assert {answer for _, answer, _ in CASES.values()} == set(Answer)
    assert {given.fire.reason for given, _, _ in CASES.values() if given.fire} == {None, *SkipReason}
    states = {given.execution.state for given, _, _ in CASES.values() if given.execution}
    assert states == set(State)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("missed, the latest ran", {"catch_up": "latest", "catch_up_window_s": 3600.0, "misfire_grace_s": 10.0}),
        (
            "beyond the catch-up maximum",
            {"catch_up": "all", "catch_up_max": 5, "catch_up_window_s": 3600.0, "misfire_grace_s": 10.0},
        ),
        ("within its grace", {"misfire_grace_s": 10.0}),
        ("with jitter", {"jitter_s": 30.0, "jitter": "uniform"}),
        ("overlap", {"overlap": "skip"}),
        ("coalesced", {"coalesce": True}),
        ("frozen", {"catch_up": "none"}),
        ("caught up after a freeze that asked for it", {"catch_up": "all"}),
        ("on time", {}),
        ("paused", {}),
    ],
)
def test_the_policies_that_decided_come_with_it(name, policy):
    assert explain(CASES[name][0]).policy == policy


@pytest.mark.parametrize(
    ("us", "said"),
    [
        (0, "less than 1 ms"), (999, "less than 1 ms"), (1000, "1 ms"), (999_999, "999 ms"), (1_000_000, "1 s"),
        (3_249_000, "3.2 s"), (59_999_999, "59.9 s"), (60 * S, "1 min"), (303 * S, "5 min 3 s"), (2 * HOUR, "2 h"),
        (2 * HOUR + 5 * MINUTE + 7 * S, "2 h 5 min"), (76 * HOUR, "3 d 4 h"), (-2 * S, "2 s"),
    ],
)  # fmt: skip
def test_lengths_are_said_in_at_most_two_units(us, said):
    assert length(us) == said


def test_moments_name_the_day_in_utc_where_it_is_another_one():
    assert Wall("Asia/Tokyo").say(T + 8 * HOUR + 1500) == (
        "2026-11-21 01:00:00.0015 Asia/Tokyo (2026-11-20 16:00:00.0015 UTC)"
    )
    assert Wall(None).say(T) == Wall("UTC").say(T) == "2026-11-20 08:00:00 UTC"
