"""A network cable that can be cut: a TCP proxy with a thread of its own, between a node and its server.

What is cut is held back, as TCP does it: nothing comes through, no end hears of it, and what was under way arrives
once it is mended. A link that is down ends its connections and refuses new ones.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

# A close with this set is a reset: no goodbye, and what was under way is gone.
_ABRUPT = struct.pack("ii", 1, 0)
_AT_ONCE = 65_536


class Cable:
    """``with Cable(target) as cable:`` connect to ``cable.address`` instead of ``target`` (``tcp://host:port``)."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable")
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = False
        self._bytes = _AT_ONCE
        # Set: it passes.
        self._up, self._back = asyncio.Event(), asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    # --- what is done to it -----------------------------------------------------------------------------

    def cut(self, *, up: bool = True, back: bool = True) -> None:
        """Nothing passes any more: to the server (``up``), and from it (``back``)."""
        if up:
            self._loop.call_soon_threadsafe(self._up.clear)
        if back:
            self._loop.call_soon_threadsafe(self._back.clear)

    def take_down(self) -> None:
        """All connections end, and none can be made."""
        self._loop.call_soon_threadsafe(self._set_down)

    def reset(self) -> None:
        """All connections end, with what was under way."""
        self._loop.call_soon_threadsafe(self._reset)

    def trickle(self) -> None:
        """A byte at a time passes."""
        self._loop.call_soon_threadsafe(self._set_bytes, 1)

    def mend(self) -> None:
        """It works again."""
        self._loop.call_soon_threadsafe(self._mend)

    # --- in its own thread ------------------------------------------------------------------------------

    def _call(self, what: Callable[[], object]) -> None:
        async def run() -> None:
            made = what()
            if asyncio.iscoroutine(made):
                await made

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _open(self) -> None:
        self._mend()
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _mend(self) -> None:
        self._down = False
        self._bytes = _AT_ONCE
        self._up.set()
        self._back.set()

    def _set_down(self) -> None:
        self._down = True
        self._reset()

    def _set_bytes(self, count: int) -> None:
        self._bytes = count

    def _reset(self) -> None:
        ends, self._ends = self._ends, set()
        for end in ends:
            if end.transport.is_closing():
                continue
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
            end.transport.abort()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._ends.add(writer)
        if self._down:
            self._reset()
            return
        await self._up.wait()
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            # The server is not there either.
            self._ends.discard(writer)
            writer.transport.abort()
            return
        self._ends.add(back)
        await asyncio.gather(self._pump(reader, back, self._up), self._pump(there, writer, self._back))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        try:
            while data := await source.read(self._bytes):
                await passes.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._ends.discard(sink)
            sink.close()
