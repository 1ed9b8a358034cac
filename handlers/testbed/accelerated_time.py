"""A day of daily and hourly schedules in many zones, across a change of the clock, on a clock that goes fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.testbed.accounts import account, nominal_times
from schedule_zero.testbed.fast_clock import change_after, changed_hour
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, now_us

# Their clocks are changed in the same moment, at different local times.
CHANGING = ("Europe/Berlin", "Europe/Lisbon", "Europe/Helsinki", "Atlantic/Azores")
OTHERS = ("UTC", "Asia/Kolkata", "America/New_York", "Asia/Kathmandu", "Australia/Sydney")
# What the ids of those begin with that are about the change.
CHANGE = "accelerated_time.change."
# The first nominal time is so long after the beginning, so that all schedules are there.
LEAD_S = 1200.0
# Of the machine: the last fires are decided, and done.
REST_S = 60.0
MOST = 500


class AcceleratedTime(Scenario):
    """Is every nominal time of a simulated day accounted for, also where the clocks are changed?"""

    handler_id = "accelerated_time"

    class Params(ScenarioParams, frozen=True):
        hours: float = 24.0
        daily: int = 40
        hourly: int = 20
        # A job that sees another time than that is not on the fast clock.
        late_s: float = 14_400.0

    quick = {"hours": 2.5, "daily": 10, "hourly": 10}
    holds = {
        "every_fire_accounted": "each nominal time ran, or is on record as skipped or missed",
        "none_twice": "no nominal time ran twice",
        "no_other": "nothing ran and nothing is on record at what is no nominal time",
        "change_as_said": "local times that are left out or repeated as the clocks are changed ran as the manual says",
        "simulated_time": "each job saw the simulated time: its due time, or a little more",
    }
    measures = {
        "simulated_h": "hours from the first to the last run",
        "speedup": "times as fast as the machine's clock, as the jobs saw it",
        "due": "nominal times",
        "executed": "of them that ran",
        "skipped": "of them that were skipped, on record",
        "missed": "of them that were missed, on record",
        "late_p99_s": "simulated seconds; the 99th of a hundred from due to begun",
    }
    worse = {"more": ("late_p99_s",)}
    for_bare = True
    fast_clock = True

    def tick(self) -> str | None:
        """What time is it?"""
        with entered("accelerated_time.tick"):
            return rfc3339(now_us())

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: AcceleratedTime.Params = ground.params
        began_us = ground.now_us()
        start_us, end_us = (began_us + round(seconds * 1e6) for seconds in (LEAD_S, params.hours * 3600))
        span = {"type": "cron", "start": rfc3339(start_us), "end": rfc3339(end_us)}
        triggers = {
            id_: rule
            for id_, expression, zone in _rules(ground, start_us, end_us)
            # (What would never fire is refused.)
            if next(nominal_times(rule := {**span, "expression": expression, "timezone": zone}), None)
        }
        job = {"handler_id": cls.handler_id, "job_method": "tick", "policies": {"catch_up": "all"}}
        await ground.client.schedule_many([{"id": id_, "trigger": one, **job} for id_, one in triggers.items()])
        ground.keep("there_us", ground.now_us())
        ground.keep("triggers", triggers)
        ground.keep("follow", list(triggers))
        while (now := ground.now_us()) < end_us:
            ground.tell((now - began_us) / (end_us - began_us), f"{from_us(now):%a %H:%M}")
            await ground.sleep(min(600.0, (end_us - now) / 1e6))

        async def all_over() -> bool:
            rows = (await ground.client.schedules(handler_id=cls.handler_id, limit=MOST)).schedules
            return all(row.state != "active" for row in rows)

        await ground.until(all_over, REST_S)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        told: Counter[str] = Counter()
        for id_, trigger in seen.kept["triggers"].items():
            runs = [run for run in seen.runs if run.schedule_id == id_]
            rows = seen.fires.get(id_, ())
            found = account(nominal_times(trigger), runs, rows, there_us=seen.kept["there_us"])
            name = f"{id_} ({trigger['expression']}, {trigger['timezone']})"
            broken = {"every_fire_accounted": found.lost, "none_twice": found.twice, "no_other": found.other}
            for holds, times in broken.items():
                seen.hold_each(holds, (f"{name}: {rfc3339(us)}" for us in times), of=len(found.due))
            if id_.startswith(CHANGE):
                ran = [rfc3339(run.nominal_us) for run in runs]
                seen.hold("change_as_said", not any(broken.values()), f"{name} ran at {ran}")
            told.update(due=len(found.due), executed=found.ran, **found.excused)
        timed = [(run, run.start_us - run.nominal_us) for run in seen.runs if run.nominal_us is not None]
        seen.hold_each(
            "simulated_time",
            (f"{run.execution_id} began {us / 1e6:.3f} s after it was due" for run, us in timed
             if not 0 <= us <= ground.params.late_s * 1e6),
            of=len(timed),
        )  # fmt: skip
        late_s = sorted(us / 1e6 for _, us in timed)
        if len(timed) > 1:
            first, last = seen.runs[0], seen.runs[-1]
            seen.measure("simulated_h", (last.start_us - first.start_us) / 3.6e9)
            seen.measure("speedup", (last.start_us - first.start_us) * 1000 / (last.start_ns - first.start_ns))
            seen.measure("late_p99_s", late_s[int(0.99 * len(late_s))])
        for measure in ("due", "executed", "skipped", "missed"):
            seen.measure(measure, told[measure])
        points = (((run.start_us - timed[0][0].start_us) / 3.6e9, us / 1e6) for run, us in timed)
        seen.draw("from due to begun", points, x="simulated h", y="simulated s")


def _rules(ground: Ground, start_us: int, end_us: int) -> Iterator[tuple[str, str, str]]:
    """Id, expression and zone."""
    zones = CHANGING + OTHERS
    for number in range(ground.params.daily):
        zone = ground.random.choice(zones)
        at = from_us(ground.random.randrange(start_us, end_us)).astimezone(ZoneInfo(zone))
        yield f"accelerated_time.daily.{number}", f"{at.minute} {at.hour} * * *", zone
    for number in range(ground.params.hourly):
        yield f"accelerated_time.hourly.{number}", f"{ground.random.randrange(60)} * * * *", ground.random.choice(zones)
    for zone in CHANGING:
        change_us = change_after(start_us, zone)
        if change_us < end_us:
            hour = changed_hour(change_us, zone)
            for number, expression in enumerate((f"30 {hour} * * *", f"*/20 {hour},{hour + 1} * * *", "*/30 * * * *")):
                yield f"{CHANGE}{zone.partition('/')[2].lower()}.{number}", expression, zone
