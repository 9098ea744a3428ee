-- How memories are used: how often, by which questions, and how much that still counts.

-- What a memory's use still counts for, as of its last access; from then on it decays by formula.
ALTER TABLE {shard}.memory_stats ADD COLUMN resonance real NOT NULL DEFAULT 0.5 CHECK (resonance BETWEEN 0 AND 1);

-- Which number was given last at a time, so that the age of memories can be told from their numbers.
CREATE TABLE {shard}.moments (
    at     timestamptz PRIMARY KEY,
    number bigint NOT NULL
);

-- Recalls, as they came.
CREATE TABLE {shard}.queries (
    agent      bigint NOT NULL,
    number     bigint GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT now(),
    query_hash bytea NOT NULL,                    -- SHA-256 of the normalised text
    query      text,                              -- the normalised text; null: it is not to be kept
    spelt      text,                              -- as it was asked, where that is not the normalised text
    ms         real NOT NULL,                     -- from the question to the answer
    hits       int NOT NULL,
    cached     boolean NOT NULL,                  -- whether its vector was known
    PRIMARY KEY (agent, number)
);
CREATE INDEX queries_at ON {shard}.queries (at, agent);

-- Questions that an agent asks again and again.
CREATE TABLE {shard}.patterns (
    agent      bigint NOT NULL,
    query_hash bytea NOT NULL,
    query      text,
    spelt      text,                              -- as it was asked most often
    seen       int NOT NULL,                      -- how often among its last queries
    last_at    timestamptz NOT NULL,
    found_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, query_hash)
);

-- When an embedding was of use last, to the day: those that are of none for long are let go.
ALTER TABLE {shard}.embedding_cache ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();

-- How many vectors an index had when it was built, to know how many of them are dead.
ALTER TABLE {shard}.promotions ADD COLUMN vectors bigint;   -- null: nobody counted
