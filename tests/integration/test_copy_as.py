"""Texts that are copied from pages: each of them, run as it stands, makes what it says."""

from __future__ import annotations

import os
import subprocess

import anyio
import msgspec
import pytest
import yaml

from schedule_zero.job_options import JobOptions
from schedule_zero.model import Handler, JobMethod, Policies
from schedule_zero.service.specs import ScheduleSpec, SubmitItem
from schedule_zero.web.pages.copy_as import LABELS, copy_as, copy_job_as

pytestmark = pytest.mark.anyio

NAMES = ["curl", "python", "cli", "yaml"]
NOTE = 'it\'s "hot" $HOME `id` \\ <b>\n-- second line'
PARAMS = {
    "big": 12345678901234567890123,
    "text": NOTE,
    "none": None,
    "yes": True,
    "list": [1.5, [], {"deep": {"deeper": "ü" * 120}}],
    "on": "1e3",
    "@file": "@/etc/hostname",
}
START = "2027-01-01T00:00:00Z"
PLAIN = ScheduleSpec(handler_id="demo", job_method="echo", trigger={"type": "interval", "seconds": 10, "start": START})
FULL = ScheduleSpec(
    id="a/b:c",
    handler_id="demo.shop",
    job_method="echo.it",
    job_params=msgspec.Raw(msgspec.json.encode(PARAMS)),
    trigger={"type": "cron", "expression": "*/5 9 * * MON-FRI", "timezone": "Europe/Berlin"},
    options=msgspec.convert(
        {
            "priority": -7,
            "max_attempts": 5,
            "retry_delay_s": 1.5,
            "backoff": "list",
            "retry_delays_s": [0.25, 10, 5400],
            "retry_jitter": False,
            "retry_on": ["transient", "ConnectionError"],
            "timeout_s": 90,
            "idempotent": False,
            "concurrency_key": "customer:{big}",
            "rate_limit": "10/s",
            "require": ['zone in (eu, "u s")', "memory_gb >= 1"],
            "prefer": ["gpu"],
            "memory_mb": 64,
            "cpu_s": 3600,
        },
        JobOptions,
    ),
    policies=msgspec.convert(
        {
            "catch_up": "all",
            "catch_up_window_s": 86400,
            "catch_up_max": 3,
            "coalesce": True,
            "overlap": "skip",
            "max_fires": 100,
            "exclude": ["holidays"],
            "business_days": {"calendar": "holidays", "rule": "next", "version": 7},
            "jitter_s": 300,
            "jitter": "hash",
            "keep_s": 604800,
            "keep_last": 10,
            "shards": 2,
        },
        Policies,
    ),
    misfire_grace_s=60,
    paused=True,
    note=NOTE,
)
COMBINED = ScheduleSpec(
    id="combined",
    handler_id="demo",
    job_method="echo",
    trigger=[{"type": "cron", "expression": "0 9 * * *"}, {"type": "cron", "expression": "0 12 * * SAT"}],
    timezone="Asia/Tokyo",
    note="--replace",
)
SPECS = {"plain": PLAIN, "full": FULL, "combined": COMBINED}


@pytest.fixture(autouse=True)
async def known(server, api):
    """Handlers that take anything, and a calendar."""
    handlers = {"demo": "echo", "demo.shop": "echo.it"}
    server.dispatcher.registry.learn(
        [Handler(handler_id=id_, methods=[JobMethod(name=method)]) for id_, method in handlers.items()]
    )
    await api.put("/api/calendars/holidays", json={"timezone": "UTC", "dates": ["2030-12-24"]})


def words_of(text: str, **env: str) -> list[str]:
    """The words of a command, as a shell takes them apart."""
    script = 'show() { printf "%s\\0" "$@"; }\nshow ' + text
    ran = subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"], **env}, capture_output=True, check=True)
    return ran.stdout.decode().split("\0")[:-1]


@pytest.fixture
def follow(server, api, command_line, monkeypatch):
    """Do what a text says."""
    token = (server.state_dir / "admin.token").read_text().strip()

    async def curl(text: str, _path: str) -> None:
        words = words_of(text, SCHEDULE_ZERO_TOKEN=token)
        assert words[:2] == ["curl", "-X"]
        given = list(zip(words[4::2], words[5::2], strict=True))
        headers = dict(value.split(": ", 1) for flag, value in given if flag == "-H")
        body = next(value for flag, value in given if flag == "-d")
        answer = await api.request(words[2], words[3], content=body.encode(), headers=headers)
        assert answer.is_success, answer.text

    async def python(text: str, _path: str) -> None:
        monkeypatch.setenv("SCHEDULE_ZERO_TOKEN", token)
        code = compile(text, "copied", "exec")
        await anyio.to_thread.run_sync(lambda: exec(code, {}))

    async def cli(text: str, _path: str) -> None:
        name, *words = words_of(text)
        assert name == "schedule-zero"
        ran = await command_line(*words)
        assert ran.exit_code == 0, ran.output

    async def read_yaml(text: str, path: str) -> None:
        answer = await api.post(path, json=yaml.safe_load(text))
        assert answer.is_success, answer.text

    return {"curl": curl, "python": python, "cli": cli, "yaml": read_yaml}


async def test_all_texts_are_there():
    assert [one.key for one in copy_as(PLAIN, "http://h")] == list(LABELS) == NAMES
    assert [one.key for one in copy_job_as(SubmitItem(handler_id="a", job_method="b"), "http://h")] == NAMES


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("key", NAMES)
async def test_a_text_makes_the_schedule_that_it_was_made_of(server, api, follow, name, key):
    spec = SPECS[name]
    text = next(one.text for one in copy_as(spec, server.addresses.http) if one.key == key)

    await follow[key](text, "/api/schedules")

    [record] = (await api.get("/api/schedules")).json()["schedules"]
    assert (record["handler_id"], record["job_method"]) == (spec.handler_id, spec.job_method)
    assert record["id"] == spec.id or spec.id is None
    assert msgspec.json.encode(record["job_params"], order="sorted") == msgspec.json.encode(
        msgspec.json.decode(spec.job_params), order="sorted"
    )
    assert msgspec.convert(record["options"] or {}, JobOptions) == spec.options
    wanted = msgspec.to_builtins(spec.policies)
    if spec.policies.business_days is not None:
        # The server binds it to the version that there is.
        wanted["business_days"]["version"] = record["policies"]["business_days"]["version"]
    assert msgspec.convert(record["policies"], Policies) == msgspec.convert(wanted, Policies)
    assert record["note"] == spec.note
    assert (record["state"] == "paused") == spec.paused
    assert record["misfire_grace_s"] == (spec.misfire_grace_s or 10)
    await same_trigger(api, record, spec)


async def same_trigger(api, record, spec) -> None:
    body = {"trigger": spec.trigger, "n": 5, "after": START}
    wanted = await api.post("/api/triggers/preview", json=body | ({"timezone": spec.timezone} if spec.timezone else {}))
    got = await api.post("/api/triggers/preview", json=body | {"trigger": record["trigger"]})
    assert got.json()["fires"] == wanted.json()["fires"]
    assert got.json()["words"] == wanted.json()["words"]


@pytest.mark.parametrize("key", NAMES)
async def test_a_text_runs_the_job_that_it_was_made_of(server, api, follow, key):
    item = SubmitItem(
        handler_id=FULL.handler_id,
        job_method=FULL.job_method,
        job_params=FULL.job_params,
        options=FULL.options,
        not_before_us=1_900_000_000_500_000,
    )
    text = next(one.text for one in copy_job_as(item, server.addresses.http) if one.key == key)

    await follow[key](text, "/api/executions")

    [summary] = (await api.get("/api/executions")).json()["records"]
    record = (await api.get(f"/api/executions/{summary['id']}")).json()
    assert record["job_params"] == PARAMS
    assert record["not_before"] == "2030-03-17T17:46:40.500000Z"
    said = msgspec.json.decode(msgspec.json.encode(item.options))
    # Whether it may be run twice is not kept: what follows from that is.
    assert said.pop("idempotent") is False
    assert {name: record["options"][name] for name in said} == said
