-- One K with what the enrolment said of it (JSON), beside its secrets; terms is empty for a node that does not keep its U:
-- it has one set with the number 0. boots: the node may boot with it; otherwise it only serves to find the volume's
-- present key. sent: a V of it has left since the node last showed that it uses an older K. kept_at_ms: when the node
-- acknowledged it, 0 when it has not. envelope is sealed with the state key (base64).
CREATE TABLE key_sets (
    node_id    TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    terms      TEXT   NOT NULL,
    envelope   TEXT   NOT NULL,
    boots      BIGINT NOT NULL,
    sent       BIGINT NOT NULL,
    kept_at_ms BIGINT NOT NULL,
    PRIMARY KEY (node_id, number)
);

-- The shares V of each set, oldest first by ordinal, sealed with the state key (base64). share_id is empty for a node that
-- does not keep its U.
CREATE TABLE key_shares (
    node_id  TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    ordinal  BIGINT NOT NULL,
    share_id TEXT   NOT NULL,
    share_v  TEXT   NOT NULL,
    PRIMARY KEY (node_id, share_id),
    UNIQUE (node_id, number, ordinal)
);

INSERT INTO key_sets (node_id, number, terms, envelope, boots, sent, kept_at_ms)
    SELECT node_id, 0, '', envelope, 1, 0, 0 FROM nodes WHERE share_v <> '';
INSERT INTO key_shares (node_id, number, ordinal, share_id, share_v)
    SELECT node_id, 0, 0, '', share_v FROM nodes WHERE share_v <> '';
ALTER TABLE nodes DROP COLUMN share_v;
ALTER TABLE nodes DROP COLUMN envelope;

-- What each node last said about the files of its next boot (JSON).
CREATE TABLE boot_files (
    node_id TEXT NOT NULL PRIMARY KEY,
    report  TEXT NOT NULL
);
