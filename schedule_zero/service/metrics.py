"""The catalogue of ``/metrics``: every family, its meaning, and the counter that it is read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

from schedule_zero.dispatch.dispatcher import Dispatcher
from schedule_zero.model import OperationKind
from schedule_zero.ops.events import EventHub
from schedule_zero.ops.metrics import Family, Metrics, Sample, one
from schedule_zero.ops.retention import RetentionStats
from schedule_zero.ops.supervise import Supervisor
from schedule_zero.service.audit_rounds import AuditStats
from schedule_zero.store import Store
from schedule_zero.timing import Timer

# (method, path, status) → how many requests.
Requests = Callable[[], dict[tuple[str, str, int], int]]


def server_metrics(
    *,
    store: Store,
    dispatcher: Dispatcher,
    timer: Timer,
    hub: EventHub,
    supervisor: Supervisor,
    audit: AuditStats,
    retention: RetentionStats,
    letters: Callable[[], dict[str, int]],
    requests: Requests,
) -> Metrics:
    """All families of one server."""
    wire, wrote, times = dispatcher.stats, store.stats, timer.stats

    def nodes() -> Iterable[Sample]:
        states = Counter(view.state.value for view in dispatcher.nodes())
        return [((state,), count) for state, count in sorted(states.items())]

    def out_of_service() -> Iterable[Sample]:
        kinds = Counter(view.operation.kind for view in dispatcher.nodes() if view.operation is not None)
        return [((kind.value,), kinds[kind]) for kind in OperationKind]

    def restarts() -> Iterable[Sample]:
        return [((loop.name,), loop.restarts) for loop in supervisor.loops.values()]

    def up() -> Iterable[Sample]:
        return [((loop.name,), float(loop.running)) for loop in supervisor.loops.values()]

    def http() -> Iterable[Sample]:
        return [((method, path, str(status)), count) for (method, path, status), count in requests().items()]

    def found(which: int) -> Callable[[], Iterable[Sample]]:
        return lambda: [((id_,), counts[which]) for id_, counts in sorted(audit.found.items()) if counts[which]]

    def build() -> Iterable[Sample]:
        return [((version("schedule-zero"),), 1.0)]

    def counter(name: str, meaning: str, value: Callable[[], float]) -> Family:
        return Family("counter", name, meaning, (), one(value))

    def gauge(name: str, meaning: str, value: Callable[[], float]) -> Family:
        return Family("gauge", name, meaning, (), one(value))

    return Metrics(
        [
            Family("gauge", "build_info", "1, labelled with the version that runs", ("version",), build),
            Family("gauge", "nodes", "Nodes by state", ("state",), nodes),
            Family("gauge", "nodes_out_of_service", "Nodes that get no new work: cordoned, drained or quarantined",
                   ("operation",), out_of_service),
            *_what_waits(dispatcher, letters),
            gauge("executions_open", "Executions that are not over", lambda: dispatcher.backlog.open),
            gauge("backlog_limit", "How many may be open before submissions are refused",
                  lambda: dispatcher.backlog.limit),
            counter("backlog_refused", "Executions whose submission was refused: too much was waiting",
                    lambda: dispatcher.backlog.refused),
            counter("backlog_fires_skipped", "Fires that were skipped: too much was waiting",
                    lambda: dispatcher.backlog.skipped),
            counter("executions_misfired", "Executions that were not started in time", lambda: wire.misfired),
            counter("attempts_dispatched", "Attempts sent to nodes", lambda: wire.dispatched),
            counter("attempts_resent", "Attempts sent again because no node had accepted them", lambda: wire.resends),
            counter("attempts_lost", "Attempts that ended with the loss of their node", lambda: wire.attempts_lost),
            counter("results", "Results recorded", lambda: wire.results),
            counter("results_duplicate", "Results that were recorded before", lambda: wire.results_duplicate),
            counter("results_stale", "Results refused: another attempt held the lease", lambda: wire.results_stale),
            counter("nodes_lost", "Times that a node was lost", lambda: wire.nodes_lost),
            counter("nodes_denied", "Nodes that were refused", lambda: wire.nodes_denied),
            counter("nodes_quarantined", "Times that a node was quarantined", lambda: wire.nodes_quarantined),
            counter("wire_messages_in", "Messages from nodes", lambda: wire.messages_in),
            counter("wire_messages_out", "Messages to nodes", lambda: wire.messages_out),
            counter("wire_sends_failed", "Messages that no peer took", lambda: wire.sends_failed),
            counter("wire_bad_messages", "Messages that could not be understood", lambda: wire.bad_messages),
            counter("wire_peers_dropped", "Peers dropped for many bad messages", lambda: wire.peers_dropped),
            counter(
                "wire_connections_closed",
                "Connections closed: too long without a session, or bytes that make no message",
                lambda: wire.connections_closed,
            ),
            counter("wire_wrong_keys", "Messages sent with a key that is not their session's", lambda: wire.wrong_keys),
            counter("log_lines", "Lines of jobs' logs stored", lambda: wire.log_lines),
            counter("log_bytes", "Bytes of jobs' logs stored, before they are compressed", lambda: wire.log_bytes),
            counter("log_lines_left_out", "Lines that nodes left out of logs: too many, or too fast",
                    lambda: wire.log_lines_left_out),
            counter("log_messages_refused", "Messages with logs that found too many waiting; they come again",
                    lambda: wire.logs_refused),
            Family("histogram", "attempt_handover_seconds", "From dispatch to the method being entered", (),
                   lambda: [((), dispatcher.handover)]),
            Family("histogram", "attempt_run_seconds", "From entering the method to leaving it", (),
                   lambda: [((), dispatcher.run_time)]),
            counter("timer_rounds", "Rounds of the timer", lambda: times.rounds),
            counter("timer_fires", "Rows written to the ledger", lambda: times.fires),
            counter("timer_executions", "Executions created by fires", lambda: times.executions),
            counter("timer_fenced", "Fires decided anew because their schedule had changed", lambda: times.refused),
            counter("timer_quarantined", "Schedules quarantined: their trigger failed", lambda: times.quarantined),
            counter("timer_store_failures", "Rounds that the store could not write", lambda: times.store_failures),
            gauge("timer_last_lateness_seconds", "How late the last round was written", lambda: times.last_lateness_s),
            Family("counter", "fires_missed", "Nominal times without a row in the ledger, as audits found",
                   ("schedule_id",), found(0)),
            Family("counter", "fires_duplicate", "Ledger rows too many for a nominal time, as audits found",
                   ("schedule_id",), found(1)),
            Family("counter", "fires_extra", "Ledger rows for what is no nominal time, as audits found",
                   ("schedule_id",), found(2)),
            counter("audit_findings", "Nominal times that audits found missed, duplicate or extra, of all schedules",
                    lambda: audit.missed + audit.duplicate + audit.extra),
            counter("audit_schedules", "Schedules audited", lambda: audit.schedules),
            gauge("audit_last_seconds", "How long the last audit of all schedules took", lambda: audit.last_s),
            gauge("audit_last_timestamp_seconds", "When the last audit of all schedules was complete; 0: none was",
                  lambda: audit.last_us / 1e6),
            counter("executions_pruned", "Executions deleted because they had been kept long enough",
                    lambda: retention.deleted),
            gauge("retention_last_seconds", "How long the last round took that deleted executions",
                  lambda: retention.last_s),
            counter("store_commits", "Transactions committed", lambda: wrote.commits),
            counter("store_operations", "Operations committed", lambda: wrote.operations),
            counter("store_failures", "Operations that failed", lambda: wrote.failures),
            counter("store_isolated", "Batches that were repeated one by one", lambda: wrote.isolated),
            counter("store_write_seconds", "Time spent in transactions", lambda: wrote.write_seconds),
            gauge("store_largest_batch", "Most operations in one transaction", lambda: wrote.largest_batch),
            gauge("store_queued", "Operations waiting for the writer", lambda: wrote.queued),
            gauge("store_healthy", "1 if the last write succeeded", lambda: float(store.healthy)),
            gauge("event_subscribers", "Live subscribers of the event stream", lambda: hub.subscribers),
            Family("counter", "loop_restarts", "Restarts of a loop that died", ("loop",), restarts),
            Family("gauge", "loop_up", "1 if the loop runs", ("loop",), up),
            Family("counter", "http_requests", "Requests answered", ("method", "path", "status"), http),
        ]
    )  # fmt: skip


def _what_waits(dispatcher: Dispatcher, letters: Callable[[], dict[str, int]]) -> list[Family]:
    """What waits for a node, for a limit, for somebody."""

    def waiting() -> Iterable[Sample]:
        by_handler: Counter[str] = Counter()
        for (handler_id, *_), count in dispatcher.waiting().items():
            by_handler[handler_id] += count
        return _samples(by_handler)

    def unserved() -> Iterable[Sample]:
        return _samples(Counter(handler_id for handler_id, *_ in dispatcher.unserved()))

    return [
        Family("gauge", "executions_waiting", "Executions waiting, by handler", ("handler_id",), waiting),
        Family("gauge", "lanes_unserved", "Kinds of waiting executions that no connected node may run, by handler",
               ("handler_id",), unserved),
        Family("gauge", "executions_parked", "Executions waiting in memory for a limit of their own, by its kind",
               ("gate",), lambda: _samples(dispatcher.parked())),
        Family("gauge", "dead_letters", "Failed executions that nobody has dealt with, by handler", ("handler_id",),
               lambda: _samples(letters())),
    ]  # fmt: skip


def _samples(counts: Mapping[str, int]) -> list[Sample]:
    return [((name,), count) for name, count in sorted(counts.items())]
