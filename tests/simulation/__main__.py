"""Run a seed again, or many: ``python -m tests.simulation 4711 --only 2,5 --trace``, ``… --seeds 10000``."""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation import runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="the world to run")
    parser.add_argument("--only", help="of its faults only these, by number from 1: 2,5 (or none)")
    parser.add_argument("--trace", action="store_true", help="tell everything that happened")
    parser.add_argument("--shrink", action="store_true", help="look for the smallest plan that still fails")
    parser.add_argument("--seeds", type=int, help="so many worlds, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scenario", choices=sorted(runner.SCENARIOS), default="quick", help="what kind of world")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    said = parser.parse_args()
    if (said.seed is None) == (said.seeds is None):
        parser.error("expected a seed, or --seeds and how many")
    scenario = runner.SCENARIOS[said.scenario]
    if said.seeds is not None:
        bad = 0
        for outcome in runner.failures(range(said.first, said.first + said.seeds), scenario, workers=said.workers):
            bad += 1
            print(runner.tell(outcome, scenario, shrunk=bad <= 5), flush=True)
        print(f"{said.seeds} worlds, {bad} with broken promises")
        return int(bad > 0)
    only = None
    if said.only is not None:
        only = [] if said.only == "none" else [int(number) for number in said.only.split(",")]
    outcome = runner.run(said.seed, scenario, only=only, wordy=said.trace)
    if said.trace:
        print("\n".join(outcome.trace))
    for number, planned in enumerate(outcome.plan, 1):
        print(f"{number:>3}  {planned}")
    print(outcome.text())
    print(f"trace {outcome.trace_hash}")
    if said.shrink and not outcome.ok:
        print(runner.tell(outcome, scenario))
    return int(not outcome.ok)


if __name__ == "__main__":
    sys.exit(main())
