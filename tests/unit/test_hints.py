"""Hints to open pages: that something changed, once for many events, and no more often than a page can follow."""

from __future__ import annotations

import asyncio

import pytest

from schedule_zero.model import Event
from schedule_zero.ops import hints
from schedule_zero.ops.hints import Hints

pytestmark = pytest.mark.anyio


class World:
    def __init__(self) -> None:
        self.started = 0
        self.hints = Hints(lambda: self.started)
        self._seq = 0

    def commit(self, *kinds: str) -> None:
        self._seq += 1
        self.hints.publish([(self._seq, Event(kind, "x")) for kind in kinds])


@pytest.fixture
def world() -> World:
    return World()


async def test_a_thousand_events_are_one_hint_with_their_number(world):
    watcher = world.hints.watch(frozenset({"execution"}))

    world.commit(*["execution.finished"] * 1000, "node.lost")

    assert await watcher.changes(5) == {"execution": 1000}


async def test_a_page_hears_of_its_topics_only(world):
    watcher = world.hints.watch(frozenset({"node", "schedule"}))

    world.commit("execution.finished")
    assert await watcher.changes(0) == {}
    world.commit("node.lost", "schedule.created", "schedule.deleted")

    assert await watcher.changes(5) == {"node": 1, "schedule": 2}


async def test_what_is_committed_while_a_page_waits_wakes_it(world):
    watcher = world.hints.watch(frozenset({"execution"}))
    waiting = asyncio.create_task(watcher.changes(30))
    await asyncio.sleep(0)

    world.commit("execution.created")

    assert await waiting == {"execution": 1}


async def test_what_was_before_a_page_came_is_none_of_its_news(world):
    world.hints.watch(frozenset({"execution"}))
    world.commit("execution.created")

    assert await world.hints.watch(frozenset({"execution"})).changes(0) == {}


async def test_a_start_that_makes_no_event_is_noticed(world, monkeypatch):
    monkeypatch.setattr(hints, "LOOK_S", 0.001)
    watcher = world.hints.watch(frozenset({"execution"}))
    other = world.hints.watch(frozenset({"node"}))

    world.started += 3

    assert await watcher.changes(5) == {"execution": 0}
    assert await other.changes(0.01) == {}


async def test_while_changes_do_not_stop_hints_become_rarer(world, monkeypatch):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(hints.asyncio, "sleep", sleep)
    watcher = world.hints.watch(frozenset({"execution"}))
    for _ in range(hints.BUSY_AFTER + 1):
        world.commit("execution.finished")
        await watcher.changes(0)
        await watcher.pause()
    assert slept == [*[hints.GAP_S] * (hints.BUSY_AFTER - 1), hints.BUSY_GAP_S, hints.BUSY_GAP_S]

    await watcher.changes(0)
    world.commit("execution.finished")
    await watcher.changes(0)
    await watcher.pause()

    assert slept[-1] == hints.GAP_S


async def test_nothing_is_counted_while_nobody_watches(world):
    watcher = world.hints.watch(frozenset({"execution"}))
    watcher.close()

    world.commit("execution.finished")

    assert not world.hints.counts
    assert world.hints.watchers == 0
    assert world.hints.last_seq == 1
