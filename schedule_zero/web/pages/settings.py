"""Settings: what is in force and who said it, how the server fares, what it is made of."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from msgspec import Meta, Struct

from schedule_zero.clock import to_us
from schedule_zero.masking import is_secret_name
from schedule_zero.service.installation import SettingInForce, StoreFigures
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import Access, allowed
from schedule_zero.web.pages import static
from schedule_zero.web.pages.render import page, part
from schedule_zero.web.pages.words import short

TABS = (
    ("/settings", "Health and backup", Access.VIEWER),
    ("/settings/configuration", "Configuration", Access.ADMIN),
    ("/settings/access", "Access", Access.ADMIN),
    ("/calendars", "Calendars", Access.VIEWER),
    ("/settings/about", "About", Access.VIEWER),
)
CHECK_WORDS = {"store": "The database takes what is written", "draining": "The server is not about to stop"}


def tabs(request: ApiRequest) -> list[tuple[str, str]]:
    """The tabs that this viewer may open: path and label."""
    return [(path, label) for path, label, access in TABS if allowed(request.principal.role, access)]


# --- health and backup ------------------------------------------------------------------------------


async def index(request: ApiRequest) -> Response:
    """How the server fares, what is worth backing up, and the switch for all schedules."""
    service, wanted = request.service, part(request)
    is_admin = allowed(request.principal.role, Access.ADMIN)
    facts: dict[str, Any] = {}
    if wanted in (None, "health"):
        ready, checks = service.system.ready()
        health = service.system.health()
        figures = await service.installation.store()
        facts |= {
            "ready": ready,
            "checks": _checks(checks),
            "health": health,
            "started_us": to_us(datetime.fromisoformat(health["started_at"])),
            "store": figures,
            "is_admin": is_admin,
        }
        if is_admin:
            facts["backup"] = _backup_commands(figures, str(service.installation.state_dir))
    if wanted in (None, "loops"):
        facts["loops"] = service.installation.loops()
    if wanted in (None, "freeze"):
        current, freezes = await service.freezes.all()
        facts |= {"frozen": current, "freezes": freezes[:5]}
    if wanted is None and is_admin:
        facts["kept"] = [one for one in service.installation.settings() if one.path.startswith("retention.")]
        facts["kept_words"] = {one.path: _kept(one) for one in facts["kept"]}
        facts["meaning"] = await _meanings()
    return page(
        request,
        "settings_health.html",
        title="Settings",
        tabs=tabs(request),
        topics=["schedules"],
        **facts,
    )


def _checks(found: Mapping[str, str | None]) -> list[tuple[str, str | None]]:
    """What has to be so for the server to do its work, and why it isn't; all loops are one of them."""
    loops = {name.removeprefix("loop."): trouble for name, trouble in found.items() if name.startswith("loop.")}
    checks = [(CHECK_WORDS.get(name, name), trouble) for name, trouble in found.items() if not name.startswith("loop.")]
    dead = "; ".join(f"{name}: {trouble}" for name, trouble in loops.items() if trouble is not None)
    return [*checks, (f"All {len(loops)} loops run", dead or None)]


def _backup_commands(figures: StoreFigures, state_dir: str) -> str:
    """What copies the database while the server runs, and what else has to be kept."""
    folder = shlex.quote(state_dir)
    if figures.dialect == "sqlite":
        where = shlex.quote(figures.where.removeprefix("the database "))
        copy = f"sqlite3 {where} \".backup 'schedule_zero-$(date +%F).db'\""
    else:
        copy = 'pg_dump --format=custom --file="schedule_zero-$(date +%F).dump" "$DATABASE"'
    # As private as what it is a copy of; in a shell of its own, so that whoever pastes it keeps his mask.
    return f"(umask 077; {copy})\ncp -a {folder}/admin.token {folder}/curve ."


def _kept(one: SettingInForce) -> str:
    """A bound in words."""
    if isinstance(one.value, bool):
        return "yes" if one.value else "no"
    if not one.value:
        return "no limit"
    return short(one.value) if one.path.endswith("_s") else f"{one.value:,}"


# --- configuration ------------------------------------------------------------------------------------


class ConfigurationQuery(Struct, frozen=True, forbid_unknown_fields=True):
    # Part of a name or of what it means.
    q: Annotated[str, Meta(max_length=100)] = ""
    # Only what somebody said.
    changed: bool = False


async def configuration(request: ApiRequest) -> Response:
    """Every setting in force, who said it, and what it means."""
    query: ConfigurationQuery = request.query
    meanings = await _meanings()
    words = query.q.lower().split()
    sections: dict[str, list[SettingInForce]] = {}
    everything = request.service.installation.settings()
    for one in everything:
        text = f"{one.path} {meanings.get(one.path, '')}".lower()
        said = one.said.source.value != "default"
        if all(word in text for word in words) and (said or not query.changed):
            sections.setdefault(one.path.rpartition(".")[0] or "general", []).append(one)
    return page(
        request,
        "settings_configuration.html",
        title="Configuration",
        tabs=tabs(request),
        sections=sections,
        meaning=meanings,
        total=len(everything),
        shown=sum(map(len, sections.values())),
        query=query,
        value_text=_value_text,
    )


def _value_text(one: SettingInForce) -> str:
    """As config.yaml would say it."""
    if is_secret_name(one.path):
        return "***"
    return json.dumps(one.value, ensure_ascii=False)


async def _meanings() -> dict[str, Any]:
    """What each setting means, from the reference that comes with the package."""
    from schedule_zero.web.pages import docs_markdown

    return docs_markdown.setting_meanings()


# --- about ----------------------------------------------------------------------------------------------


class Package(Struct, frozen=True):
    """Files of others that pages are made with."""

    name: str
    version: str
    licence: str
    used_for: str
    licence_text: str


@cache
def _packages() -> list[Package]:
    vendor = static.FOLDER / "vendor"
    listed = tomllib.loads((vendor / "vendor.toml").read_text(encoding="utf-8"))["package"]
    packages = []
    for one in listed:
        text = vendor / f"{one['name']}-{one['version']}" / "LICENSE"
        packages.append(
            Package(
                one["npm"],
                one["version"],
                one["licence"],
                one["used_for"],
                text.read_text(encoding="utf-8") if text.is_file() else "",
            )
        )
    return packages


async def about(request: ApiRequest) -> Response:
    """Which versions of what this is."""
    return page(
        request,
        "settings_about.html",
        title="About",
        tabs=tabs(request),
        versions=request.service.installation.versions(),
        packages=_packages(),
        description=request.config.description,
        contact=request.config.admin_contact,
    )
