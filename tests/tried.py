"""What was tried in a run, how often, and what came of it: a line for each test, a table at the end.

A test asks for the fixture ``tried`` and says what it does to the product. The lines go to one file for each run in
``var/faults``; ``python -m tests.tried`` shows the last one, and ``--write`` puts it into the documentation.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from schedule_zero.testbed.verdicts import Report

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "var" / "faults"
PAGE = ROOT / "docs" / "explanation" / "fault-runs.md"
FILE = "TRIED_FILE"
# What `make faults` asks pytest for.
WHOLE = ("tests/faults", "tests/fuzz", "tests/simulation")
COUNTED = ("faults", "jobs", "fires", "missed", "duplicate", "lost", "others")


class Tried(Struct, kw_only=True, tag_field="line", tag="tried"):
    """One test's line. ``faults``: how often harm was done, or something hostile was sent."""

    # The order on the page, and what it was: ``SIGKILL at random``.
    part: str
    what: str
    test: str
    faults: int = 0
    jobs: int = 0
    fires: int = 0
    missed: int = 0
    duplicate: int = 0
    lost: int = 0
    others: int = 0
    failed: bool = False
    took_s: float = 0.0

    def judged(self, report: Report) -> None:
        """Take what the checker saw and said."""
        self.jobs += report.seen.get("executions", 0)
        self.fires += report.seen.get("fires", 0)
        self.missed += report.missed
        self.duplicate += report.duplicate
        self.lost += report.lost
        self.others += sum(report.counts.values()) - report.missed - report.duplicate - report.lost

    def add(self, other: Tried) -> None:
        """Count what another line says as well."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed |= other.failed
        self.took_s += other.took_s


class Ended(Struct, kw_only=True, tag_field="line", tag="ended"):
    """The last line of a run. A file without it is of one that was killed."""

    # What pytest was asked for, and how it ended.
    asked: list[str]
    exit_code: int
    passed: int
    failed: int
    skipped: int


def new_file() -> Path:
    """The file of a run that begins now."""
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    return FOLDER / f"{stamp}-{os.environ.get('FAULTS', 'sample')}-{os.getpid()}.jsonl"


def write(line: Tried | Ended) -> None:
    """Append it to this run's file: one write, so that workers can share it."""
    with Path(os.environ[FILE]).open("ab", buffering=0) as file:
        file.write(msgspec.json.encode(line) + b"\n")


def read(path: Path) -> list[Tried]:
    """A run's lines."""
    return [line for line in _lines(path) if isinstance(line, Tried)]


def end_of(path: Path) -> Ended | None:
    """How a run ended; None: it was killed, or goes on."""
    return next((line for line in _lines(path) if isinstance(line, Ended)), None)


def _lines(path: Path) -> list[Tried | Ended]:
    return [msgspec.json.decode(line, type=Tried | Ended) for line in path.read_bytes().splitlines()]


def summed(lines: Iterable[Tried]) -> list[Tried]:
    """One line for each thing that was tried, in order."""
    sums: dict[tuple[str, str], Tried] = {}
    for line in lines:
        sums.setdefault((line.part, line.what), Tried(part=line.part, what=line.what, test=line.test)).add(line)
    return [sums[key] for key in sorted(sums)]


def table(lines: Iterable[Tried]) -> str:
    """As Markdown, with a sum."""
    rows = summed(lines)
    whole = Tried(part="", what="**all**", test="")
    for row in rows:
        whole.add(row)
    text = [
        "| what was done | how often | jobs | fires | missed | duplicate | lost | other breaches | s | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    text += [
        f"| {row.what} | {row.faults:,} | {row.jobs:,} | {row.fires:,} | {row.missed} | {row.duplicate} | {row.lost} "
        f"| {row.others} | {row.took_s:,.0f} | {'FAILED' if row.failed else 'ok'} |"
        for row in (*rows, whole)
    ]
    return "\n".join(text)


def latest(*, whole: bool = False) -> Path:
    """The file of the last run (``whole``: of all of it, more than a sample). FileNotFoundError: there was none."""
    runs = [path for path in sorted(FOLDER.glob("*.jsonl")) if not whole or _is_whole(path)]
    if not runs:
        raise FileNotFoundError(f"there is no {'whole ' if whole else ''}run in {FOLDER}; `make faults` makes one")
    return runs[-1]


def _is_whole(path: Path) -> bool:
    end = None if "-sample-" in path.name else end_of(path)
    return end is not None and set(WHOLE) <= set(end.asked)


def page(paths: list[Path]) -> str:
    """The page of the documentation. Several files are parts of one suite that were run one after the other.

    ValueError: one of them is of a run that did not come to its end.
    """
    ends = [end_of(path) for path in paths]
    killed = [str(path) for path, end in zip(paths, ends, strict=True) if end is None]
    if killed:
        raise ValueError(f"a run that did not come to its end (its file has no last line) is none: {', '.join(killed)}")
    passed, failed, skipped = (sum(getattr(end, name) for end in ends) for name in ("passed", "failed", "skipped"))
    began, _, rest = paths[0].stem.partition("Z-")
    size = rest.partition("-")[0]
    parts = "" if len(paths) == 1 else f" in {len(paths)} parts, one after the other"
    return f"""# What was tried in the last run

Written by `python -m tests.tried --write` from a run that happened. How each row is done, and what was found:
[How reliability is tested](reliability.md).

`FAULTS={size}`, begun {began.replace("T", " ")[:-2]} UTC{parts}; Python {platform.python_version()}, {os.cpu_count()}
cores. {passed:,} tests passed, {failed:,} failed, {skipped:,} were skipped. The seconds are the tests' own; several
run at a time.

{table(line for path in paths for line in read(path))}
"""


def main() -> None:
    """Show the last run, or put it into the documentation."""
    arguments = argparse.ArgumentParser(prog="python -m tests.tried", description=main.__doc__)
    arguments.add_argument("files", nargs="*", type=Path, help="the run, or its parts; without them, the last one")
    arguments.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = arguments.parse_args()
    paths = given.files or [latest(whole=given.write)]
    if given.write:
        PAGE.write_text(page(paths))
    else:
        sys.stdout.write(table(line for path in paths for line in read(path)) + "\n")


if __name__ == "__main__":
    main()
