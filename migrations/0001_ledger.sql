-- The ledger: a projection of PLED_JOURNAL. Nothing here is ever read to decide a step.
--
-- Ids of rows are derived (the first 16 bytes of a SHA-256 over what names the row), so that a
-- projection that is made again from the journal is the same projection. Execution ids are the
-- clients' text. `created_at` is the entry's `at`: stream time, not the time of the insert.

CREATE TABLE templates (
    id          UUID PRIMARY KEY,
    name        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    hash        BYTEA NOT NULL,
    model       JSONB NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (name, version)
);

CREATE TABLE executions (
    id               TEXT PRIMARY KEY,
    template_id      UUID NOT NULL,
    template_name    TEXT NOT NULL,
    template_version INTEGER NOT NULL,
    status           TEXT NOT NULL,
    seq              BIGINT NOT NULL,
    hash             BYTEA NOT NULL,
    configuration    TEXT[] NOT NULL,
    output           JSONB,
    created_at       TIMESTAMPTZ NOT NULL,
    updated_at       TIMESTAMPTZ NOT NULL
);
CREATE INDEX idx_executions_template_status ON executions (template_id, status);
CREATE INDEX idx_executions_running ON executions (updated_at) WHERE status IN ('running', 'paused');
-- Lists, the newest first, also of one template or one status.
CREATE INDEX idx_executions_created ON executions (created_at DESC, id DESC);
CREATE INDEX idx_executions_template_created
    ON executions (template_name, created_at DESC, id DESC);
CREATE INDEX idx_executions_status_created ON executions (status, created_at DESC, id DESC);

-- Facts from outside: the causes that came by PLED_EVENTS.
CREATE TABLE events (
    id            UUID NOT NULL,
    execution_id  TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    cause_index   INTEGER NOT NULL,
    type          VARCHAR(200) NOT NULL,
    payload       JSONB NOT NULL,
    event_id      TEXT,
    "timestamp"   TIMESTAMPTZ NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (execution_id, id)
) PARTITION BY HASH (execution_id);

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE events_p%s PARTITION OF events FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            remainder, remainder
        );
    END LOOP;
END $$;

CREATE INDEX idx_events_execution_seq ON events (execution_id, seq);
CREATE INDEX idx_events_type_timestamp ON events (type, "timestamp");

-- The journal itself, by month. `entry_json` gives the exact bytes again by RFC 8785; where an
-- entry holds U+0000, which JSONB cannot, `entry_bytes` has them.
CREATE TABLE ledger_entries (
    id            UUID NOT NULL,
    execution_id  TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    entry_json    JSONB NOT NULL,
    entry_bytes   BYTEA,
    hash          BYTEA NOT NULL,
    stream_seq    BIGINT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (execution_id, seq, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX idx_ledger_entries_time_execution ON ledger_entries (created_at, execution_id);

-- Every input that an execution took, from outside and from inside, with what became of it.
CREATE TABLE messages (
    id            UUID PRIMARY KEY,
    execution_id  TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    cause_index   INTEGER NOT NULL,
    stream        TEXT NOT NULL,
    stream_seq    BIGINT NOT NULL,
    type          VARCHAR(200) NOT NULL,
    payload       JSONB NOT NULL,
    outcome       TEXT NOT NULL,
    error         TEXT,
    "timestamp"   TIMESTAMPTZ NOT NULL
);
CREATE INDEX idx_messages_execution_timestamp ON messages (execution_id, "timestamp");

CREATE TABLE rules (
    id           UUID PRIMARY KEY,
    template_id  UUID NOT NULL,
    rule         TEXT NOT NULL,
    -- The source that the rule is for; '*' where it is for all.
    type         TEXT NOT NULL,
    rule_json    JSONB NOT NULL,
    enabled      BOOLEAN NOT NULL
);
CREATE INDEX idx_rules_template_type ON rules (template_id, type) WHERE enabled = true;

-- Results of rules by event, for tools that ask for them; rules are pure, the engine does not.
CREATE TABLE rule_cache (
    rule_id     UUID NOT NULL,
    event_hash  BYTEA NOT NULL,
    result      JSONB NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (rule_id, event_hash)
);
CREATE INDEX idx_rule_cache_lookup ON rule_cache (rule_id, event_hash);

-- Work that was asked for: one row a task, over all its attempts. The status is 'pending' (an
-- attempt is handed out), 'retrying' (the next one waits for its time), 'succeeded', 'failed' or
-- 'cancelled'. The timers are those that time the task or its attempt out.
CREATE TABLE actions (
    id            UUID PRIMARY KEY,
    execution_id  TEXT NOT NULL,
    task          TEXT NOT NULL,
    type          TEXT NOT NULL,
    invocation    TEXT,
    status        TEXT NOT NULL,
    attempts      INTEGER NOT NULL,
    input         JSONB NOT NULL,
    output        JSONB,
    error_json    JSONB,
    close_timer   TEXT,
    start_timer   TEXT,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL
);
CREATE INDEX idx_actions_status_created ON actions (status, created_at);
CREATE INDEX idx_actions_execution ON actions (execution_id);
-- What the projection asks of each execution in a batch.
CREATE INDEX idx_actions_open ON actions (execution_id) WHERE status IN ('pending', 'retrying');
-- An error can be larger than a B-tree row may be, so its code stands for it.
CREATE INDEX idx_failed_actions ON actions (created_at, (left(error_json ->> 'code', 100)))
    WHERE status = 'failed';

-- How far the journal is projected, moved in the transaction that projects it, and the entry that
-- was projected last: a journal that does not hold it is another one.
CREATE TABLE projections (
    name          TEXT PRIMARY KEY,
    incarnation   TEXT NOT NULL,
    stream_seq    BIGINT NOT NULL,
    execution_id  TEXT,
    hash          BYTEA,
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
