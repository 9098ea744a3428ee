-- One shard: plain tables in a schema of its own, which moves between nodes as a whole.

CREATE TABLE {shard}.meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    shard        int NOT NULL,
    shard_count  int NOT NULL,
    hash_version int NOT NULL,
    epoch        bigint NOT NULL DEFAULT 1,
    state        text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'incoming', 'moving', 'moved'))
);

-- Every write calls this: it raises unless the shard is here, open, and as the writer believes.
-- The lock is shared among writers and held to the end of their transaction; a mover takes it
-- exclusively before it changes the epoch, so it waits for writers and shuts new ones out. The
-- function is volatile: its SELECT sees what was committed while it waited for the lock.
CREATE FUNCTION {shard}.fence(expected bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    here {shard}.meta;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1835887983, {number});
    SELECT * INTO here FROM {shard}.meta;
    IF here.state <> 'active' OR here.epoch <> expected THEN
        RAISE EXCEPTION 'shard % is % at epoch %', here.shard, here.state, here.epoch USING ERRCODE = 'ML001';
    END IF;
    RETURN here.epoch;
END $$;

-- Rows elsewhere carry the number, not the names. Agents stay; what is forgotten is their memories.
CREATE TABLE {shard}.agents (
    number           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant           text NOT NULL,
    agent            text NOT NULL,
    memories         bigint NOT NULL DEFAULT 0,   -- how many are stored
    words            bigint NOT NULL DEFAULT 0,   -- distinct words of all of them, for their mean length
    forgotten_before bigint NOT NULL DEFAULT 0,   -- memories with a smaller number are forgotten
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, agent)
) WITH (fillfactor = 70);

-- How many turns each conversation has, so that a memory knows its place among its neighbours.
CREATE TABLE {shard}.threads (
    agent  bigint NOT NULL,
    thread text NOT NULL,
    turns  int NOT NULL,
    PRIMARY KEY (agent, thread)
) WITH (fillfactor = 70);

CREATE SEQUENCE {shard}.numbers;                  -- order of acceptance, for memories and jobs alike

-- The identity of every memory ever accepted; after forget it stays as a tombstone.
CREATE TABLE {shard}.ids (
    agent        bigint NOT NULL,
    id           uuid NOT NULL,
    number       bigint NOT NULL,
    content_hash bytea NOT NULL,                  -- of the first content
    state        text NOT NULL DEFAULT 'accepted'
                 CHECK (state IN ('accepted', 'stored', 'searchable', 'parked', 'forgotten')),
    PRIMARY KEY (agent, id)
) WITH (fillfactor = 70);

CREATE TABLE {shard}.leases (
    token      uuid PRIMARY KEY,                  -- made by the holder
    kind       text NOT NULL,
    holder     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    error      text                               -- why its work failed, when it did and did not die
);

CREATE TABLE {shard}.jobs (
    number     bigint PRIMARY KEY,                -- that of the memory, where there is one
    kind       text NOT NULL CHECK (kind IN ('remember', 'embed', 'text_embed', 'forget', 'optimize')),
    tenant     text NOT NULL,
    agent      bigint,                            -- null for texts of no agent, and for a whole shard
    id         uuid NOT NULL,
    position   int,                               -- place in its thread
    payload    jsonb NOT NULL,
    lease      uuid,
    not_before timestamptz NOT NULL DEFAULT now(),
    deaths     smallint NOT NULL DEFAULT 0,       -- holders that died with it
    died_in    uuid,                              -- the lease of the last of them
    parked_at  timestamptz,
    error      text,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX jobs_due ON {shard}.jobs (kind, tenant, not_before, number) WHERE lease IS NULL AND parked_at IS NULL;
CREATE INDEX jobs_suspect ON {shard}.jobs (kind, deaths) WHERE lease IS NULL AND parked_at IS NULL AND deaths > 0;
CREATE INDEX jobs_leased ON {shard}.jobs (lease) WHERE lease IS NOT NULL;
CREATE INDEX jobs_parked ON {shard}.jobs (parked_at) WHERE parked_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_texts ON {shard}.jobs (id) WHERE kind = 'text_embed';
CREATE UNIQUE INDEX jobs_once ON {shard}.jobs (agent, id) NULLS NOT DISTINCT WHERE kind IN ('forget', 'optimize');

CREATE TABLE {shard}.memories (
    agent       bigint NOT NULL,
    number      bigint NOT NULL,
    id          uuid NOT NULL,
    key         text,
    kind        text NOT NULL,
    content     text NOT NULL,
    speaker     text,
    thread      text,
    position    int,
    importance  real NOT NULL,
    tags        text[] NOT NULL,
    metadata    jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    words       tsvector NOT NULL,                -- with the agent as one more word: '@' and its number
    PRIMARY KEY (agent, number)
);
CREATE INDEX memories_words ON {shard}.memories USING gin (words) WITH (fastupdate = off);

-- What changes with use lives apart from what does not.
CREATE TABLE {shard}.memory_stats (
    agent            bigint NOT NULL,
    number           bigint NOT NULL,
    access_count     bigint NOT NULL,
    last_accessed_at timestamptz NOT NULL,
    PRIMARY KEY (agent, number)
) WITH (fillfactor = 70);

CREATE TABLE {shard}.embedding_cache (
    tenant       text NOT NULL,
    content_hash bytea NOT NULL,
    model        text NOT NULL,
    embedding    halfvec NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, content_hash, model)
);
ALTER TABLE {shard}.embedding_cache ALTER embedding SET STORAGE PLAIN;

-- Agents that outgrew exact search: an index over their vectors up to a number.
CREATE TABLE {shard}.promotions (
    agent      bigint NOT NULL,
    model      text NOT NULL,
    upto       bigint NOT NULL,
    index_name text NOT NULL,
    built_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, model)
);

CREATE TABLE {shard}.ledger (
    tenant text NOT NULL,
    event  text NOT NULL,
    count  bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);

-- Producers' messages that could not be taken in, with the reason.
CREATE TABLE {shard}.strays (
    id          uuid PRIMARY KEY,
    task        text NOT NULL,
    tenant      text,
    reason      text NOT NULL,
    payload     text NOT NULL,                    -- JSON as it came, also what jsonb cannot hold
    target      int,                              -- the shard that was down; null for what is invalid
    received_at timestamptz NOT NULL DEFAULT now()
);
