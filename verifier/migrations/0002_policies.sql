-- Signed policies, one row for each generation. The newest row of a name is never deleted: it is what keeps older
-- generations out. What counts is what the envelope's signature covers; a row is only where it is kept.
CREATE TABLE policy_generations (
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    generation BIGINT NOT NULL,
    envelope   TEXT   NOT NULL,
    retired    BIGINT NOT NULL,
    PRIMARY KEY (kind, name, generation)
);
