"""What HTTP carries, as targets: bodies and query strings of every route, answers that an HTTP node reads."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from schedule_zero.errors import ScheduleZeroError
from schedule_zero.node import http_link, http_parts, http_requests
from schedule_zero.web.api.decode import BodyDecoder, QueryDecoder
from schedule_zero.web.api.routes import ROUTES
from tests.fuzz import values
from tests.fuzz.targets import Target

JSON_WORDS = [
    b"null", b"true", b"1e999", b"-1", b"NaN", b"Infinity", b"1" * 400, b"1" * 5000, b"0.1e-999", b'""', b"[]", b"{}",
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":",
    b'{"a":1,"a":2}', b"[" * 500, b'{"a":' * 500, b"[" * 12_000, b'"x":1,', b"\xef\xbb\xbf", b"/*x*/", b"\x00",
    b'"' + b"x" * 5000 + b'"',
    b'"2026-02-30T25:00:00Z"', b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"',
    b'"2026-01-01"', b"\\u003a", b"9007199254740993", b"18446744073709551616",
]  # fmt: skip


def _answer(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        return http_requests.decoded(http_requests.Reply(200, "", "", 0.0, data), decode)

    return read


CLAIMED = {
    "jobs": [
        {
            "id": "e", "token": 1, "attempt": 1, "handler_id": "h", "job_method": "m", "job_params": {"a": [1, None]},
            "nominal_time": "2026-01-01T00:00:00Z", "start_by": None, "timeout_s": 1.5, "shard": "2/8",
        }
    ],
    "cancel": [1], "drain": False, "drain_s": None, "lease_s": 15.0, "heartbeat_s": 2.0,
    "server_time": "2026-01-01T00:00:00Z", "waited_s": 0.1,
}  # fmt: skip
ANSWERS: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "claim": (http_link._decode_claimed, CLAIMED),
    "heartbeat": (http_link._decode_beaten, {"cancel": True}),
    "result": (http_link._decode_reported, {"status": "recorded"}),
    "incomplete": (http_link._decode_incomplete, {"upto": 5}),
    "part": (http_parts._decode_upto, {"upto": 5}),
    "log": (http_parts._decode_lines, {"line": 5, "last": True}),
}


def answer_targets() -> list[tuple[Target, list[bytes]]]:
    """What an HTTP node reads of its server's answers (or of a proxy's), each with a sample."""
    found = [
        (Target(f"answer: {name}", _answer(decode), http_requests.Over), [msgspec.json.encode(sample)])
        for name, (decode, sample) in ANSWERS.items()
    ]

    def moment(data: bytes) -> int:
        return http_requests.moment_us(data.decode("utf-8", "replace"))

    return [*found, (Target("answer: moment", moment, http_requests.Over), [b"2026-01-01T00:00:00.5+01:00"])]


def body_targets() -> list[tuple[Target, list[bytes]]]:
    """The body of each route that takes one, with samples out of its type."""
    dice = Random(1)
    found = []
    for route in ROUTES:
        if route.body is None:
            continue
        shapes = [getattr(route.body, name) for name in ("one", "many") if hasattr(route.body, name)] or [route.body]
        samples = [msgspec.json.encode(values.right(shape, dice)) for shape in shapes for _ in range(20)]
        target = Target(
            f"body: {route.method} {route.path}", BodyDecoder(route.body, 64).decode, ScheduleZeroError
        )  # fmt: skip
        found.append((target, samples))
    return found


def query_targets() -> list[tuple[Target, list[bytes]]]:
    """The query string of each route that takes parameters."""
    found = []
    for route in ROUTES:
        names = [field.encode_name for field in msgspec.structs.fields(route.query)]
        if not names:
            continue
        decoder = QueryDecoder(route.query)

        def read(data: bytes, decoder: QueryDecoder = decoder) -> Any:
            # As Tornado has read it.
            return decoder.decode(data.decode("latin-1"))

        samples = [f"{name}={value}".encode() for name in names for value in ("1", "x,y", "true", "2026-01-01")]
        found.append((Target(f"query: {route.method} {route.path}", read, ScheduleZeroError), samples))
    return found


QUERY_WORDS = [
    b"&",
    b"=",
    b"%",
    b"%zz",
    b"%ff",
    b"%00",
    b"+",
    b";",
    b",",
    b"&" * 60,
    b"%ed%a0%80",
    b"1" * 5000,
    b"\xff",
]
