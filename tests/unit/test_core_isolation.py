"""What the dispatch core does about isolated jobs: it passes their limits on, and keeps what they used."""

from __future__ import annotations

import pytest

from schedule_zero.job_options import Isolation, JobOptions
from schedule_zero.model import AttemptOutcome, JobError, State
from schedule_zero.rules.birth import outfit
from schedule_zero.rules.options import Source, effective, options_of
from tests.unit.core_world import World


@pytest.fixture
def world():
    return World()


def options(method=None, **fields):
    return outfit(JobOptions(**fields), JobOptions(**(method or {})), Source.SUBMISSION).options


def limits(item):
    return (item.isolation, item.memory_mb, item.cpu_percent, item.cpu_s)


NO_LIMITS = (Isolation.NONE, None, None, None)


def test_an_isolated_attempt_is_sent_with_its_limits_and_any_other_without(world):
    node = world.node()
    world.run(options=options(isolation="process", memory_mb=64, cpu_percent=50, cpu_s=1.5))
    world.run(options=options(isolation="process"))
    world.run(options=options(priority=9))
    world.run()
    assert [limits(item) for item in node.work()] == [
        ("process", 64, 50, 1.5),
        ("process", None, None, None),
        NO_LIMITS,
        NO_LIMITS,
    ]


def test_limits_without_a_process_are_not_sent(world):
    node = world.node()
    world.run(options=options({"memory_mb": 64}, isolation="none"))
    [item] = node.work()
    assert limits(item) == NO_LIMITS


@pytest.mark.parametrize("limit", [{"memory_mb": 64}, {"cpu_percent": 50}, {"cpu_s": 1.0}])
def test_who_limits_a_process_means_one(limit):
    chosen = effective({Source.SUBMISSION: JobOptions(**limit), Source.METHOD: JobOptions()})
    assert chosen.isolation is Isolation.PROCESS
    assert chosen.sources["isolation"] is Source.SUBMISSION


def test_the_narrower_word_on_isolation_wins_and_a_limit_of_the_method_stays():
    submission, method = JobOptions(memory_mb=64), JobOptions(isolation=Isolation.PROCESS, cpu_s=2.0)
    chosen = options_of(outfit(submission, method, Source.SUBMISSION).options)
    assert (chosen.isolation, chosen.memory_mb, chosen.cpu_s) == (Isolation.PROCESS, 64, 2.0)
    refused = effective({Source.SUBMISSION: JobOptions(isolation=Isolation.NONE), Source.METHOD: method})
    assert refused.isolation is Isolation.NONE


def test_what_an_attempt_used_is_recorded_with_its_end(world):
    node = world.node()
    first, second = world.run(2, options=options(isolation="process"))
    one, two = node.work()
    node.report(one, result=b"1", cpu_us=1500, peak_rss_bytes=30 << 20)
    node.report(two, outcome=AttemptOutcome.FAILED, error=JobError(type="E", message="m"), cpu_us=7, peak_rss_bytes=9)
    assert (world.ledger[first].cpu_us, world.ledger[first].peak_rss_bytes) == (1500, 30 << 20)
    assert (world.ledger[second].cpu_us, world.ledger[second].peak_rss_bytes) == (7, 9)


def test_each_attempt_keeps_what_it_used(world):
    node = world.node()
    [execution_id] = world.run(options=options(isolation="process", max_attempts=2, retry_delay_s=1))
    [item] = node.work()
    node.report(item, outcome=AttemptOutcome.FAILED, error=JobError(type="E", message="m"), cpu_us=5, peak_rss_bytes=6)
    world.advance(2, alive=[node])
    world.release_due()
    [again] = node.work()
    node.report(again, result=b"1", cpu_us=50, peak_rss_bytes=60)
    record = world.ledger[execution_id]
    assert record.state is State.COMPLETED
    assert record.used == {item.token: (5, 6)}
    assert (record.cpu_us, record.peak_rss_bytes) == (50, 60)


def test_a_stale_result_keeps_its_usage_too(world):
    first = world.node("n1")
    [execution_id] = world.run(options=options(isolation="process"))
    [old] = first.work()
    first.disconnect()
    world.advance(17)
    second = world.node("n2")
    [new] = second.work()
    first.hello()
    first.report(old, result=b"1", cpu_us=5, peak_rss_bytes=6)
    second.report(new, result=b"2")
    assert [(row.cpu_us, row.peak_rss_bytes) for row in world.ledger.stale] == [(5, 6)]
    assert world.ledger[execution_id].cpu_us is None
