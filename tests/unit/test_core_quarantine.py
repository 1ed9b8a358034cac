"""Quarantine in the core: which node, which never, and how it ends."""

from __future__ import annotations

import msgspec
import pytest

from schedule_zero.job_options import JobOptions
from schedule_zero.model import AttemptOutcome, OperationKind, State
from schedule_zero.wire import messages as m
from tests.unit.core_world import World

FAILED, LOST = AttemptOutcome.FAILED, AttemptOutcome.LOST
RETRIES = msgspec.json.encode(JobOptions(max_attempts=20, retry_delay_s=0.0))


@pytest.fixture
def world():
    return World(quarantine_failures=3, quarantine_losses=2, quarantine_s=60.0)


class Pair:
    """Two nodes, of which one is given work at a time."""

    def __init__(self, world, *, pairs=(("h", "m"),)) -> None:
        self.world = world
        self.sick, self.well = world.node("sick", window=0, pairs=pairs), world.node("well", window=0, pairs=pairs)

    def give(self, node, count=1, **fields) -> list:
        """Let ``node`` alone take new work."""
        self.world.run(count, **fields)
        node.credit(node.view.held + count)
        items = node.work()
        node.credit(0)
        return items

    def fail(self, count=1, node=None, **said) -> None:
        node = node or self.sick
        for item in self.give(node, count):
            node.report(item, outcome=FAILED, **said)

    def complete(self, count=1, node=None, **fields) -> None:
        node = node or self.well
        node.report(*self.give(node, count, **fields))

    def alive(self, seconds: float) -> None:
        self.world.advance(seconds, alive=[self.sick, self.well])


@pytest.fixture
def pair(world):
    return Pair(world)


def quarantined(node) -> bool:
    operation = node.view.operation
    return operation is not None and operation.kind is OperationKind.QUARANTINE


def put_in_quarantine(pair) -> None:
    pair.complete()
    pair.fail(3)
    assert quarantined(pair.sick)
    pair.sick.got(m.ServerDrain)


def test_a_node_where_fails_what_does_well_elsewhere_is_quarantined_and_hands_back_the_rest(world, pair):
    pair.complete()
    items = pair.give(pair.sick, 5)
    for item in items[:3]:
        pair.sick.report(item, outcome=FAILED)
    assert quarantined(pair.sick)
    operation = pair.sick.view.operation
    assert operation.by == ""
    assert operation.note == "3 executions in a row failed, of what does well elsewhere: h.m"
    assert operation.until_us == world.now.wall_us + 60_000_000
    assert [message.on for message in pair.sick.got(m.ServerDrain)] == [True]
    pair.sick.reject(*items[3:], reason="draining")
    assert [item.attempt for item in pair.well.credit(5).work()] == [1, 1]
    assert world.operated == [("sick", operation, operation.note)]


def test_a_job_that_fails_everywhere_quarantines_nobody(world, pair):
    for _ in range(10):
        pair.fail(2, pair.sick)
        pair.fail(2, pair.well)
    assert not world.operated


def test_a_job_that_does_well_elsewhere_no_more_counts_no_more(pair):
    pair.complete()
    pair.fail(1, pair.well)
    pair.fail(10)
    assert not quarantined(pair.sick)


def test_a_completion_long_ago_proves_nothing(pair):
    pair.complete()
    pair.alive(601)
    pair.fail(10)
    assert not quarantined(pair.sick)


def test_a_completion_in_between_ends_the_row(pair):
    pair.complete()
    for _ in range(5):
        pair.fail(2)
        pair.complete(1, pair.sick)
    assert not quarantined(pair.sick)


def test_the_attempts_of_one_execution_are_one_failure(world, pair):
    pair.complete()
    [item] = pair.give(pair.sick, options=RETRIES)
    for _ in range(10):
        pair.sick.report(item, outcome=FAILED)
        world.release_due()
        pair.sick.credit(1)
        [item] = pair.sick.work()
        pair.sick.credit(0)
    assert not quarantined(pair.sick)


@pytest.mark.parametrize("said", [{"give_up": True}, {"retry_after_s": 5.0}])
def test_what_jobs_decide_themselves_does_not_count(pair, said):
    pair.complete()
    pair.fail(10, **said)
    assert not quarantined(pair.sick)


def test_the_only_node_of_a_method_is_never_quarantined(world):
    pair = Pair(world, pairs=(("h", "m"),))
    alone = world.node("alone", window=0, pairs=(("h", "m"), ("h", "only here")))
    pair.complete()
    for item in pair.give(alone, 3):
        alone.report(item, outcome=FAILED)
    assert not quarantined(alone)
    assert [event for event, _ in world.notes] == ["node_not_quarantined"]


def test_at_most_half_of_the_nodes_are_quarantined(world):
    nodes = [world.node(f"n{number}", window=0) for number in range(4)]
    pair = Pair(world)
    nodes += [pair.sick]
    for node in nodes:
        pair.complete()
        pair.fail(3, node)
    assert [quarantined(node) for node in nodes] == [True, True, True, False, False]


def test_a_node_that_an_operator_holds_is_not_quarantined(world, pair):
    pair.complete()
    items = pair.give(pair.sick, 5)
    world.operate("sick", "cordon")
    for item in items:
        pair.sick.report(item, outcome=FAILED)
    assert pair.sick.view.operation.kind is OperationKind.CORDON
    assert not world.operated


def test_an_operators_word_replaces_a_quarantine(world, pair):
    put_in_quarantine(pair)
    world.operate("sick", "cordon")
    pair.alive(3600)
    assert pair.sick.view.operation.kind is OperationKind.CORDON
    world.operate("sick", None)
    assert pair.give(pair.sick, 1)


def test_no_quarantine_where_it_is_switched_off():
    pair = Pair(World(quarantine_failures=0, quarantine_losses=0))
    pair.complete()
    pair.fail(50)
    assert pair.sick.view.operation is None


# --- lost processes ---------------------------------------------------------------------------------------


def crash(pair) -> None:
    """The node dies with two attempts, and is back."""
    pair.give(pair.sick, 2)
    pair.sick.disconnect()
    pair.sick.start()
    pair.sick.hello().credit(0)
    pair.world.advance(1, alive=[pair.sick, pair.well])


def test_a_node_whose_processes_are_lost_with_their_work_is_quarantined(world, pair):
    pair.complete()
    crash(pair)
    assert not quarantined(pair.sick), "two attempts of one process count once"
    crash(pair)
    assert quarantined(pair.sick)
    assert pair.sick.view.operation.note == "2 of its processes were lost with what they ran, within 10 minutes"


def test_processes_lost_long_ago_do_not_count(pair):
    pair.complete()
    crash(pair)
    pair.alive(601)
    pair.complete()
    crash(pair)
    assert not quarantined(pair.sick)


def test_a_job_that_kills_whatever_runs_it_quarantines_nobody(pair):
    for _ in range(5):
        crash(pair)
    assert not quarantined(pair.sick)


def test_a_network_that_breaks_and_comes_back_is_no_loss(pair):
    pair.complete()
    [item] = pair.give(pair.sick, 1)
    pair.sick.accept(item)
    for _ in range(10):
        pair.sick.disconnect()
        pair.sick.hello(running=[item]).credit(0)
    assert not quarantined(pair.sick)


# --- probation --------------------------------------------------------------------------------------------


def on_probation(world, pair) -> None:
    put_in_quarantine(pair)
    pair.alive(59)
    assert not pair.sick.view.probation
    pair.alive(2)
    assert pair.sick.view.probation
    assert [message.on for message in pair.sick.got(m.ServerDrain)] == [False]


def test_on_probation_it_gets_one_attempt_at_a_time_and_a_completion_releases_it(world, pair):
    on_probation(world, pair)
    pair.sick.credit(10)
    world.run(5)
    [item] = pair.sick.work()
    pair.sick.report(item)
    assert pair.sick.view.operation is None
    assert len(pair.sick.work()) == 4
    assert world.operated[-1] == ("sick", None, "h.m completed on probation")


def test_a_failure_on_probation_doubles_the_time_and_a_relapse_goes_on_from_there(world, pair):
    on_probation(world, pair)
    pair.fail(1)
    operation = pair.sick.view.operation
    assert (operation.times, operation.until_us) == (2, world.now.wall_us + 120_000_000)
    pair.alive(121)
    pair.complete(1, pair.sick)
    assert pair.sick.view.operation is None
    pair.complete()
    pair.fail(3)
    assert pair.sick.view.operation.times == 3


def test_what_says_nothing_on_probation_is_followed_by_another_attempt(world, pair):
    on_probation(world, pair)
    [item] = pair.give(pair.sick, 1)
    pair.sick.report(item, outcome=FAILED, give_up=True)
    assert pair.sick.view.probation
    [item] = pair.give(pair.sick, 1)
    pair.sick.report(item)
    assert pair.sick.view.operation is None


def test_a_quarantined_node_that_is_the_last_one_is_on_probation_at_once(world, pair):
    put_in_quarantine(pair)
    pair.well.disconnect()
    world.run(2)
    world.advance(1, alive=[pair.sick])
    assert pair.sick.view.probation
    [item] = pair.sick.credit(5).work()
    # Failing again it stays there: one doubtful node is better than none.
    pair.sick.report(item, outcome=FAILED)
    assert pair.sick.view.probation
    assert len(pair.sick.work()) == 1


def test_a_quarantine_survives_a_restart_of_the_server_and_of_the_node(world, pair):
    put_in_quarantine(pair)
    pair.alive(10)
    world.restart()
    pair.well.hello().credit(0)
    pair.sick.start()
    pair.sick.hello().credit(5)
    world.run()
    assert pair.sick.work() == []
    pair.alive(48)
    assert not pair.sick.view.probation
    pair.alive(3)
    assert len(pair.sick.work()) == 1


def test_a_quarantined_node_that_is_away_at_its_time_is_on_probation_when_it_is_back(world, pair):
    put_in_quarantine(pair)
    pair.sick.disconnect()
    world.advance(100, alive=[pair.well])
    world.run()
    pair.sick.hello().credit(5)
    assert pair.sick.work() == []
    pair.alive(1)
    assert len(pair.sick.work()) == 1


def test_an_operators_release_ends_a_quarantine(world, pair):
    put_in_quarantine(pair)
    world.operate("sick", None)
    pair.sick.credit(3)
    world.run(3)
    assert len(pair.sick.work()) == 3
    assert all(record.state is State.RUNNING for record in list(world.ledger.records.values())[-3:])


def test_a_quarantined_node_that_never_comes_back_is_forgotten(world, pair):
    put_in_quarantine(pair)
    pair.sick.disconnect()
    world.advance(25 * 3600, alive=[])
    assert "sick" not in world.core.nodes
