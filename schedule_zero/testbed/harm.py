"""Harm that is done to a run's processes beside everything else, by a plan from the seed; what was done is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence

from msgspec import Struct

from schedule_zero.testbed.history import SERVER
from schedule_zero.testbed.scenario import Ground, ScenarioParams

# Of the time there is: nothing at its very beginning, and what comes back has work to come back to.
EARLIEST, LATEST = 0.1, 0.8
WAIT_S = 120.0


class Planned(Struct, frozen=True):
    """Kill (back after so long) or stop (for so long) a target, so long after the beginning."""

    target: str
    at_s: float
    stop: bool
    seconds: float


class Done(Struct):
    """``until_us`` 0: it is not over."""

    target: str
    from_us: int
    until_us: int = 0


class HarmParams(ScenarioParams, frozen=True):
    """Of a scenario that does harm: for how long it goes on, and how often what is done."""

    seconds: float = 30.0
    node_kills: int = 4
    node_stops: int = 3
    server_kills: int = 2
    # How long what was killed stays away, and what was stopped stopped.
    away_s: float = 1.0
    stopped_s: float = 4.0


def plan(dice: random.Random, nodes: Sequence[str], params: HarmParams) -> list[Planned]:
    """The same dice, the same plan."""
    found: list[Planned] = []
    for what, stop, times in (
        ("node", False, params.node_kills),
        ("node", True, params.node_stops),
        (SERVER, False, params.server_kills),
    ):
        for _ in range(times):
            target = SERVER if what == SERVER else f"node:{dice.choice(nodes)}"
            at_s = dice.uniform(EARLIEST, LATEST) * params.seconds
            found.append(Planned(target, at_s, stop, params.stopped_s if stop else params.away_s))
    return found


async def do(ground: Ground, planned: Planned, done: list[Done]) -> None:
    """Carry one out when its time has come; of a target one after the other."""
    await ground.sleep(planned.at_s)
    await ground.until(lambda: all(one.until_us for one in done if one.target == planned.target), WAIT_S)
    mine = Done(planned.target, ground.now_us())
    done.append(mine)
    if planned.stop:
        await ground.stop(planned.target, planned.seconds)
    else:
        await ground.kill(planned.target, back_after_s=planned.seconds)
    mine.until_us = ground.now_us()
