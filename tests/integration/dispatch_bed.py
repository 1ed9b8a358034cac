"""A dispatcher with a real store and real sockets, and a node's end of the wire that a test drives line by line."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import zmq
from msgspec import structs

from schedule_zero.clock import Clock, SystemClock
from schedule_zero.config import DispatchConfig, ServerConfig, StoreConfig, ZmqConfig
from schedule_zero.dispatch.curve import CurveKeys
from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.model import AttemptOutcome, Execution, JobMethod, new_id
from schedule_zero.store import Store, executions
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from tests.support import eventually

QUICK = DispatchConfig(
    heartbeat_s=0.2, suspect_s=0.6, lost_s=1.0, lease_s=1.5, lease_margin_s=0.1, resend_s=0.3, window=50
)
CONFIG = ServerConfig(zmq=ZmqConfig(port=0), store=StoreConfig(durability="fast"), dispatch=QUICK)
NOOP = JobMethod(name="noop", schema=b'{"type":"object"}')


class Bed:
    """A running dispatcher and everything around it."""

    def __init__(self, store: Store, curve: CurveKeys, dispatcher: Dispatcher, state_dir: Path) -> None:
        self.store = store
        self.curve = curve
        self.dispatcher = dispatcher
        self.state_dir = state_dir
        self.address = dispatcher.address

    async def submit(self, count: int = 1, **fields) -> list[str]:
        """What the service does."""
        fields = {"handler_id": "demo", "job_method": "noop", **fields}
        rows = [Execution(id=new_id(), **fields) for _ in range(count)]
        self.dispatcher.place(rows)
        try:
            await self.store.write(executions.insert, executions.Insert(rows=rows))
        except BaseException:
            self.dispatcher.abandoned(rows)
            raise
        self.dispatcher.committed(rows)
        return [row.id for row in rows]

    async def get(self, execution_id: str) -> Execution:
        detail = await self.store.read(lambda conn: executions.get(conn, execution_id))
        assert detail is not None
        return detail.execution

    async def state(self, execution_id: str) -> str:
        return (await self.get(execution_id)).state

    async def becomes(self, execution_id: str, state: str, *, within_s: float = 10.0) -> Execution:
        async def there():
            row = await self.get(execution_id)
            return row if row.state == state else None

        return await eventually(there, within_s=within_s)

    def view(self, node_id: str):
        return next((view for view in self.dispatcher.nodes() if view.node_id == node_id), None)


@asynccontextmanager
async def running_bed(
    state_dir: Path, config: ServerConfig = CONFIG, *, rules=None, clock: Clock | None = None
) -> Iterator[Bed]:
    """A dispatcher that runs; stopped in order at the end."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = clock or SystemClock()
    store = Store.open(config.store, state_dir, clock=clock)
    try:
        curve = CurveKeys(store=store, state_dir=state_dir, config=config.zmq, clock=clock)
        dispatcher = Dispatcher(store=store, config=config, curve=curve, declarations=rules or {}, clock=clock)
        await dispatcher.start()
        task = asyncio.create_task(dispatcher.run())
        try:
            yield Bed(store, curve, dispatcher, state_dir)
        finally:
            await dispatcher.stop(2.0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await store.close()


def with_zmq(**changes) -> ServerConfig:
    return structs.replace(CONFIG, zmq=structs.replace(CONFIG.zmq, **changes))


class Peer:
    """A node's DEALER, without any of the node's code. Each is a later start than all before it."""

    starts = itertools.count(1)
    # Of the heartbeats that go by themselves, so that a slow machine doesn't make a test's node look dead.
    PULSE = 999_999

    def __init__(
        self,
        bed: Bed,
        node_id: str = "n1",
        *,
        secret: bytes | None = None,
        state_key: str | None = None,
        silent: bool = False,
    ) -> None:
        self.bed = bed
        self.node_id = node_id
        self.state_key = state_key or f"key of {node_id}"
        self.instance = new_id()
        self.epoch = next(self.starts)
        self.s = ""
        self.inbox: list = []
        self.context = zmq.Context()
        self.secret = secret
        self.socket = self._connect()
        self.timer: asyncio.TimerHandle | None = None
        if not silent:
            self._pulse()

    def _pulse(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(0.2, self._pulse)
        if self.s and not self.socket.closed:
            with suppress(zmq.Again):
                self.send(m.Heartbeat(s=self.s, seq=self.PULSE))

    def _connect(self) -> zmq.Socket:
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if self.secret is not None:
            socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(self.secret))
            socket.setsockopt(zmq.CURVE_SERVERKEY, self.bed.curve.server_public.encode())
        socket.connect(self.bed.address)
        return socket

    def reconnect(self) -> None:
        self.socket.close(0)
        self.inbox.clear()
        self.s = ""
        self.socket = self._connect()

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.socket.close(0)
        self.context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def send(self, message) -> None:
        self.socket.send_multipart(codec.encode(message), zmq.NOBLOCK)

    def receive(self) -> None:
        """Read what is there; heartbeats and probes are answered or dropped as a node would."""
        with suppress(zmq.Again):
            while True:
                message = codec.decode_server(self.socket.recv_multipart(zmq.NOBLOCK))
                if not (isinstance(message, m.HbAck) and message.seq in (0, self.PULSE)):
                    self.inbox.append(message)

    def take(self, kind):
        """The oldest message of this type, if one is there."""
        self.receive()
        for index, message in enumerate(self.inbox):
            if type(message) is kind:
                return self.inbox.pop(index)
        return None

    async def wait(self, kind, *, within_s: float = 5.0):
        return await eventually(lambda: self.take(kind), within_s=within_s, every_s=0.005)

    def say_hello(self, *, handlers=None, running=(), **changes) -> None:
        hello = m.Hello(
            protocol=1,
            node_id=self.node_id,
            instance=self.instance,
            epoch=self.epoch,
            state_key=self.state_key,
            handlers=handlers if handlers is not None else [m.HandlerDeclaration(handler_id="demo", methods=[NOOP])],
            slots=4,
            running=[m.Held(id=item.id, token=item.token) for item in running],
            host="testhost",
            pid=1,
        )
        self.send(structs.replace(hello, **changes))

    async def hello(self, **fields) -> m.Welcome:
        self.say_hello(**fields)
        welcome = await self.wait(m.Welcome)
        self.s = welcome.s
        return welcome

    def credit(self, window: int) -> None:
        self.send(m.Credit(s=self.s, window=window))

    async def ready(self, window: int = 10, **fields) -> Peer:
        await self.hello(**fields)
        self.credit(window)
        # Nothing answers a CREDIT.
        await eventually(lambda: (view := self.bed.view(self.node_id)) and view.window == window)
        return self

    def beat(self) -> None:
        self.send(m.Heartbeat(s=self.s, seq=1))

    async def work(self, count: int = 1) -> list[m.DispatchItem]:
        items: list = []
        while len(items) < count:
            items += (await self.wait(m.Dispatch)).items
        return items

    def report(self, *items, outcome=AttemptOutcome.COMPLETED, **fields) -> None:
        results = [m.ResultItem(id=item.id, token=item.token, outcome=outcome, **fields) for item in items]
        self.send(m.Result(s=self.s, items=results))
