"""The keys of a trigger document, taken one by one and checked."""

from __future__ import annotations

import json
import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from math import isfinite, log10
from typing import Any, TypeGuard, TypeVar
from zoneinfo import ZoneInfo

from schedule_zero.clock import to_us
from schedule_zero.errors import InvalidTrigger
from schedule_zero.timing.instants import UNITS_US
from schedule_zero.timing.recurring import MONTH_NAMES
from schedule_zero.timing.trigger import LATEST_US, LATEST_WORDS, Span
from schedule_zero.timing.walltime import resolve
from schedule_zero.timing.zones import iana_zone

E = TypeVar("E", bound=StrEnum)

# Of a relative moment, the largest first.
RELATIVE_UNITS = ("w", "d", "h", "m", "s", "ms")
# What int() takes of a text.
MAX_DIGITS = 4000
_RELATIVE = re.compile(
    r"\+(?=[0-9])" + "".join(rf"(?:([0-9]{{1,{MAX_DIGITS}}}){unit}(?![a-z]))?" for unit in RELATIVE_UNITS)
)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?![0-9])")
MAX_SEED = 200
MAX_SHOWN = 100
_LARGEST_SHOWN = 10**40


@dataclass
class Leaves:
    """How many single triggers a document has so far."""

    count: int = 0


@dataclass(frozen=True)
class Around:
    """Where a document stands, and what is meant where it says nothing."""

    zone: str
    min_interval_ms: int
    now_us: int | None
    seed: str | None
    # The types of the combinations that it stands in, the outermost first.
    inside: tuple[str, ...] = ()
    leaves: Leaves = field(default_factory=Leaves)


class Fields:
    """One document, from which its parser takes key by key."""

    def __init__(self, document: object, pointer: str, around: Around) -> None:
        if not isinstance(document, dict):
            raise InvalidTrigger(f"expected an object with a type, got {kind_of(document)}", pointer=pointer)
        self.rest: dict[str, Any] = dict(document)
        self.pointer = pointer
        self.around = around
        self._zone: ZoneInfo | None = None

    def fail(self, name: str, expected: str, got: object) -> InvalidTrigger:
        return InvalidTrigger(f"{name}: expected {expected}, got {shown(got)}", pointer=f"{self.pointer}/{name}")

    def take(self, *names: str) -> Any:
        """The value under the first of these names; saying the same thing twice is refused."""
        said = [name for name in names if name in self.rest]
        if len(said) > 1:
            raise InvalidTrigger(
                f"{said[1]} is another name for {said[0]}: expected one of them", pointer=f"{self.pointer}/{said[1]}"
            )
        return self.rest.pop(said[0]) if said else None

    def name_of(self, *names: str) -> str:
        """Under which of the names it was said, for error messages."""
        return next((name for name in names if name in self.rest), names[0])

    def within(self, kind: str) -> Around:
        """Where the parts of this combination stand; they are in its zone unless they name one."""
        return replace(self.around, zone=self.zone.key, inside=(*self.around.inside, kind))

    @property
    def zone(self) -> ZoneInfo:
        if self._zone is None:
            key = self.take("timezone")
            self._zone = iana_zone(self.around.zone if key is None else key)
            if self._zone is None:
                raise self.fail("timezone", "an IANA zone such as Europe/Berlin", key)
        return self._zone

    def moment(self, *names: str) -> int | None:
        """A moment in microseconds.

        ISO 8601 (in the trigger's zone if it names none), unix seconds, or relative to now: ``+1d12h``.
        """
        name = self.name_of(*names)
        value = self.take(*names)
        if value is None:
            return None
        us: int | None = None
        if isinstance(value, str):
            us = self._relative(name, value) if value.startswith("+") else self._moment_of_text(value)
        elif is_number(value):
            # Cut to what a float can take times a million, and what is out of range either way.
            us = round(max(min(value, LATEST_US), -1) * 1_000_000)
        if us is None:
            self._refuse_missing_day(name, value)
            raise self.fail(name, "an ISO 8601 date and time, unix seconds, or +2h from now", value)
        if us > LATEST_US:
            hint = "; unix time counts in seconds here" if is_number(value) else ""
            raise self.fail(name, f"{LATEST_WORDS}{hint}", value)
        if us < 0:
            raise self.fail(name, "a moment from 1970 on", value)
        return us

    def wall(self, *names: str) -> datetime | None:
        """The local time that stands under one of these names, if it is one; it is not taken."""
        value = self.rest.get(self.name_of(*names))
        moment = _iso(value) if isinstance(value, str) else None
        return moment if moment is not None and moment.tzinfo is None else None

    def _refuse_missing_day(self, name: str, value: object) -> None:
        found = _DATE.match(value.strip()) if isinstance(value, str) else None
        if found is None:
            return
        year, month, day = map(int, found.groups())
        if year and 1 <= month <= 12 and day > (last := monthrange(year, month)[1]):
            raise self.fail(name, f"a day that exists ({MONTH_NAMES[month - 1]} {year} has {last} days)", value)

    def _relative(self, name: str, text: str) -> int | None:
        found = _RELATIVE.fullmatch(text)
        if found is None:
            raise self.fail(name, f"+ and whole numbers of {', '.join(RELATIVE_UNITS)} in this order (+1d12h)", text)
        if self.around.now_us is None:
            raise self.fail(name, "an absolute moment, because there is no now that it could be relative to", text)
        amounts = zip(found.groups(default="0"), UNITS_US.values(), strict=True)
        return self.around.now_us + sum(int(amount) * unit_us for amount, unit_us in amounts)

    def _moment_of_text(self, text: str) -> int | None:
        moment = _iso(text)
        if moment is None:
            return None
        if moment.tzinfo is not None:
            return to_us(moment)
        try:
            return resolve(moment, self.zone) * 1_000_000 + moment.microsecond
        except (OverflowError, ValueError):
            return None

    def day(self, *names: str) -> date | None:
        name = self.name_of(*names)
        value = self.take(*names)
        if value is None:
            return None
        try:
            day = date.fromisoformat(value)
        except (TypeError, ValueError):
            self._refuse_missing_day(name, value)
            raise self.fail(name, "a date such as 2026-12-31", value) from None
        if not 1970 <= day.year <= 9998:
            raise self.fail(name, "a date between 1970 and 9998", value)
        return day

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(name, f"a whole number from {low} to {high}", value)
        return value

    def choice(self, name: str, choices: type[E]) -> E | None:
        value = self.take(name)
        if value is None:
            return None
        try:
            return choices(value)
        except ValueError:
            raise self.fail(name, " or ".join(choices), value) from None

    def seed(self) -> str | None:
        """What ``H`` depends on."""
        value = self.take("seed")
        if value is None:
            return self.around.seed
        if not isinstance(value, str) or not 0 < len(value) <= MAX_SEED:
            raise self.fail("seed", f"a text of 1 to {MAX_SEED} characters", value)
        return value

    def span(self) -> Span:
        end_name = self.name_of("end", "end_time")
        end_us = None if self.is_for_ever("end", "end_time") else self.moment("end", "end_time")
        span = Span(self.moment("start", "start_time"), end_us)
        if span.start_us is not None and span.end_us is not None and span.end_us < span.start_us:
            raise InvalidTrigger(f"{end_name} lies before the start", pointer=f"{self.pointer}/{end_name}")
        return span

    def is_for_ever(self, *names: str) -> bool:
        """Whether an end lies in the year 9999, which means that there is none; it is taken then."""
        value = self.rest.get(self.name_of(*names))
        if not isinstance(value, str) or not value.startswith("9999-") or _iso(value) is None:
            return False
        self.take(*names)
        return True

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Before anything else: who mistypes a key leaves out another one by that."""
        unknown = sorted(self.rest.keys() - known)
        if unknown:
            raise InvalidTrigger(
                f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
                f"known here: {', '.join(('type', *known))}",
                pointer=f"{self.pointer}/{_escaped(unknown[0])}",
            )


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _escaped(name: str) -> str:
    """A key as one step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number that has an end. (An integer may be larger than any float.)"""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and isfinite(value))


def shown(value: object) -> str:
    """What came, for error messages: a text in quotes, everything else as JSON writes it; what is long is cut."""
    if isinstance(value, int) and abs(value) > _LARGEST_SHOWN:
        return f"a number of about {round(value.bit_length() * log10(2))} digits"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def kind_of(value: object) -> str:
    """What kind of JSON it is, for error messages."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
