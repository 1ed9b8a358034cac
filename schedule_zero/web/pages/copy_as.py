"""A schedule, or one run of a job, as what makes it: for curl, Python, the command line, and as YAML. Pure.

A test runs each of these texts and looks what the server is asked for.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import yaml
from msgspec import Struct

from schedule_zero.job_options import JobOptions
from schedule_zero.model import Policies
from schedule_zero.service.specs import ScheduleSpec, SubmitItem
from schedule_zero.web.pages.duration_text import duration_text
from schedule_zero.web.pages.json_values import read_json, write_json

# In the order in which they are offered.
LABELS = {"curl": "curl", "python": "Python", "cli": "Command line", "yaml": "YAML"}
# Command-line options that are not called by their name.
_FLAGS = {
    "require": "--require-node",
    "prefer": "--prefer-node",
    "cpu_s": "--cpu-time",
    "idempotent": "--idempotent",
}
_POLICY_FLAGS = {"jitter": "--jitter-spread"}
_WIDTH = 100


class CopyText(Struct, frozen=True):
    """One way to say it."""

    key: str
    label: str
    text: str


def copy_as(spec: ScheduleSpec, base_url: str) -> list[CopyText]:
    """What makes this schedule on the server at ``base_url``; one with an id replaces the one of that id."""
    body = document(spec)
    texts = {
        "curl": _curl_schedule(body, base_url),
        "python": _python_schedule(body, base_url),
        "cli": _cli_schedule(body),
        "yaml": _yaml({"schedules": [body]}),
    }
    return [CopyText(key, label, texts[key]) for key, label in LABELS.items()]


def copy_job_as(item: SubmitItem, base_url: str) -> list[CopyText]:
    """What submits this job."""
    body = _job(item.handler_id, item.job_method, bytes(item.job_params), item.options)
    not_before = None if item.not_before_us is None else item.not_before_us / 1e6
    if not_before is not None:
        body["not_before"] = _whole(not_before)
    texts = {
        "curl": _curl("POST", f"{base_url}/api/executions", body),
        "python": _python_call("submit", base_url, _job_arguments(body), _rest(body, "job_params")),
        "cli": _cli(["submit", *_cli_job(body), *_flag("--at", body.get("not_before"))], body.get("options", {}), {}),
        "yaml": _yaml({"executions": [body]}),
    }
    return [CopyText(key, label, texts[key]) for key, label in LABELS.items()]


def document(spec: ScheduleSpec) -> dict[str, Any]:
    """The body of the API that says this schedule, without what is the default anyway."""
    body: dict[str, Any] = {} if spec.id is None else {"id": spec.id}
    body |= _job(spec.handler_id, spec.job_method, bytes(spec.job_params), spec.options)
    options = body.pop("options", None)
    body["trigger"] = spec.trigger
    more = {
        "timezone": spec.timezone,
        "options": options,
        "policies": _policies(spec.policies),
        "misfire_grace_s": None if spec.misfire_grace_s is None else _whole(spec.misfire_grace_s),
        "paused": spec.paused or None,
        "note": spec.note,
    }
    return body | {name: value for name, value in more.items() if value is not None}


def _job(handler_id: str, job_method: str, params: bytes, options: JobOptions) -> dict[str, Any]:
    body: dict[str, Any] = {"handler_id": handler_id, "job_method": job_method}
    document = read_json(params.decode() or "{}")
    if document:
        body["job_params"] = document
    said = {name: _whole(value) for name, value in msgspec.to_builtins(options).items()}
    return body | ({"options": said} if said else {})


def _policies(policies: Policies) -> dict[str, Any] | None:
    said: dict[str, Any] = {name: _whole(value) for name, value in msgspec.to_builtins(policies).items()}
    if "business_days" in said:
        # The server binds it to the version that there is.
        said["business_days"] = {key: value for key, value in said["business_days"].items() if key != "version"}
    return said or None


def _whole(value: Any) -> Any:
    """``600.0`` → ``600``: as people write it."""
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --- curl ---------------------------------------------------------------------------------------------


def _curl_schedule(body: dict[str, Any], base_url: str) -> str:
    if "id" not in body:
        return _curl("POST", f"{base_url}/api/schedules", body)
    rest = {name: value for name, value in body.items() if name != "id"}
    return _curl("PUT", f"{base_url}/api/schedules/{quote(body['id'], safe='')}", rest)


def _curl(method: str, url: str, body: dict[str, Any]) -> str:
    lines = [
        f"curl -X {method} {shlex.quote(url)}",
        '-H "Authorization: Bearer $SCHEDULE_ZERO_TOKEN"',
        "-H 'Content-Type: application/json'",
        f"-d {_quoted(write_json(body, indent=2))}",
    ]
    return " \\\n  ".join(lines)


def _quoted(text: str) -> str:
    """As one word of a shell, always in quotes; a word that begins with @ would be a file's name to curl."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


# --- Python -------------------------------------------------------------------------------------------


def _python_schedule(body: dict[str, Any], base_url: str) -> str:
    keywords = _rest(body, "id", "job_params")
    arguments = _job_arguments(body)
    if "id" in body:
        return _python_call("put_schedule", base_url, [body["id"], *arguments], keywords)
    return _python_call("schedule", base_url, arguments, keywords)


def _job_arguments(body: dict[str, Any]) -> list[Any]:
    return [body["handler_id"], body["job_method"], *([body["job_params"]] if "job_params" in body else [])]


def _rest(body: dict[str, Any], *without: str) -> dict[str, Any]:
    """Keyword arguments: job options stand beside the others."""
    names = {"handler_id", "job_method", "options", *without}
    options: dict[str, Any] = body.get("options", {})
    return {name: value for name, value in body.items() if name not in names} | options


def _python_call(verb: str, base_url: str, arguments: list[Any], keywords: dict[str, Any]) -> str:
    lines = [_python(one, 4) for one in arguments]
    lines += [f"{name}={_python(value, 4)}" for name, value in keywords.items()]
    inner = "".join(f"        {line},\n" for line in lines)
    return (
        f"from schedule_zero import Client\n\nwith Client({base_url!r}) as client:\n    client.{verb}(\n{inner}    )\n"
    )


def _python(value: Any, indent: int) -> str:
    """A literal; one that is too long for a line stands on several."""
    short = repr(value)
    if len(short) + indent <= _WIDTH or not isinstance(value, dict | list) or not value:
        return short
    if isinstance(value, dict):
        parts = [f"{key!r}: {_python(part, indent + 4)}" for key, part in value.items()]
    else:
        parts = [_python(part, indent + 4) for part in value]
    inner = "".join(f"{' ' * (indent + 8)}{part},\n" for part in parts)
    brackets = "{}" if isinstance(value, dict) else "[]"
    return f"{brackets[0]}\n{inner}{' ' * (indent + 4)}{brackets[1]}"


# --- the command line ---------------------------------------------------------------------------------


def _cli_schedule(body: dict[str, Any]) -> str:
    words = ["schedule", *_cli_job(body), *_cli_trigger(body["trigger"])]
    words += _flag("--timezone", body.get("timezone"))
    if "id" in body:
        words += [*_flag("--id", body["id"]), "--replace"]
    words += _flag("--misfire-grace", _duration(body.get("misfire_grace_s")))
    words += ["--paused"] if body.get("paused") else []
    words += _flag("--note", body.get("note"))
    return _cli(words, body.get("options", {}), body.get("policies", {}))


def _cli_job(body: dict[str, Any]) -> list[str]:
    params = _flag("--params", write_json(body["job_params"])) if "job_params" in body else []
    # Both names may have dots in them.
    return [body["handler_id"], body["job_method"], *params]


def _cli_trigger(trigger: Any) -> list[str]:
    keys = set(trigger) if isinstance(trigger, dict) else set()
    if keys and trigger["type"] == "cron" and keys <= {"type", "expression", "timezone"} and "expression" in keys:
        zone = _flag("--timezone", trigger.get("timezone"))
        return [*_flag("--cron", trigger["expression"]), *zone]
    return _flag("--trigger", write_json(trigger))


def _cli(words: list[str], options: dict[str, Any], policies: dict[str, Any]) -> str:
    flags = [*_option_flags(options), *_policy_flags(policies)]
    head, *rest = _grouped([*words, *flags])
    return " \\\n  ".join([f"schedule-zero {head}", *rest])


def _grouped(words: list[str]) -> Iterator[str]:
    """One option with its value a line."""
    line: list[str] = []
    for word in words:
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(word if word.startswith("--") else shlex.quote(word))
    yield " ".join(line)


def _flag(name: str, value: object) -> list[str]:
    """Text that begins with a dash is not taken for an option."""
    if value is None:
        return []
    text = str(value)
    return [f"{name}={shlex.quote(text)}"] if text.startswith("-") else [name, text]


def _option_flags(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = _FLAGS.get(name) or f"--{name.removesuffix('_s').replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--not-" if name == "idempotent" else "--no-")
        elif name == "retry_delays_s":
            yield from _flag(flag, ",".join(duration_text(one) for one in value))
        else:
            yield from _many(flag, name, value)


def _policy_flags(policies: dict[str, Any]) -> Iterator[str]:
    for name, value in policies.items():
        flag = _POLICY_FLAGS.get(name) or f"--{name.removesuffix('_s').replace('_', '-')}"
        if value is True:
            yield flag
        elif name == "business_days":
            yield from _flag(flag, f"{value['rule']}:{value['calendar']}")
        else:
            yield from _many(flag, name, value)


def _many(flag: str, name: str, value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        yield from _flag(flag, _duration(one) if name.endswith("_s") else one)


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else duration_text(seconds)


# --- YAML ---------------------------------------------------------------------------------------------


def _yaml(body: dict[str, Any]) -> str:
    # By way of JSON: no object stands twice in it, for which there would be an alias.
    plain = json.loads(write_json(body))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=_WIDTH)
