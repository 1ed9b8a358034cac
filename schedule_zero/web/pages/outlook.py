"""What a schedule's form comes to, told while it is typed: words, next times, traps, what is still wrong.

It asks the service what it would do, and stores nothing. Beside it stands the same as text, to be copied.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup
from msgspec import Struct

from schedule_zero.clock import from_us, rfc3339
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.service.schedules import UNNAMED
from schedule_zero.timing.previews import Preview, PreviewTime
from schedule_zero.web.api.request import ApiRequest
from schedule_zero.web.pages.copy_as import LABELS, CopyText, copy_as
from schedule_zero.web.pages.job_form import base_url
from schedule_zero.web.pages.schedule_form import Draft, add_error, preview_spec
from schedule_zero.web.pages.words import zone_name

FIRES = 10
MARKS = {
    "dst_gap": "made up for: the clock is put forward",
    "dst_fold": "comes twice: the clock is put back",
    "shifted": "moved to a business day",
    "holiday": "skipped",
    "blackout": "skipped",
}


class FireToCome(Struct, kw_only=True):
    """One nominal time as it is shown."""

    time: Markup
    at_us: int
    # What is special about it.
    notes: list[str]
    skipped: bool


class Outlook(Struct, kw_only=True):
    """What stands beside the form."""

    words: str = ""
    zone: str = ""
    fires: list[FireToCome] = []
    left_out: list[str] = []
    warnings: list[str] = []
    # Why there is no preview.
    refused: str = ""
    text: CopyText | None = None


async def outlook(request: ApiRequest, draft: Draft, *, replaces: bool, copy_key: str) -> Outlook:
    """``draft`` gets the errors that the service finds."""
    shown = Outlook()
    spec = preview_spec(draft, FIRES)
    if spec is not None:
        try:
            preview = await request.service.schedules.preview(spec)
            _tell(shown, preview, request.service.schedules.now_us())
            if not spec.id and f"H chosen by {UNNAMED!r}" in preview.words:
                shown.warnings = [*shown.warnings, "H is chosen by the schedule's name: its times will be others"]
        except ScheduleZeroError as error:
            shown.refused = f"{error.message}; {error.hint}" if error.hint else error.message
            add_error(draft, error)
    if draft.spec is not None and not draft.errors:
        try:
            await request.service.schedules.check(request.principal, draft.spec, replaces=replaces)
        except ScheduleZeroError as error:
            add_error(draft, error)
    if draft.spec is not None:
        texts = copy_as(draft.spec, base_url(request))
        shown.text = next((one for one in texts if one.key == copy_key), texts[0])
    return shown


def copy_choices() -> list[tuple[str, str]]:
    return list(LABELS.items())


def _tell(shown: Outlook, preview: Preview, now_us: int) -> None:
    shown.words, shown.zone, shown.warnings = preview.words, preview.zone, preview.warnings
    year = from_us(now_us).astimezone(ZoneInfo(preview.zone)).year
    shown.fires = [_fire(time, preview.zone, year) for time in preview.times]
    shown.left_out = [_wall(datetime.fromisoformat(one.local), year) for one in preview.left_out]


def _fire(time: PreviewTime, zone: str, year: int) -> FireToCome:
    local = from_us(time.at_us).astimezone(ZoneInfo(zone))
    notes = [MARKS.get(mark, mark) for mark in time.marks]
    return FireToCome(
        time=Markup('<time datetime="{}">{} {}</time>').format(
            rfc3339(time.at_us), _wall(local, year), zone_name(local)
        ),
        at_us=time.at_us,
        notes=[f"{', '.join(notes)}: {time.detail}"] if time.detail else notes,
        skipped=time.detail is not None,
    )


def _wall(local: datetime, year: int) -> str:
    """``Mon 30 Nov 09:00:00``; with its year if that is not ``year``, and parts of a second where there are some."""
    day = f"{local:%a} {local.day} {local:%b}{'' if local.year == year else f' {local.year}'}"
    text = f"{day} {local:%H:%M:%S}"
    return f"{text}.{local.microsecond:06}".rstrip("0") if local.microsecond else text
