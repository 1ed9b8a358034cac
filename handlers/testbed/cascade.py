"""Jobs that schedule jobs that schedule jobs, within a quota on depth and rate: is the tree as it was to be?"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from schedule_zero.clock import SystemClock
from schedule_zero.errors import AlreadyExists
from schedule_zero.testbed.history import Run
from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen, client, quantile

PREFIX = "cascade."


class Cascade(Scenario):
    """Do parents, children and grandchildren that schedule each other make the whole tree, and no more?"""

    handler_id = "cascade"

    class Params(ScenarioParams, frozen=True):
        roots: int = 20
        # A root has depth 0; whoever has this depth has no children.
        max_depth: int = 5
        most_children: int = 4
        # The share of jobs whose condition to have children is fulfilled.
        fertile: float = 0.7
        # No more than so many may begin per second, in the order of the tree.
        rate_per_s: float = 25.0
        # Once nothing has begun for so long, no more is waited for.
        patience_s: float = 20.0

    quick = {"roots": 4, "max_depth": 3, "rate_per_s": 20.0, "patience_s": 3.0}
    holds = {
        "complete": "every job that the tree has ran",
        "nothing_else": "no job ran that the tree does not have, and none twice",
        "no_orphan": "no job began before its parent had",
        "depth_kept": "no job ran below the greatest depth",
        "rate_kept": "at no moment had more jobs begun than the rate allows since the first was due",
        "none_left": "at the end no schedule is left",
    }
    measures = {
        "jobs": "jobs in the tree",
        "jobs_per_s": "jobs per second, from the first start to the last end",
        "spawn_p99_ms": "milliseconds; 99th of a hundred from a parent's start, or a child's turn, to its start",
    }
    worse = {"less": ("jobs_per_s",), "more": ("spawn_p99_ms",)}
    for_bare = True

    async def spawn(self, path: str, member: dict[str, Any], rule: dict[str, Any]) -> None:
        """Schedule the children of a member of the tree, if it is to have any, each when the quota has room."""
        with entered("cascade.spawn", sync=False):
            if not _has_children(path, member, rule):
                return
            for number, child in enumerate(member["children"]):
                await _schedule(client(), f"{path}.{number}", child, rule)

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params: Cascade.Params = ground.params
        roots = [_member(ground.random, params, 0, sure=not number) for number in range(params.roots)]
        rule = {"began_us": ground.now_us(), "rate_per_s": params.rate_per_s,
                "max_depth": params.max_depth, "fertile": params.fertile}  # fmt: skip
        tree = _numbered(roots, rule)
        ground.keep("tree", tree)
        ground.keep("rule", rule)
        for number, root in enumerate(roots):
            await _schedule(ground.client, f"r{number}", root, rule)
        grown = [0, ground.now_us()]

        def over() -> bool:
            ended = sum(run.end_us is not None for run in ground.runs())
            # (What is not due yet is no reason to lose patience.)
            last_us = rule["began_us"] + ended / params.rate_per_s * 1e6
            if ended > grown[0]:
                grown[:] = [ended, ground.now_us()]
            ground.tell(ended / len(tree), f"{ended} of {len(tree)}")
            return ended >= len(tree) or ground.now_us() > max(grown[1], last_us) + params.patience_s * 1e6

        await ground.until(over, len(tree) / params.rate_per_s + 10 * params.patience_s)
        await ground.client.delete_schedules([PREFIX + path for path in tree])

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        tree, rule = seen.kept["tree"], seen.kept["rule"]
        by_path: dict[str, list[Run]] = {path: [] for path in tree}
        for run in seen.runs:
            by_path.setdefault((run.schedule_id or "").removeprefix(PREFIX), []).append(run)
        starts = {path: mine[0].start_us for path, mine in by_path.items() if mine}
        seen.hold_each("complete", (f"{path} did not run" for path in tree if path not in starts), of=len(tree))
        odd = (f"{path} ran {len(mine)} times" for path, mine in by_path.items() if path not in tree or mine[1:])
        seen.hold_each("nothing_else", odd, of=len(starts))
        spawn_ms: list[float] = []
        for path, start_us in starts.items():
            depth, parent = path.count("."), path.rpartition(".")[0]
            seen.hold("depth_kept", depth <= ground.params.max_depth, f"{path} has depth {depth}")
            if parent:
                said = f"{path} began at {start_us}, {parent} at {starts.get(parent)}"
                if seen.hold("no_orphan", starts.get(parent, start_us + 1) <= start_us, said) and path in tree:
                    spawn_ms.append((start_us - max(starts[parent], _due_us(tree[path], rule))) / 1000)
        for begun, start_us in enumerate(sorted(run.start_us for run in seen.runs)):
            allowed = (start_us - rule["began_us"]) / 1e6 * rule["rate_per_s"] + 1
            seen.hold("rate_kept", begun < allowed, f"{begun + 1} by {start_us}, {allowed:.2f} were allowed")
        seen.hold_each("none_left", seen.left, of=len(tree))
        seen.measure("jobs", len(tree))
        seen.measure("spawn_p99_ms", quantile(sorted(spawn_ms), 0.99) or 0.0)
        ends = [run.end_us for run in seen.runs if run.end_us is not None]
        if ends and max(ends) > min(starts.values()):
            seen.measure("jobs_per_s", len(ends) / (max(ends) - min(starts.values())) * 1e6)
        edges = ((path.rpartition(".")[0], path) for path in by_path if "." in path)
        seen.draw_dag("the tree", by_path, edges, overlap=True)


def _member(dice: random.Random, params: Cascade.Params, depth: int, *, sure: bool) -> dict[str, Any]:
    """A job and all that could come of it, one generation further than the quota allows; ``sure``: it has children."""
    many = dice.randint(1, params.most_children) if depth <= params.max_depth else 0
    children = [_member(dice, params, depth + 1, sure=sure and not number) for number in range(many)]
    return {"dice": 0.0 if sure else dice.random(), "slot": -1, "children": children}


def _has_children(path: str, member: dict[str, Any], rule: dict[str, Any]) -> bool:
    return bool(member["dice"] < rule["fertile"] and path.count(".") < rule["max_depth"])


def _numbered(roots: list[dict[str, Any]], rule: dict[str, Any]) -> dict[str, int]:
    """Path → slot of all that are to run, generation by generation, so that a child's is after its parent's."""
    tree: dict[str, int] = {}
    generation = [(f"r{number}", root) for number, root in enumerate(roots)]
    while generation:
        following: list[tuple[str, dict[str, Any]]] = []
        for path, member in generation:
            tree[path] = member["slot"] = len(tree)
            if _has_children(path, member, rule):
                following += ((f"{path}.{number}", child) for number, child in enumerate(member["children"]))
        generation = following
    return tree


def _due_us(slot: int, rule: dict[str, Any]) -> float:
    return float(rule["began_us"] + slot / rule["rate_per_s"] * 1e6)


async def _schedule(client: Any, path: str, member: dict[str, Any], rule: dict[str, Any]) -> None:
    due_s = max(SystemClock().wall_us(), _due_us(member["slot"], rule)) / 1e6
    params = {"path": path, "member": member, "rule": rule}
    # It is there already where an attempt of the parent was lost after this.
    with suppress(AlreadyExists):
        await client.schedule("cascade", "spawn", params, trigger={"type": "date", "run_date": due_s}, id=PREFIX + path)
