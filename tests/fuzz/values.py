"""Messages out of their own types: right ones, and ones with the tag of a type and anything else in its fields."""

from __future__ import annotations

import math
import re
import string
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import msgspec
from msgspec import inspect

encode = msgspec.msgpack.Encoder().encode

INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
TEXT = [*string.ascii_letters, *string.digits, *" .:-/_ü…\n\x00\x1b", "\U0001f600", "\u202e"]
WORD = [*string.ascii_letters, "_"]
# What fits the patterns that a row of letters does not.
FITTING = ["2/8", "0/1", "5/s", "100/h", "2026-12-24", "22:00", "2026-12-24T18:00:00Z"]


# --- right ones -----------------------------------------------------------------------------------


def right(kind: type[Any], dice: Random) -> Any:
    """A message that ``kind`` allows, with its limits met now and then."""
    return _value(_info(kind), dice)


@cache
def _info(kind: type[Any]) -> inspect.Type:
    return inspect.type_info(kind)


def _value(info: inspect.Type, dice: Random) -> Any:
    make: Callable[[Any, Random], Any] = MAKERS[type(info)]
    return make(info, dice)


def _int(info: inspect.IntType, dice: Random) -> int:
    low = INT_MIN if info.ge is None else info.ge
    high = INT_MAX if info.le is None else info.le
    chosen = dice.random()
    if chosen < 0.15:
        return low
    if chosen < 0.3:
        return high
    return min(high, max(low, dice.getrandbits(dice.choice((3, 7, 8, 16, 31, 53)))))


def _float(info: inspect.FloatType, dice: Random) -> float:
    low = info.ge if info.ge is not None else info.gt if info.gt is not None else -1e300
    high = info.le if info.le is not None else 1e300
    chosen = dice.random()
    if chosen < 0.2 and info.gt is None:
        return float(low)
    if chosen < 0.4:
        return float(high)
    return min(float(high), max(float(low), 0.0) + dice.random() + 1e-6)


def _length(low: int | None, high: int | None, dice: Random, usual: int) -> int:
    most = usual if high is None else min(high, usual)
    return max(low or 0, int(dice.random() ** 2 * (most + 1)))


def _str(info: inspect.StrType, dice: Random) -> str:
    if info.pattern is not None:
        word = "".join(dice.choices(WORD, k=_length(info.min_length, info.max_length, dice, 20) or 1))
        fitting = (text for text in (word, *dice.sample(FITTING, len(FITTING))) if re.search(info.pattern, text))
        return next(fitting, word)
    return "".join(dice.choices(TEXT, k=_length(info.min_length, info.max_length, dice, 40)))


def _bytes(info: inspect.BytesType, dice: Random) -> bytes:
    if dice.random() < 0.5:
        return dice.choice((b"{}", b'{"type":"object"}', b"null", b"[1]", b'"x"'))
    return dice.randbytes(_length(info.min_length, info.max_length, dice, 60))


def _list(info: inspect.ListType, dice: Random) -> list[Any]:
    count = _length(info.min_length, info.max_length, dice, 4)
    return [_value(info.item_type, dice) for _ in range(count)]


def _var_tuple(info: inspect.VarTupleType, dice: Random) -> tuple[Any, ...]:
    count = _length(info.min_length, info.max_length, dice, 3)
    return tuple(_value(info.item_type, dice) for _ in range(count))


def _dict(info: inspect.DictType, dice: Random) -> dict[Any, Any]:
    count = _length(info.min_length, info.max_length, dice, 3)
    return {_value(info.key_type, dice): _value(info.value_type, dice) for _ in range(count)}


def _struct(info: inspect.StructType, dice: Random) -> Any:
    fields = {
        field.name: _value(field.type, dice)
        for field in info.fields
        if field.required or dice.random() < 0.5
    }  # fmt: skip
    return info.cls(**fields)


MAKERS: dict[type, Callable[[Any, Random], Any]] = {
    inspect.Metadata: lambda info, dice: _value(info.type, dice),
    inspect.RawType: lambda _, dice: msgspec.Raw(dice.choice((b"{}", b'{"a":[1,{"b":null}]}', b"1"))),
    inspect.DateTimeType: lambda _, dice: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.getrandbits(31)),
    inspect.AnyType: lambda _, dice: dice.choice((None, 1, "x", [1], {"a": 1})),
    inspect.NoneType: lambda _, __: None,
    inspect.BoolType: lambda _, dice: dice.random() < 0.5,
    inspect.IntType: _int,
    inspect.FloatType: _float,
    inspect.StrType: _str,
    inspect.BytesType: _bytes,
    inspect.ListType: _list,
    inspect.VarTupleType: _var_tuple,
    inspect.DictType: _dict,
    inspect.StructType: _struct,
    inspect.EnumType: lambda info, dice: dice.choice(list(info.cls)),
    inspect.LiteralType: lambda info, dice: dice.choice(info.values),
    inspect.UnionType: lambda info, dice: _value(dice.choice(info.types), dice),
}


# --- anything at all ------------------------------------------------------------------------------

# Bytes of msgpack: whole values of every kind, numbers where they have their edges, things that are no value.
PIECES = [
    encode(value)
    for value in (
        None, True, False, 0, 1, 127, 128, 2**31, 2**53 - 1, 2**53, INT_MAX, -1, -33, INT_MIN, 0.5, math.nan, math.inf,
        -math.inf, 1e308, -0.0, "", "x", "n\n", "\x00", "x" * 65, "x" * 129, "x" * 5000, "é" * 100, "__class__", b"",
        b"\xff", b"\x78\x9c", b"x" * 300, [], {}, [[]], [None] * 20, {"id": "e", "token": 1}, {"token": 2**60},
        [{"id": "e", "token": 1}] * 3, [{"token": 1, "started_us": -1}], {"type": "E", "message": "m"},
        [{"name": "m", "options": {"later": 1}}], [1] * 6000, {str(number): "" for number in range(70)},
    )
]  # fmt: skip
PIECES += [
    struct.pack(">Bf", 0xCA, math.nan),
    # Not UTF-8, half of a surrogate pair, an overlong slash.
    b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\xaf", b"\xd9\x02\xc3\x28",
    # Extensions: times (an impossible one among them), one of nobody, one with an announced length of 4 GiB.
    b"\xd6\xff\x00\x00\x00\x00", b"\xd7\xff" + b"\xff" * 8, b"\xc7\x0c\xff" + b"\xff" * 12, b"\xd4\x05\x00",
    b"\xc9\xff\xff\xff\xff\x05",
    # Lengths of what never comes: text, bytes, lists, maps.
    b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdd\x00\x10\x00\x00", b"\xdf\x00\x10\x00\x00\xa1x", b"\xc6\x01\x00\x00\x00",
    # Maps with keys that are none, and with one key twice.
    b"\x81\x90\xc0", b"\x81\x80\xc0", b"\x81\xc0\xc0", b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01",
    b"\x82\xa5token\x01\xa5token\x02", b"\x82\xa1t\xa3BYE\xa1t\xa5HELLO",
    # The reserved byte, and nothing.
    b"\xc1", b"",
]  # fmt: skip
DEPTHS = (10, 100, 1_000, 20_000)


def anything(dice: Random) -> bytes:
    """One value, or what is none."""
    chosen = dice.random()
    if chosen < 0.02:
        depth = dice.choice(DEPTHS)
        opening = dice.choice((b"\x91", b"\x81\xa1z", b"\x81\xa5items", b"\xdc\x00\x01"))
        return opening * depth + b"\xc0"
    if chosen < 0.1:
        return dice.randbytes(1 + dice.getrandbits(4))
    return dice.choice(PIECES)


def odd(kind: type[Any], dice: Random) -> bytes:
    """A map with the tag of ``kind``, and in its fields whatever comes: too many of them, too few, twice."""
    info = _info(kind)
    assert isinstance(info, inspect.StructType)
    members = [(b"t", encode(info.tag))]
    for field in info.fields:
        chosen = dice.random()
        if chosen < 0.1 and not field.required:
            continue
        value = encode(_value(field.type, dice)) if chosen < 0.7 else anything(dice)
        members.append((field.encode_name.encode(), value))
    for _ in range(int(dice.random() ** 3 * 4)):
        members.insert(dice.randrange(len(members) + 1), (dice.choice(members)[0], anything(dice)))
    if dice.random() < 0.2:
        members.append((dice.choice((b"later", b"", b"__init__", b"\xff")), anything(dice)))
    if dice.random() < 0.2:
        dice.shuffle(members)
    count = len(members) if dice.random() < 0.95 else dice.choice((0, len(members) - 1, len(members) + 1, 0xFFFF))
    # A key is text, whose length is told in one byte.
    return b"\xde" + struct.pack(">H", count) + b"".join(
        b"\xd9" + bytes([len(name)]) + name + value for name, value in members
    )  # fmt: skip
