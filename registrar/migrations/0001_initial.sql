-- The node as it is now. Keys and certificates are hex; ek_certificate is empty when there is none; assurance is JSON.
-- ek_key is the SHA-256 of the bare key: an id covers the whole public area, and one key must never have two ids.
CREATE TABLE nodes (
    node_id        TEXT   NOT NULL PRIMARY KEY,
    ek_public      TEXT   NOT NULL,
    ek_key         TEXT   NOT NULL UNIQUE,
    ek_certificate TEXT   NOT NULL,
    assurance      TEXT   NOT NULL,
    generation     BIGINT NOT NULL
);

-- Every AK an EK ever had, also of nodes that were forgotten: a generation is never used twice.
-- Times are seconds since 1970 (UTC).
CREATE TABLE aks (
    node_id      TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    ak_public    TEXT   NOT NULL,
    activated_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, generation)
);

-- EKs the owner accepts without a certificate.
CREATE TABLE approvals (
    node_id     TEXT   NOT NULL PRIMARY KEY,
    note        TEXT   NOT NULL,
    approved_at BIGINT NOT NULL
);
