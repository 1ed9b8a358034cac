"""The network between nodes and server: what ZeroMQ's sockets are to the product, over simulated TCP connections.

The product's own ``Router`` and ``Link`` run on these. A connection keeps the order of what it carries and repeats
nothing, until a fault says otherwise; one that lost or misplaced something is reset a little later, as TCP would do.
A connection may be half-open: one end of it is gone, and the other one hears of that late.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import zmq
from msgspec import Struct

from tests.simulation.loop import PROCESS, Process, VirtualLoop

REDIAL_S = 0.1
# Idle 30 s, then four probes, ten seconds apart: ``TCP_KEEPALIVE`` as the ROUTER sets it.
KEEPALIVE_S = 70.0
DISCONNECTED = int(zmq.EVENT_DISCONNECTED).to_bytes(2, "little") + bytes(4)


class Way(Struct):
    """What is wrong with the way between one node and the server."""

    # Towards the server, towards the node.
    cut_up: int = 0
    cut_down: int = 0
    loss: float = 0.0
    twice: float = 0.0
    astray: float = 0.0
    delay_s: float = 0.0


class Connection:
    """One TCP connection."""

    def __init__(self, number: int, dealer: Dealer, router: RouterSocket, peer: bytes) -> None:
        self.number = number
        self.dealer = dealer
        self.router = router
        self.peer = peer
        self.gone = False
        self.damaged = False
        # When the last message in each direction arrives, and what waits for a cut way to be whole again.
        self.last_s = {True: 0.0, False: 0.0}
        self.held: dict[bool, list[Sequence[bytes]]] = {True: [], False: []}


class Network:
    """All connections, and what is wrong with them."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, trace: Callable[..., None]) -> None:
        self.loop = loop
        self.ways: dict[str, Way] = {}
        self.messages = 0
        self._random = rng
        self._trace = trace
        self._numbers = count(1)
        self._fds = count(100_000)
        self._listeners: dict[str, RouterSocket] = {}
        self.connections: dict[int, Connection] = {}

    def context(self, io_threads: int = 1) -> Context:
        return Context(self)

    def way(self, node: str) -> Way:
        found = self.ways.get(node)
        if found is None:
            found = self.ways[node] = Way()
        return found

    def fd(self) -> int:
        return next(self._fds)

    def of(self, node: str) -> list[Connection]:
        return [one for one in self.connections.values() if one.dealer.node == node]

    # --- connecting -------------------------------------------------------------------------------------

    def listen(self, address: str, router: RouterSocket) -> None:
        self._listeners[address] = router

    def dial(self, dealer: Dealer) -> None:
        self.loop.later(self._latency_s(), self._connect, dealer)

    def _connect(self, dealer: Dealer) -> None:
        if dealer.closed or not dealer.process.alive or dealer.connection is not None:
            return
        router = self._listeners.get(dealer.address)
        way = self.way(dealer.node)
        ready = router is not None and not router.closed and router.process.alive and not router.process.stopped
        if router is None or not ready or way.cut_up or way.cut_down or dealer.process.stopped:
            self.loop.later(REDIAL_S, self._connect, dealer)
            return
        connection = Connection(next(self._numbers), dealer, router, dealer.routing_id)
        self.connections[connection.number] = connection
        dealer.connection = connection
        router.peers[dealer.routing_id] = connection
        self._trace("open", dealer.node, connection.number)
        dealer.ring()

    # --- carrying ---------------------------------------------------------------------------------------

    def _latency_s(self) -> float:
        return 0.0002 + 0.0008 * self._random.random()

    def carry(self, connection: Connection, up: bool, frames: Sequence[bytes]) -> None:
        """A message is on its way: ``up`` to the server, or down to the node."""
        if connection.gone:
            return
        way = self.way(connection.dealer.node)
        if way.cut_up if up else way.cut_down:
            connection.held[up].append(frames)
            return
        delay_s = self._latency_s() + way.delay_s
        copies = 1
        if way.loss or way.twice or way.astray:
            chance = self._random.random()
            if chance < way.loss:
                self._trace("lost", connection.number, up)
                self._damage(connection)
                return
            if chance < way.loss + way.twice:
                copies = 2
            elif chance < way.loss + way.twice + way.astray:
                self._damage(connection)
                self.loop.later(delay_s + self._random.random(), self._arrive, connection, up, frames)
                return
        at_s = connection.last_s[up] = max(self.loop.now_s + delay_s, connection.last_s[up])
        for _ in range(copies):
            self.loop.later(at_s - self.loop.now_s, self._arrive, connection, up, frames)

    def _arrive(self, connection: Connection, up: bool, frames: Sequence[bytes]) -> None:
        if connection.gone:
            return
        self.messages += 1
        if up:
            if not connection.router.closed:
                self._trace("up", connection.dealer.node, connection.number, frames[-1])
                connection.router.take([connection.peer, *frames])
        elif not connection.dealer.closed:
            self._trace("down", connection.dealer.node, connection.number, frames[-1])
            connection.dealer.take(list(frames))

    def _damage(self, connection: Connection) -> None:
        """A stream that lacks something does not go on."""
        if not connection.damaged:
            connection.damaged = True
            self.loop.later(3 * self._random.random(), self.reset, connection)

    # --- breaking ---------------------------------------------------------------------------------------

    def cut(self, node: str, *, up: bool, down: bool) -> None:
        way = self.way(node)
        way.cut_up += up
        way.cut_down += down

    def heal(self, node: str, *, up: bool, down: bool) -> None:
        """What waited is repeated by TCP and arrives, or the connection is reset."""
        way = self.way(node)
        way.cut_up -= up
        way.cut_down -= down
        for connection in self.of(node):
            if connection.gone or way.cut_up or way.cut_down:
                continue
            if self._random.random() < 0.5:
                self.reset(connection)
                continue
            for side in (True, False):
                held, connection.held[side] = connection.held[side], []
                for frames in held:
                    self.carry(connection, side, frames)

    def reset(self, connection: Connection, *, tell_node: bool = True, tell_server: bool = True) -> None:
        """The connection is gone; an end that isn't told hears of it when its probes are not answered."""
        if connection.gone:
            return
        connection.gone = True
        self._trace("reset", connection.number, tell_node, tell_server)
        self.loop.later(0.0 if tell_node else KEEPALIVE_S, self._tell_node, connection)
        self.loop.later(0.0 if tell_server else KEEPALIVE_S, self._tell_server, connection)

    def hang_up(self, connection: Connection, *, by_node: bool, suddenly: bool) -> None:
        """One end closed. What it had sent may still arrive; then the other end hears of it, if the way is whole."""
        way = self.way(connection.dealer.node)
        lost = suddenly and self._random.random() < 0.5
        if by_node:
            tell, cut = self._tell_server, way.cut_up
            connection.dealer.connection = None
        else:
            tell, cut = self._tell_node, way.cut_down
            connection.router.peers.pop(connection.peer, None)
        if lost or cut:
            connection.gone = True
        after_s = KEEPALIVE_S if cut else max(connection.last_s[by_node] - self.loop.now_s, 0.0) + self._latency_s()
        self.loop.later(after_s, tell, connection)

    def _tell_node(self, connection: Connection) -> None:
        connection.gone = True
        dealer = connection.dealer
        self.connections.pop(connection.number, None)
        if dealer.connection is connection:
            dealer.connection = None
            if not dealer.closed and dealer.process.alive:
                dealer.ring()
                self.dial(dealer)

    def _tell_server(self, connection: Connection) -> None:
        connection.gone = True
        router = connection.router
        self.connections.pop(connection.number, None)
        if router.peers.get(connection.peer) is connection:
            del router.peers[connection.peer]
            if not router.closed and router.process.alive:
                router.monitor.take([DISCONNECTED, b""])

    def dead(self, router: RouterSocket) -> None:
        for address, listener in list(self._listeners.items()):
            if listener is router:
                del self._listeners[address]


class Frame(bytes):
    """``zmq.Frame``: no TCP connection is under it."""

    @property
    def bytes(self) -> bytes:
        return bytes(self)

    def get(self, option: int) -> int:
        assert option == zmq.SRCFD
        return -1


class Socket:
    """What both kinds have in common."""

    def __init__(self, network: Network) -> None:
        process = PROCESS.get()
        assert process is not None, "sockets belong to processes"
        self.network = network
        self.process: Process = process
        self.closed = False
        self.inbox: deque[list[bytes]] = deque()
        self._fd = network.fd()
        self._ringing = False

    def fileno(self) -> int:
        return self._fd

    def take(self, frames: list[bytes]) -> None:
        """A message has arrived."""
        self.inbox.append(frames)
        self.ring()

    def ring(self) -> None:
        """Tell that something happened: once, until somebody has looked."""
        reader = self.network.loop.readers.get(self._fd)
        if reader is not None and not self._ringing:
            self._ringing = True
            self.network.loop.call_soon(self._answer, context=reader[2])

    def _answer(self) -> None:
        self._ringing = False
        reader = self.network.loop.readers.get(self._fd)
        if reader is not None:
            reader[0](*reader[1])

    def recv_multipart(self, flags: int = 0, copy: bool = True) -> list[bytes] | list[Frame]:
        if not self.inbox:
            raise zmq.Again
        frames = self.inbox.popleft()
        return frames if copy else [Frame(frame) for frame in frames]

    def setsockopt(self, option: int, value: Any) -> None:
        """All are as the network has it, but for the name."""


class Dealer(Socket):
    """A node's end."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.node = self.process.name
        self.routing_id = b""
        self.address = ""
        self.connection: Connection | None = None
        self.process.holds.append(lambda: self._close(suddenly=True))

    def setsockopt(self, option: int, value: Any) -> None:
        if option == zmq.ROUTING_ID:
            self.routing_id = value

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        return (zmq.POLLIN if self.inbox else 0) | (zmq.POLLOUT if self.connection is not None else 0)

    def connect(self, address: str) -> None:
        self.address = address
        self.network.dial(self)

    def send_multipart(self, frames: Sequence[bytes], flags: int = 0) -> None:
        if self.connection is None:
            raise zmq.Again
        self.network.carry(self.connection, True, frames)

    def close(self, linger: int = 0) -> None:
        self._close(suddenly=False)

    def _close(self, *, suddenly: bool) -> None:
        if not self.closed:
            self.closed = True
            if self.connection is not None:
                self.network.hang_up(self.connection, by_node=True, suddenly=suddenly)


class RouterSocket(Socket):
    """The server's end."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.monitor = Monitor(network)
        self.peers: dict[bytes, Connection] = {}
        self._address = ""
        self.process.holds.append(lambda: self._close(suddenly=True))

    def get_monitor_socket(self, events: int) -> Monitor:
        return self.monitor

    def disable_monitor(self) -> None:
        self.monitor.close(0)

    def bind(self, address: str) -> None:
        self._address = address
        self.network.listen(address, self)

    def getsockopt_string(self, option: int) -> str:
        assert option == zmq.LAST_ENDPOINT
        return self._address

    def get(self, option: int) -> int:
        assert option == zmq.EVENTS
        return zmq.POLLIN if self.inbox else 0

    def send_multipart(self, frames: Sequence[bytes], flags: int = 0) -> None:
        connection = self.peers.get(frames[0])
        if connection is None:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self.network.carry(connection, False, frames[1:])

    def close(self, linger: int = 0) -> None:
        self._close(suddenly=False)

    def _close(self, *, suddenly: bool) -> None:
        if not self.closed:
            self.closed = True
            self.network.dead(self)
            for connection in list(self.peers.values()):
                self.network.hang_up(connection, by_node=False, suddenly=suddenly)


class Monitor(Socket):
    """Tells the server that some connection ended."""

    def close(self, linger: int = 0) -> None:
        self.closed = True


class Context:
    """``zmq.Context`` of one process."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def socket(self, kind: int) -> Dealer | RouterSocket:
        return Dealer(self._network) if kind == zmq.DEALER else RouterSocket(self._network)

    def term(self) -> None:
        """Nothing lingers."""

    def destroy(self, linger: int = 0) -> None:
        """Nothing lingers."""
