"""The change log as the API shows it."""

from __future__ import annotations

from msgspec import Raw

from schedule_zero.rules.change_csv import csv_line
from schedule_zero.store.changes import Change
from schedule_zero.web.api.records import Count, Moment, Record, moment, raw


class ChangeRecord(Record, kw_only=True):
    """One change. ``before`` and ``after`` are JSON objects or null; ``omitted`` in one names what is too large."""

    seq: Count
    at: Moment
    # The name of a token; ``server`` with a null ``token_id`` is the server itself.
    by: str
    token_id: str | None
    address: str | None
    verb: str
    noun: str
    subject: str
    # How many things it was done to.
    count: Count
    note: str | None
    request_id: str | None
    before: Raw
    after: Raw


class ChangePage(Record, kw_only=True):
    count: Count
    limit: int
    records: list[ChangeRecord]
    next_cursor: str | None


def change_record(change: Change) -> ChangeRecord:
    return ChangeRecord(
        seq=change.seq,
        at=moment(change.at_us),
        by=change.by,
        token_id=change.token_id,
        address=change.address,
        verb=change.verb,
        noun=change.noun,
        subject=change.subject,
        count=change.count,
        note=change.note,
        request_id=change.request_id,
        before=raw(change.before),
        after=raw(change.after),
    )


def change_csv(change: Change) -> str:
    """One line of an export."""
    record = change_record(change)
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    before, after = change.before or b"", change.after or b""
    return csv_line({**values, "before": before.decode(), "after": after.decode()})
