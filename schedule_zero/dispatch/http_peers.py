"""Nodes that speak HTTP instead of ZeroMQ ("bots"): for the core they are nodes like all others, behind a peer of ours.

A claim says HELLO where that is needed, opens the window for as many attempts as it asks for, and closes it again when
it is answered. So the core decides everything that it decides for nodes (who gets what, leases, fencing, cancels,
restarts); here stands only what a connection that comes and goes makes different. No web server here: the service calls
in, and waits.

**An attempt on a bot**

    (core: SENT) ──► ready ──a claim takes it──► held ──result or rejection──► (gone)
                       │ 1 s                      │ its lease and the margin are over
                       └──► given back            └──► lost: what follows is the job's ``on_lost``

**The lease** is the attempt's own: a bot that lives and has forgotten one attempt must not keep it for ever. It begins
when a claim takes the attempt and is extended by a heartbeat, or by a claim that names its token in ``running``. The
core's lease of the instance is never shorter: whatever the bot says extends it.

**What can go wrong, and what happens**

* The client of a claim is gone before it was answered: what was on the way to it was never delivered, and is given
  back.
* It is gone while the answer is on the way: nobody knows. If the next claim says what the bot holds (``running``), what
  is missing there is delivered again; a bot that never says so loses the attempt when its lease is over.
* More came than was asked for (two claims at once, a submission in the moment of the answer): it waits for the next
  claim, and is given back after a second.
* A claim that does not wait is answered when nothing is on the way any more: a backlog is read from the store first.
* The bot is silent: with attempts in hand it becomes suspect and lost as a node does. With none nothing is at stake,
  for without a waiting claim it is sent nothing: after a minute it is signed off.
* The server restarts: whatever the bot says next brings its session back, and its attempts with it, each with a whole
  lease (C11).
* The same bot id from two processes: ``sessions.admit``, by their ``instance`` (C18). Without one they are one bot, and
  share its claims. A bot and a ZeroMQ node can't have one id: what is said over HTTP of a ZeroMQ node's attempt is not
  believed.
* The store fails: claims and results that wait for it are told at once; nothing is acknowledged (C13).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.core import REPORTABLE, Core
from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.inbound import Inbound
from schedule_zero.dispatch.membership import STALL_S, TICK_S
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    COUNTED,
    ENDING,
    HELD,
    PLACED,
    SENT,
    STARTING,
    LiveAttempt,
    LiveNode,
    Session,
)
from schedule_zero.errors import (
    Denied,
    Draining,
    DuplicateNode,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from schedule_zero.wire import messages as m

# Marks the instances of bots, in the store as well: over HTTP only these can be spoken for.
INSTANCE = "http:"
# What nobody has come for by then is given back.
HOARD_S = 1.0
# A bot without attempts that has said nothing for so long is signed off.
IDLE_S = 60.0
# A claim whose time is up waits for so long at most for what is on the way to it.
SETTLE_S = 5.0
# The store has so long for a declaration or a result.
ANSWER_S = 10.0
# Claims of one bot that wait at a time, and bots that are known at a time.
MAX_CLAIMS = 100
MAX_BOTS = 10_000
# One answer holds no more parameters than this, unless a single attempt has more.
MAX_ANSWER_BYTES = 8 << 20

RECORDED = "recorded"


class Ask(Struct, kw_only=True):
    """One claim."""

    # Its ``instance`` begins with INSTANCE; ``running`` and ``outbox`` are filled in here.
    hello: m.Hello
    # Handlers of which it names some methods only: what else is known of them stays known.
    adds: frozenset[str] = frozenset()
    want: int
    wait_s: float = 0.0
    # Whether its token is still good, when it has waited.
    allowed: Callable[[], bool] = lambda: True
    # Every token that the bot holds, if it says so.
    running: frozenset[int] | None = None
    # It takes no more work, and is signed off once it holds nothing.
    leaving: bool = False


class Given(Struct, kw_only=True):
    """The answer to a claim."""

    items: list[m.DispatchItem]
    # Tokens of attempts that are to be ended.
    cancel: list[int]
    # An operator gives this bot no new work.
    draining: bool
    waited_s: float


class Beat(Struct):
    """The answer to a heartbeat."""

    cancel: bool
    draining: bool


class _Held(Struct):
    lease_end_s: float
    cancel: bool = False


class _Claim(Struct, eq=False):
    want: int
    allowed: Callable[[], bool]
    done: asyncio.Future[list[m.DispatchItem]]


class _Bot(Struct, eq=False):
    node_id: str
    peer: bytes
    heard_s: float
    # A lease ran out since it was heard last: its silence means something, though it holds nothing now.
    doubtful: bool = False
    # One HELLO at a time; its answer: None for WELCOME.
    hello: asyncio.Lock = field(default_factory=asyncio.Lock)
    answer: asyncio.Future[m.Deny | None] | None = None
    # What the session was opened with; None: the next claim has to say HELLO.
    handlers: list[m.HandlerDeclaration] | None = None
    # Sent by the core, taken by no claim yet, with the moment of its coming.
    ready: dict[int, tuple[m.DispatchItem, float]] = field(default_factory=dict)
    held: dict[int, _Held] = field(default_factory=dict)
    claims: list[_Claim] = field(default_factory=list)
    results: dict[int, list[asyncio.Future[str]]] = field(default_factory=dict)
    handing_out: bool = False


class HttpPeers:
    """The server's end of every bot. All of it runs on the loop's thread."""

    def __init__(
        self, *, core: Core, inbound: Inbound, config: DispatchConfig, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._core = core
        self._inbound = inbound
        self._config = config
        self._clock = clock
        self._changed = changed
        # No ZeroMQ peer can choose a routing id that begins with this.
        self._prefix = b"\0http" + secrets.token_bytes(16)
        self._bots: dict[str, _Bot] = {}
        self.peers: dict[bytes, _Bot] = {}
        # Claims whose time is up while something is on the way to them.
        self._late: dict[_Claim, _Bot] = {}
        self._last_tick_s: float | None = None

    def _now(self) -> Now:
        return Now(self._clock.mono_s(), self._clock.wall_us())

    # --- what the service asks ----------------------------------------------------------------------

    async def claim(self, ask: Ask) -> Given:
        """Work for a bot, as soon as there is some, within ``wait_s``.

        Raises DuplicateNode (the id is in use), Denied, Unavailable and its kinds (try again).
        """
        bot = self._bot(ask.hello.node_id)
        async with bot.hello:
            if not self._is_joined(bot, ask.hello):
                await self._join(bot, ask)
        now = self._now()
        self._heard(bot, now, outbox=ask.hello.outbox)
        over = self._named(bot, ask, now)
        node = self._core.nodes[bot.node_id]
        items: list[m.DispatchItem] = []
        if ask.running is not None:
            # What it names is what it holds now: nobody listens to an older claim of it any more.
            self._finish_all(bot, [])
        began_s = now.mono_s
        if ask.leaving:
            self._leave(bot, node)
        elif ask.want:
            items = await self._wait(bot, ask)
        cancel = [token for token, held in bot.held.items() if held.cancel]
        waited_s = self._clock.mono_s() - began_s
        return Given(items=items, cancel=cancel + over, draining=node.drained, waited_s=waited_s)

    def heartbeat(
        self, node_id: str, execution_id: str, token: int, progress: tuple[float | None, str] | None
    ) -> Beat | None:
        """The bot works on this attempt; None: it isn't (or no longer) this bot's."""
        found = self._find(node_id, execution_id, token)
        if found is None:
            return None
        bot, att = found
        if att.phase not in HELD and att.phase != ENDING:
            return None
        now = self._now()
        self._heard(bot, now)
        held = bot.held.setdefault(token, _Held(0.0))
        held.lease_end_s = now.mono_s + self._config.lease_s
        if att.phase == SENT:
            self._say(bot, m.Accept(s="", items=[m.AcceptedItem(token=token)]))
        if progress is not None:
            self._say(bot, m.Progress(s="", token=token, percent=progress[0], text=progress[1]))
        return Beat(cancel=att.row.cancel_requested, draining=att.node.drained)

    async def report(self, node_id: str, item: m.ResultItem) -> str | None:
        """How an attempt ended: once that is committed, what RESULT_ACK says of it. None: it isn't this bot's.

        StoreUnavailable, Unavailable: nothing was recorded; the bot repeats it.
        """
        found = self._find(node_id, item.id, item.token)
        if found is None:
            return None
        bot, att = found
        if att.phase not in REPORTABLE and att.phase != ENDING:
            raise Unavailable("the server is just deciding about this attempt; ask again")
        self._heard(bot, self._now())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        bot.results.setdefault(item.token, []).append(answer)
        if att.phase != ENDING:
            self._with_closed_window(bot, m.Result(s="", items=[item]))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("the result could not be recorded in time; report it again") from None
        finally:
            waiting = bot.results.get(item.token, [])
            if answer in waiting:
                waiting.remove(answer)
                if not waiting:
                    del bot.results[item.token]

    def reject(self, node_id: str, execution_id: str, token: int, reason: str) -> bool:
        """The bot gives it back unstarted; False: it isn't this bot's."""
        found = self._find(node_id, execution_id, token)
        if found is None or found[1].phase not in (SENT, ACCEPTED):
            return False
        bot, _ = found
        self._heard(bot, self._now())
        bot.held.pop(token, None)
        self._with_closed_window(bot, m.Reject(s="", items=[m.RejectedItem(token=token, reason=reason)]))
        return True

    # --- sessions -----------------------------------------------------------------------------------

    def _bot(self, node_id: str) -> _Bot:
        bot = self._bots.get(node_id)
        if bot is None:
            if len(self._bots) >= MAX_BOTS:
                raise TooManyRequests(f"{MAX_BOTS} bots are connected; no more are taken")
            bot = _Bot(node_id, self._prefix + node_id.encode(), self._clock.mono_s())
            self._bots[node_id] = self.peers[bot.peer] = bot
        return bot

    def _is_joined(self, bot: _Bot, hello: m.Hello) -> bool:
        session = self._core.sessions.get(bot.peer)
        return session is not None and session.node.instance.id == hello.instance and bot.handlers == hello.handlers

    async def _join(self, bot: _Bot, ask: Ask) -> None:
        hello = replace(ask.hello, running=self._believed(bot.node_id, ask.hello.instance))
        bot.answer = answer = asyncio.get_running_loop().create_future()
        self._inbound.hello(bot.peer, "", hello, adds=ask.adds)
        self._changed()
        try:
            async with asyncio.timeout(ANSWER_S):
                denial = await answer
        except TimeoutError:
            raise StoreUnavailable("what this bot serves could not be recorded in time") from None
        if denial is not None:
            raise _refused(denial)
        bot.handlers = ask.hello.handlers
        self._adopt(bot, hello.running)

    def _believed(self, node_id: str, instance: str) -> list[m.Held]:
        """Attempts that this process of the bot may hold. What it doesn't, its own lease ends."""
        node = self._core.nodes.get(node_id)
        if node is None or node.instance.id != instance:
            return []
        return [
            m.Held(id=att.row.id, token=token)
            for token, att in node.attempts.items()
            if att.instance is node.instance and att.phase in HELD
        ]

    def _adopt(self, bot: _Bot, believed: Iterable[m.Held]) -> None:
        """A new session: what the bot may hold has a whole lease from now, or the one that it had."""
        fresh_s = self._clock.mono_s() + self._config.lease_s
        before = bot.held
        bot.held = {
            one.token: before.get(one.token) or _Held(fresh_s) for one in believed if one.token not in bot.ready
        }

    def _find(self, node_id: str, execution_id: str, token: int) -> tuple[_Bot, LiveAttempt] | None:
        """The bot that holds this attempt; its session is brought back if it was lost (or the server restarted)."""
        node = self._core.nodes.get(node_id)
        if node is None or not node.instance.id.startswith(INSTANCE):
            return None
        att = node.attempts.get(token)
        if att is None or att.row.id != execution_id:
            return None
        bot = self._bot(node_id)
        if node.session is None:
            self._revive(bot, node)
        if node.session is None or node.session.peer != bot.peer:
            return None
        return bot, att

    def _revive(self, bot: _Bot, node: LiveNode) -> None:
        """It spoke of an attempt that it holds: it is the process that we know. What it serves its next claim says."""
        hello = m.Hello(
            protocol=m.PROTOCOL_VERSION,
            node_id=node.node_id,
            instance=node.instance.id,
            epoch=node.instance.epoch,
            state_key="",
            handlers=[m.HandlerDeclaration(handler_id=handler_id, methods=[]) for handler_id in node.handlers],
            slots=node.slots,
            running=self._believed(node.node_id, node.instance.id),
            outbox=node.outbox,
            version=node.version,
            host=node.host,
            pid=node.pid,
        )
        bot.handlers = None
        self._core.hello(bot.peer, hello, (), self._now())
        self._changed()
        if node.session is None:
            raise Draining
        self._adopt(bot, hello.running)

    def _leave(self, bot: _Bot, node: LiveNode) -> None:
        self._finish_all(bot, [])
        self._give_back(bot, list(bot.ready), "draining")
        self._say(bot, m.NodeDrain(s=""))
        if not bot.held and not node.attempts:
            self._say(bot, m.Bye(s=""))

    # --- claims -------------------------------------------------------------------------------------

    def _named(self, bot: _Bot, ask: Ask, now: Now) -> list[int]:
        """Extend the leases of what it names; deliver again what it should hold. Returns what is not its any more."""
        if ask.running is None:
            return []
        lease_end_s = now.mono_s + self._config.lease_s
        missing = []
        for token, held in bot.held.items():
            if token in ask.running:
                held.lease_end_s = lease_end_s
            else:
                missing.append(token)
        if missing and ask.want and not ask.leaving:
            for token in missing:
                del bot.held[token]
            self._core.resend(bot.peer, missing, now)
            self._changed()
        attempts = self._core.nodes[bot.node_id].attempts
        return [token for token in sorted(ask.running) if token not in attempts]

    async def _wait(self, bot: _Bot, ask: Ask) -> list[m.DispatchItem]:
        if len(bot.claims) >= MAX_CLAIMS:
            raise TooManyRequests(f"{MAX_CLAIMS} claims of {bot.node_id!r} are waiting already")
        loop = asyncio.get_running_loop()
        claim = _Claim(ask.want, ask.allowed, loop.create_future())
        bot.claims.append(claim)
        self._open_window(bot)
        timer = loop.call_later(ask.wait_s, self._time_is_up, bot, claim)
        try:
            return await claim.done
        except asyncio.CancelledError:
            if claim.done.done() and not claim.done.cancelled() and claim.done.exception() is None:
                # Its client went in the very moment: nothing of this was delivered.
                self._give_back(bot, [item.token for item in claim.done.result()], "overcommitted")
            raise
        finally:
            timer.cancel()
            self._late.pop(claim, None)
            if claim in bot.claims:
                bot.claims.remove(claim)
            self._open_window(bot)

    def _time_is_up(self, bot: _Bot, claim: _Claim) -> None:
        self._hand_out(bot)
        if claim.done.done():
            return
        if self._is_quiet(bot):
            self._finish(bot, claim, [])
        elif claim not in self._late:
            self._late[claim] = bot
            asyncio.get_running_loop().call_later(SETTLE_S, self._finish, bot, claim, [])

    def _is_quiet(self, bot: _Bot) -> bool:
        """Whether nothing is on the way to it: no start that is being committed, no backlog that is being read."""
        node = self._core.nodes.get(bot.node_id)
        if node is None:
            return True
        on_the_way = any(att.phase in (PLACED, STARTING) for att in node.attempts.values())
        return not on_the_way and not any(lane.refilling for lane in node.lanes)

    def settle(self) -> None:
        """Something was committed or read: answer the claims that only waited for that."""
        for claim, bot in list(self._late.items()):
            self._time_is_up(bot, claim)

    def _open_window(self, bot: _Bot) -> None:
        """Let the core send what the waiting claims ask for, and nothing else."""
        session = self._core.sessions.get(bot.peer)
        if session is None:
            return
        want = sum(claim.want for claim in bot.claims)
        if want or session.ready:
            # Not ``node.held``: that counts what is on the way already, to these very claims.
            attempts = session.node.attempts
            taken = sum(token in attempts and attempts[token].phase in COUNTED for token in bot.held)
            self._say(bot, m.Credit(s="", window=taken + want))

    def _with_closed_window(self, bot: _Bot, message: m.Result | m.Reject) -> None:
        """A place that becomes free is no place that a claim has asked for."""
        session = self._core.sessions.get(bot.peer)
        if session is not None and session.ready:
            self._say(bot, m.Credit(s="", window=0))
        self._say(bot, message)
        self._open_window(bot)

    def _hand_out(self, bot: _Bot) -> None:
        """Give what is ready to the claims, the oldest first. One that has something is answered at once."""
        bot.handing_out = False
        now = self._now()
        while bot.ready and bot.claims:
            claim = bot.claims[0]
            if not claim.allowed():
                self._finish(bot, claim, Unauthenticated("the token was revoked, or has expired"))
                continue
            items: list[m.DispatchItem] = []
            size = 0
            for item, _ in bot.ready.values():
                if len(items) == claim.want or (items and size + len(item.params) > MAX_ANSWER_BYTES):
                    break
                items.append(item)
                size += len(item.params)
            held = _Held(now.mono_s + self._config.lease_s)
            for item in items:
                del bot.ready[item.token]
                bot.held[item.token] = replace(held)
            # Its start, as far as the server knows. The result may say it better.
            taken = [m.AcceptedItem(token=item.token, started_us=now.wall_us) for item in items]
            self._say(bot, m.Accept(s="", items=taken))
            self._finish(bot, claim, items)
        self._open_window(bot)

    def _finish(self, bot: _Bot, claim: _Claim, outcome: list[m.DispatchItem] | Exception) -> None:
        if claim in bot.claims:
            bot.claims.remove(claim)
        self._late.pop(claim, None)
        if claim.done.done():
            return
        if isinstance(outcome, Exception):
            claim.done.set_exception(outcome)
        else:
            claim.done.set_result(outcome)

    def _finish_all(self, bot: _Bot, outcome: list[m.DispatchItem] | Exception) -> None:
        for claim in list(bot.claims):
            self._finish(bot, claim, outcome)

    def _give_back(self, bot: _Bot, tokens: list[int], reason: str) -> None:
        if not tokens:
            return
        for token in tokens:
            bot.ready.pop(token, None)
            bot.held.pop(token, None)
        self._with_closed_window(
            bot, m.Reject(s="", items=[m.RejectedItem(token=token, reason=reason) for token in tokens])
        )

    # --- to and from the core -------------------------------------------------------------------------

    def _say(self, bot: _Bot, message: Any) -> None:
        """What a node would send; nothing where the session is over."""
        session = self._core.sessions.get(bot.peer)
        if session is not None:
            message.s = session.s
            self._inbound.events[type(message)](bot.peer, message, self._now())
            self._changed()

    def _heard(self, bot: _Bot, now: Now, outbox: int | None = None) -> None:
        bot.heard_s = now.mono_s
        bot.doubtful = False
        self._beat(bot, outbox)

    def _beat(self, bot: _Bot, outbox: int | None = None) -> None:
        node = self._core.nodes[bot.node_id]
        self._say(bot, m.Heartbeat(s="", seq=1, outbox=node.outbox if outbox is None else outbox))

    def receive(self, peer: bytes, message: m.ServerMessage) -> None:
        """What the core sends to a bot."""
        bot = self.peers[peer]
        if isinstance(message, m.Dispatch):
            now_s = self._clock.mono_s()
            for item in message.items:
                if item.token not in bot.held:
                    bot.ready.setdefault(item.token, (item, now_s))
            if not bot.handing_out:
                # Together with all else that this turn brings.
                bot.handing_out = True
                asyncio.get_running_loop().call_soon(self._hand_out, bot)
        elif isinstance(message, m.ResultAck):
            for verdict in (RECORDED, "duplicate", "superseded", "unknown"):
                for token in getattr(message, verdict):
                    bot.held.pop(token, None)
                    for answer in bot.results.pop(token, []):
                        if not answer.done():
                            answer.set_result(verdict)
        elif isinstance(message, m.Cancel):
            self._cancel(bot, message.tokens)
        elif isinstance(message, m.ServerDrain):
            self._finish_all(bot, [])
        elif isinstance(message, m.Goaway):
            self._finish_all(bot, Draining())
        elif isinstance(message, m.Welcome | m.Deny) and bot.answer is not None and not bot.answer.done():
            bot.answer.set_result(message if isinstance(message, m.Deny) else None)

    def _cancel(self, bot: _Bot, tokens: list[int]) -> None:
        news = False
        for token in tokens:
            held = bot.held.get(token)
            if held is None:
                # Nobody has it. (A claim that comes too late for it can't get it any more.)
                self._give_back(bot, [token], "not_held")
            elif not held.cancel:
                held.cancel = news = True
        if news:
            self._finish_all(bot, [])

    def unrecorded(self, attempts: Iterable[LiveAttempt]) -> None:
        """The store could not commit their starts or ends."""
        failed = StoreUnavailable
        for att in attempts:
            bot = self._bots.get(att.node.node_id)
            if bot is None:
                continue
            answers = bot.results.pop(att.token, None)
            if answers is None:
                self._finish_all(bot, failed())
                continue
            for answer in answers:
                if not answer.done():
                    answer.set_exception(failed())

    # --- time passes ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Twice a second: leases that are over, attempts that nobody came for, bots that are gone."""
        now = self._now()
        last_s, self._last_tick_s = self._last_tick_s, now.mono_s
        if last_s is not None and now.mono_s - last_s > STALL_S:
            # We stood still, and what bots said in the meantime waits to be read.
            for bot in self._bots.values():
                bot.heard_s += now.mono_s - last_s - TICK_S
                for held in bot.held.values():
                    held.lease_end_s += now.mono_s - last_s - TICK_S
        for bot in list(self._bots.values()):
            session = self._core.sessions.get(bot.peer)
            if session is None:
                self._forget(bot)
            else:
                self._look_at(bot, session, now)

    def _look_at(self, bot: _Bot, session: Session, now: Now) -> None:
        attempts = session.node.attempts
        for token in [token for token in bot.held if token not in attempts]:
            del bot.held[token]
        over_s = now.mono_s - self._config.lease_margin_s
        over = [token for token, held in bot.held.items() if held.lease_end_s <= over_s]
        if over:
            for token in over:
                del bot.held[token]
            bot.doubtful = True
            self._core.lease_over(bot.node_id, over, now)
            self._open_window(bot)
        hoarded = [token for token, (_, since_s) in bot.ready.items() if now.mono_s - since_s > HOARD_S]
        self._give_back(bot, hoarded, "overcommitted")
        if bot.claims:
            self._beat(bot)
        elif not bot.held and not bot.ready and not bot.results and not bot.doubtful:
            if now.mono_s - bot.heard_s < IDLE_S:
                self._beat(bot)
            elif not attempts and not bot.hello.locked():
                self._say(bot, m.Bye(s=""))

    def _forget(self, bot: _Bot) -> None:
        """Its session is over: the core sees to its attempts."""
        gone = Unavailable("the server has ended this bot's session; claim again")
        self._finish_all(bot, gone)
        for answer in [answer for answers in bot.results.values() for answer in answers]:
            if not answer.done():
                answer.set_exception(gone)
        bot.ready.clear()
        bot.held.clear()
        bot.handlers = None
        if not bot.hello.locked():
            del self._bots[bot.node_id], self.peers[bot.peer]

    def close(self) -> None:
        """The server stops: nobody is kept waiting."""
        for bot in self._bots.values():
            self._finish_all(bot, Draining())


def _refused(denial: m.Deny) -> Exception:
    if denial.code == "store_unavailable":
        return StoreUnavailable(denial.reason)
    if denial.code == "draining":
        return Draining()
    if denial.retry:
        return Unavailable(denial.reason)
    if denial.code in ("duplicate_node", "stale_epoch"):
        return DuplicateNode(denial.reason)
    return Denied(denial.reason)
