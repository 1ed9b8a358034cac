"""The worked example of the page on HTTP workers is a bot that works: run as it stands, with bash, curl and jq."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.docs.test_links import ROOT
from tests.integration.conftest import api_client, running_server
from tests.integration.log_bed import log_of
from tests.integration.test_http_bots import submit
from tests.integration.test_http_parts import Talker

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not all(map(shutil.which, ("bash", "curl", "jq"))), reason="the example needs bash, curl and jq"
    ),
]
PAGE = (ROOT / "docs" / "how-to" / "http-workers.md").read_text(encoding="utf-8")


BOUND = {"bot_id": "bash-1", "handlers": ["greetings"]}
BOT, UPLOAD = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# What the pages say before: the function that asks.
ASK = BOT.partition("while true")[0]


async def run_bot(script: str, url: str, token: str) -> int:
    bot = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={"PATH": os.environ["PATH"], "URL": url, "TOKEN": token, "ONCE": "1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await asyncio.wait_for(bot.wait(), 60)
    finally:
        if bot.returncode is None:
            bot.kill()


async def test_the_bot_of_bash_and_curl_runs_a_job_to_its_recorded_result(tmp_path: Path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        made = (await api.post("/api/tokens", json={"name": "bot", "role": "worker", **BOUND})).json()
        bot = asyncio.create_task(run_bot(BOT, server.addresses.http, made["token"]))

        # Known once the bot has claimed.
        item = {"handler_id": "greetings", "job_method": "hello", "job_params": {"name": "Ada"}, "wait_s": 30}
        answer = await submitted(api, item)

        assert answer["result"] == {"greeting": "Hello, Ada!"}
        assert await bot == 0
        [line] = (await log_of(api, str(answer["execution_id"])))["lines"]
        assert (line["stream"], line["text"]) == ("stderr", "greeting Ada")


async def test_the_upload_of_bash_and_curl_sends_a_large_result_whole(tmp_path: Path):
    async with running_server(tmp_path / "server") as server, api_client(server) as api:
        made = (await api.post("/api/tokens", json={"name": "bot", "role": "worker", **BOUND})).json()
        whole = b'"' + "ä".encode() * 150_000 + b'"'
        (tmp_path / "result.json").write_bytes(whole)
        bot = Talker(api, "bash-1")
        await bot.claim(operations=["greetings.hello"])
        [id_] = await submit(api, handler_id="greetings", job_method="hello")
        [job] = await bot.claim(operations=["greetings.hello"], wait_s=5)
        lines = [f"cd {tmp_path}", ASK, f"id={job['id']} token={job['token']}", UPLOAD]

        assert await run_bot("\n".join(lines), server.addresses.http, made["token"]) == 0

        assert (await bot.report(job, result_bytes=len(whole))).json() == {"status": "recorded"}
        assert (await api.get(f"/api/executions/{id_}/result")).content == whole


async def submitted(api: httpx.AsyncClient, item: dict[str, object]) -> dict[str, object]:
    while True:
        answer = await api.post("/api/run_now", json=item)
        if answer.status_code != 404:
            return dict(answer.json())
        await asyncio.sleep(0.05)
