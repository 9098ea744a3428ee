-- The vectors of one model in one shard: appended, read by agent, never updated.

CREATE TABLE {shard}.{vectors} (
    agent     bigint NOT NULL,
    number    bigint GENERATED ALWAYS AS IDENTITY,   -- order of arrival: splits index from exact tail
    memory    bigint NOT NULL,                       -- the memory's number
    embedding halfvec({dims}) NOT NULL,              -- of length 1
    PRIMARY KEY (agent, number) INCLUDE (memory),
    UNIQUE (agent, memory)
);
ALTER TABLE {shard}.{vectors} ALTER embedding SET STORAGE PLAIN;
