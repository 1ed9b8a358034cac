"""Handlers, nodes, tokens, keys, health and events as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from schedule_zero.clock import rfc3339
from schedule_zero.model import Role
from schedule_zero.web.api.records import Count, Moment, Record

if TYPE_CHECKING:
    from schedule_zero.dispatch.dispatcher import NodeView
    from schedule_zero.dispatch.registry import HandlerView
    from schedule_zero.store.node_keys import NodeKey
    from schedule_zero.store.tokens import ApiToken


# --- shapes ---------------------------------------------------------------------------------------


class MethodRecord(Record, kw_only=True):
    """One job method; ``schema`` is the JSON schema of its parameters."""

    name: str
    # Called so on the wire and in the store as well.
    schema: Raw
    options: Any
    doc: str
    version: int


class HandlerRecord(Record, kw_only=True):
    """One handler. ``address``, ``methods`` (names) and ``status`` are the earlier ScheduleZero's."""

    id: str
    address: str
    methods: list[str]
    status: str
    nodes: list[str]
    job_methods: list[MethodRecord]
    registered_at: Moment | None
    last_updated: Moment | None


class Handlers(Record, kw_only=True):
    handlers: list[HandlerRecord]
    count: Count


class OperationRecord(Record, kw_only=True):
    """Why a node gets no new work. ``kind``: ``cordon``, ``drain`` or ``quarantine``; ``by``: null is the server."""

    kind: str
    since: Moment | None
    # Of a drain the deadline, of a quarantine when the node is on probation.
    until: Moment | None
    note: str | None
    by: str | None
    probation: bool


class NodeRecord(Record, kw_only=True):
    """One node and its live session. ``clock_skew_s`` is how far its clock is ahead of the server's."""

    id: str
    node_id: str
    state: str
    handlers: list[str]
    slots: int
    running: int
    window: int
    draining: bool
    operation: OperationRecord | None
    heartbeat_age_s: float | None
    round_trip_s: float | None
    clock_skew_s: float | None
    version: str
    host: str
    pid: int
    instance: str
    connected_at: Moment | None
    # What it was started with, and what it tells of itself.
    labels: dict[str, str]
    facts: dict[str, str]


class Nodes(Record, kw_only=True):
    nodes: list[NodeRecord]
    count: Count


class TokenRecord(Record, kw_only=True):
    id: str
    name: str
    role: Role
    # Of a worker: the bot and the handlers that it is for. ``*``: any.
    bot_id: str
    handlers: list[str]
    created_at: Moment | None
    expires_at: Moment | None
    revoked_at: Moment | None


class Tokens(Record, kw_only=True):
    tokens: list[TokenRecord]


class TokenCreated(TokenRecord, kw_only=True):
    """``token`` is shown this once."""

    token: str


class LoginLink(Record, kw_only=True):
    """A link that signs a browser in: good once, and for so long."""

    # To be put behind the server's address.
    path: str
    expires_s: float


class NodeKeyRecord(Record, kw_only=True):
    id: str
    node_id: str
    handlers: list[str]
    public_key: str
    created_at: Moment | None
    revoked_at: Moment | None


class NodeKeys(Record, kw_only=True):
    node_keys: list[NodeKeyRecord]


class NodeKeyCreated(NodeKeyRecord, kw_only=True):
    """``secret_key`` is shown this once."""

    secret_key: str


class Revoked(Record, kw_only=True):
    status: str
    id: str


class Live(Record, kw_only=True):
    status: str


class Ready(Record, kw_only=True):
    """``checks``: name → ``ok``, or what is the matter."""

    status: str
    checks: dict[str, str]


class Version(Record, kw_only=True):
    service: str
    version: str


class BacklogRecord(Record, kw_only=True):
    """Executions that are not over, and how many may be. `full`: the limits that are reached, `all` or handlers."""

    open: Count
    limit: Count
    full: list[str]


class Health(Record, kw_only=True):
    """``status`` is ``ok`` or ``degraded``; ``checks`` says what is the matter; ``now`` is the server's clock."""

    status: str
    service: str
    instance_name: str
    version: str
    started_at: Moment
    now: Moment
    uptime_s: float
    backlog: BacklogRecord
    checks: dict[str, str]


class EventRecord(Record, kw_only=True):
    """The ``data:`` of a server-sent event: what happened, to what (its id), and the details."""

    kind: str
    id: str
    data: dict[str, Any]


class Resync(Record, kw_only=True):
    """The ``data:`` of ``event: resync``: events were missed, so read the state again."""

    reason: str


# --- making them ------------------------------------------------------------------------------------


def handler_record(handler: HandlerView) -> HandlerRecord:
    return HandlerRecord(
        id=handler.handler_id,
        address=", ".join(handler.node_ids),
        methods=[method.name for method in handler.methods],
        status="Connected" if handler.node_ids else "Disconnected",
        nodes=handler.node_ids,
        job_methods=[
            MethodRecord(
                name=method.name,
                schema=Raw(method.schema),
                options=method.options,
                doc=method.doc,
                version=method.version,
            )
            for method in handler.methods
        ],
        registered_at=rfc3339(handler.registered_us),
        last_updated=rfc3339(handler.updated_us),
    )


def node_record(node: NodeView) -> NodeRecord:
    return NodeRecord(
        id=node.node_id,
        node_id=node.node_id,
        state=node.state,
        handlers=node.handlers,
        slots=node.slots,
        running=node.running,
        window=node.window,
        draining=node.draining,
        operation=_operation_record(node),
        heartbeat_age_s=node.heartbeat_age_s,
        round_trip_s=node.round_trip_s,
        clock_skew_s=node.clock_skew_s,
        version=node.version,
        host=node.host,
        pid=node.pid,
        instance=node.instance,
        connected_at=rfc3339(node.connected_us),
        labels=node.labels,
        facts=node.facts,
    )


def _operation_record(node: NodeView) -> OperationRecord | None:
    operation = node.operation
    if operation is None:
        return None
    return OperationRecord(
        kind=operation.kind,
        since=rfc3339(operation.since_us),
        until=rfc3339(operation.until_us),
        note=operation.note or None,
        by=operation.by or None,
        probation=node.probation,
    )


def token_record(token: ApiToken) -> TokenRecord:
    return TokenRecord(**_token_fields(token))


def token_created(token: ApiToken, secret: str) -> TokenCreated:
    return TokenCreated(**_token_fields(token), token=secret)


def _token_fields(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "bot_id": token.bot_id,
        "handlers": token.handlers,
        "created_at": rfc3339(token.created_us),
        "expires_at": rfc3339(token.expires_us),
        "revoked_at": rfc3339(token.revoked_us),
    }


def node_key_record(key: NodeKey) -> NodeKeyRecord:
    return NodeKeyRecord(**_node_key_fields(key))


def node_key_created(key: NodeKey, secret: str) -> NodeKeyCreated:
    return NodeKeyCreated(**_node_key_fields(key), secret_key=secret)


def _node_key_fields(key: NodeKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "node_id": key.node_id,
        "handlers": key.handlers,
        "public_key": key.public_key,
        "created_at": rfc3339(key.created_us),
        "revoked_at": rfc3339(key.revoked_us),
    }
