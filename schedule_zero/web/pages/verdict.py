"""The sentence with which the overview begins: is all well, and if not, what is the matter and where is it dealt with?

Pure: how everything stands → lines. A line is made of parts, so that names stand out and countdowns count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct

from schedule_zero.dispatch.dispatcher import NodeView
from schedule_zero.model import NodeState, OperationKind, ScheduleState
from schedule_zero.service.overview import Standing, Stored
from schedule_zero.web.pages.render import url
from schedule_zero.web.pages.words import duration, plural

# Of the ends of the last ten minutes: so many failures, and such a share of all.
SHARE_MINUTES = 10
MANY_FAILURES = 5
BAD_SHARE = 0.1
# The 95th percentile of how late fires were decided in the last minutes.
LATE_S = 1.0
# The backlog is nearly full.
BACKLOG_SHARE = 0.8
# Problems that the first sentence names.
MOST_SAID = 3


class Level(StrEnum):
    """How bad: something does not work; somebody should look; it is so on purpose."""

    BAD = "bad"
    WAIT = "wait"
    NOTE = "note"


class Kind(StrEnum):
    TEXT = "text"
    # A name, or what a machine said.
    CODE = "code"
    # A moment: as a countdown, and as itself.
    UNTIL = "until"
    AT = "at"


class Part(Struct, frozen=True):
    kind: Kind
    text: str = ""
    us: int = 0


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be."""

    level: Level
    # In the first sentence; and in its own line, with more to it.
    short: tuple[Part, ...]
    more: tuple[Part, ...]
    # What can be done, and where.
    action: str
    href: str


class Verdict(Struct, frozen=True, kw_only=True):
    """``level``: of the worst problem; None: all is well."""

    level: Level | None
    sentence: tuple[Part, ...]
    problems: list[Problem]


def text(said: str) -> Part:
    return Part(Kind.TEXT, said)


def code(said: str) -> Part:
    return Part(Kind.CODE, said)


def until(us: int) -> Part:
    return Part(Kind.UNTIL, us=us)


def said(parts: Sequence[Part]) -> str:
    """The parts as plain text; a moment as its microseconds."""
    return "".join(
        f"`{part.text}`" if part.kind is Kind.CODE else part.text if part.kind is Kind.TEXT else f"<{part.us}>"
        for part in parts
    )


def verdict(standing: Standing) -> Verdict:
    """What to say of how everything stands: the worst first, in the order of ``_LOOKS``."""
    problems = [problem for look in _LOOKS for problem in look(standing)]
    order = list(Level)
    problems.sort(key=lambda problem: order.index(problem.level))
    serious = [problem for problem in problems if problem.level is not Level.NOTE]
    if not serious:
        return Verdict(level=None, sentence=_all_well(standing), problems=problems)
    sentence: list[Part] = []
    for problem in serious[:MOST_SAID]:
        sentence += [text(", ")] if sentence else []
        sentence += problem.short
    if len(serious) > MOST_SAID:
        sentence.append(text(f" and {plural(len(serious) - MOST_SAID, 'more problem')}"))
    return Verdict(level=serious[0].level, sentence=_begun(sentence), problems=problems)


def _begun(parts: list[Part]) -> tuple[Part, ...]:
    """A sentence begins with a capital letter."""
    first = parts[0]
    if first.kind is Kind.TEXT:
        parts[0] = text(first.text[:1].upper() + first.text[1:])
    return tuple(parts)


def _all_well(standing: Standing) -> tuple[Part, ...]:
    stored = standing.stored
    if stored is None:
        return (text("All well"),)
    active = stored.schedules.by_state[ScheduleState.ACTIVE]
    if not stored.schedules.total:
        return (text("All well; nothing is scheduled yet"),)
    parts = [text(f"All well: {plural(active, 'schedule')}")]
    following = stored.ahead.rows or (stored.next_at_all.rows if stored.next_at_all is not None else [])
    if standing.freeze is None and following:
        parts += [text(", next "), code(following[0].schedule.id), text(" "), until(following[0].at_us)]
    return tuple(parts)


def _problem(level: Level, short: Sequence[Part], more: Sequence[Part], action: str, href: str) -> Problem:
    return Problem(level=level, short=tuple(short), more=tuple(more), action=action, href=href)


# --- what is looked at ------------------------------------------------------------------------------


def _server(standing: Standing) -> list[Problem]:
    """The store, the loops, a server that stops."""
    found = []
    for name, message in standing.unwell.items():
        if name == "store":
            short, level = [text("the store can't be written")], Level.BAD
        elif name == "draining":
            short, level = [text("the server is stopping")], Level.WAIT
        else:
            short, level = [text("the loop "), code(name.removeprefix("loop.")), text(" is down")], Level.BAD
        found.append(_problem(level, short, [code(message)], "Health", "/settings"))
    if standing.stored is None:
        found.append(
            _problem(
                Level.BAD,
                [text("the store can't be read")],
                [text("Nothing is known of schedules and executions.")],
                "Health",
                "/settings",
            )
        )
    return found


def _frozen(standing: Standing) -> list[Problem]:
    freeze = standing.freeze
    if freeze is None:
        return []
    more = [text(f"Nothing fires{f'; frozen by {freeze.by}' if freeze.by else ''}")]
    if freeze.to_us is not None:
        more += [text(", until "), Part(Kind.AT, us=freeze.to_us)]
    more.append(text(f": {freeze.note}" if freeze.note else "."))
    return [_problem(Level.WAIT, [text("all schedules are frozen")], more, "Schedules", "/schedules")]


def _nodes(standing: Standing) -> list[Problem]:
    nodes = standing.nodes
    states = (
        (NodeState.LOST, Level.BAD, "lost", "No heartbeat, and no good-bye: "),
        (NodeState.SUSPECT, Level.WAIT, "silent", "No heartbeat for some seconds: "),
    )
    found = [
        _problem(level, [text(f"{plural(len(mine), 'node')} {word}")], [text(why), *_ids(mine)], "Nodes", "/nodes")
        for state, level, word, why in states
        if (mine := [node for node in nodes if node.state is state])
    ]
    kinds = (
        (OperationKind.QUARANTINE, Level.BAD, "quarantined", "Too much failed there: "),
        (OperationKind.DRAIN, Level.NOTE, "being emptied, or empty", ""),
        (OperationKind.CORDON, Level.NOTE, "cordoned", ""),
    )
    for kind, level, word, why in kinds:
        mine = [node for node in nodes if node.operation is not None and node.operation.kind is kind]
        if mine:
            short = [text(f"{plural(len(mine), 'node')} {word}")]
            found.append(_problem(level, short, [text(why), *_ids(mine)], "Nodes", "/nodes"))
    return found


def _ids(nodes: Sequence[NodeView]) -> list[Part]:
    """```a`, `b` and 3 more.``"""
    parts: list[Part] = []
    for place, node in enumerate(nodes[:3]):
        parts += [text(", ")] if place else []
        parts.append(code(node.node_id))
    return [*parts, text(f" and {len(nodes) - 3} more." if len(nodes) > 3 else ".")]


def _unserved(standing: Standing) -> list[Problem]:
    found = []
    for one in standing.stored.unserved if standing.stored is not None else ():
        number = f"{one.waiting:,}+ jobs" if one.more else plural(one.waiting, "job")
        short = [text(f"{number} waiting for "), code(one.handler_id)]
        href = url("/executions", q=f"state:pending handler:{quoted(one.handler_id)}")
        found.append(_problem(Level.BAD, short, [text(f"{one.why[:1].upper()}{one.why[1:]}.")], "Show them", href))
    return found


def _backlog(standing: Standing) -> list[Problem]:
    open_ = standing.running + standing.waiting
    limit = standing.backlog_limit
    if standing.backlog_full:
        own = [name for name in standing.backlog_full if name != "all"]
        short = [text("the backlog is full")]
        if "all" not in standing.backlog_full:
            short = [text("the backlog of "), code(own[0]), text(" is full")]
        more = f"{open_:,} of {limit:,} are open; submissions are refused, and fires skipped."
        return [_problem(Level.BAD, short, [text(more)], "Show them", url("/executions", q="state:open"))]
    if open_ >= BACKLOG_SHARE * limit:
        short = [text(f"the backlog is {open_ / limit:.0%} full")]
        more = f"{open_:,} of {limit:,} are open."
        return [_problem(Level.WAIT, short, [text(more)], "Show them", url("/executions", q="state:open"))]
    return []


def _failing(standing: Standing) -> list[Problem]:
    completed = sum(standing.spark.completed[-SHARE_MINUTES:])
    failed = sum(standing.spark.failed[-SHARE_MINUTES:])
    if failed < MANY_FAILURES or failed < BAD_SHARE * (failed + completed):
        return []
    short = [text(f"{failed / (failed + completed):.0%} of executions fail")]
    more = f"{failed:,} of {failed + completed:,} in the last {SHARE_MINUTES} minutes."
    href = url("/executions", q=f"state:failed-like since:{SHARE_MINUTES}m")
    return [_problem(Level.BAD, short, [text(more)], "Show them", href)]


def _late(standing: Standing) -> list[Problem]:
    lateness = standing.spark.lateness
    if lateness is None or lateness.p95_s <= LATE_S:
        return []
    short = [text(f"fires are {duration(lateness.p95_s)} late")]
    more = f"So late, or less, were 95 % of the {lateness.n:,} of the last minutes."
    return [_problem(Level.WAIT, short, [text(more)], "Latency", "#charts-head")]


def _schedules(standing: Standing) -> list[Problem]:
    stored = standing.stored
    found = [] if stored is None else _troubled(stored)
    if standing.missed:
        href = "/schedules" if standing.one_missed is None else url("/schedules", standing.one_missed, tab="ledger")
        short = [text(f"{plural(standing.missed, 'fire')} missed")]
        more = [text("The audit found no row in the ledger for them")]
        more += [text(".")] if standing.one_missed is None else [text(": "), code(standing.one_missed), text(".")]
        found.append(_problem(Level.BAD, short, more, "Look into it", href))
    return found


def _troubled(stored: Stored) -> list[Problem]:
    counts = stored.schedules
    found = []
    quarantined = counts.by_state[ScheduleState.QUARANTINED]
    if quarantined:
        short = [text(f"{plural(quarantined, 'schedule')} quarantined")]
        more = [text("The trigger fails: "), code(counts.one_quarantined or ""), *_others(quarantined)]
        found.append(_problem(Level.BAD, short, more, "Show them", url("/schedules", state="quarantined")))
    if counts.paused_by_failures:
        short = [text(f"{plural(counts.paused_by_failures, 'schedule')} paused by failures")]
        one, others = counts.one_paused_by_failures or "", _others(counts.paused_by_failures)
        more = [text("Too many in a row: "), code(one), *others]
        found.append(_problem(Level.WAIT, short, more, "Show them", url("/schedules", state="paused")))
    return found


def _others(number: int) -> list[Part]:
    return [text(f" and {number - 1:,} more." if number > 1 else ".")]


def _letters(standing: Standing) -> list[Problem]:
    if not standing.dead_letters:
        return []
    short = [text(plural(standing.dead_letters, "dead letter"))]
    more = [text("Executions that failed for good, and that nobody has dealt with.")]
    return [_problem(Level.WAIT, short, more, "Deal with them", "/dead-letters")]


def quoted(name: str) -> str:
    """A name as a value in the search language."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' if set(name) & set('," \\*') else name


_LOOKS: tuple[Callable[[Standing], list[Problem]], ...] = (
    _server, _nodes, _unserved, _backlog, _failing, _frozen, _schedules, _late, _letters,
)  # fmt: skip
