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

from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.answers import ANSWER_S, within
from schedule_zero.dispatch.core import REPORTABLE, Core
from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.http_claims import Ask, Beat, Bot, Claims, Given, Held
from schedule_zero.dispatch.inbound import Inbound
from schedule_zero.dispatch.membership import STALL_S, TICK_S
from schedule_zero.dispatch.sessions import (
    ACCEPTED,
    ENDING,
    HELD,
    SENT,
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
    Unavailable,
)
from schedule_zero.wire import messages as m

# Marks the instances of bots, in the store as well: over HTTP only these can be spoken for.
INSTANCE = "http:"
# What nobody has come for by then is given back.
HOARD_S = 1.0
# A bot without attempts that has said nothing for so long is signed off.
IDLE_S = 60.0
# Bots that are known at a time.
MAX_BOTS = 10_000

RECORDED = "recorded"


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
        self._claims = Claims(core=core, inbound=inbound, config=config, clock=clock, changed=changed)
        # Something was committed or read.
        self.settle = self._claims.settle
        # No ZeroMQ peer can choose a routing id that begins with this.
        self._prefix = b"\0http" + secrets.token_bytes(16)
        self._bots: dict[str, Bot] = {}
        self.peers: dict[bytes, Bot] = {}
        self._last_tick_s: float | None = None

    # --- what the service asks ----------------------------------------------------------------------

    async def claim(self, ask: Ask) -> Given:
        """Work for a bot, as soon as there is some, within ``wait_s``.

        Raises DuplicateNode (the id is in use), Denied, Unavailable and its kinds (try again).
        """
        if ask.leaving and not ask.running and not self._knows(ask.hello.node_id):
            # It has left: to say so again makes it no node that is there. (It may end before it has our answer.)
            return Given(items=[], cancel=[], draining=False, drain_s=None, waited_s=0.0)
        bot = await self._joined(ask)
        now = self._claims.now()
        self._heard(bot, now, outbox=ask.hello.outbox)
        over = self._named(bot, ask, now)
        node = self._core.nodes[bot.node_id]
        items: list[m.DispatchItem] = []
        if ask.running is not None:
            # What it names is what it holds now: nobody listens to an older claim of it any more.
            self._claims.finish_all(bot, [])
        began_s = now.mono_s
        if ask.leaving:
            self._leave(bot, node)
        elif ask.want:
            items = await self._claims.wait(bot, ask)
        cancel = [token for token, held in bot.held.items() if held.cancel]
        waited_s = self._clock.mono_s() - began_s
        return Given(
            items=items, cancel=cancel + over, draining=node.drained, drain_s=self._drain_s(bot), waited_s=waited_s
        )

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
        now = self._claims.now()
        self._heard(bot, now)
        held = bot.held.setdefault(token, Held(0.0))
        held.lease_end_s = now.mono_s + self._config.lease_s
        if att.phase == SENT:
            self._claims.say(bot, m.Accept(s="", items=[m.AcceptedItem(token=token)]))
        if progress is not None:
            self._claims.say(bot, m.Progress(s="", token=token, percent=progress[0], text=progress[1]))
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
        self._heard(bot, self._claims.now())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        bot.results.setdefault(item.token, []).append(answer)
        if att.phase != ENDING:
            # A large result is known to be here: the service has looked.
            event = self._inbound.whole_result if item.result_bytes else None
            self._claims.with_closed_window(bot, m.Result(s="", items=[item]), event)
        try:
            return await within(ANSWER_S, answer, "the result could not be recorded in time; report it again")
        finally:
            waiting = bot.results.get(item.token, [])
            if answer in waiting:
                waiting.remove(answer)
                if not waiting:
                    del bot.results[item.token]

    def handler_of(self, node_id: str, execution_id: str, token: int) -> str | None:
        """Whose job this is; None: this bot does not have it in hand."""
        node = self._core.nodes.get(node_id)
        att = None if node is None else node.attempts.get(token)
        return None if att is None or att.row.id != execution_id else att.row.handler_id

    def speaks_for(self, node_id: str) -> bool:
        """Whether this is a bot that we know, and no node that speaks ZeroMQ."""
        node = self._core.nodes.get(node_id)
        return node is not None and node.instance.id.startswith(INSTANCE)

    def holds(self, node_id: str, execution_id: str, token: int) -> bool:
        """Whether the attempt is in this bot's hands."""
        found = self._find(node_id, execution_id, token)
        return found is not None and found[1].phase in HELD

    def reject(self, node_id: str, execution_id: str, token: int, reason: str) -> bool:
        """The bot gives it back unstarted; False: it isn't this bot's."""
        found = self._find(node_id, execution_id, token)
        if found is None or found[1].phase not in (SENT, ACCEPTED):
            return False
        bot, _ = found
        self._heard(bot, self._claims.now())
        bot.held.pop(token, None)
        self._claims.with_closed_window(bot, m.Reject(s="", items=[m.RejectedItem(token=token, reason=reason)]))
        return True

    # --- sessions -----------------------------------------------------------------------------------

    def _bot(self, node_id: str) -> Bot:
        bot = self._bots.get(node_id)
        if bot is None:
            if len(self._bots) >= MAX_BOTS:
                raise TooManyRequests(f"{MAX_BOTS} bots are connected; no more are taken")
            bot = Bot(node_id, self._prefix + node_id.encode(), self._clock.mono_s())
            self._bots[node_id] = self.peers[bot.peer] = bot
        return bot

    def _knows(self, node_id: str) -> bool:
        """Whether this bot is there, or has something in hand."""
        node = self._core.nodes.get(node_id)
        return node is not None and (node.session is not None or bool(node.attempts))

    def _is_joined(self, bot: Bot, ask: Ask) -> bool:
        hello = ask.hello
        session = self._core.sessions.get(bot.peer)
        if session is None or (session.node.leaving and not ask.leaving):
            return False
        if session.node.instance.id != hello.instance or bot.handlers != hello.handlers:
            return False
        return (session.node.labels, session.node.told) == (hello.labels, hello.facts)

    async def _joined(self, ask: Ask) -> Bot:
        """The bot that asks, in a session."""
        while True:
            bot = self._bot(ask.hello.node_id)
            async with bot.hello:
                if self._bots.get(bot.node_id) is not bot:
                    # Forgotten in the moment in which the lock was free: whoever had it before us was denied.
                    continue
                if not self._is_joined(bot, ask):
                    await self._join(bot, ask)
                return bot

    async def _join(self, bot: Bot, ask: Ask) -> None:
        hello = replace(ask.hello, running=self._believed(bot.node_id, ask.hello.instance))
        bot.answer = answer = asyncio.get_running_loop().create_future()
        self._inbound.hello(bot.peer, "", hello, adds=ask.adds)
        self._changed()
        denial = await within(ANSWER_S, answer, "what this bot serves could not be recorded in time")
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

    def _adopt(self, bot: Bot, believed: Iterable[m.Held]) -> None:
        """A new session: what the bot may hold has a whole lease from now, or the one that it had."""
        node = self._core.nodes[bot.node_id]
        node.count_by_head()
        # What came for an earlier process, and was taken by no claim of it, is not for this one: it is given up.
        for token in list(bot.ready):
            att = node.attempts.get(token)
            if att is None or att.instance is not node.instance:
                del bot.ready[token]
        fresh_s = self._clock.mono_s() + self._config.lease_s
        before = bot.held
        bot.held = {one.token: before.get(one.token) or Held(fresh_s) for one in believed if one.token not in bot.ready}

    def _find(self, node_id: str, execution_id: str, token: int) -> tuple[Bot, LiveAttempt] | None:
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

    def _revive(self, bot: Bot, node: LiveNode) -> None:
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
            labels=node.labels,
            facts=node.told,
        )
        bot.handlers = None
        self._core.hello(bot.peer, hello, (), self._claims.now())
        self._changed()
        if node.session is None:
            raise Draining
        self._adopt(bot, hello.running)

    def _leave(self, bot: Bot, node: LiveNode) -> None:
        self._claims.finish_all(bot, [])
        self._claims.give_back(bot, list(bot.ready), "draining")
        self._claims.say(bot, m.NodeDrain(s=""))
        if not bot.held and not node.attempts:
            self._claims.say(bot, m.Bye(s=""))

    def _named(self, bot: Bot, ask: Ask, now: Now) -> list[int]:
        """Extend the leases of what it names; deliver again what it should hold. Returns what is not its any more."""
        if ask.running is None:
            return []
        lease_end_s = now.mono_s + self._config.lease_s
        attempts = self._core.nodes[bot.node_id].attempts
        missing = []
        for token, held in bot.held.items():
            if token in ask.running:
                held.lease_end_s = lease_end_s
            elif ask.takes(attempts[token].row.handler_id if token in attempts else None):
                missing.append(token)
        if missing and ask.want and not ask.leaving:
            for token in missing:
                del bot.held[token]
            self._core.resend(bot.peer, missing, now)
            self._changed()
        return [token for token in sorted(ask.running) if token not in attempts]

    # --- to and from the core -------------------------------------------------------------------------

    def _heard(self, bot: Bot, now: Now, outbox: int | None = None) -> None:
        bot.heard_s = now.mono_s
        bot.doubtful = False
        self._beat(bot, outbox)

    def _beat(self, bot: Bot, outbox: int | None = None) -> None:
        node = self._core.nodes[bot.node_id]
        self._claims.say(bot, m.Heartbeat(s="", seq=1, outbox=node.outbox if outbox is None else outbox))

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
                asyncio.get_running_loop().call_soon(self._claims.hand_out, bot)
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
            deadline_s = message.deadline_s if message.on else None
            bot.drain_end_s = None if deadline_s is None else self._clock.mono_s() + deadline_s
            self._claims.finish_all(bot, [])
        elif isinstance(message, m.Goaway):
            self._claims.finish_all(bot, Draining())
        elif isinstance(message, m.Welcome | m.Deny) and bot.answer is not None and not bot.answer.done():
            bot.answer.set_result(message if isinstance(message, m.Deny) else None)

    def _cancel(self, bot: Bot, tokens: list[int]) -> None:
        news = False
        for token in tokens:
            held = bot.held.get(token)
            if held is None:
                # Nobody has it. (A claim that comes too late for it can't get it any more.)
                self._claims.give_back(bot, [token], "not_held")
            elif not held.cancel:
                held.cancel = news = True
        if news:
            self._claims.finish_all(bot, [])

    def unrecorded(self, attempts: Iterable[LiveAttempt]) -> None:
        """The store could not commit their starts or ends."""
        failed = StoreUnavailable
        for att in attempts:
            bot = self._bots.get(att.node.node_id)
            if bot is None:
                continue
            answers = bot.results.pop(att.token, None)
            if answers is None:
                self._claims.finish_all(bot, failed())
                continue
            for answer in answers:
                if not answer.done():
                    answer.set_exception(failed())

    # --- time passes ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Twice a second: leases that are over, attempts that nobody came for, bots that are gone."""
        now = self._claims.now()
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

    def _look_at(self, bot: Bot, session: Session, now: Now) -> None:
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
            self._claims.open_window(bot)
        hoarded = [token for token, (_, since_s) in bot.ready.items() if now.mono_s - since_s > HOARD_S]
        self._claims.give_back(bot, hoarded, "overcommitted")
        if bot.claims:
            self._beat(bot)
        elif not bot.held and not bot.ready and not bot.results and not bot.doubtful:
            if now.mono_s - bot.heard_s < IDLE_S:
                self._beat(bot)
            elif not attempts and not bot.hello.locked():
                self._claims.say(bot, m.Bye(s=""))

    def _drain_s(self, bot: Bot) -> float | None:
        return None if bot.drain_end_s is None else max(0.0, bot.drain_end_s - self._clock.mono_s())

    def _forget(self, bot: Bot) -> None:
        """Its session is over: the core sees to its attempts."""
        gone = Unavailable("the server has ended this bot's session; claim again")
        self._claims.finish_all(bot, gone)
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
            self._claims.finish_all(bot, Draining())


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
