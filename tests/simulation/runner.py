"""Many seeds, over several processes; what a failure is replayed with; and the smallest plan that still fails."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from tests.simulation.faults import Planned
from tests.simulation.world import DAY, QUICK, Outcome, Scenario, World

SCENARIOS = {"quick": QUICK, "full": Scenario(), "day": DAY}


def run(seed: int, scenario: Scenario = QUICK, *, only: Sequence[int] | None = None, wordy: bool = False) -> Outcome:
    """One world. ``only``: of its plan, the faults with these numbers (from 1)."""
    plan = None
    if only is not None:
        whole = World(seed, scenario)
        plan = [whole.plan[number - 1] for number in only]
        whole.discard()
    return World(seed, scenario, plan=plan, wordy=wordy).run()


def replay(seed: int, scenario: Scenario, only: Sequence[int] | None = None) -> str:
    """The command that runs it again."""
    name = next((f" --scenario {name}" for name, known in SCENARIOS.items() if known == scenario), "")
    chosen = "" if only is None else f" --only {','.join(map(str, only)) or 'none'}"
    return f"python -m tests.simulation {seed}{name}{chosen}"


def _failing(seed: int, scenario: Scenario) -> Outcome | None:
    outcome = run(seed, scenario)
    return None if outcome.ok else outcome


def failures(seeds: Iterable[int], scenario: Scenario, *, workers: int) -> Iterator[Outcome]:
    """The seeds that fail, as they are found."""
    failing = partial(_failing, scenario=scenario)
    if workers <= 1:
        yield from filter(None, map(failing, seeds))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from filter(None, pool.imap_unordered(failing, seeds, chunksize=4))


def kinds(outcome: Outcome) -> frozenset[str]:
    """In what way it failed."""
    found = set(outcome.report.counts)
    found.update("complaint" for _ in outcome.complaints[:1])
    if outcome.stuck is not None:
        found.add("stuck")
    return frozenset(found)


def shrink(count: int, fails: Callable[[list[int]], bool], *, most_runs: int = 200) -> list[int]:
    """Delta debugging (Zeller's ddmin) over the faults of a plan: no single one of those returned can be left out.

    ``fails`` is asked with numbers from 1; with all of them it is true. Ends early after ``most_runs``.
    """
    left = list(range(1, count + 1))
    parts, runs = 2, 0
    if fails([]):
        return []
    while len(left) > 1 and runs < most_runs:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        for chunk in chunks:
            rest = [number for number in left if number not in chunk]
            runs += 1
            if fails(rest):
                left, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(left):
                break
            parts = min(len(left), parts * 2)
    return left


def smallest(outcome: Outcome, scenario: Scenario) -> tuple[list[int], list[Planned]]:
    """The smallest plan with which this seed still breaks one of the same promises."""
    how = kinds(outcome)

    def fails(only: list[int]) -> bool:
        return bool(kinds(run(outcome.seed, scenario, only=only)) & how)

    left = shrink(len(outcome.plan), fails)
    return left, [outcome.plan[number - 1] for number in left]


def tell(outcome: Outcome, scenario: Scenario, *, shrunk: bool = True) -> str:
    """For people: what broke, how to see it again, and by which faults alone."""
    lines = [outcome.text(), f"replay: {replay(outcome.seed, scenario)}"]
    if shrunk:
        only, plan = smallest(outcome, scenario)
        lines.append(f"smallest plan that still fails ({len(plan)} of {len(outcome.plan)} faults):")
        lines.append(f"replay: {replay(outcome.seed, scenario, only)}")
        lines += [f"  {planned}" for planned in plan]
    return "\n".join(lines)


__all__ = ["DAY", "QUICK", "SCENARIOS", "failures", "kinds", "replay", "run", "shrink", "smallest", "tell"]
