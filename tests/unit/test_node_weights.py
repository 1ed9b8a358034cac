"""Heavy attempts on a node: how many slots they take, and that they neither starve nor starve others."""

from __future__ import annotations

import pytest

from tests.support import eventually
from tests.unit.test_node_runner import Make, rig

__all__ = ["rig"]
pytestmark = pytest.mark.anyio


async def test_attempts_take_as_many_slots_as_they_weigh(rig: Make) -> None:
    r = rig(slots=4)
    r.submit("held", weight=3)
    r.submit("held", "held")
    await eventually(lambda: r.jobs.running == 2)
    assert (r.runner.busy, r.runner.queued) == (4, 1)
    r.jobs.gate.set()
    await r.ended(3)
    await eventually(lambda: r.runner.busy == 0)


@pytest.mark.parametrize("method", ["held", "aheld"])
async def test_a_heavy_one_waits_for_its_slots_and_nothing_overtakes_it(rig: Make, method: str) -> None:
    r = rig(slots=3)
    r.submit(method)
    await eventually(lambda: r.jobs.running == 1)
    r.submit("ok", weight=3)
    r.submit("ok", "aok")
    assert (r.runner.busy, r.runner.queued) == (1, 3)
    r.jobs.gate.set()
    r.jobs.async_gate.set()
    await r.ended(4)
    assert r.jobs.entered[:2] == [1, 2]


async def test_one_that_is_heavier_than_all_slots_runs_alone(rig: Make) -> None:
    r = rig(slots=2)
    r.submit("held")
    await eventually(lambda: r.jobs.running == 1)
    r.submit("aheld", weight=9)
    r.submit("aok")
    assert r.runner.queued == 2
    r.jobs.gate.set()
    await eventually(lambda: r.runner.busy == 9)
    assert r.runner.queued == 1
    r.jobs.async_gate.set()
    await r.ended(3)


async def test_what_a_heavy_one_frees_is_for_several(rig: Make) -> None:
    r = rig(slots=3)
    r.submit("held", weight=3)
    await eventually(lambda: r.jobs.running == 1)
    r.submit("aheld", "aheld", "aheld")
    r.jobs.gate.set()
    await eventually(lambda: r.jobs.running == 3)


async def test_a_plain_one_after_a_heavy_one_leaves_the_rest_to_others(rig: Make) -> None:
    r = rig(slots=3)
    r.submit("held", weight=3)
    await eventually(lambda: r.jobs.running == 1)
    r.submit("watchful", "watchful", "watchful")
    r.jobs.gate.set()
    await eventually(lambda: r.jobs.running == 3)
    for token in (2, 3, 4):
        r.runner.cancel(token)
    await r.ended(4)


async def test_cancelling_a_heavy_one_that_waits_lets_the_others_go(rig: Make) -> None:
    r = rig(slots=2)
    r.submit("held")
    await eventually(lambda: r.jobs.running == 1)
    [heavy] = r.submit("ok", weight=2)
    r.submit("aok")
    r.runner.cancel(heavy.token)
    await r.ended(2)
    assert r.jobs.entered == [1, 3]


async def test_what_is_given_back_is_counted_by_weight(rig: Make) -> None:
    r = rig(slots=4)
    r.submit("held", "held", "held", "held")
    await eventually(lambda: r.jobs.running == 4)
    r.submit("ok", weight=3)
    r.submit("ok", weight=2)
    r.submit("ok")
    assert r.runner.take_back(8) == [7, 6]
    assert r.runner.take_back(4) == [5]
