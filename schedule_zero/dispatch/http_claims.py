"""What is known of a bot, and its claims: a window that is open for as long as somebody waits behind it.

Part of ``http_peers``, which tells what a bot is and what can go wrong. Here: how many attempts the core may send, who
of those who wait gets which of them, and what happens to those that nobody came for in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from schedule_zero.clock import Clock
from schedule_zero.config import DispatchConfig
from schedule_zero.dispatch.core import Core
from schedule_zero.dispatch.effects import Now
from schedule_zero.dispatch.inbound import Inbound
from schedule_zero.dispatch.sessions import COUNTED, PLACED, STARTING
from schedule_zero.errors import TooManyRequests, Unauthenticated
from schedule_zero.wire import messages as m

Event: TypeAlias = "Callable[[bytes, Any, Now], None]"

# A claim whose time is up waits for so long at most for what is on the way to it.
SETTLE_S = 5.0
# Claims of one bot that wait at a time.
MAX_CLAIMS = 100
# One answer holds no more parameters than this, unless a single attempt has more.
MAX_ANSWER_BYTES = 8 << 20


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
    # Only of these handlers may it be given jobs; None: of any.
    handlers: frozenset[str] | None = None
    # Every token that the bot holds, if it says so.
    running: frozenset[int] | None = None
    # It takes no more work, and is signed off once it holds nothing.
    leaving: bool = False

    def takes(self, handler_id: str | None) -> bool:
        """Whether it may be given a job of this handler."""
        return self.handlers is None or handler_id in self.handlers


class Given(Struct, kw_only=True):
    """The answer to a claim."""

    items: list[m.DispatchItem]
    # Tokens of attempts that are to be ended.
    cancel: list[int]
    # An operator gives this bot no new work.
    draining: bool
    # What still runs then is to be handed back.
    drain_s: float | None
    waited_s: float


class Beat(Struct):
    """The answer to a heartbeat."""

    cancel: bool
    draining: bool


class Held(Struct):
    lease_end_s: float
    cancel: bool = False


class Claim(Struct, eq=False):
    ask: Ask
    done: asyncio.Future[list[m.DispatchItem]]


class Bot(Struct, eq=False):
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
    held: dict[int, Held] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    results: dict[int, list[asyncio.Future[str]]] = field(default_factory=dict)
    handing_out: bool = False
    # When an operator's drain ends, if it does.
    drain_end_s: float | None = None


class Claims:
    """The claims of all bots."""

    def __init__(
        self, *, core: Core, inbound: Inbound, config: DispatchConfig, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._core = core
        self._inbound = inbound
        self._config = config
        self._clock = clock
        self._changed = changed
        # Those whose time is up while something is on the way to them.
        self._late: dict[Claim, Bot] = {}

    async def wait(self, bot: Bot, ask: Ask) -> list[m.DispatchItem]:
        if len(bot.claims) >= MAX_CLAIMS:
            raise TooManyRequests(f"{MAX_CLAIMS} claims of {bot.node_id!r} are waiting already")
        loop = asyncio.get_running_loop()
        claim = Claim(ask, loop.create_future())
        bot.claims.append(claim)
        self.open_window(bot)
        timer = loop.call_later(ask.wait_s, self._time_is_up, bot, claim)
        try:
            return await claim.done
        except asyncio.CancelledError:
            if claim.done.done() and not claim.done.cancelled() and claim.done.exception() is None:
                # Its client went in the very moment: nothing of this was delivered.
                self.give_back(bot, [item.token for item in claim.done.result()], "overcommitted")
            raise
        finally:
            timer.cancel()
            self._late.pop(claim, None)
            if claim in bot.claims:
                bot.claims.remove(claim)
            self.open_window(bot)

    def _time_is_up(self, bot: Bot, claim: Claim) -> None:
        self.hand_out(bot)
        if claim.done.done():
            return
        if self._is_quiet(bot):
            self._finish(bot, claim, [])
        elif claim not in self._late:
            self._late[claim] = bot
            asyncio.get_running_loop().call_later(SETTLE_S, self._finish, bot, claim, [])

    def _is_quiet(self, bot: Bot) -> bool:
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

    def open_window(self, bot: Bot) -> None:
        """Let the core send what the waiting claims ask for, and nothing else."""
        session = self._core.sessions.get(bot.peer)
        if session is None:
            return
        want = sum(claim.ask.want for claim in bot.claims)
        if want or session.ready:
            # Not ``node.held``: that counts what is on the way already, to these very claims.
            attempts = session.node.attempts
            taken = sum(token in attempts and attempts[token].phase in COUNTED for token in bot.held)
            self.say(bot, m.Credit(s="", window=taken + want))

    def with_closed_window(self, bot: Bot, message: m.Result | m.Reject, event: Event | None = None) -> None:
        """A place that becomes free is no place that a claim has asked for."""
        session = self._core.sessions.get(bot.peer)
        if session is not None and session.ready:
            self.say(bot, m.Credit(s="", window=0))
        self.say(bot, message, event)
        self.open_window(bot)

    def hand_out(self, bot: Bot) -> None:
        """Give what is ready to the claims, the oldest first. One that has something is answered at once."""
        bot.handing_out = False
        now = self.now()
        for claim in list(bot.claims):
            if not bot.ready:
                break
            if claim.done.done():
                # Its client is gone, which ``wait`` hears of next.
                continue
            if not claim.ask.allowed():
                self._finish(bot, claim, Unauthenticated("the token was revoked, or has expired"))
                continue
            items: list[m.DispatchItem] = []
            size = 0
            for item, _ in bot.ready.values():
                if not claim.ask.takes(item.handler_id):
                    continue
                if len(items) == claim.ask.want or (items and size + len(item.params) > MAX_ANSWER_BYTES):
                    break
                items.append(item)
                size += len(item.params)
            if not items:
                continue
            held = Held(now.mono_s + self._config.lease_s)
            for item in items:
                del bot.ready[item.token]
                bot.held[item.token] = replace(held)
            # Its start, as far as the server knows. The result may say it better.
            taken = [m.AcceptedItem(token=item.token, started_us=now.wall_us) for item in items]
            self.say(bot, m.Accept(s="", items=taken))
            self._finish(bot, claim, items)
        self.open_window(bot)

    def _finish(self, bot: Bot, claim: Claim, outcome: list[m.DispatchItem] | Exception) -> None:
        if claim in bot.claims:
            bot.claims.remove(claim)
        self._late.pop(claim, None)
        if claim.done.done():
            return
        if isinstance(outcome, Exception):
            claim.done.set_exception(outcome)
        else:
            claim.done.set_result(outcome)

    def finish_all(self, bot: Bot, outcome: list[m.DispatchItem] | Exception) -> None:
        for claim in list(bot.claims):
            self._finish(bot, claim, outcome)

    def give_back(self, bot: Bot, tokens: list[int], reason: str) -> None:
        if not tokens:
            return
        for token in tokens:
            bot.ready.pop(token, None)
            bot.held.pop(token, None)
        self.with_closed_window(
            bot, m.Reject(s="", items=[m.RejectedItem(token=token, reason=reason) for token in tokens])
        )

    def say(self, bot: Bot, message: Any, event: Event | None = None) -> None:
        """What a node would send; nothing where the session is over. ``event``: where it goes, if not the usual way."""
        session = self._core.sessions.get(bot.peer)
        if session is not None:
            message.s = session.s
            (event or self._inbound.events[type(message)])(bot.peer, message, self.now())
            self._changed()

    def now(self) -> Now:
        return Now(self._clock.mono_s(), self._clock.wall_us())
