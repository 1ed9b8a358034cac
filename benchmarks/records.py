"""What the product wrote down about its runs, read back to be judged: over the API, or from the database itself.

The API is asked where a page or two suffice. For hundreds of thousands of fires the SQLite file is read (read-only),
which also is the stricter witness: nothing between the rows and the judge can round or leave out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from benchmarks.load import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_us(moment: str) -> int:
    """Microseconds since the epoch of an RFC 3339 moment."""
    since = datetime.fromisoformat(moment) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def pages(control: Connection, path: str, field: str, *, limit: int = 500) -> Iterator[dict[str, Any]]:
    """Every row of a list endpoint, page after page."""
    separator = "&" if "?" in path else "?"
    cursor = ""
    while True:
        answer = control.call("GET", f"{path}{separator}limit={limit}{cursor}")
        yield from answer[field]
        if not answer.get("next_cursor"):
            return
        cursor = f"&cursor={quote(answer['next_cursor'])}"


class LedgerReport(Struct, frozen=True, kw_only=True):
    """A ledger held against the nominal times that an interval must have had between its first and last row."""

    nominal_times: int
    executed: int
    missing: int
    # In the ledger, but not run: skipped, missed or summarised. Counted, and not "missing".
    not_executed: int


def judge_interval(
    rows: Sequence[tuple[int, str, int]], interval_us: int, *, until_us: int | None = None
) -> LedgerReport:
    """Judge one schedule's ledger rows ``(nominal_us, outcome, count)``; with ``until_us`` it must reach that far.

    Every nominal time from the first row on has to be there exactly once. A double counts as missing: what is written
    twice could hide what was not written at all.
    """
    if not rows:
        return LedgerReport(nominal_times=0, executed=0, missing=1, not_executed=0)
    recorded = sum(count for _, _, count in rows)
    covered = sum({nominal: count for nominal, _, count in rows}.values())
    executed = sum(count for _, outcome, count in rows if outcome == "executed")
    first = min(nominal for nominal, _, _ in rows)
    last = max(nominal + (count - 1) * interval_us for nominal, _, count in rows)
    if until_us is not None:
        last = max(last, first + (until_us - first) // interval_us * interval_us)
    expected = (last - first) // interval_us + 1
    return LedgerReport(
        nominal_times=expected,
        executed=executed,
        missing=abs(expected - covered) + (recorded - covered),
        not_executed=recorded - executed,
    )


def open_database(path: Path) -> sqlite3.Connection:
    """The server's SQLite file, read-only, also while the server runs."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)
