"""``python -m benchmarks run | profile | ceilings``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.ceilings import all_ceilings
from benchmarks.profiling import PROFILED, run_profile
from benchmarks.report import show
from benchmarks.run import WORKS, run_benchmark

EXIT_MUST_MISSED = 1
_DEFAULT_OUTPUT = Path("var/bench/latest.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The performance budget, measured.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="W1…W9 beside the bare loop; exit code 1 when a must is missed")
    run.add_argument("--quick", action="store_true", help="smaller sizes and one round, in about a minute")
    run.add_argument("--only", metavar="W1,W2,…", default=",".join(WORKS), help="leave the other works out")
    run.add_argument("--json", type=Path, default=_DEFAULT_OUTPUT, metavar="FILE", help=f"default {_DEFAULT_OUTPUT}")
    run.add_argument("--dir", type=Path, help="work here instead of the temporary folder (another disk)")

    profile = commands.add_parser("profile", help="one work under py-spy: where the time goes")
    profile.add_argument("work", choices=sorted(PROFILED), help="what runs meanwhile")
    profile.add_argument("--on", choices=("server", "node", "both"), default="both")
    profile.add_argument("--seconds", type=float, default=8.0)
    profile.add_argument("--rate", type=int, default=250, help="samples per second")
    profile.add_argument("--gil", action="store_true", help="only samples of the thread that holds the GIL")
    profile.add_argument("--native", action="store_true", help="C frames as well")
    profile.add_argument("--top", type=int, default=25, help="functions to print")
    profile.add_argument(
        "--out", type=Path, default=Path("var/bench"), help="folder for the .raw stacks (speedscope reads them)"
    )

    commands.add_parser("ceilings", help="what the parts (client, HTTP, codecs) can do by themselves")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if options.command == "run":
        works = frozenset(work.strip() for work in options.only.split(","))
        if unknown := works - set(WORKS):
            console.print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
            return 2
        passed = run_benchmark(quick=options.quick, works=works, output=options.json, base=options.dir, console=console)
        return 0 if passed else EXIT_MUST_MISSED
    if options.command == "profile":
        run_profile(options, console)
        return 0
    for ceiling in all_ceilings():
        unit = ceiling.unit
        value = show(ceiling.value, "/s") if unit == "requests/s" else f"{ceiling.value:,.2f} {unit}"
        console.print(f"{value:>16}  {ceiling.name}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
