"""The tables and indexes (as ``migrations`` counts them: the newest version), the same on SQLite and PostgreSQL.

Every index is paid for by each execution, so each one stands beside the question that it answers. Predicates of
partial indexes are literal text, and the queries repeat them word for word: neither database proves them from a
parameter. Documents (params, result, error, options, trigger) are JSON text that the database never looks into. Times
are microseconds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from schedule_zero.model import State
from schedule_zero.rules.options import AGEING_US
from schedule_zero.rules.states import TERMINAL, TRANSITIONS

metadata = MetaData()

# Byte order on both databases, so that keyset pages agree.
Name = Text().with_variant(Text(collation="C"), "postgresql")
# On SQLite this is the rowid itself: no second tree.
Serial = BigInteger().with_variant(Integer, "sqlite")


def _states(states: frozenset[State] | set[State]) -> str:
    return "(" + ", ".join(f"'{state.value}'" for state in State if state in states) + ")"


WAITING = frozenset(s for s in State if State.CANCELLED in TRANSITIONS[s]) - {State.RUNNING}
EXPIRING = frozenset(s for s in State if State.MISFIRED in TRANSITIONS[s])
STARTABLE = frozenset(s for s in State if State.RUNNING in TRANSITIONS[s])
NOT_COMPLETED = "state <> 'completed'"
IS_PENDING = "state = 'pending'"
# The NULL check first: it is all that most rows are asked.
IS_TIMED = "not_before_us IS NOT NULL AND state IN ('scheduled', 'retry_scheduled')"
# What waits goes by this, the smallest first (``rules.options.aged_us``).
AGED = f"coalesce(not_before_us, created_us) - priority * {AGEING_US}"
# An execution's lane; text for "none" too, so that it is one value of the index on both databases.
LANE = "coalesce(lane, '')"
IS_GROUPED = "group_id IS NOT NULL"
IS_EXPIRING = f"start_by_us IS NOT NULL AND state IN {_states(EXPIRING)}"
IS_UNIQUE = "unique_key IS NOT NULL"
IS_DEAD_LETTER = "dead_letter IS NOT NULL"
IS_WAITING = f"state IN {_states(WAITING)}"
IS_OPEN = f"state IN {_states(set(State) - TERMINAL)}"
IS_STARTABLE = f"state IN {_states(STARTABLE)}"
# Over, and it says something about the job: what was cancelled or came too late doesn't.
IS_TELLING = f"state IN {_states({State.COMPLETED, State.FAILED, State.TIMEOUT, State.DEAD})}"
IS_TERMINAL = f"state IN {_states(TERMINAL)}"
IS_DUE_ABLE = "state IN ('active', 'paused')"
IS_SNOOZED = "resume_us IS NOT NULL"
IS_TRACKED = "tracked = 1"
IS_DELETED = "deleted = 1"
IS_SUMMED = "last_nominal_us IS NOT NULL"
IS_BLOCKED = "state = 'blocked'"
IS_SELDOM = "noun <> 'schedule'"
IS_EXCEPTIONAL = "outcome <> 'executed'"


def _partial(name: str, table: Table, *columns: str, where: str) -> None:
    Index(name, *(text(c) if " " in c else table.c[c] for c in columns), sqlite_where=text(where), _table=table)


def for_postgresql() -> None:
    """Make the partial indexes partial there too, before they are created.

    Not above: to SQLAlchemy, whoever names a dialect wants it, and where SQLite is used it is 3 MB of nothing.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            where = index.dialect_options["sqlite"]["where"]
            if where is not None:
                index.dialect_options["postgresql"]["where"] = where


meta = Table("meta", metadata, Column("key", Name, primary_key=True), Column("value", Text, nullable=False))

# A rowid table, not WITHOUT ROWID: equal for tiny payloads, three times faster with params of 1.5 kB (those would
# overflow to a page each). ``seq`` is the order of insertion: "newest first" is a walk of it, and a page's cursor is
# one number.
executions = Table(
    "executions",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", Name, nullable=False, unique=True),
    Column("handler_id", Name, nullable=False),
    Column("job_method", Text, nullable=False),
    Column("state", Name, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("origin", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("schedule_id", Name),
    Column("nominal_us", BigInteger),
    Column("not_before_us", BigInteger),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    Column("node_id", Name),
    Column("lost_count", Integer, nullable=False, server_default=text("0")),
    Column("cancel_requested", SmallInteger, nullable=False, server_default=text("0")),
    Column("dispatched_us", BigInteger),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("stored_us", BigInteger),
    Column("parent_id", Name),
    Column("group_id", Name),
    Column("lane", Name),
    Column("concurrency_key", Name),
    Column("rate_key", Name),
    Column("sticky_key", Name),
    Column("unique_key", Name),
    Column("start_by_us", BigInteger),
    Column("cpu_us", BigInteger),
    Column("peak_rss_bytes", BigInteger),
    Column("dead_letter", Name),
    # Of a result that is stored in ``result_chunks``.
    Column("result_bytes", BigInteger),
    Column("shard", Text),
    Column("idempotency_key", Text),
    Column("options", Text),
    # What the last attempt said of it, once that is over.
    Column("progress", Text),
    # The large ones last: a filter never has to read past them.
    Column("params", Text, nullable=False),
    Column("result", Text),
    Column("error", Text),
)
# "The executions of this handler, newest first."
Index("ix_executions_handler", executions.c.handler_id, executions.c.seq)
# "… of this schedule."
_partial("ix_executions_schedule", executions, "schedule_id", "seq", where="schedule_id IS NOT NULL")
# "… of this group."
_partial("ix_executions_group", executions, "group_id", "seq", where=IS_GROUPED)
# "What took the place of this one?"
_partial("ix_executions_parent", executions, "parent_id", "seq", where="parent_id IS NOT NULL")
# "… in this state", and what runs when the server starts; only completed rows are many for long. With handler and
# schedule in it, "the failed ones of this handler" is read from the index alone: an index of its own for that, with a
# predicate of five states, cost every execution 4 µs.
_partial("ix_executions_state", executions, "state", "seq", "handler_id", "schedule_id", where=NOT_COMPLETED)
# The dispatcher's window (``AGED``). Born-running executions never touch it.
_partial(
    "ix_executions_pending", executions, "handler_id", "job_method", f"({LANE})", f"({AGED})", "id", where=IS_PENDING
)
_partial("ix_executions_due", executions, "not_before_us", where=IS_TIMED)
# "What has waited for too long?", "who has this key?", "what failed like this?"
_partial("ix_executions_start_by", executions, "start_by_us", where=IS_EXPIRING)
_partial("ix_executions_unique", executions, "unique_key", "state", "seq", where=IS_UNIQUE)
_partial("ix_executions_dead", executions, "dead_letter", "seq", where=IS_DEAD_LETTER)

attempts = Table(
    "attempts",
    metadata,
    Column("execution_id", Name, primary_key=True),
    # Tokens only grow, so this is also the order of the attempts.
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("node_id", Name),
    Column("outcome", Text, nullable=False),
    Column("dispatched_us", BigInteger),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("cpu_us", BigInteger),
    Column("peak_rss_bytes", BigInteger),
    Column("progress", Text),
    Column("error", Text),
    sqlite_with_rowid=True,
)

# What attempts said, as their nodes sent it: see ``wire.log_lines``. A chunk holds whole lines; the first one's number
# is in the key, so that a range of lines is a range of the key.
log_chunks = Table(
    "log_chunks",
    metadata,
    Column("execution_id", Name, primary_key=True),
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    # Bytes of the log before it, and of it: both uncompressed.
    Column("byte", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    # 1: the log is complete with it.
    Column("last", SmallInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=True,
)

# Results that are too large for ``executions.result``, in pieces: byte ``first`` on, compressed by zlib.
result_chunks = Table(
    "result_chunks",
    metadata,
    Column("execution_id", Name, primary_key=True),
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("bytes", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=True,
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Name, primary_key=True),
    Column("handler_id", Name, nullable=False),
    Column("job_method", Text, nullable=False),
    Column("state", Name, nullable=False),
    Column("note", Text),
    Column("misfire_grace_us", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("next_fire_us", BigInteger),
    Column("last_fire_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("updated_by", Text),
    Column("resume_us", BigInteger),
    Column("waits_for", Name),
    # 1: what its executions do matters to its fires (overlap, failures in a row, fixed delay).
    Column("tracked", SmallInteger, nullable=False, server_default=text("0")),
    # The ledger's totals of this generation, so that no page has to count a million fires.
    Column("executed", BigInteger, nullable=False, server_default=text("0")),
    Column("caught_up", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    Column("missed", BigInteger, nullable=False, server_default=text("0")),
    Column("params", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("options", Text),
    Column("policies", Text),
    Column("skips", Text),
)
_partial("ix_schedules_next", schedules, "next_fire_us", where=IS_DUE_ABLE)
Index("ix_schedules_handler", schedules.c.handler_id, schedules.c.id)
# "Which snoozed ones are to go on?", "whose executions matter?"
_partial("ix_schedules_resume", schedules, "resume_us", where=IS_SNOOZED)
_partial("ix_schedules_tracked", schedules, "id", where=IS_TRACKED)

# What a schedule was before each change, as JSON (``Schedule``); the one in force is in ``schedules``.
schedule_versions = Table(
    "schedule_versions",
    metadata,
    Column("schedule_id", Name, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("from_us", BigInteger, nullable=False),
    Column("to_us", BigInteger, nullable=False),
    # 1: it was deleted then, not replaced.
    Column("deleted", SmallInteger, nullable=False, server_default=text("0")),
    Column("ended_by", Text),
    Column("document", Text, nullable=False),
    sqlite_with_rowid=True,
)
# "What was deleted since the last audit?"
_partial("ix_versions_deleted", schedule_versions, "to_us", "schedule_id", "generation", where=IS_DELETED)

# The ledger. The unique key is promise C1; ``seq`` is the order in which fires were decided.
fires = Table(
    "fires",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("schedule_id", Name, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("nominal_us", BigInteger, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("reason", Text),
    Column("execution_id", Name),
    Column("count", BigInteger, nullable=False, server_default=text("1")),
    Column("last_nominal_us", BigInteger),
    Column("decided_us", BigInteger, nullable=False),
    Column("detail", Text),
    UniqueConstraint("schedule_id", "generation", "nominal_us", name="uq_fires"),
)
_partial("ix_fires_outcome", fires, "outcome", "seq", where=IS_EXCEPTIONAL)
_partial("ix_fires_schedule_outcome", fires, "schedule_id", "outcome", "generation", "nominal_us", where=IS_EXCEPTIONAL)
# "Which summarising rows reach over this moment?"
_partial("ix_fires_summed", fires, "schedule_id", "generation", "last_nominal_us", where=IS_SUMMED)

# When the server was there, for "why did it not run?".
server_runs = Table(
    "server_runs",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("started_us", BigInteger, nullable=False),
    Column("alive_us", BigInteger, nullable=False),
    Column("stopped_us", BigInteger),
)

# Dead letters that are requeued at a rate: which, how far, and how. Those up to (``at_letter``, ``at_seq``) are done.
requeues = Table(
    "requeues",
    metadata,
    Column("id", Name, primary_key=True),
    Column("dead_letter", Name),
    Column("handler_id", Name),
    Column("job_method", Name),
    # No letter that came later: what fails again is not requeued again.
    Column("up_to_seq", BigInteger, nullable=False),
    Column("at_letter", Name, nullable=False),
    Column("at_seq", BigInteger, nullable=False),
    Column("rate_per_s", Float, nullable=False),
    Column("patch", Text),
    Column("options", Text),
    Column("total", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    # Why the first of those that were refused was.
    Column("note", Text),
    Column("state", Name, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("by", Text),
)

# Executions that are cancelled or retried all at once, step by step: which, how far, and with what result.
batches = Table(
    "batches",
    metadata,
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("what", Text, nullable=False),
    Column("up_to_seq", BigInteger, nullable=False),
    Column("at_seq", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    # 1: it is exactly so many.
    Column("exact", SmallInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("note", Text),
    Column("state", Name, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("by", Text),
)

saved_views = Table(
    "saved_views",
    metadata,
    Column("id", Name, primary_key=True),
    Column("page", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("query", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("by", Text),
)
Index("ix_saved_views_name", saved_views.c.page, saved_views.c.name, unique=True)

freezes = Table(
    "freezes",
    metadata,
    Column("id", Name, primary_key=True),
    Column("from_us", BigInteger, nullable=False),
    Column("to_us", BigInteger),
    Column("note", Text),
    Column("by", Text),
    Column("catch_up", Text),
    Column("thawed_by", Text),
)

backfills = Table(
    "backfills",
    metadata,
    Column("id", Name, primary_key=True),
    Column("schedule_id", Name, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("from_us", BigInteger, nullable=False),
    Column("to_us", BigInteger, nullable=False),
    Column("next_us", BigInteger),
    Column("rate_per_s", Float, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("state", Name, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("by", Text),
)
Index("ix_backfills_schedule", backfills.c.schedule_id, backfills.c.id)

# Executions that were made of one wish; members carry the id. Gone when the last of them is.
execution_groups = Table(
    "execution_groups",
    metadata,
    Column("id", Name, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("handler_id", Name, nullable=False),
    Column("job_method", Text, nullable=False),
    Column("schedule_id", Name),
    Column("total", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("state", Name, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
    Column("by", Text),
)

# Token buckets that take long to fill; those that are full are forgotten.
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("kind", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("full_us", BigInteger, nullable=False),
    Column("taken_us", BigInteger, nullable=False),
    Column("fill_us", BigInteger, nullable=False),
)

# What is counted as it happens: ``bucket_us`` 0 is what is stored now, -1 what was cleared, else the start of an hour.
# ``state`` is a terminal state, or ``created``.
execution_counts = Table(
    "execution_counts",
    metadata,
    Column("bucket_us", BigInteger, primary_key=True, autoincrement=False),
    Column("handler_id", Name, primary_key=True),
    Column("state", Name, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("run_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What is counted for charts by the minute, ten minutes and the hour (``step_s``): ``rules.series.Stats`` as JSON.
series = Table(
    "series",
    metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

handlers = Table(
    "handlers",
    metadata,
    Column("handler_id", Name, primary_key=True),
    Column("registered_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

handler_methods = Table(
    "handler_methods",
    metadata,
    Column("handler_id", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    # 1: not in the newest declaration; kept so that its version only grows.
    Column("gone", SmallInteger, nullable=False, server_default=text("0")),
    Column("options", Text, nullable=False),
    Column("doc", Text, nullable=False),
    Column("schema", Text, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", Name, primary_key=True),
    Column("instance", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("handlers", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("identity", Text, nullable=False),
    # Attempts with tokens up to this were given to earlier processes than ``instance``.
    Column("since_token", BigInteger, nullable=False, server_default=text("0")),
    Column("first_seen_us", BigInteger, nullable=False),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("labels", Text, nullable=False, server_default=text("'{}'")),
    Column("facts", Text, nullable=False, server_default=text("'{}'")),
    # Why it gets no new work: ``model.NodeOperation`` as JSON.
    Column("operation", Text),
)

# The newest events of each node; the journal keeps its own for a time only, and isn't asked by subject.
node_history = Table(
    "node_history",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("node_id", Name, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
)
Index("ix_node_history_node", node_history.c.node_id, node_history.c.seq)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Name, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("bot_id", Text, nullable=False, server_default="*"),
    Column("handlers", Text, nullable=False, server_default='["*"]'),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
)

# Browsers that have signed in.
browser_sessions = Table(
    "browser_sessions",
    metadata,
    Column("id", Name, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("before_hash", Text),
    Column("xsrf", Text, nullable=False),
    Column("token_id", Name, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("rotated_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("agent", Text, nullable=False),
    Column("address", Text, nullable=False),
)

node_keys = Table(
    "node_keys",
    metadata,
    Column("id", Name, primary_key=True),
    Column("public_key", Text, nullable=False, unique=True),
    Column("node_id", Text, nullable=False),
    Column("handlers", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Name, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
Index("ix_idempotency_created", idempotency.c.created_us)

# One row per transaction. The newest is never pruned, so ``seq`` is never given out twice.
events = Table(
    "events",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("created_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

# The change log (users know it as the audit log): who changed what. Text that isn't there is '', not NULL, for which
# sqlite3 takes half a microsecond. The newest row is never pruned either.
changes = Table(
    "changes",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("at_us", BigInteger, nullable=False),
    Column("noun", Name, nullable=False),
    Column("verb", Name, nullable=False),
    Column("subject", Name, nullable=False),
    Column("by", Name, nullable=False),
    Column("token_id", Name, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    # How many things it was done to.
    Column("count", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    # Bounded JSON.
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
)
# "What was done to nodes?", "… to this one?"; newest first. Who did it, and when, is looked for on the way. Nearly all
# rows are of schedules, which may come by the ten thousand: that is no index's job.
_partial("ix_changes_noun", changes, "noun", "seq", where=IS_SELDOM)
Index("ix_changes_subject", changes.c.subject, changes.c.seq)

# Named calendars as they are now; every version, the current one too, is kept in ``calendar_versions``.
calendars = Table(
    "calendars",
    metadata,
    Column("name", Name, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

# A deletion is a version as well, with the document that it ended; a calendar made anew goes on from there.
calendar_versions = Table(
    "calendar_versions",
    metadata,
    Column("name", Name, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("from_us", BigInteger, nullable=False),
    Column("deleted", SmallInteger, nullable=False, server_default=text("0")),
    Column("document", Text, nullable=False),
)
