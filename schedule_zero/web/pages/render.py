"""From a page's facts to the response: one template makes the whole page and, for htmx, the part that is asked for.

A part is a *block*: what stands inside the element that htmx names as its target, without that element, so that its
attributes stay. ``<section id="rows" …>{% block rows %}…{% endblock %}</section>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextvars import ContextVar
from datetime import tzinfo
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from schedule_zero.clock import SystemClock
from schedule_zero.errors import ScheduleZeroError
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.routing import Access, allowed
from schedule_zero.web.guard import XSRF_FIELD
from schedule_zero.web.pages import static, words
from schedule_zero.web.pages.charts import sparkline
from schedule_zero.web.pages.days import WEEKDAYS
from schedule_zero.web.pages.preferences import Preferences, preferences

# A term of a search that needs no quotes.
_PLAIN = re.compile(r"[\w.:@/,*-]+")
TEMPLATES = Path(__file__).parent.parent / "templates"
HTML = "text/html; charset=utf-8"
CLOCK = SystemClock()

# The request whose page is being rendered: what macros ask for moments in the viewer's zone, roles and forms. Rendering
# never waits, so that it is set and unset in one go.
_now_rendered: ContextVar[View] = ContextVar("view")


class View(Struct, frozen=True, kw_only=True):
    """Who looks, and how he wants to see it."""

    request: ApiRequest
    now_us: int
    preferences: Preferences

    @classmethod
    def of(cls, request: ApiRequest) -> View:
        return cls(request=request, now_us=CLOCK.wall_us(), preferences=preferences(request.headers))


def url(path: str, *ids: str, **query: object) -> str:
    """``url("/schedules", id, "pause", q="a b")``: ids and values escaped; None, False and "" leave a parameter out."""
    whole = "/".join([path, *(quote(one, safe="") for one in ids)])
    pairs = [(key, value) for key, value in query.items() if value not in (None, "", False)]
    return f"{whole}?{urlencode(pairs, doseq=True)}" if pairs else whole


def search(**terms: str | None) -> str:
    """The list of executions that a search finds: ``search(handler="etl", state="failed")``."""
    said = [f"{name}:{_quoted(value)}" for name, value in terms.items() if value]
    return url("/executions", q=" ".join(said))


def _quoted(value: str) -> str:
    plain = _PLAIN.fullmatch(value)
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def part(request: ApiRequest) -> str | None:
    """The id of the element that htmx wants filled, if it is a part of the page."""
    headers = request.headers
    if headers.get("HX-Request") != "true" or headers.get("HX-Request-Type") == "full":
        return None
    return headers.get("HX-Target", "").partition("#")[2] or None


def page(
    request: ApiRequest,
    template: str,
    *,
    title: str,
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = (),
    **facts: Any,
) -> Response:
    """The page, or the block that htmx asks for.

    ``title`` is what the tab is called. Facts are the template's variables; it also gets those of ``shell``.
    """
    from schedule_zero.web.pages.shell import shell

    view = View.of(request)
    found = environment().get_template(template)
    facts = {**shell(view, title), **facts}
    block = part(request)
    before = _now_rendered.set(view)
    try:
        if block is not None and block in found.blocks:
            text = f"<title>{Markup.escape(facts['tab_title'])}</title>" + "".join(
                found.blocks[block](found.new_context(facts))
            )
        else:
            text = found.render(facts)
    finally:
        _now_rendered.reset(before)
    return Response(text.encode(), status=status, headers=headers, content_type=HTML, compress=True)


def done(request: ApiRequest, text: str, *, to: str, undo: str | None = None, go: bool = False) -> Response:
    """A form was obeyed: ``text`` says what happened, ``undo`` is the form that takes it back.

    htmx stays where it is and shows the text, or with ``go`` goes to ``to``. Without JavaScript one goes there, too.
    """
    if request.headers.get("HX-Request") != "true":
        return Response(status=303, headers=(("Location", to),), content_type=HTML)
    said = {"sz:done": {"text": text, **({"undo": undo} if undo else {})}}
    if go:
        # The next page shows it.
        said["sz:done"]["later"] = "true"
        return Response(status=200, headers=(("HX-Trigger", json.dumps(said)), ("HX-Redirect", to)), content_type=HTML)
    return Response(status=204, headers=(("HX-Trigger", json.dumps(said)),), content_type=HTML)


# --- what templates may ask for -----------------------------------------------------------------------


def _view() -> View:
    return _now_rendered.get()


def at(us: int | None, zone: tzinfo | None = None) -> Markup:
    """A moment, in the zone that the viewer wants; ``zone`` is its schedule's."""
    view = _view()
    return words.moment(us, view.now_us, view.preferences, zone)


def until(us: int | None, zone: tzinfo | None = None) -> Markup:
    """A countdown to a moment, or how long it is ago."""
    view = _view()
    return words.countdown(us, view.now_us, view.preferences, zone)


def can(access: str) -> bool:
    """Whether the viewer's role allows what is for ``viewer``, ``operator`` or ``admin``."""
    caller = _view().request.caller
    return caller is not None and allowed(caller.role, Access(access))


def xsrf() -> Markup:
    """The hidden field that each form needs which changes something."""
    live = _view().request.live
    return Markup('<input type="hidden" name="{}" value="{}">').format(XSRF_FIELD, live.session.xsrf if live else "")


def icon(name: str, label: str = "") -> Markup:
    """An icon of the sprite; without a label it is decoration."""
    said = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup('<svg class="icon" {}><use href="{}#i-{}"></use></svg>').format(said, _sprite(), name)


@cache
def _sprite() -> str:
    found = [path for path in static.files().by_path if path.startswith("vendor/lucide-") and path.endswith(".svg")]
    return static.files().url(found[0])


@cache
def environment() -> Environment:
    """Made when the first page is asked for. Everything is escaped; a name that isn't there is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    shared: dict[str, Callable[..., Any]] = {
        "at": at,
        "until": until,
        "can": can,
        "xsrf": xsrf,
        "icon": icon,
        "url": url,
        "static": static.files().url,
        "vendored": vendored,
        "tag": words.tag,
        "duration": words.duration,
        "between": words.between,
        "plural": words.plural,
        "search": search,
        "relative": words.relative,
        "sparkline": sparkline,
    }
    env.globals.update(shared, weekdays=WEEKDAYS)
    filters: dict[str, Callable[..., Any]] = {
        "count": words.count,
        "size": words.size,
        "json_text": words.json_text,
        "short": words.short,
        "sentence": words.sentence,
        "visible": words.visible,
    }
    env.filters.update(filters)
    # Macros that every template may use: they ask the view, not the template, so they are made once.
    env.globals["ui"] = env.get_template("ui.html").module
    env.globals["forms"] = env.get_template("form_fields.html").module
    return env


@cache
def vendored(file: str) -> str:
    """The address of a vendored file by its name, whatever version of its package is there."""
    found = [path for path in static.files().by_path if path.startswith("vendor/") and path.endswith(f"/{file}")]
    if len(found) != 1:
        raise KeyError(f"{len(found)} vendored files are called {file!r}")
    return static.files().url(found[0])


def render_bare(template: str, request_headers: Any, **facts: Any) -> bytes:
    """A page without a viewer: signing in, errors."""
    wanted = preferences(request_headers)
    return environment().get_template(template).render(theme=wanted.theme, **facts).encode()


def message_of(error: ScheduleZeroError) -> str:
    """What a person reads of an error."""
    return f"{error.message}. {error.hint}" if error.hint else error.message
