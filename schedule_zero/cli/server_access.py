"""``schedule-zero-server token`` and ``node-key``: who may talk to the server, and who may work for it.

Where no server runs, they open its database; where one runs, it holds the database's lock, and they ask it over
HTTP with the admin token of its state directory, so that what they change is in force at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedule_zero.cli.app import run_async
from schedule_zero.cli.arguments import Duration
from schedule_zero.cli.output import Column, moment, show_json, show_table
from schedule_zero.cli.server_root import Given, ServerGroup, main
from schedule_zero.cli.terminal import say
from schedule_zero.errors import StoreLocked

if TYPE_CHECKING:
    from schedule_zero.service.access import AccessService
    from schedule_zero.service.specs import Principal

TOKENS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("ROLE", "role"),
    ("BOT", "bot_id"),
    ("HANDLERS", "handlers"),
    ("CREATED", moment("created_at")),
    ("REVOKED", moment("revoked_at")),
]
KEYS: list[Column] = [
    ("ID", "id"),
    ("NODE", "node_id"),
    ("HANDLERS", "handlers"),
    ("PUBLIC KEY", "public_key"),
    ("CREATED", moment("created_at")),
    ("REVOKED", moment("revoked_at")),
]
OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="[table]")

Direct = Callable[["AccessService", "Principal"], Awaitable[Any]]


@main.group(cls=ServerGroup)
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["worker", "viewer", "operator", "admin"]), default="operator", help="[operator]"
)
@click.option("--expires", type=Duration(), metavar="DURATION", help="Refuse it after this time: 90d, 12h. [never]")
@click.option("--bot-id", default="*", metavar="ID", help="A worker's: may be this bot, or node over HTTP, only. [any]")
@click.option(
    "--handler", "handlers", multiple=True, help="A worker's: may serve only this handler (may be repeated). [any]"
)
@OUTPUT
@click.pass_context
def create_token(
    ctx: click.Context,
    name: str,
    role: str,
    expires: float | None,
    bot_id: str,
    handlers: tuple[str, ...],
    output: str,
) -> None:
    """Make a token and print it, this once. NAME says what it is for."""
    allowed = list(handlers) or ["*"]

    async def direct(access: AccessService, principal: Principal) -> Any:
        from schedule_zero.model import Role

        made, secret = await access.create_token(principal, name, Role(role), expires, bot_id=bot_id, handlers=allowed)
        return _plain(made, "id", "name", "role", "bot_id", "handlers") | {"token": secret}

    body = {"name": name, "role": role, "expires_s": expires, "bot_id": bot_id, "handlers": allowed}
    made = _do(ctx, direct, "POST", "/api/tokens", body)
    if output == "json":
        show_json(made)
        return
    say(f"{role} token {made['name']} ({made['id']}); it isn't shown again:", err=True)
    say(made["token"])


@token.command("list")
@OUTPUT
@click.pass_context
def list_tokens(ctx: click.Context, output: str) -> None:
    """List tokens, revoked ones too; never their secrets."""

    async def direct(access: AccessService, _: Principal) -> Any:
        return {"tokens": [_plain(one, "id", "name", "role", "bot_id", "handlers") for one in await access.tokens()]}

    found = _do(ctx, direct, "GET", "/api/tokens")["tokens"]
    show_json(found) if output == "json" else show_table(found, TOKENS, none="no tokens")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@click.pass_context
def revoke_token(ctx: click.Context, token_id: str) -> None:
    """Refuse a token from now on."""

    async def direct(access: AccessService, principal: Principal) -> Any:
        await access.revoke_token(principal, token_id)

    _do(ctx, direct, "DELETE", "/api/tokens", of=token_id)
    say(f"{token_id}: revoked")


@main.group(cls=ServerGroup, name="node-key")
def node_key() -> None:
    """Make, list and revoke the keys by which nodes of other machines prove who they are."""


@node_key.command("create")
@click.argument("node_id")
@click.option("--handler", "handlers", multiple=True, help="May serve only this handler (may be repeated). [any]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write NODE_ID.secret and server.public there, to be copied to the node.",
)
@OUTPUT
@click.pass_context
def create_node_key(ctx: click.Context, node_id: str, handlers: tuple[str, ...], out: Path | None, output: str) -> None:
    """Make a key pair for the node NODE_ID ('*': for any); the secret half is shown this once."""
    allowed = list(handlers) or ["*"]

    async def direct(access: AccessService, principal: Principal) -> Any:
        made, secret = await access.create_node_key(principal, node_id, allowed)
        return {
            "id": made.id,
            "node_id": made.node_id,
            "handlers": made.handlers,
            "public_key": made.public_key,
            "secret_key": secret,
        }

    made = _do(ctx, direct, "POST", "/api/node-keys", {"node_id": node_id, "handlers": allowed})
    if out is not None:
        _write_keys(ctx, made, out)
    elif output == "json":
        show_json(made)
    else:
        say(f"secret key of node {node_id} ({made['id']}); it isn't shown again:", err=True)
        say(made["secret_key"])


def _write_keys(ctx: click.Context, made: dict[str, Any], out: Path) -> None:
    from schedule_zero.node.identity import file_name
    from schedule_zero.state_dir import write_private

    state = Path(ctx.ensure_object(Given).load().config.state_dir)
    public = (state / "curve" / "server.public").read_bytes()
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = "any-node" if made["node_id"] == "*" else file_name(made["node_id"])
    secret_file, public_file = out / f"{name}.secret", out / "server.public"
    write_private(secret_file, f"{made['secret_key']}\n".encode())
    write_private(public_file, public)
    say(f"{made['id']}: copy both files to the node, then there:", err=True)
    say(
        f"schedule-zero-handler TARGET --server tcp://HOST:PORT --node-id {made['node_id']}"
        f" --node-key {secret_file.name} --server-key {public_file.name}"
    )


@node_key.command("list")
@OUTPUT
@click.pass_context
def list_node_keys(ctx: click.Context, output: str) -> None:
    """List node keys, revoked ones too; never their secrets."""

    async def direct(access: AccessService, _: Principal) -> Any:
        fields = ("id", "node_id", "handlers", "public_key")
        return {"node_keys": [_plain(one, *fields) for one in await access.node_keys()]}

    found = _do(ctx, direct, "GET", "/api/node-keys")["node_keys"]
    show_json(found) if output == "json" else show_table(found, KEYS, none="no node keys")


@node_key.command("revoke")
@click.argument("key_id", metavar="ID")
@click.pass_context
def revoke_node_key(ctx: click.Context, key_id: str) -> None:
    """Refuse a node key from now on, and end the session that uses it."""

    async def direct(access: AccessService, principal: Principal) -> Any:
        await access.revoke_node_key(principal, key_id)

    _do(ctx, direct, "DELETE", "/api/node-keys", of=key_id)
    say(f"{key_id}: revoked")


def _plain(record: Any, *fields: str) -> dict[str, Any]:
    from schedule_zero.clock import rfc3339

    plain = {name: getattr(record, name) for name in fields}
    return plain | {"created_at": rfc3339(record.created_us), "revoked_at": rfc3339(record.revoked_us)}


def _do(ctx: click.Context, direct: Direct, method: str, path: str, body: Any = None, *, of: str | None = None) -> Any:
    """Through the database, or through the server that has it locked. ``of``: an id at the end of the path."""
    from schedule_zero import logs, state_dir
    from schedule_zero.config import LogConfig

    config = ctx.ensure_object(Given).load().config
    folder = state_dir.prepare(Path(config.state_dir))
    logs.configure(LogConfig(level="warning"))
    try:
        return run_async(lambda: _with_store(config, folder, direct))
    except StoreLocked as locked:
        running = state_dir.read_server_json(folder)
        if running is None:
            locked.hint = "it is starting or stopping: try again in a moment"
            raise
    from schedule_zero.cli.api import Caller, segment

    # This very server, whatever the environment says about others.
    caller = Caller()
    caller.url = state_dir.reachable(str(running["http"]))
    caller.token = state_dir.read_admin_token(folder)
    with caller.client() as client:
        return client.request(method, path if of is None else f"{path}/{segment(of)}", body=body)


async def _with_store(config: Any, folder: Path, direct: Direct) -> Any:
    from schedule_zero.clock import SystemClock
    from schedule_zero.dispatch.curve import CurveKeys
    from schedule_zero.model import Role
    from schedule_zero.service.access import AccessService
    from schedule_zero.service.specs import Principal
    from schedule_zero.store import Store

    clock = SystemClock()
    store = Store.open(config.store, folder, clock=clock)
    try:
        curve = CurveKeys(store=store, state_dir=folder, config=config.zmq, clock=clock)
        await curve.load()
        access = AccessService(store=store, curve=curve, clock=clock)
        return await direct(access, Principal(name="command line", role=Role.ADMIN, token_id=""))
    finally:
        await store.close()
