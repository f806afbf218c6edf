-- Policies are shared by many nodes: kept once, by the SHA-256 of their document.
CREATE TABLE policies (
    digest   TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
);

-- One row for each enrolled node. share_v and envelope are sealed with the state key (base64); empty once revoked.
CREATE TABLE nodes (
    node_id        TEXT NOT NULL PRIMARY KEY,
    enrolment      TEXT NOT NULL,
    boot_policy    TEXT NOT NULL,
    runtime_policy TEXT NOT NULL,
    share_v        TEXT NOT NULL,
    envelope       TEXT NOT NULL,
    trust          TEXT NOT NULL
);
