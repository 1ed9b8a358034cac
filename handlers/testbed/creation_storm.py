"""Bursts of schedules, created and deleted as fast as it goes: how fast is that, and is anything left over or lost?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, schedule_ids

# Requests under way at a time, where each is about one schedule.
AT_A_TIME = 20
LATER_S = 3600.0


class CreationStorm(Scenario):
    """What do bursts of thousands of schedules, created and deleted as fast as possible, leave behind?"""

    handler_id = "creation_storm"

    class Params(ScenarioParams, frozen=True):
        bursts: int = 10
        schedules_per_burst: int = 1000
        # So many of them are due at once; the others are deleted an hour before they are.
        due_share: float = 0.05
        # So long it is waited for those that are due.
        patience_s: float = 20.0

    quick = {"bursts": 4, "schedules_per_burst": 100, "patience_s": 5.0}
    holds = {
        "all_there": "after a burst its schedules are listed, and no others",
        "due_ran_once": "each schedule that was due ran exactly once",
        "others_silent": "no schedule ran that was deleted before it was due",
        "none_left": "after its deletion nothing of a burst is listed, and at the end nothing at all",
    }
    measures = {
        "created_per_s": "schedules created per second, one by one",
        "deleted_per_s": "schedules deleted per second, one by one",
        "bulk_created_per_s": "schedules created per second, a burst at a time",
        "bulk_deleted_per_s": "schedules deleted per second, a burst at a time",
        "lateness_max_ms": "milliseconds; the longest from due to entered, in the middle of the storm",
    }
    worse = {
        "less": ("created_per_s", "deleted_per_s", "bulk_created_per_s", "bulk_deleted_per_s"),
        "more": ("lateness_max_ms",),
    }
    for_bare = True

    def work(self) -> None:
        """Be run, if due."""
        with entered("creation_storm.work", sync=False):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        """Every other burst goes one by one, and every other all at once."""
        params: CreationStorm.Params = ground.params
        bursts: list[dict[str, Any]] = []
        ground.keep("bursts", bursts)
        for number in range(params.bursts):
            ground.tell(number / params.bursts, f"burst {number + 1} of {params.bursts}")
            ids = [f"creation_storm.{number}-{one}" for one in range(params.schedules_per_burst)]
            due = set(ground.random.sample(ids, round(params.due_share * len(ids))))
            burst: dict[str, Any] = {"ids": ids, "due": sorted(due), "bulk": bool(number % 2)}
            bursts.append(burst)
            burst["create_s"] = await _timed(ground, partial(cls._create, ground, ids, due, bulk=burst["bulk"]))
            burst["listed"] = await schedule_ids(ground.client, cls.handler_id)
            await _ran(ground, due, params.patience_s)
            later = [one for one in ids if one not in due]
            burst["delete_s"] = await _timed(ground, partial(cls._delete, ground, later, bulk=burst["bulk"]))
            # What has fired may be gone by itself: that is no matter of the rate.
            await ground.client.delete_schedules(sorted(due))
            burst["remaining"] = await schedule_ids(ground.client, cls.handler_id)

    @classmethod
    async def _create(cls, ground: Ground, ids: Sequence[str], due: set[str], *, bulk: bool) -> None:
        def body(id_: str) -> dict[str, Any]:
            at_s = ground.now_us() / 1e6 + (0 if id_ in due else LATER_S)
            job = {"handler_id": cls.handler_id, "job_method": "work"}
            return {**job, "trigger": {"type": "date", "run_date": at_s}, "id": id_}

        if bulk:
            await ground.client.schedule_many([body(id_) for id_ in ids])
        else:
            await _each(ids, lambda id_: ground.client.schedule(**body(id_)))

    @classmethod
    async def _delete(cls, ground: Ground, ids: Sequence[str], *, bulk: bool) -> None:
        if bulk:
            await ground.client.delete_schedules(ids)
        else:
            await _each(ids, ground.client.delete_schedule)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        starts: dict[str | None, list[int]] = {}
        for run in seen.runs:
            starts.setdefault(run.schedule_id, []).append(run.start_us)
        for number, burst in enumerate(seen.kept["bursts"]):
            ids, due, listed = set(burst["ids"]), set(burst["due"]), set(burst["listed"])
            # What was due may have fired already, and be gone.
            wrong = [f"{id_} is not listed" for id_ in sorted(ids - due - listed)]
            wrong += [f"{id_} is listed, and not of burst {number}" for id_ in sorted(listed - ids)]
            seen.hold_each("all_there", wrong, of=ground.params.schedules_per_burst)
            times = {id_: len(starts.get(id_, ())) for id_ in sorted(due)}
            seen.hold_each("due_ran_once", (f"{id_} ran {n} times" for id_, n in times.items() if n != 1), of=len(due))
            loud = [f"{id_} ran at {starts[id_][0]}" for id_ in sorted(ids - due) if id_ in starts]
            seen.hold_each("others_silent", loud, of=len(ids - due))
            left = [f"{id_} after burst {number}" for id_ in burst["remaining"]]
            seen.hold_each("none_left", left, of=len(ids))
        seen.hold_each("none_left", (f"{id_} at the end" for id_ in seen.left), of=1)
        for bulk, prefix, how in ((False, "", "one by one"), (True, "bulk_", "a burst at a time")):
            mine = [(number, one) for number, one in enumerate(seen.kept["bursts"]) if one["bulk"] is bulk]
            for verb, spared in (("create", 0), ("delete", 1)):
                done = [(number, len(one["ids"]) - spared * len(one["due"]), one[f"{verb}_s"]) for number, one in mine]
                if took_s := sum(seconds for _, _, seconds in done):
                    seen.measure(f"{prefix}{verb}d_per_s", sum(many for _, many, _ in done) / took_s)
                rates = [(float(number), many / seconds) for number, many, seconds in done if seconds]
                seen.draw(f"schedules {verb}d, {how}", rates, x="burst", y="per second")
        late_ms = [(run.start_us - run.nominal_us) / 1000 for run in seen.runs if run.nominal_us is not None]
        seen.measure("lateness_max_ms", max(late_ms, default=0.0))


async def _timed(ground: Ground, work: Callable[[], Awaitable[None]]) -> float:
    began_us = ground.now_us()
    await work()
    return (ground.now_us() - began_us) / 1e6


async def _each(ids: Sequence[str], request: Callable[[str], Awaitable[Any]]) -> None:
    """A request for each of them, so many at a time."""
    waiting = iter(ids)

    async def one_after_the_other() -> None:
        for id_ in waiting:
            await request(id_)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(one_after_the_other())


async def _ran(ground: Ground, due: set[str], patience_s: float) -> None:
    """Until all of them have run, or that took too long: then ``judge`` will say which."""
    end_us = ground.now_us() + patience_s * 1e6
    await ground.until(
        lambda: due <= {run.schedule_id for run in ground.runs()} or ground.now_us() > end_us, patience_s + 5
    )
