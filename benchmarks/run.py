"""One benchmark run: rounds of floor and product, in turn, then the verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.budget import Reference
from benchmarks.ceilings import client_ceiling
from benchmarks.disk import measure_disk
from benchmarks.floor import Floor, floor
from benchmarks.machine import Neighbours, machine_facts, versions
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.procs import Deployment, deployment
from benchmarks.report import Measured, document, judge_all, missed, print_report
from benchmarks.stats import paired_ratios
from benchmarks.workloads import cancels, fires, history, jobs, logs, pages, policies, schedules, stored

# More than this share of the machine used by others spoils the run.
BUSY = 0.1
WORKS = ("W1", "P", "W2", "W3", "W4", "W4b", "W5", "W7", "W8", "W9", "Wcancel", "Wiso")


class Run:
    """The state of a run that its steps share: the plan, the folder, what was measured."""

    def __init__(self, plan: Plan, folder: Path, console: Console, works: frozenset[str]) -> None:
        self.plan = plan
        self.folder = folder
        self.console = console
        self.works = works
        self.measured = Measured()

    def step(self, text: str, work: Callable[[], object]) -> None:
        """Do one step and say how long it took."""
        begin = time.perf_counter()
        work()
        self.console.print(f"  [dim]{time.perf_counter() - begin:6.1f} s  {text}[/dim]", highlight=False)

    def everything(self) -> None:
        rate = client_ceiling().value
        self.measured.add("load_client_ceiling_per_s", rate)
        for number in range(1, self.plan.rounds + 1):
            self.console.print(f"round {number} of {self.plan.rounds}")
            self._round(self.folder / f"round-{number}")
        if self.works & {"W5", "W7"}:
            self.console.print(f"history of {self.plan.history_rows:,} executions")
            self._history(self.folder / "history")
        if "W8" in self.works:
            self.console.print(f"{self.plan.stored_schedules:,} stored schedules")
            self._stored(self.folder / "stored")

    def _round(self, folder: Path) -> None:
        plan, measured = self.plan, self.measured
        neighbours = Neighbours()
        self.step("disk", lambda: self._disk(folder / "disk"))
        with floor(folder / "floor") as bare, deployment(folder / "product") as (deployed, cold_s):
            measured.add("w6_first_job_s", cold_s)
            if "W5" in self.works:
                self.step("W5 idle", lambda: history.idle_memory(deployed, measured, settle_s=plan.settle_s))
            self._warm_up(bare, deployed)
            for _ in range(plan.pairs):
                self.step("floor", lambda: self._floor(bare))
                if "W1" in self.works:
                    self.step("W1", lambda: jobs.bulk(deployed, measured, jobs=plan.bulk_jobs))
            if "P" in self.works:
                self.step("P", lambda: self._policies(deployed))
            if "W2" in self.works:
                self.step("W2", lambda: self._singles(deployed))
            if "W9" in self.works:
                self.step("W9", lambda: self._logs(deployed))
            if "Wiso" in self.works:
                self.step("Wiso", lambda: jobs.isolated(deployed, measured, jobs=plan.single_jobs))
            if "W3" in self.works:
                self.step("W3", lambda: self._schedules(deployed))
            if "W4" in self.works:
                self.step("W4", lambda: self._lateness(deployed))
            if "Wcancel" in self.works:
                self.step("Wcancel", lambda: cancels.confirmed(deployed, measured, jobs=plan.cancelled_jobs))
        if "W4b" in self.works:
            with deployment(folder / "sustained") as (deployed, cold_s):
                measured.add("w6_first_job_s", cold_s)
                self.step("W4b", lambda: self._sustained(deployed))
        measured.add("neighbours_share", neighbours.share())
        shutil.rmtree(folder)

    def _disk(self, folder: Path) -> None:
        figures = measure_disk(folder)
        for name in figures.__struct_fields__:
            self.measured.add(f"disk_{name}", getattr(figures, name))

    def _warm_up(self, bare: Floor, deployed: Deployment) -> None:
        """Files exist, caches are filled, the node's credit has grown: for both alike, and not recorded."""
        bare.run(2_000, batch=200, window=1)
        if "W1" in self.works:
            jobs.bulk(deployed, Measured(), jobs=2_000)

    def _floor(self, bare: Floor) -> None:
        plan, measured = self.plan, self.measured
        for batch in plan.floor_batches:
            measured.add(
                f"floor_batch_{batch}_per_s", plan.floor_jobs / bare.run(plan.floor_jobs, batch=batch, window=1)
            )
        measured.add("floor_pipelined_per_s", plan.floor_jobs / bare.run(plan.floor_jobs, batch=200, window=4))
        measured.add("floor_8_callers_per_s", 2_000 / bare.run(2_000, batch=1, window=8))
        one_by_one = bare.one_by_one(100)
        measured.add("floor_one_by_one_p50_s", sorted(one_by_one)[len(one_by_one) // 2])

    def _policies(self, deployed: Deployment) -> None:
        plan = self.plan
        policies.overhead(deployed, self.measured, jobs=plan.policy_jobs, rounds=plan.policy_rounds)

    def _singles(self, deployed: Deployment) -> None:
        jobs.one_by_one(deployed, self.measured, jobs=self.plan.single_jobs)
        jobs.sixteen_callers(deployed, self.measured, jobs=self.plan.single_jobs * 4)

    def _logs(self, deployed: Deployment) -> None:
        plan = self.plan
        rate, singles = plan.log_rate_mb_s, plan.single_jobs
        logs.talking(deployed, self.measured, rounds=plan.log_rounds, megabytes_per_s=rate, jobs=singles)

    def _schedules(self, deployed: Deployment) -> None:
        plan = self.plan
        schedules.create_and_delete(deployed, self.measured, singles=plan.single_schedules, many=plan.bulk_schedules)

    def _lateness(self, deployed: Deployment) -> None:
        fires.interval(deployed, self.measured, seconds=self.plan.interval_s)
        for count in self.plan.due_at_once:
            fires.due_at_once(deployed, self.measured, schedules=count, ahead_s=self.plan.due_ahead_s)

    def _sustained(self, deployed: Deployment) -> None:
        plan = self.plan
        rates = [
            fires.sustained(
                deployed,
                self.measured,
                schedules=plan.sustained_schedules,
                interval_ms=interval_ms,
                seconds=plan.sustained_s,
            )
            for interval_ms in plan.sustained_intervals_ms
        ]
        self.measured.add("w4b_fires_per_s", max(rates))

    def _history(self, folder: Path) -> None:
        plan, measured = self.plan, self.measured
        with deployment(folder) as (deployed, cold_s):
            measured.add("w6_first_job_s", cold_s)
            deployed.stop()
            self.step("fill", lambda: history.fill(deployed, rows=plan.history_rows))
            if plan.history_rows < FULL.history_rows:
                measured.note(f"W5 and W7 with a history of {plan.history_rows:,} executions only")
            if "W7" in self.works:
                deployed.start()
                self.step("W7 fill", lambda: pages.fill(deployed, schedules=plan.page_schedules))
                self.step(
                    "W7 dashboards",
                    lambda: pages.dashboards(
                        deployed, measured, count=plan.dashboards, bulk=plan.bulk_jobs, rounds=plan.dashboard_rounds
                    ),
                )
                deployed.stop()
            for _ in range(plan.history_rounds):
                measured.add("w6_with_history_s", deployed.start())
                self.step("W7", lambda: history.browse(deployed, measured, repeats=plan.read_repeats))
                self.step("W7 pages", lambda: pages.browse(deployed, measured, repeats=plan.read_repeats))
                deployed.stop()

    def _stored(self, folder: Path) -> None:
        plan, measured = self.plan, self.measured
        with deployment(folder) as (deployed, cold_s):
            measured.add("w6_first_job_s", cold_s)
            self.step("create", lambda: stored.create(deployed, schedules=plan.stored_schedules))
            if plan.stored_schedules < FULL.stored_schedules:
                measured.note(f"W8 with {plan.stored_schedules:,} schedules only")
            for _ in range(plan.stored_rounds):
                deployed.stop()
                self.step("W8 start", lambda: stored.start(deployed, measured))
                self.step(
                    "W8 idle", lambda: stored.idle(deployed, measured, settle_s=plan.settle_s, seconds=plan.idle_s)
                )
                self.step("W8 lists", lambda: stored.browse(deployed, measured, repeats=plan.read_repeats))

    def reference(self) -> Reference:
        """The floor is the best batch size's median; the fsync is the cheapest this disk was seen to do at p50."""
        best = max(self.measured.median(f"floor_batch_{batch}_per_s") for batch in self.plan.floor_batches)
        return Reference(floor_jobs_s=best, fsync_s=self.measured.median("disk_fdatasync_p50_s"))

    def add_ratios(self) -> None:
        """W1 of each pair over the floor of the same pair."""
        figures = self.measured.figures
        if "w1_jobs_per_s" not in figures:
            return
        best = max(self.plan.floor_batches, key=lambda batch: self.measured.median(f"floor_batch_{batch}_per_s"))
        for key, base in (("w1_ratio", f"floor_batch_{best}_per_s"), ("w1_ratio_pipelined", "floor_pipelined_per_s")):
            figures[key] = paired_ratios(figures["w1_jobs_per_s"], figures[base])


@contextmanager
def working_folder(base: Path | None) -> Iterator[Path]:
    """A fresh folder on the disk that is to be measured, removed afterwards."""
    if base is not None:
        base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sz-bench-", dir=base) as folder:
        yield Path(folder)


def run_benchmark(*, quick: bool, works: frozenset[str], output: Path, base: Path | None, console: Console) -> bool:
    """Measure, print, write JSON to ``output``. True when no ``must`` was missed."""
    begin = time.perf_counter()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    with working_folder(base) as folder:
        facts = machine_facts(folder)
        run = Run(QUICK if quick else FULL, folder, console, works)
        neighbours = Neighbours()
        run.everything()
        facts["neighbours"] = round(neighbours.share(), 3)
    if facts["neighbours"] > BUSY:
        run.measured.note(f"others used {facts['neighbours']:.0%} of this machine meanwhile: no figure is worth much")
    run.add_ratios()
    reference = run.reference()
    judged = judge_all(run.measured, reference)
    head = {
        "started_at": started_at,
        "quick": quick,
        "seconds": round(time.perf_counter() - begin, 1),
        "machine": facts,
        "versions": versions(),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    result = msgspec.json.encode(document(run.measured, judged, reference, head))
    output.write_bytes(msgspec.json.format(result, indent=2) + b"\n")
    print_report(console, run.measured, judged, reference)
    failed = missed(judged)
    console.print(f"{head['seconds']:.0f} s, written to {output}", highlight=False)
    if failed:
        console.print(f"[bold red]must missed: {', '.join(failed)}[/bold red]", highlight=False)
    return not failed
