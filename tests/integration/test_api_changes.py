"""The audit log over HTTP: each thing that somebody can change leaves its row, and no row ever holds a secret."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from schedule_zero.clock import rfc3339
from schedule_zero.model import Node, NodeOperation, NodeState, OperationKind
from schedule_zero.rules.change_log import ChangeVerb
from schedule_zero.server import Server
from schedule_zero.service.access import hash_token
from schedule_zero.state_dir import REGISTRY
from schedule_zero.store import changes, nodes
from schedule_zero.store.changes import Filter
from schedule_zero.web.api.routes import ROUTES
from tests.fuzz import values
from tests.integration.conftest import api_client, know_demo
from tests.integration.test_api_dead_letters import GROUP, put_letters
from tests.support import eventually

pytestmark = pytest.mark.anyio

NIGHTLY = {"handler_id": "demo", "job_method": "noop", "trigger": {"type": "cron", "expression": "0 2 * * *"}}
ECHO = {"handler_id": "demo", "job_method": "echo", "job_params": {"message": "m"}}


@pytest.fixture(autouse=True)
def known(server: Server) -> None:
    know_demo(server)


async def sent(api: httpx.AsyncClient, method: str, path: str, body: Any = None, **headers: str) -> Any:
    answer = await api.request(method, path, json=body, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code < 300, answer.text
    return answer.json()


async def rows(api: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await api.get("/api/changes", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["records"])


class World:
    """A server, and who talks to it."""

    def __init__(self, server: Server, api: httpx.AsyncClient) -> None:
        self.server = server
        self.api = api

    async def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return await sent(self.api, "POST", path, body, **headers)

    async def nightly(self) -> None:
        await sent(self.api, "PUT", "/api/schedules/nightly", NIGHTLY)

    async def node(self) -> None:
        await self.post("/api/jobs/claim", {"bot_id": "n1", "operations": ["demo.noop"], "wait_s": 0})

    async def waiting(self, count: int = 1) -> list[str]:
        return list((await self.post("/api/executions", {"executions": [ECHO] * count}))["ids"])


# A deed: does it, and says what its row is to have: subject, before, after (those keys of them), count.
Expected = tuple[str, dict[str, Any] | None, dict[str, Any] | None, int]
Doing = Callable[[World], Awaitable[Expected]]
DEEDS: dict[ChangeVerb, Doing] = {}
# What nobody asks for over HTTP: see the tests by those names.
BY_THE_SERVER = {ChangeVerb.NODE_QUARANTINED, ChangeVerb.SCHEDULE_QUARANTINED, ChangeVerb.REGISTRY_RELOADED}


def leaves(verb: ChangeVerb) -> Callable[[Doing], Doing]:
    def keep(doing: Doing) -> Doing:
        DEEDS[verb] = doing
        return doing

    return keep


# --- schedules ----------------------------------------------------------------------------------------


@leaves(ChangeVerb.SCHEDULE_CREATED)
async def create(world: World) -> Expected:
    await world.post("/api/schedules", {"id": "nightly", **NIGHTLY})
    return "nightly", None, {"version": 1, "handler_id": "demo", "job_method": "noop", "state": "active"}, 1


@leaves(ChangeVerb.SCHEDULE_UPDATED)
async def patch(world: World) -> Expected:
    await world.nightly()
    await sent(world.api, "PATCH", "/api/schedules/nightly", {"note": "why"})
    return "nightly", {"version": 1, "note": None}, {"version": 2, "note": "why"}, 1


@leaves(ChangeVerb.SCHEDULE_DELETED)
async def delete(world: World) -> Expected:
    await world.nightly()
    await sent(world.api, "DELETE", "/api/schedules/nightly")
    return "nightly", {"version": 1, "handler_id": "demo"}, None, 1


@leaves(ChangeVerb.SCHEDULE_PAUSED)
async def pause(world: World) -> Expected:
    await world.nightly()
    await world.post("/api/schedules/nightly/pause", {"until": "2099-01-01T00:00:00Z", "note": "disk"})
    after = {"version": 2, "state": "paused", "note": "disk", "paused_until": "2099-01-01T00:00:00.000000Z"}
    return "nightly", {"version": 1, "state": "active", "note": None, "paused_until": None}, after, 1


@leaves(ChangeVerb.SCHEDULE_RESUMED)
async def resume(world: World) -> Expected:
    await pause(world)
    await world.post("/api/schedules/nightly/resume")
    return "nightly", {"version": 2, "state": "paused"}, {"version": 3, "state": "active", "note": None}, 1


@leaves(ChangeVerb.SCHEDULE_SKIPS_SET)
async def skip(world: World) -> Expected:
    await world.nightly()
    shown = await world.post("/api/schedules/nightly/skip", {"count": 1})
    return "nightly", {"version": 1, "skips": []}, {"version": 2, "skips": shown["skips"]}, 1


@leaves(ChangeVerb.SCHEDULE_RUN_NOW)
async def run_now(world: World) -> Expected:
    await world.nightly()
    made = await world.post("/api/schedules/nightly/run")
    return "nightly", None, {"execution_id": made["execution_id"]}, 1


async def backfill(world: World) -> dict[str, Any]:
    await world.nightly()
    now = datetime.now(UTC)
    body = {"from": (now - timedelta(days=3)).isoformat(), "to": now.isoformat(), "rate_per_s": 0.001}
    return dict(await world.post("/api/schedules/nightly/backfill", body))


@leaves(ChangeVerb.SCHEDULE_BACKFILLED)
async def backfilled(world: World) -> Expected:
    begun = await backfill(world)
    return "nightly", None, {"backfill_id": begun["id"], "total": 3, "rate_per_s": 0.001}, 3


@leaves(ChangeVerb.SCHEDULE_BACKFILL_CANCELLED)
async def backfill_cancelled(world: World) -> Expected:
    begun = await backfill(world)
    await world.post(f"/api/backfills/{begun['id']}/cancel")
    return "nightly", {"state": "running"}, {"backfill_id": begun["id"], "state": "cancelled"}, 1


@leaves(ChangeVerb.SCHEDULES_FROZEN)
async def freeze(world: World) -> Expected:
    frozen = await world.post("/api/freeze", {"note": "upgrade"})
    return frozen["id"], None, {"from": frozen["from"], "to": None, "by": "admin"}, 1


@leaves(ChangeVerb.SCHEDULES_THAWED)
async def thaw(world: World) -> Expected:
    await freeze(world)
    thawed = await world.post("/api/thaw", {"catch_up": "none"})
    return thawed["id"], {"to": None, "catch_up": None}, {"to": thawed["to"], "catch_up": "none"}, 1


# --- calendars ----------------------------------------------------------------------------------------


@leaves(ChangeVerb.CALENDAR_CREATED)
async def create_calendar(world: World) -> Expected:
    await world.post("/api/calendars", {"name": "rest", "weekly": [{"days": ["SAT"]}]})
    return "rest", None, {"version": 1, "weekly": [{"days": ["SAT"]}]}, 1


@leaves(ChangeVerb.CALENDAR_UPDATED)
async def put_calendar(world: World) -> Expected:
    await create_calendar(world)
    await sent(world.api, "PUT", "/api/calendars/rest", {"weekly": [{"days": ["SUN"]}]})
    before, after = [{"days": ["SAT"]}], [{"days": ["SUN"]}]
    return "rest", {"version": 1, "weekly": before}, {"version": 2, "weekly": after}, 1


@leaves(ChangeVerb.CALENDAR_DELETED)
async def delete_calendar(world: World) -> Expected:
    await create_calendar(world)
    await sent(world.api, "DELETE", "/api/calendars/rest")
    return "rest", {"version": 1, "weekly": [{"days": ["SAT"]}]}, None, 1


# --- executions ---------------------------------------------------------------------------------------


@leaves(ChangeVerb.EXECUTION_CANCELLED)
async def cancel(world: World) -> Expected:
    [id_] = await world.waiting()
    await world.post(f"/api/executions/{id_}/cancel")
    return id_, {"state": "pending"}, {"state": "cancelled"}, 1


@leaves(ChangeVerb.EXECUTION_RETRIED)
async def retry(world: World) -> Expected:
    [old] = await put_letters(world.server, 1, method="noop")
    made = await world.post(f"/api/executions/{old}/retry")
    return old, None, {"state": "failed", "execution_id": made["id"]}, 1


@leaves(ChangeVerb.EXECUTION_CLEARED)
async def clear(world: World) -> Expected:
    await put_letters(world.server, 3)
    assert (await world.post("/api/executions/clear", {"before": "2099-01-01T00:00:00Z"}))["cleared"] == 3
    [row] = await rows(world.api, verb="execution.cleared")
    return row["subject"], None, {"before": "2099-01-01T00:00:00.000000Z"}, 3


async def retry_all(world: World) -> str:
    """Two executions that are over are to be run again, all that a search finds; the batch's id."""
    await world.post("/api/executions/cancel", {"ids": await world.waiting(2)})
    return str((await world.post("/api/executions/retry", {"q": "job:demo.echo"}))["id"])


@leaves(ChangeVerb.BATCH_CREATED)
async def begin_batch(world: World) -> Expected:
    return await retry_all(world), None, {"kind": "retry", "total": 2, "asked": {"q": "job:demo.echo"}}, 1


@leaves(ChangeVerb.BATCH_CANCELLED)
async def stop_batch(world: World) -> Expected:
    # Its loop would end it before anybody could.
    await world.server._end("batches")
    batch_id = await retry_all(world)
    await world.post(f"/api/batches/{batch_id}/cancel", {})
    return batch_id, None, {"kind": "retry", "total": 2, "done": 0}, 1


VIEW = {"page": "executions", "name": "failures", "query": "state:failed"}


@leaves(ChangeVerb.VIEW_SAVED)
async def save_view(world: World) -> Expected:
    made = await world.post("/api/views", VIEW)
    return made["id"], None, VIEW, 1


@leaves(ChangeVerb.VIEW_DELETED)
async def delete_view(world: World) -> Expected:
    made = await world.post("/api/views", VIEW)
    await sent(world.api, "DELETE", f"/api/views/{made['id']}")
    return made["id"], VIEW, None, 1


@leaves(ChangeVerb.GROUP_CANCELLED)
async def cancel_group(world: World) -> Expected:
    made = await world.post("/api/groups", {**ECHO, "shards": 3})
    await world.post(f"/api/groups/{made['id']}/cancel")
    return made["id"], None, {"ids": made["execution_ids"]}, 3


@leaves(ChangeVerb.DEAD_LETTERS_REQUEUED)
async def requeue(world: World) -> Expected:
    old = await put_letters(world.server, 2, method="echo")
    made = await world.post("/api/dead-letters/requeue", {"ids": old, "job_params_patch": {"message": "secret"}})
    return made["id"], None, {"ids": old, "executions": made["ids"], "edited": ["patch"]}, 2


@leaves(ChangeVerb.DEAD_LETTERS_DISCARDED)
async def discard(world: World) -> Expected:
    await put_letters(world.server, 3)
    await world.post("/api/dead-letters/discard", {"group": GROUP})
    [row] = await rows(world.api, verb="dead_letters.discarded")
    return row["subject"], None, {"dead_letter": GROUP}, 3


@leaves(ChangeVerb.DEAD_LETTERS_RESTORED)
async def restore(world: World) -> Expected:
    old = await put_letters(world.server, 2)
    await world.post("/api/dead-letters/discard", {"group": GROUP})
    [row] = await rows(world.api, verb="dead_letters.discarded")
    answer = await world.api.post(f"/discards/{row['subject']}/undo", data={})
    assert answer.status_code == 303, answer.text
    return row["subject"], None, {"ids": old}, 2


async def begin_requeue(world: World) -> dict[str, Any]:
    await put_letters(world.server, 4)
    return dict(await world.post("/api/dead-letters/requeue", {"group": GROUP, "rate_per_s": 0.001}))


@leaves(ChangeVerb.REQUEUE_CREATED)
async def requeue_created(world: World) -> Expected:
    begun = await begin_requeue(world)
    return begun["id"], None, {"dead_letter": GROUP, "total": 4, "rate_per_s": 0.001, "edited": []}, 4


@leaves(ChangeVerb.REQUEUE_CANCELLED)
async def requeue_cancelled(world: World) -> Expected:
    begun = await begin_requeue(world)
    await world.post(f"/api/requeues/{begun['id']}/cancel")
    return begun["id"], {"state": "running"}, {"state": "cancelled"}, 1


# --- nodes, access ------------------------------------------------------------------------------------


@leaves(ChangeVerb.NODE_CORDONED)
async def cordon(world: World) -> Expected:
    await world.node()
    await world.post("/api/nodes/n1/cordon", {"note": "new disk"})
    return "n1", None, {"kind": "cordon", "note": "new disk", "by": "admin", "until": None}, 1


@leaves(ChangeVerb.NODE_DRAINED)
async def drain(world: World) -> Expected:
    await cordon(world)
    shown = await world.post("/api/nodes/n1/drain", {"deadline_s": 60})
    return "n1", {"kind": "cordon"}, {"kind": "drain", "until": shown["operation"]["until"]}, 1


@leaves(ChangeVerb.NODE_RELEASED)
async def release(world: World) -> Expected:
    await cordon(world)
    await world.post("/api/nodes/n1/release", {"note": "done"})
    return "n1", {"kind": "cordon", "note": "new disk"}, None, 1


@leaves(ChangeVerb.TOKEN_CREATED)
async def create_token(world: World) -> Expected:
    made = await world.post("/api/tokens", {"name": "ci", "role": "viewer"})
    return made["id"], None, {"name": "ci", "role": "viewer", "expires": None}, 1


@leaves(ChangeVerb.TOKEN_REVOKED)
async def revoke_token(world: World) -> Expected:
    made = await world.post("/api/tokens", {"name": "ci", "role": "viewer"})
    await sent(world.api, "DELETE", f"/api/tokens/{made['id']}")
    return made["id"], {"name": "ci", "role": "viewer"}, None, 1


async def signed_in(world: World) -> str:
    """A browser signs in; its session's id."""
    link = (await world.post("/api/login-links", {"role": "viewer"}))["path"].partition("t=")[2]
    answer = await world.api.post("/login", data={"link": link}, headers={"User-Agent": "Firefox"})
    assert answer.status_code == 303
    world.api.cookies.clear()
    return world.server.service.sessions.sessions()[0].id


@leaves(ChangeVerb.SESSION_LINK_CREATED)
async def make_a_sign_in_link(world: World) -> Expected:
    made = await world.post("/api/login-links", {"role": "operator"})
    secret = made["path"].partition("t=")[2]
    row = (await rows(world.api, noun="session"))[0]
    assert secret not in json.dumps(row)
    return row["subject"], None, {"role": "operator"}, 1


@leaves(ChangeVerb.SESSION_CREATED)
async def sign_in(world: World) -> Expected:
    return await signed_in(world), None, {"role": "viewer", "agent": "Firefox"}, 1


@leaves(ChangeVerb.SESSION_ENDED)
async def end_session(world: World) -> Expected:
    session_id = await signed_in(world)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.api.post(f"/sessions/{session_id}/end", headers=form)
    assert answer.status_code == 303
    return session_id, {"role": "viewer", "agent": "Firefox"}, None, 1


@leaves(ChangeVerb.NODE_KEY_CREATED)
async def create_node_key(world: World) -> Expected:
    made = await world.post("/api/node-keys", {"node_id": "n1", "handlers": ["demo"]})
    return made["id"], None, {"node_id": "n1", "handlers": ["demo"]}, 1


@leaves(ChangeVerb.NODE_KEY_REVOKED)
async def revoke_node_key(world: World) -> Expected:
    made = await world.post("/api/node-keys", {"node_id": "n1", "handlers": ["demo"]})
    await sent(world.api, "DELETE", f"/api/node-keys/{made['id']}")
    return made["id"], {"node_id": "n1", "handlers": ["demo"]}, None, 1


def part(document: dict[str, Any] | None, keys: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a document was expected of it."""
    if document is None or keys is None:
        return document
    return {name: document.get(name, "is not there") for name in keys}


@pytest.mark.parametrize("verb", DEEDS)
async def test_a_change_leaves_its_row_with_who_and_from_where(verb, server, api):
    api.headers["X-Request-Id"] = "the-request"

    subject, before, after, count = await DEEDS[verb](World(server, api))

    [own] = (await api.get("/api/tokens")).json()["tokens"][-1:]
    [row] = await rows(api, verb=verb.value, limit=1)
    assert (row["verb"], row["noun"], row["subject"], row["count"]) == (verb, verb.noun, subject, count)
    assert (row["by"], row["token_id"], row["address"], row["request_id"]) == (
        "admin",
        own["id"],
        "127.0.0.1",
        "the-request",
    )
    assert (part(row["before"], before), part(row["after"], after)) == (before, after)
    assert await rows(api, subject=subject, limit=1) == [row]


async def test_every_verb_is_done_by_one_of_these_tests():
    assert set(DEEDS) | BY_THE_SERVER == set(ChangeVerb)


# --- what the server does -----------------------------------------------------------------------------


async def test_a_node_that_the_server_puts_into_quarantine_is_in_the_log(server, api):
    node = Node(
        node_id="n9", instance="i", epoch=1, state=NodeState.ONLINE, handlers=["demo"], slots=1, version="1", host="h",
        pid=1, identity="x", first_seen_us=1, last_seen_us=1,
    )  # fmt: skip
    operation = NodeOperation(kind=OperationKind.QUARANTINE, since_us=1, note="demo.noop fails here only")
    await server.store.write(nodes.operate, nodes.Operate(node=node, operation=operation, own=True))

    [row] = await rows(api, noun="node")

    assert (row["verb"], row["by"], row["token_id"], row["address"]) == ("node.quarantined", "server", None, None)
    assert (row["note"], row["after"]["kind"]) == ("demo.noop fails here only", "quarantine")


async def test_the_first_start_of_a_server_makes_a_token_and_says_so(api):
    [row] = await rows(api, verb="token.created")

    assert (row["by"], row["token_id"], row["after"]["name"]) == ("server", None, "admin")


async def test_a_registry_that_says_something_else_is_in_the_log_and_the_same_again_is_not(server, api):
    # It writes that file itself, each second.
    await server._end("upkeep.registry_file")
    path = server.state_dir / REGISTRY
    path.write_text("demo:\n  limits: {max_running: 3}\n", encoding="utf-8")
    for _ in range(2):
        server.reload()

    # Nobody waits for it to be stored.
    [row] = await eventually(lambda: rows(api, noun="registry"))

    assert (row["verb"], row["by"], row["subject"], row["note"]) == ("registry.reloaded", "server", REGISTRY, "SIGHUP")
    assert row["before"] == {}
    assert row["after"]["demo"]["limits"]["max_running"] == 3


# --- what is one row, and what is none ----------------------------------------------------------------


async def test_cancelling_many_is_one_row_with_the_filter_however_many_steps_it_takes(server, api, monkeypatch):
    monkeypatch.setattr("schedule_zero.service.cancel_many.STEP", 2)
    world = World(server, api)
    ids = await world.waiting(7)
    await world.post("/api/executions/cancel", {"handler_id": "demo", "dry_run": True})
    await world.post("/api/executions/cancel", {"handler_id": "demo"})
    await world.post("/api/executions/cancel", {"ids": ids})

    [row] = await rows(api, noun="execution")

    assert (row["count"], row["after"]["filter"]["handler_id"]) == (7, "demo")
    assert set(row["after"]["ids"]) < set(ids)


async def test_a_submission_a_refusal_and_a_repetition_have_no_row(server, api):
    world = World(server, api)
    already = len(await rows(api))
    await world.waiting(3)
    await world.post("/api/run_now", {**ECHO, "wait_s": 0})
    for _ in range(2):
        await world.post("/api/schedules", {"id": "nightly", **NIGHTLY}, **{"Idempotency-Key": "once"})
    assert (await api.post("/api/schedules", json={"id": "nightly", **NIGHTLY})).status_code == 409
    assert (await api.put("/api/schedules/nightly", json=NIGHTLY)).status_code == 200
    assert (await api.post("/api/nodes/nobody/cordon")).status_code in (404, 415)
    assert (await api.post("/api/executions/01jd3zq8m2x4v6t8r0p2n4m6k8/cancel", json={})).status_code == 404

    assert [row["verb"] for row in await rows(api)][: -already or None] == ["schedule.created"]


async def test_a_restored_version_says_which_it_was(server, api):
    world = World(server, api)
    await patch(world)
    await world.post("/api/schedules/nightly/restore", {"version": 1})

    [row] = await rows(api, verb="schedule.updated", limit=1)

    assert row["note"].startswith("restored from version 1 of generation ")
    assert (row["before"]["note"], row["after"]["note"]) == ("why", None)


# --- no secrets ---------------------------------------------------------------------------------------


async def test_no_row_holds_a_token_a_key_or_what_one_could_find_them_by(server, api):
    """Each route that may change something, with whatever it takes, and with marks of what is secret in the headers."""
    world, dice = World(server, api), Random(1)
    api.headers.update({"Idempotency-Key": "IDEMPOTENCY-MARK", "Cookie": "session=COOKIE-MARK"})
    secrets = {"IDEMPOTENCY-MARK", "COOKIE-MARK", (server.state_dir / "admin.token").read_text().strip()}
    secrets |= {path.read_text().strip() for path in (server.state_dir / "curve").glob("*.secret")}
    made = {}
    for role in ("worker", "viewer", "operator", "admin"):
        made[role] = await world.post("/api/tokens", {"name": f"a {role}", "role": role})
        key = await world.post("/api/node-keys", {"node_id": role, "handlers": ["demo"]})
        secrets |= {made[role]["token"], key["secret_key"]}
        await sent(api, "DELETE", f"/api/node-keys/{key['id']}")
        await sent(api, "DELETE", f"/api/tokens/{made[role]['id']}")
    done = set()
    for route in [route for route in ROUTES if route.unsafe] * 3:
        body = b""
        if route.body is not None:
            shape = dice.choice([route.body.one, route.body.many]) if hasattr(route.body, "one") else route.body
            body = msgspec.json.encode(values.right(shape, dice))
        await world.nightly()
        answer = await api.request(
            route.method,
            route.path.replace("{id}", "nightly"),
            content=body,
            headers={"Content-Type": "application/json", "Idempotency-Key": f"IDEMPOTENCY-MARK-{dice.random()}"},
        )
        assert answer.status_code != 500, (route.name, answer.text)
        done |= {route.name} if answer.status_code < 300 else set()
        secrets |= {
            answer.json()[name] for name in ("token", "secret_key") if name in answer.text and answer.is_success
        }
    # Enough of it was taken for this to say something.
    assert len(done) > 12, done
    secrets |= {hash_token(secret) for secret in secrets}

    log = (await api.get("/api/changes.jsonl")).text

    stored = await server.store.read(lambda conn: conn.exec_driver_sql("SELECT * FROM changes").fetchall())
    assert len(stored) > 30
    assert "token.revoked" in log
    assert not [secret for secret in secrets if secret in log or secret in str(stored)]


async def test_parameters_of_executions_are_never_in_it(server, api):
    world = World(server, api)
    [id_] = (await world.post("/api/executions", {**ECHO, "job_params": {"message": "PAYLOAD-MARK"}}))["ids"]
    await world.post(f"/api/executions/{id_}/cancel")
    await world.post(f"/api/executions/{id_}/retry")
    await requeue(world)

    log = (await api.get("/api/changes.jsonl")).text

    assert "execution.retried" in log
    assert "PAYLOAD-MARK" not in log
    assert '"secret"' not in log


# --- looking ------------------------------------------------------------------------------------------


async def test_pages_go_on_by_their_cursor_and_filters_narrow_them(server, api):
    for n in range(5):
        await sent(api, "PUT", f"/api/schedules/s{n}", NIGHTLY)
    whole = await rows(api, noun="schedule")
    assert [row["subject"] for row in whole] == ["s4", "s3", "s2", "s1", "s0"]

    page = (await api.get("/api/changes", params={"noun": "schedule", "limit": 3})).json()
    rest = (await api.get("/api/changes", params={"noun": "schedule", "cursor": page["next_cursor"]})).json()

    assert page["records"] + rest["records"] == whole
    assert rest["next_cursor"] is None
    assert await rows(api, by="admin", verb="schedule.created", subject="s3") == [whole[1]]
    assert await rows(api, since=whole[0]["at"], until=whole[0]["at"], noun="schedule") == [whole[0]]
    assert await rows(api, until="2001-01-01T00:00:00Z") == []


@pytest.mark.parametrize("query", [{"noun": "spoon"}, {"verb": "schedule.eaten"}, {"cursor": "x"}, {"by": "a\nb"}])
@pytest.mark.parametrize("path", ["/api/changes", "/api/changes.csv", "/api/changes.jsonl"])
async def test_a_filter_that_makes_no_sense_is_refused_by_name(api, path, query):
    answer = await api.get(path, params=query)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    [name] = query
    assert name in answer.text


async def test_an_export_has_all_rows_as_json_lines_and_as_csv(server, api, monkeypatch):
    monkeypatch.setattr("schedule_zero.service.changes.EXPORT_ROWS", 2)
    for n in range(5):
        await sent(api, "PUT", f"/api/schedules/s{n}", {**NIGHTLY, "note": "=HYPERLINK(1)"})
        await sent(api, "POST", f"/api/schedules/s{n}/pause", {"note": "=1+1"})
    whole = await rows(api, noun="schedule")

    lines = await api.get("/api/changes.jsonl", params={"noun": "schedule"})
    table = await api.get("/api/changes.csv", params={"noun": "schedule"})

    assert [json.loads(line) for line in lines.text.splitlines()] == whole
    found = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [int(row["seq"]) for row in found] == [row["seq"] for row in whole]
    assert json.loads(found[0]["after"]) == whole[0]["after"]
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert 'filename="audit-log.csv"' in table.headers["Content-Disposition"]


async def test_the_log_is_pruned_by_the_chore_of_that_name(server, api):
    [chore] = [chore for chore in server._chores() if chore.name == "changes"]
    await sent(api, "PUT", "/api/schedules/nightly", NIGHTLY)
    before = await rows(api)

    await chore.run_once()

    # Nothing is a year old.
    assert await rows(api) == before


async def test_an_operator_may_look_and_a_viewer_may_not(server, api):
    made = {}
    for role in ("viewer", "operator"):
        made[role] = (await sent(api, "POST", "/api/tokens", {"name": role, "role": role}))["token"]
    async with api_client(server, Authorization=f"Bearer {made['viewer']}") as viewer:
        assert (await viewer.get("/api/changes")).status_code == 403
        assert (await viewer.get("/api/changes.csv")).status_code == 403
    async with api_client(server, Authorization=f"Bearer {made['operator']}") as operator:
        assert (await operator.get("/api/changes")).status_code == 200
        await sent(operator, "PUT", "/api/schedules/nightly", NIGHTLY)
    [row] = await rows(api, verb="schedule.created")
    assert row["by"] == "operator"


async def test_what_is_recorded_without_a_write_of_its_own_says_who_did_it(server, api):
    principal = server.service.access.authenticate((server.state_dir / "admin.token").read_text().strip())
    await server.service.changes.record(principal, ChangeVerb.NODE_DRAINED, "n1", after={"a": 1}, note="by hand")

    page = await server.service.changes.find(Filter(limit=1))

    [row] = page.rows
    assert (row.by, row.token_id, row.note, row.after) == ("admin", principal.token_id, "by hand", b'{"a":1}')
    assert rfc3339(row.at_us) == (await rows(api, limit=1))[0]["at"]


# --- by command ---------------------------------------------------------------------------------------


async def test_the_command_lists_and_exports(server, api, command_line):
    await sent(api, "PUT", "/api/schedules/nightly", NIGHTLY)
    await sent(api, "POST", "/api/schedules/nightly/pause", {"note": "-disk"})

    listed = await command_line("changes", "--subject", "nightly")
    paged = await command_line("changes", "--limit", "1", "-o", "json")
    lines = await command_line("changes", "--noun", "schedule", "--export", "jsonl")
    table = await command_line("changes", "--verb", "schedule.paused", "--export", "csv")

    assert [done.exit_code for done in (listed, paged, lines, table)] == [0, 0, 0, 0]
    first, second, third = listed.stdout.splitlines()
    assert first.split()[:4] == ["AT", "BY", "WHAT", "SUBJECT"]
    assert 'state: "active" → "paused"' in second
    assert "schedule.created" in third
    assert json.loads(paged.stdout)["next_cursor"] is not None
    assert [json.loads(line)["verb"] for line in lines.stdout.splitlines()] == ["schedule.paused", "schedule.created"]
    [row] = csv.DictReader(io.StringIO(table.stdout))
    assert (row["verb"], json.loads(row["after"])["note"]) == ("schedule.paused", "-disk")


async def test_the_command_goes_on_looking_for_what_is_rare(server, api, command_line, monkeypatch):
    await sent(api, "PUT", "/api/schedules/nightly", NIGHTLY)
    for n in range(9):
        await sent(api, "POST", "/api/schedules/nightly/pause", {"note": str(n)})
    changes._queries.cache_clear()
    monkeypatch.setattr(changes, "SCAN_ROWS", 3)
    try:
        found = await command_line("changes", "--verb", "schedule.created", "-o", "json")
        nothing = await command_line("changes", "--verb", "schedule.deleted")
    finally:
        changes._queries.cache_clear()

    assert [row["subject"] for row in json.loads(found.stdout)["records"]] == ["nightly"]
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "no changes\n")


async def test_the_client_gives_typed_rows(server, api):
    from schedule_zero.client import AsyncClient

    await sent(api, "PUT", "/api/schedules/nightly", NIGHTLY)
    async with AsyncClient(server.addresses.http, state_dir=server.state_dir) as client:
        page = await client.changes(subject="nightly")

    [row] = page.records
    assert (row.verb, row.by, row.count, row.before) == ("schedule.created", "admin", 1, None)
    assert row.at.tzinfo is not None
