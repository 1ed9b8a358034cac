"""Fields for how a job is to be run and for what happens to a schedule's fires, in folded groups. Pure.

What a field takes follows from its type in ``JobOptions`` and ``Policies``; here stand its label, what it is for, and
in which group it is shown. What is in force where nothing is typed stands in the empty field, with who says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from msgspec import inspect, to_builtins

from schedule_zero.job_options import JobOptions
from schedule_zero.model import Policies
from schedule_zero.rules.options import StoredOptions
from schedule_zero.web.pages.duration_text import duration_text, seconds_of
from schedule_zero.web.pages.fields import FormField, Pairs, Widget, lines, typed

# Calendars that are told by name.
MAX_NAMED = 20
OPTIONS, POLICIES = "/options", "/policies"
# Stands among the policies, and beside them in a body.
GRACE_NAME = "misfire_grace_s"
GRACE = f"/{GRACE_NAME}"


class Known(NamedTuple):
    """One option as the form knows it."""

    label: str
    what: str = ""


OPTION_GROUPS: dict[str, dict[str, Known]] = {
    "Retries": {
        "max_attempts": Known("Attempts", "In all; 1 means no retry."),
        "retry_delay_s": Known("Delay", "From the end of a failed attempt to the next."),
        "backoff": Known("Backoff", "How the delay grows from attempt to attempt."),
        "retry_delays_s": Known("Delays one by one", "Of the backoff list: 1s, 10s, 5m."),
        "retry_max_delay_s": Known("Longest delay"),
        "retry_jitter": Known("Jitter", "Anything up to the delay instead of it."),
        "retry_on": Known("Retry only on", "Errors or categories, one a line."),
        "give_up_on": Known("Give up on", "Errors or categories, one a line."),
    },
    "Time limits": {
        "timeout_s": Known("Timeout", "Of one attempt."),
        "queue_timeout_s": Known("Start within", "Not started by then, it is misfired."),
        "heartbeat_timeout_s": Known("Silent for", "An attempt without progress or heartbeat for so long has failed."),
        "on_lost": Known("Node lost", "What becomes of an attempt whose node dies with it."),
        "idempotent": Known("Idempotent", "Whether running it twice does no harm."),
    },
    "Priority and limits": {
        "priority": Known("Priority", "Greater goes first: low 1, normal 5, high 10, critical 15."),
        "max_instances": Known("At once", "How many of this job may run at once."),
        "concurrency_key": Known("Concurrency key", "Such as customer:{customer}."),
        "max_per_key": Known("At once per key"),
        "weight": Known("Weight", "How many slots of its node it takes."),
        "rate_limit": Known("Rate", "Starts in a time: 10/s, 100/m, 5/h, 1/d."),
        "rate_burst": Known("Burst", "How many of these at once."),
        "rate_key": Known("Rate key", "The rate is of those with this key, not of the job."),
    },
    "Only one of a kind": {
        "unique_key": Known("Unique key", "Only one of this job with this key, such as {report}."),
        "unique_while": Known("While", "… it is pending or open."),
        "unique_for_s": Known("For", "… this long after its creation."),
        "on_duplicate": Known("Duplicate", "What becomes of a second one."),
    },
    "Which node": {
        "require": Known("Only on nodes", "Conditions, one a line: gpu, os == linux, memory_gb >= 16."),
        "prefer": Known("Rather on nodes", "Conditions, one a line."),
        "strategy": Known("Choose", "Which of several nodes gets it."),
        "sticky_key": Known("Sticky key", "Those with the same key go to the same node."),
    },
    "A process of its own": {
        "isolation": Known("Isolation"),
        "memory_mb": Known("Memory, MiB"),
        "cpu_percent": Known("CPU, % of a core"),
        "cpu_s": Known("CPU time"),
    },
}
POLICY_GROUPS: dict[str, dict[str, Known]] = {
    "Late and missed fires": {
        GRACE_NAME: Known("Grace", "A fire that is at most so late simply runs."),
        "catch_up": Known("Catch up", "Which of those that are later than that still run."),
        "catch_up_window_s": Known("Catch up back to", "No further back than this."),
        "catch_up_max": Known("Catch up at most", "With all: the newest so many."),
        "coalesce": Known("Coalesce", "Of several due at once, run the latest only."),
    },
    "Overlap and limits": {
        "overlap": Known("Overlap", "What a fire does while an earlier run is not over."),
        "max_fires": Known("Runs in all", "Finished after so many."),
        "max_failures": Known("Failures in a row", "Paused after so many."),
    },
    "Calendars": {
        "exclude": Known("No fire in", "Named calendars, one a line."),
        "require": Known("No fire outside", "Named calendars, one a line."),
        "business_days/calendar": Known("Business days of", "A named calendar."),
        "business_days/rule": Known("On other days"),
    },
    "Spread": {
        "jitter_s": Known("Jitter", "Each run starts up to so much later."),
        "jitter": Known("Drawn", "hash: always the same for this schedule."),
        "broadcast": Known("Broadcast", "Each run is on every node that matches."),
        "shards": Known("Shards", "Each run is in so many parts."),
    },
    "How long runs are kept": {
        "keep_s": Known("Keep for"),
        "keep_last": Known("Keep the last", "Only the newest so many."),
    },
}


def option_groups(pairs: Pairs, in_force: StoredOptions, of_parent: str = "") -> list[FormField]:
    """The groups of job options. ``in_force``: what counts where nothing is typed; ``of_parent``: what those are called
    that a submission said.
    """
    who = {name: of_parent if source == "submission" else f"the {source}" for name, source in in_force.sources.items()}
    shown = {name: getattr(in_force, name) for name in in_force.__struct_fields__}
    return _groups(OPTION_GROUPS, OPTIONS, JobOptions, pairs, shown, who)


def policy_groups(pairs: Pairs, grace_s: float, window_s: float, calendars: Sequence[str] = ()) -> list[FormField]:
    """The groups of policies; ``grace_s`` and ``window_s`` are the server's, ``calendars`` the names that there are."""
    defaults = {field.encode_name: field.default for field in _fields(Policies).values()}
    in_force = {**defaults, "misfire_grace_s": grace_s, "catch_up_window_s": window_s}
    who = dict.fromkeys(("misfire_grace_s", "catch_up_window_s"), "the server")
    groups = _groups(POLICY_GROUPS, POLICIES, Policies, pairs, in_force, who)
    named = f" There is {', '.join(calendars[:MAX_NAMED])}{', …' if len(calendars) > MAX_NAMED else ''}."
    for field in next(group for group in groups if group.label == "Calendars").members:
        if field.widget is not Widget.SELECT and calendars:
            field.description += named
    return groups


def _groups(
    groups: Mapping[str, Mapping[str, Known]],
    pointer: str,
    shape: type,
    pairs: Pairs,
    in_force: Mapping[str, Any],
    who: Mapping[str, str],
) -> list[FormField]:
    made = []
    for label, known in groups.items():
        members = [
            _field(name, one, pointer, _type_of(shape, name), pairs, in_force, who) for name, one in known.items()
        ]
        # A group stands for no value of its own: no error is about it.
        made.append(FormField(pointer=f"{pointer}#{label}", label=label, widget=Widget.GROUP, members=members))
    return made


def _field(
    name: str,
    known: Known,
    pointer: str,
    type_: Any,
    pairs: Pairs,
    in_force: Mapping[str, Any],
    who: Mapping[str, str],
) -> FormField:
    place = GRACE if name == GRACE_NAME else f"{pointer}/{name}"
    value = in_force.get(name)
    origin = who.get(name, "default")
    shown = f"{_words(name, value)} ({origin})"
    if value is None and _choices(type_):
        shown = "not said"
    field = FormField(
        pointer=place, label=known.label, description=known.what, value=typed(pairs, place), placeholder=shown
    )
    choices = _choices(type_)
    if choices:
        field.widget, field.placeholder = Widget.SELECT, ""
        field.choices = [("", shown), *choices]
        if field.value and field.value not in {choice for choice, _ in field.choices}:
            field.choices.append((field.value, field.value))
    elif _is_texts(name, type_):
        field.widget = Widget.AREA
    else:
        field.digits = isinstance(type_, inspect.IntType)
    return field


# --- reading ------------------------------------------------------------------------------------------


def read_options(pairs: Pairs, errors: dict[str, str]) -> dict[str, Any]:
    """``options`` of a body, as far as they are typed. What is not what it should be at all goes to ``errors``."""
    return _read(OPTION_GROUPS, OPTIONS, JobOptions, pairs, errors)


def read_policies(pairs: Pairs, errors: dict[str, str]) -> dict[str, Any]:
    """``policies`` of a body (without the grace)."""
    policies = _read(POLICY_GROUPS, POLICIES, Policies, pairs, errors)
    nested = {name: policies.pop(f"business_days/{name}", None) for name in ("calendar", "rule")}
    if any(nested.values()):
        for name, value in nested.items():
            if value is None:
                errors[f"{POLICIES}/business_days/{name}"] = "business days take both: a calendar, and what happens"
        policies["business_days"] = {name: value for name, value in nested.items() if value is not None}
    return policies


def read_grace(pairs: Pairs, errors: dict[str, str]) -> float | None:
    text = typed(pairs, GRACE).strip()
    try:
        return seconds_of(text) if text else None
    except ValueError as error:
        errors[GRACE] = str(error)
        return None


def _read(
    groups: Mapping[str, Mapping[str, Known]], pointer: str, shape: type, pairs: Pairs, errors: dict[str, str]
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in (name for known in groups.values() for name in known):
        if name == GRACE_NAME:
            continue
        text = typed(pairs, f"{pointer}/{name}")
        if not text.strip():
            continue
        try:
            said[name] = _value(name, _type_of(shape, name), text)
        except ValueError as error:
            errors[f"{pointer}/{name}"] = str(error)
    return said


def _value(name: str, type_: Any, text: str) -> Any:
    if _is_texts(name, type_):
        return [line.strip() for line in lines(text)]
    if isinstance(type_, inspect.VarTupleType):
        return [seconds_of(part) for part in text.split(",") if part.strip()]
    if isinstance(type_, inspect.BoolType):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(type_, inspect.FloatType):
        return seconds_of(text)
    if isinstance(type_, inspect.IntType):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"expected a whole number, got {text.strip()[:80]!r}") from None
    return text.strip()


def fields_of_options(options: JobOptions) -> list[tuple[str, str]]:
    """What has to stand in the fields for these options to be read."""
    return [(f"{OPTIONS}/{name}", _text(name, value)) for name, value in to_builtins(options).items()]


def fields_of_policies(policies: Policies) -> list[tuple[str, str]]:
    said = to_builtins(policies)
    days = said.pop("business_days", None) or {}
    said |= {f"business_days/{name}": value for name, value in days.items() if name != "version"}
    return [(f"{POLICIES}/{name}", _text(name, value)) for name, value in said.items()]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "\n".join(value) if not name.endswith("_s") else ", ".join(duration_text(one) for one in value)
    return duration_text(value) if name.endswith("_s") else str(value)


def _words(name: str, value: Any) -> str:
    """A value that is in force, as it stands in an empty field."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value).replace("_", " ")
    if isinstance(value, tuple):
        return ", ".join(_words(name, one) for one in value)
    if name.endswith("_s"):
        return duration_text(value) if value else "none"
    return str(value)


# --- types --------------------------------------------------------------------------------------------


@cache
def _fields(shape: type) -> dict[str, inspect.Field]:
    info = inspect.type_info(shape)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field for field in info.fields}


@cache
def _type_of(shape: type, name: str) -> Any:
    if name == GRACE_NAME:
        return inspect.FloatType()
    first, _, below = name.partition("/")
    type_ = _bare(_fields(shape)[first].type)
    return _bare(next(one.type for one in type_.fields if one.encode_name == below)) if below else type_


def _bare(type_: Any) -> Any:
    """A type without its bounds and without null."""
    while True:
        if isinstance(type_, inspect.Metadata):
            type_ = type_.type
        elif isinstance(type_, inspect.UnionType):
            type_ = next(part for part in type_.types if not isinstance(part, inspect.NoneType))
        else:
            return type_


def _choices(type_: Any) -> list[tuple[str, str]]:
    if isinstance(type_, inspect.BoolType):
        return [("true", "yes"), ("false", "no")]
    if isinstance(type_, inspect.EnumType):
        return [(str(member.value), str(member.value).replace("_", " ")) for member in type_.cls]
    return []


def _is_texts(name: str, type_: Any) -> bool:
    """Several words or conditions, one a line."""
    return isinstance(type_, inspect.VarTupleType) and not name.endswith("_s")
