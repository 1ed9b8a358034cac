"""``Client`` and ``AsyncClient``: carry out the flows of ``verbs`` over httpx, and stream events.

The two differ in nothing else. httpx is imported with the first client that is made, not with this module.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from schedule_zero.client import target
from schedule_zero.client.events import Event, EventStream
from schedule_zero.client.flow import CONNECT_S, Failure, Flow, Outcome, Patience, Reply, Request, Sleep
from schedule_zero.client.log_verbs import Follow, following, log_lines
from schedule_zero.client.records import LogLine
from schedule_zero.client.verbs import Verbs
from schedule_zero.clock import Clock, SystemClock
from schedule_zero.errors import BadRequest

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

# Three of the server's keep-alives that did not come: the stream is dead.
SILENCE_S = 45.0


class _Connection(Verbs):
    """What both clients are made of: the server's address, how patient they are, and httpx's settings."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        state_dir: Path | None = None,
        timeout_s: float = 30.0,
        retry_s: float = 30.0,
        clock: Clock | None = None,
        transport: Any = None,
    ) -> None:
        """``url`` and ``token`` unsaid: ``SCHEDULE_ZERO_URL`` and ``SCHEDULE_ZERO_TOKEN``, else what the server of
        this machine left in its state directory.

        An answer may take ``timeout_s``. After a failure a verb goes on trying for ``retry_s`` (0: not at all).
        """
        self.target = target.find(url, token, environ=os.environ, cwd=Path.cwd(), states=state_dir)
        self.patience = Patience(timeout_s, retry_s)
        self.clock = clock or SystemClock()
        # Spreads retries out; nothing secret comes of it.
        self.random: Callable[[], float] = random.random
        self._transport = transport
        self._connect()

    def _connect(self) -> None:
        """Make the httpx client of this kind."""
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        import httpx

        headers = {"accept": "application/json", "user-agent": f"schedule-zero/{_version()}"}
        if self.target.token:
            headers["authorization"] = f"Bearer {self.target.token}"
        return {
            "headers": headers,
            # Making a TLS context costs 100 ms, and over http:// there is no TLS to verify.
            "verify": self.target.url.startswith("https:"),
            # A proxy of the environment can't reach this machine's loopback.
            "trust_env": not self.target.loopback,
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=30.0),
            "transport": self._transport,
        }

    def _following(self, execution_id: str, wanted: Follow) -> EventStream:
        path, query = following(execution_id, wanted)
        return EventStream((), (), None, self.patience, self.clock, self.random, path=path, query=query)

    def _arguments(self, request: Request, answer_s: float) -> dict[str, Any]:
        import httpx

        return {
            "method": request.method,
            "url": self.target.url + request.path,
            "params": request.query or None,
            "content": request.body,
            "headers": request.headers,
            "timeout": httpx.Timeout(answer_s, connect=min(CONNECT_S, answer_s), pool=None),
        }


class Client(_Connection):
    """A server, for code that may block. Thread-safe; keeps its connections: make one, and close it.

    >>> with Client() as client:  # doctest: +SKIP
    ...     client.run("demo", "add", {"a": 19, "b": 23}).result
    42
    """

    def _connect(self) -> None:
        import httpx

        self._http = httpx.Client(**self._options())

    def perform(self, flow: Callable[..., Flow[T]], *args: Any, **kwargs: Any) -> T:
        """Carry out one flow: what every verb of this class does."""
        steps = flow(self, *args, **kwargs)
        outcome: Outcome = None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(effect, Sleep):
                time.sleep(effect.seconds)
                outcome = None
            else:
                outcome = self._exchange(effect.request, effect.timeout_s)

    def _exchange(self, request: Request, answer_s: float) -> Outcome:
        import httpx

        try:
            response = self._http.request(**self._arguments(request, answer_s))
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return _failure(error, self.target.url, answer_s)
        return _reply(response)

    def events(
        self, *, topics: Sequence[str] = (), kinds: Sequence[str] = (), since: str | None = None
    ) -> Generator[Event, None, None]:
        """What the server commits, as it is committed, without an end; from now on, or from the ``event_id`` ``since``.

        Connects again by itself and continues where it was. Raises only where the first connection fails, or the
        server refuses. Close the iterator, or leave it to the garbage collector.
        """
        return self._streamed(EventStream(topics, kinds, since, self.patience, self.clock, self.random))

    def follow(self, execution_id: str, **wanted: Unpack[Follow]) -> Generator[Event, None, None]:
        """The log of an execution as it grows: ``log`` events with lines, ``progress``, and ``end`` as the last.

        Connects again by itself, as ``events`` does; NotFound where there is no such execution.
        """
        for event in self._streamed(self._following(execution_id, wanted)):
            yield event
            if event.kind == "end":
                return

    def follow_logs(self, execution_id: str, **wanted: Unpack[Follow]) -> Generator[LogLine, None, None]:
        """The lines of an execution as it says them, attempt after attempt; ends when it is over.

        ``attempt``: begin with that one (else the newest); ``first``: with that line; ``tail``: with the last so many;
        ``grep``: only lines with this text in them.
        """
        for event in self.follow(execution_id, **wanted):
            yield from log_lines(event)

    def _streamed(self, stream: EventStream) -> Generator[Event, None, None]:
        import httpx

        while True:
            outcome: Reply | Failure
            try:
                with self._http.stream(**self._arguments(stream.request(), SILENCE_S)) as response:
                    if response.status_code == 200:
                        stream.connected()
                        for chunk in response.iter_bytes():
                            yield from stream.feed(chunk)
                        outcome = Failure("the server ended the stream", reached=True)
                    else:
                        response.read()
                        outcome = _reply(response)
            except httpx.RequestError as error:
                outcome = _failure(error, self.target.url, SILENCE_S)
            time.sleep(stream.pause_s(outcome))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Connection):
    """A server, for asynchronous code (asyncio or trio); its verbs are those of ``Client``, awaited.

    >>> async with AsyncClient() as client:  # doctest: +SKIP
    ...     await client.submit("demo", "hello", {"name": "Ada"})
    """

    def _connect(self) -> None:
        import httpx

        self._http = httpx.AsyncClient(**self._options())

    async def perform(self, flow: Callable[..., Flow[T]], *args: Any, **kwargs: Any) -> T:
        """Carry out one flow: what every verb of this class does."""
        import anyio

        steps = flow(self, *args, **kwargs)
        outcome: Outcome = None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(effect, Sleep):
                await anyio.sleep(effect.seconds)
                outcome = None
            else:
                outcome = await self._exchange(effect.request, effect.timeout_s)

    async def _exchange(self, request: Request, answer_s: float) -> Outcome:
        import httpx

        try:
            response = await self._http.request(**self._arguments(request, answer_s))
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return _failure(error, self.target.url, answer_s)
        return _reply(response)

    async def events(
        self, *, topics: Sequence[str] = (), kinds: Sequence[str] = (), since: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """As ``Client.events``."""
        stream = self._streamed(EventStream(topics, kinds, since, self.patience, self.clock, self.random))
        async with aclosing(stream):
            async for event in stream:
                yield event

    async def follow(self, execution_id: str, **wanted: Unpack[Follow]) -> AsyncGenerator[Event, None]:
        """As ``Client.follow``."""
        async with aclosing(self._streamed(self._following(execution_id, wanted))) as stream:
            async for event in stream:
                yield event
                if event.kind == "end":
                    return

    async def follow_logs(self, execution_id: str, **wanted: Unpack[Follow]) -> AsyncGenerator[LogLine, None]:
        """As ``Client.follow_logs``."""
        async with aclosing(self.follow(execution_id, **wanted)) as stream:
            async for event in stream:
                for line in log_lines(event):
                    yield line

    async def _streamed(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        import anyio
        import httpx

        while True:
            outcome: Reply | Failure
            try:
                async with self._http.stream(**self._arguments(stream.request(), SILENCE_S)) as response:
                    if response.status_code == 200:
                        stream.connected()
                        async for chunk in response.aiter_bytes():
                            for event in stream.feed(chunk):
                                yield event
                        outcome = Failure("the server ended the stream", reached=True)
                    else:
                        await response.aread()
                        outcome = _reply(response)
            except httpx.RequestError as error:
                outcome = _failure(error, self.target.url, SILENCE_S)
            await anyio.sleep(stream.pause_s(outcome))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


def _failure(error: Exception, url: str, answer_s: float) -> Failure:
    """What httpx's error means for a retry: whether the request may have arrived."""
    import httpx

    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        raise BadRequest(f"{url}: {error}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Failure(f"{url}: cannot connect: {str(error) or 'timed out'}", reached=False)
    if isinstance(error, httpx.ReadTimeout):
        return Failure(f"{url}: no answer within {answer_s:g} s", reached=True)
    if isinstance(error, httpx.DecodingError):
        return Failure(f"{url}: an answer that can't be read, of a proxy perhaps: {error}", reached=True)
    return Failure(f"{url}: the connection broke: {str(error) or type(error).__name__}", reached=True)


@cache
def _version() -> str:
    return version("schedule-zero")
