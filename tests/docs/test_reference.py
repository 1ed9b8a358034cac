"""What exists is documented: every message, setting, error and route is named on its reference page."""

from __future__ import annotations

import re
import typing
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from schedule_zero import errors
from schedule_zero.job_options import JobOptions
from schedule_zero.model import FireOutcome, JobError, JobMethod, NodeState, SkipReason
from schedule_zero.reports import record
from schedule_zero.reports.record import Held, Measure, Series
from schedule_zero.settings import LEAVES, variable
from schedule_zero.testbed.config import EARLIER, KINDS
from schedule_zero.testbed.history import Fault, FaultKind, HistoryLine, JobLine, Op, Terms
from schedule_zero.testbed.verdicts import Verdict
from schedule_zero.web.api.execution_records import ExecutionRecord
from schedule_zero.web.api.routes import ROUTES
from schedule_zero.wire import messages
from tools import gen_docs

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"

MESSAGES = [*typing.get_args(messages.NodeMessage), *typing.get_args(messages.ServerMessage)]
PARTS = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag is None
    if kind.__module__ == messages.__name__ and not kind.__name__.startswith("_")
]

REPORT_PARTS = [
    record.RunReport, record.ScenarioReport, record.Figures, record.ProcessFigures, record.FaultWindow, record.Machine,
    record.Answer, record.Outcome, Held, Measure, Series,
]  # fmt: skip


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """From one ``### heading`` to the next heading."""
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"protocol.md has no section ### {heading}"
    return found.group(1)


def fields_of(kind: type) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__struct_config__.tag)
def test_every_field_of_every_message_stands_in_its_section_of_the_protocol(message):
    text = section(page("protocol.md"), message.__struct_config__.tag)
    missing = [name for name in fields_of(message) if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize("part", [*PARTS, JobMethod, JobOptions, JobError], ids=lambda part: part.__name__)
def test_every_field_of_what_messages_are_made_of_stands_in_the_protocol(part):
    text = page("protocol.md")
    missing = [name for name in fields_of(part) if f"`{name}`" not in text]
    assert not missing
    if part in PARTS:
        assert part.__name__ in text


def test_the_protocol_names_no_message_that_does_not_exist():
    said = set(re.findall(r"^### ([A-Z_]+)$", page("protocol.md"), re.MULTILINE))
    assert said == {message.__struct_config__.tag for message in MESSAGES}


@pytest.mark.parametrize("part", [HistoryLine, Fault, JobLine, Terms, Op, FaultKind], ids=lambda part: part.__name__)
def test_everything_that_a_run_leaves_for_the_checker_stands_on_its_page(part):
    text = page("evidence.md")
    names = [word.value for word in part] if issubclass(part, StrEnum) else fields_of(part)
    assert not [name for name in names if f"`{name}`" not in text]


@pytest.mark.parametrize("part", REPORT_PARTS, ids=lambda part: part.__name__)
def test_everything_in_a_report_of_the_test_bed_stands_on_its_page(part):
    text = page("testbed.md")
    names = [word.value for word in part] if issubclass(part, StrEnum) else fields_of(part)
    assert not [name for name in names if f"`{name}`" not in text]


def test_every_name_of_the_earlier_plan_stands_on_the_test_bed_s_page():
    text = page("testbed.md")
    names = {*KINDS, *EARLIER}
    for test in EARLIER.values():
        names |= {*test.keys, *test.scenarios}
    assert not [name for name in names if f"`{name}`" not in text and f"  {name}: " not in text]


def test_every_verdict_of_the_checker_is_explained():
    text = (ROOT / "docs" / "explanation" / "checker.md").read_text(encoding="utf-8")
    assert not [verdict for verdict in Verdict if f"`{verdict}`" not in text]


def test_every_setting_and_its_variable_stand_in_the_configuration_page():
    text = page("configuration.md")
    missing = [path for path in LEAVES if path not in text or variable(path) not in text]
    assert not missing


def test_every_setting_stands_in_the_sample_configuration():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    missing = [path for path in LEAVES if not re.search(rf"^\s*#?\s*{path.rpartition('.')[2]}:", text, re.MULTILINE)]
    assert not missing


def test_every_error_code_stands_in_the_errors_page():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    text = page("errors.md")
    assert not [kind.code for kind in kinds if f"`{kind.code}`" not in text]


def test_no_two_errors_share_a_code():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_stands_in_the_api_page(route):
    lines = [
        line
        for line in page("api.md").splitlines()
        if re.search(rf"\b{route.method}\b.*{re.escape(route.path)}(?![/\w])", line)
    ]
    assert lines, f"{route.method} {route.path}"


def test_every_field_of_an_execution_stands_in_the_api_page():
    text = page("api.md")
    assert not [name for name in fields_of(ExecutionRecord) if f'"{name}"' not in text]


@pytest.mark.parametrize("path", ["reference/states.md", "explanation/ledger.md"])
def test_every_outcome_and_reason_of_a_fire_stands_where_they_are_listed(path):
    text = (ROOT / "docs" / path).read_text(encoding="utf-8")
    assert not [word for word in (*FireOutcome, *SkipReason) if f"`{word}`" not in text]


def event_kinds() -> set[str]:
    """Every text in the store's code that reads like an event's kind, and those made of a state."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "schedule_zero" / "store").glob("*.py"))
    kinds = set(re.findall(r'"((?:execution|schedule|calendar|handler|node|node_key|token)\.[a-z_]+)"', source))
    return kinds | {f"node.{state}" for state in NodeState}


@pytest.mark.parametrize("kind", sorted(event_kinds()))
def test_every_kind_of_event_stands_in_the_events_page(kind):
    assert f"`{kind}`" in page("events.md")


def test_the_events_page_names_no_event_that_does_not_exist():
    said = set(
        re.findall(r"`((?:execution|schedule|calendar|handler|node|node_key|token)\.[a-z_]+)`", page("events.md"))
    )
    assert said - event_kinds() == {"schedule.skipped", "schedule.missed"}, "made of a fire's outcome"


def test_generated_parts_are_what_the_code_says():
    assert [str(path) for path in gen_docs.stale()] == [], "make fmt writes them anew"
