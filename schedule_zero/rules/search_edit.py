"""Changes to a search that a click makes: other states, another span of time. Pure."""

from __future__ import annotations

from collections.abc import Collection

from schedule_zero.clock import rfc3339
from schedule_zero.model import State
from schedule_zero.rules.search import Q, Qualifier, Search, Term

_SPAN = frozenset({Q.SINCE, Q.UNTIL})


def with_states(search: Search, states: Collection[State]) -> Search:
    """In any of these states, whatever it said of states; in all or none of them: in any."""
    others = _without(search, {Q.STATE})
    if not states or len(states) == len(State):
        return Search(others)
    values = tuple((state.value,) for state in State if state in states)
    return Search((Term(qualifier=Q.STATE, values=values), *others))


def within(search: Search, first_us: int, last_us: int) -> Search:
    """Created from the first microsecond to the last one, whatever it said of time."""
    span = ((Q.SINCE, first_us), (Q.UNTIL, last_us))
    terms = (Term(qualifier=name, values=((_moment(us),),)) for name, us in span)
    return Search((*_without(search, _SPAN), *terms))


def also(search: Search, term: Term) -> Search:
    """This as well, instead of what it said of the same thing."""
    return Search((*_without(search, {term.qualifier}), term))


def _without(search: Search, names: Collection[Qualifier]) -> tuple[Term, ...]:
    return tuple(term for term in search.terms if term.qualifier not in names)


def _moment(us: int) -> str:
    """``2030-01-31T09:00:00Z``; with its fraction of a second, if it has one."""
    text = rfc3339(us) or ""
    return text.replace(".000000Z", "Z")
