"""The server is killed and started again while schedules run: what was due meanwhile is what their policies say."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

from schedule_zero.clock import rfc3339, to_us
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.judging import ill_accounted
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen

KINDS = ("all", "latest", "none")
# How far a decision may be from the outage that it is late for.
AROUND_US, CLOCK_S = 1_000_000, 0.05
MOST_CAUGHT_UP, FIRST_AFTER_S, BEGUN_WITHIN_S = 1000, 0.5, 30.0
RAN = frozenset({"executed", "caught_up"})


class Failover(Scenario):
    """Does the death of the server cost a fire, or make one twice, beyond what its policy says?"""

    handler_id = "failover"

    class Params(ScenarioParams, frozen=True):
        interval_ms: int = 500
        kills: int = 3
        # How long the server stays away, its start not counted, and works in between.
        away_s: float = 3.0
        between_s: float = 5.0
        misfire_grace_s: float = 1.0
        # Jobs that run while it is away.
        across: int = 9

    quick = {"interval_ms": 200, "kills": 1, "away_s": 0.8, "between_s": 1.2, "misfire_grace_s": 0.4, "across": 3}
    holds = {
        "no_duplicate": "no nominal time ran twice",
        "every_fire_accounted": "each nominal time has one row in its schedule's ledger",
        "missed_by_policy": "all makes up for each, latest for the newest of an outage, none for none of what is late",
        "late_by_outage": "what was made up for, or missed, was due while the server was away",
        "rows_are_true": "each fire that is said to have run did, and each that ran is said to have",
        "jobs_survive": "a job that ran while the server was away ran once, and its result is on record",
    }
    measures = {
        "outage_s": "seconds; from the kill until the server answers, at most",
        "gap_s": "seconds; the longest time in which no fire ran",
        "caught_up": "fires that were made up for",
        "missed": "fires that were missed, as their policy wants it",
    }
    worse = {"more": ("outage_s", "gap_s")}
    does_harm = True

    def tick(self) -> None:
        with entered("failover.tick"):
            pass

    async def across(self, seconds: float) -> float:
        with entered("failover.across") as returns:
            await asyncio.sleep(seconds)
            return returns(seconds)

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params, start_us = ground.params, ground.now_us() + round(FIRST_AFTER_S * 1e6)
        names = [f"failover.{kind}" for kind in KINDS]
        for kind, name in zip(KINDS, names, strict=True):
            await ground.client.schedule(
                cls.handler_id,
                "tick",
                trigger={"type": "interval", "milliseconds": params.interval_ms, "start": rfc3339(start_us)},
                id=name,
                policies={"overlap": "allow", "catch_up": kind, "catch_up_max": MOST_CAUGHT_UP},
                misfire_grace_s=params.misfire_grace_s,
            )
        outages, jobs = [], []
        for number in range(params.kills):
            ground.tell(number / params.kills, f"outage {number + 1}")
            await ground.sleep(params.between_s)
            work = {"handler_id": cls.handler_id, "job_method": "across", "job_params": {"seconds": params.away_s + 1}}
            jobs += await ground.client.submit_many([work] * params.across)
            await ground.until(lambda: len(ground.runs("across")) >= len(jobs), BEGUN_WITHIN_S)  # noqa: B023 - at once
            killed_us = ground.now_us()
            await ground.kill("server", back_after_s=params.away_s)
            outages.append((killed_us, ground.now_us()))
            # What is due after it is decided last.
            await ground.until(lambda: _fired_since(ground, outages[-1][1]) == set(names), BEGUN_WITHIN_S)
        await ground.sleep(params.between_s)
        kept = {"follow": names, "outages": outages, "jobs": jobs, "span": (start_us, ground.now_us())}
        for name, value in kept.items():
            ground.keep(name, value)
        await ground.client.delete_schedules(names)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        told, ran = set(), Counter((run.schedule_id, run.nominal_us) for run in seen.runs if run.nominal_us is not None)
        seen.hold_each("no_duplicate", (f"{at}: {count} times" for at, count in ran.items() if count > 1), of=len(ran))
        for kind in KINDS:
            rows = seen.fires[f"failover.{kind}"]
            _judge_rows(seen, f"failover.{kind}", rows, ground.params.interval_ms * 1000)
            _judge_policy(seen, kind, rows, ground.params.misfire_grace_s)
            told |= {(row.schedule_id, to_us(row.nominal_time)) for row in rows if row.outcome in RAN}
        untrue = [f"{at}: is on record, and did not run" for at in told - set(ran)]
        untrue += [f"{at}: ran, and is not on record" for at in set(ran) - told]
        seen.hold_each("rows_are_true", untrue, of=len(told | set(ran)))
        for id_, times in ((id_, seen.by_execution()[id_]) for id_ in seen.kept["jobs"]):
            status = seen.executions[id_].status if id_ in seen.executions else "nowhere"
            well = times == 1 and status == "completed"
            seen.hold("jobs_survive", well, f"execution {id_}: ran {times} times, is {status}")
        starts = sorted(run.start_us for run in seen.runs if run.nominal_us is not None)
        outcomes = Counter(row.outcome for rows in seen.fires.values() for row in rows for _ in range(row.count))
        seen.measure("outage_s", max(back_us - killed_us for killed_us, back_us in seen.kept["outages"]) / 1e6)
        seen.measure("gap_s", max((after - before for before, after in pairwise(starts)), default=0) / 1e6)
        seen.measure("caught_up", outcomes["caught_up"])
        seen.measure("missed", outcomes["missed"])


def _fired_since(ground: Ground, us: int) -> set[str | None]:
    return {run.schedule_id for run in ground.runs("tick") if (run.nominal_us or 0) > us}


def _judge_rows(seen: Seen, name: str, rows: list[Any], interval_us: int) -> None:
    start_us, until_us = seen.kept["span"]
    for row in rows:
        if row.outcome in ("caught_up", "missed"):
            at_us = to_us(row.last_nominal_time or row.nominal_time)
            near = any(begin - AROUND_US <= at_us <= end + AROUND_US for begin, end in seen.kept["outages"])
            seen.hold("late_by_outage", near, f"{name} at {row.nominal_time}: {row.outcome}")
    wrong = ill_accounted(rows, start_us=start_us, until_us=until_us - AROUND_US, interval_us=interval_us)
    seen.hold_each("every_fire_accounted", (f"{name}: {said}" for said in wrong), of=len(rows))


def _judge_policy(seen: Seen, kind: str, rows: list[Any], grace_s: float) -> None:
    for row, after in pairwise([*rows, None]):
        late_s = (row.decided_at - (row.last_nominal_time or row.nominal_time)).total_seconds()
        too_late = late_s > grace_s - CLOCK_S
        right = {
            "executed": late_s <= grace_s + CLOCK_S,
            "caught_up": too_late and kind != "none",
            "missed": too_late and kind != "all",
            # It was due when the schedule was deleted.
            "skipped": row.reason == "changed" and (after is None or after.reason == "changed"),
        }[row.outcome]
        if kind == "latest" and row.outcome in ("missed", "caught_up") and after is not None:
            # Of those that are decided together, the newest is made up for, and no other.
            newest = after.decided_at != row.decided_at or after.outcome not in ("missed", "caught_up")
            right = right and newest == (row.outcome == "caught_up")
        said = f"{row.schedule_id} at {row.nominal_time}: {row.outcome} {row.reason or ''}, {late_s:.3f} s late"
        seen.hold("missed_by_policy", right, said)
