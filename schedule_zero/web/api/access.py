"""Endpoints on API tokens and on the CURVE keys of nodes. A secret is answered once, when it is made."""

from __future__ import annotations

from schedule_zero.service.sessions import LINK_S
from schedule_zero.web.api import system_records as records
from schedule_zero.web.api.request import ApiRequest, Response
from schedule_zero.web.api.schemas import LoginLinkBody, NodeKeyBody, TokenBody


async def tokens(request: ApiRequest) -> Response:
    """All tokens, revoked ones too, without their secrets."""
    found = await request.service.access.tokens()
    return Response(records.Tokens(tokens=[records.token_record(token) for token in found]))


async def create_token(request: ApiRequest) -> Response:
    """Make a token."""
    body: TokenBody = request.body
    token, secret = await request.service.access.create_token(
        request.principal, body.name, body.role, body.expires_s, bot_id=body.bot_id, handlers=body.handlers
    )
    return Response(records.token_created(token, secret), status=201)


async def revoke_token(request: ApiRequest) -> Response:
    """Refuse a token from now on."""
    await request.service.access.revoke_token(request.principal, request.id)
    return Response(records.Revoked(status="success", id=request.id))


async def node_keys(request: ApiRequest) -> Response:
    """All node keys, revoked ones too, without their secrets."""
    found = await request.service.access.node_keys()
    return Response(records.NodeKeys(node_keys=[records.node_key_record(key) for key in found]))


async def create_node_key(request: ApiRequest) -> Response:
    """Make a key pair for one node and its handlers."""
    body: NodeKeyBody = request.body
    key, secret = await request.service.access.create_node_key(request.principal, body.node_id, body.handlers)
    return Response(records.node_key_created(key, secret), status=201)


async def revoke_node_key(request: ApiRequest) -> Response:
    """Refuse a node key from now on, and end the session that uses it."""
    await request.service.access.revoke_node_key(request.principal, request.id)
    return Response(records.Revoked(status="success", id=request.id))


async def create_login_link(request: ApiRequest) -> Response:
    """Make a link that signs a browser in, once, within ten minutes."""
    body: LoginLinkBody = request.body or LoginLinkBody()
    secret = await request.service.sessions.link(request.principal, body.role)
    return Response(records.LoginLink(path=f"/login?t={secret}", expires_s=LINK_S), status=201)
