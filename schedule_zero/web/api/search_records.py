"""What a search comes to, as the API shows it."""

from __future__ import annotations

from schedule_zero.clock import rfc3339
from schedule_zero.service.search import Suggestions
from schedule_zero.store.execution_counting import Basis, Histogram
from schedule_zero.web.api.records import Count, Moment, Record, moment


class BucketRecord(Record, kw_only=True):
    """From ``start`` up to the next one's (or the histogram's ``end``); null: not looked at."""

    start: Moment
    count: Count | None
    # Of them: failed, timed out, dead.
    failed: Count | None


class HistogramRecord(Record, kw_only=True):
    """When what was found was created (or came to its ``basis``: ``ended``)."""

    buckets: list[BucketRecord]
    end: Moment
    total: Count
    basis: Basis
    # Every one was counted; else only the newest, back to ``sampled_back_to``.
    complete: bool
    sampled_back_to: Moment | None
    # From the server's hourly counters, which do not forget what was cleared since.
    with_cleared: bool
    # The search as it was understood.
    q: str


class SuggestionRecord(Record, kw_only=True):
    text: str
    hint: str


class SuggestionsRecord(Record, kw_only=True):
    """Each ``text`` may take the place of the characters from ``start`` up to ``end`` of the search."""

    start: Count
    end: Count
    suggestions: list[SuggestionRecord]


def histogram_record(found: Histogram, q: str) -> HistogramRecord:
    return HistogramRecord(
        buckets=[
            BucketRecord(start=moment(start), count=count, failed=failed)
            for start, count, failed in zip(found.edges[:-1], found.counts, found.failed, strict=True)
        ],
        end=moment(found.edges[-1]),
        total=found.total,
        basis=found.basis,
        complete=found.sampled_us is None,
        sampled_back_to=rfc3339(found.sampled_us),
        with_cleared=found.with_cleared,
        q=q,
    )


def suggestions_record(found: Suggestions) -> SuggestionsRecord:
    return SuggestionsRecord(
        start=found.start,
        end=found.end,
        suggestions=[SuggestionRecord(text=one.text, hint=one.hint) for one in found.items],
    )
