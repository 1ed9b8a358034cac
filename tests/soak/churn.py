"""What clients of a soak do all the time: submit, schedule, change, cancel, requeue, read; at random, from a seed.

All that accumulates in a server that is used has to occur: rows that are pruned, letters, groups, event streams,
idempotency keys, versions of schedules, logs, large results, processes of isolated jobs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from schedule_zero.testbed.history import Op
from tests.soak.asking import REFUSED, Client

# How long a client waits between two requests, in seconds of the machine.
PAUSE_S = (0.02, 0.25)
BULK = (50, 200)
# Of a large result: both below and above what is stored in the row itself.
BIG = (100_000, 2_500_000)
# What fills SQLite's page caches (16 MiB of the writer, 2 of each reader): so many results, read so often. (What is
# larger than 1 MiB is stored aside, compressed.)
FILLING, FILLING_SIZE, READINGS = 24, 1_000_000, 3
# Schedules that a client has at a time.
SCHEDULES = 10


class Churn:
    """One client's doings."""

    def __init__(self, client: Client, lives: Callable[[], int]) -> None:
        self.client = client
        # How many lives the server has had.
        self._lives = lives
        self._filled = 0
        self._rng = client.rng
        self._mine: list[str] = []
        self._named = 0
        # The last that it has submitted.
        self._ids: deque[str] = deque(maxlen=200)

    def run(self) -> None:
        """Until it is told to stop."""
        while not self.client.stop.wait(self._rng.uniform(*PAUSE_S)):
            if self.client.number == 1 and self._filled != self._lives():
                self._filled = self._lives()
                self.fill()
            self.one()

    def fill(self) -> None:
        """Caches of a fixed size fill as there is work; at the start of a life, so that it is no growth later."""
        self._submit([{"handler_id": "chaos", "job_method": "big", "job_params": {"size": FILLING_SIZE}}] * FILLING)
        for id_ in list(self._ids)[-FILLING:]:
            self.client.ask("GET", f"/api/executions/{id_}", params={"wait_s": 20}, what="execution")
            for _ in range(READINGS):
                self.client.ask("GET", f"/api/executions/{id_}/result", what="result")

    def one(self) -> None:
        """Anything."""
        doings = {
            self.submit: 30,
            self.bulk: 3,
            self.big: 3,
            self.isolated: 1,
            self.cancel: 8,
            self.cancel_many: 1,
            self.observe: 8,
            self.schedule: 12,
            self.letters: 3,
            self.group: 2,
            self.run_now: 3,
            self.backfill: 1,
            self.read: 20,
            self.listen: 2,
        }
        self._rng.choices(list(doings), list(doings.values()))[0]()

    # --- executions -----------------------------------------------------------------------------------

    def job(self) -> dict[str, Any]:
        """A method, its parameters, its options."""
        rng = self._rng
        method = rng.choice(["ok", "ok", "ok", "log", "sleep", "error"])
        options: dict[str, Any] = {}
        params: dict[str, Any] = {}
        if method == "ok":
            params = {"value": rng.randint(0, 10**9)}
        elif method == "log":
            params = {"lines": rng.randint(1, 100), "text": "x" * rng.randint(1, 100)}
        elif method == "sleep":
            params = {"seconds": round(rng.uniform(0.05, 0.6), 3)}
            if rng.random() < 0.2:
                options["timeout_s"] = 0.2
        else:
            params = {"message": f"chaos {rng.randint(1, 5)}"}
            options.update(max_attempts=rng.randint(1, 3), retry_delay_s=rng.choice([0.0, 5.0, 30.0]))
        if rng.random() < 0.1:
            options["priority"] = rng.randint(1, 9)
        if rng.random() < 0.05:
            options["queue_timeout_s"] = 600
        if rng.random() < 0.05:
            options.update(concurrency_key="key", max_per_key=4)
        return {"handler_id": "chaos", "job_method": method, "job_params": params, "options": options}

    def submit(self) -> None:
        self._submit([self.job() for _ in range(self._rng.randint(1, 3))])

    def bulk(self) -> None:
        item = {"handler_id": "chaos", "job_method": "ok", "job_params": {"value": 1}}
        self._submit([item] * self._rng.randint(*BULK))

    def big(self) -> None:
        size = self._rng.randint(*BIG)
        self._submit([{"handler_id": "chaos", "job_method": "big", "job_params": {"size": size}}])

    def isolated(self) -> None:
        item = {"handler_id": "chaos", "job_method": "ok", "options": {"isolation": "process"}}
        self._submit([item])

    def _submit(self, items: list[dict[str, Any]]) -> None:
        mark = self.client.mark()
        key = mark if self._rng.random() < 0.5 else None
        body = {"executions": [{**item, "idempotency_key": mark} for item in items]}
        args = {"count": len(items), "mark": mark, **({} if key is None else {"key": key})}
        # What has a key can be asked again.
        for _ in range(1 if key is None else 3):
            call = {"op": Op.SUBMIT, "args": args, "answer": {"ids": "ids"}}
            told = self.client.ask("POST", "/api/executions", body, key=key, **call)
            if told is not None:
                self._ids.extend(told["ids"])
                if key is None or self._rng.random() < 0.9:
                    return

    def cancel(self) -> None:
        if self._ids:
            id_ = self._rng.choice(list(self._ids)[-20:])
            path = f"/api/executions/{id_}/cancel"
            call = {"op": Op.CANCEL, "args": {"id": id_}, "answer": {"outcome": "outcome", "state": "status"}}
            self.client.ask("POST", path, what="cancel", **call)

    def cancel_many(self) -> None:
        body = {"handler_id": "chaos", "job_method": "sleep", "status": ["pending"]}
        self.client.ask("POST", "/api/executions/cancel", body)

    def observe(self) -> None:
        if self._ids:
            id_ = self._rng.choice(self._ids)
            path, wait_s = f"/api/executions/{id_}", self._rng.choice([0, 0, 1])
            call = {"op": Op.OBSERVE, "args": {"id": id_}, "answer": {"state": "status"}}
            told = self.client.ask("GET", path, params={"wait_s": wait_s}, what="execution", **call)
            if told is not None and told["status"] == "completed":
                self.client.ask("GET", f"{path}/result", what="result")
                self.client.ask("GET", f"{path}/logs", what="logs")

    def run_now(self) -> None:
        self.client.ask("POST", "/api/run_now", {**self.job(), "wait_s": 1})

    def group(self) -> None:
        body = self.job() | self._rng.choice([{"broadcast": True}, {"shards": 4}])
        self.client.ask("POST", "/api/groups", body)

    def letters(self) -> None:
        """Half are requeued, some put aside; the others are pruned like any."""
        chance = self._rng.random()
        if chance < 0.5:
            body = {"handler_id": "chaos", "job_method": "error", "options": {"max_attempts": 1}, "rate_per_s": 100}
            self.client.ask("POST", "/api/dead-letters/requeue", body)
        elif chance < 0.7:
            self.client.ask("POST", "/api/dead-letters/discard", {"all": True})
        else:
            self.client.ask("GET", "/api/dead-letters")

    # --- schedules --------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Create one, or do something to one of its own."""
        rng = self._rng
        if len(self._mine) < SCHEDULES:
            self.create()
            return
        id_ = rng.choice(self._mine)
        path, args, told = f"/api/schedules/{id_}", {"id": id_}, {name: name for name in ("generation", "version")}
        match rng.choice(["put", "put", "pause", "resume", "delete", "delete", "run", "skip"]):
            case "put":
                body = {name: value for name, value in self.document(id_).items() if name != "id"}
                self.client.ask("PUT", path, body, op=Op.UPDATE_SCHEDULE, args=args, answer=told, what="schedule")
            case "pause":
                self.client.ask("POST", f"{path}/pause", {}, op=Op.PAUSE_SCHEDULE, args=args, answer=told, what="pause")
            case "resume":
                self.client.ask("POST", f"{path}/resume", op=Op.RESUME_SCHEDULE, args=args, answer=told, what="resume")
            case "delete":
                self.client.ask("DELETE", path, op=Op.DELETE_SCHEDULE, args=args, what="schedule")
                self._mine.remove(id_)
            case "run":
                self.client.ask("POST", f"{path}/run", what="run")
            case _:
                self.client.ask("POST", f"{path}/skip", {"count": 1}, what="skip")

    def create(self) -> None:
        self._named += 1
        id_ = f"s{self.client.number}-{self._named}"
        body = {"schedules": [self.document(id_)]}
        if self.client.ask("POST", "/api/schedules", body, op=Op.CREATE_SCHEDULE, args={"id": id_}) is not None:
            self._mine.append(id_)

    def document(self, id_: str) -> dict[str, Any]:
        """Each minute, hour, day; some with a policy."""
        rng = self._rng
        trigger = rng.choice(
            [
                {"type": "interval", "minutes": rng.randint(1, 10)},
                {"type": "interval", "seconds": rng.randint(20, 600)},
                {"type": "cron", "expression": f"*/{rng.randint(1, 15)} * * * *"},
                {"type": "cron", "expression": f"{rng.randint(0, 59)} * * * *", "timezone": "Europe/Berlin"},
                {"type": "cron", "expression": "H H * * *"},
                {"type": "cron", "expression": "0 9 * * MON-FRI", "timezone": "America/New_York"},
            ]
        )
        policies = rng.choice(
            [
                {},
                {},
                {"overlap": rng.choice(["skip", "buffer_one", "buffer_all", "cancel_running", "replace_pending"])},
                {"jitter_s": 20},
                {"keep_last": 20},
                {"max_failures": 3},
                {"catch_up": "all", "catch_up_max": 10},
                {"coalesce": True},
                {"shards": 2},
            ]
        )
        return {"id": id_, **self.job(), "trigger": trigger, "policies": policies}

    def backfill(self) -> None:
        if self._mine:
            id_ = self._rng.choice(self._mine)
            health = self.client.ask("GET", "/api/health")
            shown = self.client.ask("GET", f"/api/schedules/{id_}", what="schedule")
            if health is not None and shown is not None:
                body = {"from": shown["created_at"], "to": health["now"], "rate_per_s": 100}
                # (It may have had no nominal time since it was made: 400.)
                path, refused = f"/api/schedules/{id_}/backfill", REFUSED | {400}
                self.client.ask("POST", path, body, what="backfill", refused=refused)

    # --- readers ----------------------------------------------------------------------------------------

    def read(self) -> None:
        """What a screen asks for."""
        pages = [
            "/api/executions",
            "/api/executions?status=failed,timeout&limit=50",
            "/api/executions/stats",
            "/api/executions/errors",
            "/api/schedules",
            "/api/fires",
            "/api/nodes",
            "/api/handlers",
            "/api/forecast",
            "/api/groups",
            "/api/requeues",
            "/metrics",
        ]
        if self._mine:
            path = f"/api/schedules/{self._rng.choice(self._mine)}"
            pages += [path, *(f"{path}/{page}" for page in ("fires", "audit", "explain", "versions"))]
        page = self._rng.choice(pages)
        what = page.rpartition("/")[2] if page.startswith("/api/schedules/") else page.partition("?")[0]
        self.client.ask("GET", page, what=what)

    def listen(self) -> None:
        if self._rng.random() < 0.7 or not self._ids:
            self.client.listen("/api/events", self._rng.randint(1, 200))
        else:
            self.client.listen(f"/api/executions/{self._ids[-1]}/logs/follow", 100)
