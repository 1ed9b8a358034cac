"""``python -m schedule_zero.testbed.bare FOLDER``: one scenario on a bare APScheduler, whole, in this process.

It reads its order from the folder and leaves the report there, and tells how far it is on stdout. It ends at once when
its stdin does: then nobody is there any more who would read it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from threading import Thread

import msgspec

from schedule_zero.reports.record import Outcome, ScenarioReport
from schedule_zero.testbed.bare.bare import Bare, in_a_line
from schedule_zero.testbed.bare.order import ORDER, REPORT, Order, Told
from schedule_zero.testbed.catalogue import chosen, params_of
from schedule_zero.testbed.history import LEDGER
from schedule_zero.testbed.job_ledger import LEDGER as LEDGER_VARIABLE
from schedule_zero.testbed.runner import Planned, Watcher, blank, run_on


class Teller(Watcher):
    """Writes lines for the run."""

    def goes_on(self, _: Planned, fraction: float, text: str, /) -> None:
        self.tell(Told(fraction=fraction, text=text))

    def tell(self, told: Told) -> None:
        os.write(sys.stdout.fileno(), msgspec.json.encode(told) + b"\n")


async def played(order: Order, folder: Path) -> None:
    """From the scheduler's start to the judgement."""
    [scenario] = chosen([order.scenario])
    planned = Planned(scenario, params_of(scenario, order.params, quick=False))
    teller = Teller()
    bare = Bare(folder, order)
    try:
        try:
            await bare.start()
        except Exception as error:  # noqa: BLE001 - whatever a store raises, such as that there is no database
            why = f"its scheduler did not start: {in_a_line(error)}"
            _leave(blank(planned, order.subject, Outcome.FAILED, why, order.speedup), folder)
            return
        teller.tell(Told(ready=True))
        [report] = await run_on(bare, [planned], seed=order.seed, limits=order.limits, watcher=teller)
        # (Before it is closed, which one that has ended by itself may take ill.)
        _leave(report, folder)
    finally:
        await bare.close()


def main(folder: Path) -> None:
    Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
    os.environ[LEDGER_VARIABLE] = str(folder / LEDGER)
    asyncio.run(played(order, folder))


def _leave(report: ScenarioReport, folder: Path) -> None:
    fresh = folder / f"{REPORT}.new"
    fresh.write_bytes(msgspec.json.encode(report))
    fresh.replace(folder / REPORT)


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(70)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
