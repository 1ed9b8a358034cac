"""The benchmark's arithmetic and verdicts: a benchmark that computes wrongly is worse than none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.budget import BUDGET, Reference, judge
from benchmarks.load import LoadError, Target, deal, parse_reply
from benchmarks.profiling import parse_stacks, top_functions
from benchmarks.records import judge_interval, parse_us
from benchmarks.report import Measured, document, judge_all, missed, show
from benchmarks.stats import paired_ratios, percentile, ratio, summarise

REFERENCE = Reference(floor_jobs_s=40_000, fsync_s=0.0002)
LINES = {line.key: line for line in BUDGET}


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 51) == 2.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 100))
def test_at_least_so_many_percent_of_the_values_lie_at_or_below_the_percentile(values, percent):
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9 * len(values)


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_a_percentile_outside_its_range_is_refused(percent):
    with pytest.raises(ValueError, match=r"\(0, 100\]"):
        percentile([1.0], percent)


def test_nothing_measured_is_an_error_and_not_zero():
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


def test_a_summary_names_median_extremes_and_spread():
    summary = summarise([10.0, 30.0, 20.0])
    assert (summary.median, summary.low, summary.high, summary.spread, summary.rounds) == (20, 10, 30, 1.0, 3)
    assert summarise([0.0, 0.0]).spread == 0


def test_ratios_pair_each_round_with_its_own_floor():
    assert paired_ratios([10, 30], [20, 40]) == [0.5, 0.75]
    with pytest.raises(ValueError, match="do not pair"):
        paired_ratios([1], [1, 2])
    with pytest.raises(ValueError, match="positive"):
        ratio(1, 0)


def test_relative_bounds_follow_the_floor_and_the_disk_of_the_same_run():
    throughput = judge(LINES["w1_jobs_per_s"], 15_000, REFERENCE)
    assert (throughput.must, throughput.aim) == (10_000, 20_000)
    assert (throughput.must_met, throughput.aim_met) == (True, False)
    latency = judge(LINES["w2_p50_s"], 0.0043, REFERENCE)
    assert (latency.must, latency.aim) == (pytest.approx(0.0042), pytest.approx(0.0024))
    assert (latency.must_met, latency.aim_met) == (False, False)


def test_a_bound_that_is_reached_exactly_is_met():
    assert judge(LINES["w3_create_one_per_s"], 1_000, REFERENCE).must_met
    assert judge(LINES["w4_interval_missing"], 0, REFERENCE).aim_met
    assert not judge(LINES["w4_interval_missing"], 1, REFERENCE).must_met


def test_an_aim_is_never_easier_than_its_must():
    for line in BUDGET:
        must, aim = line.must.value(REFERENCE), line.aim.value(REFERENCE)
        assert aim >= must if line.higher_is_better else aim <= must, line.key


def test_a_missed_must_fails_the_run_and_a_work_left_out_is_shown_as_such():
    measured = Measured()
    measured.add("w1_jobs_per_s", 9_000)
    measured.add("w6_first_job_s", 1.0)
    judged = judge_all(measured, REFERENCE)
    assert missed(judged) == ["w1_jobs_per_s"]
    written = document(measured, judged, REFERENCE, {"quick": True})
    assert written["passed"] is False
    lines = {line["key"]: line for line in written["budget"]}
    assert lines["w1_jobs_per_s"]["must_met"] is False
    assert lines["w6_first_job_s"]["aim_met"] is True
    assert "median" not in lines["w2_p50_s"]
    assert written["figures"]["w1_jobs_per_s"]["values"] == [9_000]


def test_figures_are_shown_in_the_unit_in_which_people_think():
    assert show(12_345.6, "/s") == "12,346/s"
    assert show(0.0021, "s") == "2.10 ms"
    assert show(1.5, "s") == "1.50 s"
    assert show(61.04, "MB") == "61.0 MB"
    assert show(0.0123, "share") == "1.2%"


def test_a_complete_ledger_has_no_gap():
    rows = [(1_000 + n * 10, "executed", 1) for n in range(5)]
    report = judge_interval(rows, 10)
    assert (report.nominal_times, report.executed, report.missing, report.not_executed) == (5, 5, 0, 0)


def test_a_gap_a_double_and_an_early_end_are_all_missing():
    rows = [(1_000 + n * 10, "executed", 1) for n in (0, 1, 3)]
    assert judge_interval(rows, 10).missing == 1
    assert judge_interval([*rows, (1_010, "executed", 1)], 10).missing == 2
    assert judge_interval(rows, 10, until_us=1_062).missing == 4
    assert judge_interval([], 10).missing == 1


def test_a_summarising_row_stands_for_all_its_nominal_times():
    rows = [(1_000, "executed", 1), (1_010, "missed", 3), (1_040, "executed", 1)]
    report = judge_interval(rows, 10)
    assert (report.nominal_times, report.executed, report.missing, report.not_executed) == (5, 2, 0, 3)


def test_moments_are_read_exactly():
    assert parse_us("1970-01-01T00:00:01.000001Z") == 1_000_001
    assert parse_us("2026-11-20T13:24:51.123456Z") - parse_us("2026-11-20T13:24:51Z") == 123_456


def test_a_reply_is_cut_at_its_content_length():
    whole = b"HTTP/1.1 201 Created\r\nServer: x\r\ncontent-length: 5\r\nX: y\r\n\r\nhello"
    for length in range(len(whole)):
        assert parse_reply(whole[:length]) is None
    status, start, end = parse_reply(whole + b"next") or (0, 0, 0)
    assert (status, (whole + b"next")[start:end]) == (201, b"hello")
    assert parse_reply(b"HTTP/1.1 204 No Content\r\n\r\n") == (204, 27, 27)


def test_a_reply_without_a_length_is_refused_rather_than_waited_for():
    with pytest.raises(LoadError, match="Content-Length"):
        parse_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_requests_are_whole_and_carry_the_token():
    request = Target(host="127.0.0.1", port=1, token="secret").encode("POST", "/api/x", b"{}")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/x HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret" in head
    assert b"Content-Length: 2" in head
    assert body == b"{}"


def test_requests_are_dealt_to_all_callers_and_none_is_lost():
    hands = [list(hand) for hand in deal([bytes([n]) for n in range(10)], 4)]
    assert [len(hand) for hand in hands] == [3, 3, 2, 2]
    assert sorted(b"".join(b"".join(hand) for hand in hands)) == list(range(10))


def test_stacks_are_read_with_their_thread_and_functions_lose_their_line_numbers():
    raw = (
        "thread (12): MainThread;main (a.py:1);work (a.py:7) 3\n"
        'thread (13): "writer";run (b.py:2) 2\n'
        "plain (c.py:1) 1\n"
    )
    stacks = parse_stacks(raw)
    assert [(stack.thread, stack.samples) for stack in stacks] == [("MainThread", 3), ("writer", 2), ("", 1)]
    own, total = top_functions(stacks)
    assert own == {"work (a.py)": 3, "run (b.py)": 2, "plain (c.py)": 1}
    assert total["main (a.py)"] == 3
    recursive = top_functions(parse_stacks("f (a.py:1);f (a.py:2) 5"))
    assert recursive[1] == {"f (a.py)": 5}
