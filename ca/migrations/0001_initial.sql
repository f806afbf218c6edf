-- The issuing key, once: sealed with the state key (hex).
CREATE TABLE authority (
    id          BIGINT NOT NULL PRIMARY KEY,
    certificate TEXT   NOT NULL,
    sealed_key  TEXT   NOT NULL
);

-- Every certificate ever issued. revoked_at is 0 while it is not revoked; times are seconds since 1970 (UTC).
CREATE TABLE certificates (
    serial     TEXT   NOT NULL PRIMARY KEY,
    node_id    TEXT   NOT NULL,
    label      TEXT   NOT NULL,
    issued_at  BIGINT NOT NULL,
    not_after  BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason     TEXT   NOT NULL
);
CREATE INDEX certificates_of_node ON certificates (node_id);

-- The revocation list in force (hex of its DER). The row is made here so that every change starts with an update of it:
-- that orders the writers of several processes.
CREATE TABLE crl (
    id          BIGINT NOT NULL PRIMARY KEY,
    number      BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    der         TEXT   NOT NULL
);
INSERT INTO crl (id, number, next_update, der) VALUES (1, 0, 0, '');
