"""How much of everything: the full run's sizes and the quick run's."""

from __future__ import annotations

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """Sizes of one run. Every round is a fresh deployment; floor and W1 alternate within it."""

    rounds: int = 3
    # Floor and W1 are short and the machine drifts: they alternate this often in each round.
    pairs: int = 3
    floor_jobs: int = 20_000
    floor_batches: tuple[int, ...] = (50, 200, 500)
    bulk_jobs: int = 20_000
    # W1 again, under each policy and without, so often in each deployment.
    policy_jobs: int = 10_000
    policy_rounds: int = 10
    single_jobs: int = 500
    single_schedules: int = 3_000
    bulk_schedules: int = 20_000
    interval_s: float = 20.0
    due_at_once: tuple[int, ...] = (1_000, 10_000)
    due_ahead_s: float = 3.0
    sustained_schedules: int = 10_000
    # One run of W4b per interval; the best one counts.
    sustained_intervals_ms: tuple[int, ...] = (2_000, 1_000, 800)
    sustained_s: float = 12.0
    # Of W9: how fast jobs print, in megabytes a second, and how often three of them say 6 MB each.
    log_rate_mb_s: float = 28.0
    log_rounds: int = 8
    history_rows: int = 1_000_000
    history_rounds: int = 3
    read_repeats: int = 40
    page_schedules: int = 10_000
    dashboards: int = 50
    dashboard_rounds: int = 5
    stored_schedules: int = 100_000
    stored_rounds: int = 3
    cancelled_jobs: int = 400
    idle_s: float = 10.0
    settle_s: float = 3.0


FULL = Plan()
QUICK = Plan(
    rounds=1,
    pairs=3,
    floor_jobs=10_000,
    floor_batches=(50, 500),
    bulk_jobs=10_000,
    policy_jobs=5_000,
    policy_rounds=8,
    single_jobs=200,
    single_schedules=1_000,
    bulk_schedules=5_000,
    interval_s=8.0,
    due_ahead_s=1.5,
    sustained_intervals_ms=(800,),
    sustained_s=4.0,
    log_rounds=4,
    history_rows=100_000,
    history_rounds=1,
    read_repeats=20,
    dashboard_rounds=3,
    stored_schedules=20_000,
    stored_rounds=1,
    cancelled_jobs=200,
    idle_s=4.0,
    settle_s=1.0,
)
