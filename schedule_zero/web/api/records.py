"""What the records of the API have in common. Moments are RFC 3339 in UTC; payloads are spliced in as they are stored.

The records themselves stand by noun in ``execution_records``, ``schedule_records`` and ``system_records``: one Struct
each, made from what the service returns, and shown in the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from schedule_zero.clock import rfc3339

NULL = Raw(b"null")
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Count = Annotated[int, Meta(ge=0)]


def moment(us: int) -> str:
    """A moment that there is."""
    return rfc3339(us) or ""


def raw(payload: bytes | None) -> Raw:
    """A stored JSON document, to stand in an answer byte for byte."""
    return NULL if payload is None else Raw(payload)


class Record(Struct, kw_only=True):
    """A JSON object that the server answers with."""
