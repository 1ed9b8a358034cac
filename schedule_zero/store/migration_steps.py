"""The steps from one schema version to the next, in literal SQL: what the tables look like later must not change them.

``{name}`` is the type of names: byte order on both databases.
"""

from __future__ import annotations

from sqlalchemy import Connection

from schedule_zero.clock import SystemClock


def policies_and_history(conn: Connection) -> None:
    """1 → 2: policies, snooze, skips and versions of schedules; freezes, backfills, the lives of the server."""
    _run(
        conn,
        "ALTER TABLE executions ADD COLUMN group_id {name}",
        "ALTER TABLE fires ADD COLUMN detail TEXT",
        "ALTER TABLE schedules ADD COLUMN updated_by TEXT",
        "ALTER TABLE schedules ADD COLUMN resume_us BIGINT",
        "ALTER TABLE schedules ADD COLUMN waits_for {name}",
        "ALTER TABLE schedules ADD COLUMN tracked SMALLINT NOT NULL DEFAULT 0",
        "ALTER TABLE schedules ADD COLUMN policies TEXT",
        "ALTER TABLE schedules ADD COLUMN skips TEXT",
        "CREATE INDEX ix_schedules_resume ON schedules (resume_us) WHERE resume_us IS NOT NULL",
        "CREATE INDEX ix_schedules_tracked ON schedules (id) WHERE tracked = 1",
        """CREATE TABLE schedule_versions (
            schedule_id {name} NOT NULL, generation BIGINT NOT NULL, version BIGINT NOT NULL,
            from_us BIGINT NOT NULL, to_us BIGINT NOT NULL, deleted SMALLINT NOT NULL DEFAULT 0,
            ended_by TEXT, document TEXT NOT NULL, PRIMARY KEY (schedule_id, generation, version))""",
        "CREATE INDEX ix_versions_deleted ON schedule_versions (to_us, schedule_id, generation) WHERE deleted = 1",
        """CREATE INDEX ix_fires_summed ON fires (schedule_id, generation, last_nominal_us)
            WHERE last_nominal_us IS NOT NULL""",
        """CREATE TABLE server_runs (
            epoch BIGINT NOT NULL, started_us BIGINT NOT NULL, alive_us BIGINT NOT NULL, stopped_us BIGINT,
            PRIMARY KEY (epoch))""",
        """CREATE TABLE freezes (
            id {name} NOT NULL, from_us BIGINT NOT NULL, to_us BIGINT, note TEXT, "by" TEXT, catch_up TEXT,
            PRIMARY KEY (id))""",
        """CREATE TABLE backfills (
            id {name} NOT NULL, schedule_id {name} NOT NULL, generation BIGINT NOT NULL, version BIGINT NOT NULL,
            from_us BIGINT NOT NULL, to_us BIGINT NOT NULL, next_us BIGINT, rate_per_s FLOAT NOT NULL,
            total BIGINT NOT NULL, created BIGINT NOT NULL, state {name} NOT NULL, created_us BIGINT NOT NULL,
            "by" TEXT, PRIMARY KEY (id))""",
        "CREATE INDEX ix_backfills_schedule ON backfills (schedule_id, id)",
        """CREATE TABLE calendars (
            name {name} NOT NULL, version BIGINT NOT NULL, created_us BIGINT NOT NULL, updated_us BIGINT NOT NULL,
            document TEXT NOT NULL, PRIMARY KEY (name))""",
        """CREATE TABLE calendar_versions (
            name {name} NOT NULL, version BIGINT NOT NULL, from_us BIGINT NOT NULL,
            deleted SMALLINT NOT NULL DEFAULT 0, document TEXT NOT NULL, PRIMARY KEY (name, version))""",
    )


def thawed_by(conn: Connection) -> None:
    """2 → 3: who thawed a freeze, so that one which was thawed is over whatever the clock says."""
    _run(
        conn,
        "ALTER TABLE freezes ADD COLUMN thawed_by TEXT",
        # Whether it was thawed or its time came isn't known any more; either way it is over.
        f"UPDATE freezes SET thawed_by = 'unknown' WHERE to_us <= {SystemClock().wall_us()}",
    )


def how_jobs_are_run(conn: Connection) -> None:
    """3 → 4: what the options of an execution come to: its lane, its keys, its start deadline; usage; dead letters."""
    _run(
        conn,
        "ALTER TABLE executions ADD COLUMN lane {name}",
        "ALTER TABLE executions ADD COLUMN concurrency_key {name}",
        "ALTER TABLE executions ADD COLUMN rate_key {name}",
        "ALTER TABLE executions ADD COLUMN sticky_key {name}",
        "ALTER TABLE executions ADD COLUMN unique_key {name}",
        "ALTER TABLE executions ADD COLUMN start_by_us BIGINT",
        "ALTER TABLE executions ADD COLUMN cpu_us BIGINT",
        "ALTER TABLE executions ADD COLUMN peak_rss_bytes BIGINT",
        "ALTER TABLE executions ADD COLUMN dead_letter {name}",
        "ALTER TABLE attempts ADD COLUMN cpu_us BIGINT",
        "ALTER TABLE attempts ADD COLUMN peak_rss_bytes BIGINT",
        "DROP INDEX ix_executions_pending",
        """CREATE INDEX ix_executions_pending ON executions
            (handler_id, job_method, (coalesce(lane, '')),
             (coalesce(not_before_us, created_us) - priority * 60000000), id)
            WHERE state = 'pending'""",
        """CREATE INDEX ix_executions_start_by ON executions (start_by_us)
            WHERE start_by_us IS NOT NULL AND state IN ('scheduled', 'pending', 'retry_scheduled')""",
        "CREATE INDEX ix_executions_unique ON executions (unique_key, seq) WHERE unique_key IS NOT NULL",
        """CREATE INDEX ix_executions_dead ON executions (handler_id, job_method, dead_letter, seq)
            WHERE dead_letter IS NOT NULL""",
    )


def requeues(conn: Connection) -> None:
    """4 → 5: dead letters go by their group; requeueing many at a rate. What failed before is no dead letter."""
    _run(
        conn,
        "DROP INDEX ix_executions_dead",
        "CREATE INDEX ix_executions_dead ON executions (dead_letter, seq) WHERE dead_letter IS NOT NULL",
        """CREATE TABLE requeues (
            id {name} NOT NULL, dead_letter {name}, handler_id {name}, job_method {name}, up_to_seq BIGINT NOT NULL,
            at_letter {name} NOT NULL, at_seq BIGINT NOT NULL, rate_per_s FLOAT NOT NULL, patch TEXT, options TEXT,
            total BIGINT NOT NULL, created BIGINT NOT NULL, refused BIGINT NOT NULL, note TEXT, state {name} NOT NULL,
            created_us BIGINT NOT NULL, "by" TEXT, PRIMARY KEY (id))""",
    )


def node_operations(conn: Connection) -> None:
    """5 → 6: cordon, drain and quarantine of nodes, with who, when and why; before there was only a drain."""
    _run(
        conn,
        "ALTER TABLE nodes ADD COLUMN operation TEXT",
        f"""UPDATE nodes SET operation = '{{{{"kind":"drain","since_us":{SystemClock().wall_us()}}}}}'
            WHERE draining <> 0""",
        "ALTER TABLE nodes DROP COLUMN draining",
    )


def logs_and_large_results(conn: Connection) -> None:
    """6 → 7: what attempts say; large results."""
    blob = "BLOB" if conn.dialect.name == "sqlite" else "BYTEA"
    _run(
        conn,
        f"""CREATE TABLE log_chunks (
            execution_id {{name}} NOT NULL, token BIGINT NOT NULL, line BIGINT NOT NULL, byte BIGINT NOT NULL,
            lines INTEGER NOT NULL, bytes INTEGER NOT NULL, last SMALLINT NOT NULL, created_us BIGINT NOT NULL,
            body {blob} NOT NULL, PRIMARY KEY (execution_id, token, line))""",
        f"""CREATE TABLE result_chunks (
            execution_id {{name}} NOT NULL, token BIGINT NOT NULL, first BIGINT NOT NULL, bytes INTEGER NOT NULL,
            created_us BIGINT NOT NULL, body {blob} NOT NULL, PRIMARY KEY (execution_id, token, first))""",
        "ALTER TABLE executions ADD COLUMN result_bytes BIGINT",
    )


def routed_and_grouped(conn: Connection) -> None:
    """7 → 8: labels and facts of nodes; groups of executions."""
    _run(
        conn,
        "ALTER TABLE nodes ADD COLUMN labels TEXT NOT NULL DEFAULT '{{}}'",
        "ALTER TABLE nodes ADD COLUMN facts TEXT NOT NULL DEFAULT '{{}}'",
        "ALTER TABLE executions ADD COLUMN shard TEXT",
        "CREATE INDEX ix_executions_group ON executions (group_id, seq) WHERE group_id IS NOT NULL",
        """CREATE TABLE execution_groups (
            id {name} NOT NULL, kind TEXT NOT NULL, handler_id {name} NOT NULL, job_method TEXT NOT NULL,
            schedule_id {name}, total BIGINT NOT NULL, completed BIGINT NOT NULL, failed BIGINT NOT NULL,
            cancelled BIGINT NOT NULL, state {name} NOT NULL, created_us BIGINT NOT NULL, finished_us BIGINT,
            "by" TEXT, PRIMARY KEY (id))""",
    )


def rate_buckets(conn: Connection) -> None:
    """8 → 9: token buckets that take long to fill."""
    _run(
        conn,
        """CREATE TABLE rate_buckets (
            kind {name} NOT NULL, name {name} NOT NULL, full_us BIGINT NOT NULL, taken_us BIGINT NOT NULL,
            fill_us BIGINT NOT NULL, PRIMARY KEY (kind, name))""",
    )


def unique_by_state(conn: Connection) -> None:
    """9 → 10: who holds a unique key now is found without walking all that ever had it."""
    _run(
        conn,
        "DROP INDEX ix_executions_unique",
        "CREATE INDEX ix_executions_unique ON executions (unique_key, state, seq) WHERE unique_key IS NOT NULL",
    )


def bound_tokens(conn: Connection) -> None:
    """10 → 11: worker tokens are bound to a bot and to handlers; those that there are, to none in particular."""
    _run(
        conn,
        "ALTER TABLE api_tokens ADD COLUMN bot_id TEXT NOT NULL DEFAULT '*'",
        """ALTER TABLE api_tokens ADD COLUMN handlers TEXT NOT NULL DEFAULT '["*"]'""",
    )


def progress_is_kept(conn: Connection) -> None:
    """11 → 12: how far attempts had come when they ended."""
    _run(
        conn,
        "ALTER TABLE executions ADD COLUMN progress TEXT",
        "ALTER TABLE attempts ADD COLUMN progress TEXT",
    )


def browser_sessions(conn: Connection) -> None:
    """12 → 13: browsers that have signed in."""
    _run(
        conn,
        """CREATE TABLE browser_sessions (
            id {name} NOT NULL, hash TEXT NOT NULL, before_hash TEXT, xsrf TEXT NOT NULL, token_id {name} NOT NULL,
            role TEXT NOT NULL, created_us BIGINT NOT NULL, rotated_us BIGINT NOT NULL, seen_us BIGINT NOT NULL,
            expires_us BIGINT NOT NULL, agent TEXT NOT NULL, address TEXT NOT NULL,
            PRIMARY KEY (id), UNIQUE (hash))""",
    )


def series_by_minute(conn: Connection) -> None:
    """13 → 14: what charts show of the past. It begins with the upgrade."""
    _run(
        conn,
        """CREATE TABLE series (
            step_s INTEGER NOT NULL, start_us BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (step_s, start_us))""",
    )


def tokens_of_processes(conn: Connection) -> None:
    """14 → 15: which attempts were given to earlier processes of a node; of those that there are, it isn't known."""
    _run(conn, "ALTER TABLE nodes ADD COLUMN since_token BIGINT NOT NULL DEFAULT 0")


def batches_and_views(conn: Connection) -> None:
    """15 → 16: what is done to all that a search finds; searches that are kept by name."""
    _run(
        conn,
        """CREATE TABLE batches (
            id {name} NOT NULL, kind {name} NOT NULL, what TEXT NOT NULL, up_to_seq BIGINT NOT NULL,
            at_seq BIGINT NOT NULL, total BIGINT NOT NULL, exact SMALLINT NOT NULL, done BIGINT NOT NULL,
            skipped BIGINT NOT NULL, failed BIGINT NOT NULL, reasons TEXT NOT NULL, note TEXT, state {name} NOT NULL,
            created_us BIGINT NOT NULL, ended_us BIGINT, "by" TEXT, PRIMARY KEY (id))""",
        """CREATE TABLE saved_views (
            id {name} NOT NULL, page {name} NOT NULL, name {name} NOT NULL, query TEXT NOT NULL,
            created_us BIGINT NOT NULL, "by" TEXT, PRIMARY KEY (id))""",
        "CREATE UNIQUE INDEX ix_saved_views_name ON saved_views (page, name)",
    )


def node_history(conn: Connection) -> None:
    """16 → 17: what happened to each node, from now on."""
    serial = "INTEGER NOT NULL" if conn.dialect.name == "sqlite" else "BIGSERIAL NOT NULL"
    _run(
        conn,
        f"""CREATE TABLE node_history (
            seq {serial}, node_id {{name}} NOT NULL, at_us BIGINT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
            PRIMARY KEY (seq))""",
        "CREATE INDEX ix_node_history_node ON node_history (node_id, seq)",
    )


def change_log(conn: Connection) -> None:
    """17 → 18: who changed what, from now on. (What was before, versions of schedules and calendars say.)"""
    serial = "INTEGER" if conn.dialect.name == "sqlite" else "BIGSERIAL"
    _run(
        conn,
        f"""CREATE TABLE changes (
            seq {serial} NOT NULL, at_us BIGINT NOT NULL, noun {{name}} NOT NULL, verb {{name}} NOT NULL,
            subject {{name}} NOT NULL, "by" {{name}} NOT NULL, token_id {{name}} NOT NULL, address TEXT NOT NULL,
            request_id TEXT NOT NULL, count BIGINT NOT NULL, note TEXT NOT NULL, before TEXT NOT NULL,
            after TEXT NOT NULL, PRIMARY KEY (seq))""",
        "CREATE INDEX ix_changes_noun ON changes (noun, seq) WHERE noun <> 'schedule'",
        "CREATE INDEX ix_changes_subject ON changes (subject, seq)",
    )


def retries_by_parent(conn: Connection) -> None:
    """18 → 19: what took the place of an execution is found by it."""
    _run(conn, "CREATE INDEX ix_executions_parent ON executions (parent_id, seq) WHERE parent_id IS NOT NULL")


def _run(conn: Connection, *statements: str) -> None:
    name = "TEXT" if conn.dialect.name == "sqlite" else 'TEXT COLLATE "C"'
    for statement in statements:
        conn.exec_driver_sql(statement.format(name=name))
