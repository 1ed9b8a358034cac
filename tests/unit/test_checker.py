"""The checker can fail: whatever breaks a promise in a run is named, and a run that keeps them all is left in peace.

Each tampering below is one way to break one promise in the record of a clean run (``checker_world``). That none of them
goes unnamed, whatever the run, is the reason to believe a report without violations.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule_zero.job_options import OnLost
from schedule_zero.model import ScheduleState
from schedule_zero.testbed import final as f
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.history import Fault, FaultKind, Op, Phase
from tests.unit.checker_world import DEADLY, DRAINED, INTERVAL_US, KILLED, OUTAGE, STOPPED, T0, Model, S, ns, options

Tamper = Callable[[Model], None]
TAMPERINGS: dict[str, tuple[str, Tamper]] = {}


def breaks(name: str) -> Callable[[Tamper], Tamper]:
    """Registers a tampering under what the report has to name: ``C1 duplicate``."""

    def register(tamper: Tamper) -> Tamper:
        TAMPERINGS[tamper.__name__] = (name, tamper)
        return tamper

    return register


def fires(m: Model, schedule_id: str, outcome: str | None = None) -> list[f.FireRow]:
    return [fire for fire in m.final.fires if fire.schedule_id == schedule_id and outcome in (None, fire.outcome)]


def quiet(m: Model, schedule_id: str = "interval-0") -> f.FireRow:
    """A fire that was executed in time, far from everything that happened."""
    calm = range(T0 + S, OUTAGE[0] - 10 * S)
    return m.random.choice([fire for fire in fires(m, schedule_id, "executed") if fire.nominal_us in calm])


def totals(m: Model, schedule_id: str) -> f.ScheduleRow:
    return next(row for row in m.final.schedules if row.schedule.id == schedule_id)


def forget(m: Model, row: f.Row, *, runs: bool = True) -> None:
    """The execution is gone from the store, and with ``runs`` from the ledger."""
    m.rows.remove(row)
    if runs:
        m.runs[:] = [run for run in m.runs if run.execution_id != row.id]


def by_id(m: Model, id_: str | None) -> f.Row:
    return next(row for row in m.rows if row.id == id_)


# --- C1, C2, C3, C12: fires -------------------------------------------------------------------------------


@breaks("C1 duplicate")
def a_nominal_time_has_two_rows(m: Model) -> None:
    fire = quiet(m)
    m.final.fires.append(msgspec.structs.replace(fire, seq=9999))
    totals(m, fire.schedule_id).executed += 1


@breaks("C1 duplicate")
def a_fire_made_two_executions(m: Model) -> None:
    row = by_id(m, quiet(m).execution_id)
    m.completes(m.row(row.created_us, origin="fire", schedule_id=row.schedule_id, nominal_us=row.nominal_us))


@breaks("C1 duplicate")
def a_backfill_ran_a_time_twice(m: Model) -> None:
    m.one["backfilled"].nominal_us = T0 - 1000 * S


@breaks("C1 missed")
def a_fire_s_execution_was_never_written(m: Model) -> None:
    forget(m, by_id(m, quiet(m).execution_id))


@breaks("C1 extra")
def an_execution_of_a_fire_has_no_row(m: Model) -> None:
    m.completes(m.row(T0 + 3 * S, origin="fire", schedule_id="gone", nominal_us=T0))


@breaks("C1 unbalanced")
def a_row_that_did_not_run_has_an_execution(m: Model) -> None:
    m.random.choice(fires(m, "paused")).execution_id = m.one["retried"].id


@breaks("C1 duplicate")
def a_fire_made_a_group_that_its_row_does_not_name(m: Model) -> None:
    [fire] = fires(m, "broadcast")
    fire.execution_id = m.one["retried"].id


@breaks("C1 missed")
def the_group_of_a_fire_was_never_written(m: Model) -> None:
    for row in [row for row in m.rows if row.group_id == "g2"]:
        forget(m, row)
    m.final.groups[:] = [group for group in m.final.groups if group.id != "g2"]


@breaks("C1 unbalanced")
def a_member_of_a_fire_s_group_is_of_another_fire(m: Model) -> None:
    m.one["broadcast"].nominal_us += S


@breaks("C4 lost_request")
def a_group_of_a_fire_lacks_a_member(m: Model) -> None:
    forget(m, m.one["broadcast"])


@breaks("C2 missed")
def a_row_is_gone_and_the_totals_with_it(m: Model) -> None:
    fire = m.random.choice(fires(m, "interval-1", "executed")[1:-1])
    m.final.fires.remove(fire)
    forget(m, by_id(m, fire.execution_id))
    totals(m, "interval-1").executed -= 1


@breaks("C2 unbalanced")
def the_totals_are_not_those_of_the_rows(m: Model) -> None:
    totals(m, "paused").skipped += m.random.choice([-1, 1])


@breaks("C2 extra")
def a_row_stands_for_no_nominal_time(m: Model) -> None:
    fire = quiet(m)
    moved_us = m.random.randint(1000, INTERVAL_US - 1000)
    more = {"nominal_us": fire.nominal_us + moved_us, "decided_us": fire.nominal_us + moved_us}
    m.final.fires.append(msgspec.structs.replace(fire, seq=fire.seq, outcome="skipped", execution_id=None, **more))
    totals(m, fire.schedule_id).skipped += 1


@breaks("C2 missed")
def a_fire_is_called_missed_though_nothing_was_in_the_way(m: Model) -> None:
    fire = quiet(m)
    forget(m, by_id(m, fire.execution_id))
    fire.outcome, fire.execution_id, fire.decided_us = "missed", None, fire.nominal_us + 4 * S
    totals(m, fire.schedule_id).executed -= 1
    totals(m, fire.schedule_id).missed += 1


@breaks("C2 late")
def a_fire_was_decided_late_though_nothing_was_in_the_way(m: Model) -> None:
    quiet(m).decided_us += 6 * S


@breaks("C2 missed")
def a_due_fire_was_forgotten_at_the_end(m: Model) -> None:
    row = totals(m, "interval-2").schedule
    assert row.next_fire_us is not None
    row.next_fire_us -= 3 * INTERVAL_US
    for fire in fires(m, "interval-2")[-3:]:
        m.final.fires.remove(fire)
        forget(m, by_id(m, fire.execution_id))
        totals(m, "interval-2").executed -= 1


@breaks("C2 missed")
def a_schedule_slept_until_somebody_paused_it(m: Model) -> None:
    a_schedule_slept_until_somebody_changed_it(m, reason="paused")


@breaks("C2 missed")
def a_schedule_slept_until_somebody_changed_it(m: Model, reason: str = "changed", for_s: int = 30) -> None:
    row = totals(m, "interval-0")
    changed_us = T0 + 196 * S
    slept = [fire for fire in fires(m, "interval-0") if fire.nominal_us > changed_us - for_s * S]
    for fire in slept:
        m.final.fires.remove(fire)
        forget(m, by_id(m, fire.execution_id))
    row.executed, row.skipped = row.executed - len(slept), row.skipped + len(slept)
    more = {"outcome": "skipped", "reason": reason, "execution_id": None, "count": len(slept)}
    more |= {"last_nominal_us": slept[-1].nominal_us, "decided_us": changed_us + 100}
    m.final.fires.append(msgspec.structs.replace(slept[0], **more))
    before = msgspec.structs.replace(row.schedule, next_fire_us=slept[0].nominal_us)
    m.final.versions.append(f.VersionRow(before, before.updated_us, changed_us, False))
    state = ScheduleState.PAUSED if reason == "paused" else ScheduleState.ACTIVE
    row.schedule = msgspec.structs.replace(row.schedule, version=2, state=state, updated_us=changed_us)


@breaks("C2 late")
def a_fire_was_decided_late_and_a_node_s_clock_is_no_reason(m: Model) -> None:
    m.faults.append(Fault(fault=FaultKind.CLOCK, target="node:n1", begin_us=T0))
    quiet(m).decided_us += 6 * S


@breaks("C3 unbounded")
def more_was_caught_up_than_the_policy_says(m: Model) -> None:
    for number in range(3):
        row = m.row(OUTAGE[1] + S, origin="fire", schedule_id="interval-1", nominal_us=OUTAGE[0] + number)
        m.completes(row)
        m.final.fires.append(
            f.FireRow(0, "interval-1", 1, OUTAGE[0] + number, "caught_up", None, row.id, 1, None, OUTAGE[1] + S)
        )


@breaks("C3 unbounded")
def an_outage_left_a_row_for_each_of_too_many(m: Model) -> None:
    for number in range(200):
        at_us = OUTAGE[0] + number
        m.final.fires.append(f.FireRow(0, "interval-1", 1, at_us, "missed", None, None, 1, None, OUTAGE[1] + S))


@breaks("C3 unbounded")
def something_older_than_the_window_was_caught_up(m: Model) -> None:
    fire = fires(m, "interval-2", "caught_up")[0] if fires(m, "interval-2", "caught_up") else quiet(m, "interval-2")
    fire.outcome, fire.decided_us = "caught_up", fire.nominal_us + 40 * S


@breaks("C12 revived")
def a_nominal_time_ran_after_a_later_one(m: Model) -> None:
    one, other = fires(m, "interval-0", "executed")[1:3]
    at, there = m.final.fires.index(one), m.final.fires.index(other)
    m.final.fires[at], m.final.fires[there] = other, one


@breaks("C12 duplicate")
def a_clock_that_was_set_back_repeated_a_nominal_time(m: Model) -> None:
    m.faults.append(Fault(fault=FaultKind.CLOCK, target="server", begin_us=T0 + 90 * S, end_us=T0 + 91 * S))
    a_nominal_time_has_two_rows(m)


@breaks("C12 early")
def a_fire_was_decided_before_it_was_due(m: Model) -> None:
    quiet(m).decided_us -= 3 * S


@breaks("C12 early")
def a_job_timed_out_before_its_time(m: Model) -> None:
    run = m.run_of(m.one["timed out"])
    run.end_us = run.start_us + S // 2
    run.end_ns = ns(run.end_us)


@breaks("C12 unbalanced")
def an_attempt_ended_before_it_began(m: Model) -> None:
    row = m.one["submitted"]
    assert row.started_us is not None
    row.finished_us = row.started_us - 1


@breaks("C15 damaged")
def a_page_of_the_database_is_broken(m: Model) -> None:
    m.final.damage.append("wrong # of entries in index uq_fires")


# --- C4: what was acknowledged ------------------------------------------------------------------------------


@breaks("C4 lost_request")
def an_acknowledged_execution_is_gone(m: Model) -> None:
    forget(m, m.one["submitted"])


@breaks("C4 unrecorded")
def a_job_ran_that_the_store_does_not_know(m: Model) -> None:
    forget(m, m.one["retried"], runs=False)


@breaks("C4 duplicate")
def a_repeated_request_was_done_twice(m: Model) -> None:
    row = m.one["submitted"]
    m.completes(m.row(row.created_us, idempotency_key=row.idempotency_key))


@breaks("C4 refused_done")
def half_of_an_unanswered_request_was_done(m: Model) -> None:
    forget(m, m.one["unknown"])


@breaks("C4 duplicate")
def an_unanswered_request_was_done_twice(m: Model) -> None:
    for _ in range(2):
        m.completes(m.row(OUTAGE[1] + S, idempotency_key="mark-made"))


@breaks("C4 refused_done")
def a_refused_request_was_done(m: Model) -> None:
    m.completes(m.row(T0 + 4 * S, idempotency_key="mark-no"))


@breaks("C4 lost_request")
def an_acknowledged_schedule_is_gone(m: Model) -> None:
    m.final.schedules.remove(totals(m, "paused"))


@breaks("C4 revived")
def a_deleted_schedule_is_back(m: Model) -> None:
    m.final.schedules.append(f.ScheduleRow(m.final.versions[0].schedule, 0, 0, 0, 0))


@breaks("C4 lost_request")
def a_confirmed_pause_is_gone(m: Model) -> None:
    m.call(Op.PAUSE_SCHEDULE, T0 + 199 * S, {"id": "interval-0"})


@breaks("C4 lost_request")
def a_confirmed_change_is_gone(m: Model) -> None:
    m.call(Op.UPDATE_SCHEDULE, T0 + 199 * S, {"id": "interval-0"}, {"generation": 1, "version": 2})


@breaks("C4 lost_request")
def a_group_lacks_a_member(m: Model) -> None:
    forget(m, m.one["member"])


@breaks("C4 duplicate")
def one_key_was_answered_in_two_ways(m: Model) -> None:
    call = next(call for call in m.calls if call.op is Op.SUBMIT and call.phase is Phase.OK)
    other = m.one["retried"]
    m.call(Op.SUBMIT, T0 + 199 * S, call.args, {"ids": [other.id]})


# --- C5 … C7, C9: attempts ------------------------------------------------------------------------------------


@breaks("C5 not_over")
def an_execution_still_waits_at_the_end(m: Model) -> None:
    m.row(T0 + 60 * S)


@breaks("C5 early")
def a_job_began_before_its_time(m: Model) -> None:
    row = m.one["delayed"]
    run = m.run_of(row)
    run.start_us -= 2 * S
    run.start_ns = ns(run.start_us)


@breaks("C5 early")
def an_execution_misfired_before_its_time_was_over(m: Model) -> None:
    m.one["misfired"].stored_us = T0 + 81 * S


@breaks("C5 rerun")
def a_job_was_tried_more_often_than_it_may(m: Model) -> None:
    m.one["failed"].options = None


@breaks("C5 late")
def a_job_waited_beside_an_idle_node(m: Model) -> None:
    # One run at the beginning and one at the end: in between it has nothing to do.
    for at_us in (T0 + 160 * S, T0 + 190 * S):
        row = m.row(at_us)
        m.run(row, at_us + 1000, at_us + 2000, node="n8")
        m.over(row, "completed", at_us + 2000)
    row = m.row(T0 + 165 * S)
    m.run(row, T0 + 175 * S, T0 + 176 * S, node="n3")
    m.over(row, "completed", T0 + 176 * S)


@breaks("C5 late")
def a_job_waited_beside_an_idle_node_and_another_one_s_clock_is_no_reason(m: Model) -> None:
    m.faults.append(Fault(fault=FaultKind.CLOCK, target="node:n9", begin_us=T0))
    a_job_waited_beside_an_idle_node(m)


@breaks("C20 late")
def a_stuck_node_made_a_job_wait_beside_an_idle_one(m: Model) -> None:
    m.faults.append(Fault(fault=FaultKind.STOP, target="node:n3", begin_us=T0 + 160 * S, end_us=T0 + 174 * S))
    a_job_waited_beside_an_idle_node(m)


@breaks("C6 overlap")
def a_second_attempt_began_while_the_first_one_ran(m: Model) -> None:
    row = m.one["retried"]
    first = next(run for run in m.runs if run.execution_id == row.id)
    second = m.run_of(row)
    second.start_us = first.start_us + S // 2
    second.start_ns = ns(second.start_us)


@breaks("C6 overlap")
def an_old_attempt_began_after_a_newer_one(m: Model) -> None:
    row = m.one["lost"]
    old = next(run for run in m.runs if run.execution_id == row.id)
    old.start_us = m.run_of(row).start_us + S
    old.start_ns = ns(old.start_us)


@breaks("C6 overlap")
def a_node_was_taken_for_lost_and_its_job_was_given_away(m: Model) -> None:
    m.faults[:] = [fault for fault in m.faults if fault.fault is not FaultKind.STOP]


@breaks("C6 duplicate")
def an_attempt_was_begun_twice(m: Model) -> None:
    run = m.random.choice(m.runs)
    m.again.append(msgspec.structs.replace(run, start_us=run.start_us + 10, start_ns=run.start_ns + 10, end_ns=None))


@breaks("C6 duplicate")
def a_token_was_given_to_two(m: Model) -> None:
    m.one["misfired"].token = m.one["submitted"].token


@breaks("C6 unrecorded")
def an_attempt_ran_that_nobody_recorded(m: Model) -> None:
    row = m.one["submitted"]
    m.runs.append(msgspec.structs.replace(m.run_of(row), token=m.token(), start_ns=ns(T0 + 199 * S), end_ns=None))


@breaks("C6 revived")
def an_older_attempt_is_the_current_one(m: Model) -> None:
    row = m.one["retried"]
    archived = next(attempt for attempt in m.final.attempts if attempt.execution_id == row.id)
    archived.token, row.token = row.token, archived.token


@breaks("C7 wrong_result")
def a_result_is_another_attempt_s(m: Model) -> None:
    m.one["stale"].result = 1


@breaks("C7 duplicate")
def an_attempt_is_recorded_twice(m: Model) -> None:
    row = m.one["retried"]
    m.final.attempts.append(f.AttemptRow(row.id, row.attempt, row.token, row.node_id, "failed"))


@breaks("C7 extra")
def an_execution_is_completed_that_never_ran(m: Model) -> None:
    row = m.one["submitted"]
    m.runs.remove(m.run_of(row))


@breaks("C7 wrong_result")
def a_failure_is_recorded_as_completed(m: Model) -> None:
    m.over(m.one["failed"], "completed", T0 + 20 * S)


@breaks("C7 wrong_result")
def a_job_that_never_ended_is_completed(m: Model) -> None:
    run = m.run_of(m.one["submitted"])
    run.end_ns = run.end_us = run.outcome = None


@breaks("C7 unbalanced")
def a_group_counts_its_members_wrongly(m: Model) -> None:
    m.final.groups[0].completed -= 1


@breaks("C9 lost_result")
def the_result_of_a_job_that_ended_is_nowhere(m: Model) -> None:
    row = m.one["through the outage"]
    row.state, row.result, row.finished_us = "running", None, None


@breaks("C9 lost_result")
def a_job_that_ended_well_is_recorded_as_failed(m: Model) -> None:
    m.over(m.one["submitted"], "failed", T0 + 20 * S)


@breaks("C9 lost_result")
def the_outbox_of_a_killed_node_was_forgotten(m: Model, *, done_s: float = 5, away_s: float = 1) -> f.Row:
    """A result waits for so long until its node is killed, which is back soon."""
    killed_us = T0 + 165 * S
    ended_us, back_us = killed_us - round(done_s * S), killed_us + round(away_s * S)
    m.faults.append(Fault(fault=FaultKind.KILL, target="node:n8", begin_us=killed_us, end_us=back_us))
    row = m.row(ended_us - S)
    m.run(row, ended_us - S + 1000, ended_us, node="n8")
    m.archive(row, "lost", back_us + 300_000)
    m.completes(row, back_us + 400_000)
    return row


# --- C8, C10, C11, C16: losses ----------------------------------------------------------------------------------


@breaks("C8 unnoticed")
def a_killed_node_was_not_told_to_be_lost(m: Model) -> None:
    m.final.node_events[1].at_us += 30 * S


@breaks("C8 unexplained_loss")
def a_living_node_was_taken_for_dead(m: Model) -> None:
    m.faults[:] = [fault for fault in m.faults if fault.target != "node:n2"]


@breaks("C8 unnoticed")
def a_killed_node_was_not_told_to_be_lost_and_its_clock_is_no_reason(m: Model) -> None:
    m.faults.append(Fault(fault=FaultKind.CLOCK, target="node:n2", begin_us=T0))
    a_killed_node_was_not_told_to_be_lost(m)


@breaks("C10 early")
def a_lost_attempt_was_run_again_before_its_lease_was_over(m: Model) -> None:
    run = m.run_of(m.one["lost"])
    run.start_us = KILLED[0] + m.random.randint(S, 13 * S)
    run.start_ns = ns(run.start_us)


@breaks("C10 early")
def a_stopped_node_s_attempt_was_run_again_before_its_lease_was_over(m: Model) -> None:
    run = m.run_of(m.one["stale"])
    run.start_us = STOPPED[0] + m.random.randint(S, 13 * S)
    run.start_ns = ns(run.start_us)


@breaks("C10 rerun")
def a_job_that_may_run_once_ran_twice(m: Model) -> None:
    row = m.one["lost, and that was it"]
    m.completes(row, KILLED[0] + 17 * S)


@breaks("C11 rerun")
def a_job_was_run_again_after_the_server_s_restart(m: Model) -> None:
    row = m.row(OUTAGE[0] - S)
    m.run(row, OUTAGE[0] - S + 1000, OUTAGE[1] + 2 * S, node="n1")
    m.archive(row, "lost", OUTAGE[1] + S)
    m.completes(row, OUTAGE[1] + 3 * S)


@breaks("C9 lost_result")
def a_result_that_waited_for_the_server_was_not_taken(m: Model) -> None:
    a_job_was_run_again_after_the_server_s_restart(m)


@breaks("C16 not_rerun")
def an_execution_is_dead_after_one_loss(m: Model) -> None:
    row = m.one["lost"]
    m.over(row, "dead", T0 + 100 * S)


@breaks("C16 rerun")
def a_deadly_job_was_begun_once_more(m: Model) -> None:
    row = m.one["deadly"]
    m.run(row, T0 + 161 * S, None, node="n1").action = "exit"
    m.archive(row, "lost", T0 + 162 * S)


@breaks("C16 unbalanced")
def a_loss_was_not_counted(m: Model) -> None:
    m.one["lost"].lost_count = 0


@breaks("C16 unbalanced")
def a_loss_is_counted_of_which_nothing_else_is_known(m: Model) -> None:
    m.one["submitted"].lost_count = 1


@breaks("C22 unbalanced")
def a_second_attempt_has_no_first_one(m: Model) -> None:
    m.one["submitted"].attempt = 2


# --- C18, C19, C21, C22 -------------------------------------------------------------------------------------------


@breaks("C18 duplicate")
def two_processes_worked_under_one_name(m: Model) -> None:
    for at_us, pid in ((T0 + 191 * S, 7), (T0 + 192 * S, 8), (T0 + 193 * S, 7)):
        row = m.row(at_us)
        m.run(row, at_us + 1000, at_us + 2000, node="n9").pid = pid
        m.over(row, "completed", at_us + 2000)


@breaks("C19 unbalanced")
def registering_twice_made_a_new_version(m: Model) -> None:
    m.final.methods[0].version = 3


@breaks("C19 unbalanced")
def a_changed_schema_is_no_new_version(m: Model) -> None:
    m.final.methods[0].version = 1


@breaks("C21 revived")
def a_cancelled_execution_ran(m: Model) -> None:
    row = m.one["cancelled while it waited"]
    m.run(row, T0 + 77 * S, T0 + 77 * S + 1000, node="n1")


@breaks("C21 revived")
def a_cancelled_execution_is_completed(m: Model) -> None:
    m.over(m.one["cancelled while it waited"], "completed", T0 + 78 * S)


@breaks("C21 revived")
def an_execution_ended_twice(m: Model) -> None:
    m.final.ended_again.append(m.one["submitted"].id)


@breaks("C21 revived")
def an_execution_went_on_after_its_end(m: Model) -> None:
    m.final.revived.append(m.one["submitted"].id)


@breaks("C21 revived")
def an_end_that_was_seen_is_another_one(m: Model) -> None:
    row = m.one["failed"]
    m.call(Op.OBSERVE, T0 + 100 * S, {"id": row.id}, {"state": "completed"})


@breaks("C7 wrong_result")
def a_result_that_was_seen_is_another_one(m: Model) -> None:
    row = m.one["submitted"]
    m.call(Op.OBSERVE, T0 + 100 * S, {"id": row.id}, {"state": "completed", "result": 1})


@breaks("C21 not_over")
def a_cancel_was_confirmed_and_never_came(m: Model) -> None:
    row = m.one["cancelled as it ran"]
    row.state = "running"


@breaks("C22 late")
def a_draining_node_was_given_work(m: Model) -> None:
    row = m.row(T0 + 24 * S)
    m.run(row, T0 + 25 * S, T0 + 26 * S, node="n1")
    m.over(row, "completed", T0 + 26 * S)


@breaks("C22 unbalanced")
def an_attempt_that_was_handed_back_was_counted(m: Model) -> None:
    m.one["handed back"].attempt += 1


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_each_tampering_is_named(tampering: str) -> None:
    name, tamper = TAMPERINGS[tampering]
    model = Model(7)
    tamper(model)

    report = check(model.evidence(), model.final)

    assert name in report.counts, report.text()
    promise, verdict = name.split()
    told = [one for one in report.violations if (one.promise, one.verdict) == (promise, verdict)]
    assert told
    assert all(one.subject and one.sentence for one in told)
    assert not report.ok


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), tampering=st.sampled_from(sorted(TAMPERINGS)))
def test_whatever_the_run_it_is_clean_until_it_is_tampered_with_and_then_that_is_named(
    seed: int, tampering: str
) -> None:
    model = Model(seed)
    clean = check(model.evidence(), model.final)
    assert clean.ok, clean.text()

    name, tamper = TAMPERINGS[tampering]
    tamper(model)
    report = check(model.evidence(), model.final)
    assert name in report.counts, report.text()


def test_every_promise_that_the_checker_judges_was_looked_at_and_can_be_broken() -> None:
    model = Model(1)
    report = check(model.evidence(), model.final)
    judged = {f"C{number}" for number in (*range(1, 13), 16, 18, 19, 20, 21, 22)}
    assert set(report.checked) == judged
    assert {name.split()[0] for name, _ in TAMPERINGS.values()} == judged | {"C15"}


# --- what is no violation ---------------------------------------------------------------------------------------


def test_what_retention_has_removed_is_not_missed(capsys) -> None:
    model = Model(3)
    for kind in ("submitted", "retried"):
        forget(model, model.one[kind], runs=False)
        model.final.removed += 1
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()
    assert any("removed" in note for note in report.notes)

    # One more than was removed is one too many.
    forget(model, model.one["failed"], runs=False)
    assert "C4 unrecorded" in check(model.evidence(), model.final).counts


def test_a_process_whose_job_is_not_known_any_more_may_have_been_the_job_s_own() -> None:
    """An isolated job begins in a process of its own, between two of its node's; retention has removed its row."""
    model = Model(3)
    two_processes_worked_under_one_name(model)
    isolated = next(run for run in model.runs if run.pid == 8)
    forget(model, by_id(model, isolated.execution_id), runs=False)
    model.final.removed += 1
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def test_an_unanswered_request_is_right_either_way() -> None:
    for made in (0, 3):
        model = Model(4)
        for _ in range(made):
            model.completes(model.row(OUTAGE[1] + S, idempotency_key="mark-lost"))
        report = check(model.evidence(), model.final)
        assert report.ok, report.text()


def test_an_unanswered_delete_leaves_the_schedule_either_way() -> None:
    for there in (True, False):
        model = Model(5)
        model.call(Op.DELETE_SCHEDULE, T0 + 199 * S, {"id": "paused"}, phase=Phase.UNKNOWN)
        if not there:
            row = totals(model, "paused")
            model.final.schedules.remove(row)
            created_us = row.schedule.updated_us
            model.final.versions.append(f.VersionRow(row.schedule, created_us, T0 + 199 * S, True))
        report = check(model.evidence(), model.final)
        assert report.ok, report.text()


def test_two_attempts_at_once_are_no_violation_where_the_first_one_can_t_be_stopped() -> None:
    model = Model(6)
    row = model.row(T0 + 160 * S, options=options(timeout_s=1.0, max_attempts=2))
    model.run(row, T0 + 160 * S + 1000, T0 + 165 * S, node="n1")
    model.archive(row, "timeout", T0 + 161 * S + 1000)
    model.completes(row, T0 + 162 * S)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def test_the_attempts_of_a_deadly_job_s_neighbours_are_lost_with_their_node() -> None:
    model = Model(8)
    row = model.row(T0 + 155 * S)
    model.run(row, T0 + 155 * S + 1000, None, node="n1")
    model.archive(row, "lost", T0 + 157 * S)
    model.completes(row, T0 + 175 * S)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


@pytest.mark.parametrize(("then", "after_s"), [("node.cordoned", 1), ("node.online", 1), ("node.released", 8)])
def test_a_node_that_is_out_of_service_is_not_idle_nor_is_its_next_process(then: str, after_s: int) -> None:
    model = Model(9)
    a_job_waited_beside_an_idle_node(model)
    # (The others had something to do, or are told to be out of service as well.)
    for node in ("n1", "n2", "n3", "n8"):
        model.final.node_events.append(f.NodeEvent("node.cordoned", node, T0 + 159 * S + 500_000))
        model.final.node_events.append(f.NodeEvent(then, node, T0 + (159 + after_s) * S))
    report = check(model.evidence(), model.final)
    assert "C5 late" not in report.counts, report.text()


def test_a_deadly_job_explains_no_loss_of_its_node_s_next_life() -> None:
    model = Model(8)
    row = model.row(T0 + 165 * S)
    other = model.row(T0 + 164 * S)
    model.run(other, T0 + 164 * S + 1000, T0 + 164 * S + 2000, node="n1")
    model.over(other, "completed", T0 + 164 * S + 2000)
    model.run(row, T0 + 165 * S + 1000, None, node="n1")
    model.archive(row, "lost", T0 + 167 * S)
    model.completes(row, T0 + 185 * S)
    report = check(model.evidence(), model.final)
    assert report.counts == {"C8 unexplained_loss": 1}, report.text()


@pytest.mark.parametrize(("before_s", "verdicts"), [(9, {}), (11, {"C8 unexplained_loss": 1})])
def test_a_cut_explains_a_loss_for_as_long_as_a_node_may_be_silent_after_it(before_s, verdicts) -> None:
    model = Model(8)
    sent_us = T0 + 165 * S
    row = model.row(sent_us)
    model.run(row, sent_us + 1000, None, node="n1")
    model.archive(row, "lost", T0 + 167 * S)
    model.completes(row, T0 + 185 * S)
    mended_us = sent_us - before_s * S
    model.faults.append(Fault(fault=FaultKind.PARTITION, target="node:n1", begin_us=mended_us - S, end_us=mended_us))
    report = check(model.evidence(), model.final)
    assert report.counts == verdicts, report.text()


def test_a_successor_proves_its_node_s_death_even_if_it_is_killed_before_the_rerun_begins() -> None:
    model = Model(9)
    lost = model.run_of(model.one["lost"])
    model.faults[:] = [fault for fault in model.faults if fault.target != "node:n2"]
    again_us = KILLED[0] + 2 * S
    for begin_us, end_us in ((KILLED[0], again_us), (again_us + 400_000, KILLED[1])):
        model.faults.append(Fault(fault=FaultKind.KILL, target="node:n2", begin_us=begin_us, end_us=end_us))
    model.final.node_events.append(f.NodeEvent("node.lost", "n2", again_us + 450_000))
    lost.start_us = again_us + 500_000
    lost.start_ns = ns(lost.start_us)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()

    # As long as there was no successor, it is too soon.
    model.faults[-2] = msgspec.structs.replace(model.faults[-2], end_us=KILLED[1])
    report = check(model.evidence(), model.final)
    assert report.counts == {"C10 early": 1}, report.text()


def test_what_is_done_to_the_successor_of_a_node_that_its_own_job_ended_makes_no_rerun_too_soon() -> None:
    model = Model(9)
    died_us = DEADLY[0]
    row = model.row(died_us - 200_000)
    model.run(row, died_us - 100_000, None, node="n1")
    model.archive(row, "lost", died_us + 500_000)
    stopped_us = died_us + 550_000
    model.faults.append(Fault(fault=FaultKind.STOP, target="node:n1", begin_us=stopped_us, end_us=stopped_us + 300_000))
    model.completes(row, died_us + 600_000)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()

    # A node that no job has ended was only stopped.
    for run in model.runs:
        if run.action == "exit" and run.start_us == died_us:
            run.start_us, run.start_ns = died_us + S, ns(died_us + S)
    report = check(model.evidence(), model.final)
    assert "C10 early" in report.counts, report.text()


def test_a_successor_is_there_when_the_server_says_so_even_if_the_run_noticed_later() -> None:
    model = Model(9)
    lost = model.run_of(model.one["lost"])
    lost.start_us = KILLED[0] + 3 * S
    lost.start_ns = ns(lost.start_us)
    report = check(model.evidence(), model.final)
    assert report.counts == {"C10 early": 1}, report.text()

    model.final.node_events.append(f.NodeEvent("node.lost", "n2", KILLED[0] + 2 * S))
    model.final.node_events.append(f.NodeEvent("node.online", "n2", KILLED[0] + 2 * S))
    model.final.node_events.sort(key=lambda event: event.at_us)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def _stopped_twice(model: Model, gap_us: int) -> int:
    """Node n3 goes on for a moment, and is stopped again; when that begins."""
    model.faults[:] = [fault for fault in model.faults if fault.target != "node:n3"]
    again_us = STOPPED[0] + 20 * S
    for begin_us, end_us in ((STOPPED[0], again_us - gap_us), (again_us, STOPPED[1])):
        model.faults.append(Fault(fault=FaultKind.STOP, target="node:n3", begin_us=begin_us, end_us=end_us))
    return again_us


def test_a_node_that_is_stopped_twice_may_be_lost_for_the_first_time_and_its_attempts_run_again_in_the_second() -> None:
    model = Model(9)
    again_us = _stopped_twice(model, gap_us=10_000)
    run = model.run_of(model.one["stale"])
    run.start_us = again_us + S
    run.start_ns = ns(run.start_us)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()

    # It was heard in between: what it lost it had to be told anew.
    model.final.node_events.append(f.NodeEvent("node.online", "n3", again_us + 1000))
    report = check(model.evidence(), model.final)
    assert report.counts == {"C8 unnoticed": 1}, report.text()


def test_a_lease_that_did_not_run_out_in_the_first_silence_has_to_in_the_second() -> None:
    model = Model(9)
    model.faults[:] = [fault for fault in model.faults if fault.target != "node:n3"]
    second_us = STOPPED[0] + 12 * S
    for begin_us, end_us in ((STOPPED[0], STOPPED[0] + 2 * S), (second_us, STOPPED[1])):
        model.faults.append(Fault(fault=FaultKind.STOP, target="node:n3", begin_us=begin_us, end_us=end_us))
    run = model.run_of(model.one["stale"])
    run.start_us = second_us + 5 * S
    run.start_ns = ns(run.start_us)
    report = check(model.evidence(), model.final)
    assert "C10 early" in report.counts, report.text()


@pytest.mark.parametrize("fault", [FaultKind.STOP, FaultKind.LOAD, FaultKind.DISK, FaultKind.CORRUPT])
def test_a_result_may_have_come_to_no_outbox_where_something_else_was_done_to_its_node(fault: FaultKind) -> None:
    model = Model(9)
    row = the_outbox_of_a_killed_node_was_forgotten(model)
    ended_us = model.runs[[run.execution_id for run in model.runs].index(row.id)].end_us
    model.faults.append(Fault(fault=fault, target="node:n8", begin_us=ended_us + S, end_us=ended_us + 2 * S))
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


@pytest.mark.parametrize(("done_s", "away_s"), [(0.5, 1), (5, 16)])
def test_a_result_may_be_lost_with_a_node_that_is_killed_at_once_or_stays_away_for_a_lease(done_s, away_s) -> None:
    model = Model(9)
    the_outbox_of_a_killed_node_was_forgotten(model, done_s=done_s, away_s=away_s)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def test_a_lease_that_ran_out_behind_a_cut_leaves_nothing_to_ask_the_outbox_for() -> None:
    model = Model(9)
    the_outbox_of_a_killed_node_was_forgotten(model, done_s=10)
    killed_us = T0 + 165 * S
    cut = Fault(fault=FaultKind.PARTITION, target="node:n8", begin_us=killed_us - 12 * S, end_us=killed_us - 3 * S)
    model.faults.append(cut)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()

    # That it was not heard makes no difference to a node that was.
    model.faults[-1] = msgspec.structs.replace(cut, detail="cut_down")
    report = check(model.evidence(), model.final)
    assert report.counts == {"C9 lost_result": 1}, report.text()


@pytest.mark.parametrize(("before_s", "verdicts"), [(4, {"C9 lost_result": 1}), (4.5, {}), (6, {})])
def test_a_result_is_in_the_outbox_of_a_node_that_its_own_job_ends_if_it_was_done_well_before(
    before_s, verdicts
) -> None:
    model = Model(9)
    the_outbox_of_a_killed_node_was_forgotten(model, done_s=5)
    began_us = T0 + 165 * S - round(before_s * S)
    deadly = model.row(began_us - 1000, options=options(on_lost=OnLost.FAIL))
    model.run(deadly, began_us, None, node="n8").action = "exit"
    model.archive(deadly, "lost", T0 + 166 * S)
    model.over(deadly, "failed", T0 + 166 * S)
    deadly.error = "NodeLost"
    report = check(model.evidence(), model.final)
    assert report.counts == verdicts, report.text()


def test_a_schedule_may_sleep_until_somebody_changes_it_where_the_server_was_away_or_for_a_moment() -> None:
    model = Model(9)
    a_schedule_slept_until_somebody_changed_it(model)
    model.faults.append(Fault(fault=FaultKind.STOP, target="server", begin_us=T0 + 170 * S, end_us=T0 + 192 * S))
    report = check(model.evidence(), model.final)
    assert "C2 missed" not in report.counts, report.text()

    # It has had the time to make up for it.
    model.faults[-1] = msgspec.structs.replace(model.faults[-1], end_us=T0 + 190 * S)
    report = check(model.evidence(), model.final)
    assert "C2 missed" in report.counts, report.text()

    model = Model(9)
    a_schedule_slept_until_somebody_changed_it(model, for_s=5)
    report = check(model.evidence(), model.final)
    assert "C2 missed" not in report.counts, report.text()


def test_a_clock_that_is_set_back_makes_no_misfire_early() -> None:
    model = Model(9)
    an_execution_misfired_before_its_time_was_over(model)
    model.faults.append(Fault(fault=FaultKind.CLOCK, target="server", begin_us=T0 + 81 * S, end_us=T0 + 83 * S))
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def test_a_run_that_was_not_waited_for_may_leave_things_open() -> None:
    model = Model(9)
    model.row(T0 + 60 * S)
    model.terms = msgspec.structs.replace(model.terms, settled=False)
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()


def test_a_mistake_in_a_trigger_does_not_hide_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times are worked out anew from the document; the model and the product's audit believe the trigger."""
    from schedule_zero.timing.instants import IntervalTrigger

    right = IntervalTrigger._next_after

    def wrong(self, us: int, upto_us: int) -> int | None:
        found = right(self, us, upto_us)
        # Each fifth time is left out.
        if found is not None and (found - self.anchor_us) // self.period_us % 5 == 3:
            return right(self, found, upto_us)
        return found

    monkeypatch.setattr(IntervalTrigger, "_next_after", wrong)
    model = Model(10)
    report = check(model.evidence(), model.final)
    assert report.counts["C2 missed"] >= 10


def test_many_violations_are_counted_and_only_the_first_are_told() -> None:
    model = Model(11)
    for number in range(1500):
        model.final.damage.append(f"page {number}")
    report = check(model.evidence(), model.final)
    assert report.counts == {"C15 damaged": 1500}
    assert len(report.violations) == 1000
    assert "1480 more" in report.text()


def test_a_node_that_was_cut_off_before_it_was_killed_was_not_heard_meanwhile() -> None:
    model = Model(9)
    lost = model.run_of(model.one["lost"])
    lost.start_us = KILLED[0] + 10 * S
    lost.start_ns = ns(lost.start_us)
    report = check(model.evidence(), model.final)
    assert report.counts == {"C10 early": 1}, report.text()

    cut = Fault(fault=FaultKind.PARTITION, target="node:n2", begin_us=KILLED[0] - 6 * S, end_us=KILLED[0] + S)
    model.faults.append(msgspec.structs.replace(cut, detail="cut_up"))
    report = check(model.evidence(), model.final)
    assert report.ok, report.text()

    # It heard nothing, but was heard.
    model.faults[-1] = msgspec.structs.replace(cut, detail="cut_down")
    report = check(model.evidence(), model.final)
    assert report.counts == {"C10 early": 1}, report.text()


def test_a_node_that_hardly_gets_a_turn_hears_later_that_it_is_to_drain() -> None:
    model = Model(9)
    row = model.row(DRAINED[0] + 4 * S)
    model.run(row, DRAINED[0] + 4 * S, DRAINED[0] + 5 * S, node="n1")
    model.completes(row, DRAINED[0] + 6 * S)
    report = check(model.evidence(), model.final)
    assert report.counts.get("C22 late") == 1, report.text()

    model.faults.append(
        Fault(fault=FaultKind.LOAD, target="node:n1", begin_us=DRAINED[0] - S, end_us=DRAINED[0] + 3 * S, detail="slow")
    )
    report = check(model.evidence(), model.final)
    assert "C22 late" not in report.counts, report.text()
