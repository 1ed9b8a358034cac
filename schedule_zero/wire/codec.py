"""Between messages and frames: two ZeroMQ frames, the prefix and one msgpack map, decoded into typed structs.

Bounded and total: whatever arrives, the outcome is a message or ProtocolError, whose text is short and
holds nothing of the payload. Decoding builds known types only; unknown fields are skipped, so that
a newer peer may say more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from schedule_zero.errors import ProtocolError
from schedule_zero.wire.messages import PREFIX, NodeMessage, ServerMessage

# Before a peer has a session it may say HELLO, and nothing longer than this.
MAX_HELLO_BYTES = 2 << 20
MAX_BYTES = 16 << 20

M = TypeVar("M")

_encode = msgspec.msgpack.Encoder().encode
_node_decoder: msgspec.msgpack.Decoder[NodeMessage] = msgspec.msgpack.Decoder(NodeMessage)
_server_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def encode(message: NodeMessage | ServerMessage) -> list[bytes]:
    """The frames of ``message``, after the routing id."""
    return [PREFIX, _encode(message)]


def decode_node(frames: Sequence[bytes], *, max_bytes: int = MAX_BYTES) -> NodeMessage:
    """What a node said; ProtocolError for anything that no node may say."""
    return _decode(_node_decoder, frames, max_bytes)


def decode_server(frames: Sequence[bytes], *, max_bytes: int = MAX_BYTES) -> ServerMessage:
    """What a server said; ProtocolError for anything that no server may say."""
    return _decode(_server_decoder, frames, max_bytes)


def _decode(decoder: msgspec.msgpack.Decoder[M], frames: Sequence[bytes], max_bytes: int) -> M:
    if len(frames) != 2:
        raise ProtocolError(f"expected 2 frames, got {len(frames)}")
    prefix, body = frames
    if prefix != PREFIX:
        raise ProtocolError(f"expected the prefix {PREFIX!r}, got {prefix[:8]!r}")
    if len(body) > max_bytes:
        raise ProtocolError(f"expected at most {max_bytes} bytes, got {len(body)}")
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolError(str(error)[:200]) from None
    except RecursionError:
        raise ProtocolError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ProtocolError("a text is not UTF-8") from None
    except (OverflowError, MemoryError) as error:
        raise ProtocolError(f"a value is out of range ({type(error).__name__})") from None
