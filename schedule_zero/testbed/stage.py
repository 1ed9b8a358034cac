"""One scenario on an installation: its ``Ground``, and what is seen of it afterwards."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from schedule_zero.client.records import OVER
from schedule_zero.clock import from_us
from schedule_zero.errors import BadRequest
from schedule_zero.reports.record import Held
from schedule_zero.testbed.history import BadEvidence, JobLine, Run, Side
from schedule_zero.testbed.installation import Installation
from schedule_zero.testbed.scenario import Scenario, ScenarioParams, Seen

PAGE = 500
POLL_S = 0.02
_decode = msgspec.json.Decoder(JobLine).decode


class Hung(Exception):
    """Something that had to come did not."""


class TooMuch(BadRequest):
    """A scenario went beyond a limit of the run."""

    code = "too_much"


class Stage:
    """``Ground`` on an installation."""

    def __init__(
        self,
        scenario: type[Scenario],
        params: ScenarioParams,
        installation: Installation,
        *,
        seed: int,
        tell: Callable[[float, str], None],
        max_schedules: int,
    ) -> None:
        self.scenario = scenario
        self.params = params
        self.random = random.Random(f"{seed}/{scenario.handler_id}")
        self.client = LimitedClient(installation.client, max_schedules)
        self.nodes: Sequence[str] = installation.nodes
        self.speedup = installation.speedup
        self.kept: dict[str, Any] = {}
        self._installation = installation
        self._tell = tell
        # Another's server may know of earlier ones.
        self._since = from_us(installation.clock.wall_us())
        # Of the jobs' ledger: up to where it was read, and what stood there of this scenario.
        self._offset = installation.ledger_file.stat().st_size if installation.ledger_file.exists() else 0
        self._runs: dict[tuple[str, int], Run] = {}

    def now_us(self) -> int:
        return self._installation.clock.wall_us()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._installation.speedup)

    async def until(self, condition: Callable[[], Any], within_s: float) -> Any:
        value: Any = None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    value = condition()
                    if inspect.isawaitable(value):
                        value = await value
                    if value:
                        return value
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Hung(f"not within {within_s:g} s; the last value was {value!r}") from None

    def runs(self, action: str | None = None) -> list[Run]:
        wanted = f"{self.scenario.handler_id}."
        for line in self._new_lines():
            if not line.action.startswith(wanted):
                continue
            key = (line.execution_id, line.token)
            if line.event is Side.START:
                self._runs[key] = Run(
                    line.execution_id, line.token, line.attempt, line.node_id, line.pid,
                    line.wall_us, line.mono_ns, line.action, line.schedule_id, line.nominal_us,
                )  # fmt: skip
            elif (run := self._runs.get(key)) is not None:
                run.end_us, run.end_ns, run.outcome, run.result = line.wall_us, line.mono_ns, line.outcome, line.result
        runs = (run for run in self._runs.values() if action is None or run.action.startswith(wanted + action))
        return sorted(runs, key=lambda run: run.start_ns)

    def _new_lines(self) -> list[JobLine]:
        """Since the last look: it is looked at many times a second, and may be long."""
        try:
            with self._installation.ledger_file.open("rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        if not whole:
            return []
        self._offset += len(whole) + 1
        try:
            return [_decode(line) for line in whole.split(b"\n")]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadEvidence(f"{self._installation.ledger_file}: expected a JobLine: {error}") from None

    def tell(self, fraction: float, text: str = "") -> None:
        self._tell(fraction, text)

    def keep(self, name: str, value: Any) -> None:
        self.kept[name] = value

    async def kill(self, target: str, *, back_after_s: float = 0.0) -> None:
        await self._installation.kill(target, back_after_s=back_after_s)

    async def stop(self, target: str, seconds: float) -> None:
        await self._installation.stop(target, seconds)

    # --- after it ---------------------------------------------------------------------------------------

    async def settled(self) -> bool:
        """Whether nothing of the scenario is open any more."""
        open_ = [state.value for state in type(next(iter(OVER))) if state not in OVER]
        page = await self._executions(status=open_, limit=1)
        return not page.records

    async def clean(self) -> list[str]:
        """Delete what schedules it left; their ids."""
        left: list[str] = []
        while ids := [row.id for row in (await self.schedules()).schedules]:
            left += await self.client.delete_schedules(ids)
        return left

    async def schedules(self) -> Any:
        return await self.client.schedules(handler_id=self.scenario.handler_id, limit=PAGE)

    async def seen(self, left: list[str]) -> Seen:
        """Everything that ``judge`` is given."""
        executions: dict[str, Any] = {}
        cursor: str | None = None
        while True:
            page = await self._executions(limit=PAGE, cursor=cursor)
            executions |= {row.id: row for row in page.records}
            cursor = page.next_cursor
            if cursor is None:
                break
        fires = {id_: await self._fires(id_) for id_ in self.kept.get("follow", ())}
        return Seen(
            runs=self.runs(),
            fires=fires,
            executions=executions,
            left=left,
            kept=self.kept,
            held={name: Held(name, means) for name, means in self.scenario.holds.items()},
        )

    async def _executions(self, **said: Any) -> Any:
        return await self.client.executions(handler_id=self.scenario.handler_id, since=self._since, **said)

    async def _fires(self, schedule_id: str) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.client.fires(schedule_id, limit=PAGE, cursor=cursor)
            found += page.records
            cursor = page.next_cursor
            if cursor is None:
                return found[::-1]


class LimitedClient:
    """The client, counting what is created: a scenario gone wild ends with ``TooMuch``."""

    def __init__(self, client: Any, max_schedules: int) -> None:
        self._client = client
        self._most = max_schedules
        self.created = self.deleted = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _count(self, more: int) -> None:
        if self.created - self.deleted + more > self._most:
            raise TooMuch(
                f"at most {self._most} schedules at a time (limits.max_schedules); {more} more were asked for"
            )
        self.created += more

    async def schedule(self, *args: Any, **said: Any) -> Any:
        self._count(1)
        return await self._client.schedule(*args, **said)

    async def schedule_many(self, schedules: Sequence[dict[str, Any]]) -> list[str]:
        self._count(len(schedules))
        return list(await self._client.schedule_many(schedules))

    async def delete_schedule(self, id: str) -> None:
        await self._client.delete_schedule(id)
        self.deleted += 1

    async def delete_schedules(self, ids: Sequence[str]) -> list[str]:
        deleted = list(await self._client.delete_schedules(ids))
        self.deleted += len(deleted)
        return deleted


def seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
