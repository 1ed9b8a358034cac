"""The signature of a failure: alike is what differs only in what changes from run to run."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.model import Execution, JobError, State
from schedule_zero.rules.signature import MAX_NORMAL, normal, raised_in, signature

ROW = Execution(id="a", handler_id="shop", job_method="charge")
TRACE = """Traceback (most recent call last):
  File "/srv/jobs/shop.py", line {line}, in charge
    gateway.pay(order)
  File "/srv/jobs/gateway.py", line 9, in pay
    return httpx.post(url)
  File "/usr/lib/python3.11/site-packages/httpx/_api.py", line 300, in post
    raise ReadTimeout
httpx.ReadTimeout: x
"""


def error(message: str = "no", kind: str = "ValueError", traceback: str = "") -> JobError:
    return JobError(type=kind, message=message, traceback=traceback)


def of(message: str = "no", kind: str = "ValueError", traceback: str = "", row: Execution = ROW) -> str:
    found = signature(row, State.FAILED, error(message, kind, traceback))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 not found", "order 90210 not found"),
        ("took 1.5 s, at most 1 s", "took 12.75 s, at most 30 s"),
        ("-3 is below 0", "+17 is below 0"),
        ("no user 'ann'", "no user 'bob'"),
        ('no user "ann"', 'no user "bob and others"'),
        ("row 8f14e45f-ceea-467f-a8f1-7d5c0d1a2b3c is locked", "row 00000000-0000-4000-8000-000000000000 is locked"),
        ("cannot read /srv/data/2030-01-01.csv", "cannot read /tmp/x/y.csv"),
        (r"cannot read C:\data\a.csv", r"cannot read D:\other\b.csv"),
        ("connect to 10.0.0.7:5432 refused", "connect to 192.168.1.20:5433 refused"),
        ("connect to [2001:db8::1]:80 refused", "connect to [fe80:1:2:3::9]:443 refused"),
        ("GET https://a.example/x?id=1 gave 503", "GET http://b.example/y gave 502"),
        ("mail to ann@example.org bounced", "mail to bob.b@mail.example.com bounced"),
        ("<Order object at 0x7f12ab34cd56>", "<Order object at 0x55aa00ff1122>"),
        ("commit d670460b4b4aece5915caf5c68d12f560a9fe3e4", "commit 0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"),
        ("execution 01k8zx3m9q2w4e6r8t0y1v3b5n is over", "execution 01k9aaaaaa2w4e6r8t0y1v3b5n is over"),
        ("bad values [1, 2, 3]", "bad values [9, 8, 7, 6, 5]"),
        ("too   many\n  spaces", "too many spaces"),
    ],
)
def test_messages_that_differ_in_what_changes_from_run_to_run_are_one_group(one, other):
    assert normal(one) == normal(other)
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 not found", "order 17 is paid"),
        ("connection refused", "connection reset"),
        ("no user 'ann'", "no group 'ann'"),
        ("don't", "do"),
    ],
)
def test_messages_that_say_something_else_are_two_groups(one, other):
    assert of(one) != of(other)


def test_another_type_place_method_or_handler_is_another_group():
    other_row = Execution(id="b", handler_id="shop", job_method="refund")
    split_otherwise = Execution(id="c", handler_id="shop.charge", job_method="x")
    joined = Execution(id="c", handler_id="shop", job_method="charge.x")
    found = {
        of(),
        of(kind="KeyError"),
        of(traceback=TRACE.format(line=1)),
        of(row=other_row),
        of(row=split_otherwise),
        of(row=joined),
    }
    assert len(found) == 6


def test_another_line_of_the_same_function_is_the_same_group():
    assert of(traceback=TRACE.format(line=10)) == of(traceback=TRACE.format(line=99))


def test_it_was_raised_in_the_last_frame_of_the_jobs_own_code():
    assert raised_in(TRACE.format(line=1)) == "gateway.py:pay"


def test_where_all_frames_are_others_code_the_last_one_counts():
    assert raised_in('  File "/usr/lib/python3.11/json/decoder.py", line 1, in decode\n') == "decoder.py:decode"
    assert raised_in("") == ""
    assert raised_in(r'  File "C:\jobs\shop.py", line 3, in charge') == "shop.py:charge"


@pytest.mark.parametrize("state", [state for state in State if state not in ("failed", "timeout", "dead")])
def test_only_failed_timeout_and_dead_are_dead_letters(state):
    assert signature(ROW, state, error()) is None


def test_a_failure_without_an_error_is_grouped_by_its_state():
    assert signature(ROW, State.DEAD, None) != signature(ROW, State.TIMEOUT, None)


def test_it_names_its_job_and_is_the_same_in_every_process():
    assert of("order 17 not found") == "shop.charge:" + of("order 17 not found")[-16:]
    # Stored for months, compared with what later releases compute: a change is a decision, not an accident.
    assert of("order 17 not found", traceback=TRACE.format(line=1)) == "shop.charge:9b0e8b3c9096c0d9"


@given(st.text(), st.integers(), st.integers())
def test_whatever_the_text_around_it_a_number_is_a_number(text, one, other):
    assert normal(f"{text} {one}") == normal(f"{text} {other}")


@given(st.text(max_size=300), st.text(max_size=100), st.text(max_size=300))
def test_a_signature_is_bounded_and_never_raises(message, kind, traceback):
    found = of(message, kind, traceback)
    assert len(found) == len("shop.charge:") + 16
    assert found == of(message, kind, traceback)
    assert len(normal(message * 50)) <= MAX_NORMAL


HARD = ("a", "a-", "'", '"a', "/a", "1.", "a@", "0:", "ab1", "<n> ", "`", "a.b@c-", "http:/", "f", "\\a/")


@pytest.mark.parametrize("text", HARD)
def test_no_message_takes_long(text):
    message = (text * 40_000)[:32_768]
    began = time.perf_counter()
    normal(message)
    assert time.perf_counter() - began < 0.25
