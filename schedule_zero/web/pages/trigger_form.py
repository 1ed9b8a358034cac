"""The part of a schedule's form that says when: a kind, and the fields of that kind; combinations as JSON. Pure.

What a kind's fields can't say (a cron trigger by keywords, a list) is shown as JSON, so that a trigger which is shown
and sent back untouched is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedule_zero.web.pages.duration_text import UNITS, parts_of
from schedule_zero.web.pages.fields import JSON, FormField, Pairs, Widget, typed
from schedule_zero.web.pages.json_values import read_json, write_json

TRIGGER, ZONE = "/trigger", "/timezone"
TYPE, AS_JSON = f"{TRIGGER}/type", f"{JSON}{TRIGGER}"
ZONES_LIST = "zones"
KINDS = {
    "cron": "Cron",
    "interval": "Interval",
    "calendar": "Calendar: every n days, weeks, months",
    "date": "Once, at a moment",
    "startup": "At each start of the server",
    "manual": "By hand only",
    "json": "Combination, as JSON",
}
_MOMENT = "2030-01-31T09:00, +2h"
_GAPS = [("", "by the rule"), ("shift", "shift"), ("skip", "skip")]
_FOLDS = [("", "by the rule"), ("first", "first"), ("second", "second"), ("both", "both")]
_LONG_UNITS = {
    "w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds",
}  # fmt: skip
_CALENDAR_UNITS = ("days", "weeks", "months", "years")
_ZONE = ("timezone", "Zone", "UTC")
_SPAN = (("start", "Not before", _MOMENT), ("end", "Not after", _MOMENT))
# By kind: (key, label, what stands in the empty field).
_FIELDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "cron": (("expression", "Expression", "30 9 * * MON-FRI"), _ZONE, *_SPAN, ("seed", "Seed of H", "the id")),
    "interval": (("every", "Every", "10s, 5m, 1h30m"), _ZONE, *_SPAN),
    "calendar": (
        ("amount", "Every", "1"),
        ("on", "On", "the day of its start"),
        ("month", "Month", "that of its start"),
        ("at", "At", "00:00"),
        _ZONE,
        ("start_date", "From", ""),
        ("end_date", "Until", ""),
    ),
    "date": (("run_date", "When", _MOMENT), _ZONE),
    "startup": (),
    "manual": (),
}
_WHAT = {
    "expression": "Minute, hour, day, month, day of week; with six fields the second in front. @daily, L, MON#2, H.",
    "every": "Real time, whatever the clocks do.",
    "on": "With weeks: MON, THU. With months or years: last friday, 15th day, 1st weekday.",
    "month": "With years.",
    "start": "A moment; local if it names no offset, or from now on: +2h.",
    "run_date": "Local in the zone if it names no offset; or from now on: +2h.",
    "seed": "What H depends on.",
}
# Folded away: few say them.
_RARE = frozenset({"start", "end", "seed", "start_date", "end_date", "dst_gap", "dst_fold", "anchor", "month"})


def kind_of(pairs: Pairs) -> str:
    """The kind that is chosen; cron to begin with."""
    said = typed(pairs, TYPE)
    return said if said in KINDS else "cron"


# --- from a trigger to what stands in the fields ------------------------------------------------------


def fields_of_trigger(document: Any, zone: str | None = None) -> list[tuple[str, str]]:
    """What has to stand in which field; ``zone`` is the schedule's own, which counts where the trigger names none."""
    kind = str(document.get("type")) if isinstance(document, dict) else ""
    texts = _texts(kind, document) if kind in _FIELDS else None
    if texts is None:
        return [(TYPE, "json"), (AS_JSON, write_json(document, indent=2)), (ZONE, zone or "")]
    if any(key == "timezone" for key, _, _ in _FIELDS[kind]):
        texts.setdefault("timezone", zone or "")
    return [(TYPE, kind), *((f"{TRIGGER}/{key}", text) for key, text in texts.items())]


def _texts(kind: str, document: dict[str, Any]) -> dict[str, str] | None:
    """The fields of a kind; None: they can't say it."""
    rest = {key: value for key, value in document.items() if key != "type"}
    texts: dict[str, str] = {}
    if kind == "interval":
        every = ""
        for short in UNITS:
            amount = rest.pop(_LONG_UNITS[short], None)
            every += "" if amount is None else f"{amount}{short}"
        texts["every"] = every
    elif kind == "calendar":
        for unit in _CALENDAR_UNITS:
            if unit in rest:
                texts |= {"amount": str(rest.pop(unit)), "unit": unit}
        on = rest.pop("on", None)
        if on is not None:
            texts["on"] = ", ".join(on) if isinstance(on, list) and all(isinstance(day, str) for day in on) else str(on)
    known = {key for key, _, _ in _FIELDS[kind]} | {"dst_gap", "dst_fold", "anchor"}
    if not rest.keys() <= known or any(isinstance(value, dict | list | bool) for value in rest.values()):
        return None
    texts |= {key: str(value) for key, value in rest.items()}
    again = _document(kind, lambda key: texts.get(key, ""), {})
    # A list of one day, and that day; a number, and its text: what is meant is the same.
    return texts if _plain(again) == _plain(document) else None


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, list) else [str(value)] for key, value in document.items() if value is not None
    }


# --- from the fields to a trigger ---------------------------------------------------------------------


def read_trigger(pairs: Pairs, errors: dict[str, str]) -> tuple[Any, str | None]:
    """The trigger, as far as it can be read, and the schedule's own zone. None: nothing is said yet."""
    kind = kind_of(pairs)
    if kind == "json":
        zone = typed(pairs, ZONE).strip() or None
        text = typed(pairs, AS_JSON)
        if not text.strip():
            errors[TRIGGER] = "expected a trigger, or a list of them"
            return None, zone
        try:
            return read_json(text), zone
        except ValueError as error:
            errors[TRIGGER] = str(error)
            return None, zone
    found: dict[str, str] = {}
    document = _document(kind, lambda key: typed(pairs, f"{TRIGGER}/{key}").strip(), found)
    errors |= {f"{TRIGGER}/{key}": message for key, message in found.items()}
    return None if found else document, None


def _document(kind: str, said: Callable[[str], str], errors: dict[str, str]) -> dict[str, Any]:
    """``said`` tells what stands in a field."""
    document: dict[str, Any] = {"type": kind}
    keys = [key for key, _, _ in _FIELDS[kind]]
    if kind == "interval":
        keys.remove("every")
        document |= _every(said("every"), errors)
        keys.append("anchor")
    if kind == "calendar":
        for key in ("amount", "on"):
            keys.remove(key)
        document |= _amount(said("amount"), said("unit") or "days", errors)
        days = [day.strip() for day in said("on").split(",") if day.strip()]
        document |= {"on": days} if days else {}
    if kind in ("cron", "calendar"):
        keys += ["dst_gap", "dst_fold"]
    for key in keys:
        text = said(key)
        if text:
            document[key] = _number_or_text(text) if key in ("month", "start", "end", "run_date") else text
    for needed in ("expression", "run_date"):
        if needed in keys and needed not in document:
            errors[needed] = "expected a cron expression" if needed == "expression" else "expected a moment"
    if document.get("anchor") == "start":
        del document["anchor"]
    return document


def _every(text: str, errors: dict[str, str]) -> dict[str, int | float]:
    if not text:
        errors["every"] = "expected a duration such as 10s or 1h30m"
        return {}
    try:
        parts = parts_of(text)
    except ValueError as error:
        errors["every"] = str(error)
        return {}
    return {_LONG_UNITS[unit]: int(amount) if amount.isdigit() else float(amount) for unit, amount in parts.items()}


def _amount(text: str, unit: str, errors: dict[str, str]) -> dict[str, int]:
    if not (text or "1").isdecimal():
        errors["amount"] = f"expected a whole number, got {text[:80]!r}"
        return {}
    return {unit: int(text or "1")} if len(text) < 10 else {unit: 10**9}


def _number_or_text(text: str) -> int | str:
    """Unix seconds, or the number of a month, are numbers in JSON."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else text


def field_of(kind: str, pointer: str) -> str:
    """The field that an error is about, where it has another name than the key in the document, or none."""
    if not (pointer == TRIGGER or pointer.startswith(f"{TRIGGER}/")):
        return pointer
    if kind not in _FIELDS:
        return TRIGGER
    first = next((key for key, _, _ in _FIELDS[kind]), "type")
    key = pointer.removeprefix(TRIGGER).removeprefix("/").partition("/")[0]
    return f"{TRIGGER}/{first if not key or key in _LONG_UNITS.values() or key in _CALENDAR_UNITS else key}"


# --- what is shown ------------------------------------------------------------------------------------


def shown_trigger(pairs: Pairs) -> tuple[list[FormField], list[FormField]]:
    """The fields of the chosen kind: those that everybody needs, and those that few do."""
    kind = kind_of(pairs)
    if kind == "json":
        zone = _zone_field(ZONE, "Zone", "UTC", typed(pairs, ZONE))
        zone.description = "Of triggers that name none."
        return [_json_field(pairs), zone], []
    fields = []
    for key, label, placeholder in _FIELDS[kind]:
        pointer = f"{TRIGGER}/{key}"
        value = typed(pairs, pointer)
        if key == "timezone":
            fields.append(_zone_field(pointer, label, placeholder, value))
            continue
        widget = Widget.DATE if key in ("start_date", "end_date") else Widget.TEXT
        fields.append(
            FormField(
                pointer=pointer,
                label=label,
                widget=widget,
                value=value,
                placeholder=placeholder,
                description=_WHAT.get(key, ""),
                code=False,
                digits=key == "amount",
            )
        )
        if key == "amount":
            fields.append(_select(pairs, "unit", "Unit", [(unit, unit) for unit in _CALENDAR_UNITS]))
    if kind == "interval":
        fields.append(
            _select(
                pairs, "anchor", "Counted from", [("start", "its start: a fixed rate"), ("end", "the last run's end")]
            )
        )
    if kind in ("cron", "calendar"):
        fields.append(_select(pairs, "dst_gap", "Missing hour", _GAPS, "When the clock is put forward."))
        fields.append(_select(pairs, "dst_fold", "Repeated hour", _FOLDS, "When the clock is put back."))
    # An interval needs a zone only for moments that name none.
    rare = _RARE | {"timezone"} if kind == "interval" else _RARE
    return [one for one in fields if _key(one) not in rare], [one for one in fields if _key(one) in rare]


def kept(pairs: Pairs) -> list[tuple[str, str]]:
    """What was typed into fields of other kinds; it is sent along unseen, so that looking at one kind forgets none."""
    plain, rare = shown_trigger(pairs)
    visible = {TYPE, *(one.name for one in (*plain, *rare))}
    return [
        (name, value)
        for name, value in pairs
        if (name.startswith(f"{TRIGGER}/") or name in (AS_JSON, ZONE)) and name not in visible and value
    ]


def _key(field: FormField) -> str:
    return field.pointer.removeprefix(f"{TRIGGER}/")


def _json_field(pairs: Pairs) -> FormField:
    return FormField(
        pointer=TRIGGER,
        label="Trigger",
        widget=Widget.JSON,
        value=typed(pairs, AS_JSON),
        placeholder='[{"type": "cron", "expression": "0 9 * * MON-FRI"}, {"type": "startup"}]',
        description="or, and, except; a list of triggers means: each of them fires.",
        required=True,
    )


def _zone_field(pointer: str, label: str, placeholder: str, value: str) -> FormField:
    return FormField(pointer=pointer, label=label, value=value, placeholder=placeholder, suggestions=ZONES_LIST)


def _select(pairs: Pairs, key: str, label: str, choices: list[tuple[str, str]], what: str = "") -> FormField:
    pointer = f"{TRIGGER}/{key}"
    value = typed(pairs, pointer)
    if value and value not in dict(choices):
        choices = [*choices, (value, value)]
    return FormField(pointer=pointer, label=label, widget=Widget.SELECT, value=value, choices=choices, description=what)
