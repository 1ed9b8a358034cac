"""A schedule as a form: shown and sent back untouched it is the same, and what is wrong is said at its field."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.errors import InvalidField, InvalidTrigger
from schedule_zero.job_options import JobOptions
from schedule_zero.model import CatchUp, JobMethod, Overlap, Policies, Schedule, ScheduleState
from schedule_zero.rules.options import Source, effective
from schedule_zero.timing import parse_trigger
from schedule_zero.web.pages.duration_text import duration_text, seconds_of
from schedule_zero.web.pages.fields import FormField, Widget, field_id, place, walk
from schedule_zero.web.pages.job_form import AS_JSON, params_shape, turned
from schedule_zero.web.pages.option_fields import (
    GRACE_NAME,
    OPTION_GROUPS,
    POLICY_GROUPS,
    fields_of_options,
    fields_of_policies,
    option_groups,
    policy_groups,
    read_options,
    read_policies,
)
from schedule_zero.web.pages.schedule_form import add_error, fields_of_schedule, read_schedule
from schedule_zero.web.pages.trigger_form import (
    TYPE,
    fields_of_trigger,
    kept,
    kind_of,
    read_trigger,
    shown_trigger,
)

NOW_US = 1_800_000_000_000_000
ECHO = JobMethod(name="echo", schema=b'{"type": "object"}')
ADD = JobMethod(
    name="add",
    schema=b'{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}, "required": ["a"], '
    b'"additionalProperties": false}',
)
TRIGGERS = [
    {"type": "cron", "expression": "30 9 * * MON-FRI", "timezone": "Europe/Berlin"},
    {"type": "cron", "expression": "H H * * *", "start": "+2h", "end": "2030-01-01", "dst_gap": "skip"},
    {"type": "cron", "hour": 3},
    {"type": "interval", "hours": 1, "minutes": 30},
    {"type": "interval", "milliseconds": 250, "anchor": "end"},
    {"type": "interval", "seconds": 1.5, "weeks": 1},
    {"type": "date", "run_date": "2030-01-01T09:00:00", "timezone": "Asia/Tokyo"},
    {"type": "date", "run_date": 1_900_000_000},
    {"type": "calendar", "days": 1, "at": "09:30"},
    {"type": "calendar", "weeks": 2, "on": ["MON", "THU"], "at": "09:30:15"},
    {"type": "calendar", "months": 3, "on": ["15th day", "last friday"], "end_date": "2040-01-01"},
    {"type": "calendar", "years": 1, "month": "november", "on": "4th thursday"},
    {"type": "startup"},
    {"type": "manual"},
    {"type": "or", "triggers": [{"type": "cron", "expression": "0 9 * * *"}, {"type": "startup"}]},
    [{"type": "cron", "expression": "0 9 * * *"}, {"type": "cron", "expression": "0 12 * * SAT"}],
]


def schedule(**changes) -> Schedule:
    trigger = parse_trigger(changes.pop("trigger", TRIGGERS[0]), now_us=NOW_US, seed="nightly").encoded()
    facts = {"id": "nightly", "handler_id": "demo", "job_method": "add", "params": b'{"a":1}', "trigger": trigger}
    return Schedule(**(facts | changes))


def by_pointer(fields: list[FormField]) -> dict[str, FormField]:
    return {one.pointer: one for one in walk(fields)}


# --- durations --------------------------------------------------------------------------------------


@given(st.floats(min_value=0, max_value=1e9) | st.integers(0, 10**9).map(float))
def test_a_duration_is_read_as_the_number_that_it_was(seconds):
    assert seconds_of(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("10s", 10.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        (" 1H 30M ", 5400.0),
        ("1.5d", 129600.0),
    ],
)
def test_durations_are_read_as_people_type_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1x", "h", "10s5s", "-1s", "1h 30", "", "1e400", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="expected a duration such as 10s, 250ms or 1h30m"):
        seconds_of(text)


# --- triggers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", TRIGGERS, ids=str)
def test_a_stored_trigger_comes_back_as_it_was(document):
    stored = parse_trigger(document, now_us=NOW_US, seed="s").document()
    errors: dict[str, str] = {}

    again, zone = read_trigger(fields_of_trigger(stored), errors)

    assert not errors
    assert parse_trigger(again, zone=zone or "UTC").document() == stored


@pytest.mark.parametrize("document", TRIGGERS, ids=str)
def test_a_trigger_as_the_api_takes_it_means_the_same_in_the_form(document):
    errors: dict[str, str] = {}

    again, zone = read_trigger(fields_of_trigger(document, "Europe/Paris"), errors)

    def meant(what, in_zone):
        return parse_trigger(what, zone=in_zone, now_us=NOW_US, seed="s").document()

    assert not errors
    assert meant(again, zone or "UTC") == meant(document, "Europe/Paris")


def test_kinds_with_fields_are_not_shown_as_json():
    kinds = [kind_of(fields_of_trigger(parse_trigger(one, now_us=NOW_US, seed="s").document())) for one in TRIGGERS]

    assert (
        kinds
        == ["cron"] * 3 + ["interval"] * 3 + ["date"] * 2 + ["calendar"] * 4 + ["startup", "manual"] + ["json"] * 2
    )


@pytest.mark.parametrize(
    ("fields", "pointer", "said"),
    [
        ({"type": "interval", "every": "often"}, "/trigger/every", "expected a duration"),
        ({"type": "interval"}, "/trigger/every", "expected a duration"),
        ({"type": "cron"}, "/trigger/expression", "expected a cron expression"),
        ({"type": "date"}, "/trigger/run_date", "expected a moment"),
        ({"type": "calendar", "amount": "two"}, "/trigger/amount", "expected a whole number"),
    ],
)
def test_a_field_that_cannot_be_read_says_what_was_expected(fields, pointer, said):
    errors: dict[str, str] = {}

    document, _ = read_trigger([(f"/trigger/{key}", value) for key, value in fields.items()], errors)

    assert document is None
    assert said in errors[pointer]


def test_json_that_is_no_trigger_is_said_at_its_field():
    errors: dict[str, str] = {}

    assert read_trigger([(TYPE, "json"), ("json:/trigger", "[{")], errors) == (None, None)

    assert errors["/trigger"].startswith("not JSON")


def test_what_was_typed_of_another_kind_is_kept():
    pairs = [
        (TYPE, "interval"),
        ("/trigger/every", "10s"),
        ("/trigger/expression", "0 9 * * *"),
        ("json:/trigger", "{}"),
    ]

    assert kept(pairs) == [("/trigger/expression", "0 9 * * *"), ("json:/trigger", "{}")]
    assert [one.pointer for one in shown_trigger(pairs)[0]] == ["/trigger/every"]


# --- options and policies ---------------------------------------------------------------------------


def test_every_option_and_policy_has_a_field():
    options = {name for group in OPTION_GROUPS.values() for name in group}
    policies = {name.partition("/")[0] for group in POLICY_GROUPS.values() for name in group}

    assert options == set(JobOptions.__struct_fields__)
    assert policies == {*Policies.__struct_fields__, GRACE_NAME}


def test_options_come_back_as_they_were():
    options = JobOptions(
        priority=-3,
        max_attempts=5,
        backoff="list",
        retry_delays_s=(0.25, 10.0, 5400.0),
        retry_jitter=False,
        retry_on=("transient", "ConnectionError"),
        timeout_s=90.0,
        require=('zone in (eu, "u s")', "gpu"),
        unique_key="{report}",
        idempotent=True,
    )
    errors: dict[str, str] = {}

    again = read_options(fields_of_options(options), errors)

    assert not errors
    assert msgspec.convert(again, JobOptions) == msgspec.convert(msgspec.to_builtins(options), JobOptions)


def test_policies_come_back_as_they_were():
    policies = msgspec.convert(
        {
            "catch_up": "all",
            "catch_up_max": 7,
            "coalesce": True,
            "exclude": ["holidays", "inventory"],
            "business_days": {"calendar": "works", "rule": "next"},
            "jitter_s": 300,
            "keep_s": 604_800,
        },
        Policies,
    )
    errors: dict[str, str] = {}

    again = read_policies(fields_of_policies(policies), errors)

    assert not errors
    assert msgspec.convert(again, Policies) == policies


def test_half_of_the_business_days_is_said():
    errors: dict[str, str] = {}

    read_policies([("/policies/business_days/calendar", "works")], errors)

    assert list(errors) == ["/policies/business_days/rule"]


def test_an_empty_field_says_what_is_in_force_and_who_says_so():
    in_force = effective({Source.METHOD: JobOptions(max_attempts=5, on_lost="fail")})

    fields = by_pointer(option_groups([], in_force))

    assert fields["/options/max_attempts"].placeholder == "5 (the method)"
    assert fields["/options/retry_delay_s"].placeholder == "5s (default)"
    assert fields["/options/on_lost"].choices[0] == ("", "fail (the method)")
    assert by_pointer(policy_groups([], 10.0, 3600.0))["/misfire_grace_s"].placeholder == "10s (the server)"


def test_a_retry_says_which_options_its_execution_had():
    in_force = effective({Source.SUBMISSION: JobOptions(priority=9), Source.SCHEDULE: JobOptions(timeout_s=60)})

    fields = by_pointer(option_groups([], in_force, "this execution"))

    assert fields["/options/priority"].placeholder == "9 (this execution)"
    assert fields["/options/timeout_s"].placeholder == "1m (the schedule)"


def test_a_group_in_which_something_is_said_is_open():
    retries, limits, *_ = option_groups([("/options/timeout_s", "1m")], effective({}))

    assert (retries.said, limits.said) == (False, True)


# --- the whole schedule -----------------------------------------------------------------------------


@pytest.mark.parametrize("document", TRIGGERS, ids=str)
def test_a_schedule_comes_back_as_it_was(document):
    policies = Policies(catch_up=CatchUp.ALL, overlap=Overlap.SKIP)
    row = schedule(
        trigger=document,
        options=msgspec.json.encode(JobOptions(timeout_s=0.5)),
        policies=msgspec.json.encode(policies),
        state=ScheduleState.PAUSED,
        note="not <b>now</b>",
        misfire_grace_s=90.0,
    )
    shape = params_shape(ADD)

    draft = read_schedule(fields_of_schedule(row, shape, 10.0), shape, "nightly")

    assert not draft.errors
    assert draft.spec is not None
    assert (draft.spec.id, bytes(draft.spec.job_params)) == ("nightly", b'{"a": 1}')
    assert parse_trigger(draft.spec.trigger, zone=draft.spec.timezone or "UTC").encoded() == row.trigger
    assert (draft.spec.options.timeout_s, draft.spec.policies) == (0.5, policies)
    assert (draft.spec.paused, draft.spec.note, draft.spec.misfire_grace_s) == (True, "not <b>now</b>", 90.0)


def test_a_copy_has_hashed_times_of_its_own():
    row = schedule(trigger={"type": "cron", "expression": "H H * * *"})
    shape = params_shape(ADD)

    assert dict(fields_of_schedule(row, shape, 10.0))["/trigger/seed"] == "nightly"
    assert "/trigger/seed" not in dict(fields_of_schedule(row, shape, 10.0, copy=True))


def test_how_a_schedule_ended_is_no_note_of_what_is_made_of_it():
    row = schedule(state=ScheduleState.QUARANTINED, note="the calendar is gone")

    assert dict(fields_of_schedule(row, params_shape(ADD), 10.0))["/note"] == ""


def test_all_that_is_missing_is_said_at_once():
    draft = read_schedule([("/options/max_attempts", "many")], params_shape(None))

    assert draft.spec is None
    assert draft.errors == {
        "/handler_id": "expected a handler: choose one",
        "/job_method": "expected a method: choose one",
        "/trigger/expression": "expected a cron expression",
        "/options/max_attempts": "expected a whole number, got 'many'",
    }


def test_what_the_api_refuses_is_refused_in_its_words_at_the_field():
    pairs = [("/handler_id", "demo"), ("/job_method", "echo"), ("/trigger/expression", "@daily")]

    draft = read_schedule([*pairs, ("/options/max_attempts", "0")], params_shape(ECHO))

    assert list(draft.errors) == ["/options/max_attempts"]
    assert draft.errors["/options/max_attempts"] == "expected int >= 1, got 0"


@pytest.mark.parametrize(
    ("kind", "pointer", "field"),
    [
        ("interval", "/trigger/seconds", "/trigger/every"),
        ("calendar", "/trigger/weeks", "/trigger/amount"),
        ("cron", "/trigger", "/trigger/expression"),
        ("cron", "/trigger/start", "/trigger/start"),
        ("date", "/trigger", "/trigger/run_date"),
    ],
)
def test_an_error_of_the_trigger_finds_its_field(kind, pointer, field):
    draft = read_schedule([(TYPE, kind)], params_shape(None))
    draft.errors = {}

    add_error(draft, InvalidTrigger("no", pointer=pointer, hint="try another"))

    assert draft.errors == {field: "no; try another"}


def test_an_error_in_a_trigger_as_json_says_where_in_it():
    draft = read_schedule([(TYPE, "json"), ("json:/trigger", "[]")], params_shape(None))
    draft.errors = {}

    add_error(draft, InvalidTrigger("no", pointer="/trigger/0/expression"))

    assert draft.errors == {"/trigger": "0/expression: no"}


def test_an_error_is_told_at_the_field_that_holds_what_it_is_about():
    tags = FormField(pointer="/job_params/tags", label="tags")
    whole = FormField(pointer="/job_params", label="", widget=Widget.GROUP, members=[tags])

    problems = place([whole], {"/job_params/tags/3": "too long", "/elsewhere": "lost", "/job_params/x": "unknown"})

    assert (tags.error, whole.error) == ("too long", "unknown")
    assert [(one.label, one.message, one.id) for one in problems] == [
        ("tags", "too long", "f-job_params-tags"),
        ("", "lost", ""),
        ("", "unknown", "f-job_params"),
    ]


def test_no_error_is_lost_for_want_of_a_pointer():
    draft = read_schedule([], params_shape(None))
    draft.errors = {}

    add_error(draft, InvalidField("the store is full"))

    assert place([], draft.errors)[0].message == "the store is full"


@given(st.text(max_size=80), st.text(max_size=80))
def test_ids_of_fields_are_plain_and_differ(one, other):
    ids = {field_id(f"/job_params/{one}"), field_id(f"/job_params/{other}")}

    assert all(id_.replace("-", "").replace("_", "").isalnum() and id_.isascii() for id_ in ids)
    assert len(ids) == len({one, other})


# --- fields or JSON ---------------------------------------------------------------------------------


def test_the_switch_turns_fields_into_json_and_back():
    shape = params_shape(ADD)
    pairs = [("/handler_id", "demo"), ("/job_params/a", "12345678901234567890123"), (AS_JSON, "true")]

    as_json = turned(pairs, shape)
    back = turned([pair for pair in as_json if pair[0] != AS_JSON], shape)

    assert dict(as_json)["json:/job_params"] == '{\n  "a": 12345678901234567890123\n}'
    assert back == [("/handler_id", "demo"), ("/job_params/a", "12345678901234567890123")]


def test_what_cannot_be_read_stays_where_it_was_typed():
    shape = params_shape(ADD)
    typed_wrong, broken = [("/job_params/a", "x"), (AS_JSON, "true")], [("json:/job_params", "{")]

    assert turned(typed_wrong, shape) == typed_wrong
    assert turned(broken, shape) == broken
