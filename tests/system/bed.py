"""A bed of real processes, with what a checker needs: history, fault log, and the jobs' own ledger.

A test ends with ``judge``: the checker holds what clients were told, what was done to the processes and what the jobs
wrote themselves against the store of the dead server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from schedule_zero import settings
from schedule_zero.clock import SystemClock
from schedule_zero.model import State
from schedule_zero.rules.states import TERMINAL
from schedule_zero.testbed import final
from schedule_zero.testbed.checker import check
from schedule_zero.testbed.history import (
    FAULTS,
    HISTORY,
    LEDGER,
    SERVER,
    FaultLog,
    JobLine,
    Op,
    OpenCall,
    Recorder,
    Side,
    read_evidence,
    read_lines,
    terms_of,
)
from schedule_zero.testbed.verdicts import Report
from tests.support import eventually_sync
from tests.system.processes import NodeProcess, Process, ServerProcess
from tests.tried import Tried

CHAOS = "schedule_zero.testbed.chaos:ChaosHandler"
Own = Callable[[Process], Process]

# Short leases, so that a lost node is replaced within a test's patience. Where the server is away instead, the
# default of 15 s holds: an outage shorter than the lease is none of the job's business.
FAST = {
    "SCHEDULE_ZERO_DISPATCH__HEARTBEAT_S": "0.3",
    "SCHEDULE_ZERO_DISPATCH__SUSPECT_S": "0.9",
    "SCHEDULE_ZERO_DISPATCH__LOST_S": "1.5",
    "SCHEDULE_ZERO_DISPATCH__LEASE_S": "2",
    "SCHEDULE_ZERO_DISPATCH__LEASE_MARGIN_S": "0.3",
}


def sent(call: OpenCall, request: Callable[[], httpx.Response]) -> httpx.Response | None:
    """The answer. None, and that is on record: nobody was there, or nobody knows what became of it."""
    try:
        return request()
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        # It was never sent.
        call.fail(repr(error))
    except httpx.TransportError as error:
        call.unknown(repr(error))
    return None


def version_of(schedule: dict[str, Any]) -> dict[str, int]:
    """What a client was told of a schedule, for the record."""
    return {name: schedule[name] for name in ("generation", "version")}


class Bed:
    """A server and its nodes in one folder, with what a checker needs: history, fault log, and the jobs' ledger."""

    def __init__(self, folder: Path, own: Own) -> None:
        self.folder = folder
        self.own = own
        self.ledger_file = folder / LEDGER
        self.faults = FaultLog(folder / FAULTS)
        self.history = Recorder(folder / HISTORY)
        self._client: httpx.Client | None = None

    def start_server(self, *, env: dict[str, str] = FAST, **ports: int) -> None:
        self.launch_server(env=env, **ports)
        self.server.wait_ready()
        self.server_is_up()

    def launch_server(self, *, env: dict[str, str] = FAST, under: Sequence[str] = (), **ports: int) -> None:
        """Start it, and go on before it is up."""
        self._env = env
        self.server = ServerProcess(self.folder, env=env, under=under, **ports)
        self.note(self.server, SERVER)

    def server_is_up(self) -> None:
        """It is ready: what was done to it is over."""
        self.faults.works_again(SERVER)
        self.close()
        self._client = self.server.client()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> httpx.Client:
        assert self._client is not None
        return self._client

    def restart_server(self) -> None:
        self.start_server(env=self._env, **self.server.ports)

    def note(self, process: Process, target: str) -> None:
        """What is done to it from now on is on record."""
        process.faults, process.target = self.faults, target
        self.own(process)

    def start_node(
        self,
        node_id: str = "n1",
        slots: int = 4,
        *,
        wait: bool = True,
        server: str | None = None,
        under: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> NodeProcess:
        """``server``: where it finds it, if not where it is."""
        node = NodeProcess(
            self.folder,
            server or self.server.addresses["zmq"],
            CHAOS,
            node_id=node_id,
            slots=slots,
            env={"SCHEDULE_ZERO_CHAOS_LEDGER": str(self.ledger_file), **(env or {})},
            under=under,
        )
        self.note(node, f"node:{node_id}")
        if wait:
            self.wait_online(node_id)
        return node

    def wait_online(self, node_id: str) -> None:
        eventually_sync(lambda: self.node_state(node_id) == "online", within_s=20)
        self.faults.works_again(f"node:{node_id}")

    def node_state(self, node_id: str) -> str | None:
        nodes = self.client.get("/api/nodes").json()["nodes"]
        return next((node["state"] for node in nodes if node["id"] == node_id), None)

    def submit(self, count: int, method: str, **params: Any) -> list[str]:
        item = {"handler_id": "chaos", "job_method": method, "job_params": params}
        return self.ask([item] * count)

    def ask(self, items: list[dict[str, Any]], key: str | None = None) -> list[str]:
        """Submit these, on record."""
        call = self.history.begin(Op.SUBMIT, count=len(items), key=key, mark=items[0].get("idempotency_key"))
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.client.post("/api/executions", json={"executions": items}, headers=headers)
        assert answer.status_code == 202, answer.text
        call.ok(ids=answer.json()["ids"])
        return list(answer.json()["ids"])

    def create(self, schedules: list[dict[str, Any]]) -> None:
        """Create these schedules, on record."""
        for schedule in schedules:
            call = self.history.begin(Op.CREATE_SCHEDULE, id=schedule["id"])
            answer = self.client.post("/api/schedules", json={"schedules": [schedule]})
            assert answer.status_code == 201, answer.text
            call.ok(**version_of(answer.json()["schedules"][0]))

    def pause(self, schedule_id: str) -> None:
        """Pause one, on record."""
        call = self.history.begin(Op.PAUSE_SCHEDULE, id=schedule_id)
        answer = self.client.post(f"/api/schedules/{schedule_id}/pause")
        assert answer.status_code == 200, answer.text
        call.ok(**version_of(answer.json()))

    def keep_firing(self, *schedule_ids: str) -> None:
        """Wait until each of these has run for a time from now on: whoever pauses one that sleeps would hide that."""
        began = datetime.now(UTC)

        def has_run(schedule_id: str) -> bool:
            schedule = self.client.get(f"/api/schedules/{schedule_id}").raise_for_status().json()
            last = schedule["last_fire_time"]
            return last is not None and datetime.fromisoformat(last) > began

        for schedule_id in schedule_ids:
            eventually_sync(lambda id_=schedule_id: has_run(id_), within_s=60)

    def open(self) -> int:
        """How many executions are not over."""
        by_status = self.client.get("/api/executions/stats").raise_for_status().json()["by_status"]
        return sum(count for state, count in by_status.items() if State(state) not in TERMINAL)

    def execution(self, execution_id: str, wait_s: float = 0) -> dict[str, Any]:
        answer = self.client.get(f"/api/executions/{execution_id}", params={"wait_s": wait_s})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def states(self) -> Counter[str]:
        """Every execution's state, by walking all pages."""
        states: Counter[str] = Counter()
        cursor: str | None = None
        while True:
            query = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            page = self.client.get("/api/executions", params=query).json()
            states.update(record["status"] for record in page["records"])
            cursor = page.get("next_cursor")
            if not cursor:
                return states

    def ledger(self) -> list[JobLine]:
        return list(read_lines(self.ledger_file, JobLine))

    def starts(self) -> Counter[str]:
        """How often each execution's method was entered."""
        return Counter(line.execution_id for line in self.ledger() if line.event is Side.START)

    def ends(self) -> int:
        return sum(line.event is Side.END for line in self.ledger())

    def judge(self, line: Tried | None = None, /, **terms: Any) -> Report:
        """Kill the server; everything that was promised was kept, by all that is known from outside.

        What is open at the end was forgotten, unless ``settled`` is False. ``line`` counts what was seen, also of a run
        that fails.
        """
        report = self.look(line, **terms)
        # For whoever wants to have it checked again.
        self.faults.close()
        return report

    def look(self, line: Tried | None = None, /, **terms: Any) -> Report:
        """As ``judge``, of a run that goes on: the server is started again afterwards."""
        until_us = SystemClock().wall_us()
        self.server.kill()
        evidence = read_evidence(self.folder)
        evidence.faults += self.faults.lasting
        config = settings.load(environ=self._env, cwd=self.folder).config
        evidence.terms = terms_of(config, until_us=until_us, **terms)
        report = check(evidence, final.load(self.server.state_dir))
        if line is not None:
            line.judged(report)
        assert report.ok, report.text()
        return report
