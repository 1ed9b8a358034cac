"""What a route is, and finding the one for a request. Deny by default: a route without an ``Access`` can't exist."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from schedule_zero.errors import BadRequest, InvalidField, MethodNotAllowed, NotFound
from schedule_zero.model import Role
from schedule_zero.web.api.request import ApiRequest, EventStream, Response
from schedule_zero.web.api.wording import NAME_WORDS

Endpoint = Callable[[ApiRequest], Awaitable[Response | EventStream]]

# The one parameter that a path may have …
PARAMETER = "{id}"
# … or the end of one, whatever stands there.
REST = "*"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,127}(?!\n)$"
# What ids of a noun look like; anything else can't exist, and never reaches the store.
_ULID, _ULID_WORDS = r"^[0-9a-hjkmnp-tv-z]{26}(?!\n)$", "26 digits and lower-case letters, without i, l, o and u"
_LETTER = r"^[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,299}(?!\n)$"
ID_PATTERNS = {"executions": _ULID, "jobs": _ULID, "dead-letters": _LETTER}
ID_WORDS = {"executions": _ULID_WORDS, "jobs": _ULID_WORDS, "dead-letters": "the id of a group of dead letters"}
API = "/api/"


class Access(StrEnum):
    """Who may call a route: a token of at least that role, or …"""

    # Runs jobs over HTTP, and sees nothing else.
    WORKER = "worker"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    # … nobody in particular when the peer is on this machine, a viewer otherwise (health probes, metrics);
    PROBE = "probe"
    # … anyone.
    PUBLIC = "public"


# What each role may call. A worker is beside the ladder: operators and admins include it, viewers do not.
_ALLOWED: dict[Role, frozenset[Access]] = {
    Role.WORKER: frozenset({Access.PUBLIC, Access.WORKER}),
    Role.VIEWER: frozenset({Access.PUBLIC, Access.PROBE, Access.VIEWER}),
    Role.OPERATOR: frozenset({Access.PUBLIC, Access.PROBE, Access.WORKER, Access.VIEWER, Access.OPERATOR}),
    Role.ADMIN: frozenset(Access),
}


def allowed(role: Role, access: Access) -> bool:
    """Whether a token of this role may call a route of this access."""
    return access in _ALLOWED[role]


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """No query parameters."""


class NoBody(Struct, frozen=True, forbid_unknown_fields=True):
    """No body, or an empty object."""


class AnyForm(Struct, frozen=True):
    """A page's form whose fields depend on data (a job method's parameters): they come as they are, in order."""

    fields: list[tuple[str, str]] = []


class OneOrMany(Struct, frozen=True):
    """A body that is one item, or an object that holds many of them under ``key``."""

    one: type[Struct]
    many: type[Struct]
    key: str


class Route(Struct, frozen=True):
    """One row of the route table."""

    method: str
    path: str
    access: Access
    endpoint: Endpoint
    summary: str
    # Success status → shape of the body: a Struct, a content type ("text/plain") or several, or None for an empty one.
    returns: dict[int, Any]
    body: Any = None
    body_required: bool = True
    query: type[Struct] = NoQuery
    # The body may be as large as http.max_body_bytes; otherwise it is bounded by http's limit for one object.
    bulk: bool = False
    # Takes an Idempotency-Key: a repetition gets the first answer.
    idempotency: bool = False
    # Request headers beside the common ones, for the documentation.
    headers: tuple[str, ...] = ()
    # Error statuses beside those that every route of its kind may answer with.
    errors: tuple[int, ...] = ()
    # It ends when its client goes: a long poll, though it is no GET.
    polls: bool = False
    # For people: HTML, also for errors; bodies are forms; who is not signed in is sent to sign in.
    page: bool = False

    @property
    def noun(self) -> str:
        """The first word after ``/api``, or of a page's path: the group in the documentation, and what an id is of.

        Whatever form it is asked for in: ``/api/changes.csv`` is of ``changes``.
        """
        parts = self.path.strip("/").split("/")
        if parts[0] == "api":
            return parts[1].partition(".")[0]
        return parts[0] if self.page else "probes"

    @property
    def id_pattern(self) -> str:
        """What the id in its path looks like."""
        return ID_PATTERNS.get(self.noun, NAME_PATTERN)

    @property
    def name(self) -> str:
        """The endpoint's module and function: unique, and stable as an operationId."""
        endpoint: Any = self.endpoint
        module = endpoint.__module__.rpartition(".")[2]
        return f"{'page_' if self.page else ''}{module}_{endpoint.__name__}"

    @property
    def unsafe(self) -> bool:
        """Whether it may change something."""
        return self.method not in ("GET", "HEAD")

    @property
    def waits(self) -> bool:
        """Whether it may be ended at any time: when its client goes, or the server stops."""
        return self.polls or not self.unsafe


class Match(Struct, frozen=True):
    """The route of a request, and the id in its path, or what the path ends with ("" where it has neither)."""

    route: Route
    id: str


class RouteTable:
    """Finds routes: whole paths by one look-up, templates by their segments, then those that end with anything."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._whole: dict[tuple[str, str], Match] = {}
        self._templates: dict[tuple[str, str, str], tuple[Route, re.Pattern[str]]] = {}
        self._prefixes: list[tuple[str, Route]] = []
        names = set()
        for route in self.routes:
            if route.name in names:
                raise ValueError(f"two routes are named {route.name}")
            names.add(route.name)
            if route.path.endswith(REST):
                self._prefixes.append((route.path.removesuffix(REST), route))
                continue
            if PARAMETER not in route.path:
                self._whole[route.method, route.path] = Match(route, "")
                continue
            before, _, after = route.path.partition(PARAMETER)
            self._templates[route.method, before, after] = (route, re.compile(route.id_pattern))
        self._methods = sorted({route.method for route in self.routes})

    def find(self, method: str, path: str) -> Match:
        """The route for a method and a path as it was sent. Raises NotFound or MethodNotAllowed (with ``allow``)."""
        # HEAD is answered as the GET that it stands for.
        wanted = "GET" if method == "HEAD" else method
        refused: NotFound | None = None
        try:
            match = self._find(wanted, path)
        except NotFound as error:
            match, refused = None, error
        if match is not None:
            return match
        allow = [other for other in self._methods if self._exists(other, path)]
        if not allow:
            hint = "the paths are listed in /api/openapi.json"
            raise refused or NotFound(f"there is nothing at {path[:200]}", hint=hint)
        if "GET" in allow:
            allow.append("HEAD")
        raise MethodNotAllowed(f"{path[:200]} takes {', '.join(allow)}, not {method[:20]}", allow=allow)

    def _find(self, method: str, path: str) -> Match | None:
        match = self._whole.get((method, path))
        if match is not None:
            return match
        before, segment, after = _split(path)
        found = self._templates.get((method, before, after))
        if found is not None and segment:
            route, pattern = found
            return Match(route, _id(segment, route, pattern))
        for prefix, route in self._prefixes:
            if route.method == method and path.startswith(prefix):
                return Match(route, path.removeprefix(prefix))
        return None

    def _exists(self, method: str, path: str) -> bool:
        try:
            return self._find(method, path) is not None
        except (BadRequest, NotFound):
            return False


def _split(path: str) -> tuple[str, str, str]:
    """A path around its id, as templates are kept; else empty.

    ``/api/<noun>/{id}`` and ``/api/<noun>/{id}/<verb>…``, and the same of pages, without ``/api``.
    """
    parts = path.split("/")
    place = 3 if path.startswith(API) else 2
    if not place < len(parts) <= place + 3:
        return "", "", ""
    after = "/".join(parts[place + 1 :])
    return "/".join(parts[:place]) + "/", parts[place], f"/{after}" if after else ""


def _id(segment: str, route: Route, pattern: re.Pattern[str]) -> str:
    try:
        text = unquote(segment, errors="strict") if "%" in segment else segment
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8, percent-encoded") from None
    if pattern.match(text) is None:
        message = f"{text[:200]!r} is no id: expected {ID_WORDS.get(route.noun, NAME_WORDS)}"
        raise InvalidField(message, parameter="id") if route.method == "PUT" else NotFound(message)
    return text
