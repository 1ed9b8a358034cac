-- Schema version 1 as it was released; never changed. What a database of then is migrated from in the tests.

CREATE TABLE meta (
	"key" TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY ("key")
);

CREATE TABLE executions (
	seq INTEGER NOT NULL,
	id TEXT NOT NULL,
	handler_id TEXT NOT NULL,
	job_method TEXT NOT NULL,
	state TEXT NOT NULL,
	priority INTEGER NOT NULL,
	origin TEXT NOT NULL,
	created_us BIGINT NOT NULL,
	schedule_id TEXT,
	nominal_us BIGINT,
	not_before_us BIGINT,
	attempt INTEGER DEFAULT 0 NOT NULL,
	token BIGINT DEFAULT 0 NOT NULL,
	node_id TEXT,
	lost_count INTEGER DEFAULT 0 NOT NULL,
	cancel_requested SMALLINT DEFAULT 0 NOT NULL,
	dispatched_us BIGINT,
	started_us BIGINT,
	finished_us BIGINT,
	stored_us BIGINT,
	parent_id TEXT,
	idempotency_key TEXT,
	options TEXT,
	params TEXT NOT NULL,
	result TEXT,
	error TEXT,
	PRIMARY KEY (seq),
	UNIQUE (id)
);

CREATE INDEX ix_executions_pending ON executions (handler_id, job_method, priority DESC, id) WHERE state = 'pending';

CREATE INDEX ix_executions_schedule ON executions (schedule_id, seq) WHERE schedule_id IS NOT NULL;

CREATE INDEX ix_executions_state ON executions (state, seq, handler_id, schedule_id) WHERE state <> 'completed';

CREATE INDEX ix_executions_handler ON executions (handler_id, seq);

CREATE INDEX ix_executions_due ON executions (not_before_us) WHERE not_before_us IS NOT NULL AND state IN ('scheduled', 'retry_scheduled');

CREATE TABLE attempts (
	execution_id TEXT NOT NULL,
	token BIGINT NOT NULL,
	attempt INTEGER NOT NULL,
	node_id TEXT,
	outcome TEXT NOT NULL,
	dispatched_us BIGINT,
	started_us BIGINT,
	finished_us BIGINT,
	error TEXT,
	PRIMARY KEY (execution_id, token)
);

CREATE TABLE schedules (
	id TEXT NOT NULL,
	handler_id TEXT NOT NULL,
	job_method TEXT NOT NULL,
	state TEXT NOT NULL,
	note TEXT,
	misfire_grace_us BIGINT NOT NULL,
	generation BIGINT NOT NULL,
	version BIGINT NOT NULL,
	next_fire_us BIGINT,
	last_fire_us BIGINT,
	created_us BIGINT NOT NULL,
	updated_us BIGINT NOT NULL,
	executed BIGINT DEFAULT 0 NOT NULL,
	caught_up BIGINT DEFAULT 0 NOT NULL,
	skipped BIGINT DEFAULT 0 NOT NULL,
	missed BIGINT DEFAULT 0 NOT NULL,
	params TEXT NOT NULL,
	"trigger" TEXT NOT NULL,
	options TEXT,
	PRIMARY KEY (id)
);

CREATE INDEX ix_schedules_handler ON schedules (handler_id, id);

CREATE INDEX ix_schedules_next ON schedules (next_fire_us) WHERE state IN ('active', 'paused');

CREATE TABLE fires (
	seq INTEGER NOT NULL,
	schedule_id TEXT NOT NULL,
	generation BIGINT NOT NULL,
	nominal_us BIGINT NOT NULL,
	outcome TEXT NOT NULL,
	reason TEXT,
	execution_id TEXT,
	count BIGINT DEFAULT 1 NOT NULL,
	last_nominal_us BIGINT,
	decided_us BIGINT NOT NULL,
	PRIMARY KEY (seq),
	CONSTRAINT uq_fires UNIQUE (schedule_id, generation, nominal_us)
);

CREATE INDEX ix_fires_schedule_outcome ON fires (schedule_id, outcome, generation, nominal_us) WHERE outcome <> 'executed';

CREATE INDEX ix_fires_outcome ON fires (outcome, seq) WHERE outcome <> 'executed';

CREATE TABLE execution_counts (
	bucket_us BIGINT NOT NULL,
	handler_id TEXT NOT NULL,
	state TEXT NOT NULL,
	n BIGINT NOT NULL,
	run_us BIGINT NOT NULL,
	PRIMARY KEY (bucket_us, handler_id, state)
)
 WITHOUT ROWID;

CREATE TABLE handlers (
	handler_id TEXT NOT NULL,
	registered_us BIGINT NOT NULL,
	updated_us BIGINT NOT NULL,
	PRIMARY KEY (handler_id)
);

CREATE TABLE handler_methods (
	handler_id TEXT NOT NULL,
	name TEXT NOT NULL,
	position INTEGER NOT NULL,
	version INTEGER NOT NULL,
	gone SMALLINT DEFAULT 0 NOT NULL,
	options TEXT NOT NULL,
	doc TEXT NOT NULL,
	schema TEXT NOT NULL,
	PRIMARY KEY (handler_id, name)
);

CREATE TABLE nodes (
	node_id TEXT NOT NULL,
	instance TEXT NOT NULL,
	epoch BIGINT NOT NULL,
	state TEXT NOT NULL,
	handlers TEXT NOT NULL,
	slots INTEGER NOT NULL,
	draining SMALLINT NOT NULL,
	version TEXT NOT NULL,
	host TEXT NOT NULL,
	pid BIGINT NOT NULL,
	identity TEXT NOT NULL,
	first_seen_us BIGINT NOT NULL,
	last_seen_us BIGINT NOT NULL,
	PRIMARY KEY (node_id)
);

CREATE TABLE api_tokens (
	id TEXT NOT NULL,
	name TEXT NOT NULL,
	role TEXT NOT NULL,
	hash TEXT NOT NULL,
	created_us BIGINT NOT NULL,
	expires_us BIGINT,
	revoked_us BIGINT,
	PRIMARY KEY (id),
	UNIQUE (hash)
);

CREATE TABLE node_keys (
	id TEXT NOT NULL,
	public_key TEXT NOT NULL,
	node_id TEXT NOT NULL,
	handlers TEXT NOT NULL,
	created_us BIGINT NOT NULL,
	revoked_us BIGINT,
	PRIMARY KEY (id),
	UNIQUE (public_key)
);

CREATE TABLE idempotency (
	"key" TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	status INTEGER NOT NULL,
	response TEXT NOT NULL,
	created_us BIGINT NOT NULL,
	PRIMARY KEY ("key")
);

CREATE INDEX ix_idempotency_created ON idempotency (created_us);

CREATE TABLE events (
	seq INTEGER NOT NULL,
	created_us BIGINT NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (seq)
);
