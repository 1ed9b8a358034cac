"""Steps that depend on each other, in diamonds and wider: is the order kept, and each step done once?"""

from __future__ import annotations

import asyncio
import random
import time
from statistics import median
from typing import Any

from schedule_zero.model import State
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen

Graph = dict[str, list[str]]


class Workflow(Scenario):
    """Does each step of a workflow run once, after all that it depends on, with their results?"""

    handler_id = "workflow"

    class Params(ScenarioParams, frozen=True):
        diamonds: int = 10
        # One graph: a first step, so many beside each other, a last one.
        width: int = 50
        # Graphs of so many layers, each step of which depends on some of the layer before.
        layered: int = 5
        layers: int = 6
        most_per_layer: int = 6
        work_s: float = 0.1
        # The share of steps that are submitted again, with the same key, as by one who got no answer.
        repeated: float = 0.3
        patience_s: float = 60.0

    quick = {"diamonds": 4, "width": 12, "layered": 2, "layers": 4, "work_s": 0.05, "patience_s": 20.0}
    holds = {
        "complete": "each step has run to its end",
        "each_once": "no step ran twice, however often it was submitted",
        "in_order": "no step began before all that it depends on had ended",
        "results_passed_on": "each step's recorded result is what its steps before it make of it",
        "nothing_else": "every execution belongs to a step",
    }
    measures = {
        "steps": "steps of all graphs",
        "step_gap_p50_ms": "milliseconds; median from the end of the last step that one depends on to its start",
        "span_s": "seconds, from the first start to the last end",
    }
    worse = {"more": ("step_gap_p50_ms", "span_s")}

    def step(self, name: str, before: list[int], work_s: float) -> dict[str, Any]:
        """Count the ways that lead here."""
        with entered(f"workflow.step:{name}") as returns:
            time.sleep(work_s)
            return returns({"step": name, "ways": sum(before) or 1})

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: Workflow.Params = ground.params
        graphs = {f"diamond-{n}": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]} for n in range(params.diamonds)}
        middle = [f"m{n}" for n in range(params.width)]
        graphs["wide"] = {"first": [], **{name: ["first"] for name in middle}, "last": middle}
        graphs |= {f"layered-{n}": _layered(ground.random, params) for n in range(params.layered)}
        steps = {f"{graph}.{name}": [f"{graph}.{one}" for one in before]
                 for graph, parts in graphs.items() for name, before in parts.items()}  # fmt: skip
        ids: dict[str, list[str]] = {}
        ground.keep("steps", steps)
        ground.keep("ids", ids)
        began_us = ground.now_us()
        again = {name for name in steps if ground.random.random() < params.repeated}
        doing: dict[str, asyncio.Task[int | None]] = {}

        async def do(name: str) -> int | None:
            """Submit it once all before it are over; what came of it. None: nothing."""
            values = await asyncio.gather(*(doing[one] for one in steps[name]))
            if None in values:
                return None
            job = {"name": name, "before": values, "work_s": params.work_s}
            submissions = [
                ground.client.submit(cls.handler_id, "step", job, idempotency_key=f"workflow/{began_us}/{name}")
                for _ in range(2 if name in again else 1)
            ]
            ids[name] = sorted(set(await asyncio.gather(*submissions)))
            record = await ground.client.wait(ids[name][0], params.patience_s)
            ground.tell(len(ids) / len(steps), name)
            return record.result["ways"] if record.status == State.COMPLETED else None

        async with asyncio.TaskGroup() as group:
            # (Steps come after those that they depend on.)
            for name in steps:
                doing[name] = group.create_task(do(name))

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:  # noqa: ARG003 - the graphs say it all
        steps, ids = seen.kept["steps"], seen.kept["ids"]
        runs: dict[str, list[Run]] = {name: [] for name in steps}
        for run in seen.runs:
            runs.setdefault(run.action.partition(":")[2], []).append(run)
        recorded = {name: seen.executions[mine[0]].result for name, mine in ids.items() if mine[0] in seen.executions}
        ways: dict[str, int] = {}
        gaps_ms: list[float] = []
        for name, before in steps.items():
            mine = runs[name]
            ways[name] = sum(ways[one] for one in before) or 1
            seen.hold("complete", any(run.outcome == "ok" for run in mine), f"{name} has not run to its end")
            once = len(mine) <= 1 and len(ids.get(name, ())) <= 1
            seen.hold("each_once", once, f"{name} began {len(mine)} times, as {ids.get(name)}")
            right = {"step": name, "ways": ways[name]}
            seen.hold("results_passed_on", recorded.get(name) == right, f"{name}: {recorded.get(name)}, not {right}")
            ends = {one: min((run.end_ns for run in runs[one] if run.end_ns), default=None) for one in before}
            for run in mine:
                early = [one for one, end_ns in ends.items() if end_ns is None or end_ns > run.start_ns]
                seen.hold("in_order", not early, f"{name} began at {run.start_us}, before the end of {early[:3]}")
                if before and not early:
                    gaps_ms.append((run.start_ns - max(end_ns for end_ns in ends.values() if end_ns)) / 1e6)
        foreign = [f"execution {id_}" for id_ in seen.executions if not any(id_ in mine for mine in ids.values())]
        foreign += [f"a run of {name!r}" for name in runs if name not in steps]
        seen.hold_each("nothing_else", foreign, of=len(seen.executions))
        seen.measure("steps", len(steps))
        seen.measure("step_gap_p50_ms", median(gaps_ms or [0.0]))
        over = [run for run in seen.runs if run.end_us is not None]
        if over:
            first_us = min(run.start_us for run in seen.runs)
            seen.measure("span_s", (max(run.end_us or 0 for run in over) - first_us) / 1e6)
        kinds = {name: name.partition(".")[0].partition("-")[0] for name in steps}
        for kind in dict.fromkeys(kinds.values()):
            drawn = {name: runs[name] for name in steps if kinds[name] == kind}
            seen.draw_dag(kind, drawn, [(one, name) for name in drawn for one in steps[name]])


def _layered(dice: random.Random, params: Workflow.Params) -> Graph:
    """Each step depends on at least one of the layer before."""
    graph: Graph = {}
    before: list[str] = []
    for layer in range(params.layers):
        names = [f"l{layer}-{n}" for n in range(dice.randint(1, params.most_per_layer))]
        graph |= {name: sorted(dice.sample(before, dice.randint(1, len(before)))) if before else [] for name in names}
        before = names
    return graph
