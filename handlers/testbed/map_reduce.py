"""A sum over partitions, mapped on all nodes and reduced after the last: also with stragglers, and with a node lost."""

from __future__ import annotations

from typing import Any

from schedule_zero import current_job
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client


class MapReduce(Scenario):
    """Is every partition mapped and the reduction right, also where a node is lost in the middle?"""

    handler_id = "map_reduce"

    class Params(ScenarioParams, frozen=True):
        rounds: int = 3
        partitions: int = 24
        # Numbers in a partition.
        size: int = 10_000
        work_s: float = 0.5
        # So many partitions of each round take that much longer.
        stragglers: int = 2
        straggler_s: float = 3.0
        # In the last round a node is killed, and comes back.
        back_after_s: float = 1.0
        patience_s: float = 90.0

    quick = {"rounds": 2, "partitions": 9, "size": 1000, "work_s": 0.1, "stragglers": 1, "straggler_s": 0.5,
             "back_after_s": 0.0}  # fmt: skip
    holds = {
        "each_partition_mapped": "each partition was mapped to its end",
        "again_only_if_lost": "none was begun again but where its node had been killed",
        "result_intact": "what is recorded of each partition is its sum",
        "on_all_nodes": "each node has mapped in each round",
        "reduce_after_last": "no reduction began before the last partition's end",
        "reduced_once": "each round was reduced once, however often that was asked for",
        "total_right": "each round's total is right",
    }
    measures = {
        "map_s": "seconds; from the first start to the last end, in the last round without a loss",
        "reduce_gap_ms": "milliseconds; the longest from the last partition's end to the start of the reduction",
        "recovery_s": "seconds from the loss of a node to the last start of a partition that it had held",
    }
    worse = {"more": ("map_s", "reduce_gap_ms", "recovery_s")}
    does_harm = True

    def map(self, number: int, size: int, work_s: float, slow: dict[str, float]) -> dict[str, int]:
        """Sum up one partition. ``slow``: how much longer some take."""
        ctx = current_job()
        part = ctx.shard.index if ctx.shard else 0
        with entered(f"map_reduce.map:{number}/{part}") as returns:
            ctx.wait_cancelled(work_s + slow.get(str(part), 0.0))
            return returns({"part": part, "sum": _sum(number, part, size)})

    async def reduce(self, number: int, group_id: str) -> dict[str, int]:
        """Add up what the partitions of a group have returned."""
        with entered(f"map_reduce.reduce:{number}") as returns:
            page = await client().executions(group_id=group_id, limit=500)
            return returns({"round": number, "total": sum(row.result["sum"] for row in page.records)})

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: MapReduce.Params = ground.params
        groups: list[str] = []
        ground.keep("groups", groups)
        began_us = ground.now_us()
        for number in range(params.rounds):
            ground.tell(number / params.rounds, f"round {number + 1} of {params.rounds}")
            stragglers = ground.random.sample(range(params.partitions), params.stragglers)
            slow = {str(part): params.straggler_s for part in stragglers}
            job = {"number": number, "size": params.size, "work_s": params.work_s, "slow": slow}
            key, many = f"map_reduce/{began_us}/{number}", params.partitions
            made = await ground.client.submit_group("map_reduce", "map", job, shards=many, idempotency_key=key)
            groups.append(made.id)
            if number == params.rounds - 1:
                await cls._lose_one(ground, number)
            await ground.client.wait_group(made.id, params.patience_s)
            job = {"number": number, "group_id": made.id}
            # Asked for twice, as by one who got no answer to the first.
            for _ in range(2):
                id_ = await ground.client.submit(cls.handler_id, "reduce", job, idempotency_key=f"{key}/reduce")
                await ground.client.wait(id_, params.patience_s)

    @classmethod
    async def _lose_one(cls, ground: Ground, number: int) -> None:
        """A node that holds partitions."""
        victim = ground.random.choice(sorted(ground.nodes))
        began = f"map:{number}/"
        await ground.until(lambda: any(run.node_id == victim and not run.end_ns for run in ground.runs(began)), 30)
        ground.keep("lost", {"node": victim, "round": number, "at_us": ground.now_us()})
        await ground.kill(f"node:{victim}", back_after_s=ground.params.back_after_s)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params: MapReduce.Params = ground.params
        lost = seen.kept.get("lost", {"round": -1})
        by_action = seen.by_action()
        gaps_ms: list[float] = []
        drawn: dict[str, list[Run]] = {}
        edges: list[tuple[str, str]] = []
        for number, group in enumerate(seen.kept["groups"]):
            rows = {row.shard: row.result for row in seen.executions.values() if row.group_id == group}
            maps: list[Run] = []
            for part in range(params.partitions):
                name, runs = f"partition {part} of round {number}", by_action.get(f"map_reduce.map:{number}/{part}", [])
                maps += runs
                drawn |= {name: runs[-1:], **({f"{name}, cut off": runs[:-1]} if runs[1:] else {})}
                edges.append((name, f"reduction {number}"))
                seen.hold("each_partition_mapped", any(run.outcome == "ok" for run in runs), f"{name} was not")
                # (What had ended as its node was killed may not have been recorded.)
                again = [run.node_id for run in runs[:-1] if not (number == lost["round"] and _cut_off(run, lost))]
                seen.hold("again_only_if_lost", not again, f"{name}: begun again after {again}")
                told, right = rows.get(f"{part}/{params.partitions}"), _sum(number, part, params.size)
                seen.hold("result_intact", told == {"part": part, "sum": right}, f"{name}: {told}, not {right}")
            idle = sorted(set(ground.nodes) - {run.node_id for run in maps})
            seen.hold("on_all_nodes", not idle, f"round {number}: nothing on {', '.join(idle)}")
            reductions = by_action.get(f"map_reduce.reduce:{number}", [])
            drawn[f"reduction {number}"] = reductions
            seen.hold("reduced_once", len(reductions) == 1, f"round {number}: {len(reductions)} times")
            last = {run.execution_id: run for run in maps}.values()
            over_ns = max((run.end_ns or run.start_ns for run in last), default=0)
            for run in reductions if maps else ():
                gaps_ms.append((run.start_ns - over_ns) / 1e6)
                seen.hold("reduce_after_last", gaps_ms[-1] >= 0, f"round {number}: {-gaps_ms[-1]:.1f} ms before")
            right = sum(_sum(number, part, params.size) for part in range(params.partitions))
            told = [one.result for one in seen.executions.values() if one.job_method == "reduce" and one.result]
            mine = [one for one in told if one["round"] == number]
            seen.hold("total_right", [one.get("total") for one in mine] == [right], f"{mine}, not {right}")
            if number == lost["round"]:
                cut = {run.execution_id for run in maps if _cut_off(run, lost)}
                later = [run.start_us - lost["at_us"] for run in last if run.execution_id in cut and run.attempt > 1]
                seen.measure("recovery_s", max(later, default=0) / 1e6)
            elif maps:
                seen.measure("map_s", (over_ns - min(run.start_ns for run in maps)) / 1e9)
        seen.measure("reduce_gap_ms", max(gaps_ms, default=0.0))
        seen.draw_dag("partitions and their reduction", drawn, edges)


def _cut_off(run: Run, lost: dict[str, Any]) -> bool:
    """Whether its node was killed after its start."""
    return bool(run.node_id == lost["node"] and run.start_us <= lost["at_us"])


def _sum(number: int, part: int, size: int) -> int:
    """Of the numbers of a partition: so many, from where those of the one before end."""
    first = (number * 1000 + part) * size
    return sum(range(first, first + size))
