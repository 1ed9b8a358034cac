"""Bots on a network that loses requests and answers, before a store that fails and a server that restarts.

The real core and the real ``HttpPeers``, on a clock that the test moves. Bots do what the page on HTTP workers asks;
one kind is worse, and forgets jobs without a word. What must hold at every moment: an execution is believed in by at
most one bot (C6), tokens are never used twice, states change only as the table allows. At the end, once everything
works again: every execution is over (C5), and what a bot has finished is acknowledged (C9).
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec.structs import replace

from schedule_zero.dispatch import effects as fx
from schedule_zero.dispatch.http_claims import Ask
from schedule_zero.dispatch.http_peers import INSTANCE, HttpPeers
from schedule_zero.errors import ScheduleZeroError, Unavailable
from schedule_zero.job_options import JobOptions
from schedule_zero.model import AttemptOutcome, State
from schedule_zero.rules.birth import equip
from schedule_zero.rules.options import NO_OPTIONS, Source
from schedule_zero.rules.states import TERMINAL
from schedule_zero.store.executions import Refusal
from schedule_zero.wire import messages as m
from tests.unit.core_world import WALL_US, World

pytestmark = pytest.mark.anyio

# And those that once broke a promise: what came for a bot's earlier process was given to the next.
SEEDS = (*range(25), 39, 65, 183, 187, 228, 279, 389)
STEP_S = 0.25
STORM_S = 90.0
CALM_S = 400.0


class Inbound:
    """The way into the core, without registry and socket."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.events = {
            m.Heartbeat: core.heartbeat,
            m.Credit: core.credit,
            m.Accept: core.accept,
            m.Reject: core.reject,
            m.Result: core.result,
            m.NodeDrain: lambda peer, message, now: core.leaving(peer, message.s, now),
            m.Bye: lambda peer, message, now: core.bye(peer, message.s, now),
        }
        self.now = lambda: None

    def hello(self, peer: bytes, key: str, hello: m.Hello, *, adds: frozenset[str]) -> None:
        self.core.hello(peer, hello, [("h", "m")], self.now())


class HttpWorld(World):
    """A world whose peers are bots."""

    def __init__(self) -> None:
        self.http: HttpPeers | None = None
        self.due = False
        super().__init__(window=20)

    def _new_core(self) -> Any:
        core = super()._new_core()
        inbound = Inbound(core)
        inbound.now = lambda: self.now
        if self.http is not None:
            self.http.close()
        self.http = HttpPeers(core=core, inbound=inbound, config=self.config, clock=Clock(self), changed=self.soon)
        return core

    def soon(self) -> None:
        if not self.due:
            self.due = True
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        self.due = False
        super().settle()
        if self.http is not None:
            self.http.settle()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, fx.Send):
            if effect.peer in self.http.peers:
                self.http.receive(effect.peer, effect.message)
            return
        super().perform(effect)
        if self.store_down and isinstance(effect, fx.RecordStart | fx.RecordEnd):
            self.http.unrecorded(effect.attempts)


class Clock:
    """What ``HttpPeers`` reads."""

    def __init__(self, world: World) -> None:
        self.world = world

    def mono_s(self) -> float:
        return self.world.mono_s

    def wall_us(self) -> int:
        return WALL_US + round(self.world.mono_s * 1e6)


class Bot:
    """One bot id. ``exact`` says what it holds; the others never do, and sometimes forget a job."""

    def __init__(self, sim: Simulation, number: int) -> None:
        self.sim = sim
        self.bot_id = f"bot{number}"
        self.exact = number % 2 == 0
        self.epoch = 1
        # token → (execution, until when it believes, when it will be done)
        self.jobs: dict[int, tuple[str, float, float]] = {}
        self.outbox: dict[int, tuple[str, AttemptOutcome]] = {}
        self.seen: set[int] = set()
        # What processes before this one had, where it can be told from them.
        self.earlier: frozenset[int] = frozenset()
        self.request: asyncio.Task[None] | None = None

    def ask(self, want: int) -> Ask:
        instance = f"{INSTANCE}{self.bot_id}" + (f"-{self.epoch}" if self.exact else "")
        hello = m.Hello(
            protocol=1,
            node_id=self.bot_id,
            instance=instance,
            epoch=self.epoch,
            state_key=self.bot_id if self.exact else instance,
            handlers=[m.HandlerDeclaration(handler_id="h", methods=[])],
            slots=3,
        )
        running = frozenset([*self.jobs, *self.outbox]) if self.exact else None
        return Ask(hello=hello, want=want, running=running)

    def step(self) -> None:
        now_s, rng = self.sim.world.mono_s, self.sim.random
        for token, (id_, until_s, ends_s) in list(self.jobs.items()):
            if until_s < now_s:
                # It stops believing in it.
                del self.jobs[token]
            elif ends_s <= now_s:
                del self.jobs[token]
                outcome = rng.choices([AttemptOutcome.COMPLETED, AttemptOutcome.FAILED], [8, 2])[0]
                self.outbox[token] = (id_, outcome)
        if self.sim.storm and not self.exact and self.jobs and rng.random() < 0.02:
            self.jobs.pop(rng.choice(list(self.jobs)))
        if self.request is None or self.request.done():
            self.request = asyncio.get_running_loop().create_task(self.do())
        elif self.sim.storm and rng.random() < 0.05:
            # The client gives up on it.
            self.request.cancel()

    async def do(self) -> None:
        rng, http = self.sim.random, self.sim.world.http
        sent_s = self.sim.world.mono_s
        lost = self.sim.storm and rng.random() < 0.1
        try:
            if self.outbox and rng.random() < 0.7:
                await self.report(lost=lost)
            elif self.jobs and rng.random() < 0.6:
                token = rng.choice(list(self.jobs))
                id_, _, ends_s = self.jobs[token]
                beat = http.heartbeat(self.bot_id, id_, token, None)
                if not lost and token in self.jobs:
                    if beat is None or beat.cancel:
                        del self.jobs[token]
                        if beat is not None:
                            self.outbox[token] = (id_, AttemptOutcome.CANCELLED)
                    else:
                        self.jobs[token] = (id_, sent_s + self.sim.lease_s, ends_s)
            elif self.sim.world.mono_s >= self.sim.mute_until_s.get(self.bot_id, 0.0):
                named = set(self.jobs)
                given = await http.claim(self.ask(rng.randint(0, 3)))
                if not lost:
                    self.take(given, named, sent_s)
        except ScheduleZeroError:
            return

    def take(self, given: Any, named: set[int], sent_s: float) -> None:
        rng = self.sim.random
        until_s = sent_s + self.sim.lease_s
        if self.exact:
            for token in named & self.jobs.keys():
                id_, _, ends_s = self.jobs[token]
                self.jobs[token] = (id_, until_s, ends_s)
        for token in given.cancel:
            if token in self.jobs:
                self.outbox[token] = (self.jobs.pop(token)[0], AttemptOutcome.CANCELLED)
        for item in given.items:
            if item.token in self.jobs or item.token in self.outbox:
                continue
            assert item.token not in self.seen or self.exact, "delivered twice to a bot that can't know"
            assert item.token not in self.earlier, "what an earlier process had is given to the next"
            self.seen.add(item.token)
            ends_s = self.sim.world.mono_s + rng.choice([0.0, 1.0, 8.0, 25.0])
            self.jobs[item.token] = (item.id, until_s, ends_s)

    async def report(self, *, lost: bool) -> None:
        token, (id_, outcome) = next(iter(self.outbox.items()))
        http = self.sim.world.http
        verdict = await http.report(self.bot_id, m.ResultItem(id=id_, token=token, outcome=outcome))
        if verdict is None:
            # What the service does then.
            refusal = self.sim.world.ledger.classify(id_, token)
            assert refusal is not Refusal.UNKNOWN
            if refusal is None:
                return
        if not lost:
            self.outbox.pop(token, None)

    def kill(self) -> None:
        if self.request is not None:
            self.request.cancel()
        self.jobs.clear()
        if self.exact:
            self.earlier = frozenset(self.seen)
        self.epoch += 1


class Simulation:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.storm = True
        self.world = HttpWorld()
        self.lease_s = self.world.config.lease_s
        self.mute_until_s: dict[str, float] = {}
        self.bots = [Bot(self, number) for number in range(4)]

    async def run(self) -> None:
        world, rng = self.world, self.random
        calm_s = world.mono_s + STORM_S
        end_s = calm_s + CALM_S
        while world.mono_s < end_s and not (not self.storm and self.settled()):
            world.mono_s += STEP_S
            if self.storm and world.mono_s >= calm_s:
                self.storm = world.store_down = False
                world.release()
            if self.storm:
                self.trouble()
            for bot in self.bots:
                bot.step()
            for _ in range(6):
                await asyncio.sleep(0)
                self.check()
            if world.holding and rng.random() < 0.5:
                world.release()
            world.http.tick()
            world.core.tick(world.now)
            world.release_due()
            self.check()
        for bot in self.bots:
            if bot.request is not None:
                bot.request.cancel()
                await asyncio.gather(bot.request, return_exceptions=True)

    def trouble(self) -> None:
        world, rng = self.world, self.random
        world.store_down = not world.held and rng.random() < 0.1
        if rng.random() < 0.2:
            world.holding = True
        if rng.random() < 0.15:
            world.run(rng.randint(1, 5), priority=rng.choice([1, 5, 9]))
        kind = rng.random()
        bot = rng.choice(self.bots)
        if kind < 0.01:
            bot.kill()
        elif kind < 0.03:
            self.mute_until_s[bot.bot_id] = world.mono_s + rng.choice([5.0, 30.0])
        elif kind < 0.04:
            world.holding = False
            world.restart()
            for each in self.bots:
                # Its connection is gone with the process that it spoke to.
                if each.request is not None:
                    each.request.cancel()
        elif kind < 0.06 and world.ledger.records and not world.store_down:
            world.cancel(rng.choice(list(world.ledger.records)))

    def settled(self) -> bool:
        over = all(value in TERMINAL for value in self.world.ledger.states().values())
        return over and not any(bot.outbox for bot in self.bots)

    def check(self) -> None:
        now_s = self.world.mono_s
        believed: dict[str, str] = {}
        for bot in self.bots:
            for id_, until_s, _ in bot.jobs.values():
                if until_s >= now_s:
                    assert id_ not in believed, f"{id_} on {believed[id_]} and {bot.bot_id} at {now_s}"
                    believed[id_] = bot.bot_id

    def check_end(self) -> None:
        open_ = {key: value for key, value in self.world.ledger.states().items() if value not in TERMINAL}
        assert not open_, f"not terminal: {open_}"
        assert not any(bot.outbox for bot in self.bots), "results were never acknowledged"
        for record in self.world.ledger.records.values():
            assert sum(state in TERMINAL for state in record.history) == 1
        assert all(node.held == 0 and not node.attempts for node in self.world.core.nodes.values())


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_one_bot_believes_and_every_job_ends_once(seed):
    simulation = Simulation(seed)
    await simulation.run()
    simulation.check_end()
    states = list(simulation.world.ledger.states().values())
    assert states.count(State.COMPLETED) > 10


async def test_what_comes_for_a_claim_in_the_moment_its_client_goes_is_given_to_another():
    simulation = Simulation(0)
    world, bot = simulation.world, simulation.bots[1]
    gone = asyncio.create_task(world.http.claim(replace(bot.ask(1), wait_s=60)))
    for _ in range(6):
        await asyncio.sleep(0)
    [execution_id] = world.run(1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    given = await world.http.claim(bot.ask(1))

    assert [item.id for item in given.items] == [execution_id]


async def test_c5_c11_a_bots_heavy_job_takes_one_place_of_it_after_a_restart_of_the_server_too():
    simulation = Simulation(0)
    world, bot = simulation.world, simulation.bots[1]
    rows = world.rows(2)
    for row in rows:
        equip(row, JobOptions(weight=3), NO_OPTIONS, Source.SUBMISSION)
    first, second = world.submit(rows)
    given = await world.http.claim(bot.ask(1))
    assert [item.id for item in given.items] == [first]

    world.restart()
    given = await world.http.claim(bot.ask(1))

    assert [item.id for item in given.items] == [second]
    assert world.core.nodes[bot.bot_id].held == 2


async def test_c5_a_claim_that_waits_behind_one_that_is_denied_is_answered_though_the_bot_is_forgotten_between():
    simulation = Simulation(0)
    world, bot = simulation.world, simulation.bots[0]
    http, ask = world.http, bot.ask(1)
    first, second = world.run(2)
    [item] = (await http.claim(ask)).items
    while world.core.nodes[bot.bot_id].session is not None:
        world.advance(0.5)
        http.tick()
    stranger = replace(ask, hello=replace(ask.hello, instance=f"{INSTANCE}stranger", state_key="stranger"))

    async def denied() -> None:
        with pytest.raises(Unavailable, match="is silent now"):
            await http.claim(stranger)
        # The lock is free, and whoever waits for it has not come to his turn.
        http.tick()

    _, given = await asyncio.gather(denied(), http.claim(replace(ask, running=frozenset([item.token]))))

    assert (item.id, [one.id for one in given.items]) == (first, [second])
