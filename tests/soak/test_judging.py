"""A soak can fail: on made-up measurements, each thing that must not be is found, and what is well is left in peace."""

from __future__ import annotations

import io
import random
import signal
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from schedule_zero.testbed.history import SERVER
from schedule_zero.testbed.verdicts import Report, Verdict
from tests.soak import judging
from tests.soak.judging import Finding, Life, Sample
from tests.soak.plan import FIRST, SERVER_LAST, SERVER_LIFE, THIRD, plan
from tests.soak.run import WAL_BOUND_MIB, Outcome, complaints
from tests.soak.showing import show

EVERY_H = 1 / 60


def life(hours: float = 5.0, *, grows: float = 0.0, fds: float = 0.0, threads: float = 0.0, seed: int = 1) -> Life:
    """Caches fill in the first hour, jobs come and go; then it grows by so much in an hour."""
    rng = random.Random(seed)
    samples = []
    for number in range(round(hours / EVERY_H)):
        age_h = number * EVERY_H
        uss_mib = 60 + 50 * min(age_h, 1.0) + grows * age_h + rng.choice([0, 0, 0, 0, 5]) + rng.gauss(0, 0.5)
        samples.append(
            Sample(
                age_h=age_h,
                uss_mib=uss_mib,
                rss_mib=uss_mib + 20,
                fds=30 + rng.choice([0, 0, 1, 9]) + int(fds * age_h),
                threads=9 + int(threads * age_h),
            )
        )
    return Life(SERVER, 1, samples)


def broken(findings: list[Finding]) -> set[str]:
    return {finding.what for finding in findings if not finding.ok}


@pytest.mark.parametrize("seed", range(5))
def test_a_process_whose_caches_fill_and_whose_jobs_come_and_go_is_well(seed: int) -> None:
    findings = judging.judge_life(life(seed=seed))
    assert len(findings) == 3
    assert broken(findings) == set()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("leak", "what"),
    [
        ({"grows": 1.5}, "memory growth"),
        ({"fds": 3.0}, "descriptors, spread"),
        ({"threads": 2.0}, "threads, spread"),
    ],
)
def test_what_grows_is_found(leak: dict[str, float], what: str, seed: int) -> None:
    assert broken(judging.judge_life(life(seed=seed, **leak))) == {what}


def test_a_peak_is_no_growth() -> None:
    measured = life()
    for number in range(120, 130):
        sample = measured.samples[number]
        measured.samples[number] = msgspec.structs.replace(sample, uss_mib=sample.uss_mib + 500)
    assert broken(judging.judge_life(measured)) == set()


def test_a_life_that_ends_before_its_caches_are_full_says_nothing_and_one_long_life_is_needed() -> None:
    short = life(1.5)
    assert judging.judge_life(short) == []
    assert broken(judging.judge_lives([short], [SERVER])) == {"lives too short to be judged"}
    assert broken(judging.judge_lives([short, life()], [SERVER])) == set()
    assert broken(judging.judge_lives([short, life()], [SERVER, FIRST])) == {"lives too short to be judged"}


def test_many_samples_are_made_few_and_keep_their_slope() -> None:
    points = [(number / 1000, number / 500 + number % 7) for number in range(20_000)]
    assert judging.slope(points) == pytest.approx(2.0, abs=0.05)
    with pytest.raises(ValueError, match="two points"):
        judging.slope([(1.0, 1.0)])


def test_a_log_that_is_never_folded_in_and_a_backlog_that_is_never_done_are_found() -> None:
    assert judging.judge_wal([1.0, 16.0, 20.0, 0.0], WAL_BOUND_MIB, 5).ok
    assert not judging.judge_wal([1.0, WAL_BOUND_MIB + 1, 0.0], WAL_BOUND_MIB, 5).ok
    assert judging.judge_open([10, 900, 5], 500, 5).ok
    assert not judging.judge_open([10, 900, 905], 500, 5).ok


@pytest.mark.parametrize("hours", [8, 10, 24, 100])
@pytest.mark.parametrize("seed", range(5))
def test_a_plan_kills_the_server_and_leaves_it_lives_that_can_be_judged(hours: float, seed: int) -> None:
    ends = plan(hours, seed)
    assert ends == plan(hours, seed) != plan(hours, seed + 1)
    kills = [end.at_h for end in ends if end.target == SERVER]
    assert kills
    lives = [later - earlier for earlier, later in zip([0.0, *kills], [*kills, hours], strict=True)]
    assert min(lives) >= SERVER_LIFE[0]
    assert lives[-1] >= SERVER_LAST
    assert sum(end.target == FIRST for end in ends) == 1
    assert {end.signal for end in ends if end.target == THIRD} == {signal.SIGKILL, signal.SIGTERM}


def test_errors_and_tracebacks_of_a_log_are_counted_and_what_it_prints_at_its_start_is_not(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "ScheduleZero runs.\n"
        '{"level":"info","event":"server_started"}\n'
        '{"level":"warning","event":"node_lost","node_id":"n1"}\n'
        '{"level":"error","event":"store_unavailable"}\n'
        "Traceback (most recent call last):\n"
    )
    assert complaints(log) == {"error store_unavailable": 1, "traceback": 1, "warning node_lost": 1}


@pytest.mark.parametrize(("growth", "verdict"), [(0.2, "well"), (1.2, "NOT WELL")])
def test_the_table_shows_every_figure_beside_its_bound_and_the_verdict(growth: float, verdict: str) -> None:
    grown = Finding("memory growth", "server, life 1", growth, 1.0, "MiB/h", 4.0)
    outcome = _outcome([grown], Report())
    shown = io.StringIO()
    show(outcome, Console(width=160, file=shown))
    text = shown.getvalue()
    assert f"{growth:.3f} MiB/h" in text
    assert f"{growth * 60:.1f}" in text
    assert verdict in text.splitlines()


def test_a_broken_promise_is_no_good_run() -> None:
    report = Report()
    assert _outcome([], report).ok
    report.found("C1", Verdict.DUPLICATE, "schedule s", "twice")
    assert not _outcome([], report).ok


def _outcome(findings: list[Finding], report: Report) -> Outcome:
    return Outcome(
        minutes=5,
        speedup=60,
        seed=1,
        hours=5,
        ends=[],
        lives=[life()],
        findings=findings,
        store=[(0.0, 1.0, 2.0, 3)],
        answers={},
        complaints={},
        report=report,
        promises_ok=report.ok,
    )
