-- The end of the revocation log: one row. Whoever appends takes its place here first, so that several verifiers make one
-- log without gaps.
CREATE TABLE revocation_log (
    id       BIGINT NOT NULL PRIMARY KEY,
    log      TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    digest   TEXT NOT NULL
);

-- The entries as they were signed. enrolment is the digest of the enrolment that an entry was made under; ca_at_ms is 0
-- until the CA has answered. Rows are never changed otherwise and never deleted.
CREATE TABLE revocations (
    sequence  BIGINT NOT NULL PRIMARY KEY,
    node_id   TEXT NOT NULL,
    action    TEXT NOT NULL,
    digest    TEXT NOT NULL,
    enrolment TEXT NOT NULL,
    serials   TEXT NOT NULL,
    envelope  TEXT NOT NULL,
    at_ms     BIGINT NOT NULL,
    ca_at_ms  BIGINT NOT NULL
);
CREATE INDEX revocations_of_node ON revocations (node_id, sequence);
CREATE INDEX revocations_for_ca ON revocations (sequence) WHERE ca_at_ms = 0;

-- How far each node has followed.
CREATE TABLE revocation_peers (
    node_id  TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    at_ms    BIGINT NOT NULL
);

-- When each node had each entry, and what it did; done is empty when it did not say.
CREATE TABLE revocation_acks (
    sequence BIGINT NOT NULL,
    node_id  TEXT NOT NULL,
    at_ms    BIGINT NOT NULL,
    done     TEXT NOT NULL,
    PRIMARY KEY (sequence, node_id)
);

-- The newest list of the CA that came with an answer, DER in hex: one row.
CREATE TABLE revocation_crl (
    id     BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    der    TEXT NOT NULL
);
