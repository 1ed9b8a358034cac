"""``schedule-zero run``, ``submit`` and ``run-now``: have a job done, now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click

from schedule_zero.cli.api import Caller, main, with_caller
from schedule_zero.cli.app import EXIT_FAILURE
from schedule_zero.cli.arguments import Duration, Moment, job_params, job_target, json_document
from schedule_zero.cli.client_groups import show_group
from schedule_zero.cli.job_options import job_options, split_options
from schedule_zero.cli.output import show_json, show_value
from schedule_zero.cli.terminal import say
from schedule_zero.cli.waiting import PATIENT_S, wait_for
from schedule_zero.errors import JobFailed, WaitTimeout

if TYPE_CHECKING:
    from schedule_zero.client import Client

TARGET = click.argument("words", metavar="JOB [KEY=VALUE]...", nargs=-1, required=True)
PARAMS = click.option(
    "--params", metavar="JSON", help="All parameters as a JSON object; @FILE reads a file, - standard input."
)

WAIT = click.option("--wait", is_flag=True, help="Wait until all are over; ends with 1 if one failed.")
WAIT_FOR = click.option(
    "--wait-for", "wait_s", type=Duration(), help="Give up waiting after this long (implies --wait)."
)


@main.command()
@TARGET
@PARAMS
@click.option("--wait-for", "wait_s", type=Duration(), default=300.0, help="Give up waiting after this long. [5m]")
@click.option("--key", "idempotency_key", help="Idempotency key: the same key again doesn't run it again.")
@job_options
@with_caller
def run(
    caller: Caller,
    words: tuple[str, ...],
    params: str | None,
    wait_s: float,
    idempotency_key: str | None,
    **given: Any,
) -> None:
    """Run a job now, wait for it and print its result.

    JOB is HANDLER.METHOD (or HANDLER METHOD). A VALUE is JSON where it can be read as JSON, else text.
    Ends with 1 if the job failed, with 5 if it isn't over in time.

    \b
    Examples:
      schedule-zero run demo.add a=19 b=23
      schedule-zero run demo.echo --params '{"list": [1, 2]}'
    """
    handler_id, method, pairs = job_target(words)
    arguments = job_params(pairs, params)
    options = split_options(given)
    quick_s = min(wait_s, PATIENT_S)
    with caller.client() as client:
        try:
            ran = client.run(handler_id, method, arguments, wait_s=quick_s, idempotency_key=idempotency_key, **options)
            value = ran.result
            execution_id = ran.execution_id
        except WaitTimeout as late:
            execution_id = late.data["execution_id"]
            (record,) = wait_for(client, [execution_id], timeout_s=wait_s, waited_s=quick_s)
            try:
                value = client.result(execution_id) if record.result_bytes else record.value()
            except JobFailed as failed:
                _job_failed(failed, caller)
        except JobFailed as failed:
            _job_failed(failed, caller)
    if caller.json:
        show_json({"status": "success", "execution_id": execution_id, "result": value})
    else:
        show_value(value)


def _job_failed(failed: JobFailed, caller: Caller) -> NoReturn:
    data = failed.data
    if caller.json:
        error = {"type": data["type"], "message": failed.message, "traceback": data["traceback"]}
        show_json({"status": "error", "execution_id": data["execution_id"], "error": error})
        raise SystemExit(EXIT_FAILURE)
    if data["traceback"]:
        say(data["traceback"].rstrip(), err=True)
    failed.hint = failed.hint or f"schedule-zero executions {data['execution_id']}"
    raise failed


@main.command()
@click.argument("words", metavar="[JOB [KEY=VALUE]...]", nargs=-1)
@PARAMS
@click.option("--count", type=click.IntRange(1, 10_000_000), default=1, help="Submit it so many times.")
@click.option("--file", "jobs", metavar="FILE", help="Submit the jobs in this file: one JSON object per line; - stdin.")
@click.option("--at", "not_before", type=Moment(), help="Not before this moment (2030-01-01T00:00:00Z, +10m).")
@click.option("--key", "idempotency_key", help="Idempotency key: the same key again gives the same execution.")
@click.option("--broadcast", is_flag=True, help="Once on every node that matches now; prints the group's id.")
@click.option("--shards", type=click.IntRange(min=1), help="In so many parts; prints the group's id.")
@WAIT
@WAIT_FOR
@job_options
@with_caller
def submit(
    caller: Caller,
    words: tuple[str, ...],
    params: str | None,
    count: int,
    jobs: str | None,
    not_before: float | None,
    idempotency_key: str | None,
    broadcast: bool,
    shards: int | None,
    wait: bool,
    wait_s: float | None,
    **given: Any,
) -> None:
    """Have a job run, and print its execution's id as soon as it is stored.

    \b
    Examples:
      schedule-zero submit demo.sleep seconds=5 --priority 9
      schedule-zero submit demo.noop --count 10000 --wait
      schedule-zero submit demo.echo --broadcast --require-node gpu --wait
      schedule-zero submit demo.echo --shards 8
      schedule-zero submit --file jobs.jsonl      # {"handler_id": …, "job_method": …, "job_params": {…}}
    """
    options = split_options(given)
    if bool(words) == bool(jobs):
        raise click.UsageError("expected either a JOB or --file")
    if broadcast or shards:
        if jobs or count > 1 or (broadcast and shards):
            raise click.UsageError("--broadcast and --shards go with one JOB, and not with one another")
        handler_id, method, pairs = job_target(words)
        options |= {"not_before": not_before, "idempotency_key": idempotency_key}
        with caller.client() as client:
            made = client.submit_group(
                handler_id, method, job_params(pairs, params), broadcast=broadcast, shards=shards, **options
            )
        if wait or wait_s is not None:
            show_group(caller, made.id, wait=wait, wait_s=wait_s)
        elif caller.json:
            show_json({"id": made.id, "ids": made.execution_ids})
        else:
            say(made.id)
        return
    if idempotency_key and (jobs or count > 1):
        raise click.UsageError("--key names one execution: it doesn't go with --file or --count")
    with caller.client() as client:
        if jobs:
            ids = client.submit_many(_lines(jobs))
        else:
            handler_id, method, pairs = job_target(words)
            arguments = job_params(pairs, params)
            if count == 1:
                options |= {"not_before": not_before, "idempotency_key": idempotency_key}
                ids = [client.submit(handler_id, method, arguments, **options)]
            else:
                one: dict[str, Any] = {
                    "handler_id": handler_id,
                    "job_method": method,
                    "job_params": arguments,
                    "options": options,
                }
                one |= {} if not_before is None else {"not_before": not_before}
                ids = client.submit_many(one for _ in range(count))
        _show(caller, client, ids, wait=wait, wait_s=wait_s)


@main.command("run-now")
@click.argument("id")
@WAIT
@WAIT_FOR
@with_caller
def run_now(caller: Caller, id: str, wait: bool, wait_s: float | None) -> None:
    """Run a schedule's job once, now, and print its execution's id. The schedule's times stay as they are.

    \b
    Example:
      schedule-zero run-now nightly --wait
    """
    with caller.client() as client:
        policies = client.get_schedule(id).policies
        made = client.run_schedule(id)
        if not (policies.get("broadcast") or policies.get("shards")):
            _show(caller, client, [made], wait=wait, wait_s=wait_s)
        elif wait or wait_s is not None:
            show_group(caller, made, wait=wait, wait_s=wait_s)
        else:
            _show_ids(caller, [made])


def _lines(source: str) -> list[Any]:
    """The jobs of a file of JSON lines; an error names the line."""
    with click.open_file(source, encoding="utf-8") as stream:
        numbered = [(number, line) for number, line in enumerate(stream, 1) if line.strip()]
    return [json_document(line, f"{source}:{number}") for number, line in numbered]


def _show(caller: Caller, client: Client, ids: list[str], *, wait: bool, wait_s: float | None) -> None:
    """The executions' ids; or, once they are over, what became of them."""
    if wait or wait_s is not None:
        _show_ends(caller, wait_for(client, ids, timeout_s=wait_s))
    else:
        _show_ids(caller, ids)


def _show_ids(caller: Caller, ids: list[str]) -> None:
    if caller.json:
        show_json({"ids": ids})
    else:
        say("\n".join(ids))


def _show_ends(caller: Caller, over: list[Any]) -> None:
    failed = [record for record in over if record.status != "completed"]
    if caller.json:
        import msgspec

        show_json(msgspec.to_builtins(over))
    elif len(over) == 1 and not failed:
        show_value(over[0].result)
    else:
        say(f"{len(over) - len(failed)} completed, {len(failed)} not", err=True)
        for record in failed[:10]:
            said = f": {record.error.type}: {record.error.message}" if record.error else ""
            say(f"{record.id} {record.status}{said}", err=True)
    if failed:
        raise SystemExit(EXIT_FAILURE)
