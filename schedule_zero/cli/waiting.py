"""Waiting for executions, with a progress bar where a person looks on and it takes a while."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.errors import WaitTimeout

if TYPE_CHECKING:
    from schedule_zero.client import Client
    from schedule_zero.client.records import ExecutionRecord

# Nobody needs a bar for less.
PATIENT_S = 2.0
LOOK_S = 1.0


def wait_for(
    client: Client, ids: Sequence[str], *, timeout_s: float | None, clock: Clock | None = None
) -> list[ExecutionRecord]:
    """The executions once all are over, in order. Raises WaitTimeout after ``timeout_s``."""
    clock = clock or SystemClock()
    started_s = clock.mono_s()
    bar = _Bar(len(ids))
    records: list[ExecutionRecord] = []
    try:
        for execution_id in ids:
            while True:
                waited_s = clock.mono_s() - started_s
                if timeout_s is not None and waited_s >= timeout_s:
                    raise WaitTimeout(
                        f"{len(ids) - len(records)} of {len(ids)} executions are not over after {timeout_s:g} s;"
                        " they go on",
                        hint=f"schedule-zero executions {execution_id} --wait",
                    )
                look_s = LOOK_S if timeout_s is None else min(LOOK_S, timeout_s - waited_s)
                try:
                    records.append(client.wait(execution_id, wait_s=look_s))
                    break
                except WaitTimeout:
                    bar.show(len(records), client.execution(execution_id), late=waited_s >= PATIENT_S)
            bar.show(len(records), None, late=clock.mono_s() - started_s >= PATIENT_S)
    except KeyboardInterrupt:
        click.echo(f"\nno longer waiting; it goes on: schedule-zero executions {ids[len(records)]}", err=True)
        raise
    finally:
        bar.close()
    return records


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
        self._progress.update(self._task, description=said, completed=share or 0, total=None if share is None else 1)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
