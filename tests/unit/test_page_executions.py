"""What the executions' pages show, as pure functions: states to choose, bars, slips, times, lines of logs."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule_zero.errors import InvalidSearch
from schedule_zero.model import Execution, IdSource, State
from schedule_zero.rules.search import Q, Search, Term, said
from schedule_zero.rules.search_edit import also, with_states, within
from schedule_zero.rules.search_parse import parse
from schedule_zero.store.execution_counting import Histogram
from schedule_zero.web.pages import execution_view, log_text
from schedule_zero.web.pages.executions_view import chart, chips, row_of, slip
from schedule_zero.web.pages.words import visible
from schedule_zero.wire.log_lines import Line
from tests.support import ManualClock

UTC = ZoneInfo("UTC")
NOW = 1_700_000_000_000_000
S = 1_000_000


def q_of(href: str) -> str:
    return parse_qs(urlsplit(href).query).get("q", [""])[0]


# --- changes to a search ----------------------------------------------------------------------------


def test_a_state_is_added_to_those_that_are_looked_for_and_taken_away_again():
    by_state = {chip.state: chip for chip in chips(parse("state:failed node:n1"), {"failed": 3})}

    assert q_of(by_state[State.RUNNING].href) == "state:running,failed node:n1"
    assert by_state[State.FAILED].chosen
    assert q_of(by_state[State.FAILED].href) == "node:n1"
    # How many of them fit the rest of the search is not known.
    assert by_state[State.FAILED].count is None


def test_without_another_condition_states_have_their_counts():
    by_state = {chip.state: chip for chip in chips(parse("state:failed"), {"failed": 3, "dead": 0, "pending": 0})}

    assert (by_state[State.FAILED].count, by_state[State.PENDING].count) == (3, 0)
    # What there is none of is not offered, but for a few.
    assert State.DEAD not in by_state


def test_words_for_several_states_are_taken_apart():
    assert said(with_states(parse("state:failed-like -state:dead x"), {State.FAILED, State.TIMEOUT})) == (
        "state:failed,timeout x"
    )
    assert said(with_states(parse("state:failed x"), set(State))) == "x"


def test_a_span_of_time_takes_the_place_of_another():
    found = within(parse("state:failed since:2h until:1h"), NOW, NOW + S - 1)

    assert said(found) == "state:failed since:2023-11-14T22:13:20Z until:2023-11-14T22:13:20.999999Z"
    assert parse(said(found)) == found


def test_a_term_takes_the_place_of_one_about_the_same_thing():
    assert said(also(parse("node:n1 x"), Term(qualifier=Q.NODE, values=(("n2",),)))) == "x node:n2"


@given(st.sets(st.sampled_from(list(State))))
def test_what_a_click_makes_of_a_search_can_be_read_again(states: set[State]):
    found = with_states(Search(), states)
    assert parse(said(found)) == found


# --- rows -------------------------------------------------------------------------------------------


def row(state: State, **fields):
    it = Execution(id="01m8dktm0v5h4eme8d00q7sprj", handler_id="etl", job_method="load", state=state, **fields)
    return row_of(it, NOW, waits_for=lambda _: None, progress=lambda _: None)


def test_what_waits_and_what_runs_is_measured_until_now():
    waits = row(State.PENDING, created_us=NOW - 5 * S)
    runs = row(State.RUNNING, created_us=NOW - 5 * S, started_us=NOW - 2 * S)
    later = row(State.SCHEDULED, created_us=NOW - 5 * S, not_before_us=NOW + S)

    assert (waits.waited, waits.took) == ("5 s", "–")
    assert (runs.waited, runs.took) == ("3 s", "2 s")
    assert (later.waited, later.took) == ("–", "–")


def test_what_was_put_off_has_waited_only_since_it_could_start():
    assert row(State.RUNNING, created_us=NOW - 60 * S, not_before_us=NOW - 9 * S, started_us=NOW).waited == "9 s"


def test_a_clock_that_is_behind_makes_no_negative_time():
    assert row(State.RUNNING, created_us=NOW, started_us=NOW - 3).waited == "0 s"


# --- histogram --------------------------------------------------------------------------------------


def test_bars_lead_to_their_time_and_small_ones_are_seen():
    found = Histogram(
        edges=[NOW, NOW + S, NOW + 2 * S, NOW + 3 * S], counts=[None, 10_000, 1], failed=[None, 0, 1], total=10_001,
        sampled_us=NOW + S,
    )  # fmt: skip

    drawn = chart(found, parse("node:n1"))

    assert [(bar.x, bar.count, bar.failed, bar.tall, bar.bad) for bar in drawn.bars] == [
        (10, 10_000, 0, 62, 0),
        (20, 1, 1, 2, 2),
    ]
    assert drawn.unseen == 10
    assert q_of(drawn.bars[1].href) == "node:n1 since:2023-11-14T22:13:22Z until:2023-11-14T22:13:22.999999Z"


# --- slips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before", "token", "after"),
    [
        ("a stat:failed b", "a ", "stat:failed", " b"),
        ("state:faild", "", "state:faild", ""),
        ("node:", "", "node:", ""),
        ('x error:"open', "x ", 'error:"open', ""),
        ("-", "", "-", ""),
    ],
)
def test_a_slip_is_marked_where_it_is(text, before, token, after):
    with pytest.raises(InvalidSearch) as error:
        parse(text)
    found = slip(text, error.value)
    assert (found.before, found.token, found.after) == (before, token, after)


@given(st.text(max_size=40))
def test_a_slip_keeps_all_that_was_typed(text):
    try:
        parse(text)
    except InvalidSearch as error:
        found = slip(text, error)
        assert found.before + found.token + found.after == text


# --- times ------------------------------------------------------------------------------------------


def test_times_say_what_happened_between_them():
    it = Execution(
        id="x", handler_id="h", job_method="m", state=State.COMPLETED, nominal_us=NOW, created_us=NOW + S,
        dispatched_us=NOW + 3 * S, started_us=NOW + 3 * S, finished_us=NOW + 9 * S, stored_us=NOW + 10 * S,
    )  # fmt: skip

    found = execution_view.times(it, NOW + 60 * S)

    assert [(step.label, step.after) for step in found.steps] == [
        ("due", ""), ("created", "+ 1 s"), ("dispatched", "+ 2 s"), ("started", "+ 0 s"), ("finished", "+ 6 s"),
        ("stored", "+ 1 s"),
    ]  # fmt: skip
    assert [(span.label, span.took, span.width) for span in found.spans] == [
        ("late", "1 s", 100), ("waited", "2 s", 200), ("ran", "6 s", 600), ("reported", "1 s", 100),
    ]  # fmt: skip


def test_what_runs_is_drawn_until_now():
    it = Execution(id="x", handler_id="h", job_method="m", state=State.RUNNING, created_us=NOW, started_us=NOW + S)

    found = execution_view.times(it, NOW + 4 * S)

    assert found.spans[-1].label == "ran"
    assert found.spans[-1].took == "3 s"


def test_a_nodes_clock_that_is_behind_is_said():
    it = Execution(
        id="x", handler_id="h", job_method="m", state=State.RUNNING, created_us=NOW, dispatched_us=NOW + S,
        started_us=NOW,
    )  # fmt: skip
    assert execution_view.times(it, NOW + S).steps[-1].after == "1 s before that, by its node's clock"


def test_an_id_says_when_it_was_made():
    clock = ManualClock()
    assert execution_view.made_us(IdSource(clock).new()) == clock.wall_us() // 1000 * 1000


def test_a_large_payload_is_cut_and_its_size_said():
    found = execution_view.payload(b'"' + b"x" * 100_000 + b'"')
    assert found is not None
    assert len(found.text) < 17_000
    assert found.cut == "97.7 KiB"


# --- logs -------------------------------------------------------------------------------------------


def shown(*texts: str, **wanted) -> str:
    lines = [(n, Line(NOW + n * 1000, "stdout", None, text)) for n, text in enumerate(texts)]
    return str(log_text.markup(lines, UTC, link="?line=", **wanted))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b[2J\x1b[1;1Hx", "x"),
        ("bell\x07 nul\x00", "bell␇ nul␀"),
        ("a\u202ecba", "a\\u202ecba"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("tab\tstays\nlines too", "tab\tstays\nlines too"),
        ("del\x7f csi\x9b", "del␡ csi\\x9b"),
        ("日本語 🚀", "日本語 🚀"),
        ("a lone \x1b", "a lone ␛"),
    ],
)
def test_what_terminals_obey_is_left_out_and_what_is_hidden_is_seen(text, seen):
    assert visible(text) == seen


@given(st.text())
def test_nothing_that_is_shown_can_hide(text):
    assert not [char for char in visible(text) if ord(char) < 0x20 and char not in "\t\n"]


def test_a_line_is_one_element_with_its_number_as_its_link():
    assert shown("<b>x</b>") == (
        '<div class="chunk"><p id="L1" data-t="22:13:20.000"><a href="?line=1#L1">1</a>&lt;b&gt;x&lt;/b&gt;</p></div>'
    )


def test_the_line_that_was_asked_for_is_marked():
    assert 'id="L2" class="mark"' in shown("a", "b", marked=1)


def test_what_was_looked_for_is_marked_as_it_stands():
    assert "x <mark>Amp</mark> &amp; <mark>amp</mark> y" in shown("x Amp & amp y", needle="amp")


def test_levels_and_streams_have_their_looks():
    lines = [(0, Line(0, "log", "error", "")), (1, Line(0, "stderr", None, "")), (2, Line(0, "node", "warning", ""))]
    text = str(log_text.markup(lines, UTC, link="?line="))
    assert 'class="e" data-t=""' in text
    assert 'class="s"' in text
    assert 'class="wn"' in text


def test_many_lines_are_chunks():
    text = shown(*["x"] * 1200)
    assert text.count('<div class="chunk full">') == 2
    assert text.count('<div class="chunk">') == 1
    assert text.count("<p ") == 1200


def test_a_line_without_end_is_cut():
    assert len(shown("x" * 1_000_000)) < 25_000
