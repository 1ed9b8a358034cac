"""The smaller nouns: handlers, nodes, tokens, node keys, the journal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schedule_zero.errors import AlreadyExists
from schedule_zero.job_options import JobOptions
from schedule_zero.model import Handler, JobMethod, Node, NodeOperation, NodeState, OperationKind, Role
from schedule_zero.store import Store, events, handlers, node_keys, nodes, tokens
from tests.store.builders import T0, execution, insert, journal
from tests.support import ManualClock

pytestmark = pytest.mark.anyio


def declared(*methods: JobMethod, handler_id: str = "demo", now_us: int = T0) -> list[handlers.Declare]:
    return [handlers.Declare(handler_id=handler_id, methods=list(methods), node_id="n1", now_us=now_us)]


def method(name: str, schema: bytes = b"{}", **fields: Any) -> JobMethod:
    return JobMethod(name=name, schema=schema, **fields)


def node(node_id: str = "n1", **fields: Any) -> Node:
    return Node(
        **{
            "node_id": node_id,
            "instance": "i1",
            "epoch": 3,
            "state": NodeState.ONLINE,
            "handlers": ["demo", "chaos"],
            "slots": 4,
            "version": "1",
            "host": "h",
            "pid": 77,
            "identity": "abc",
            "since_token": 3 << 32,
            "first_seen_us": T0,
            "last_seen_us": T0,
            **fields,
        }
    )


# --- handlers: C19 ----------------------------------------------------------------------------------


async def test_a_declaration_comes_back_with_versions_in_its_order(store: Store) -> None:
    methods = [
        method("b", b'{"type":"object"}', options=JobOptions(priority=3, idempotent=False), doc="What it does."),
        method("a"),
    ]

    [[handler]] = [await store.write(handlers.declare, declared(*methods))]

    assert handler == Handler(handler_id="demo", methods=methods, registered_us=T0, updated_us=T0)
    assert await store.read(handlers.all) == [handler]


async def test_declaring_twice_changes_nothing(store: Store) -> None:
    first = await store.write(handlers.declare, declared(method("a"), method("b")))

    again = await store.write(handlers.declare, declared(method("a"), method("b"), now_us=T0 + 9))

    assert again == first
    assert await journal(store) == [("handler.registered", "demo")]


async def test_a_touched_handler_was_updated_and_says_nothing_new(store: Store) -> None:
    await store.write(handlers.declare, declared(method("a")))
    await store.write(handlers.declare, declared(method("a"), handler_id="other"))

    await store.write(handlers.touch, handlers.Touch(handler_ids=["demo", "unknown"], now_us=T0 + 9))

    found = await store.read(handlers.all)
    assert [(one.handler_id, one.updated_us) for one in found] == [("demo", T0 + 9), ("other", T0)]
    assert [kind for kind, _ in await journal(store)] == ["handler.registered", "handler.registered"]


async def test_a_changed_schema_is_a_new_version_and_another_text_is_not(store: Store) -> None:
    await store.write(handlers.declare, declared(method("a"), method("b")))

    [changed] = await store.write(
        handlers.declare, declared(method("a", b'{"type":"object"}'), method("b", doc="new"), now_us=T0 + 9)
    )

    assert [(m.name, m.version, m.doc) for m in changed.methods] == [("a", 2, ""), ("b", 1, "new")]
    assert (changed.registered_us, changed.updated_us) == (T0, T0 + 9)
    assert await store.read(handlers.all) == [changed]
    assert (await journal(store))[-1] == ("handler.changed", "demo")


async def test_a_method_that_goes_and_comes_back_goes_on_counting(store: Store) -> None:
    await store.write(handlers.declare, declared(method("a"), method("b")))
    await store.write(handlers.declare, declared(method("a")))
    assert [m.name for m in (await store.read(handlers.all))[0].methods] == ["a"]

    [same] = await store.write(handlers.declare, declared(method("a"), method("b")))
    await store.write(handlers.declare, declared(method("a")))
    [other] = await store.write(handlers.declare, declared(method("a"), method("b", b"[]")))

    assert [m.version for m in same.methods] == [1, 1]
    assert [m.version for m in other.methods] == [1, 2]


async def test_several_handlers_are_declared_together(store: Store) -> None:
    both = declared(method("a"), handler_id="y") + declared(method("a"), handler_id="x")

    answers = await store.write(handlers.declare, both)

    assert [handler.handler_id for handler in answers] == ["y", "x"]
    assert [handler.handler_id for handler in await store.read(handlers.all)] == ["x", "y"]


# --- nodes ------------------------------------------------------------------------------------------


def operation(kind: OperationKind = OperationKind.DRAIN, **fields: Any) -> NodeOperation:
    return NodeOperation(**{"kind": kind, "since_us": T0, "note": "new disk", "by": "ann", **fields})


async def test_a_node_comes_back_as_it_was_written_and_keeps_when_it_was_first_seen(store: Store) -> None:
    await store.write(nodes.upsert, node(operation=operation()))
    await store.write(nodes.upsert, node(instance="i2", since_token=4 << 32, first_seen_us=T0 + 5, last_seen_us=T0 + 5))

    # What was done to it is not undone by its coming back.
    assert await store.read(nodes.all) == [
        node(instance="i2", since_token=4 << 32, operation=operation(), last_seen_us=T0 + 5)
    ]
    assert await journal(store) == [("node.online", "n1"), ("node.online", "n1")]


async def operate(store: Store, done: NodeOperation | None, **fields: Any) -> bool:
    return await store.write(nodes.operate, nodes.Operate(node=node(), operation=done, **fields))


async def test_what_is_done_to_a_node_is_kept_with_who_did_it_and_why(store: Store) -> None:
    await store.write(nodes.upsert, node())
    for kind in OperationKind:
        done = operation(kind, until_us=T0 + 9, times=2)
        assert await operate(store, done)
        assert (await store.read(nodes.all))[0].operation == done
    assert await operate(store, None, by="bob", note="works again")

    assert await store.read(nodes.all) == [node()]
    kinds = [kind for kind, _ in await journal(store)]
    assert kinds == ["node.online", "node.cordoned", "node.drained", "node.quarantined", "node.released"]
    rows = await store.read(lambda conn: events.read_after(conn, 0, 100))
    data = [event.data for _, group in rows for event in group][-2:]
    assert data == [{"by": "ann", "note": "new disk", "until_us": T0 + 9}, {"by": "bob", "note": "works again"}]


async def test_what_the_server_does_itself_never_undoes_an_operators_word(store: Store) -> None:
    cordon, quarantine = operation(OperationKind.CORDON), operation(OperationKind.QUARANTINE, by="")
    await store.write(nodes.upsert, node())
    await operate(store, cordon)

    for own in (quarantine, None):
        assert not await operate(store, own, own=True)
        assert (await store.read(nodes.all))[0].operation == cordon
    await operate(store, None)
    for own in (quarantine, msgspec.structs.replace(quarantine, times=2), None):
        assert await operate(store, own, own=True)
        assert (await store.read(nodes.all))[0].operation == own


async def test_the_same_twice_is_one_event_and_a_node_that_the_store_does_not_know_is_written(store: Store) -> None:
    assert await operate(store, operation())
    assert await operate(store, operation())

    assert await store.read(nodes.all) == [node(operation=operation())]
    assert await journal(store) == [("node.drained", "n1")]


async def test_a_forgotten_node_is_gone(store: Store) -> None:
    await store.write(nodes.upsert, node())

    assert await store.write(nodes.forget, "n1")
    assert not await store.write(nodes.forget, "n1")

    assert await store.read(nodes.all) == []


# --- tokens and keys --------------------------------------------------------------------------------


def token(id_: str = "t1", **fields: Any) -> tokens.ApiToken:
    return tokens.ApiToken(
        **{"id": id_, "name": f"name-{id_}", "role": Role.OPERATOR, "hash": f"hash-{id_}", "created_us": T0, **fields}
    )


async def test_tokens_in_force_are_found_by_hash(store: Store) -> None:
    await store.write(tokens.create, token("t1"))
    await store.write(tokens.create, token("t2", expires_us=T0 + 10, role=Role.ADMIN))

    assert await store.read(lambda conn: tokens.active(conn, T0)) == {
        "hash-t1": token("t1"),
        "hash-t2": token("t2", expires_us=T0 + 10, role=Role.ADMIN),
    }
    assert set(await store.read(lambda conn: tokens.active(conn, T0 + 10))) == {"hash-t1"}


async def test_a_revoked_token_is_listed_but_not_in_force_and_frees_its_name(store: Store) -> None:
    await store.write(tokens.create, token("t1"))
    assert await store.write(tokens.revoke, tokens.Revoke("t1", T0 + 1))
    assert not await store.write(tokens.revoke, tokens.Revoke("t1", T0 + 2))
    await store.write(tokens.create, token("t2", name="name-t1", created_us=T0 + 3))

    assert set(await store.read(lambda conn: tokens.active(conn, T0 + 5))) == {"hash-t2"}
    listed = await store.read(tokens.all)
    assert [(row.id, row.revoked_us) for row in listed] == [("t2", None), ("t1", T0 + 1)]


@pytest.mark.parametrize("clash", [{"id_": "t1"}, {"id_": "t2", "name": "name-t1"}, {"id_": "t2", "hash": "hash-t1"}])
async def test_a_token_that_is_taken_is_refused(store: Store, clash: dict[str, Any]) -> None:
    await store.write(tokens.create, token("t1"))

    with pytest.raises(AlreadyExists):
        await store.write(tokens.create, token(**clash))

    assert await store.read(tokens.all) == [token("t1")]


def key(id_: str = "k1", **fields: Any) -> node_keys.NodeKey:
    return node_keys.NodeKey(**{"id": id_, "public_key": f"public-{id_}", "created_us": T0, **fields})


async def test_a_node_key_comes_back_with_what_it_is_bound_to(store: Store) -> None:
    bound = key("k2", node_id="n1", handlers=["a", "b"], created_us=T0 + 1)
    await store.write(node_keys.create, key("k1"))
    await store.write(node_keys.create, bound)

    assert await store.read(node_keys.all) == [bound, key("k1")]
    assert await store.read(node_keys.active) == {"public-k1": key("k1"), "public-k2": bound}


async def test_a_revoked_node_key_never_comes_back(store: Store) -> None:
    await store.write(node_keys.create, key("k1"))

    revoked = await store.write(node_keys.revoke, node_keys.Revoke("k1", T0 + 1))

    assert revoked == key("k1", revoked_us=T0 + 1)
    assert await store.write(node_keys.revoke, node_keys.Revoke("k1", T0 + 2)) is None
    assert await store.write(node_keys.revoke, node_keys.Revoke("nobody", T0 + 2)) is None
    assert await store.read(node_keys.active) == {}
    with pytest.raises(AlreadyExists):
        await store.write(node_keys.create, key("k2", public_key="public-k1"))


# --- the journal ------------------------------------------------------------------------------------


async def test_the_journal_is_read_on_from_a_row(store: Store) -> None:
    for n in range(5):
        await insert(store, execution(f"e{n}"))

    latest = await store.read(events.latest_seq)
    rows = await store.read(lambda conn: events.read_after(conn, latest - 3, 2))

    assert [(seq, row[0].id) for seq, row in rows] == [(latest - 2, "e2"), (latest - 1, "e3")]
    assert await store.read(lambda conn: events.read_after(conn, latest, 10)) == []


async def test_pruning_keeps_the_newest_row_whatever_is_asked(store: Store) -> None:
    for n in range(5):
        await insert(store, execution(f"e{n}"))
    latest = await store.read(events.latest_seq)

    pruned = await store.write(events.prune, events.Prune(before_us=T0 * 2, keep_rows=0))

    assert pruned == 4
    assert await store.read(events.oldest_seq) == await store.read(events.latest_seq) == latest
    await insert(store, execution("next"))
    assert await store.read(events.latest_seq) > latest


async def test_pruning_goes_by_age_and_by_rows_and_in_steps(store: Store, clock: ManualClock) -> None:
    for n in range(10):
        await insert(store, execution(f"e{n}"))
        clock.advance(1)
    oldest = await store.read(events.oldest_seq)

    def prune(before_us: int, keep_rows: int, limit: int = 100) -> events.Prune:
        return events.Prune(before_us=before_us, keep_rows=keep_rows, limit=limit)

    assert await store.write(events.prune, prune(0, 100)) == 0
    assert await store.write(events.prune, prune(T0 + 3_000_000, 100, limit=2)) == 2
    assert await store.write(events.prune, prune(T0 + 3_000_000, 100)) == 1
    assert await store.read(events.oldest_seq) == oldest + 3
    assert await store.write(events.prune, prune(0, 4)) == 3
    assert len(await journal(store)) == 4
