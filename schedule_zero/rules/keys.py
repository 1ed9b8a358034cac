"""Fills the key templates of a job's options in: ``customer:{customer}`` with the execution's parameters. Pure.

``{name}`` is the parameter of that name: text as it is, anything else as JSON; one that isn't there is ``null``.
``{*}`` is all of them. A key that would be long is shortened by a hash, so it stays one of its kind.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

import msgspec

# What is stored, and indexed.
MAX_KEY = 256
_FIELD = re.compile(r"\{([^{}]+)\}")
_canonical = msgspec.json.Encoder(order="sorted").encode


def fill_in(template: str, params: dict[str, Any]) -> str:
    """The key. Never fails: any value has a JSON form, it came as one.

    (A NUL, which PostgreSQL takes in no text, stands in it as JSON writes it.)
    """
    key, fields = _split(template)
    for name, after in fields:
        said = params if name == "*" else params.get(name)
        key += (said if type(said) is str else _canonical(said).decode()) + after
    key = key.replace("\0", "\\u0000")
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 65]}#{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


@lru_cache(maxsize=4096)
def _split(template: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What stands before the first field, and the name of each with what stands after it."""
    first, *rest = _FIELD.split(template)
    return first, tuple(zip(rest[::2], rest[1::2], strict=True))


def fields_of(template: str) -> set[str]:
    """The parameters that a template names."""
    return {name for name in _FIELD.findall(template) if name != "*"}
