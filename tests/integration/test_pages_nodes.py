"""The pages of nodes and handlers: what they show, whom they refuse, how little they read."""

from __future__ import annotations

import msgspec
import pytest

from schedule_zero import BaseHandler, job
from schedule_zero.config import HandlerLimits, HandlerRule
from schedule_zero.model import Handler, JobMethod, NodeState, OperationKind
from schedule_zero.store import nodes as store_nodes
from schedule_zero.web.pages import node_view
from tests.integration.pages import counted, part_of, seen, send, token_of
from tests.store.test_store_nouns import node as stored_node
from tests.support import eventually

pytestmark = pytest.mark.anyio

EVIL = "<script>alert(1)</script>"


class ShowcaseHandler(BaseHandler):
    handler_id = "showcase"

    @job(max_attempts=3, timeout_s=60)
    def load(self, customer: int, mode: str = "delta") -> None:
        """Load <script>alert(1)</script> a customer.

        Slowly.
        """

    @job(require=("gpu",))
    def train(self) -> None:
        """Train."""


SHOWCASE = f"{__name__}:ShowcaseHandler"


async def submit(api, job_method, params=None, handler_id="demo", **more):
    body = {"handler_id": handler_id, "job_method": job_method, "job_params": params or {}, **more}
    answer = await api.post("/api/executions", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"][0]


async def over(api, id_):
    answer = await api.get(f"/api/executions/{id_}", params={"wait_s": 10})
    return answer.json()["status"]


# --- nodes ------------------------------------------------------------------------------------------


async def cancel(api, *ids):
    """For the node to be able to stop at once."""
    for id_ in ids:
        assert (await api.post(f"/api/executions/{id_}/cancel")).is_success


async def test_without_nodes_the_page_says_what_a_node_is_and_how_to_start_one(api):
    text = await seen(api, "/nodes")
    assert "A node is a process that runs your jobs" in text
    assert "schedule-zero-handler" in text


async def test_a_node_shows_its_state_labels_handlers_and_load(api, start_node):
    await start_node("n1", labels={"zone": "eu"}, slots=3)

    text = await part_of(api, "/nodes", "nodes")

    for word in ("n1", "online", "zone=eu", 'href="/handlers/demo"', "0/3", "/nodes/n1/drain"):
        assert word in text


async def test_nodes_are_found_by_state_handler_label_and_words_of_their_id(api, start_node):
    await start_node("red-1", labels={"zone": "eu"})
    await start_node("blue-1", labels={"zone": "us"})
    await send(api, "/nodes/blue-1/cordon")

    async def found(**query):
        text = await part_of(api, "/nodes", "nodes", **query)
        return [name for name in ("red-1", "blue-1") if f'id="node-{name}"' in text]

    assert await found(q="RED") == ["red-1"]
    assert await found(q="zone=us") == ["blue-1"]
    assert await found(q="1 zone=eu") == ["red-1"]
    assert await found(state="out") == ["blue-1"]
    assert await found(state="online", handler="demo") == ["red-1", "blue-1"]
    assert await found(handler="other") == []
    assert "No node is like that" in await part_of(api, "/nodes", "nodes", q="green")
    assert "online" in (await api.get("/nodes", params={"state": "well"})).text
    assert (await api.get("/nodes", params={"state": "well"})).status_code == 400


async def test_five_hundred_nodes_come_in_pages_without_a_query(api, server, monkeypatch):
    view = server.dispatcher.nodes
    live = [_view(f"n{number:03}") for number in range(500)]
    monkeypatch.setattr(server.dispatcher, "nodes", lambda: [*view(), *live])

    with counted(monkeypatch, server) as queries:
        first = await api.get("/nodes", headers={"Accept-Encoding": "gzip"})
    second = await seen(api, "/nodes", after="n049")

    assert queries == [0]
    assert len(first.content) < 1_000_000
    assert 'id="node-n049"' in first.text
    assert 'id="node-n050"' not in first.text
    assert 'href="/nodes?after=n049"' in first.text
    assert 'id="node-n050"' in second
    assert "500 nodes" in second


def _view(node_id):
    return node_view.NodeView(
        node_id=node_id,
        state=NodeState.ONLINE,
        handlers=["demo"],
        slots=4,
        running=2,
        window=8,
        outbox=0,
        draining=False,
        operation=None,
        probation=False,
        heartbeat_age_s=0.5,
        round_trip_s=0.001,
        clock_skew_s=0.0,
        version="1",
        host="h",
        pid=7,
        instance="i",
        connected_us=1,
        last_seen_us=1,
        labels={"zone": "eu"},
        facts={},
    )


def test_a_clock_that_is_off_a_slow_round_trip_and_a_full_outbox_are_worth_a_warning():
    node = _view("n")
    assert node_view.warnings(node) == []
    node.clock_skew_s, node.round_trip_s, node.outbox = -2.5, 0.75, 3
    assert node_view.warnings(node) == [
        "Its clock is 2.5 s behind the server's.",
        "A heartbeat and its answer take 0.75 s.",
        "3 results on its disk, not recorded yet.",
    ]


async def test_a_nodes_page_shows_what_runs_there_with_progress_what_ran_and_what_it_serves(api, start_node):
    await start_node("n1", slots=2)
    done = await submit(api, "noop")
    assert await over(api, done) == "completed"
    running = await submit(api, "sleep", {"seconds": 60})

    async def progressed():
        text = await part_of(api, "/nodes/n1", "held")
        return text if running in text and "of 60 s" in text else ""

    held = await eventually(progressed)

    assert f'href="/executions/{running}"' in held
    assert "running" in held
    recent = await part_of(api, "/nodes/n1", "recent")
    assert done in recent
    serves = await part_of(api, "/nodes/n1", "serves")
    assert 'href="/handlers/demo?method=noop"' in serves
    assert "v1" in serves
    whole = await seen(api, "/nodes/n1")
    assert all(block in whole for block in ('id="now"', 'id="held"', 'id="serves"', 'id="recent"', 'id="history"'))
    await cancel(api, running)


async def test_a_nodes_history_says_who_did_what_and_why_and_outlives_the_journal(api, start_node, server):
    await start_node("n1")
    await send(api, "/nodes/n1/operate", what="drain", note=f"new disk {EVIL}", deadline_min="5")
    await send(api, "/nodes/n1/release")

    text = await part_of(api, "/nodes/n1", "history")

    places = [text.index(word) for word in ("released", "drained", "connected")]
    assert places == sorted(places)
    assert "admin" in text
    assert "until" in text
    assert EVIL not in text
    assert "new disk &lt;script&gt;" in text


@pytest.mark.parametrize("what", ["cordon", "drain", "quarantine"])
async def test_a_node_is_taken_out_of_service_with_a_reason_and_the_undo_brings_it_back(api, start_node, server, what):
    await start_node("n1")
    await start_node("n2")

    said = await send(api, "/nodes/n1/operate", what=what, note="new disk")

    operation = server.dispatcher.node("n1").operation
    assert (operation.kind, operation.note, operation.by) == (OperationKind(what), "new disk", "admin")
    now = await part_of(api, "/nodes/n1", "now")
    assert "new disk" in now
    assert "/nodes/n1/release" in now
    assert said["undo"] == "/nodes/n1/release"
    await send(api, said["undo"])
    assert server.dispatcher.node("n1").operation is None


async def test_the_deadline_of_a_drain_is_in_minutes(api, start_node, server):
    await start_node("n1")
    await send(api, "/nodes/n1/operate", what="drain", deadline_min="1.5")
    operation = server.dispatcher.node("n1").operation
    assert operation.until_us - operation.since_us == 90_000_000
    assert (await send(api, "/nodes/n1/operate", 400, what="drain", deadline_min="soon"))["code"] == "invalid_field"
    assert (await send(api, "/nodes/n1/operate", 400, what="explode"))["code"] == "invalid_field"
    assert (await send(api, "/nodes/nobody/operate", 404, what="drain"))["code"] == "not_found"


async def test_a_quarantine_by_hand_ends_when_a_job_completes_there(api, start_node, server):
    # It is the only node of its methods: it is tried at once.
    await start_node("n1")
    answer = await api.post("/api/nodes/n1/quarantine", json={"note": "odd results"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["operation"]["kind"] == "quarantine"
    assert answer.json()["operation"]["by"] == "admin"
    await eventually(lambda: server.dispatcher.node("n1").probation)

    assert await over(api, await submit(api, "noop")) == "completed"

    await eventually(lambda: server.dispatcher.node("n1").operation is None)


async def test_what_a_node_says_of_itself_is_shown_as_text(api, server):
    host = f"{EVIL}&größe"
    await server.store.write(store_nodes.upsert, stored_node("n1", host=host))
    await send(api, "/nodes/nobody/cordon", 404)
    monkey = _view("n1")
    monkey.host, monkey.labels = host, {"zone": f'"{EVIL}'}
    view = node_view.row(monkey)
    assert view.labels == [f'zone="{EVIL}']
    history = await server.service.system.node_history("n1", 10)
    assert history[0].data["host"] == host


async def test_viewers_see_nodes_and_cannot_operate_them(api, start_node):
    await start_node("n1")
    viewer = await token_of(api, "viewer")
    for path in ("/nodes", "/nodes/n1"):
        text = (await api.get(path, headers=viewer)).text
        assert "n1" in text
        assert "/nodes/n1/drain" not in text
        assert "/nodes/n1/operate" not in text
    for path in ("operate", "cordon", "drain", "release"):
        answer = await api.post(f"/nodes/n1/{path}", data={"what": "drain"}, headers=viewer)
        assert answer.status_code == 403, path


async def test_a_node_that_is_not_known_is_a_404(api):
    assert "there is no node" in await seen(api, "/nodes/nobody", 404)


async def test_a_nodes_page_costs_a_handful_of_queries(api, server, start_node, monkeypatch):
    await start_node("n1")
    for _ in range(30):
        await submit(api, "noop")
    with counted(monkeypatch, server) as queries:
        await seen(api, "/nodes/n1")
    assert queries[0] <= 4
    with counted(monkeypatch, server) as queries:
        await part_of(api, "/nodes/n1", "held")
        await part_of(api, "/nodes/n1", "now")
    assert queries == [0]


# --- handlers ---------------------------------------------------------------------------------------


async def test_without_handlers_the_page_says_what_one_is(api):
    assert "A handler is a class with job methods" in await seen(api, "/handlers")


async def test_the_catalogue_shows_methods_with_parameters_docstrings_nodes_and_links_to_run_them(api, start_node):
    await start_node("n1", SHOWCASE)

    text = await seen(api, "/handlers")

    assert "customer, mode?" in text
    assert "Load &lt;script&gt;alert(1)&lt;/script&gt; a customer." in text
    assert EVIL not in text
    assert "Slowly" not in text
    assert 'href="/handlers/showcase/run?method=load"' in text
    assert 'href="/schedules/new?handler=showcase&amp;method=load"' in text
    assert 'href="/nodes/n1"' in text


async def test_handlers_are_found_by_what_their_methods_are_and_do(api, start_node):
    await start_node("n1", SHOWCASE)
    await start_node("n2")
    assert 'id="handler-showcase"' in await part_of(api, "/handlers", "cards", q="train")
    text = await part_of(api, "/handlers", "cards", q="customer load")
    assert 'id="handler-showcase"' in text
    assert 'id="handler-demo"' not in text
    assert "No handler is like that" in await part_of(api, "/handlers", "cards", q="nothing of the kind")


async def test_a_handlers_numbers_are_those_of_the_newest_hours_with_dead_letters(api, start_node, server):
    await start_node("n1")
    assert await over(api, await submit(api, "noop")) == "completed"
    assert await over(api, await submit(api, "fail")) == "failed"
    await server.service.dead_letters.refresh()

    numbers = await part_of(api, "/handlers/demo", "numbers")

    assert "2 created" in numbers
    assert "1 completed" in numbers
    assert "1 failed" in numbers
    assert 'href="/dead-letters?handler=demo"' in numbers
    card = await part_of(api, "/handlers", "cards")
    assert "1 dead letter" in card


async def test_a_method_shows_its_schema_as_a_table_and_as_json_its_options_and_its_docstring(api, start_node):
    await start_node("n1", SHOWCASE)

    text = await seen(api, "/handlers/showcase", method="load")

    assert "Slowly." in text
    for word in ('<td data-label="Type" class="says">integer</td>', "&#34;delta&#34;", "max_attempts", "timeout_s"):
        assert word in text
    assert "Schema as JSON" in text
    assert EVIL not in text
    assert "no method" in await seen(api, "/handlers/showcase", 404, method="nothing")
    assert "no handler" in await seen(api, "/handlers/nobody", 404)


async def test_what_waits_says_how_many_and_why(api, start_node):
    await start_node("n1", SHOWCASE)
    for _ in range(3):
        await submit(api, "train", handler_id="showcase")

    text = await part_of(api, "/handlers/showcase", "waiting")

    assert "train" in text
    assert "where gpu" in text
    assert ">3</a>" in text
    assert "n1 lacks gpu" in text


async def test_what_waits_for_a_limit_names_the_limit_and_the_next_one(api, start_node):
    await start_node("n1")
    ids = [await submit(api, "sleep", {"seconds": 60}, options={"max_instances": 1}) for _ in range(3)]

    async def waits():
        text = await part_of(api, "/handlers/demo", "waiting")
        return text if ">2</a>" in text else ""

    text = await eventually(waits)
    assert "1 of 1 running" in text
    assert ids[1] in text
    await cancel(api, *ids)


async def test_rules_of_the_operator_are_shown_and_so_is_that_there_are_none(api, server):
    methods = [JobMethod(name="a", schema=b"{}"), JobMethod(name="b", schema=b"{}")]
    server.dispatcher.registry.learn([Handler(handler_id="billing", methods=methods)])
    assert "handler_registry.yaml says nothing about it" in await seen(api, "/handlers/billing")
    rule = HandlerRule(allowed_methods=["a"], limits=HandlerLimits(max_running=4, rate="10/s"))
    server.dispatcher.registry.set_rules({"billing": rule})

    text = await seen(api, "/handlers/billing")

    assert "<dt>max_running</dt><dd>4</dd>" in text
    assert "<dt>rate</dt><dd>10/s</dd>" in text
    assert "<dt>allowed_methods</dt><dd>a</dd>" in text
    assert "method=b" not in text


async def test_handlers_come_in_pages_and_cost_one_query(api, server, monkeypatch):
    schema = msgspec.json.encode({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5)}})
    methods = [JobMethod(name=f"m{number}", schema=schema, doc="Does it.") for number in range(40)]
    server.dispatcher.registry.learn([Handler(handler_id=f"h{number:03}", methods=methods) for number in range(120)])

    with counted(monkeypatch, server) as queries:
        first = await seen(api, "/handlers")
    second = await seen(api, "/handlers", after="h024")

    assert queries == [1]
    assert 'id="handler-h024"' in first
    assert 'id="handler-h025"' not in first
    assert "32 more methods" in first
    assert 'id="handler-h025"' in second


async def test_viewers_see_no_buttons_that_they_may_not_press(api, start_node):
    await start_node("n1")
    viewer = await token_of(api, "viewer")
    for path in ("/handlers", "/handlers/demo"):
        text = (await api.get(path, headers=viewer)).text
        assert "noop" in text
        assert "/run?method=" not in text
