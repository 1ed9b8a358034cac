"""Nodes in a circle, each hop submitted by the job before it; one of the nodes is killed in the middle."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median
from typing import Any
from zlib import crc32

import msgspec

from schedule_zero.testbed.history import Run
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client

ROLES = ("increment", "transform", "validate")
WRAP, HALF_WITHIN_S = 1_000_003, 60.0
# A job that was over for so long when its process was killed has no reason to run again.
OVER_FOR_S = 1.0


class FeedbackLoop(Scenario):
    """Does a loop over several nodes keep order and count when one of them is killed in the middle?"""

    handler_id = "feedback_loop"

    class Params(ScenarioParams, frozen=True):
        loops: int = 10
        depth: int = 90
        # How long the killed node stays away.
        away_s: float = 2.0

    quick = {"loops": 4, "depth": 24, "away_s": 0.3}
    holds = {
        "each_hop_once": "each hop of each loop is one execution that completed, and there is no other",
        "values_exact": "each hop returned what all steps up to it make of the loop's first value",
        "in_order": "no hop began before the one before it",
        "own_node": "each hop ran on the node that it was for: another one than the hop before",
        "again_only_if_killed": "a hop ran again only where its process was ended before it was over",
    }
    measures = {
        "hops_per_s": "hops per second, of all loops together",
        "hop_p50_ms": "milliseconds; the median time from the start of a hop to that of the next one",
        "gap_s": "seconds; the longest such time, which the kill makes",
        "ran_again": "runs beyond the first of their hop",
    }
    worse = {"less": ("hops_per_s",), "more": ("hop_p50_ms", "gap_s")}
    does_harm = True

    async def increment(self, loop: int, hop: int, value: int, circle: dict[str, Any]) -> dict[str, int]:
        with entered("feedback_loop.increment") as returns:
            return returns(await _handed_on(loop, hop, value + 1, circle))

    async def transform(self, loop: int, hop: int, value: int, circle: dict[str, Any]) -> dict[str, int]:
        with entered("feedback_loop.transform") as returns:
            return returns(await _handed_on(loop, hop, value * 2 % WRAP, circle))

    async def validate(self, loop: int, hop: int, value: int, circle: dict[str, Any]) -> dict[str, int]:
        with entered("feedback_loop.validate") as returns:
            if value != value_after(loop, hop):
                raise ValueError(f"loop {loop}, hop {hop}: got {value}")
            return returns(await _handed_on(loop, hop, value, circle))

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params, nodes = ground.params, list(ground.nodes[: len(ROLES)])
        ground.keep("nodes", nodes)
        circle = {"run": str(ground.now_us()), "depth": params.depth, "nodes": nodes}
        for loop in range(params.loops):
            await _submit(ground.client, loop, 0, loop, circle)
        await ground.until(lambda: len(ground.runs()) >= params.loops * params.depth // 2, HALF_WITHIN_S)
        ground.tell(0.5, "a node is killed")
        await ground.kill(f"node:{ground.random.choice(nodes)}", back_after_s=params.away_s)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params, nodes = ground.params, seen.kept["nodes"]
        asked = [(loop, hop) for loop in range(params.loops) for hop in range(params.depth)]
        done = {id_: (one.result["loop"], one.result["hop"]) for id_, one in seen.executions.items() if one.result}
        count = Counter(done.values())
        odd = [f"loop {loop}, hop {hop}: {count[loop, hop]} executions" for loop, hop in asked if count[loop, hop] != 1]
        odd += [f"loop {loop}, hop {hop}: nobody asked for it" for loop, hop in set(count) - set(asked)]
        odd += [f"execution {id_} is {one.status}" for id_, one in seen.executions.items() if one.status != "completed"]
        seen.hold_each("each_hop_once", odd, of=len(asked))
        runs: dict[tuple[int, int], list[Run]] = {}
        for run in (run for run in seen.runs if run.execution_id in done):
            runs.setdefault(done[run.execution_id], []).append(run)
        for (loop, hop), mine in sorted(runs.items()):
            name = f"loop {loop}, hop {hop}"
            right = crc32(msgspec.json.encode({"loop": loop, "hop": hop, "value": value_after(loop, hop)}))
            wrong = [f"{name}: on {run.node_id}" for run in mine if run.outcome == "ok" and run.result != right]
            seen.hold_each("values_exact", wrong, of=len(mine))
            strange = [f"{name}: on {run.node_id}" for run in mine if run.node_id != nodes[hop % len(nodes)]]
            seen.hold_each("own_node", strange, of=len(mine))
            if before := runs.get((loop, hop - 1)):
                seen.hold("in_order", before[0].start_ns < mine[0].start_ns, f"{name}: before hop {hop - 1}")
        steps = {f"loop {loop}, hop {hop}": runs.get((loop, hop), []) for loop, hop in asked}
        edges = [(f"loop {loop}, hop {hop - 1}", f"loop {loop}, hop {hop}") for loop, hop in asked if hop]
        seen.draw_dag("hops", steps, edges, overlap=True)
        _judge_repeats(seen)
        _measure(seen, {key: mine[0].start_ns for key, mine in runs.items()})


def value_after(loop: int, hop: int) -> int:
    """What the steps 0 … ``hop`` make of a loop's first value, which is its number."""
    value = loop
    for number in range(hop + 1):
        value = (value + 1, value * 2 % WRAP, value)[number % len(ROLES)]
    return value


async def _handed_on(loop: int, hop: int, value: int, circle: dict[str, Any]) -> dict[str, int]:
    if hop + 1 < circle["depth"]:
        await _submit(client(), loop, hop + 1, value, circle)
    return {"loop": loop, "hop": hop, "value": value}


async def _submit(asked: Any, loop: int, hop: int, value: int, circle: dict[str, Any]) -> None:
    """A job that runs again asks for its next hop again: by its key that is the same one."""
    job = {"loop": loop, "hop": hop, "value": value, "circle": circle}
    role, node = ROLES[hop % len(ROLES)], circle["nodes"][hop % len(circle["nodes"])]
    key = f"{circle['run']}.{loop}.{hop}"
    await asked.submit("feedback_loop", role, job, idempotency_key=key, require=[f"node == {node}"])


def _judge_repeats(seen: Seen) -> None:
    last_ns: dict[int, int] = {}
    for run in seen.runs:
        last_ns[run.pid] = max(last_ns.get(run.pid, 0), run.start_ns, run.end_ns or 0)
    for id_, times in seen.by_execution().items():
        mine = [run for run in seen.runs if run.execution_id == id_] if times > 1 else []
        for run, again in pairwise(mine):
            over = run.end_ns is not None and last_ns[run.pid] - run.end_ns > OVER_FOR_S * 1e9
            said = f"execution {id_}: in process {run.pid} and in {again.pid}"
            seen.hold("again_only_if_killed", again.pid != run.pid and not over, said)
    seen.hold_each("again_only_if_killed", (), of=len(seen.runs))


def _measure(seen: Seen, starts: dict[tuple[int, int], int]) -> None:
    ordered = sorted((ns, loop, hop) for (loop, hop), ns in starts.items())
    gaps = [(ns, ns - starts[loop, hop - 1]) for ns, loop, hop in ordered if (loop, hop - 1) in starts]
    if gaps:
        seen.measure("hops_per_s", len(ordered) * 1e9 / (ordered[-1][0] - ordered[0][0]))
        seen.measure("hop_p50_ms", median(gap for _, gap in gaps) / 1e6)
        seen.measure("gap_s", max(gap for _, gap in gaps) / 1e9)
    seen.measure("ran_again", len(seen.runs) - len(seen.by_execution()))
    seen.draw("time from hop to hop", ((seen.mono_at_s(ns), gap / 1e9) for ns, gap in gaps), y="s")
