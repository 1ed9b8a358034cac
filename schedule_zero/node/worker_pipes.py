"""The node's ends of the pipes that the descriptors 1 and 2 of a worker process lead into while it has a job.

Read on the loop's thread, a bit at a time, so that who writes without end waits, and nobody else does.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import Callable

from schedule_zero.node.worker_voice import waiting
from schedule_zero.wire.log_lines import code_of

# At a time: what is no text takes 0.2 µs a byte to be shown, and the loop has others to serve.
_READ_BYTES = 16 << 10
CODES = (code_of("stdout", None), code_of("stderr", None))


class WorkerPipes:
    """``theirs`` is for the worker, until ``started``. ``heard`` gets the code of a stream and a text.

    ``before`` is called before anything is taken out of the pipes, to take what the worker has sent by its line: with
    how the worker does its part of that (``worker_voice.Descriptors.settle``) it is in order then.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, before: Callable[[], None], heard: Callable[[str, str], None]
    ) -> None:
        self._loop = loop
        self._before = before
        self._heard = heard
        self._ours: list[int] = []
        self.theirs: list[int] = []
        try:
            for _ in CODES:
                ours, theirs = os.pipe()
                self._ours.append(ours)
                self.theirs.append(theirs)
                os.set_blocking(ours, False)
        except OSError:
            self.close()
            raise
        self._decoders = [_decoder() for _ in CODES]

    def started(self) -> None:
        """The worker has its ends."""
        self._close_theirs()
        for index, ours in enumerate(self._ours):
            self._loop.add_reader(ours, self._readable, index)

    def finish(self) -> None:
        """The job is over: take what it has left there, and no more, whoever else still writes."""
        for index in range(len(CODES)):
            # As much as a pipe holds.
            self._take(index, self._waiting(index))
            rest = self._decoders[index].decode(b"", final=True)
            self._decoders[index] = _decoder()
            if rest:
                self._heard(CODES[index], rest)

    def close(self) -> None:
        self._close_theirs()
        for ours in self._ours:
            self._loop.remove_reader(ours)
            os.close(ours)
        self._ours.clear()

    def _close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def _waiting(self, index: int) -> int:
        return waiting(self._ours[index]) if self._ours else 0

    def _readable(self, index: int) -> None:
        # What was written by now; the worker may have sent what comes after it only when this is taken.
        count = min(self._waiting(index), _READ_BYTES)
        if not count:
            # No end is open for writing any more.
            self._loop.remove_reader(self._ours[index])
            return
        self._before()
        self._take(index, count)

    def _take(self, index: int, count: int) -> None:
        while count > 0 and self._ours:
            data = b""
            # Taken meanwhile, by the end of a job.
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._ours[index], count)
            if not data:
                return
            count -= len(data)
            text = self._decoders[index].decode(data)
            if text:
                self._heard(CODES[index], text)


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("backslashreplace")
