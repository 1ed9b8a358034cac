"""The sample schedules are what a first user sees: they have to be right."""

from __future__ import annotations

import msgspec
import pytest

from schedule_zero.demo import sample_schedules
from schedule_zero.timing import parse_trigger
from schedule_zero.web.api.schemas import ScheduleBody

NOW_US = 1_763_640_000_000_000  # 2025-11-20T12:00:00Z

SAMPLES = sample_schedules()


def test_there_are_five_with_ids_of_their_own():
    assert len({sample["id"] for sample in SAMPLES}) == 5


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_each_is_a_schedule_that_the_api_takes(sample):
    body = msgspec.json.decode(msgspec.json.encode(sample), type=ScheduleBody)
    trigger = parse_trigger(body.spec().trigger, now_us=NOW_US)
    assert trigger.next_after(NOW_US) is not None


def test_a_caller_may_change_what_it_got():
    sample_schedules()[0]["id"] = "changed"
    assert sample_schedules()[0]["id"] != "changed"
