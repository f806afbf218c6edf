-- How far the IMA list of a node's present boot was appraised, sealed with the state key. A cache: without a row the
-- list is read from its start.
CREATE TABLE checkpoints (
    node_id    TEXT NOT NULL PRIMARY KEY,
    checkpoint TEXT NOT NULL
);
