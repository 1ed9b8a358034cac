from __future__ import annotations

import json

import pytest

from schedule_zero import errors
from schedule_zero.client import Client, Job, records
from schedule_zero.client.flow import Failure, Patience, Reply, Send, Sleep
from schedule_zero.client.verbs import Verbs
from schedule_zero.model import State
from schedule_zero.rules.states import TERMINAL

LOST = Failure("the connection broke", reached=True)
REFUSED = Failure("connection refused", reached=False)


class Scripted(Verbs):
    """Carries flows out against a list of outcomes; time passes only when a flow sleeps or waits for the server."""

    def __init__(self, clock, *outcomes, retry_s=30.0):
        self.clock = clock
        self.patience = Patience(timeout_s=10.0, retry_s=retry_s)
        self.random = lambda: 1.0
        self.outcomes = list(outcomes)
        self.sent = []
        self.slept = []

    def perform(self, flow, *args, **kwargs):
        steps = flow(self, *args, **kwargs)
        outcome = None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration as stop:
                return stop.value
            if isinstance(effect, Sleep):
                self.slept.append(effect.seconds)
                self.clock.advance(effect.seconds)
                outcome = None
            else:
                assert isinstance(effect, Send)
                self.sent.append(effect.request)
                outcome = self.outcomes.pop(0)
                if isinstance(outcome, Reply):
                    self.clock.advance(effect.request.wait_s)

    def bodies(self):
        return [json.loads(request.body) for request in self.sent]

    def keys(self):
        return [dict(request.headers).get("idempotency-key") for request in self.sent]


def reply(document, status=200, **headers):
    return Reply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(document).encode()
    )


def problem(status, code, message="no", **more):
    return reply({"status": status, "error": {"code": code, "message": message}, **more}, status)


def accepted(*ids):
    return reply({"ids": list(ids)}, 202)


@pytest.fixture
def scripted(clock):
    return lambda *outcomes, **settings: Scripted(clock, *outcomes, **settings)


@pytest.mark.parametrize(
    "first",
    [REFUSED, LOST, problem(503, "store_unavailable"), problem(429, "too_many_requests"), Reply(502, {}, b"<html>")],
)
def test_a_write_is_repeated_with_the_same_idempotency_key(scripted, first):
    client = scripted(first, first, accepted("e1"))
    assert client.submit("demo", "noop") == "e1"
    assert len(client.sent) == 3
    assert len(set(client.keys())) == 1
    assert client.keys()[0]


def test_two_submissions_have_two_keys(scripted):
    client = scripted(accepted("e1"), accepted("e2"))
    client.submit("demo", "noop")
    client.submit("demo", "noop")
    assert len(set(client.keys())) == 2


def test_the_callers_key_is_sent_and_told_to_the_job(scripted):
    client = scripted(accepted("e1"))
    client.submit("demo", "noop", idempotency_key="invoice-7")
    assert client.keys() == ["invoice-7"]
    assert client.bodies()[0]["idempotency_key"] == "invoice-7"


def test_retries_back_off_with_jitter_and_end_in_time_with_the_last_error(scripted):
    client = scripted(*[REFUSED] * 5, *[problem(503, "draining", "stopping")] * 100, retry_s=20.0)
    with pytest.raises(errors.Draining, match="stopping"):
        client.nodes()
    assert client.slept[:7] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert sum(client.slept) <= 20.0


def test_retry_after_is_honoured(scripted):
    client = scripted(reply({"error": {"code": "draining", "message": ""}}, 503, retry_after="7"), accepted("e1"))
    client.submit("demo", "noop")
    assert client.slept == [7.0]


def test_without_patience_nothing_is_repeated(scripted):
    client = scripted(REFUSED, retry_s=0)
    with pytest.raises(errors.ServerUnreachable, match="connection refused"):
        client.nodes()
    assert client.slept == []


def test_a_post_that_may_have_arrived_is_not_repeated_without_a_key(scripted):
    client = scripted(LOST)
    with pytest.raises(errors.ServerUnreachable):
        client.request("POST", "/api/tokens", body={"name": "x"})
    client = scripted(REFUSED, reply({"token": "t"}))
    assert client.request("POST", "/api/tokens", body={"name": "x"}) == {"token": "t"}


def test_a_delete_whose_answer_was_lost_has_succeeded_when_there_is_nothing_left(scripted):
    assert scripted(LOST, problem(404, "not_found")).delete_schedule("s") is None
    with pytest.raises(errors.NotFound):
        scripted(REFUSED, problem(404, "not_found")).delete_schedule("s")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(404, "unknown_handler"), errors.UnknownHandler),
        (problem(400, "invalid_params"), errors.InvalidParams),
        (problem(409, "already_exists"), errors.AlreadyExists),
        (problem(422, "idempotency_mismatch"), errors.IdempotencyMismatch),
        (problem(409, "a_code_of_tomorrow"), errors.Conflict),
        (Reply(401, {}, b"<html>who are you?</html>"), errors.Unauthenticated),
        (Reply(500, {}, b""), errors.ScheduleZeroError),
        (Reply(301, {}, b"moved"), errors.ScheduleZeroError),
    ],
)
def test_errors_are_typed_and_final(scripted, answer, kind):
    client = scripted(answer)
    with pytest.raises(errors.ScheduleZeroError) as raised:
        client.submit("demo", "noop")
    assert type(raised.value) is kind
    assert raised.value.data["status"] == answer.status
    assert client.slept == []


def test_an_error_says_where_in_the_request_it_is(scripted):
    said = problem(
        400, "invalid_field", "expected `int`", errors=[{"detail": "…", "pointer": "/options/priority"}], hint="h"
    )
    with pytest.raises(errors.InvalidField) as raised:
        scripted(said).submit("demo", "noop")
    error = raised.value
    assert (error.message, error.pointer, error.hint) == ("expected `int`", "/options/priority", "h")


def test_an_answer_that_is_not_the_servers_is_no_crash(scripted):
    with pytest.raises(errors.ScheduleZeroError, match="not the server's answer"):
        scripted(Reply(200, {}, b"<html>welcome</html>")).nodes()


def test_only_what_was_said_is_sent(scripted):
    client = scripted(accepted("e1"))
    client.submit("demo", "add", {"a": 1}, priority=9, not_before=5.0)
    assert client.bodies() == [
        {
            "handler_id": "demo",
            "job_method": "add",
            "job_params": {"a": 1},
            "options": {"priority": 9},
            "not_before": 5.0,
        }
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_no_word_for_is_refused_before_it_is_sent_as_null(scripted, number):
    client = scripted()
    with pytest.raises(errors.InvalidField, match="expected a finite number") as refused:
        client.submit("demo", "add", {"a": [1, number]})
    assert refused.value.pointer == "/job_params/a/1"
    with pytest.raises(errors.InvalidField, match="expected a finite number") as refused:
        client.submit("demo", "add", timeout_s=number)
    assert refused.value.pointer == "/options/timeout_s"


def test_many_jobs_go_in_chunks_by_number_and_by_size(scripted):
    client = scripted(accepted(*map(str, range(10_000))), accepted("x", "y"))
    jobs = (Job(handler_id="demo", job_method="noop") for _ in range(10_002))
    assert client.submit_many(jobs)[-2:] == ["x", "y"]
    assert [len(body["executions"]) for body in client.bodies()] == [10_000, 2]
    assert len(set(client.keys())) == 2

    client = scripted(accepted("a"), accepted("b"))
    large = {"handler_id": "demo", "job_method": "echo", "job_params": {"text": "x" * (5 << 20)}}
    assert client.submit_many([large, large]) == ["a", "b"]


def test_an_error_amid_many_says_what_is_stored(scripted):
    client = scripted(accepted("a"), problem(400, "invalid_params"))
    large = {"handler_id": "demo", "job_method": "echo", "job_params": {"text": "x" * (5 << 20)}}
    with pytest.raises(errors.InvalidParams) as raised:
        client.submit_many([large, large])
    assert raised.value.data["ids"] == ["a"]


def execution(status, **more):
    return reply({"id": "e1", "handler_id": "demo", "job_method": "add", "status": status, **more})


def test_wait_polls_until_it_is_over(scripted):
    client = scripted(execution("running"), execution("retry_scheduled"), execution("completed", result=42))
    assert client.wait("e1").value() == 42
    assert [dict(request.query) for request in client.sent] == [{"wait_s": "20.0"}] * 3


def test_wait_ends_when_its_time_is_up_and_says_which(scripted):
    client = scripted(*[execution("running")] * 3)
    with pytest.raises(errors.WaitTimeout) as raised:
        client.wait("e1", wait_s=50)
    assert [dict(request.query)["wait_s"] for request in client.sent] == ["20.0", "20.0", "10.0"]
    assert raised.value.data["execution_id"] == "e1"


def test_wait_outlives_a_restart_of_the_server(scripted):
    client = scripted(execution("running"), LOST, REFUSED, REFUSED, execution("completed", result=1))
    assert client.wait("e1").result == 1


def test_a_failed_job_is_an_error_only_when_its_value_is_asked_for(scripted):
    failed = execution("failed", error={"type": "ValueError", "message": "no", "traceback": "Traceback …"})
    record = scripted(failed).wait("e1")
    assert record.status is State.FAILED
    with pytest.raises(errors.JobFailed, match=r"demo\.add ended as failed: ValueError: no") as raised:
        record.value()
    assert raised.value.data["execution_id"] == "e1"


def test_run_gives_the_result_at_once_or_waits_on(scripted):
    done = reply({"status": "success", "result": 42, "execution_id": "e1", "message": "m"})
    assert scripted(done).run("demo", "add").result == 42
    later = reply({"status": "accepted", "execution_id": "e1", "message": "m"}, 202)
    client = scripted(later, execution("running"), execution("completed", result=43))
    assert client.run("demo", "add", wait_s=100).result == 43
    client = scripted(later, execution("running"))
    with pytest.raises(errors.WaitTimeout):
        client.run("demo", "add", wait_s=25)


def test_run_raises_what_the_job_raised(scripted):
    error = {"type": "ValueError", "message": "no", "traceback": "…"}
    failed = reply({"status": "error", "execution_id": "e1", "message": "demo.add ended as dead: no", "error": error})
    with pytest.raises(errors.JobFailed, match=r"demo\.add ended as dead: no") as raised:
        scripted(failed).run("demo", "add")
    assert raised.value.data == {"execution_id": "e1", "type": "ValueError", "traceback": "…"}


def test_ids_are_encoded_in_paths(scripted):
    client = scripted(reply({}))
    client.delete_schedule("a/b c", if_match="1-2")
    assert client.sent[0].path == "/api/schedules/a%2Fb%20c"
    assert dict(client.sent[0].headers)["if-match"] == '"1-2"'


def test_the_clients_idea_of_an_end_is_the_servers():
    assert records.OVER == TERMINAL


def test_help_shows_a_verbs_signature():
    import inspect

    assert "handler_id" in str(inspect.signature(Client.submit))
    assert Client.submit.__doc__.startswith("Have a job run")
