"""ZMTP 3.0 by hand, on a plain TCP socket: what libzmq would never send.

Only as much of the protocol as hostile peers need: a greeting, NULL's READY, frames with whatever length they claim.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Self

MORE, LONG, COMMAND = 0x01, 0x02, 0x04
GREETING_BYTES = 64
# Longer than any answer may take on a busy machine.
PATIENCE_S = 20.0


def greeting(mechanism: bytes = b"NULL") -> bytes:
    """The 64 bytes with which each side begins."""
    return b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


def ready(routing_id: bytes = b"") -> bytes:
    """NULL's handshake command of a DEALER."""
    body = b"\x05READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", routing_id)
    return bytes([COMMAND, len(body)]) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def frame(body: bytes, *, more: bool = False, command: bool = False, claims: int | None = None) -> bytes:
    """One frame; ``claims`` is the length that its header tells instead of the true one."""
    length = len(body) if claims is None else claims
    flags = (MORE if more else 0) | (COMMAND if command else 0)
    if length < 256:
        return bytes([flags, length]) + body
    return bytes([flags | LONG]) + struct.pack(">Q", length) + body


class RawPeer:
    """One TCP connection to a ZMTP port."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition("://")[2].rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def handshake(self, routing_id: bytes = b"") -> Self:
        """Greet, be greeted, and get in (NULL)."""
        self.socket.sendall(greeting() + ready(routing_id))
        self._read(GREETING_BYTES)
        _flags, length = self._read(2)
        self._read(length)
        return self

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError(f"closed by the server after {len(data)} of {count} bytes")
            data += part
        return data

    def send(self, data: bytes) -> bool:
        """Whether all of it was taken; False: the server has hung up."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def gone(self) -> bool:
        """Whether the server has hung up; never waits."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(1 << 16):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            with suppress(OSError):
                self.socket.settimeout(PATIENCE_S)
        return True
