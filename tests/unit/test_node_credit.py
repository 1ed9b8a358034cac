from __future__ import annotations

from schedule_zero.node.credit import FORGET_S, MAX_WINDOW, CreditWindow


def run(window: CreditWindow, *, rate: float, job_s: float, start_s: float = 0.0, seconds: float = 1.0) -> float:
    """Completions in batches every 10 ms."""
    now_s = start_s
    while now_s < start_s + seconds:
        done = max(1, round(rate * 0.01))
        window.note(done, done * job_s, now_s - 0.011, now_s)
        now_s += 0.01
    return now_s


def test_it_begins_with_the_slots() -> None:
    window = CreditWindow(8)
    assert window.change(0.0) == 8
    assert window.change(0.0) is None


def test_short_jobs_are_prefetched_for_about_100_ms() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=5_000, job_s=0.0005)
    assert 400 <= window.window(now_s) <= 700


def test_it_is_capped() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=100_000, job_s=0.00001)
    assert window.window(now_s) == MAX_WINDOW


def test_long_jobs_are_not_hoarded_even_if_many_end_at_once() -> None:
    window = CreditWindow(10)
    window.note(5, 5 * 10.0, 90.0, 100.0)
    window.note(5, 5 * 10.0, 90.006, 100.006)
    assert window.window(100.006) <= 11


def test_one_burst_is_enough_to_learn_from() -> None:
    window = CreditWindow(4)
    window.note(1000, 0.08, 99.98, 100.0)
    assert window.window(100.0) > 1000


def test_time_without_work_is_not_slowness() -> None:
    window = CreditWindow(4)
    window.note(1000, 0.08, 99.98, 100.0)
    window.note(1000, 0.08, 101.48, 101.5)
    assert window.window(101.5) > 1000


def test_it_shrinks_when_jobs_turn_long() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=10_000, job_s=0.0005)
    assert window.window(now_s) > 500
    for _ in range(20):
        now_s += 0.5
        window.note(5, 5 * 1.0, now_s - 1.0, now_s)
    assert window.window(now_s) <= 15


def test_what_was_measured_is_forgotten_when_idle() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=10_000, job_s=0.0005)
    assert window.window(now_s + FORGET_S + 0.1) == 10


def test_small_changes_are_not_worth_a_message() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=5_000, job_s=0.0005)
    first = window.change(now_s)
    now_s = run(window, rate=5_200, job_s=0.0005, start_s=now_s, seconds=0.2)
    assert first is not None
    assert window.change(now_s) is None


def test_pausing_closes_it_at_once_and_each_reason_has_to_go() -> None:
    window = CreditWindow(10)
    assert window.change(0.0) == 10
    window.pause("disk")
    window.pause("drain")
    assert window.change(0.0) == 0
    window.unpause("disk")
    assert window.change(0.0) is None
    window.unpause("drain")
    assert window.change(0.0) == 10


def test_slots_whose_thread_does_not_return_are_not_offered() -> None:
    window = CreditWindow(2)
    window.block(1)
    assert window.window(0.0) == 1
    window.block(2)
    assert window.window(0.0) == 0


def test_overcommitted_falls_back_to_the_slots() -> None:
    window = CreditWindow(10)
    now_s = run(window, rate=10_000, job_s=0.0005)
    window.overcommitted()
    assert window.change(now_s) == 10


def test_a_new_session_is_told_anew() -> None:
    window = CreditWindow(3)
    assert window.change(0.0) == 3
    window.forget_sent()
    assert window.change(0.0) == 3


def test_it_grows_although_each_batch_waits_for_a_trip_to_the_server() -> None:
    window = CreditWindow(10)
    now_s = 100.0
    for _ in range(10):
        now_s += 0.002
        window.note(10, 0.001, now_s - 0.0005, now_s)
    assert window.window(now_s) > 300
