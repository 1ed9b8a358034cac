"""A cron expression in English: cron-descriptor's words, put together anew where days are concerned.

It says "or" of a day and a day of the week that have to match both, nothing at all between some others, and takes
letters in a list for numbers.
"""

from __future__ import annotations

from schedule_zero.timing.recurring import Weekday

_MIDNIGHT = "At 00:00"
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def cron_words(fields: tuple[str, str, str, str, str, str]) -> str | None:
    """Six fields (without ``H``) in words; ``None``: there are none for them."""
    # Only needed where a human looks, and slow to import.
    from cron_descriptor import FormatError  # type: ignore[import-untyped]  # it has no py.typed

    second, minute, hour, day, month, day_of_week = (_plain(field) for field in fields)
    # Vixie's rule: alternatives, unless one of them begins with a star.
    either = not (fields[3].startswith("*") or fields[5].startswith("*"))
    if either and "*" in (day, day_of_week):
        day = day_of_week = "*"
    second, minute, hour = _one_by_one(second, 59), _one_by_one(minute, 59), _one_by_one(hour, 23)
    time = [minute, hour] if second == "0" else [second, minute, hour]
    try:
        when = _described([*time, "*", "*", "*"])
        months = _described([*time, "*", month, "*"]).removeprefix(when)
        return when + _days(day, day_of_week, "or" if either else "only") + months
    except FormatError:
        return None


def _plain(field: str) -> str:
    """What is all values in some longer way, in the short one."""
    return "*" if {"*", "*/1"}.intersection(field.split(",")) else field


def _one_by_one(field: str, highest: int) -> str:
    """A list with steps in it as the list of its values: of such a step, its start would be left unsaid."""
    if "," not in field or "/" not in field:
        return field
    values: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = ("0", "", "") if span == "*" else span.partition("-")
        end = int(last) if last else highest if step else int(first)
        values.update(range(int(first), end + 1, int(step or 1)))
    return ",".join(map(str, sorted(values)))


def _described(fields: list[str]) -> str:
    from cron_descriptor import Options, get_description

    described: str = get_description(" ".join(fields), Options(use_24hour_time_format=True, locale_code="en_US"))
    return described


def _days(day: str, day_of_week: str, join: str) -> str:
    if day_of_week == "*":
        return "" if day == "*" else f", {_of_month(day)}"
    if day == "*":
        return f", {_of_week(day_of_week)}"
    return f", {_of_month(day)}, {join} {_of_week(day_of_week).removeprefix('only ')}"


def _of_month(day: str) -> str:
    terms = day.split(",")
    if len(terms) > 1 and ("L" in day or "/" in day):
        return f"on {_listed([_day(term) for term in terms])} of the month"
    return _described(["0", "0", day, "*", "*"]).removeprefix(f"{_MIDNIGHT}, ")


def _day(term: str) -> str:
    if term in {"L", "LW"}:
        return "the last day" if term == "L" else "the last weekday"
    span, _, step = term.partition("/")
    first, _, last = span.partition("-")
    if not step:
        return f"days {first} to {last}" if last else f"day {first}"
    bounds = f" from day {first}" + (f" to {last}" if last else "") if first != "*" else ""
    return f"every {step} days{bounds}"


def _of_week(day_of_week: str) -> str:
    terms = day_of_week.split(",")
    counted = any("#" in term or _is_last(term) for term in terms)
    if len(terms) == 1 and "/" in day_of_week:
        return _weekday(day_of_week)
    if len(terms) > 1 and (counted or "/" in day_of_week):
        return f"on {_listed([_weekday(term) for term in terms])}{' of the month' if counted else ''}"
    return _described(["0", "0", "*", "*", day_of_week]).removeprefix(f"{_MIDNIGHT}, ")


def _is_last(term: str) -> bool:
    return term.endswith("L") and term[:-1].isdigit()


def _weekday(term: str) -> str:
    name, _, nth = term.partition("#")
    if nth:
        return f"the {_ORDINALS[int(nth) - 1]} {_name(name)}"
    if _is_last(term):
        return f"the last {_name(term[:-1])}"
    span, _, step = term.partition("/")
    if span == "*":
        return f"every {step} days of the week"
    days = " to ".join(map(_name, span.split("-")))
    return f"every {step} days from {days}" if step else f"every {days}"


def _name(day: str) -> str:
    return (Weekday((int(day) - 1) % 7) if day.isdigit() else Weekday[day]).full_name


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
