"""What the address of a schedule's page says: everything that is shown of it."""

from __future__ import annotations

from datetime import tzinfo
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.model import Schedule
from schedule_zero.service.schedule_views import ShownSchedule
from schedule_zero.web.api.request import ApiRequest
from schedule_zero.web.pages.render import url
from schedule_zero.web.pages.schedules import PATH, Cursor, Text

Day = Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


class Tab(StrEnum):
    OVERVIEW = "overview"
    LEDGER = "ledger"
    VERSIONS = "versions"
    DEFINITION = "definition"
    BACKFILLS = "backfills"


class OutcomeWord(StrEnum):
    """What became of a fire, or any."""

    ANY = ""
    EXECUTED = "executed"
    CAUGHT_UP = "caught_up"
    SKIPPED = "skipped"
    MISSED = "missed"


class CopyWord(StrEnum):
    """In which language its definition is shown (``copy_as.LABELS``)."""

    CURL = "curl"
    PYTHON = "python"
    CLI = "cli"
    YAML = "yaml"


class ShowQuery(Struct, frozen=True, forbid_unknown_fields=True):
    tab: Tab = Tab.OVERVIEW
    # Overview: the month of the calendar.
    month: Annotated[str, Meta(pattern=r"^(\d{4}-\d{2})?$")] = ""
    # Ledger: what is shown of it, and the moment that is to be explained.
    outcome: OutcomeWord = OutcomeWord.ANY
    day: Day = ""
    at: Text = ""
    # Ledger, versions.
    cursor: Cursor = ""
    # Versions: two that are compared.
    before: Annotated[int, Meta(ge=1)] | None = None
    after: Annotated[int, Meta(ge=1)] | None = None
    generation: Annotated[int, Meta(ge=1)] | None = None
    # Definition: what makes it, to be copied.
    copy: CopyWord = CopyWord.CURL
    # Backfills: what is to be counted.
    since: Text = ""
    until: Text = ""
    rate: Text = ""


class Seen(Struct, frozen=True, kw_only=True):
    """What a tab is made for."""

    request: ApiRequest
    query: ShowQuery
    # None: it is deleted.
    shown: ShownSchedule | None
    # On whose wall moments are shown, and read.
    zone: tzinfo

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def schedule(self) -> Schedule:
        """Of a tab that a deleted one does not have."""
        if self.shown is None:
            raise AssertionError(f"schedule {self.id} is deleted")
        return self.shown.listed.schedule

    def url(self, **changes: Any) -> str:
        """The page as it is now, but for the changes."""
        values = {name: getattr(self.query, name) for name in self.query.__struct_fields__} | changes
        for name, usual in (("tab", Tab.OVERVIEW), ("copy", CopyWord.CURL)):
            values[name] = "" if values[name] is usual else values[name]
        return url(PATH, self.id, **values)
