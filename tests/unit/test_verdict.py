"""The first sentence of the overview: what it says of how everything stands, and where each problem is dealt with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schedule_zero.dispatch.dispatcher import NodeView
from schedule_zero.model import Freeze, NodeOperation, NodeState, OperationKind, Schedule, ScheduleState
from schedule_zero.rules.series import Spread
from schedule_zero.service.foresight import NextRun, NextRuns
from schedule_zero.service.overview import Standing, Stored, Unserved
from schedule_zero.service.series import SPARK_MINUTES, Spark
from schedule_zero.store.schedule_overview import ScheduleCounts
from schedule_zero.web.pages.verdict import Level, Verdict, quoted, said, verdict

NOW_US = 1_700_000_000_000_000
S = 1_000_000
NOTHING = [0] * SPARK_MINUTES


def node(id_: str, state: NodeState = NodeState.ONLINE, kind: OperationKind | None = None) -> NodeView:
    operation = None if kind is None else NodeOperation(kind=kind, since_us=NOW_US)
    return NodeView(
        node_id=id_, state=state, handlers=["etl"], slots=4, running=0, window=4, outbox=0, draining=False,
        operation=operation, probation=False, heartbeat_age_s=0.1, round_trip_s=0.001, clock_skew_s=0.0, version="1",
        host="h", pid=1, instance="i", connected_us=NOW_US, last_seen_us=NOW_US, labels={}, facts={},
    )  # fmt: skip


def spark(**fields: Any) -> Spark:
    return Spark(
        **{
            "from_us": NOW_US, "completed": NOTHING, "failed": NOTHING, "fires": NOTHING, "late": NOTHING,
            "lateness": None, "open": NOTHING, "running": NOTHING, **fields,
        }
    )  # fmt: skip


def counts(**fields: Any) -> ScheduleCounts:
    by_state = {**dict.fromkeys(ScheduleState, 0), ScheduleState.ACTIVE: 128, **fields.pop("by_state", {})}
    return ScheduleCounts(
        **{
            "by_state": by_state,
            "paused_by_failures": 0,
            "one_paused_by_failures": None,
            "one_quarantined": None,
            **fields,
        }
    )


def next_run(id_: str, at_us: int) -> NextRuns:
    row = Schedule(id=id_, handler_id="etl", job_method="load", trigger=b"{}")
    return NextRuns([NextRun(schedule=row, at_us=at_us, runs=1)], more=False)


STORED = Stored(
    schedules=counts(), ahead=next_run("etl.load", NOW_US + 12 * S), next_at_all=None, unserved=[], unused=False
)
WELL = Standing(
    at_us=NOW_US, nodes=[node("n1")], handlers=1, running=0, waiting=0, backlog_limit=1000, backlog_full=[], unwell={},
    freeze=None, dead_letters=0, missed=0, one_missed=None, spark=spark(), stored=STORED,
)  # fmt: skip


def standing(stored: dict[str, Any] | None = None, **fields: Any) -> Standing:
    return replace(WELL, stored=replace(STORED, **(stored or {})), **fields)


def only_problem(found: Verdict) -> tuple[Level, str, str, str]:
    [problem] = found.problems
    return problem.level, said(problem.short), said(problem.more), problem.href


def test_all_is_well_says_how_many_schedules_there_are_and_which_is_next():
    found = verdict(WELL)

    assert found.level is None
    assert said(found.sentence) == f"All well: 128 schedules, next `etl.load` <{NOW_US + 12 * S}>"
    assert not found.problems


def test_what_comes_after_the_next_minutes_is_named_as_well():
    far = NOW_US + 86_400 * S

    found = verdict(standing({"ahead": NextRuns([], more=False), "next_at_all": next_run("yearly", far)}))

    assert said(found.sentence) == f"All well: 128 schedules, next `yearly` <{far}>"


def test_without_schedules_nothing_is_claimed_of_them():
    empty = counts(by_state={ScheduleState.ACTIVE: 0})

    found = verdict(standing({"schedules": empty, "ahead": NextRuns([], more=False)}))

    assert said(found.sentence) == "All well; nothing is scheduled yet"


def test_the_worst_problems_make_the_sentence_and_each_has_its_own_line():
    nodes = [node("n1", NodeState.LOST), node("n2", NodeState.LOST), node("n3")]
    waiting = [Unserved(handler_id="etl", waiting=14, more=False, why="no node that serves etl.load is connected")]

    found = verdict(standing({"unserved": waiting}, nodes=nodes, dead_letters=3))

    assert found.level is Level.BAD
    assert said(found.sentence) == "2 nodes lost, 14 jobs waiting for `etl`, 3 dead letters"
    assert [problem.href for problem in found.problems] == [
        "/nodes",
        "/executions?q=state%3Apending+handler%3Aetl",
        "/dead-letters",
    ]
    assert said(found.problems[0].more) == "No heartbeat, and no good-bye: `n1`, `n2`."


def test_more_than_three_problems_are_counted():
    nodes = [
        node("n1", NodeState.LOST),
        node("n2", NodeState.SUSPECT),
        node("n3", NodeState.ONLINE, OperationKind.QUARANTINE),
    ]

    found = verdict(standing(nodes=nodes, dead_letters=1, missed=1))

    assert said(found.sentence) == "1 node lost, 1 node quarantined, 1 fire missed and 2 more problems"


@pytest.mark.parametrize(
    ("stored", "fields", "wanted"),
    [
        ({}, {"unwell": {"store": "database or disk is full"}},
         (Level.BAD, "the store can't be written", "`database or disk is full`", "/settings")),
        ({}, {"unwell": {"loop.timer": "ValueError: x"}},
         (Level.BAD, "the loop `timer` is down", "`ValueError: x`", "/settings")),
        ({}, {"unwell": {"draining": "the server is stopping"}},
         (Level.WAIT, "the server is stopping", "`the server is stopping`", "/settings")),
        ({}, {"nodes": [node("n1", NodeState.SUSPECT)]},
         (Level.WAIT, "1 node silent", "No heartbeat for some seconds: `n1`.", "/nodes")),
        ({}, {"nodes": [node(f"n{n}", NodeState.ONLINE, OperationKind.QUARANTINE) for n in range(5)]},
         (Level.BAD, "5 nodes quarantined", "Too much failed there: `n0`, `n1`, `n2` and 2 more.", "/nodes")),
        ({}, {"freeze": Freeze(id="f", from_us=NOW_US, by="ann", note="<b>move</b>")},
         (Level.WAIT, "all schedules are frozen", "Nothing fires; frozen by ann: <b>move</b>", "/schedules")),
        ({}, {"backlog_full": ["all"], "waiting": 1000},
         (Level.BAD, "the backlog is full", "1,000 of 1,000 are open; submissions are refused, and fires skipped.",
          "/executions?q=state%3Aopen")),
        ({}, {"backlog_full": ["etl"]},
         (Level.BAD, "the backlog of `etl` is full", "0 of 1,000 are open; submissions are refused, and fires skipped.",
          "/executions?q=state%3Aopen")),
        ({}, {"running": 100, "waiting": 700},
         (Level.WAIT, "the backlog is 80% full", "800 of 1,000 are open.", "/executions?q=state%3Aopen")),
        ({}, {"spark": spark(completed=[9] * 60, failed=[1] * 60)},
         (Level.BAD, "10% of executions fail", "10 of 100 in the last 10 minutes.",
          "/executions?q=state%3Afailed-like+since%3A10m")),
        ({}, {"spark": spark(lateness=Spread(400, 0.1, 2.5, 3.0))},
         (Level.WAIT, "fires are 2.5 s late", "So late, or less, were 95 % of the 400 of the last minutes.",
          "#charts-head")),
        ({}, {"missed": 3, "one_missed": "a"},
         (Level.BAD, "3 fires missed", "The audit found no row in the ledger for them: `a`.",
          "/schedules/a?tab=ledger")),
        ({}, {"missed": 1},
         (Level.BAD, "1 fire missed", "The audit found no row in the ledger for them.", "/schedules")),
        ({"schedules": counts(by_state={ScheduleState.QUARANTINED: 2}, one_quarantined="q1")}, {},
         (Level.BAD, "2 schedules quarantined", "The trigger fails: `q1` and 1 more.",
          "/schedules?state=quarantined")),
        ({"schedules": counts(by_state={ScheduleState.PAUSED: 5}, paused_by_failures=1, one_paused_by_failures="p")},
         {},
         (Level.WAIT, "1 schedule paused by failures", "Too many in a row: `p`.", "/schedules?state=paused")),
        ({"unserved": [Unserved(handler_id="a b", waiting=1000, more=True, why="no node")]}, {},
         (Level.BAD, "1,000+ jobs waiting for `a b`", "No node.",
          "/executions?q=state%3Apending+handler%3A%22a+b%22")),
        ({}, {"dead_letters": 1},
         (Level.WAIT, "1 dead letter", "Executions that failed for good, and that nobody has dealt with.",
          "/dead-letters")),
    ],
)  # fmt: skip
def test_each_problem_is_said_with_what_it_is_about_and_where_to_go(stored, fields, wanted):
    found = verdict(standing(stored, **fields))

    assert only_problem(found) == wanted
    assert found.level is wanted[0]


def test_a_store_that_cannot_be_read_is_said_though_nothing_else_is_known():
    found = verdict(replace(WELL, stored=None, unwell={"store": "disk I/O error"}))

    assert said(found.sentence) == "The store can't be written, the store can't be read"


def test_what_was_done_on_purpose_is_a_note_and_all_is_well():
    nodes = [node("n1"), node("n2", kind=OperationKind.CORDON), node("n3", kind=OperationKind.DRAIN)]

    found = verdict(standing(nodes=nodes))

    assert found.level is None
    assert said(found.sentence).startswith("All well")
    assert [problem.level for problem in found.problems] == [Level.NOTE, Level.NOTE]


@pytest.mark.parametrize(
    "fields",
    [
        # Four failures, or one in twenty, are no alarm; a paused schedule may have been paused by somebody.
        {"spark": spark(failed=[*[0] * 59, 4])},
        {"spark": spark(completed=[95] * 60, failed=[5] * 60)},
        {"spark": spark(failed=[5] * 40 + [0] * 20)},
        {"spark": spark(lateness=Spread(9, 0.1, 0.9, 5.0))},
        {"running": 10, "waiting": 700},
        {"nodes": []},
        {"nodes": [node("n1", NodeState.OFFLINE)]},
        {"stored": replace(STORED, schedules=counts(by_state={ScheduleState.PAUSED: 3, ScheduleState.FINISHED: 9}))},
    ],
)
def test_what_is_usual_is_no_problem(fields):
    assert verdict(replace(WELL, **fields)).level is None


def test_nothing_is_said_to_come_while_all_is_frozen():
    found = verdict(standing(freeze=Freeze(id="f", from_us=NOW_US, to_us=NOW_US + S)))

    assert said(found.sentence) == "All schedules are frozen"
    assert said(found.problems[0].more) == f"Nothing fires, until <{NOW_US + S}>."


@given(
    st.lists(st.tuples(st.sampled_from(NodeState), st.sampled_from([None, *OperationKind])), max_size=8),
    st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
def test_the_verdict_is_well_exactly_when_nothing_serious_is_in_its_lines(nodes, running, waiting, letters, missed):
    found = verdict(
        standing(
            nodes=[node(f"n{place}", state, kind) for place, (state, kind) in enumerate(nodes)],
            running=running,
            waiting=waiting,
            dead_letters=letters,
            missed=missed,
        )
    )

    serious = [problem for problem in found.problems if problem.level is not Level.NOTE]
    assert (found.level is None) is (not serious)
    assert said(found.sentence).startswith("All well") is (not serious)
    assert [list(Level).index(problem.level) for problem in found.problems] == sorted(
        list(Level).index(problem.level) for problem in found.problems
    )


@pytest.mark.parametrize(
    ("name", "value"), [("etl", "etl"), ("a b", '"a b"'), ('a"b', '"a\\"b"'), ("a*", '"a*"'), ("a\\", '"a\\\\"')]
)
def test_a_name_is_a_value_of_the_search_language(name, value):
    assert quoted(name) == value
