"""What the database file of a dead server says about its fires, read with nothing of the product, and judged.

The file is copied with its log before it is opened: reading must not repair what the next start is to find.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

RAN = ("executed", "caught_up")
OUTCOMES = (*RAN, "skipped", "missed")


class FireLedger:
    """The rows of schedules, fires and executions at one moment."""

    def __init__(self, database: Path, scratch: Path) -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        for path in (database, database.with_name(database.name + "-wal")):
            if path.exists():
                shutil.copy(path, scratch)
        with closing(sqlite3.connect(scratch / database.name)) as conn:
            conn.row_factory = sqlite3.Row
            self.damage = [row[0] for row in conn.execute("PRAGMA integrity_check") if row[0] != "ok"]
            self.schedules = {row["id"]: row for row in conn.execute("SELECT * FROM schedules")}
            self.fires = conn.execute("SELECT * FROM fires ORDER BY schedule_id, nominal_us").fetchall()
            self.executions = conn.execute("SELECT * FROM executions WHERE schedule_id IS NOT NULL").fetchall()

    def fires_of(self, schedule_id: str) -> list[Any]:
        return [row for row in self.fires if row["schedule_id"] == schedule_id]

    def executed(self, schedule_id: str) -> int:
        return sum(row["outcome"] in RAN for row in self.fires_of(schedule_id))

    def faults(self, intervals_us: dict[str, int]) -> list[str]:
        """Everything in which the file breaks promise C1; ``intervals_us`` names the schedules with an interval."""
        found = [f"integrity_check: {line}" for line in self.damage]
        found += self._unmatched()
        for id_, row in self.schedules.items():
            found += self._against_totals(id_, row)
            if id_ in intervals_us:
                found += self._against_interval(id_, row, intervals_us[id_])
            else:
                found += self._against_date(id_, row)
        return found

    def _unmatched(self) -> Iterator[str]:
        """Each row that ran has one execution with its schedule and nominal time, and each execution such a row."""
        ran = Counter(
            (row["schedule_id"], row["nominal_us"], row["execution_id"]) for row in self.fires if row["outcome"] in RAN
        )
        made = Counter((row["schedule_id"], row["nominal_us"], row["id"]) for row in self.executions)
        for what in (ran - made).elements():
            yield f"in the ledger without an execution: {what}"
        for what in (made - ran).elements():
            yield f"an execution without its row in the ledger: {what}"
        for row in self.fires:
            if row["outcome"] not in RAN and row["execution_id"] is not None:
                yield f"{row['outcome']}, but with an execution: {tuple(row)}"
        for (schedule_id, nominal_us), times in Counter((id_, nominal_us) for id_, nominal_us, _ in made).items():
            if times > 1:
                yield f"{times} executions of one nominal time: {schedule_id} {nominal_us}"

    def _against_totals(self, id_: str, row: Any) -> Iterator[str]:
        """The schedule's own counts were advanced with its ledger."""
        counted = Counter[str]()
        for fire in self.fires_of(id_):
            counted[fire["outcome"]] += fire["count"]
        for outcome in OUTCOMES:
            if row[outcome] != counted[outcome]:
                yield f"{id_} says {row[outcome]} {outcome}, its ledger {counted[outcome]}"

    def _against_interval(self, id_: str, row: Any, interval_us: int) -> Iterator[str]:
        """From the first row to the next due time, each nominal time is there once."""
        at_us: int | None = None
        for fire in self.fires_of(id_):
            first_us, last_us = fire["nominal_us"], fire["last_nominal_us"] or fire["nominal_us"]
            if last_us != first_us + (fire["count"] - 1) * interval_us:
                yield f"{id_}: {fire['count']} nominal times do not end where the row says: {tuple(fire)}"
            yield from _gap(id_, at_us, first_us, interval_us)
            at_us = last_us
        yield from _gap(id_, at_us, row["next_fire_us"], interval_us)

    def _against_date(self, id_: str, row: Any) -> Iterator[str]:
        """It is due and has no row, or has one and is finished."""
        state = (row["state"], row["next_fire_us"] is None, len(self.fires_of(id_)))
        if state not in (("active", False, 0), ("finished", True, 1)):
            yield f"{id_}: state, no next time, rows in the ledger: {state}"


def _gap(id_: str, before_us: int | None, after_us: int, interval_us: int) -> Iterator[str]:
    if before_us is not None and after_us - before_us != interval_us:
        yield f"{id_}: {after_us} follows {before_us}, {(after_us - before_us) / interval_us:g} intervals later"
