-- How the indexes of large agents were built and are doing, and what the canary of recall found.

ALTER TABLE {shard}.promotions
    ADD COLUMN m               int,          -- neighbours of a vector in the graph; null: built by an older version, with 16
    ADD COLUMN ef_construction int,          -- how many were looked at for them; null: 64
    ADD COLUMN ef_search       int,          -- how much of it a recall looks at; null: as the knob says
    ADD COLUMN tail            bigint,       -- vectors that were newer when somebody looked
    ADD COLUMN asked           int,          -- questions to the agent within a week before that, of the last 1,000
    ADD COLUMN asked_at        timestamptz;  -- the last of them

-- What an agent's index answers, against exact search; the row outlives the index.
CREATE TABLE {shard}.canaries (
    agent       bigint NOT NULL,
    model       text NOT NULL,
    recall      float8,                      -- recall@10, in the mean
    questions   int NOT NULL DEFAULT 0,      -- how many were asked for that
    ms          float8,                      -- how long a look into the index took, the median
    at          timestamptz,
    rung        smallint NOT NULL DEFAULT 0, -- how much better than its size asks for an index has to be built
    exact_until timestamptz,                 -- until then no index is built: none was good enough
    PRIMARY KEY (agent, model)
);
