"""What must not be lost: one SQLite file (or PostgreSQL database), one writer, many readers.

Start reading at ``store.py`` (the door), then ``writer.py`` (group commit), then the nouns: ``executions``,
``schedules``, ``fires``, ``calendars``, ``handlers``, ``nodes``, ``tokens``, ``node_keys``, ``events``,
``idempotency``.
The only package that imports sqlalchemy.
"""

from __future__ import annotations

from schedule_zero.store.store import Store
from schedule_zero.store.tx import IdempotencyRecord, IdempotentReplay, Page, Tx, Verb
from schedule_zero.store.writer import StoreStats

__all__ = ["IdempotencyRecord", "IdempotentReplay", "Page", "Store", "StoreStats", "Tx", "Verb"]
