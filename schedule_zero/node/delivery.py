"""Which durable results to send, and when again, until the server has acknowledged them. Pure: no socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Raw, Struct

from schedule_zero.model import AttemptOutcome, JobError
from schedule_zero.node.attempt import LiveAttempt
from schedule_zero.node.lease import ServerTime
from schedule_zero.wire.messages import LastProgress, Result, ResultItem

BATCH_ITEMS = 1_000
BATCH_BYTES = 1 << 20
# More RESULT messages than this are not under way at a time: a long outage's results come in order, not as a flood.
IN_FLIGHT = 8
RESEND_S = 5.0

_encode_item = msgspec.msgpack.Encoder().encode


class EncodedResult(Struct, tag_field="t", tag=Result.__struct_config__.tag, kw_only=True):
    """RESULT with items as they stand in the outbox: encoded once, for the disk and the wire."""

    s: str
    items: list[Raw]


class _Token(Struct):
    token: int
    id: str = ""
    result_bytes: int = 0


_token_decoder = msgspec.msgpack.Decoder(_Token)
_item_decoder = msgspec.msgpack.Decoder(ResultItem)


def token_of(record: bytes) -> int:
    """The token of an encoded ResultItem; ValueError if it is none."""
    try:
        return _token_decoder.decode(record).token
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def big_of(record: bytes) -> tuple[str, int]:
    """The execution of an encoded ResultItem, and the size of the result that is kept beside it (0: there is none)."""
    item = _token_decoder.decode(record)
    return item.id, item.result_bytes


def without_result(record: bytes, reason: str) -> bytes:
    """The same attempt as a failure: its result is not to be had any more."""
    item = _item_decoder.decode(record)
    item.outcome, item.result, item.result_bytes = AttemptOutcome.FAILED, None, 0
    item.error = JobError(type="ResultLost", message=reason)
    return _encode_item(item)


def encode_result(attempt: LiveAttempt, time: ServerTime) -> tuple[int, bytes]:
    """The record of an ended attempt, its stamps in the server's wall time."""
    ended = attempt.outcome
    token = attempt.item.token
    if ended is None:
        raise AssertionError("an attempt without outcome was delivered")
    started_s, finished_s = attempt.started_s, attempt.finished_s
    item = ResultItem(
        id=attempt.item.id,
        token=token,
        outcome=ended.kind,
        result=ended.result,
        error=ended.error,
        started_us=None if started_s is None else time.at_us(started_s),
        finished_us=None if finished_s is None else time.at_us(finished_s),
        retry_after_s=ended.retry_after_s,
        give_up=ended.give_up,
        log_lines=attempt.log_lines,
        result_bytes=ended.result_bytes,
        cpu_us=ended.cpu_us,
        peak_rss_bytes=ended.peak_rss_bytes,
        progress=_progress(attempt, time),
    )
    return token, _encode_item(item)


def _progress(attempt: LiveAttempt, time: ServerTime) -> LastProgress | None:
    if attempt.progress is None:
        return None
    percent, text, at_s = attempt.progress
    return LastProgress(percent=percent, text=text, at_us=time.at_us(at_s))


class Delivery:
    """The results that the server has not acknowledged. ``take`` batches to send; ``ack`` what it answered."""

    def __init__(self) -> None:
        self._records: dict[int, bytes] = {}
        self._unsent: deque[int] = deque()
        # (when it was sent, its tokens), oldest first.
        self._in_flight: deque[tuple[float, list[int]]] = deque()
        # What was in the outbox at HELLO and is not acknowledged: until then the session is syncing.
        self._at_hello: set[int] = set()
        # Not to be sent yet: their results go before them, in chunks.
        self._held: set[int] = set()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[int]:
        return iter(self._records)

    def __contains__(self, token: int) -> bool:
        return token in self._records

    def add(self, results: Iterable[tuple[int, bytes]]) -> None:
        """These are on disk: they may be sent."""
        for token, record in results:
            self._records[token] = record
            if token not in self._held:
                self._unsent.append(token)

    def hold(self, token: int) -> None:
        """Send this one only when it is released."""
        self._held.add(token)

    def release(self, token: int) -> None:
        """Its result is there: it may be sent."""
        if token in self._held:
            self._held.discard(token)
            self.resend(token)

    def opened(self) -> None:
        """A new session: everything is to be sent again, and first."""
        self._in_flight.clear()
        self._unsent = deque(token for token in self._records if token not in self._held)
        self._at_hello = set(self._records)

    @property
    def waiting(self) -> bool:
        """Whether some results could not be sent yet."""
        return bool(self._unsent)

    @property
    def synced(self) -> bool:
        return not self._at_hello

    def take(self, now_s: float) -> Iterator[list[Raw]]:
        """Batches to send now."""
        while self._unsent and len(self._in_flight) < IN_FLIGHT:
            tokens: list[int] = []
            items: list[Raw] = []
            size = 0
            while self._unsent and len(items) < BATCH_ITEMS and size < BATCH_BYTES:
                token = self._unsent.popleft()
                record = self._records.get(token)
                if record is None or token in self._held:
                    continue  # acknowledged meanwhile, or to be sent later
                if items and size + len(record) > BATCH_BYTES:
                    self._unsent.appendleft(token)
                    break
                tokens.append(token)
                items.append(Raw(record))
                size += len(record)
            if not items:
                return
            self._in_flight.append((now_s, tokens))
            yield items

    def resend(self, token: int) -> None:
        """The server asked for this attempt again: its result was lost on the way."""
        if token in self._records and token not in self._held:
            self._unsent.append(token)

    def overdue(self, now_s: float) -> int:
        """Queue what was sent long ago and not acknowledged; how many that were."""
        again: list[int] = []
        while self._in_flight and now_s - self._in_flight[0][0] >= RESEND_S:
            _, tokens = self._in_flight.popleft()
            again.extend(token for token in tokens if token in self._records)
        self._unsent.extendleft(reversed(again))
        return len(again)

    def ack(self, tokens: Iterable[int]) -> list[int]:
        """The server has these for good; returns the ones that were waiting for it."""
        known = [token for token in tokens if self._records.pop(token, None) is not None]
        self._at_hello.difference_update(known)
        self._held.difference_update(known)
        while self._in_flight and not any(token in self._records for token in self._in_flight[0][1]):
            self._in_flight.popleft()
        return known
