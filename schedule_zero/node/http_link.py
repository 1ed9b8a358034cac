"""The node's line to the server over HTTP: the same conversation as over ZeroMQ, as claims, results and heartbeats.

For what ZeroMQ can't reach (a proxy in between, only port 443 open). The owner notices no difference: it is given
Dispatch, Cancel, ResultAck and ServerDrain, and its Credit, Reject, Progress and results become requests.

**A session** begins with a claim of nothing, which says who we are, and ends with the first failure of any request:

    (back-off) ──claim 0 answered──► open: results go out, in order ──► the window says so: claims
         ▲                              │ any request fails, or is refused
         └──────────────────────────────┘ what is not acknowledged stays in the outbox, and is sent again, in order

**What can go wrong, and what happens**

* No answer, 5xx, an answer that is not our server's: back-off with full jitter, 1 → 32 s, and never above half a lease.
* 429, 503: the same, and not before Retry-After is over.
* 401, 403: the token is not (or no longer) good. It is said once, the token file is read again, and it is tried again,
  slowly. Nothing is claimed meanwhile; what runs goes on while the lease holds; results wait in the outbox.
* 409 ``duplicate_node``: another process is this node; we end. 409 ``lease_lost``, 404 ``not_found`` to a result: it is
  answered for good, as RESULT_ACK would say it.
* 413, or a body that the server finds malformed: no repetition helps, and the results behind it must not wait for ever.
  The attempt fails with the reason in its place.
* 409 ``result_incomplete``: the server has fewer parts of a large result than it acknowledged; they go again, and then
  the result.
* An answer to a claim is lost: the next claim says what we hold, and what is missing comes again.
* The outbox's disk is full: the window is 0, and nothing is claimed.

Large results and logs go in parts, beside all this and after it; see ``http_parts``.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

from schedule_zero.clock import Clock, rfc3339
from schedule_zero.errors import Denied, DuplicateNode
from schedule_zero.model import AttemptOutcome, JobError
from schedule_zero.node.delivery import EncodedResult
from schedule_zero.node.http_parts import Parts
from schedule_zero.node.http_requests import Over, Reply, Requests, decoded, decoded_problem, moment_us
from schedule_zero.node.lease import Lease, ServerTime
from schedule_zero.node.link import BACKOFF_MAX_S, DEFAULT_LEASE_S, End, Owner, back_off_s
from schedule_zero.node.settings import HttpAccess
from schedule_zero.wire.messages import (
    MAX_BATCH,
    Cancel,
    Credit,
    Dispatch,
    DispatchItem,
    Hello,
    LastProgress,
    Log,
    NodeDrain,
    NodeMessage,
    Progress,
    Reject,
    ResultAck,
    ResultChunk,
    ResultChunkAck,
    ResultItem,
    ServerDrain,
    Welcome,
)

log = structlog.get_logger(__name__)

# Beyond what the server is asked to wait.
ANSWER_S = 10.0
MAX_CLAIM = 1000
MAX_DOC = 4000
# A claim of ours waits for a third of the lease: what it names is renewed twice before it would be over.
LEASE_PARTS = 3
# At the end: for what was given back, and for the goodbye.
GOODBYE_S = 2.0

_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(ResultItem).decode


class _Job(DispatchItem, kw_only=True):
    """An attempt as a claim brings it; see ``web.api.job_records.JobRecord``."""

    job_params: Raw
    nominal_time: str | None = None
    start_by: str | None = None


class _Claimed(Struct):
    jobs: list[_Job]
    cancel: list[int]
    drain: bool
    drain_s: float | None
    lease_s: float
    heartbeat_s: float
    server_time: str
    waited_s: float
    # A server that does not say takes none.
    log_bytes: int = 0
    result_bytes: int = 0
    big_result_bytes: int = 0


class _Incomplete(Struct):
    upto: int = 0


class _Beaten(Struct):
    cancel: bool = False


class _Reported(Struct):
    """What the server says of a report that it has. A success without it is somebody else's: a proxy's login page."""

    status: Literal["recorded", "duplicate", "rejected"]


_decode_claimed = msgspec.json.Decoder(_Claimed).decode
_decode_incomplete = msgspec.json.Decoder(_Incomplete).decode
_decode_beaten = msgspec.json.Decoder(_Beaten).decode
_decode_reported = msgspec.json.Decoder(_Reported).decode


class HttpLink:
    """``run`` keeps a session open until it is cancelled; ``send`` takes what the owner says while there is one."""

    def __init__(
        self, *, access: HttpAccess, clock: Clock, lease: Lease, time: ServerTime, owner: Owner, transport: Any = None
    ) -> None:
        self.session: str | None = None
        self.heartbeat_s = 2.0
        self.sessions = 0
        self._access = access
        self._clock = clock
        self._lease = lease
        self._time = time
        self._owner = owner
        self._requests = Requests(access, transport)
        self._parts = Parts(self._requests)
        self._lease_s = DEFAULT_LEASE_S
        self._hello: Hello | None = None
        self._operations = Raw(b"[]")
        self._window = 0
        self._leaving = False
        self._drained = False
        self._refused = ""
        self._results: dict[int, ResultItem] = {}
        self._rejects: dict[int, str] = {}
        self._progress: dict[int, Progress] = {}
        # Where a token's requests go: the id of its execution.
        self._ids: dict[int, str] = {}
        self._news = asyncio.Event()
        self._work = asyncio.Event()
        self._aside = asyncio.Event()
        self._calm = asyncio.Event()

    # --- for the owner -----------------------------------------------------------------------------------

    def send(self, message: NodeMessage | EncodedResult) -> bool:
        """Take a message. False: there is no session; whatever matters is repeated."""
        if self.session is None:
            return False
        if isinstance(message, EncodedResult):
            for record in message.items:
                item = _decode_item(record)
                self._results.setdefault(item.token, item)
            self._work.set()
            # A slot is free.
            self._news.set()
        elif isinstance(message, Credit):
            self._window = message.window
            self._news.set()
        elif isinstance(message, Reject):
            self._rejects.update((one.token, one.reason) for one in message.items if one.token in self._ids)
            self._aside.set()
        elif isinstance(message, Progress):
            self._progress[message.token] = message
            self._aside.set()
        elif isinstance(message, Log | ResultChunk):
            self._parts.add(message)
            self._calm.set()
        elif isinstance(message, NodeDrain):
            self._leaving = True
            self._news.set()
        # The rest goes without saying: ACCEPT by the claim, HEARTBEAT by every claim.
        return True

    async def run(self) -> None:
        """Until cancelled; raises Denied if the server wants nothing to do with this node."""
        failures = 0
        self._requests.open()
        try:
            while True:
                before = self.sessions
                end = await self._one_session()
                if self.sessions > before:
                    failures = 0
                refused = end.reason in ("unauthenticated", "forbidden")
                most_s = BACKOFF_MAX_S if refused else min(BACKOFF_MAX_S, self._lease_s / 2)
                delay_s = back_off_s(failures, most_s) + (end.after_s or 0.0)
                failures += 1
                self._tell(end, delay_s, lost=self.sessions > before)
                await asyncio.sleep(delay_s)
        finally:
            await self._requests.close()

    def _tell(self, end: End, delay_s: float, *, lost: bool) -> None:
        if end.reason in ("unauthenticated", "forbidden"):
            # Once: it may take somebody a day to make a new token.
            if self._refused != end.detail:
                log.error("token_refused", server=self._access.url, reason=end.reason, detail=end.detail)
            self._refused = end.detail
            return
        log.info(
            "server_lost" if lost else "server_not_reached",
            server=self._access.url,
            reason=end.reason,
            detail=end.detail or None,
            retry_in_s=round(delay_s, 2),
        )

    def tick(self) -> None:
        """Nothing is missed here that would need looking after."""

    async def say_goodbye(self) -> None:
        """See to it that what was given back is known, and sign off."""
        if self.session is None:
            return
        self._leaving = True
        try:
            async with asyncio.timeout(GOODBYE_S):
                while self._rejects:
                    await self._next_aside()
                await self._claim(0)
        except (Over, TimeoutError):
            log.info("goodbye_not_heard", server=self._access.url)

    # --- one session -------------------------------------------------------------------------------------

    async def _one_session(self) -> End:
        try:
            hello = self._owner.hello()
            self._hello = hello
            self._operations = Raw(_encode([_operation(one) for one in hello.handlers]))
            answer = await self._claim(0)
        except Over as over:
            return over.end
        self._open(answer)
        self._take(answer)
        loops = [
            asyncio.create_task(loop(), name=f"http {loop.__name__.strip('_')}")
            for loop in (self._claims, self._reports, self._asides, self._bulk)
        ]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            return _end_of(done.pop())
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            self.session = None
            self._results.clear()
            self._progress.clear()
            self._parts.clear()
            self._owner.closed()

    def _open(self, answer: _Claimed) -> None:
        self.sessions += 1
        self.session = f"http-{self.sessions}"
        self._refused = ""
        self._window = 0
        # Like all that a session says.
        self._drained = False
        log.info("server_connected", server=self._access.url, server_version=None)
        self._owner.opened(
            Welcome(
                s=self.session,
                server_us=0,
                heartbeat_s=self.heartbeat_s,
                lease_s=self._lease_s,
                log_bytes=answer.log_bytes,
                result_bytes=answer.result_bytes,
                big_result_bytes=answer.big_result_bytes,
            )
        )

    # --- claims ------------------------------------------------------------------------------------------

    async def _claims(self) -> None:
        """Ask for as much as there is room for; where there is none, say now and then that we live."""
        while True:
            self._news.clear()
            room = self._room()
            if not room:
                await self._nap(self.heartbeat_s)
                room = self._room()
            began_s = self._clock.mono_s()
            wait_s = self._lease_s / LEASE_PARTS if room else 0.0
            answer = await self._claim_unless_stopped(room, wait_s)
            self._take(answer)
            if room and not answer.jobs and not answer.cancel and self._clock.mono_s() - began_s < wait_s / 2:
                # Too soon, and with nothing in it: the server can't let us wait.
                await self._nap(self.heartbeat_s)

    async def _claim_unless_stopped(self, room: int, wait_s: float) -> _Claimed:
        """A claim; should there be no room any more (the disk is full, we drain), a second one ends it."""
        if not room:
            return await self._claim(0)
        claim = asyncio.create_task(self._claim(room, wait_s), name="http claim")
        news = asyncio.create_task(self._no_room(), name="http no room")
        try:
            await asyncio.wait({claim, news}, return_when=asyncio.FIRST_COMPLETED)
            if not claim.done():
                self._take(await self._claim(0))
            return await claim
        finally:
            for task in (claim, news):
                task.cancel()
            await asyncio.gather(claim, news, return_exceptions=True)

    async def _no_room(self) -> None:
        while self._window > 0 and not self._leaving:
            self._news.clear()
            await self._news.wait()

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _room(self) -> int:
        if self._leaving:
            return 0
        running, _ = self._owner.heartbeat()
        return min(MAX_CLAIM, max(0, self._window - running - len(self._rejects)))

    async def _claim(self, want: int, wait_s: float = 0.0) -> _Claimed:
        hello = self._hello
        if hello is None:
            raise AssertionError("a claim before the session began")
        # What is being given back is ours until the server knows.
        held = {*self._owner.holds(), *self._rejects}
        _, outbox = self._owner.heartbeat()
        body = {
            "bot_id": hello.node_id,
            "operations": self._operations,
            "batch_size": want,
            "wait_s": wait_s,
            "instance": hello.instance,
            "epoch": hello.epoch,
            "state_key": hello.state_key,
            "running": sorted(held),
            "leaving": self._leaving,
            "outbox": outbox,
            "slots": hello.slots,
            "version": hello.version,
            "host": hello.host,
            "pid": hello.pid,
            "labels": hello.labels,
            "facts": hello.facts,
        }
        sent_s = self._clock.mono_s()
        reply = await self._requests.post("/api/jobs/claim", body, wait_s + ANSWER_S)
        if reply.status == HTTPStatus.CONFLICT and reply.code == "duplicate_node":
            raise DuplicateNode(f"the server refused this node: {reply.message}")
        if reply.status == HTTPStatus.FORBIDDEN and reply.code == "denied":
            raise Denied(f"the server refused this node: {reply.message}")
        answer: _Claimed = decoded(reply, _decode_claimed)
        now_s = self._clock.mono_s()
        self.heartbeat_s = max(0.01, answer.heartbeat_s)
        self._lease_s = answer.lease_s
        self._lease.extend(sent_s, answer.lease_s)
        # While it let us wait nothing travelled.
        self._time.sample(min(sent_s + answer.waited_s, now_s), now_s, moment_us(answer.server_time))
        return answer

    def _take(self, answer: _Claimed) -> None:
        """Hand on what a claim brought."""
        session = self.session
        if session is None:
            return
        if answer.drain != self._drained:
            self._drained = answer.drain
            self._owner.receive(ServerDrain(s=session, on=answer.drain, deadline_s=answer.drain_s))
        if answer.jobs:
            self._ids.update((job.token, job.id) for job in answer.jobs)
            self._owner.receive(Dispatch(s=session, items=[_item(job) for job in answer.jobs]))
        if answer.cancel:
            self._owner.receive(Cancel(s=session, tokens=answer.cancel[:MAX_BATCH]))

    # --- results -----------------------------------------------------------------------------------------

    async def _reports(self) -> None:
        """The outbox's results, one after another in their order; the first that fails ends the session."""
        while True:
            self._work.clear()
            while self._results:
                token, item = next(iter(self._results.items()))
                ack = await self._report(item)
                self._results.pop(token, None)
                if isinstance(ack, ResultAck):
                    self._ids.pop(token, None)
                self._calm.set()
                self._owner.receive(ack)
            await self._work.wait()

    async def _report(self, item: ResultItem) -> ResultAck | ResultChunkAck:
        refused = self._parts.refused.pop(item.token, None)
        reply = refused or await self._post_result(item)
        if (reply.code and reply.status in _MALFORMED) or reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            log.error("result_refused", execution_id=item.id, status=reply.status, reason=reply.message[:200])
            reply = await self._post_result(_unreportable(item, reply))
        tokens = [item.token]
        s = self.session or ""
        if reply.status == HTTPStatus.CONFLICT and reply.code == "lease_lost":
            return ResultAck(s=s, superseded=tokens)
        if reply.status == HTTPStatus.CONFLICT and reply.code == "result_incomplete":
            return ResultChunkAck(s=s, token=item.token, upto=decoded_problem(reply, _decode_incomplete).upto)
        if reply.status == HTTPStatus.NOT_FOUND and reply.code == "not_found":
            return ResultAck(s=s, unknown=tokens)
        decoded(reply, _decode_reported)
        return ResultAck(s=s, recorded=tokens)

    async def _post_result(self, item: ResultItem) -> Reply:
        error = item.error
        body = {
            "bot_id": self._owner_id(),
            "token": item.token,
            "status": item.outcome,
            "give_up": item.give_up,
            "retry_after_s": item.retry_after_s,
            "cpu_us": item.cpu_us,
            "peak_rss_bytes": item.peak_rss_bytes,
            "progress": None if item.progress is None else _reached(item.progress),
        }
        if item.result is not None:
            body["result"] = Raw(item.result)
        if item.result_bytes:
            body["result_bytes"] = item.result_bytes
        if item.log_lines:
            body["log_lines"] = item.log_lines
        if error is not None:
            body["error"] = {
                "type": error.type or "Error",
                "message": error.message,
                "traceback": error.traceback,
                "category": error.category,
                "bases": error.bases,
            }
        for name, us in (("started_at", item.started_us), ("finished_at", item.finished_us)):
            if us is not None:
                body[name] = rfc3339(us)
        return await self._requests.post(f"/api/jobs/{item.id}/result", body, ANSWER_S * 2)

    def _owner_id(self) -> str:
        return "" if self._hello is None else self._hello.node_id

    # --- what is not results -------------------------------------------------------------------------------

    async def _asides(self) -> None:
        """What is given back, and progress."""
        while True:
            self._aside.clear()
            while self._rejects or self._progress:
                await self._next_aside()
            self._calm.set()
            await self._aside.wait()

    async def _next_aside(self) -> None:
        if self._rejects:
            token, reason = next(iter(self._rejects.items()))
            body = {"bot_id": self._owner_id(), "token": token, "status": "rejected", "reason": reason}
            reply = await self._requests.post(f"/api/jobs/{self._ids[token]}/result", body, ANSWER_S)
            if reply.code not in ("lease_lost", "not_found"):
                decoded(reply, _decode_reported)
            self._rejects.pop(token, None)
            self._ids.pop(token, None)
            return
        token, progress = self._progress.popitem()
        if token not in self._ids:
            return
        body = {
            "bot_id": self._owner_id(),
            "token": token,
            "percent": progress.percent,
            "text": progress.text,
        }
        reply = await self._requests.post(f"/api/jobs/{self._ids[token]}/heartbeat", body, ANSWER_S)
        if reply.code in ("lease_lost", "not_found") or decoded(reply, _decode_beaten).cancel:
            self._owner.receive(Cancel(s=self.session or "", tokens=[token]))

    # --- what goes in parts --------------------------------------------------------------------------------

    async def _bulk(self) -> None:
        """Large results and logs, while nothing else waits to be sent. (One result may be under way.)"""
        while True:
            self._calm.clear()
            while self._parts and len(self._results) <= 1 and not self._rejects and not self._progress:
                for ack in await self._parts.post(self._owner_id(), self.session or ""):
                    self._owner.receive(ack)
            await self._calm.wait()


# What repeating won't make better.
_MALFORMED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


def _end_of(task: asyncio.Task[None]) -> End:
    """How the loop ended; what is no end of a session is raised."""
    error = task.exception()
    if isinstance(error, Over):
        return error.end
    if error is not None:
        raise error
    raise AssertionError("a loop without an end has ended")


def _item(job: _Job) -> DispatchItem:
    nominal_us = None if job.nominal_time is None else moment_us(job.nominal_time)
    start_by_us = None if job.start_by is None else moment_us(job.start_by)
    return replace(job, params=bytes(job.job_params), nominal_us=nominal_us, start_by_us=start_by_us)


def _operation(declared: Any) -> dict[str, Any]:
    methods = [
        {"name": one.name, "schema": Raw(one.schema), "options": one.options, "doc": one.doc[:MAX_DOC]}
        for one in declared.methods
    ]
    return {"handler_id": declared.handler_id, "methods": methods}


def _reached(progress: LastProgress) -> dict[str, Any]:
    told: dict[str, Any] = {"percent": progress.percent, "text": progress.text}
    if progress.at_us is not None:
        told["at"] = rfc3339(progress.at_us)
    return told


def _unreportable(item: ResultItem, reply: Reply) -> ResultItem:
    """What is reported in place of a result that the server won't take."""
    return ResultItem(
        id=item.id,
        token=item.token,
        outcome=AttemptOutcome.FAILED,
        error=JobError(
            type="ResultRefused", message=f"the server did not take the result: {reply.status} {reply.message[:500]}"
        ),
        started_us=item.started_us,
        finished_us=item.finished_us,
        log_lines=item.log_lines,
        progress=item.progress,
        # It has run; what it would return next time is no shorter.
        give_up=True,
    )
