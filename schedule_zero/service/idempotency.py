"""An Idempotency-Key bound to its principal and request, with the answer that a repetition gets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schedule_zero.clock import Clock
from schedule_zero.service.specs import IdemKey, Principal
from schedule_zero.store import Store
from schedule_zero.store.idempotency import IdempotencyRecord
from schedule_zero.store.idempotency import get as get_record


async def known(store: Store, record: IdempotencyRecord | None) -> bool:
    """Whether this request was accepted before: then it has its answer, however much is waiting now."""
    return record is not None and await store.read(lambda conn: get_record(conn, record.key)) is not None


def idempotency_record(
    principal: Principal, idem: IdemKey | None, ids: Sequence[str], clock: Clock
) -> IdempotencyRecord | None:
    """What is stored in the write's own transaction; ``ids`` are what it creates, and what a repetition gets."""
    if idem is None:
        return None
    return IdempotencyRecord(
        key=f"{principal.token_id}:{idem.key}",
        fingerprint=idem.fingerprint,
        status=200,
        response=msgspec.json.encode(ids),
        created_us=clock.wall_us(),
    )
