"""Runs scenarios, one after the other, on a subject; watches them, ends those that don't end, and judges each.

A scenario's way: ``drive``, then wait until nothing of it is open, then look at everything, then delete what it left,
then ``judge``. Whatever goes wrong on that way is its outcome (``failed``, with the reason), never the run's.
"""

from __future__ import annotations

import asyncio
import math
import os
import platform
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import msgspec
import psutil
from msgspec import Struct

from schedule_zero.errors import ScheduleZeroError
from schedule_zero.reports import record
from schedule_zero.reports.record import (
    FaultWindow,
    Figures,
    Finding,
    Machine,
    Measure,
    Outcome,
    ScenarioReport,
    Series,
)
from schedule_zero.testbed.catalogue import target
from schedule_zero.testbed.history import Fault, Run
from schedule_zero.testbed.installation import Installation
from schedule_zero.testbed.sampling import Sampler, TooLarge
from schedule_zero.testbed.scenario import Scenario, ScenarioParams, Seen, quantile, schedule_ids
from schedule_zero.testbed.stage import Hung, Stage

SETTLE_S = 60.0
TRACE_CHARS = 2_000
# Series that every scenario has, and what their x is where it is not the scenario's own clock.
LATENESS, THROUGHPUT, MEMORY = "lateness", "throughput", "memory of server and nodes"
MACHINE_S = "s of the machine"
# Points of the throughput: as many as make a line of its runs, rather than a comb.
BUCKETS = (10, 100)


class Limits(Struct, frozen=True):
    """What one scenario may take."""

    max_schedules: int = 20_000
    max_execution_time_s: float = 300.0
    memory_mib: float | None = None


class Planned(Struct, frozen=True):
    """One scenario of a run."""

    scenario: type[Scenario]
    params: ScenarioParams


class Watcher:
    """Who wants to hear how a run goes on. (The base hears, and says nothing.)"""

    def step(self, text: str) -> None:
        """Something between the scenarios, that takes its time."""

    def begins(self, planned: Planned) -> None: ...

    def goes_on(self, planned: Planned, fraction: float, text: str, /) -> None: ...

    def ends(self, report: ScenarioReport) -> None: ...

    def finds(self, finding: Finding) -> None: ...


async def run_on(
    installation: Installation, plan: Sequence[Planned], *, seed: int, limits: Limits, watcher: Watcher
) -> list[ScenarioReport]:
    """All of them; the installation is started already."""
    reports: list[ScenarioReport] = []
    for planned in plan:
        watcher.begins(planned)
        report = await _one(installation, planned, seed=seed, limits=limits, watcher=watcher)
        watcher.ends(report)
        reports.append(report)
    return reports


async def _one(
    installation: Installation, planned: Planned, *, seed: int, limits: Limits, watcher: Watcher
) -> ScenarioReport:
    scenario = planned.scenario
    report = blank(planned, installation.subject, Outcome.FAILED, "", installation.speedup)
    if scenario.does_harm and installation.attached:
        report.outcome, report.why = Outcome.SKIPPED, "it ends processes, and the server is not the test bed's own"
        return report
    stage = Stage(
        scenario,
        planned.params,
        installation,
        seed=seed,
        tell=lambda fraction, text: watcher.goes_on(planned, fraction, text),
        max_schedules=limits.max_schedules,
    )
    sampler = Sampler(lambda: _pids(installation), limit_mib=limits.memory_mib)
    began_s, began_us = time.monotonic(), installation.clock.wall_us()
    seen: Seen | None = None
    try:
        seen = await _played(installation, stage, sampler, limits)
        seen.began_us = began_us
        scenario.judge(stage, seen)
        report.outcome = judged(seen, strict=not installation.bare)
        report.why = _why(seen, strict=not installation.bare)
    except Exception as error:  # noqa: BLE001 - a scenario's own mistake is its outcome
        report.why = _told(_first(error))
    report.seconds = round(time.monotonic() - began_s, 3)
    if seen is not None:
        report.held = list(seen.held.values())
        report.measures = _measures(scenario, seen)
        report.series = [_drawable(one) for one in seen.series] + own_series(seen.runs, began_us)
        report.graphs = seen.graphs
        report.figures = figures(seen, stage, report.seconds)
    report.figures.processes = sampler.figures()
    report.series.append(Series(MEMORY, MACHINE_S, "MiB", sampler.total))
    report.faults = windows(installation, began_us)
    if installation.bare:
        return report
    try:
        await _tidied(installation, stage)
    except Exception as error:  # noqa: BLE001 - as above: the next one will say what it misses
        report.outcome = Outcome.FAILED
        report.why = "; ".join(filter(None, (report.why, f"nobody could tidy up after it: {error}")))
    return report


def judged(seen: Seen, *, strict: bool) -> Outcome:
    """Whether all that must hold did. ``strict``: what could not be judged counts as broken, and is no more left out.

    (A bare APScheduler keeps no ledger that everything could be judged by. Something has to be, there too.)
    """
    oks = [one.ok for one in seen.held.values() if strict or one.ok is not None]
    return Outcome.KEPT if all(oks) and (strict or oks) else Outcome.BROKEN


def blank(planned: Planned, subject: str, outcome: Outcome, why: str, speedup: float) -> ScenarioReport:
    """Of a scenario that was not played, or not yet."""
    scenario = planned.scenario
    return ScenarioReport(
        scenario=scenario.handler_id,
        subject=subject,
        asks=scenario.asks(),
        outcome=outcome,
        why=why,
        speedup=speedup,
        params=msgspec.to_builtins(planned.params),
    )


async def _played(installation: Installation, stage: Stage, sampler: Sampler, limits: Limits) -> Seen:
    """Drive it, wait for the end of everything, and look; within its time and memory."""

    async def play() -> Seen:
        await stage.scenario.drive(stage)
        await stage.until(stage.settled, SETTLE_S)
        left = await schedule_ids(stage.client, stage.scenario.handler_id)
        seen = await stage.seen(left)
        seen.memory = sampler.total
        return seen

    playing = asyncio.create_task(play())
    # These never end but by what is too much, or by an end that nobody wanted.
    watching, ending = asyncio.create_task(sampler.watch()), asyncio.create_task(installation.ended())
    try:
        done, _ = await asyncio.wait(
            (playing, watching, ending), timeout=limits.max_execution_time_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (ending, watching, playing):
            if task in done:
                task.result()
        if playing not in done:
            raise Hung(f"it did not end within {limits.max_execution_time_s:g} s (limits.max_execution_time_seconds)")
        return playing.result()
    finally:
        # (Waiting for one that is over would take the trace from its error.)
        for task in (one for one in (playing, watching, ending) if not one.done()):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _tidied(installation: Installation, stage: Stage) -> None:
    """The next scenario finds everybody there, and no schedule of this one."""
    for name in tuple(installation.processes):
        await installation.bring_back(name)
    await stage.clean()


def _why(seen: Seen, *, strict: bool) -> str:
    broken = [f"{one.name}: {one.broken} of {one.checked}" for one in seen.held.values() if one.ok is False]
    blind = [one.name for one in seen.held.values() if one.ok is None]
    unseen = "nothing was seen of" if strict else "not judged, for nothing was seen of it:"
    return "; ".join(broken + ([f"{unseen} {', '.join(blind)}"] if blind else []))


def _told(error: BaseException) -> str:
    """In a line what was to be expected of a scenario; of anything else where it came from."""
    if isinstance(error, Hung | TooLarge | ScheduleZeroError | ChildProcessError | TimeoutError):
        return str(error) or type(error).__name__
    return f"it raised {type(error).__name__}: {error}\n{traceback.format_exc()[-TRACE_CHARS:]}"


def _first(error: BaseException) -> BaseException:
    """Of several at once, as a task group collects them."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _pids(installation: Installation) -> Mapping[str, int]:
    return {name: process.pid for name, process in installation.processes.items() if process.alive()}


# --- figures ------------------------------------------------------------------------------------------


def figures(seen: Seen, stage: Stage, took_s: float) -> Figures:
    """What is taken of every scenario alike."""
    over = [run for run in seen.runs if run.end_ns is not None]
    latencies = sorted((run.end_ns - run.start_ns) / 1e9 for run in over if run.end_ns is not None)
    late = sorted((run.start_us - run.nominal_us) / 1e6 for run in seen.runs if run.nominal_us is not None)
    return Figures(
        executions=len(seen.executions) or len(seen.runs),
        failed=sum(run.outcome == "error" for run in over),
        latency_avg_s=sum(latencies) / len(latencies) if latencies else None,
        latency_p50_s=quantile(latencies, 0.5),
        latency_p99_s=quantile(latencies, 0.99),
        latency_max_s=latencies[-1] if latencies else None,
        lateness_p50_s=quantile(late, 0.5),
        lateness_p99_s=quantile(late, 0.99),
        lateness_max_s=late[-1] if late else None,
        schedules_created=stage.client.created,
        schedules_deleted=stage.client.deleted,
        executions_per_s=len(seen.runs) / took_s if took_s else None,
        by_node=dict(Counter(run.node_id for run in seen.runs)),
    )


def own_series(runs: Sequence[Run], since_us: int) -> list[Series]:
    """Lateness and throughput, in the clock's seconds since then."""
    late = [
        ((run.start_us - since_us) / 1e6, (run.start_us - run.nominal_us) / 1e6)
        for run in runs
        if run.nominal_us is not None
    ]
    found = [Series(LATENESS, "s", "s", late)] if late else []
    if runs:
        found.append(Series(THROUGHPUT, "s", "runs/s", throughput([(run.start_us - since_us) / 1e6 for run in runs])))
    return found


def throughput(starts: Sequence[float]) -> list[tuple[float, float]]:
    """(The middle of a stretch of time, runs per second in it.)"""
    fewest, most = BUCKETS
    many = min(most, max(fewest, round(2 * math.sqrt(len(starts)))))
    width = max(*starts, 1e-3) / many
    counts = Counter(min(many - 1, max(0, int(start / width))) for start in starts)
    return [((at + 0.5) * width, counts[at] / width) for at in range(many)]


def _measures(scenario: type[Scenario], seen: Seen) -> list[Measure]:
    """In the order in which the scenario declares them, the one that matters first; None: it was not taken."""
    worse = {name: which for which, names in scenario.worse.items() for name in names}
    return [
        Measure(name, scenario.measures.get(name, ""), _finite(seen.measures.get(name)), worse.get(name))
        for name in dict.fromkeys([*scenario.measures, *seen.measures])
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _drawable(series: Series) -> Series:
    points = [(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, series.x, series.y, points)


def windows(installation: Installation, since_us: int) -> list[FaultWindow]:
    """What was done since, in seconds from there."""
    found: list[FaultWindow] = []
    for fault in [*_logged(installation), *installation.faults.lasting]:
        if fault.begin_us >= since_us:
            end_s = None if fault.end_us is None else (fault.end_us - since_us) / 1e6
            found.append(FaultWindow(fault.fault.value, fault.target, (fault.begin_us - since_us) / 1e6, end_s))
    return found


def _logged(installation: Installation) -> list[Fault]:
    from schedule_zero.testbed.history import FAULTS, read_lines

    return list(read_lines(installation.folder / FAULTS, Fault))


def machine() -> Machine:
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        cores=os.cpu_count() or 1,
        memory_mib=psutil.virtual_memory().total >> 20,
    )


def targets(plan: Sequence[Planned]) -> list[str]:
    """What the nodes have to load."""
    return [target(planned.scenario) for planned in plan]


def report_of(scenarios: list[ScenarioReport], *, began: datetime, seconds: float, **said: Any) -> record.RunReport:
    return record.RunReport(
        product=version("schedule-zero"),
        began=began.astimezone(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        machine=machine(),
        scenarios=scenarios,
        **said,
    )
