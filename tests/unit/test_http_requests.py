"""What a node makes of answers that are not its server's: a proxy's page, nonsense. Its session ends, not the node."""

from __future__ import annotations

import httpx
import pytest

from schedule_zero.node import http_link, http_requests
from schedule_zero.node.http_requests import Over, Reply, Requests
from schedule_zero.node.settings import HttpAccess

DEEP = b'{"later":' + b"[" * 20_000


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b'{"cancel":"\xff"}', b"[]", DEEP], ids=range(6))
def test_a_success_that_is_no_answer_of_ours_ends_the_session(body):
    with pytest.raises(Over) as over:
        http_requests.decoded(Reply(200, "", "", 0.0, body), http_link._decode_beaten)
    assert over.value.end.reason == "not_understood"
    assert len(over.value.end.detail) <= 200


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00"])
def test_a_moment_that_is_none_or_has_no_zone_ends_the_session(moment):
    with pytest.raises(Over):
        http_requests.moment_us(moment)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"<html>", b'{"error":"\xff"}', b'{"error":' + DEEP], ids=range(3))
async def test_a_refusal_without_a_reason_that_is_understood_is_a_refusal(body):
    requests = Requests(
        HttpAccess("http://127.0.0.1:1"), httpx.MockTransport(lambda _: httpx.Response(502, content=body))
    )
    requests.open()
    reply = await requests.post("/api/jobs/claim", {}, 1.0)
    await requests.close()
    assert (reply.status, reply.code) == (502, "")
    assert reply.message.startswith("HTTP 502")


@pytest.mark.anyio
async def test_an_answer_that_is_not_packed_as_it_says_ends_the_session():
    """A proxy's page, marked as gzip and sent plain."""

    def answer(_):
        return httpx.Response(502, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"<html>"))

    requests = Requests(HttpAccess("http://127.0.0.1:1"), httpx.MockTransport(answer))
    requests.open()
    with pytest.raises(Over) as over:
        await requests.post("/api/jobs/claim", {}, 1.0)
    await requests.close()
    assert over.value.end.reason == "unreachable"
    assert "DecodingError" in over.value.end.detail
