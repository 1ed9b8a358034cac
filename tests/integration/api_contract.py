"""What generated requests need: the document, what a schema can't say, and a server that answers them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.checks import (
    allow_header_conformance,
    ignored_auth,
    positive_data_acceptance,
    unsupported_method,
)

from schedule_zero.config import HttpConfig
from schedule_zero.server import Server
from schedule_zero.web.api.openapi import document
from tests.integration.conftest import with_config

# An event stream has no end; tests/integration/test_api_events.py reads it.
schema = schemathesis.openapi.from_dict(document()).exclude(path="/api/events")

# What a schema can't say: that a trigger makes sense, that of two names for one thing only one is given, that an
# entity tag stands in quotes, that an integer is not written 1.0.
MORE_THAN_A_SCHEMA = {
    "compat_schedule", "compat_run_now", "schedules_create", "schedules_put", "schedules_restore",
    "schedules_patch", "schedules_delete", "schedules_skip",
    "jobs_claim", "jobs_heartbeat", "jobs_result",
    "triggers_preview", "executions_submit", "executions_search",
    # … that a cursor is one that a page came with, that a log is read from a line on or from its end.
    "logs_read", "schedules_search", "schedules_fires", "schedules_all_fires", "backfills_search",
    # … that a moment has to lie ahead, or back.
    "schedules_pause", "freezes_freeze", "backfills_begin", "foresight_forecast", "ledger_audit", "ledger_versions",
    "series_read",
    # … that a date and time lies before the year 9999.
    "ledger_explain",
    # … that a country exists, or a text is an iCalendar file.
    "calendars_create", "calendars_put", "calendars_delete", "calendars_import_ical", "calendars_windows",
    "calendars_versions", "calendars_check", "calendars_show",
    # … that a search is one, and a zone is known.
    "search_histogram", "search_export", "batches_retry_many", "views_save",
    # … that of several names at least one is given, and not as null.
    "executions_cancel_many", "dead_letters_requeue", "dead_letters_discard", "dead_letters_executions",
    # … that a method is one of a handler, that a group is either broadcast or in parts.
    "dead_letters_search", "groups_create",
    # … that only the role worker is bound, that something is sent: a line, a byte.
    "access_create_token", "jobs_log", "jobs_result_part",
    # … that a noun is one that there is.
    "changes_search", "changes_as_csv", "changes_as_json_lines",
}  # fmt: skip
# A schedule may be called "delete", so that its path takes GET and the others as well.
MORE_METHODS = {"schedules_delete_many"}


class Live:
    """A server in a thread of its own: schemathesis sends its requests from this one."""

    def __init__(self, server: Server, url: str, token: str) -> None:
        self.server = server
        self.url = url
        self.token = token


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state_dir = tmp_path_factory.mktemp("server")
    started = threading.Event()
    made: list[Live] = []
    failed: list[BaseException] = []
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        server = Server(with_config(http=HttpConfig(port=0, max_wait_s=0.01)), state_dir)
        addresses = await server.start()
        loops.append(asyncio.get_running_loop())
        made.append(Live(server, addresses.http, (state_dir / "admin.token").read_text().strip()))
        started.set()
        await stop.wait()
        await server.stop(5)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    started.wait(30)
    if failed:
        raise failed[0]
    yield made[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(30)


def check(case: Any, live: Live) -> None:
    """Send it; AssertionError (of several at once) unless the answer is one that the document announces."""
    operation = case.operation.definition.raw["operationId"]
    excluded = [ignored_auth]
    if operation in MORE_THAN_A_SCHEMA:
        excluded.append(positive_data_acceptance)
    if operation in MORE_METHODS:
        excluded += [unsupported_method, allow_header_conformance]
    case.call_and_validate(
        base_url=live.url, headers={"Authorization": f"Bearer {live.token}"}, excluded_checks=excluded
    )
