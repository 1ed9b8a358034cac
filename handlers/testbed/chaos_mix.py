"""A bit of everything at once, while nodes are killed and stopped and the server is killed, by a plan from the seed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from schedule_zero import current_job
from schedule_zero.clock import rfc3339
from schedule_zero.testbed import harm
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.judging import again_without_cause, by_execution, descendants, harmed, ill_accounted
from schedule_zero.testbed.scenario import Ground, Scenario, Seen, client

LEASES = {"HEARTBEAT": "0.5", "SUSPECT": "1.5", "LOST": "3", "LEASE": "3.5"}
FAILING = ("poisoned", "crashing")
KINDS = ("good", "slow", "flaky", *FAILING)
TRIES, CHURNED, BATCHES, TAIL_US, FIRST_AFTER_US = 2, 10, 5, 1_000_000, 500_000


class ChaosMix(Scenario):
    """Does everything still hold when all of it happens at once, and processes die under it?"""

    handler_id = "chaos_mix"
    # So that a node that is stopped is lost within a test's patience.
    env = {f"SCHEDULE_ZERO_DISPATCH__{name}_S": value for name, value in LEASES.items()}

    class Params(harm.HarmParams, frozen=True):
        # Good, slow, flaky, poisoned and crashing ones.
        jobs: tuple[int, int, int, int, int] = (500, 60, 60, 10, 5)
        schedules: int = 5
        interval_ms: int = 200
        # How many children a job has, their children, and so on; of each of these trees.
        trees: tuple[tuple[int, ...], ...] = ((4, 4, 4), (1,) * 60)

    quick = {"seconds": 2.5, "node_kills": 1, "node_stops": 1, "server_kills": 1, "away_s": 0.3, "stopped_s": 4.2,
             "jobs": (50, 5, 5, 2, 1), "schedules": 2, "trees": ((3, 2), (1,) * 8)}  # fmt: skip
    holds = {
        "ends_as_it_must": "what is poisoned or crashes failed, every other job completed",
        "tries_limited": f"what fails was tried {TRIES} times, but for tries that were cut off",
        "again_only_with_cause": "a job ran again only after it failed, or where its node or the server was harmed",
        "each_descendant_once": "each job of each tree is one execution that completed",
        "each_fire_once": "each nominal time of the schedules has one row, and one execution at most",
        "nothing_extra": "nothing ran, or is on record, that nobody asked for",
        "nothing_left": "no schedule is left",
    }
    measures = {
        "harmed": "processes that were killed or stopped",
        "ran_again": "runs beyond the first of their execution",
        "longest_silence_s": "seconds; the longest time in which no job began",
    }
    worse = {"more": ("longest_silence_s",)}
    does_harm = True

    def work(self, kind: str = "tick", seconds: float = 0.0) -> str:
        with entered(f"chaos_mix.{kind}"):
            if kind == "crashing":
                os._exit(3)
            if kind == "poisoned" or (kind == "flaky" and current_job().attempt == 1):
                raise RuntimeError(kind)
            current_job().wait_cancelled(seconds)
            return kind

    async def grow(self, path: str, widths: list[int]) -> str:
        with entered("chaos_mix.grow"):
            for child in range(widths[0] if widths else 0):
                await _grown(client(), f"{path}.{child}", widths[1:])
            return path

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params, start_us = ground.params, ground.now_us() + FIRST_AFTER_US
        asked: dict[str, str] = {}
        done: list[harm.Done] = []
        names = [f"chaos_mix.{number}" for number in range(params.schedules)]
        trigger = {"type": "interval", "milliseconds": params.interval_ms, "start": rfc3339(start_us)}
        tick = {"handler_id": cls.handler_id, "job_method": "work", "trigger": trigger}
        await ground.client.schedule_many([tick | {"id": id_, "policies": {"catch_up": "all"}} for id_ in names])
        tick["trigger"] = {"type": "interval", "seconds": 1}
        wanted = [kind for kind, count in zip(KINDS, params.jobs, strict=True) for _ in range(count)]
        ground.random.shuffle(wanted)
        async with asyncio.TaskGroup() as tasks:
            for planned in harm.plan(ground.random, ground.nodes, params):
                tasks.create_task(harm.do(ground, planned, done))
            for number, widths in enumerate(params.trees):
                await _grown(ground.client, f"{start_us}.{number}", widths)
            for batch in range(BATCHES):
                ground.tell(batch / BATCHES)
                jobs = [_job(kind, ground) for kind in wanted[batch::BATCHES]]
                asked |= zip(await ground.client.submit_many(jobs), wanted[batch::BATCHES], strict=True)
                churned = [tick | {"id": f"chaos_mix.churned.{batch}.{number}"} for number in range(CHURNED)]
                ids = await ground.client.schedule_many(churned)
                await ground.sleep(params.seconds / BATCHES)
                await ground.client.delete_schedules(ids)
        ground.keep("span", (start_us, ground.now_us()))
        await ground.client.delete_schedules(names)
        harms = [(one.target, one.from_us, one.until_us) for one in done]
        for name, value in {"harm": harms, "asked": asked, "follow": names}.items():
            ground.keep(name, value)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        asked, done, (start_us, until_us) = (seen.kept[name] for name in ("asked", "harm", "span"))
        runs = by_execution(seen.runs)
        for id_, kind in asked.items():
            status, mine = seen.executions[id_].status if id_ in seen.executions else "nowhere", runs.get(id_, [])
            right = "failed" if kind in FAILING else "completed"
            seen.hold("ends_as_it_must", status == right and bool(mine), f"{kind} {id_}: {status}, {len(mine)} runs")
            if kind in FAILING:
                whole = 1 + sum(not harmed(run, again.start_us, done) for run, again in pairwise(mine))
                seen.hold("tries_limited", whole <= TRIES <= len(mine), f"{kind} {id_}: {len(mine)}, {whole} whole")
        for id_, mine in runs.items():
            again = again_without_cause(mine, done, dies=asked.get(id_) == "crashing")
            seen.hold_each("again_only_with_cause", again, of=len(mine))
        roots = [(f"{start_us}.{number}", widths) for number, widths in enumerate(ground.params.trees)]
        want = {path for root, widths in roots for path in descendants(root, widths)}
        grown = Counter(one.result for one in seen.executions.values() if one.job_method == "grow")
        wrong = (path for path in want | set(grown) if path not in want or grown[path] != 1)
        seen.hold_each("each_descendant_once", (f"{path}: {grown[path]} executions" for path in wrong), of=len(want))
        for name in seen.kept["follow"]:
            rows, interval_us = seen.fires[name], ground.params.interval_ms * 1000
            bad = list(ill_accounted(rows, start_us=start_us, until_us=until_us - TAIL_US, interval_us=interval_us))
            ran = {(run.nominal_us, run.execution_id) for run in seen.runs if run.schedule_id == name}
            bad += [f"{at}: {times} executions" for at, times in Counter(at for at, _ in ran).items() if times > 1]
            seen.hold_each("each_fire_once", (f"{name}: {said}" for said in bad), of=len(rows))
        grown_or_due = {id_ for id_, one in seen.executions.items() if one.job_method == "grow" or one.schedule_id}
        known = (set(asked) | grown_or_due) & set(seen.executions)
        strange = (set(seen.executions) | set(runs)) - known
        seen.hold_each("nothing_extra", (f"execution {id_}" for id_ in strange), of=len(known))
        seen.hold("nothing_left", not seen.left, ", ".join(seen.left))
        seen.measure("harmed", len(done))
        seen.measure("ran_again", len(seen.runs) - len(runs))
        silences = [after.start_ns - before.start_ns for before, after in pairwise(seen.runs)]
        seen.measure("longest_silence_s", max(silences, default=0) / 1e9)


def _job(kind: str, ground: Ground) -> dict[str, Any]:
    params = {"kind": kind, "seconds": ground.random.uniform(0.5, 1.5) if kind == "slow" else 0.0}
    retried = {} if kind in ("good", "slow") else {"max_attempts": TRIES, "retry_delay_s": 0.2}
    options = {**retried, "isolation": "process" if kind == "crashing" else "none"}
    return {"handler_id": "chaos_mix", "job_method": "work", "job_params": params, "options": options}


async def _grown(asked: Any, path: str, widths: Sequence[int]) -> None:
    await asked.submit("chaos_mix", "grow", {"path": path, "widths": list(widths)}, idempotency_key=path)
