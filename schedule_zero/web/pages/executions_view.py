"""What the list of executions shows, ready to be shown: rows, states to choose from, when they were created."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from schedule_zero.dispatch.views import ProgressView
from schedule_zero.dispatch.waiting import WaitingFor
from schedule_zero.errors import InvalidSearch
from schedule_zero.model import Execution, State
from schedule_zero.rules.search import Search, said, states_of
from schedule_zero.rules.search_edit import with_states, within
from schedule_zero.rules.standing import Standing, standing
from schedule_zero.store.execution_counting import Histogram
from schedule_zero.web.pages.render import url
from schedule_zero.web.pages.words import duration

LIST = "/executions"
# The order in which states are offered.
OFFERED = (
    State.RUNNING, State.PENDING, State.SCHEDULED, State.BLOCKED, State.RETRY_SCHEDULED,
    State.FAILED, State.TIMEOUT, State.DEAD, State.MISFIRED, State.CANCELLED, State.COMPLETED,
)  # fmt: skip
# Those of which it is worth saying that there are none.
ALWAYS = frozenset({State.RUNNING, State.PENDING, State.FAILED, State.COMPLETED})
# Of the histogram's drawing.
HEIGHT, PITCH = 64, 10


class Row(Struct, frozen=True, kw_only=True):
    """One execution of the list."""

    it: Execution
    short: str
    job: str
    waited: str
    took: str
    # Why it is in its state; empty for one that completed.
    standing: Standing | None
    progress: ProgressView | None


def row_of(
    execution: Execution,
    now_us: int,
    *,
    waits_for: Callable[[Execution], WaitingFor | None],
    progress: Callable[[str], ProgressView | None],
) -> Row:
    waiting = waits_for(execution)
    plain = execution.state in (State.COMPLETED, State.CANCELLED, State.RUNNING)
    return Row(
        it=execution,
        short=short_id(execution.id),
        job=f"{execution.handler_id}.{execution.job_method}",
        waited=_seconds(ready_us(execution), execution.started_us or _if(execution.state is State.PENDING, now_us)),
        took=_seconds(execution.started_us, execution.finished_us or _if(execution.state is State.RUNNING, now_us)),
        standing=None
        if plain and not execution.cancel_requested
        else standing(execution, now_us=now_us, waits_for=None if waiting is None else waiting.detail),
        progress=progress(execution.id) if execution.state is State.RUNNING else None,
    )


def short_id(execution_id: str) -> str:
    """Both ends: what is made in one moment begins alike."""
    return f"{execution_id[:8]}…{execution_id[-6:]}"


def ready_us(execution: Execution) -> int:
    """From when on it could have started."""
    return max(execution.created_us, execution.not_before_us or 0)


def _if(holds: bool, us: int) -> int | None:
    return us if holds else None


def _seconds(from_us: int | None, to_us: int | None) -> str:
    # (A node's clock may be a little behind.)
    return duration(None if from_us is None or to_us is None else max(0, to_us - from_us) / 1e6)


# --- states -----------------------------------------------------------------------------------------


class Chip(Struct, frozen=True, kw_only=True):
    """A state to look at, or not any more."""

    state: State
    chosen: bool
    # How many are stored; None: not known of what else the search says.
    count: int | None
    href: str


def chips(search: Search, stored: Mapping[str, int]) -> list[Chip]:
    """Each adds its state to those that are looked for, or takes it away."""
    chosen = states_of(search.terms)
    if len(chosen) == len(State):
        chosen = frozenset()
    known = not _without_states(search).terms
    return [
        Chip(
            state=state,
            chosen=state in chosen,
            count=stored.get(state, 0) if known else None,
            href=url(LIST, q=said(with_states(search, chosen ^ {state}))),
        )
        for state in OFFERED
        if state in chosen or state in ALWAYS or stored.get(state)
    ]


def _without_states(search: Search) -> Search:
    return with_states(search, ())


# --- histogram --------------------------------------------------------------------------------------


class Bar(Struct, frozen=True, kw_only=True):
    """One part of the time, as it is drawn: ``x`` from the left, heights from the bottom; and what a click finds."""

    x: int
    start_us: int
    end_us: int
    count: int
    failed: int
    tall: int
    bad: int
    href: str


class Chart(Struct, frozen=True, kw_only=True):
    bars: list[Bar]
    width: int
    height: int
    first_us: int
    last_us: int
    most: int
    total: int
    basis: str
    sampled_us: int | None
    with_cleared: bool
    # Parts that were not looked at, from the left.
    unseen: int


def chart(found: Histogram, search: Search) -> Chart:
    counts = [count or 0 for count in found.counts]
    most = max(counts, default=0)

    def tall(count: int) -> int:
        # What is there is seen.
        return max(2, round(count / most * (HEIGHT - 2))) if count else 0

    bars = [
        Bar(
            x=place * PITCH,
            start_us=start,
            end_us=end,
            count=count,
            failed=failed or 0,
            tall=tall(count),
            bad=tall(failed or 0),
            href=url(LIST, q=said(within(search, start, end - 1))),
        )
        for place, (start, end, count, failed) in enumerate(
            zip(found.edges[:-1], found.edges[1:], counts, found.failed, strict=True)
        )
        if count
    ]
    return Chart(
        bars=bars,
        width=len(counts) * PITCH,
        height=HEIGHT,
        first_us=found.edges[0],
        last_us=found.edges[-1],
        most=most,
        total=found.total,
        basis=found.basis.value,
        sampled_us=found.sampled_us,
        with_cleared=found.with_cleared,
        unseen=next((place for place, count in enumerate(found.counts) if count is not None), 0) * PITCH,
    )


# --- a search that is none --------------------------------------------------------------------------


class Slip(Struct, frozen=True, kw_only=True):
    """Where a search went wrong: the token, and what stands around it."""

    message: str
    hint: str
    before: str
    token: str
    after: str


def slip(text: str, error: InvalidSearch) -> Slip:
    data = error.data
    position, token = int(data.get("position", 0)), str(data.get("token", ""))
    start = text.rfind(token, 0, position + len(token)) if token else position
    start = position if start < 0 else start
    return Slip(
        message=error.message,
        hint=error.hint or "",
        before=text[:start],
        token=text[start : start + len(token)] or text[position : position + 1],
        after=text[start + len(token) :],
    )
