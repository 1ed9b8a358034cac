"""Dispatcher, store and sockets together: the way of a job, restarts, garbage, and who may be which node."""

from __future__ import annotations

import asyncio
import os
from functools import partial

import msgspec
import pytest
import structlog.testing
from msgspec import structs

from schedule_zero.clock import SystemClock
from schedule_zero.config import HandlerRule
from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch import inbound, recording
from schedule_zero.dispatch.peers import PATIENCE
from schedule_zero.dispatch.views import reached
from schedule_zero.errors import NotFound, StoreUnavailable
from schedule_zero.job_options import JobOptions
from schedule_zero.model import AttemptOutcome, JobMethod, NodeOperation, NodeState, OperationKind, State
from schedule_zero.rules.change_log import Actor
from schedule_zero.store import executions, handlers, nodes
from schedule_zero.wire import messages as m
from tests.integration.dispatch_bed import CONFIG, NOOP, Peer, running_bed
from tests.support import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bed(tmp_path):
    async with running_bed(tmp_path / "server") as bed:
        yield bed


# --- the way of a job -----------------------------------------------------------------------------------


async def test_a_job_goes_to_its_node_and_its_result_into_the_store(bed):
    with Peer(bed) as node:
        await node.ready()
        [execution_id] = await bed.submit(params=b'{"x": 1}')
        [item] = await node.work()
        assert (item.id, item.params, item.attempt) == (execution_id, b'{"x": 1}', 1)
        far_us = 4_000_000_000_000_000
        node.report(item, result=b"42", started_us=far_us, finished_us=far_us + 4)
        ack = await node.wait(m.ResultAck)
        assert ack.recorded == [item.token]
        row = await bed.get(execution_id)
        assert (row.state, row.result, row.node_id, row.started_us) == ("completed", b"42", "n1", far_us)


async def test_no_attempt_starts_before_it_was_sent_or_ends_before_it_started(bed):
    """A node estimates the server's clock, and may be a millisecond too early."""
    with Peer(bed) as node:
        await node.ready()
        [execution_id] = await bed.submit()
        [item] = await node.work()
        node.report(item, result=b"42", started_us=2, finished_us=1)
        await node.wait(m.ResultAck)

        row = await bed.get(execution_id)
        assert row.dispatched_us == row.started_us == row.finished_us


async def test_many_jobs_over_two_nodes_all_complete_once(bed):
    with Peer(bed, "n1") as one, Peer(bed, "n2") as two:
        await one.ready(20)
        await two.ready(20)
        ids = await bed.submit(500)
        seen: list[str] = []

        def turn():
            for node in (one, two):
                while message := node.take(m.Dispatch):
                    seen.extend(item.id for item in message.items)
                    node.report(*message.items)
            return len(seen) >= 500

        await eventually(turn)
        assert sorted(seen) == sorted(ids)
        for execution_id in (ids[0], ids[250], ids[-1]):
            await bed.becomes(execution_id, "completed")


async def test_jobs_wait_for_their_node_and_a_known_handler_keeps_accepting_them(bed):
    with Peer(bed) as node:
        await node.ready()
        node.send(m.Bye(s=node.s))
        await eventually(lambda: bed.view("n1").state is NodeState.OFFLINE)
    bed.dispatcher.registry.validate("demo", "noop", {})
    ids = await bed.submit(3)
    with Peer(bed) as node:
        await node.ready()
        assert [item.id for item in await node.work(3)] == ids


async def test_a_small_window_of_large_jobs_lets_everything_through(tmp_path):
    # Two of the largest fit: so many are read, and released from waiting for their time, in one step.
    dispatch = structs.replace(CONFIG.dispatch, window_bytes=2 * CONFIG.limits.params_bytes)
    params = b'{"x":"%s"}' % (b"x" * (CONFIG.limits.params_bytes - 8))
    async with running_bed(tmp_path, structs.replace(CONFIG, dispatch=dispatch)) as bed:
        waiting = await bed.submit(7, params=params)
        soon_us = bed.dispatcher._clock.wall_us() + 100_000
        timed = await bed.submit(7, params=params, state=State.SCHEDULED, not_before_us=soon_us)
        with Peer(bed) as node:
            await node.ready(3)
            done: list[str] = []

            def turn():
                while message := node.take(m.Dispatch):
                    done.extend(item.id for item in message.items)
                    node.report(*message.items)
                return len(done) >= 14

            await eventually(turn)
            assert sorted(done) == sorted(waiting + timed)


async def test_a_retry_comes_when_it_is_due(bed):
    options = msgspec.json.encode(JobOptions(max_attempts=2, retry_delay_s=0.2))
    with Peer(bed) as node:
        await node.ready()
        [execution_id] = await bed.submit(options=options)
        [item] = await node.work()
        node.report(item, outcome=AttemptOutcome.FAILED)
        [again] = await node.work()
        assert (again.id, again.attempt) == (execution_id, 2)


class SetClock(SystemClock):
    """The machine's clocks, the wall's so many microseconds ahead."""

    ahead_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.ahead_us


@pytest.mark.parametrize("by_us", [-86_400_000_000, 86_400_000_000])
async def test_c12_no_retry_and_no_end_of_waiting_follows_a_clock_that_is_set(tmp_path, by_us):
    clock = SetClock()
    async with running_bed(tmp_path / "server", clock=clock) as bed:
        with Peer(bed) as node:
            await node.ready()
            options = msgspec.json.encode(JobOptions(max_attempts=2, retry_delay_s=1.5))
            [execution_id] = await bed.submit(options=options)
            [item] = await node.work()
            node.report(item, outcome=AttemptOutcome.FAILED)
            await bed.becomes(execution_id, State.RETRY_SCHEDULED)
            began_s = clock.mono_s()
            soon_us, long_us = (clock.wall_us() + seconds * 1_000_000 for seconds in (2, 900))
            [soon] = await bed.submit(handler_id="nobody", start_by_us=soon_us)
            [long] = await bed.submit(handler_id="nobody", start_by_us=long_us)

            clock.ahead_us = by_us
            # Nothing else happens that would write.
            [again] = await node.work()

            assert (again.id, again.attempt) == (execution_id, 2)
            assert 1.0 < clock.mono_s() - began_s < 8.0
            await bed.becomes(soon, State.MISFIRED)
            assert await bed.state(long) == State.PENDING


async def test_an_execution_for_later_comes_when_it_is_due(bed):
    with Peer(bed) as node:
        await node.ready()
        now_us = bed.dispatcher._clock.wall_us()
        [execution_id] = await bed.submit(state=State.SCHEDULED, not_before_us=now_us + 200_000)
        [item] = await node.work()
        assert item.id == execution_id
        assert bed.dispatcher._clock.wall_us() >= now_us + 200_000


async def test_progress_is_shown_while_it_runs(bed):
    with Peer(bed) as node:
        await node.ready()
        [execution_id] = await bed.submit()
        [item] = await node.work()
        node.send(m.Progress(s=node.s, token=item.token, percent=40.0, text="halfway, nearly"))
        view = await eventually(lambda: bed.dispatcher.progress(execution_id))
        assert (view.percent, view.text) == (40.0, "halfway, nearly")
        node.report(item)
        await node.wait(m.ResultAck)
        assert bed.dispatcher.progress(execution_id) is None
        assert reached((await bed.get(execution_id)).progress) == view


async def test_accept_shows_when_the_method_was_entered(bed):
    with Peer(bed) as node:
        await node.ready()
        [execution_id] = await bed.submit()
        [item] = await node.work()
        node.send(m.Accept(s=node.s, items=[m.AcceptedItem(token=item.token, started_us=4_000_000_000_000_077)]))

        async def started():
            return (await bed.get(execution_id)).started_us == 4_000_000_000_000_077

        await eventually(started)


async def test_c21_cancel_waiting_running_and_over(bed):
    with Peer(bed) as node:
        await node.ready(1)
        running, waiting = await bed.submit(2)
        [item] = await node.work()
        answers = await bed.dispatcher.cancel([running, waiting, "nobody"])
        assert [answer.outcome for answer in answers] == ["requested", "cancelled", "unknown"]
        assert (await node.wait(m.Cancel)).tokens == [item.token]
        node.report(item, outcome=AttemptOutcome.CANCELLED)
        await bed.becomes(running, "cancelled")
        [answer] = await bed.dispatcher.cancel([running])
        assert answer.outcome == "terminal"


async def test_a_submission_whose_insert_failed_leaves_no_trace(bed):
    with Peer(bed) as node:
        await node.ready(2)
        [execution_id] = await bed.submit()
        [item] = await node.work()
        with pytest.raises(Exception, match=r".*"):
            await bed.submit(id=execution_id)
        node.report(item)
        await node.wait(m.ResultAck)
        await bed.submit(2)
        assert len(await node.work(2)) == 2


# --- C7: replays ------------------------------------------------------------------------------------------


async def test_c7_a_replay_is_a_duplicate_also_after_a_restart_of_the_server(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            await bed.submit()
            [item] = await node.work()
            node.report(item)
            await node.wait(m.ResultAck)
            node.report(item)
            assert (await node.wait(m.ResultAck)).duplicate == [item.token]
            unknown = m.Held(id="nobody", token=5)
            node.report(unknown)
            assert (await node.wait(m.ResultAck)).unknown == [5]
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.hello()
            node.report(item)
            assert (await node.wait(m.ResultAck)).duplicate == [item.token]


async def test_c6_a_late_result_is_superseded_and_kept_as_an_attempt(bed):
    with Peer(bed, "n1") as first, Peer(bed, "n2") as second:
        await first.ready()
        [execution_id] = await bed.submit()
        [old] = await first.work()
        first.send(m.Progress(s=first.s, token=old.token, percent=63.0, text="loading table x"))
        came = await eventually(lambda: bed.dispatcher.progress(execution_id))
        first.socket.close(0)
        await eventually(lambda: bed.view("n1").state is NodeState.LOST, within_s=1.0)
        await second.ready()
        [new] = await second.work()
        assert (new.id, new.attempt) == (execution_id, 2)
        first.socket = first._connect()
        await first.hello()
        first.report(old, result=b'"late"')
        assert (await first.wait(m.ResultAck)).superseded == [old.token]
        second.report(new, result=b'"right"')
        await bed.becomes(execution_id, "completed")
        detail = await bed.store.read(lambda conn: executions.get(conn, execution_id))
        assert detail.execution.result == b'"right"'
        assert [(one.token, one.outcome) for one in detail.attempts] == [(old.token, "lost")]
        # What the lost node can't say any more the server has kept.
        assert reached(detail.attempts[0].progress) == came
        assert detail.execution.progress is None


# --- C8, C11, C18 -------------------------------------------------------------------------------------------


async def test_c8_a_closed_socket_is_noticed_within_a_second(bed):
    with Peer(bed) as node:
        await node.ready()
        node.socket.close(0)
        await eventually(lambda: bed.view("n1").state is NodeState.LOST, within_s=1.0)
        await eventually(lambda: bed.dispatcher.registry.handlers()[0].node_ids == [])


async def test_c8_a_silent_node_is_lost_and_has_to_say_hello_again(bed):
    with Peer(bed, silent=True) as node:
        await node.ready()
        await eventually(lambda: bed.view("n1").state is NodeState.LOST)
        node.beat()
        error = await node.wait(m.ErrorMessage)
        assert error.code == "no_session"


async def test_heartbeats_are_answered(bed):
    with Peer(bed) as node:
        await node.hello()
        node.send(m.Heartbeat(s=node.s, seq=17))
        assert (await node.wait(m.HbAck)).seq == 17


async def test_c11_running_attempts_are_reattached_after_a_restart_of_the_server(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            [execution_id] = await bed.submit()
            [item] = await node.work()
            instance, epoch = node.instance, node.epoch
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            node.instance, node.epoch = instance, epoch
            await node.ready(running=[item])
            # Longer than the lease of what the server knew only from its store.
            await asyncio.sleep(2.0)
            assert node.take(m.Dispatch) is None
            node.report(item)
            assert (await node.wait(m.ResultAck)).recorded == [item.token]
            assert (await bed.get(execution_id)).attempt == 1


async def test_c11_a_process_that_came_while_the_store_failed_is_known_after_a_restart_of_the_server(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(recording, "NODE_AGAIN_S", 0.05)
    real, failed = nodes.upsert, []

    def full(tx, args):
        failed.append(args)
        raise OSError("disk full")

    async with running_bed(tmp_path) as bed:
        with Peer(bed) as earlier:
            await earlier.ready()
        monkeypatch.setattr(nodes, "upsert", full)
        with Peer(bed) as node:
            await node.ready()
            await eventually(lambda: len(failed) > 2)
            monkeypatch.setattr(nodes, "upsert", real)
            [execution_id] = await bed.submit()
            [sent] = (await node.wait(m.Dispatch)).items
            instance, epoch = node.instance, node.epoch
            await eventually(lambda: stored_instance(bed, instance))
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            node.instance, node.epoch = instance, epoch
            await node.ready()
            # It had not begun: it is sent again, as the same attempt.
            [item] = (await node.wait(m.Dispatch)).items
            assert (item.id, item.token, item.attempt) == (execution_id, sent.token, 1)


async def test_c11_the_backlog_is_dispatched_after_a_restart_of_the_server(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready(0)
            ids = await bed.submit(120)
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready(10)
            order: list[str] = []
            while len(order) < 120:
                # (What a busy machine makes us slow to take is sent again, and dropped, as a node would.)
                items = [item for item in await node.work() if item.id not in order]
                order += [item.id for item in items]
                node.report(*items)
            assert order == ids


async def test_c18_a_restarted_node_takes_over_its_work_at_once_even_after_a_server_restart(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            [execution_id] = await bed.submit()
            await node.work()
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            [item] = await node.work()
            assert (item.id, item.attempt) == (execution_id, 2)


async def test_c18_a_second_process_with_the_same_node_id_is_denied(bed):
    with Peer(bed) as incumbent, Peer(bed, state_key="another") as newcomer:
        await incumbent.ready()
        newcomer.say_hello()
        denial = await newcomer.wait(m.Deny)
        assert (denial.code, denial.retry) == ("duplicate_node", False)
        assert "testhost" in denial.reason
        await bed.submit()
        assert len(await incumbent.work()) == 1


async def test_c19_the_same_declaration_twice_writes_nothing(bed):
    with Peer(bed) as node:
        await node.ready()
        [before] = bed.dispatcher.registry.handlers()
        await node.ready()
        [after] = bed.dispatcher.registry.handlers()
        assert before.updated_us == after.updated_us
        assert [method.version for method in after.methods] == [1]
        changed = structs.replace(NOOP, schema=b'{"type":"object","maxProperties":3}')
        node.reconnect()
        await node.ready(handlers=[m.HandlerDeclaration(handler_id="demo", methods=[changed])])
        assert [method.version for method in bed.dispatcher.registry.handlers()[0].methods] == [2]


async def test_a_handler_was_updated_when_its_nodes_come_and_go(bed):
    def updated_us() -> int:
        [handler] = bed.dispatcher.registry.handlers()
        return handler.updated_us

    async def stored_us() -> int:
        [handler] = await bed.store.read(handlers.all)
        return handler.updated_us

    with Peer(bed, "n1") as first, Peer(bed, "n2") as second:
        await first.ready()
        moments = [updated_us()]
        await second.ready()
        moments.append(updated_us())
        second.send(m.Bye(s=second.s))
        await eventually(lambda: updated_us() > moments[-1])
        moments.append(updated_us())
        assert moments == sorted(set(moments))
        await eventually(lambda: _is(stored_us, moments[-1]))


async def test_a_server_that_starts_again_shows_since_when_its_nodes_are_away(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            [before] = bed.dispatcher.registry.handlers()
    async with running_bed(tmp_path) as bed:
        [after] = bed.dispatcher.registry.handlers()
        assert (before.node_ids, after.node_ids) == (["n1"], [])
        assert after.updated_us > before.updated_us


async def _is(read, wanted) -> bool:
    return await read() == wanted


async def test_a_method_that_is_not_allowed_is_ignored_and_the_rest_is_served(tmp_path):
    rules = {"demo": HandlerRule(allowed_methods=["noop"])}
    methods = [NOOP, JobMethod(name="secret"), JobMethod(name="bad", schema=b"{")]
    async with running_bed(tmp_path, rules=rules) as bed:
        with Peer(bed) as node:
            await node.ready(handlers=[m.HandlerDeclaration(handler_id="demo", methods=methods)])
            assert [method.name for method in bed.dispatcher.registry.handlers()[0].methods] == ["noop"]
            await bed.submit()
            assert len(await node.work()) == 1


# --- drain --------------------------------------------------------------------------------------------------


async def operate(bed, kind, *, until_us=None, node_id="n1"):
    operation = kind and NodeOperation(kind=OperationKind(kind), since_us=1, until_us=until_us, note="why", by="ann")
    return await bed.dispatcher.operate(node_id, operation, by=Actor(name="ann"), note="why")


async def test_drain_and_release_of_a_node(bed):
    with Peer(bed, "n1") as one, Peer(bed, "n2") as two:
        await one.ready()
        await bed.submit(2)
        items = await one.work(2)
        await two.ready()
        view = await operate(bed, "drain")
        assert view.draining
        assert (await one.wait(m.ServerDrain)).on
        one.send(m.Reject(s=one.s, items=[m.RejectedItem(token=item.token, reason="draining") for item in items]))
        again = await two.work(2)
        assert [item.attempt for item in again] == [1, 1]
        view = await operate(bed, None)
        assert not view.draining
        assert not (await one.wait(m.ServerDrain)).on


async def test_no_operation_on_a_node_that_nobody_knows(bed):
    with pytest.raises(NotFound, match="'nobody'"):
        await operate(bed, "drain", node_id="nobody")


async def test_an_operation_that_could_not_be_stored_was_not_done(bed):
    with Peer(bed, "n1") as node:
        await node.ready()
        await bed.store.close()
        with pytest.raises(StoreUnavailable):
            await operate(bed, "cordon")
        assert bed.dispatcher.node("n1").operation is None


@pytest.mark.parametrize("kind", ["cordon", "drain"])
async def test_an_operation_is_in_force_after_a_restart_of_the_server_and_with_it_what_is_left(tmp_path, kind):
    far_us = SystemClock().wall_us() + 3_600_000_000
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            await operate(bed, kind, until_us=far_us if kind == "drain" else None)
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.hello()
            if kind == "drain":
                told = await node.wait(m.ServerDrain)
                assert told.on
                assert told.deadline_s is not None
                assert 3500 < told.deadline_s < 3600
            view = bed.dispatcher.node("n1")
            assert (view.operation.kind, view.operation.note, view.operation.by) == (kind, "why", "ann")


QUARANTINE = structs.replace(CONFIG, dispatch=structs.replace(CONFIG.dispatch, quarantine_failures=2))


async def quarantined(bed, one, two):
    """All fails on ``one`` that did well on ``two``."""
    await two.ready()
    await bed.submit()
    two.report(*await two.work(1))
    two.send(m.Credit(s=two.s, window=0))
    await eventually(lambda: bed.dispatcher.node("n2").window == 0)
    await one.ready(2)
    await bed.submit(2)
    for item in await one.work(2):
        one.report(item, outcome=AttemptOutcome.FAILED)
    await eventually(lambda: bed.dispatcher.stats.nodes_quarantined == 1)


async def stored_instance(bed, instance):
    return await bed.store.read(lambda conn: nodes.all(conn)[0].instance == instance)


async def stored_operation(bed):
    return await bed.store.read(lambda conn: nodes.all(conn)[0].operation)


async def test_a_quarantine_is_stored_and_in_force_after_a_restart(tmp_path):
    async with running_bed(tmp_path, config=QUARANTINE) as bed:
        with Peer(bed, "n1") as one, Peer(bed, "n2") as two:
            await quarantined(bed, one, two)
            assert (await one.wait(m.ServerDrain)).on
            await eventually(lambda: stored_operation(bed))
    async with running_bed(tmp_path, config=QUARANTINE) as bed:
        assert bed.dispatcher.node("n1").operation.kind is OperationKind.QUARANTINE


async def test_c13_a_quarantine_that_could_not_be_stored_is_in_force_and_stored_later(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "OPERATE_AGAIN_S", 0.05)
    real, failed = nodes.operate, []

    def full(tx, args):
        failed.append(args)
        raise OSError("disk full")

    monkeypatch.setattr(nodes, "operate", full)
    async with running_bed(tmp_path, config=QUARANTINE) as bed:
        with Peer(bed, "n1") as one, Peer(bed, "n2") as two:
            await quarantined(bed, one, two)
            await eventually(lambda: len(failed) > 1)
            assert bed.dispatcher.node("n1").operation.kind is OperationKind.QUARANTINE
            assert await stored_operation(bed) is None
            monkeypatch.setattr(nodes, "operate", real)
            stored = await eventually(lambda: stored_operation(bed))
            assert stored == bed.dispatcher.node("n1").operation


@pytest.mark.parametrize("kind", [None, "cordon"])
async def test_an_operators_word_in_the_moment_of_a_quarantine_is_the_last(tmp_path, monkeypatch, kind):
    async with running_bed(tmp_path, config=QUARANTINE) as bed:
        with Peer(bed, "n1") as one, Peer(bed, "n2") as two:
            # The quarantine reaches the store right behind it, before its commit is told.
            real, said = bed.store.submit, []

            def submit(verb, arg, done, **more):
                if verb is nodes.operate and arg.own and not said:
                    said.append(asyncio.ensure_future(operate(bed, kind)))
                    asyncio.get_running_loop().call_soon(partial(real, verb, arg, done, **more))
                else:
                    real(verb, arg, done, **more)

            monkeypatch.setattr(bed.store, "submit", submit)
            await quarantined(bed, one, two)
            await eventually(lambda: said and said[0].done())

            def kind_of(operation):
                return None if operation is None else operation.kind

            async def agreed():
                stored = kind_of(await stored_operation(bed))
                return stored == kind_of(bed.dispatcher.node("n1").operation) == kind

            await eventually(agreed)


# --- C17: garbage ---------------------------------------------------------------------------------------------


async def test_c17_garbage_is_answered_and_a_peer_that_sends_much_of_it_is_ignored(bed):
    with Peer(bed) as node, Peer(bed, "n2") as other:
        await node.ready()
        for number in range(PATIENCE - 1):
            node.socket.send_multipart([b"SZ1", os.urandom(number)])
        await eventually(lambda: bed.dispatcher.stats.bad_messages == PATIENCE - 1)
        assert (await node.wait(m.ErrorMessage)).code == "protocol"
        node.beat()
        await node.wait(m.HbAck)
        node.socket.send_multipart([b"one more"])
        await eventually(lambda: bed.view("n1").state is NodeState.LOST)
        assert bed.dispatcher.stats.peers_dropped == 1
        node.inbox.clear()
        node.beat()
        await other.ready()
        assert node.take(m.HbAck) is None
        node.reconnect()
        await node.hello()


async def test_c17_a_server_message_from_a_node_is_garbage(bed):
    with Peer(bed) as node:
        node.send(m.Welcome(s="x", server_us=1, heartbeat_s=1, lease_s=1))
        assert (await node.wait(m.ErrorMessage)).code == "protocol"


async def test_c17_a_bug_of_ours_costs_one_message_not_the_server(bed):
    def broken(*_):
        raise RuntimeError("a bug")

    with Peer(bed) as node:
        await node.hello()
        working = bed.dispatcher._inbound.events[m.Heartbeat]
        bed.dispatcher._inbound.events[m.Heartbeat] = broken
        with structlog.testing.capture_logs() as logs:
            node.beat()
            await eventually(lambda: bed.dispatcher.stats.internal_errors == 1)
        assert "message_failed" in [line["event"] for line in logs]
        bed.dispatcher._inbound.events[m.Heartbeat] = working
        node.beat()
        await node.wait(m.HbAck)


async def test_a_bug_in_one_effect_does_not_take_the_others_along(bed):
    def broken(_):
        raise RuntimeError("a bug")

    with Peer(bed) as node:
        bed.dispatcher._do[fx.NodeChanged] = broken
        with structlog.testing.capture_logs() as logs:
            await node.ready()
        assert "effect_failed" in [line["event"] for line in logs]
        [execution_id] = await bed.submit()
        node.report(*await node.work())
        await bed.becomes(execution_id, "completed")


@pytest.mark.parametrize(
    "said",
    [
        {"protocol": 9},
        {},
        {"handlers": [m.HandlerDeclaration(handler_id="demo", methods=[JobMethod(name="no name", schema=b"{")] * 500)]},
    ],
    ids=["denied", "welcome", "with methods that are none"],
)
async def test_c17_a_peer_that_says_hello_again_and_again_is_dropped_and_the_log_stays_short(bed, said):
    with structlog.testing.capture_logs() as logs, Peer(bed, silent=True) as node:
        for _ in range(3 * PATIENCE):
            node.say_hello(**said)
        await eventually(lambda: bed.dispatcher.stats.peers_dropped == 1)
        await eventually(lambda: bed.dispatcher.stats.messages_in == 3 * PATIENCE)
    assert bed.dispatcher.stats.bad_messages == PATIENCE
    assert len(logs) <= PATIENCE * (inbound.MAX_IGNORED_TOLD + 2) + 5
    if "handlers" in said:
        assert {line.get("not_logged") for line in logs if line["event"] == "method_ignored"} == {0, 480}


async def test_a_hello_that_is_too_large_is_refused(bed):
    with Peer(bed) as node:
        node.say_hello(version="x" * 100, labels={str(number): "y" for number in range(65)})
        assert (await node.wait(m.ErrorMessage)).code == "protocol"
        node.socket.send_multipart([b"SZ1", b"x" * (3 << 20)])
        assert "bytes" in (await node.wait(m.ErrorMessage)).message


# --- stop -------------------------------------------------------------------------------------------------------


async def test_a_stopping_server_says_goaway_and_records_what_came(tmp_path):
    async with running_bed(tmp_path) as bed:
        with Peer(bed) as node:
            await node.ready()
            [execution_id] = await bed.submit()
            [item] = await node.work()
            node.report(item)
            await node.wait(m.ResultAck)
            await bed.dispatcher.stop(2.0)
            await bed.dispatcher.stop(2.0)
            assert (await node.wait(m.Goaway)).reconnect_s > 0
            assert await bed.state(execution_id) == "completed"


async def test_nodes_are_shown_with_what_they_do(bed):
    with Peer(bed) as node:
        await node.ready(7)
        await bed.submit(2)
        await node.work(2)
        view = bed.view("n1")
        assert (view.state, view.handlers, view.running, view.window) == ("online", ["demo"], 2, 7)
        assert view.heartbeat_age_s is not None
        assert bed.view("nobody") is None
    config = CONFIG
    assert config.zmq.host == "127.0.0.1"
