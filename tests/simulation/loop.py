"""An asyncio loop on which time is a number: when nothing is ready it jumps to the next timer. And its processes.

Several processes share the one loop. Each runs in contexts of its own (``contextvars``), by which the loop knows whose
turn a handle is: a killed process gets no turn any more, a stopped one later, a slow one after a while. There are no
threads: what the product gives to an executor is run in a turn of the loop, a moment later.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Any

EPOCH_US = 1_700_000_000_000_000
# From a thread to the loop, and there and back.
HOP_S = 0.0001
# Turns without time going by: something runs in circles.
MOST_TURNS = 200_000

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Stuck(AssertionError):
    """Nothing will ever happen any more, or time does not go on."""


class Process:
    """One process of the world: its clocks, whether it lives, and what it holds of the operating system."""

    def __init__(self, loop: VirtualLoop, name: str, *, boot_s: float = 0.0, wall_offset_us: int = 0) -> None:
        self.name = name
        self.pid = next(loop.pids)
        self.alive = True
        self.wall_offset_us = wall_offset_us
        # What each turn of it takes.
        self.slow_s = 0.0
        self.busy_until_s = 0.0
        # Closed when it dies, last first.
        self.holds: list[Callable[[], None]] = []
        # Told when it is dead.
        self.mourners: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._boot_s = boot_s
        self._loop = loop
        self._parked: deque[asyncio.Handle] = deque()
        self._waking = False
        self._context = contextvars.Context()
        self._context.run(PROCESS.set, self)

    # --- its clock (``schedule_zero.clock.Clock``) ----------------------------------------------------

    def wall_us(self) -> int:
        return EPOCH_US + round(self._loop.now_s * 1e6) + self.wall_offset_us

    def mono_s(self) -> float:
        return self._loop.now_s + self._boot_s

    # --- what is done to it -----------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` in it."""
        task = self._loop.create_task(work, name=f"{self.name}: {name}", context=self.context())
        self.tasks = [one for one in self.tasks if not one.done()]
        self.tasks.append(task)
        return task

    def context(self) -> contextvars.Context:
        """In which there is nothing but that it is of this process."""
        return self._context.copy()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more, and the kernel takes back what it held."""
        if not self.alive:
            return
        self.alive = False
        self._parked.clear()
        self._loop.bury(self)
        while self.holds:
            self.holds.pop()()
        for mourner in self.mourners:
            mourner()

    def stop(self, until_s: float) -> None:
        """SIGSTOP, and SIGCONT at ``until_s``."""
        self.busy_until_s = max(self.busy_until_s, until_s)

    def cont(self) -> None:
        """SIGCONT now."""
        self.busy_until_s = min(self.busy_until_s, self._loop.now_s)
        self._go_on()

    @property
    def stopped(self) -> bool:
        return self.busy_until_s > self._loop.now_s + 0.2

    def hold_back(self, handle: asyncio.Handle, now_s: float) -> bool:
        """Whether this turn has to wait."""
        if self.busy_until_s <= now_s:
            if self.slow_s:
                self.busy_until_s = now_s + self.slow_s
            return False
        self._parked.append(handle)
        if not self._waking:
            self._waking = True
            self._loop.later(self.busy_until_s - now_s, self._wake)
        return True

    def _wake(self) -> None:
        self._waking = False
        self._go_on()

    def _go_on(self) -> None:
        parked, self._parked = self._parked, deque()
        self._loop.again(parked)


class VirtualLoop(asyncio.BaseEventLoop):
    """``time()`` is virtual; everything else is asyncio's."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.pids = count(101)
        self.turns = 0
        # What nobody caught.
        self.errors: list[dict[str, Any]] = []
        self.readers: dict[int, tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = {}
        self._order = count()
        self._due: list[tuple[float, int, asyncio.Handle]] = []
        self._nobody = contextvars.Context()
        # Kept, so that nothing of them is finalised while the run goes on.
        self._graves: list[Process] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now_s

    # --- the world's own timers, which belong to no process --------------------------------------------

    def later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay_s, callback, *args, context=self._nobody)

    def again(self, handles: deque[asyncio.Handle]) -> None:
        """Their turns have come."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def bury(self, process: Process) -> None:
        self._graves.append(process)

    # --- asyncio ----------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_at(self.now_s + HOP_S, callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._due, (when, next(self._order), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap, and is passed over."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_at(self.now_s + HOP_S, work)
        return future

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self.readers[fd] = (callback, args, contextvars.copy_context())

    def remove_reader(self, fd: int) -> bool:
        return self.readers.pop(fd, None) is not None

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        if not ready:
            self.turns = 0
            due = self._due
            while due and due[0][2]._cancelled:  # type: ignore[attr-defined]
                heappop(due)
            if not due:
                raise Stuck(f"nothing will ever happen any more, at {self.now_s:.3f} s")
            now_s = self.now_s = max(self.now_s, due[0][0])
            while due and due[0][0] <= now_s:
                ready.append(heappop(due)[2])
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Stuck(f"{MOST_TURNS} turns of the loop at {self.now_s:.3f} s")
        now_s = self.now_s
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:  # type: ignore[attr-defined]
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and (not process.alive or process.hold_back(handle, now_s)):
                continue
            handle._run()  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call."""

    def end(self) -> None:
        """Let go of everything, whatever it was in the middle of."""
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        self._ready.clear()  # type: ignore[attr-defined]
        self._due.clear()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            # What it would do on its way out, it does to nobody.
            with suppress(BaseException):
                task.get_coro().close()
        self._ready.clear()  # type: ignore[attr-defined]
        self._due.clear()
        self._graves.clear()
        self.close()
