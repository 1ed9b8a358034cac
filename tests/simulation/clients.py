"""Clients of the simulated server: they call the service's verbs, and write down what they were told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from schedule_zero.clock import rfc3339
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.job_options import JobOptions
from schedule_zero.model import CatchUp, Overlap, Policies, Role
from schedule_zero.rules.states import TERMINAL
from schedule_zero.service import Service
from schedule_zero.service.dead_letters import Edit
from schedule_zero.service.specs import IdemKey, Principal, ScheduleSpec, SubmitItem
from schedule_zero.store.dead_letters import Which
from schedule_zero.testbed.history import HistoryLine, Op, Phase

if TYPE_CHECKING:
    from tests.simulation.world import World

ME = Principal(name="sim", role=Role.ADMIN, token_id="sim")
PATIENCE_S = 20.0
Verb = Callable[[Service], Awaitable[dict[str, Any]]]


class Gone(Exception):
    """The connection was cut."""


class Clients:
    """All clients of a world, and what they know."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.lines: list[HistoryLine] = []
        self.schedules: list[str] = []
        self.executions: list[str] = []
        self._world = world
        self._random = rng
        self._names = count(1)
        self._open = 0

    async def quiet(self, deadline_s: float) -> None:
        """Until no request is in flight, or the time is up."""
        until_s = self._world.loop.now_s + deadline_s
        while self._open and self._world.loop.now_s < until_s:
            await asyncio.sleep(0.05)

    # --- one call ---------------------------------------------------------------------------------------

    async def call(self, op: Op | None, number: int, args: dict[str, Any], verb: Verb) -> dict[str, Any] | None:
        """The answer; None: it was refused, or nobody knows. ``op`` None: the history has no word for it."""
        world = self._world
        self._note(Phase.INVOKE, op, number, args=args)
        server, process = world.server, world.server_process
        if server is None or process is None or server.service.system.draining:
            self._note(Phase.FAIL, op, number, answer={"why": "not there"})
            return None
        reply: asyncio.Future[Any] = world.loop.create_future()

        def settle(answer: Any) -> None:
            if not reply.done():
                reply.set_result(answer)

        def gone() -> None:
            settle(Gone())

        async def serve() -> None:
            self._open += 1
            try:
                answer: Any = await verb(server.service)
            except ScheduleZeroError as error:
                answer = error
            except Exception as error:
                world.complain({"event": "request_failed", "op": str(op), "error": repr(error)})
                answer = error
            finally:
                self._open -= 1
            world.loop.later(0.0005, settle, answer)

        process.spawn(serve(), "request")
        process.mourners.append(gone)
        try:
            answer = await asyncio.wait_for(reply, PATIENCE_S)
        except TimeoutError:
            answer = Gone("no answer")
        if gone in process.mourners:
            process.mourners.remove(gone)
        world.trace("answer", number, op, args, str(answer))
        if isinstance(answer, ScheduleZeroError) and answer.http_status != 500:
            self._note(Phase.FAIL, op, number, answer={"why": answer.code})
            return None
        if isinstance(answer, Exception):
            self._note(Phase.UNKNOWN, op, number, answer={"why": repr(answer)})
            return None
        self._note(Phase.OK, op, number, answer=answer)
        return answer

    def _note(self, phase: Phase, op: Op | None, number: int, *, args: Any = None, answer: Any = None) -> None:
        if op is not None:
            world = self._world
            self.lines.append(
                HistoryLine(
                    phase=phase,
                    op=op,
                    process=number,
                    wall_us=world.wall_us(),
                    mono_ns=world.mono_ns(),
                    args=args or {},
                    answer=answer or {},
                )
            )

    # --- what they ask for --------------------------------------------------------------------------------

    def job(self) -> tuple[str, bytes, JobOptions]:
        rng = self._random
        method = rng.choice(["ok", "ok", "nap", "nap", "flaky", "once"])
        params: dict[str, Any] = {}
        if method == "ok":
            params = {"value": rng.randint(0, 1000)}
        elif method in ("nap", "once"):
            params = {"seconds": round(rng.choice([0.1, 0.5, 2.0, 6.0]) * rng.uniform(0.5, 1.0), 3)}
        options: dict[str, Any] = {}
        if rng.random() < 0.5:
            options.update(max_attempts=rng.randint(2, 4), retry_delay_s=rng.choice([0.0, 0.5, 2.0]))
        if rng.random() < 0.15:
            options.update(timeout_s=rng.choice([0.3, 1.0, 3.0]))
        if rng.random() < 0.15:
            options.update(queue_timeout_s=rng.choice([0.5, 5.0, 20.0]))
        if rng.random() < 0.15:
            options.update(max_instances=rng.randint(1, 3))
        if rng.random() < 0.15:
            options.update(on_lost=rng.choice(["rerun", "fail"]))
        if rng.random() < 0.3:
            options.update(priority=rng.randint(1, 9))
        return method, msgspec.json.encode(params), msgspec.convert(options, JobOptions)

    def spec(self, id_: str, *, every: tuple[float, float] = (1.0, 12.0), ends: bool = True) -> ScheduleSpec:
        rng, world = self._random, self._world
        method, params, options = self.job()
        end = {"end": rfc3339(world.end_of_fires_us)} if ends else {}
        trigger: dict[str, Any]
        kind = rng.random()
        if kind < 0.6:
            trigger = {"type": "interval", "seconds": round(rng.uniform(*every), 1), **end}
        elif kind < 0.9:
            second = rng.choice([2, 5, 10, 15, 30])
            trigger = {"type": "cron", "expression": f"*/{second} * * * * *", **end}
        else:
            at_us = min(world.wall_us() + round(rng.uniform(0.5, 30.0) * 1e6), world.end_of_fires_us)
            trigger = {"type": "date", "run_date": rfc3339(at_us)}
        policies: dict[str, Any] = {
            "overlap": rng.choice([*Overlap, Overlap.ALLOW, Overlap.ALLOW]).value,
            "catch_up": rng.choice([*CatchUp]).value,
        }
        if rng.random() < 0.2:
            policies["jitter_s"] = rng.choice([0.2, 1.0])
        if rng.random() < 0.1:
            policies["max_fires"] = rng.randint(1, 5)
        return ScheduleSpec(
            id=id_,
            handler_id="sim",
            job_method=method,
            job_params=msgspec.Raw(params),
            trigger=trigger,
            options=options,
            policies=msgspec.convert(policies, Policies),
            misfire_grace_s=rng.choice([None, None, 1.0]),
        )

    def plain(self, id_: str, every: tuple[float, float]) -> ScheduleSpec:
        """Every so often, and nothing more."""
        seconds = round(self._random.uniform(*every))
        end = rfc3339(self._world.end_of_fires_us)
        trigger = {"type": "interval", "seconds": seconds, "end": end}
        return ScheduleSpec(id=id_, handler_id="sim", job_method="ok", trigger=trigger)

    async def create(self, number: int, spec: ScheduleSpec) -> bool:
        async def verb(service: Service) -> dict[str, Any]:
            written = await service.schedules.create(ME, [spec])
            return {"ids": [row.id for row in written.schedules]}

        assert spec.id is not None
        done = await self.call(Op.CREATE_SCHEDULE, number, {"id": spec.id}, verb)
        if done is not None:
            self.schedules.append(spec.id)
        return done is not None

    async def submit(self, number: int, *, many: int | None = None, method: str | None = None) -> list[str]:
        rng = self._random
        mark = f"m{next(self._names)}"
        size = many or rng.choice([1, 1, 1, 3, 8])
        name, params, options = self.job()
        if method is not None:
            name, params, options = method, b"{}", JobOptions()
        later_us = self._world.wall_us() + round(rng.uniform(0.5, 5) * 1e6) if rng.random() < 0.15 else None
        items = [
            SubmitItem(
                handler_id="sim",
                job_method=name,
                job_params=msgspec.Raw(params),
                options=options,
                idempotency_key=mark,
                not_before_us=later_us,
            )
            for _ in range(size)
        ]
        idem = IdemKey(key=mark, fingerprint=mark) if rng.random() < 0.7 else None

        async def verb(service: Service) -> dict[str, Any]:
            return {"ids": (await service.executions.submit(ME, items, idem)).ids}

        args = {"mark": mark, "count": size, **({} if idem is None else {"key": mark})}
        for _ in range(1 if idem is None else 3):
            done = await self.call(Op.SUBMIT, number, args, verb)
            if done is not None:
                self.executions += done["ids"]
                return list(done["ids"])
            await asyncio.sleep(rng.uniform(0.1, 2.0))
        return []

    async def cancel(self, number: int, id_: str) -> None:
        async def verb(service: Service) -> dict[str, Any]:
            answer = await service.executions.cancel(ME, id_)
            state = None if answer.state is None else answer.state.value
            return {"outcome": answer.outcome.value, **({} if state is None else {"state": state})}

        await self.call(Op.CANCEL, number, {"id": id_}, verb)

    async def observe(self, number: int, id_: str, wait_s: float = 0.0) -> str | None:
        async def verb(service: Service) -> dict[str, Any]:
            found = (await service.executions.get(id_, wait_s)).execution
            answer: dict[str, Any] = {"state": found.state.value}
            if found.state in TERMINAL and found.result is not None:
                answer["result"] = crc32(found.result)
            return answer

        done = await self.call(Op.OBSERVE, number, {"id": id_}, verb)
        return None if done is None else done["state"]

    async def on_schedule(self, number: int, op: Op, id_: str) -> None:
        spec = self.spec(id_)

        async def verb(service: Service) -> dict[str, Any]:
            if op is Op.DELETE_SCHEDULE:
                await service.schedules.delete(ME, id_)
                return {}
            if op is Op.UPDATE_SCHEDULE:
                row, _ = await service.schedules.put(ME, id_, spec)
            elif op is Op.PAUSE_SCHEDULE:
                row = await service.schedules.pause(ME, id_)
            else:
                row = await service.schedules.resume(ME, id_)
            return {"generation": row.generation, "version": row.version}

        await self.call(op, number, {"id": id_}, verb)

    async def run_now(self, number: int, id_: str) -> None:
        async def verb(service: Service) -> dict[str, Any]:
            return {"ids": (await service.schedules.run(ME, id_)).ids}

        done = await self.call(Op.SUBMIT, number, {}, verb)
        self.executions += [] if done is None else done["ids"]

    async def requeue(self, number: int) -> None:
        """Run again what has failed, one letter or a handful at a rate."""
        many = self._random.random() < 0.3

        async def verb(service: Service) -> dict[str, Any]:
            groups = (await service.dead_letters.groups(Which())).rows
            if not groups:
                return {"ids": []}
            if many:
                await service.dead_letters.begin(ME, Which(handler_id="sim"), Edit(), 5.0)
                return {"ids": []}
            letters = (await service.dead_letters.executions(groups[0].id)).rows
            if not letters:
                return {"ids": []}
            again = await service.dead_letters.requeue(ME, [letters[0].id], Edit())
            return {"ids": [id_ for id_ in again.ids if id_ is not None]}

        await self.call(Op.SUBMIT, number, {}, verb)

    async def operate(self, number: int, node_id: str, what: str) -> bool:
        async def verb(service: Service) -> dict[str, Any]:
            if what == "cordon":
                await service.system.cordon(ME, node_id)
            elif what == "drain":
                await service.system.drain(ME, node_id, deadline_s=3.0)
            else:
                await service.system.release(ME, node_id)
            return {}

        if what != "drain":
            self._world.other_word(node_id)
        return await self.call(None, number, {"node": node_id, "what": what}, verb) is not None

    # --- at random ----------------------------------------------------------------------------------------

    async def busy(self, number: int, until_s: float, every_s: float) -> None:
        """One client, until then."""
        rng, world = self._random, self._world
        while True:
            await asyncio.sleep(rng.expovariate(1 / every_s))
            if world.loop.now_s >= until_s:
                return
            await self.one(number)

    async def one(self, number: int) -> None:
        """Anything."""
        rng = self._random
        chance = rng.random()
        if chance < 0.4:
            await self.submit(number)
        elif chance < 0.43:
            await self.submit(number, many=1, method="exit")
        elif chance < 0.53 and self.executions:
            await self.cancel(number, rng.choice(self.executions[-30:]))
        elif chance < 0.68 and self.executions:
            await self.observe(number, rng.choice(self.executions[-30:]), rng.choice([0.0, 0.0, 3.0]))
        elif chance < 0.74:
            await self.create(number, self.spec(f"s{next(self._names)}"))
        elif chance < 0.78:
            await self.requeue(number)
        elif self.schedules:
            id_ = rng.choice(self.schedules)
            op = rng.choice([*SCHEDULE_OPS, None])
            if op is None:
                await self.run_now(number, id_)
            else:
                await self.on_schedule(number, op, id_)


SCHEDULE_OPS = (Op.UPDATE_SCHEDULE, Op.DELETE_SCHEDULE, Op.PAUSE_SCHEDULE, Op.RESUME_SCHEDULE, Op.RESUME_SCHEDULE)
