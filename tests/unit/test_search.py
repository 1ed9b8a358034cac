"""The search language: what is understood, what is refused and where, and that a search survives being written."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidSearch
from schedule_zero.model import State
from schedule_zero.rules.search import (
    GLOBBED,
    NAMES,
    ORIGIN_WORDS,
    STATE_WORDS,
    Qualifier,
    Search,
    Term,
    bounds_us,
    said,
    states_of,
    took_us,
)
from schedule_zero.rules.search_parse import parse
from schedule_zero.rules.search_slot import slot_at
from schedule_zero.rules.search_values import is_moment, length_us

Q = Qualifier
UTC_ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 11, 27, 10, 30, tzinfo=UTC)


def us(*parts: int, zone: str = "UTC") -> int:
    return to_us(datetime(*parts, tzinfo=ZoneInfo(zone)))


def term(text: str) -> Term:
    [one] = parse(text).terms
    return one


# --- what is understood -----------------------------------------------------------------------------


def test_the_example_is_understood():
    terms = parse("state:failed job:etl.* node:n3 key:customer-7 since:2h arg.customer:42").terms

    assert [(one.qualifier, one.values, one.path) for one in terms] == [
        (Q.STATE, (("failed",),), ()),
        (Q.JOB, (("etl.", ""),), ()),
        (Q.NODE, (("n3",),), ()),
        (Q.KEY, (("customer-7",),), ()),
        (Q.SINCE, (("2h",),), ()),
        (Q.ARG, (("42",),), ("customer",)),
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("  \t", ""),
        ("STATE:Failed,OPEN", "state:failed,open"),
        ('  job:etl.load   "no route"', 'job:etl.load "no route"'),
        ("-state:completed", "-state:completed"),
        ("-timeout", "-timeout"),
        ('"-timeout"', '"-timeout"'),
        ('"state:failed"', '"state:failed"'),
        ("arg.x:1", "arg.x:1"),
        ('"arg.x"', '"arg.x"'),
        ('"OR" or not', '"OR" or not'),
        ("12:30", "12:30"),
        ("key:a**b", "key:a*b"),
        ('key:a*""*b', "key:a*b"),
        ('key:"a*b"', 'key:"a*b"'),
        ('key:"a, b"*', 'key:"a, b"*'),
        ('key:""', 'key:""'),
        ("node:*", "node:*"),
        ('arg."a b".c[3].d:"x,y",z', 'arg."a b".c[3].d:"x,y",z'),
        ("arg.n:>=1.5e3", "arg.n:>=1.5e3"),
        ('arg.n:">5"', 'arg.n:">5"'),
        ('error:"say \\"no\\" \\\\ now"', 'error:"say \\"no\\" \\\\ now"'),
        ("error:C:\\temp,x", "error:C:\\temp,x"),
        ("took:10s", "took:>=10s"),
        ("took:<500ms", "took:<500ms"),
        ("attempt:>01", "attempt:>1"),
        ("id:01K8,01K9", "id:01k8,01k9"),
        ("01K8ZQ6M3N5P7R9T1V3X5Z7B9D", "id:01k8zq6m3n5p7r9t1v3x5z7b9d"),
        ("since:-2h until:NOW", "since:2h until:now"),
        ('since:"2026-11-27 10:00"', 'since:"2026-11-27 10:00"'),
        ("until:2026-11-27T10:00:30.5+01:00", "until:2026-11-27T10:00:30.5+01:00"),
    ],
)
def test_a_search_is_written_in_one_way_and_understood_alike(text, written):
    search = parse(text)
    assert said(search) == written
    assert parse(written) == search


def test_states_are_what_all_state_terms_allow():
    assert states_of(parse("x").terms) == set(State)
    assert states_of(parse("state:failed-like").terms) == {State.FAILED, State.TIMEOUT, State.DEAD}
    assert states_of(parse("state:over -state:completed,failed-like").terms) == {State.CANCELLED, State.MISFIRED}
    assert states_of(parse("state:open state:over").terms) == set()
    assert states_of(parse("state:pending,running -state:running").terms) == {State.PENDING}


@pytest.mark.parametrize(
    ("text", "since_us", "until_us"),
    [
        ("x", None, None),
        ("since:2h", us(2026, 11, 27, 8, 30), None),
        ("since:1d12h", us(2026, 11, 25, 22, 30), None),
        ("since:now", us(2026, 11, 27, 10, 30), None),
        ("since:today", us(2026, 11, 27), None),
        ("until:yesterday", None, us(2026, 11, 27) - 1),
        ("since:yesterday until:yesterday", us(2026, 11, 26), us(2026, 11, 27) - 1),
        ("since:2026-11-20 until:2026-11-20", us(2026, 11, 20), us(2026, 11, 21) - 1),
        ("since:2026-11-20T10:00", us(2026, 11, 20, 10), None),
        ("since:2026-11-20T10:00+02:00", us(2026, 11, 20, 8), None),
        ("until:2026-11-20T10:00:30Z", None, us(2026, 11, 20, 10, 0, 30)),
        # Several: the narrowest.
        ("since:2h since:1h until:30m until:10m", us(2026, 11, 27, 9, 30), us(2026, 11, 27, 10)),
        # Not since is before, not until is after.
        ("-since:2h", None, us(2026, 11, 27, 8, 30) - 1),
        ("-until:yesterday", us(2026, 11, 27), None),
        # Never before there were moments.
        ("since:3650w", 0, None),
    ],
)
def test_times_bound_when_it_was_created(text, since_us, until_us):
    assert bounds_us(parse(text), to_us(NOW), UTC_ZONE) == (since_us, until_us)


def test_days_and_local_times_are_those_of_the_viewers_zone():
    zone = ZoneInfo("America/New_York")
    # 2026-11-27 03:00 UTC is still the evening of the 26th there.
    now_us = us(2026, 11, 27, 3)
    assert bounds_us(parse("since:today"), now_us, zone)[0] == us(2026, 11, 26, 5)
    assert bounds_us(parse("since:2026-07-01T09:00"), now_us, zone)[0] == us(2026, 7, 1, 13)
    # A day of 25 hours.
    assert bounds_us(parse("since:2026-11-01 until:2026-11-01"), now_us, zone) == (
        us(2026, 11, 1, 4),
        us(2026, 11, 2, 5) - 1,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90_000_000), ("1h30m", 5_400_000_000), ("1.5s", 1_500_000), ("250ms", 250_000), ("2w", 1_209_600_000_000)],
)
def test_lengths_of_time(text, expected):
    assert length_us(text) == expected
    assert took_us(term(f"took:>{text}")) == expected


@pytest.mark.parametrize("text", ["", "h", "2", "2y", "2h30", "-2h", "2 h", "1e3s", "²h", "999999999w"])
def test_what_is_no_length_of_time(text):
    assert length_us(text) is None


@pytest.mark.parametrize("text", ["2026-02-30", "2026-11-27T25:00", "1969-12-31", "9999-01-01", "noon"])
def test_what_is_no_moment(text):
    assert not is_moment(text)


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("state:failed OR state:dead", 13, "state:failed,dead"),
        ("NOT state:failed", 0, "-state:completed"),
        ("job:a AND -NOT", 6, "side by side"),
        ("job:a stat:failed", 6, "did you mean state:?"),
        ("arg:3", 0, "arg.<name>:"),
        ("http://x", 0, "double quotes"),
        ("job:a state:failed,faild", 19, "did you mean failed?"),
        ("origin:cron", 7, "fire, run_now, submit, retry, backfill"),
        ("state:", 6, "expected a value"),
        ("state:failed,", 13, "expected a value"),
        ("job:a -", 6, "a qualifier or a word"),
        ('node:"n3', 5, 'a closing "'),
        ("since:soon", 6, "so long ago"),
        ("took:>long", 6, "a length of time"),
        ("attempt:>-1", 9, "a whole number"),
        ("arg.n:>ten", 7, "a number"),
        ("arg.n:>007", 7, "a number"),
        ("arg.x", 5, "a colon and a value"),
        ("arg.:3", 4, "the name of a parameter"),
        ("arg.a[x]:3", 6, "the place of an element"),
        ("arg.a[3:3", 7, "expected ]"),
        ('arg."a\\"b":3', 4, "without quotes"),
        ('id:""', 3, "how an id begins"),
        ('error:""', 6, "at least one character"),
        ("a\0b", 1, "NUL"),
        ("a\ud800", 1, "surrogate"),
        ("x" * 2001, 2000, "at most 2000 characters"),
        ("x " * 31, 60, "at most 30 terms"),
        ("id:" + ",".join(["0"] * 101), 203, "at most 100 values"),
        ("arg" + ".a" * 11 + ":1", 23, "at most 10 steps"),
    ],
)
def test_a_refusal_says_where_and_what_was_expected(text, position, words):
    with pytest.raises(InvalidSearch) as caught:
        parse(text)
    error = caught.value
    assert error.data["position"] == position
    assert words in f"{error.message} {error.hint}"
    assert f"at character {position + 1} " in error.message
    assert len(error.message) < 1000


# --- whatever is typed --------------------------------------------------------------------------------

SNIPPETS = st.sampled_from(
    [*(f"{name}:" for name in NAMES), "arg.a", "arg.", '"', "\\", "-", ",", "*", ":", " ", "[0]", ">", "<=", "2h",
     "failed", "today", "2026-11-27", "x", "0", "é", "\u2003"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(SNIPPETS, max_size=14).map("".join)))
def test_whatever_is_typed_is_understood_or_refused_and_survives_being_written(text):
    try:
        search = parse(text)
    except InvalidSearch:
        return
    assert parse(said(search)) == search
    assert said(parse(said(search))) == said(search)
    bounds_us(search, to_us(NOW), UTC_ZONE)
    states_of(search.terms)


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
KEYS = st.text(st.characters(exclude_characters='\0"\\', exclude_categories=["Cs"]), min_size=1, max_size=8)
EDGES = st.one_of(st.just(""), WORDS)
PATTERNS = st.one_of(
    WORDS.map(lambda word: (word,)),
    st.builds(lambda first, middle, last: (first, *middle, last), EDGES, st.lists(WORDS, max_size=2), EDGES),
)
NEGATED = st.booleans()
TERMS = st.one_of(
    st.builds(
        lambda q, values, negated: Term(qualifier=q, values=tuple(values), negated=negated),
        st.sampled_from(sorted(GLOBBED - {Q.ARG})),
        st.lists(PATTERNS, min_size=1, max_size=3),
        NEGATED,
    ),
    st.builds(
        lambda path, values, negated: Term(qualifier=Q.ARG, path=tuple(path), values=tuple(values), negated=negated),
        st.tuples(KEYS, st.one_of(KEYS, st.integers(0, 99))),
        st.lists(PATTERNS, min_size=1, max_size=3),
        NEGATED,
    ),
    st.builds(lambda word, negated: Term(qualifier=Q.TEXT, values=((word,),), negated=negated), WORDS, NEGATED),
    st.builds(lambda word, negated: Term(qualifier=Q.ERROR, values=((word,),), negated=negated), WORDS, NEGATED),
    st.builds(
        lambda words: Term(qualifier=Q.STATE, values=tuple((word,) for word in words)),
        st.lists(st.sampled_from(STATE_WORDS), min_size=1, max_size=3),
    ),
    st.builds(
        lambda words: Term(qualifier=Q.ORIGIN, values=tuple((word,) for word in words)),
        st.lists(st.sampled_from(ORIGIN_WORDS), min_size=1, max_size=3),
    ),
    st.builds(lambda word: Term(qualifier=Q.GROUP, values=((word,),)), WORDS),
    st.builds(
        lambda op, n: Term(qualifier=Q.ATTEMPT, op=op, values=((str(n),),)),
        st.sampled_from(["", ">", ">=", "<", "<="]),
        st.integers(0, 10**9 - 1),
    ),
)


@given(st.lists(TERMS, max_size=5).map(lambda terms: Search(tuple(terms))))
def test_every_search_that_there_is_can_be_written_and_read_again(search):
    assert parse(said(search)) == search


# --- what is being typed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "qualifier", "typed", "span"),
    [
        ("|", None, "", (0, 0)),
        ("sta|", None, "sta", (0, 3)),
        ("-sta|te", None, "sta", (1, 6)),
        ("job:a |", None, "", (6, 6)),
        ("state:|", Q.STATE, "", (6, 6)),
        ("state:fai|", Q.STATE, "fai", (6, 9)),
        ("state:failed,ti|me,x job:a", Q.STATE, "ti", (13, 17)),
        ("job:etl.|load node:x", Q.JOB, "etl.", (4, 12)),
        ('schedule:"nightly b|', Q.SCHEDULE, "nightly b", (9, 19)),
        ("took:>1|", Q.TOOK, "1", (6, 7)),
        ("since:|", Q.SINCE, "", (6, 6)),
        ("arg.cus|", Q.ARG, "cus", (4, 7)),
        ("arg.customer:4|", Q.ARG, "4", (13, 14)),
        ("nobody:x|", Q.TEXT, "x", (7, 8)),
    ],
)
def test_the_place_of_the_caret_says_what_is_being_typed(text, qualifier, typed, span):
    caret = text.index("|")
    slot = slot_at(text.replace("|", ""), caret)
    assert (slot.qualifier, slot.typed, (slot.start, slot.end)) == (qualifier, typed, span)


@given(st.text(max_size=40), st.integers(-3, 50))
def test_any_place_in_any_text_is_in_some_slot(text, caret):
    slot = slot_at(text, caret)
    assert 0 <= slot.start <= slot.end <= len(text)
