"""``python -m schedule_zero.testbed.check FOLDER``: judge what a run left behind; exit code 0, 1 (violations) or 2."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from schedule_zero.errors import ScheduleZeroError
from schedule_zero.testbed.checker import check_folder
from schedule_zero.testbed.history import FAULTS, HISTORY, LEDGER, TERMS, BadEvidence


def main(argv: list[str] | None = None) -> int:
    """Print the report. 0: nothing is wrong; 1: promises are broken; 2: the inputs can't be judged."""
    parser = argparse.ArgumentParser(
        prog="python -m schedule_zero.testbed.check",
        description="Judge what a run left behind, by the promises of docs/explanation/guarantees.md.",
    )
    parser.add_argument("folder", type=Path, help=f"with {HISTORY}, {FAULTS}, {LEDGER}, {TERMS}")
    parser.add_argument(
        "--store", help="a database file, a state directory or a postgresql:// URL (default: state/ in the folder)"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="violations to print (default: 20)")
    args = parser.parse_args(argv)
    try:
        report = check_folder(args.folder, args.store or args.folder / "state")
    except (BadEvidence, ScheduleZeroError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    text = msgspec.json.format(msgspec.json.encode(report)).decode() if args.json else report.text(args.most)
    sys.stdout.write(text + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
