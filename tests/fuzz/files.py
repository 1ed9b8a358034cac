"""Files that people hand in, as targets: samples that are right, words of the format, and who reads them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from schedule_zero import settings
from schedule_zero.cli import client_calendars
from schedule_zero.cli.arguments import json_document
from schedule_zero.dispatch.curve import _own_secret
from schedule_zero.errors import ConfigError, ScheduleZeroError
from schedule_zero.node import identity
from schedule_zero.node.settings import load_curve
from schedule_zero.ops.registry_file import RegistryFile
from schedule_zero.timing.calendar_parse import parse_calendar
from tests.fuzz.bodies import JSON_WORDS
from tests.fuzz.targets import Target

ROOT = Path(__file__).resolve().parents[2]


class Kind(Struct, frozen=True):
    """One kind of file: who reads it, what is right, and words of its format."""

    name: str
    target: Target
    samples: list[bytes]
    words: list[bytes]


# --- YAML ----------------------------------------------------------------------------------------


def bomb(kind: str, levels: int = 8, each: int = 9) -> bytes:
    """Aliases of aliases: lists of lists, or keys that are merged."""
    lines = ["a0: &a0 {x: 1}" if kind == "merge" else "a0: &a0 [x]"]
    for level in range(1, levels):
        many = ",".join([f"*a{level - 1}"] * each)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{many}]}}" if kind == "merge" else f"[{many}]"))
    return "\n".join([*lines, f"log: {{levels: *a{levels - 1}}}", ""]).encode()


YAML_WORDS = [
    b"&a ", b"*a", b"*a", b"<<: *a", b"{", b"}", b"[", b"]", b": ", b"\n", b"\n  ", b"- ", b"? ", b"# ", b"| ", b">\n",
    b"---\n", b"...\n", b"%YAML 1.1\n", b"!!int ", b"!!bool ", b"!!float ", b"!!timestamp ", b"!!binary ", b"!!set ",
    b"!!omap ", b"!!pairs ", b"!!null ", b"!!str ", b"!!merge ", b"!!python/object/apply:os.system ", b"!x ", b"! ",
    b".inf", b"-.inf", b".nan", b"~", b"0x" + b"f" * 5000, b"1" + b":59" * 3000, b"1" * 5000, b"0o17", b"1e999",
    b"2001-99-99", b"2001-12-14t21:59:43.10-99:99", b"0001-01-01", b"9999-12-31T23:59:59-14:00", b'"\\ud800"', b'"\\0"',
    b'"\\x"', b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\t", b"\r", b"\xc2\x85", b"=", b"yes",
    b"[" * 200, b"[" * 5000, b"{a: " * 200, b"- " * 200, b"~root/x", b"~nobody-of-that-name/x", b'"', b"'", b"x" * 3000,
]  # fmt: skip
REGISTRY = b"""\
billing:
  allowed_methods: [invoice, remind]
  limits: {max_running: 4, backlog: 10000, params_bytes: 65536, timeout_s: 600, rate: 10/m}
&n "reports":
  limits: &l
    timeout_s: 60.5
other:
  limits: *l
  id: other
  status: Connected
  methods: [a, b]
"""
CALENDAR = b"""\
timezone: Europe/Berlin
holidays: [{country: DE, subdivision: BE}]
dates: [{from: 2026-12-24, to: 2026-12-31, label: closed}]
weekly: [{days: [SAT, SUN]}, {days: [MON], from: 22:00}]
monthly: [{day: last}]
cron: [{expression: "0 2 * * *", duration_s: 3600}]
"""


@cache
def _folder() -> Path:
    """For the files of this process; removed when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _folders.append(folder)
    return Path(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _config(data: bytes) -> Any:
    path = _folder() / "config.yaml"
    path.write_bytes(data)
    return _named(path.name, lambda: settings.load(environ={}, cwd=path.parent))


def _named(name: str, load: Any) -> Any:
    """``load``, whose refusal has to name the file in each of its complaints."""
    try:
        return load()
    except ConfigError as error:
        problems = error.data.get("problems", [error.message])
        assert problems
        assert all(name in problem or "default: " in problem for problem in problems), problems
        # One line for each complaint, none of them long.
        assert len(problems) <= 250
        raise ConfigError(max(problems, key=len)) from error


def _registry(data: bytes) -> Any:
    path = _folder() / "handler_registry.yaml"
    path.write_bytes(data)
    return _named(path.name, lambda: RegistryFile(_folder() / "mirror.yaml", path).read())


def _calendar(data: bytes) -> Any:
    path = _folder() / "calendar.yaml"
    path.write_bytes(data)
    document = client_calendars._document(path)
    # What the server makes of it.
    return parse_calendar(document, "c")


# --- iCalendar -----------------------------------------------------------------------------------

ICAL = b"""\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VTIMEZONE
TZID:Own
BEGIN:DAYLIGHT
DTSTART:20000326T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:20001029T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1@test
DTSTART;TZID=Own:20260115T100000
DURATION:PT1H30M
RRULE:FREQ=MONTHLY;BYDAY=2FR;COUNT=7
EXDATE;TZID=Own:20260215T100000
SUMMARY:stand-up\\, at ten
END:VEVENT
BEGIN:VEVENT
UID:1@test
RECURRENCE-ID;TZID=Own:20260315T100000
DTSTART;TZID=Own:20260315T120000
DTEND;TZID=Own:20260315T130000
END:VEVENT
BEGIN:VEVENT
UID:2@test
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
RRULE:FREQ=YEARLY;INTERVAL=2;UNTIL=20401231
RDATE;VALUE=DATE:20270101,20270106
SUMMARY;LANGUAGE=de:Weihnachten
 und so
STATUS:CONFIRMED
END:VEVENT
BEGIN:VEVENT
UID:3@test
DTSTART:20260710T100000Z
DTEND:20260710T113000Z
END:VEVENT
END:VCALENDAR
"""
ICAL_WORDS = [
    line + b"\n" for line in ICAL.splitlines() if b":" in line
] + [
    b"RRULE:FREQ=DAILY;INTERVAL=0\n", b"RRULE:FREQ=SECONDLY\n", b"RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30\n",
    b"RRULE:FREQ=YEARLY;BYEASTER=0\n", b"RRULE:FREQ=DAILY;COUNT=99999\n", b"RRULE:FREQ=MONTHLY;BYSETPOS=400;BYDAY=MO\n",
    b"RRULE:FREQ=WEEKLY;WKST=XX\n", b"RRULE:FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO\n", b"DTSTART:00010101T000000\n",
    b"DTSTART:99991231T235959Z\n", b"DTEND:99991231T235959Z\n", b"DURATION:P99999999W\n", b"DURATION:-P1D\n",
    b"TZOFFSETTO:+9999\n", b"TZOFFSETFROM:-2400\n", b"EXDATE:" + b"20260101T000000Z," * 300 + b"20260101\n",
    b"RDATE;VALUE=PERIOD:20260101T000000Z/PT1H\n", b"RDATE:20260101T000000Z/20250101T000000Z\n", b";TZID=Nowhere",
    b";VALUE=DATE", b";VALUE=BINARY", b";ENCODING=BASE64", b"RECURRENCE-ID;RANGE=THISANDFUTURE:20260315T100000Z\n",
    b"BEGIN:VEVENT\n", b"END:VEVENT\n", b"BEGIN:VALARM\n",
    b"\r\n ", b"\n ", b"\x00", b"\xff", b"\xe2\x80\xa8", b'"', b"\\",
    b"SEQUENCE:x\n", b"UID:\n", b"X" * 2000, b":", b";", b",", b"=", b"0" * 5000,
]  # fmt: skip
# 2026 and 2027.
FROM_US, TO_US = 1_767_225_600_000_000, 1_830_297_600_000_000


def _ical(data: bytes) -> Any:
    made = parse_calendar({"timezone": "Europe/Berlin", "ical": data.decode("utf-8", "replace")}, "c")
    found = made.windows(FROM_US, TO_US)
    # What is stored is read again at each start.
    assert parse_calendar(made.document(), "c").windows(FROM_US, TO_US) == found
    return made


# --- others --------------------------------------------------------------------------------------

PARAMS = b'{"a": [1, 2.5, null, true], "b": {"c": "\xc3\xa9"}}'


def _params(data: bytes) -> Any:
    path = _folder() / "params.json"
    path.write_bytes(data)
    return json_document(f"@{path}", "params")


def _keys(data: bytes) -> Any:
    path = _folder() / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    return load_curve(path, path), _own_secret(path)


def _state_key(data: bytes) -> Any:
    path = _folder() / "state_key"
    path.write_bytes(data)
    return identity._state_key(path)


def _epoch(data: bytes) -> Any:
    path = _folder() / "epoch"
    path.write_bytes(data)
    return identity._next_epoch(path)


KEY = b"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6\n"


def kinds() -> list[Kind]:
    """Every file that somebody hands in, or finds in a state directory."""
    config = (ROOT / "config.yaml").read_bytes()
    small = b"http: {port: 0, host: 127.0.0.1}\nlog:\n  levels: {schedule_zero.dispatch: debug}\nstate_dir: x\n"
    return [
        Kind("config.yaml", Target("config.yaml", _config, ConfigError), [config, small, small], YAML_WORDS),
        Kind("handler_registry.yaml", Target("handler_registry.yaml", _registry, ConfigError), [REGISTRY], YAML_WORDS),
        Kind(
            "a calendar's YAML",
            Target("calendar", _calendar, (click.UsageError, ScheduleZeroError)),
            [CALENDAR],
            YAML_WORDS,
        ),
        Kind("iCalendar", Target("ical", _ical, ScheduleZeroError), [ICAL], ICAL_WORDS),
        Kind("parameters", Target("params", _params, click.UsageError), [PARAMS], JSON_WORDS),
        Kind("a CURVE key", Target("key", _keys, ConfigError), [KEY], []),
        Kind("a node's state key", Target("state_key", _state_key, ConfigError), [b"0123456789abcdef" * 3], []),
        Kind("a node's epoch", Target("epoch", _epoch, ConfigError), [b"17\n"], [b"9" * 5000, b"\xc2\xb2", b"-1"]),
    ]
