"""Plays a plan in the foreground: signals, progress, the report, the exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from schedule_zero.cli.app import EXIT_FAILURE, EXIT_INTERRUPTED, run_async
from schedule_zero.cli.terminal import Styled, say
from schedule_zero.cli.testbed_plan import Planning
from schedule_zero.cli.testbed_progress import progress
from schedule_zero.reports.record import RunReport, write
from schedule_zero.testbed.bare.order import DATABASE
from schedule_zero.testbed.pages import PAGE, verdict, write_pages
from schedule_zero.testbed.session import Session

PREFIX = "SCHEDULE_ZERO_"


def play(planning: Planning) -> int:
    """Run it and write its report. The exit code."""
    plan, folder, graphs = planning
    _forget_settings()
    with progress() as watcher:
        session = Session(plan, folder, watcher)
        report = run_async(lambda: _played(session))
    write(report, folder)
    write_pages(report, folder, graphs=graphs)
    _conclude(report, folder)
    if report.interrupted:
        return EXIT_INTERRUPTED
    return 0 if report.ok else EXIT_FAILURE


def _forget_settings() -> None:
    """What a shell says to servers and nodes is not meant for those of the test bed: its store, say."""
    names = sorted(name for name in os.environ if name.startswith(PREFIX))
    for name in names:
        del os.environ[name]
    # What a client reads is not a setting that anybody could miss.
    if told := [name for name in names if name not in (f"{PREFIX}URL", f"{PREFIX}TOKEN", DATABASE)]:
        say(f"left out, for a run has settings of its own: {', '.join(told)}", err=True)


async def _played(session: Session) -> RunReport:
    """SIGINT and SIGTERM end it early; a second one ends everything at once."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if session.interrupted:
            session.kill()
            os._exit(EXIT_INTERRUPTED)
        say("\ninterrupted: ending its processes, and writing the report of what there is", err=True)
        session.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await session.run()


def _conclude(report: RunReport, folder: Path) -> None:
    say()
    say(Styled(verdict(report), fg="green" if report.ok else "red", bold=True))
    for line in report.violations[:5]:
        say(f"  {line}")
    say(f"\nreport    {folder / PAGE}\nevidence  {folder}")
