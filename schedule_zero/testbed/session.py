"""A whole run: which scenarios on which subject and clock, its installations one after the other, and its report.

Scenarios that are about simulated time have an installation of their own, whose clock goes ``speedup`` times as fast,
and so have those that want other settings. Everything that a run leaves stands in its folder: its plan, what the
processes wrote, by installation, and the report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from schedule_zero.clock import Clock, SystemClock, from_us
from schedule_zero.errors import BadRequest, ScheduleZeroError
from schedule_zero.reports.record import OURS, Finding, Outcome, RunReport, ScenarioReport
from schedule_zero.testbed.answers import answers
from schedule_zero.testbed.bare.run import NOT_FOR_BARE, BareRun, stores
from schedule_zero.testbed.finding_scripts import FindingScripts, scripts
from schedule_zero.testbed.history import BadEvidence
from schedule_zero.testbed.installation import Installation
from schedule_zero.testbed.runner import Limits, Planned, Watcher, blank, report_of, run_on, targets
from schedule_zero.testbed.scenario import schedule_ids

BARE, BOTH = "apscheduler", "both"
SUBJECTS = (OURS, BARE, BOTH)
REALTIME, ACCELERATED = "realtime", "accelerated"
# In the folder of a run: what it was to do, and what its processes left.
PLAN, EVIDENCE = "plan.json", "evidence"
# How late something may be before the checker calls it late: the machine is busy with the test bed, too.
LATE_S = 10.0
MOST_VIOLATIONS = 50
INTERRUPTED = "the run was interrupted"


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that a run depends on. The same plan does the same."""

    scenarios: list[Planned]
    nodes: int = 3
    mode: Literal["realtime", "accelerated"] = "realtime"
    speedup: float = 1440.0
    seed: int = 1
    quick: bool = False
    subject: str = "schedulezero"
    limits: Limits = Limits()
    # A server that runs already, and how to speak to it.
    url: str | None = None
    token: str | None = None
    # Of the bare APScheduler: a database for its store, and whether the scripts of our findings are run.
    postgresql: str | None = None
    findings: bool = True


def subjects(plan: Plan) -> tuple[list[str], list[str]]:
    """Those that a run is about, ours first; of others why they are left out. BadRequest: that can't be."""
    ours = [OURS] if plan.subject in (OURS, BOTH) else []
    if plan.subject == OURS:
        return ours, []
    if plan.url is not None and not ours:
        raise BadRequest("--server names a server of ours, and --subject apscheduler runs none: leave one of them out")
    bare, notes = stores(plan.postgresql)
    return ours + bare, notes


class Session:
    """``run`` once. ``interrupt`` ends it early, with the report of what there is; ``kill`` ends its processes."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        watcher: Watcher,
        *,
        clock: Clock | None = None,
        install: Callable[..., Installation] = Installation,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.interrupted = False
        self._clock = clock or SystemClock()
        self._install = install
        self._book = _Book(watcher)
        self._bare = BareRun(folder / EVIDENCE, seed=plan.seed, limits=plan.limits, database=plan.postgresql)
        self._scripts = FindingScripts()
        self._running: Installation | None = None
        self._work: asyncio.Task[None] | None = None

    async def run(self) -> RunReport:
        """All scenarios. ScheduleZeroError: the subject is not here, the server that was named does not answer."""
        names, notes = subjects(self.plan)
        _write_plan(self.plan, self.folder)
        began_us, began_s = self._clock.wall_us(), self._clock.mono_s()
        report = report_of(
            [],
            began=from_us(began_us),
            seconds=0.0,
            mode=self.plan.mode,
            speedup=self.plan.speedup,
            seed=self.plan.seed,
            nodes=self.plan.nodes,
            quick=self.plan.quick,
            notes=notes,
        )
        self._work = asyncio.create_task(self._all(names, report), name="test bed")
        try:
            await self._work
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
        report.interrupted = self.interrupted
        report.seconds = round(self._clock.mono_s() - began_s, 3)
        report.scenarios = self._book.in_order(names, self.plan.scenarios)
        report.answers = answers(report)
        return report

    def interrupt(self) -> None:
        """What runs now is over. Its processes are ended, and ``run`` returns."""
        if self._work is not None and not self.interrupted:
            self.interrupted = True
            self._work.cancel()

    def kill(self) -> None:
        """End its processes at once."""
        self._bare.kill()
        self._scripts.kill()
        if self._running is not None:
            for process in self._running.processes.values():
                process.kill()

    async def _all(self, names: Sequence[str], report: RunReport) -> None:
        for subject in names:
            await self._on(subject, report)
        if self.plan.findings and any(name != OURS for name in names):
            await self._find(report)

    async def _on(self, subject: str, report: RunReport) -> None:
        """The scenarios of one subject."""
        if subject != OURS:
            await self._on_bare(subject)
            return
        for group in _groups(self.plan):
            self._book.subject, self._book.speedup = subject, group.speedup
            if self.plan.url is not None and (lacks := group.lacks):
                for planned in group.plan:
                    self._book.skip(planned, f"it needs {lacks}, and the server is not the test bed's own")
                continue
            installation = self._running = self._install(
                self.folder / EVIDENCE / group.name,
                nodes=self._nodes(),
                targets=targets(group.plan),
                env=group.env,
                speedup=group.speedup,
                url=self.plan.url,
                token=self.plan.token,
            )
            try:
                await self._played(installation, group.plan, report)
            finally:
                try:
                    await installation.close()
                finally:
                    self.kill()

    async def _on_bare(self, subject: str) -> None:
        """Each that says anything about it, in a process of its own."""
        self._book.step(f"on {subject}")
        for group in _groups(self.plan):
            self._book.subject, self._book.speedup = subject, group.speedup
            for planned in group.plan:
                if not planned.scenario.for_bare:
                    self._book.skip(planned, NOT_FOR_BARE)
                    continue
                self._book.begins(planned)
                self._book.ends(await self._bare.play(subject, planned, group.speedup, self._book))

    async def _find(self, report: RunReport) -> None:
        paths = scripts(quick=self.plan.quick)
        self._book.step(f"runs the scripts of {len(paths)} findings about APScheduler")

        def found(finding: Finding) -> None:
            report.findings.append(finding)
            report.findings.sort(key=lambda one: one.name)
            self._book.finds(finding)

        await self._scripts.run(paths, found)

    def _nodes(self) -> list[str]:
        # On another's server there may be an n1 already.
        prefix = "n" if self.plan.url is None else "testbed-n"
        return [f"{prefix}{number}" for number in range(1, self.plan.nodes + 1)]

    async def _played(self, installation: Installation, plan: Sequence[Planned], report: RunReport) -> None:
        whose = "nodes" if installation.attached else "a server and nodes"
        self._book.step(f"starts {whose} ({', '.join(installation.nodes)})")
        try:
            await installation.start()
        except (ChildProcessError, TimeoutError, ScheduleZeroError) as error:
            if installation.attached and isinstance(error, ScheduleZeroError):
                raise
            for planned in plan:
                self._book.fail(planned, f"its installation did not start: {error}")
            return
        if installation.attached:
            plan = await self._free(installation, plan)
        reports = await run_on(installation, plan, seed=self.plan.seed, limits=self.plan.limits, watcher=self._book)
        if not installation.attached:
            self._book.step("the checker judges the store")
            settled = all(one.outcome is not Outcome.FAILED for one in reports)
            await asyncio.to_thread(_judge, installation, plan, report, settled=settled)

    async def _free(self, installation: Installation, plan: Sequence[Planned]) -> list[Planned]:
        """Those that do not share their name with a handler of another's server: its schedules are not ours."""
        free = []
        for planned in plan:
            name = planned.scenario.handler_id
            if found := await schedule_ids(installation.client, name):
                self._book.skip(
                    planned, f"the server has schedules of a handler {name!r} already ({len(found)}: {found[0]}, …)"
                )
            else:
                free.append(planned)
        return free


class _Group(Struct, frozen=True):
    """Scenarios that share an installation."""

    name: str
    speedup: float
    env: Mapping[str, str]
    plan: list[Planned]

    @property
    def lacks(self) -> str:
        """What a server that runs already can't give them."""
        return "a fast clock" if self.speedup != 1.0 else "settings of its own" if self.env else ""


def _groups(plan: Plan) -> list[_Group]:
    """By clock and environment, those of the machine's clock first."""
    found: dict[tuple[bool, tuple[tuple[str, str], ...]], _Group] = {}
    for planned in plan.scenarios:
        scenario = planned.scenario
        fast = scenario.fast_clock or (scenario.either_clock and plan.mode == ACCELERATED)
        key = fast, tuple(sorted(scenario.env.items()))
        if key not in found:
            clock = ACCELERATED if fast else REALTIME
            name = f"{clock}-{scenario.handler_id}" if scenario.env else clock
            found[key] = _Group(name, plan.speedup if fast else 1.0, scenario.env, [])
        found[key].plan.append(planned)
    return [found[key] for key in sorted(found)]


def _write_plan(plan: Plan, folder: Path) -> None:
    """What the run is to do, for whoever finds its folder without a report; how to get into a server is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    said = msgspec.to_builtins(msgspec.structs.replace(plan, scenarios=[], token=None, postgresql=None))
    said["scenarios"] = {one.scenario.handler_id: msgspec.to_builtins(one.params) for one in plan.scenarios}
    (folder / PLAN).write_bytes(msgspec.json.format(msgspec.json.encode(said)) + b"\n")


def _judge(installation: Installation, plan: Sequence[Planned], report: RunReport, *, settled: bool) -> None:
    """What the checker says of this installation, added to the report."""
    try:
        found = installation.judge(ledgered=[one.scenario.handler_id for one in plan], late_s=LATE_S, settled=settled)
    except (BadEvidence, ScheduleZeroError) as error:
        report.notes.append(f"the checker could not judge {installation.folder.name}: {error}")
        return
    for name, times in found.checked.items():
        report.promises[name] = report.promises.get(name, 0) + times
    for name, times in found.counts.items():
        report.breaches[name] = report.breaches.get(name, 0) + times
    report.violations += [str(one) for one in found.violations[: MOST_VIOLATIONS - len(report.violations)]]
    report.notes += [note for note in found.notes if note not in report.notes]
    report.promises_ok = report.promises_ok is not False and found.ok


class _Book(Watcher):
    """Keeps the outcomes as they come, so that an interrupted run has a report as well; passes on what it hears."""

    def __init__(self, watcher: Watcher) -> None:
        self.subject = "schedulezero"
        self.speedup = 1.0
        self._watcher = watcher
        self._reports: dict[tuple[str, str], ScenarioReport] = {}
        self._began: set[tuple[str, str]] = set()

    def step(self, text: str) -> None:
        self._watcher.step(text)

    def begins(self, planned: Planned) -> None:
        self._began.add((self.subject, planned.scenario.handler_id))
        self._watcher.begins(planned)

    def goes_on(self, planned: Planned, fraction: float, text: str, /) -> None:
        self._watcher.goes_on(planned, fraction, text)

    def ends(self, report: ScenarioReport) -> None:
        self._reports[report.subject, report.scenario] = report
        self._watcher.ends(report)

    def finds(self, finding: Finding) -> None:
        self._watcher.finds(finding)

    def skip(self, planned: Planned, why: str) -> None:
        self.ends(blank(planned, self.subject, Outcome.SKIPPED, why, self.speedup))

    def fail(self, planned: Planned, why: str) -> None:
        self.ends(blank(planned, self.subject, Outcome.FAILED, why, self.speedup))

    def in_order(self, names: Sequence[str], plan: Sequence[Planned]) -> list[ScenarioReport]:
        """One for each scenario of the plan and subject; of those that are missing, that they are."""
        found: list[ScenarioReport] = []
        for subject in names:
            for planned in plan:
                key = (subject, planned.scenario.handler_id)
                outcome = Outcome.FAILED if key in self._began else Outcome.SKIPPED
                why = INTERRUPTED if key in self._began else f"{INTERRUPTED} before it began"
                found.append(self._reports.get(key) or blank(planned, subject, outcome, why, 1.0))
        return found
