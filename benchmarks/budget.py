"""The performance budget of the design (§7) as data, and the verdict on a measured figure. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from benchmarks.policies import POLICIES


class Reference(Struct, frozen=True, kw_only=True):
    """What the same run measured without the product: the units of the relative bounds."""

    floor_jobs_s: float
    fsync_s: float


class Bound(Struct, frozen=True):
    """One limit: as it reads in the design, and its value on this machine."""

    text: str
    value: Callable[[Reference], float]


class Line(Struct, frozen=True, kw_only=True):
    """One figure of the budget. ``key`` names it in the JSON; ``unit`` is that of the value, always a base unit."""

    key: str
    work: str
    what: str
    unit: Literal["/s", "s", "MB", "rows", "share"]
    higher_is_better: bool
    must: Bound
    aim: Bound


class Verdict(Struct, frozen=True, kw_only=True):
    must: float
    aim: float
    must_met: bool
    aim_met: bool


def judge(line: Line, value: float, reference: Reference) -> Verdict:
    """Hold one median against its two bounds."""
    must, aim = line.must.value(reference), line.aim.value(reference)
    if line.higher_is_better:
        return Verdict(must=must, aim=aim, must_met=value >= must, aim_met=value >= aim)
    return Verdict(must=must, aim=aim, must_met=value <= must, aim_met=value <= aim)


def _fixed(value: float, text: str) -> Bound:
    return Bound(text, lambda _: value)


def _at_least(key: str, work: str, what: str, must: float, aim: float) -> Line:
    return Line(
        key=key,
        work=work,
        what=what,
        unit="/s",
        higher_is_better=True,
        must=_fixed(must, f"≥ {must:,.0f}/s"),
        aim=_fixed(aim, f"≥ {aim:,.0f}/s"),
    )


def _within(key: str, work: str, what: str, must_s: float, aim_s: float) -> Line:
    def text(seconds: float) -> str:
        return f"≤ {seconds * 1000:g} ms" if seconds < 0.1 else f"≤ {seconds:g} s"

    return Line(
        key=key,
        work=work,
        what=what,
        unit="s",
        higher_is_better=False,
        must=_fixed(must_s, text(must_s)),
        aim=_fixed(aim_s, text(aim_s)),
    )


def _memory(key: str, what: str, must_mb: float, aim_mb: float, *, work: str = "W5") -> Line:
    return Line(
        key=key,
        work=work,
        what=what,
        unit="MB",
        higher_is_better=False,
        must=_fixed(must_mb, f"≤ {must_mb:g} MB"),
        aim=_fixed(aim_mb, f"≤ {aim_mb:g} MB"),
    )


def _share(key: str, work: str, what: str, must: float, aim: float) -> Line:
    return Line(
        key=key,
        work=work,
        what=what,
        unit="share",
        higher_is_better=False,
        must=_fixed(must, f"≤ {must:.0%}"),
        aim=_fixed(aim, f"≤ {aim:.0%}"),
    )


def _none_missing(key: str, work: str, what: str) -> Line:
    return Line(
        key=key,
        work=work,
        what=what,
        unit="rows",
        higher_is_better=False,
        must=_fixed(0, "0"),
        aim=_fixed(0, "0"),
    )


BUDGET: tuple[Line, ...] = (
    Line(
        key="w1_jobs_per_s",
        work="W1",
        what="submit no-op jobs in bulk → all results recorded",
        unit="/s",
        higher_is_better=True,
        must=Bound("≥ 0.25 × floor", lambda reference: 0.25 * reference.floor_jobs_s),
        aim=Bound("≥ 0.5 × floor", lambda reference: 0.5 * reference.floor_jobs_s),
    ),
    Line(
        key="w2_p50_s",
        work="W2",
        what="one job at a time over HTTP, submit → result seen, p50",
        unit="s",
        higher_is_better=False,
        must=Bound("≤ 3 × 2 fsyncs + 3 ms", lambda reference: 6 * reference.fsync_s + 0.003),
        aim=Bound("≤ 2 fsyncs + 2 ms", lambda reference: 2 * reference.fsync_s + 0.002),
    ),
    _at_least("w3_create_one_per_s", "W3", "create schedules one by one, 16 callers", 1_000, 2_000),
    _at_least("w3_delete_one_per_s", "W3", "delete schedules one by one, 16 callers", 1_000, 2_000),
    _at_least("w3_create_bulk_per_s", "W3", "create schedules in bulk", 5_000, 20_000),
    _at_least("w3_delete_bulk_per_s", "W3", "delete schedules in bulk", 5_000, 20_000),
    *(_share(f"policy_{name}_share", "P", f"W1 under {name}: more time than without", 0.15, 0.05) for name in POLICIES),
    _within("w4_interval_p99_s", "W4", "10 ms interval: nominal → method entered, p99", 0.025, 0.002),
    _none_missing("w4_interval_missing", "W4", "10 ms interval: missing in the ledger"),
    _within("w4_last_of_1000_s", "W4", "1,000 due at once: last one entered after", 0.4, 0.1),
    _within("w4_last_of_10000_s", "W4", "10,000 due at once: last one entered after", 3.0, 0.8),
    _at_least("w4b_fires_per_s", "W4b", "sustained fires of 10,000 interval schedules", 4_000, 10_000),
    _none_missing("w4b_missing", "W4b", "sustained fires: missing in the ledger"),
    _memory("w5_server_idle_mb", "server, idle", 90, 60),
    _memory("w5_server_history_mb", "server, 1 M executions in the history, lists browsed", 200, 100),
    _memory("w5_node_idle_mb", "node, idle", 45, 30),
    _within("w6_first_job_s", "W6", "cold start: command → first job completed", 3.0, 1.5),
    _within("w7_read_p95_s", "W7", "API list and detail reads with 1 M executions, p95", 0.15, 0.05),
    _within("w7_page_p95_s", "W7", "pages with 1 M executions and 10,000 schedules, p95", 0.15, 0.05),
    _memory("w7_page_first_load_mb", "a page's first load with all its files, compressed", 0.2, 0.1, work="W7"),
    _share("w7_dashboards_share", "W7", "W1 with 50 open overviews: more CPU than without", 0.15, 0.05),
    _within("w8_start_s", "W8", "100,000 schedules: server's command → /readyz 200", 5.0, 1.5),
    _within("wiso_overhead_s", "Wiso", "isolated job in a warm worker, more than W2's p50", 0.002, 0.001),
    _share("w8_idle_cpu_share", "W8", "100,000 schedules: CPU of the server, idle", 0.02, 0.01),
    _within("w8_list_p95_s", "W8", "100,000 schedules: a page of their list, p95", 0.05, 0.02),
    _within("wcancel_p99_s", "Wcancel", "a running job is cancelled → its node has confirmed, p99", 0.2, 0.05),
    _at_least("w9_log_mb_per_s", "W9", "MB of log lines through one node, all of them stored", 20, 40),
    _share("w9_p50_growth_share", "W9", "W2's p50 meanwhile: so much longer than in silence", 0.5, 0.25),
)
