-- Events on their way to other systems; a row goes when it was delivered or given up. Times are milliseconds since
-- 1970 (UTC). leased_until_ms: a verifier that is sending it right now.
CREATE TABLE webhook_outbox (
    id              TEXT   NOT NULL PRIMARY KEY,
    target          TEXT   NOT NULL,
    event           TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    leased_until_ms BIGINT NOT NULL
);
CREATE INDEX webhook_outbox_of_target ON webhook_outbox (target, created_ms);

-- The state of each node that was told last: what changed while no verifier ran is told when one runs again.
CREATE TABLE webhook_states (
    node_id TEXT NOT NULL PRIMARY KEY,
    state   TEXT NOT NULL
);
