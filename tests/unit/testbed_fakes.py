"""An installation without processes, and scenarios that go wrong, for tests of what runs them."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

from schedule_zero.errors import Unavailable
from schedule_zero.testbed.installation import Installation
from schedule_zero.testbed.scenario import Scenario, ScenarioParams
from schedule_zero.testbed.verdicts import Report, Verdict

NOBODY = "http://127.0.0.1:1"


class FakeClient:
    """Schedules in memory; no executions."""

    def __init__(self, there=()) -> None:
        self.there = list(there)
        self.gone = False

    def _look(self) -> None:
        if self.gone:
            raise Unavailable("nobody is there")

    async def schedule(self, *_, id="x", **__) -> str:
        self._look()
        self.there.append(id)
        return id

    async def schedule_many(self, schedules) -> list[str]:
        return [await self.schedule(id=one["id"]) for one in schedules]

    async def delete_schedule(self, id: str) -> None:
        self.there.remove(id)

    async def delete_schedules(self, ids) -> list[str]:
        for id_ in ids:
            self.there.remove(id_)
        return list(ids)

    async def schedules(self, **_):
        self._look()
        return SimpleNamespace(schedules=[SimpleNamespace(id=id_) for id_ in self.there], next_cursor=None)

    async def executions(self, **_):
        return SimpleNamespace(records=[], next_cursor=None)

    async def aclose(self) -> None:
        pass


class FakeProcess:
    """Stands for a node: the test's own process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.kills = 0

    def alive(self) -> bool:
        return True

    def kill(self) -> None:
        self.kills += 1

    def terminate(self, within_s=0) -> int:
        return 0


class FakeInstallation(Installation):
    """Starts nothing; the checker says ``found`` of it."""

    made: list[FakeInstallation] = []
    refuses: Exception | None = None
    # Schedules that its server has already.
    there: list[str] = []
    found = Report(checked={"C1": 3})

    def __init__(self, *args, env=None, **said) -> None:
        super().__init__(*args, env=env, **said)
        self.env = env or {}

    async def start(self) -> None:
        type(self).made.append(self)
        if self.refuses is not None:
            raise self.refuses
        self.folder.mkdir(parents=True, exist_ok=True)
        self._client = self.client_made = FakeClient(self.there)
        self.processes["node:n1"] = FakeProcess()

    def judge(self, **said) -> Report:
        self.judged = said
        return self.found


def breach() -> Report:
    report = Report(checked={"C1": 3})
    report.found("C1", Verdict.MISSED, "schedule x", "it is missed")
    return report


class Fine(Scenario):
    """Is all well?"""

    handler_id = "fine"
    either_clock = True
    holds = {"well": "it is well"}
    measures = {"matters": "what matters", "other": "something else"}

    class Params(ScenarioParams, frozen=True):
        size: int = 3

    @classmethod
    async def drive(cls, ground):
        ground.tell(0.5, "half")
        ground.keep("dice", [ground.random.random() for _ in range(3)])

    @classmethod
    def judge(cls, ground, seen):
        seen.hold("well", True)
        seen.measure("other", float("inf"))
        seen.measure("matters", seen.kept["dice"][0])
        seen.measure("undeclared", 1.0)
        seen.draw("dice", [*enumerate(seen.kept["dice"]), (4.0, float("nan"))], y="")


class Fast(Fine):
    """Is all well on a fast clock?"""

    handler_id = "fast"
    fast_clock = True


class Particular(Fine):
    """Is all well with settings of its own?"""

    handler_id = "particular"
    either_clock = False
    env = {"SCHEDULE_ZERO_DISPATCH__LOST_S": "3"}


class Broken(Fine):
    """Is anything well?"""

    handler_id = "broken"
    either_clock = False
    does_harm = True

    @classmethod
    def judge(cls, ground, seen):
        seen.hold("well", False, "it is not")


class Blind(Fine):
    """Does it see anything?"""

    handler_id = "blind"

    @classmethod
    def judge(cls, ground, seen):
        pass


class Raises(Fine):
    """Does it raise?"""

    handler_id = "raises"

    @classmethod
    async def drive(cls, ground):
        raise ZeroDivisionError("by zero")


class JudgeRaises(Fine):
    """Does its judgement raise?"""

    handler_id = "judge_raises"

    @classmethod
    def judge(cls, ground, seen):
        seen.hold("undeclared", True)


class Hangs(Fine):
    """Does it end?"""

    handler_id = "hangs"

    @classmethod
    async def drive(cls, ground):
        await asyncio.Event().wait()


class NeverComes(Fine):
    """Does what it waits for come?"""

    handler_id = "never_comes"

    @classmethod
    async def drive(cls, ground):
        await ground.until(lambda: 0, 0.05)


class Leaks(Fine):
    """Does it leak?"""

    handler_id = "leaks"
    leaked: list[bytearray] = []

    @classmethod
    async def drive(cls, ground):
        while True:
            cls.leaked.append(bytearray(os.urandom(1 << 20) * 8))
            await asyncio.sleep(0.02)


class Floods(Fine):
    """Does it know its limits?"""

    handler_id = "floods"

    @classmethod
    async def drive(cls, ground):
        for number in range(50):
            await ground.client.schedule("floods", "work", id=f"floods.{number}")


class LosesServer(Fine):
    """Is the server there when it is over?"""

    handler_id = "loses_server"

    @classmethod
    async def drive(cls, ground):
        ground.client._client.gone = True
