"""A small model of a run in which all promises are kept: what the checker gets to see, from one seed.

Three nodes, some schedules, some clients, and one fault of each kind at times that don't meet. Nothing of the product
takes part but its rule of catch-up and its triggers; what is tampered with afterwards, the checker has to name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from schedule_zero.job_options import OnLost
from schedule_zero.model import FireOutcome, Schedule, ScheduleState, ServerRun
from schedule_zero.rules.catchup import Circumstances, Policy, decide
from schedule_zero.rules.options import StoredOptions
from schedule_zero.testbed import final as f
from schedule_zero.testbed.history import Call, Evidence, Fault, FaultKind, JobLine, Op, Phase, Side, Terms
from schedule_zero.testbed.matching import Run
from schedule_zero.timing.parse import load_trigger

T0 = 1_700_000_000_000_000
S = 1_000_000
# Wall and monotonic clock of the machine.
AHEAD_NS = 1_690_000_000_000_000_000
LENGTH_US = 200 * S
INTERVAL_US = 5 * S
# When what happens.
OUTAGE = (T0 + 40 * S, T0 + 44 * S)
KILLED = (T0 + 60 * S, T0 + 100 * S)
STOPPED = (T0 + 110 * S, T0 + 150 * S)
DRAINED = (T0 + 20 * S, T0 + 30 * S)
DEADLY = (T0 + 156 * S, T0 + 157 * S, T0 + 158 * S)
AWAY = {
    "n1": [DRAINED, (DEADLY[0] - 3 * S, DEADLY[-1] + S)],
    "n2": [KILLED],
    "n3": [STOPPED],
}


def options(**said) -> str:
    return msgspec.json.encode(StoredOptions(**said)).decode()


@dataclass
class Model:
    seed: int
    rows: list[f.Row] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    # One of each kind that a test may want to get at.
    one: dict[str, f.Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.final = f.FinalStore(executions=self.rows)
        self.terms = Terms(until_us=T0 + LENGTH_US)
        self.tokens = 0
        self.busy: dict[tuple[str, int], list[tuple[int, int]]] = {
            (node, slot): list(AWAY[node]) for node in AWAY for slot in range(3)
        }
        self.again: list[Run] = []
        self.faults = [
            Fault(fault=FaultKind.KILL, target="server", begin_us=OUTAGE[0], end_us=OUTAGE[1]),
            Fault(fault=FaultKind.KILL, target="node:n2", begin_us=KILLED[0], end_us=KILLED[1]),
            Fault(fault=FaultKind.STOP, target="node:n3", begin_us=STOPPED[0], end_us=STOPPED[1]),
            Fault(fault=FaultKind.DRAIN, target="node:n1", begin_us=DRAINED[0], end_us=DRAINED[1]),
        ]
        self.final.lives = [
            ServerRun(epoch=1, started_us=T0 - 5 * S, alive_us=OUTAGE[0]),
            ServerRun(epoch=2, started_us=OUTAGE[1], alive_us=T0 + LENGTH_US),
        ]
        self.final.node_events = [
            f.NodeEvent("node.online", "n2", T0),
            f.NodeEvent("node.lost", "n2", KILLED[0] + 50_000),
            f.NodeEvent("node.online", "n3", T0),
            f.NodeEvent("node.lost", "n3", STOPPED[0] + 10 * S),
        ]
        self.final.methods = [f.MethodRow("chaos", "ok", 2)]
        self.call(Op.DECLARE, T0, {"handler_id": "chaos", "methods": {"ok": "a"}})
        self.call(Op.DECLARE, T0 + S, {"handler_id": "chaos", "methods": {"ok": "a"}})
        self.call(Op.DECLARE, T0 + 2 * S, {"handler_id": "chaos", "methods": {"ok": "b"}})
        self.build()

    # --- clients ----------------------------------------------------------------------------------------

    def call(self, op: Op, at_us: int, args: dict, answer: dict | None = None, phase: Phase = Phase.OK) -> Call:
        over_us = None if phase is Phase.UNKNOWN else at_us + self.random.randint(500, 5000)
        call = Call(
            op=op,
            process=len(self.calls) % 5,
            args=args,
            phase=phase,
            answer=answer or {},
            from_us=at_us,
            from_ns=ns(at_us),
            to_us=over_us,
            to_ns=None if over_us is None else ns(over_us),
        )
        self.calls.append(call)
        return call

    # --- nodes ------------------------------------------------------------------------------------------

    def token(self) -> int:
        self.tokens += 1
        return self.tokens

    def pid(self, node: str, at_us: int) -> int:
        """One that has died comes back as another process."""
        deaths = {"n1": DEADLY, "n2": (KILLED[0],)}.get(node, ())
        return int(node[1:]) * 100 + sum(death_us < at_us for death_us in deaths)

    def book(self, at_us: int, length_us: int, node: str | None = None) -> tuple[str, int]:
        """The first free place for a run: on which node, from when on."""
        best: tuple[int, tuple[str, int]] | None = None
        for place, taken in self.busy.items():
            if node is not None and place[0] != node:
                continue
            start_us = at_us
            for low_us, high_us in sorted(taken):
                if low_us - 1000 < start_us + length_us and start_us < high_us + 1000:
                    start_us = high_us + 1000
            if best is None or start_us < best[0]:
                best = (start_us, place)
        assert best is not None
        self.busy[best[1]].append((best[0], best[0] + length_us))
        return best[1][0], best[0]

    def run(self, row: f.Row, start_us: int, end_us: int | None, *, node: str, outcome: str = "ok") -> Run:
        """One attempt of an execution, as the job sees it."""
        row.attempt, row.token, row.node_id = row.attempt + 1, self.token(), node
        row.dispatched_us, row.started_us = start_us - 300, start_us
        run = Run(row.id, row.token, row.attempt, node, self.pid(node, start_us), start_us, ns(start_us), "ok",
                  row.schedule_id, row.nominal_us)  # fmt: skip
        if end_us is not None:
            run.end_us, run.end_ns, run.outcome = end_us, ns(end_us), outcome
            run.result = crc32(row.id.encode()) if outcome == "ok" else None
        self.runs.append(run)
        return run

    def over(self, row: f.Row, state: str, at_us: int) -> None:
        row.state, row.finished_us, row.stored_us = state, at_us, at_us + 2000
        row.result = crc32(row.id.encode()) if state == "completed" else None
        row.error = {"failed": "RuntimeError", "timeout": "Timeout", "dead": "NodeLost"}.get(state)

    def archive(self, row: f.Row, outcome: str, at_us: int) -> None:
        self.final.attempts.append(
            f.AttemptRow(row.id, row.attempt, row.token, row.node_id, outcome, row.dispatched_us, row.started_us, at_us)
        )
        if outcome == "handed_back":
            row.attempt -= 1
        row.lost_count += outcome == "lost"

    # --- executions ---------------------------------------------------------------------------------------

    def row(self, at_us: int, kind: str = "", **more) -> f.Row:
        row = f.Row(f"x{len(self.rows):05}", "chaos", "pending", more.pop("origin", "submit"), created_us=at_us, **more)
        self.rows.append(row)
        if kind:
            self.one[kind] = row
        return row

    def length(self) -> int:
        return self.random.randint(1000, 2 * S)

    def completes(self, row: f.Row, at_us: int | None = None, length_us: int | None = None) -> None:
        """It runs on whatever node is free, to a good end."""
        length_us = length_us or self.length()
        node, start_us = self.book((at_us or row.created_us) + 1000, length_us)
        self.run(row, start_us, start_us + length_us, node=node)
        self.over(row, "completed", start_us + length_us)

    def fails(self, row: f.Row, times: int) -> int:
        """So many attempts that fail, a second after each other; when the next one may begin."""
        at_us = row.created_us + 1000
        for left in range(times, 0, -1):
            node, start_us = self.book(at_us, S)
            self.run(row, start_us, start_us + S, node=node, outcome="error")
            if left > 1 or times < 2:
                self.archive(row, "failed", start_us + S)
            at_us = start_us + 2 * S
        return at_us

    def build(self) -> None:
        self.submissions()
        self.losses()
        self.ends()
        for number, policy in enumerate(["latest", "none", "all"]):
            document = {"type": "interval", "milliseconds": INTERVAL_US // 1000, "start": "2023-11-14T22:13:20Z"}
            self.schedule(f"interval-{number}", document, policy)
        self.schedule("cron", {"type": "cron", "expression": "*/1 * * * *", "timezone": "Europe/Berlin"}, "latest")
        self.schedule("date", {"type": "date", "run_date": "2023-11-14T22:14:00Z"}, "latest")
        self.schedule("broadcast", {"type": "date", "run_date": "2023-11-14T22:14:50Z"}, "latest")
        self.schedule(
            "paused", {"type": "interval", "seconds": 7, "start": "2023-11-14T22:13:20Z"}, "latest", paused=True
        )
        self.schedule("deleted", {"type": "interval", "seconds": 9, "start": "2023-11-14T22:13:20Z"}, "latest",
                      until_us=T0 + 90 * S)  # fmt: skip
        self.groups()
        for row in self.random.sample(self.rows, 5):
            if row.state == "completed":
                answer = {"state": row.state, "result": row.result}
                self.call(Op.OBSERVE, row.stored_us + 1000, {"id": row.id}, answer)

    def submissions(self) -> None:
        for number in range(self.random.randint(5, 10)):
            at_us, count = T0 + number * 3 * S + self.random.randint(0, S), self.random.randint(1, 3)
            rows = [self.row(at_us + 500, "submitted", idempotency_key=f"mark-{number}") for _ in range(count)]
            for row in rows:
                self.completes(row)
            args = {"count": count, "key": f"key-{number}", "mark": f"mark-{number}"}
            self.call(Op.SUBMIT, at_us, args, {"ids": [row.id for row in rows]})
        # Nobody knows what became of these two: one happened, the other did not.
        args = {"count": 3, "key": "key-lost", "mark": "mark-lost"}
        self.call(Op.SUBMIT, OUTAGE[0] - 1000, args, phase=Phase.UNKNOWN)
        for _ in range(2):
            row = self.row(OUTAGE[0] - 500, "unknown", idempotency_key="mark-made")
            # It runs while the server is away, and its result waits.
            node, start_us = self.book(row.created_us + 200, 2 * S)
            self.run(row, start_us, start_us + 2 * S, node=node)
            self.over(row, "completed", start_us + 2 * S)
            row.stored_us = OUTAGE[1] + S
            self.one["through the outage"] = row
        args = {"count": 2, "key": "key-made", "mark": "mark-made"}
        self.call(Op.SUBMIT, OUTAGE[0] - 1000, args, phase=Phase.UNKNOWN)
        args = {"count": 1, "key": "key-no", "mark": "mark-no"}
        self.call(Op.SUBMIT, T0 + 3 * S, args, {"why": "400"}, phase=Phase.FAIL)
        row = self.row(T0 + 50 * S, "delayed", not_before_us=T0 + 53 * S)
        self.completes(row, row.not_before_us)

    def losses(self) -> None:
        # On the node that is killed.
        before_us = KILLED[0] - 500_000
        for kind, on_lost in (("lost", OnLost.RERUN), ("lost, and that was it", OnLost.FAIL)):
            row = self.row(before_us - 1000, kind, options=options(on_lost=on_lost))
            self.run(row, before_us, None, node="n2")
            self.archive(row, "lost", KILLED[0] + 16 * S)
            if on_lost is OnLost.RERUN:
                self.completes(row, KILLED[0] + 16 * S + 100_000)
            else:
                self.over(row, "failed", KILLED[0] + 16 * S)
                row.error = "NodeLost"
        # On the one that is stopped: it goes on afterwards, and is not listened to.
        before_us = STOPPED[0] - 300_000
        row = self.row(before_us - 1000, "stale")
        self.run(row, before_us, STOPPED[1] + 200_000, node="n3")
        self.archive(row, "lost", STOPPED[0] + 16 * S)
        self.completes(row, STOPPED[0] + 16 * S + 100_000, length_us=30 * S)
        # One that kills its node, three times.
        row = self.row(T0 + 155 * S, "deadly")
        for at_us in DEADLY:
            run = self.run(row, at_us, None, node="n1")
            run.action = "exit"
            self.archive(row, "lost", at_us + 500_000)
        self.over(row, "dead", T0 + 159 * S)

    def ends(self) -> None:
        row = self.row(T0 + 8 * S, "retried", options=options(max_attempts=3))
        self.completes(row, self.fails(row, 1))
        row = self.row(T0 + 9 * S, "failed", options=options(max_attempts=2))
        at_us = self.fails(row, 2)
        self.over(row, "failed", at_us - S)
        row = self.row(T0 + 70 * S, "timed out", options=options(timeout_s=1.0))
        node, start_us = self.book(row.created_us + 1000, 3 * S)
        self.run(row, start_us, start_us + 3 * S, node=node)
        self.over(row, "timeout", start_us + S)
        row = self.row(DRAINED[0] - 2 * S, "handed back")
        node, start_us = "n1", row.created_us + 1000
        self.run(row, start_us, DRAINED[0] + S, node=node)
        self.archive(row, "handed_back", DRAINED[0] + S)
        self.completes(row, DRAINED[0] + S + 10_000)
        row = self.row(T0 + 75 * S, "cancelled while it waited")
        self.over(row, "cancelled", T0 + 76 * S)
        self.call(Op.CANCEL, T0 + 76 * S, {"id": row.id}, {"outcome": "cancelled", "state": "cancelled"})
        row = self.row(T0 + 78 * S, "cancelled as it ran")
        node, start_us = self.book(row.created_us + 1000, 2 * S)
        self.run(row, start_us, start_us + S, node=node)
        self.over(row, "cancelled", start_us + S)
        self.call(Op.CANCEL, start_us + S - 10_000, {"id": row.id}, {"outcome": "requested", "state": "running"})
        row = self.row(T0 + 80 * S, "misfired", start_by_us=T0 + 82 * S)
        self.over(row, "misfired", T0 + 82 * S)
        for nominal_us in (T0 - 1000 * S, T0 - 900 * S):
            row = self.row(T0 + 85 * S, "backfilled", origin="backfill", group_id="b1", schedule_id="interval-0",
                           nominal_us=nominal_us)  # fmt: skip
            self.completes(row)

    def groups(self) -> None:
        rows = [self.row(T0 + 90 * S, "member", group_id="g1") for _ in range(3)]
        for row in rows:
            self.completes(row)
        self.final.groups.append(f.GroupRow("g1", 3, 3, 0, 0, "completed"))

    # --- schedules ------------------------------------------------------------------------------------------

    def schedule(
        self, id_: str, document: dict, catch_up: str, *, paused: bool = False, until_us: int | None = None
    ) -> None:
        created_us = T0 - self.random.randint(1, 4) * S
        end_us = until_us or T0 + LENGTH_US - S
        trigger = load_trigger(msgspec.json.encode(document))
        policy = Policy(grace_us=S, window_us=30 * S, catch_up=catch_up, max_rows=100)
        schedule = Schedule(id=id_, handler_id="chaos", job_method="ok", trigger=msgspec.json.encode(document),
                            misfire_grace_s=1.0, created_us=created_us, updated_us=created_us,
                            state=ScheduleState.PAUSED if paused else ScheduleState.ACTIVE,
                            policies=msgspec.json.encode({"catch_up": catch_up, "catch_up_window_s": 30}))  # fmt: skip
        self.call(Op.CREATE_SCHEDULE, created_us - 2000, {"id": id_})
        totals = dict.fromkeys(FireOutcome, 0)
        due_us = trigger.next_after(created_us)
        while due_us is not None and due_us <= end_us:
            now_us = due_us + self.random.randint(500, 20_000)
            if OUTAGE[0] <= due_us < OUTAGE[1]:
                now_us = OUTAGE[1] + 100_000
            plan = decide(trigger, due_us, now_us, policy, Circumstances(paused=paused))
            for decision in plan.decisions:
                totals[decision.outcome] += decision.count
                self.fire(id_, decision, now_us)
            due_us = plan.next_us
        schedule.next_fire_us = due_us
        if due_us is None:
            schedule.state = ScheduleState.FINISHED
        if until_us is None:
            self.final.schedules.append(f.ScheduleRow(schedule, *(totals[outcome] for outcome in FireOutcome)))
        else:
            self.call(Op.DELETE_SCHEDULE, until_us, {"id": id_})
            self.final.versions.append(f.VersionRow(schedule, created_us, until_us, True))

    def fire(self, id_: str, decision, now_us: int) -> None:
        execution_id = None
        if decision.runs:
            about = {"origin": "fire", "schedule_id": id_, "nominal_us": decision.nominal_us}
            if id_ == "broadcast":
                # The ledger's row names the group.
                execution_id = about["group_id"] = "g2"
                self.final.groups.append(f.GroupRow("g2", 2, 2, 0, 0, "completed"))
                self.completes(self.row(now_us, "broadcast", **about))
            row = self.row(now_us, "fired", **about)
            self.completes(row)
            execution_id = execution_id or row.id
        reason = None if decision.reason is None else decision.reason.value
        fires = self.final.fires
        fires.append(f.FireRow(len(fires) + 1, id_, 1, decision.nominal_us, decision.outcome.value, reason,
                               execution_id, decision.count, decision.last_nominal_us, now_us))  # fmt: skip

    # --- what the checker gets ------------------------------------------------------------------------------

    def lines(self) -> list[JobLine]:
        lines = []
        for run in [*self.runs, *self.again]:
            about = {
                "execution_id": run.execution_id,
                "attempt": run.attempt,
                "token": run.token,
                "node_id": run.node_id,
                "pid": run.pid,
                "schedule_id": run.schedule_id,
                "nominal_us": run.nominal_us,
            }
            lines.append(
                JobLine(event=Side.START, action=run.action, wall_us=run.start_us, mono_ns=run.start_ns, **about)
            )
            if run.end_ns is not None:
                end = {"wall_us": run.end_us, "mono_ns": run.end_ns, "outcome": run.outcome, "result": run.result}
                lines.append(JobLine(event=Side.END, action=run.action, **about, **end))
        return sorted(lines, key=lambda line: line.mono_ns)

    def evidence(self) -> Evidence:
        calls = sorted(self.calls, key=lambda call: call.from_ns)
        return Evidence(calls=calls, faults=self.faults, ledger=self.lines(), terms=self.terms)

    def run_of(self, row: f.Row, token: int | None = None) -> Run:
        """The run of its current attempt, or of another one."""
        return next(run for run in self.runs if run.execution_id == row.id and run.token == (token or row.token))


def ns(us: int) -> int:
    return us * 1000 - AHEAD_NS
