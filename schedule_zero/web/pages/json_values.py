"""JSON as people write it into a field, and back: no number is mangled, no member lost. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from schedule_zero.web.pages.words import plain_json

# What Python reads of a whole number.
MAX_DIGITS = 4_300


def read_json(text: str) -> Any:
    """The document in ``text``. ValueError says in words what is wrong with it, and where."""
    try:
        document = json.loads(
            text, object_pairs_hook=_members, parse_constant=_no_constant, parse_float=_float, parse_int=_int
        )
        write_json(document).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("nested far too deeply") from None
    return document


def write_json(document: Any, *, indent: int | None = None) -> str:
    """JSON text that ``read_json`` reads as the same document, of letters that can be seen and line feeds."""
    return plain_json(json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:place]))
        raise ValueError(f"the key {twice[:100]!r} stands twice in one object")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits is out of range, at most {MAX_DIGITS:,} are taken")
    return int(text)
