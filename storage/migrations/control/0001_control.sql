-- The control schema: what is small, shared, and not a memory.

CREATE TABLE control.cluster (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    shard_count  int NOT NULL,         -- fixed for good
    hash_version int NOT NULL,         -- how tenant and agent become a shard's number
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- The map. The authority is the epoch in the meta table of the shard itself.
CREATE TABLE control.shards (
    shard int PRIMARY KEY,
    node  text NOT NULL,               -- a name from the settings
    epoch bigint NOT NULL DEFAULT 1
);

CREATE TABLE control.models (
    model         text PRIMARY KEY,    -- as the embedder names itself
    dims          int NOT NULL CHECK (dims BETWEEN 1 AND 4000),
    is_current    boolean NOT NULL DEFAULT false,
    backfilled_at timestamptz,         -- when jobs were opened for all memories that lacked its vectors
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX models_current ON control.models (is_current) WHERE is_current;

CREATE TABLE control.tenants (
    tenant     text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A key is shown once; kept are a prefix to find it by and the SHA-256 of the whole.
CREATE TABLE control.api_keys (
    prefix     text PRIMARY KEY,
    key_hash   bytea NOT NULL,
    tenant     text REFERENCES control.tenants,   -- null: an admin key, which sees no memory
    label      text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Duties run once per slot: who inserts the row runs it, done_at stays null when it broke off.
CREATE TABLE control.ticks (
    name       text NOT NULL,
    slot       timestamptz NOT NULL,
    holder     text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    done_at    timestamptz,
    PRIMARY KEY (name, slot)
);
