"""``python -m tests.soak --minutes 10``: real processes on a fast clock, under churn and kills; does anything grow?

A table at the end, everything in var/soak/<when>.json. Exit codes: 0 all is well, 1 something grew, leaked or was
broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from tests.soak.run import Outcome, Soak
from tests.soak.showing import show

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "soak"


def soak(folder: Path, *, minutes: float, speedup: float, seed: int) -> Outcome:
    """One run, in an empty folder."""
    run = Soak(folder, minutes=minutes, speedup=speedup, seed=seed)
    try:
        run.start()
        run.start_clients()
        run.run()
        run.stop_clients()
        run.settle()
        return run.judge()
    finally:
        run.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of the machine's time (10)")
    parser.add_argument("--speedup", type=float, default=60, help="how many times as fast the wall clock goes (60)")
    parser.add_argument("--seed", type=int, default=1, help="of what is asked and who is ended (1)")
    parser.add_argument("--dir", type=Path, help="keep the run's files in this new folder")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    asked = {"minutes": given.minutes, "speedup": given.speedup, "seed": given.seed}
    if given.dir is not None:
        given.dir.mkdir(parents=True, mode=0o700)
        outcome = soak(given.dir.resolve(), **asked)
    else:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            outcome = soak(Path(folder), **asked)
    path = FOLDER / f"{stamp}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1))
    show(outcome, console)
    console.print(f"all of it: {path.relative_to(ROOT)}")
    return int(not outcome.ok)


if __name__ == "__main__":
    sys.exit(main())
