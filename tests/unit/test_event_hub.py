"""The hub: waiters are woken by the end of their execution only; a slow subscriber loses, nobody else does."""

from __future__ import annotations

import pytest

from schedule_zero.model import Event
from schedule_zero.ops.events import EventHub

pytestmark = pytest.mark.anyio


async def test_a_waiter_is_woken_by_the_end_of_its_own_execution() -> None:
    hub = EventHub()
    mine, other = hub.wait_terminal("a"), hub.wait_terminal("b")

    hub.publish([(1, Event("execution.created", "a")), (1, Event("execution.finished", "a"))])

    assert mine.done()
    assert not other.done()


async def test_a_forgotten_waiter_leaves_nothing_behind() -> None:
    hub = EventHub()
    first, second = hub.wait_terminal("a"), hub.wait_terminal("a")
    hub.forget("a", first)
    hub.publish([(1, Event("execution.finished", "a"))])
    hub.forget("a", second)

    assert not first.done()
    assert second.done()
    assert hub._waiters == {}


async def test_ids_count_the_events_of_one_transaction() -> None:
    hub = EventHub()
    subscription = hub.subscribe()
    hub.publish([(7, Event("x.a", "1")), (7, Event("x.b", "1")), (8, Event("x.c", "1"))])

    assert [(await subscription.get())[0] for _ in range(3)] == ["7-0", "7-1", "8-0"]


async def test_a_full_subscription_says_so_and_disturbs_no_other() -> None:
    hub = EventHub()
    slow, quick = hub.subscribe(maxsize=1), hub.subscribe(maxsize=10)
    hub.publish([(1, Event("x.a", "1")), (1, Event("x.b", "1"))])

    assert slow.overflowed
    assert not quick.overflowed
    assert [(await quick.get())[1].kind for _ in range(2)] == ["x.a", "x.b"]


async def test_a_closed_subscription_gets_nothing_more() -> None:
    hub = EventHub()
    subscription = hub.subscribe()
    subscription.close()
    hub.publish([(1, Event("x.a", "1"))])

    assert subscription.empty()
    assert hub.subscribers == 0
