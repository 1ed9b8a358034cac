"""Waiting for executions, with a progress bar where a person looks on and it takes a while."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from schedule_zero.cli.terminal import clean, say
from schedule_zero.clock import Clock, SystemClock
from schedule_zero.errors import WaitTimeout

if TYPE_CHECKING:
    from schedule_zero.client import Client
    from schedule_zero.client.records import ExecutionRecord

# Nobody needs a bar for less.
PATIENT_S = 2.0
LOOK_S = 1.0
# From so many on they are looked for in the list, 500 at a time, rather than asked for one by one.
MANY = 50
PAGE = 500


def wait_for(
    client: Client,
    ids: Sequence[str],
    *,
    timeout_s: float | None,
    waited_s: float = 0.0,
    clock: Clock | None = None,
) -> list[ExecutionRecord]:
    """The executions once all are over, in order. Raises WaitTimeout after ``timeout_s``.

    ``waited_s``: so much of it has passed already.
    """
    clock = clock or SystemClock()
    wait = _Wait(client, ids)
    now_s = clock.mono_s()
    started_s = now_s - waited_s
    listed_s = now_s - LOOK_S
    bar = _Bar(len(ids))
    try:
        while wait.pending:
            first = next(iter(wait.pending))
            now_s = clock.mono_s()
            waited_s = now_s - started_s
            if timeout_s is not None and waited_s >= timeout_s:
                raise WaitTimeout(
                    f"{len(wait.pending)} of {len(ids)} executions are not over after {timeout_s:g} s; they go on",
                    hint=f"schedule-zero executions {first} --wait",
                )
            if len(wait.pending) >= MANY and now_s - listed_s >= LOOK_S:
                wait.sweep()
                listed_s = clock.mono_s()
            else:
                wait.one(first, LOOK_S if timeout_s is None else min(LOOK_S, timeout_s - waited_s))
            bar.show(len(wait.over), wait.seen, late=waited_s >= PATIENT_S)
    except KeyboardInterrupt:
        say(f"\nno longer waiting; it goes on: schedule-zero executions {next(iter(wait.pending))}", err=True)
        raise
    finally:
        bar.close()
    return [wait.over[execution_id] for execution_id in ids]


class _Wait:
    """Which of them are over, and which are not (in order)."""

    def __init__(self, client: Client, ids: Sequence[str]) -> None:
        self._client = client
        self.pending = dict.fromkeys(ids)
        self.over: dict[str, ExecutionRecord] = {}
        # The one that was asked for last, with its progress.
        self.seen: ExecutionRecord | None = None

    def one(self, execution_id: str, wait_s: float) -> None:
        """Wait for this one, for so long at most."""
        try:
            self._take(self._client.wait(execution_id, wait_s=wait_s))
        except WaitTimeout:
            self.seen = self._client.execution(execution_id)

    def sweep(self) -> None:
        """Look at all from the newest to the oldest that is pending: ids grow, so the list is in their order."""
        oldest = min(self.pending)
        cursor: str | None = None
        while self.pending:
            page = self._client.executions(limit=PAGE, cursor=cursor)
            for record in page.records:
                if record.over and record.id in self.pending:
                    self._take(record)
            cursor = page.next_cursor
            if cursor is None or page.records[-1].id <= oldest:
                return

    def _take(self, record: ExecutionRecord) -> None:
        self.over[record.id] = record
        self.pending.pop(record.id, None)


class _Bar:
    """rich's progress bar on stderr; nothing at all while it isn't late, or where nobody looks on."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._progress: Any = None
        self._task: Any = None

    def show(self, done: int, current: ExecutionRecord | None, *, late: bool) -> None:
        if not late or not sys.stderr.isatty():
            return
        if self._progress is None:
            self._open()
        said = f"{done} of {self._total} over" if self._total > 1 else ""
        share: float | None = done / self._total if self._total > 1 else None
        if current is not None and self._total == 1:
            said = str(current.status)
            progress = current.progress if isinstance(current.progress, dict) else {}
            said += f" · {progress['text']}" if progress.get("text") else ""
            if progress.get("percent") is not None:
                share = progress["percent"] / 100
        self._progress.update(
            self._task, description=clean(said), completed=share or 0, total=None if share is None else 1
        )

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
