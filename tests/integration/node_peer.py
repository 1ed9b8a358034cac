"""A scripted server for the tests of the node: a real ROUTER that says what the test tells it to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import zmq

from schedule_zero.clock import SystemClock
from schedule_zero.wire.codec import decode_node, encode
from schedule_zero.wire.messages import (
    Accept,
    AcceptedItem,
    Credit,
    Dispatch,
    DispatchItem,
    HbAck,
    Heartbeat,
    Hello,
    NodeMessage,
    Reject,
    RejectedItem,
    Result,
    ResultAck,
    ResultItem,
    ServerMessage,
    Welcome,
)
from tests.support import eventually

M = TypeVar("M")


class ScriptedServer:
    """Welcomes nodes, acknowledges heartbeats and results, and notes all that comes; each can be turned off."""

    def __init__(self, context: zmq.Context, *, heartbeat_s: float = 2.0, lease_s: float = 30.0) -> None:
        self.heartbeat_s = heartbeat_s
        self.lease_s = lease_s
        self.welcomes = True
        self.answers_heartbeats = True
        self.acks_results = True
        self.received: list[NodeMessage] = []
        self.hellos: list[Hello] = []
        self.results: dict[int, list[ResultItem]] = {}
        self.sessions: list[str] = []
        self.peers: list[bytes] = []
        self.server_us: Callable[[], int] = SystemClock().wall_us
        self._context = context
        self._socket: zmq.Socket | None = None
        self.address = ""
        self._token = 1000

    def listen(self, address: str = "tcp://127.0.0.1:*") -> str:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.bind(address)
        self.address = socket.getsockopt(zmq.LAST_ENDPOINT).decode()
        self._socket = socket
        asyncio.get_running_loop().add_reader(socket.fileno(), self._drain)
        return self.address

    def hang_up(self) -> None:
        """Close the port, and with it every connection."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close(0)
            self._socket = None

    def listen_again(self) -> None:
        self.listen(self.address)

    # --- talking

    @property
    def session(self) -> str:
        return self.sessions[-1]

    def send(self, message: ServerMessage, peer: bytes | None = None) -> None:
        self.send_raw(*encode(message), peer=peer)

    def send_raw(self, *frames: bytes, peer: bytes | None = None) -> None:
        assert self._socket is not None
        with suppress(zmq.ZMQError):  # EHOSTUNREACH: the node has hung up, and will be back
            self._socket.send_multipart([peer or self.peers[-1], *frames], zmq.NOBLOCK)
        self._soon()

    def dispatch(self, handler_id: str, job_method: str, params: object = None, **more: object) -> int:
        """Send one attempt; returns its token."""
        item = self.item(handler_id, job_method, params, **more)
        self.send(Dispatch(s=self.session, items=[item]))
        return item.token

    def item(self, handler_id: str, job_method: str, params: object = None, **more: object) -> DispatchItem:
        self._token += 1
        return DispatchItem(
            **{
                "id": f"execution{self._token}",
                "token": self._token,
                "attempt": 1,
                "handler_id": handler_id,
                "job_method": job_method,
                "params": msgspec.json.encode(params or {}),
                **more,
            }
        )

    # --- listening

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.received if isinstance(message, kind)]

    @property
    def window(self) -> int | None:
        credits = self.all(Credit)
        return credits[-1].window if credits else None

    @property
    def accepted(self) -> list[AcceptedItem]:
        return [item for message in self.all(Accept) for item in message.items]

    @property
    def rejected(self) -> list[RejectedItem]:
        return [item for message in self.all(Reject) for item in message.items]

    async def ready(self, sessions: int = 1) -> None:
        """Wait until a session is open and offers credit."""
        await eventually(lambda: len(self.sessions) >= sessions and self._last_credit() is not None)

    def _last_credit(self) -> Credit | None:
        return next((credit for credit in reversed(self.all(Credit)) if credit.s == self.session), None)

    async def result(self, token: int) -> ResultItem:
        """Wait for the first result of this attempt."""
        return (await eventually(lambda: self.results.get(token)))[0]

    # --- inside

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        while self._socket is not None:
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._hear(peer, decode_node(frames))

    def _hear(self, peer: bytes, message: NodeMessage) -> None:
        self.received.append(message)
        if isinstance(message, Hello):
            self.hellos.append(message)
            self.peers.append(peer)
            if self.welcomes:
                self.welcome()
        elif isinstance(message, Heartbeat):
            if self.answers_heartbeats:
                self.send(HbAck(s=message.s, seq=message.seq, server_us=self.server_us()), peer)
        elif isinstance(message, Result):
            for item in message.items:
                self.results.setdefault(item.token, []).append(item)
            if self.acks_results:
                self.send(ResultAck(s=message.s, recorded=[item.token for item in message.items]), peer)

    def welcome(self) -> None:
        self.sessions.append(f"session{len(self.sessions) + 1}")
        self.send(
            Welcome(s=self.session, server_us=self.server_us(), heartbeat_s=self.heartbeat_s, lease_s=self.lease_s)
        )
