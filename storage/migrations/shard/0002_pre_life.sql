-- The life of a memory after it was stored: it is changed, replaced by a newer one, pinned, and it expires.

ALTER TABLE {shard}.memories
    ADD COLUMN version    int NOT NULL DEFAULT 1,     -- counts its contents; those before are in versions
    ADD COLUMN changed_at timestamptz,
    ADD COLUMN expires_at timestamptz,                -- from then on nobody sees it, and a duty forgets it
    ADD COLUMN supersedes uuid,                       -- the id of an older memory that this one takes the place of
    ADD COLUMN pinned     boolean NOT NULL DEFAULT false;

-- Where it is 0, recall need not look whether a memory has expired or was superseded. It may be too large.
ALTER TABLE {shard}.agents ADD COLUMN conditional bigint NOT NULL DEFAULT 0;

-- What a memory said before; it goes with the memory, whoever removes that.
CREATE TABLE {shard}.versions (
    agent       bigint NOT NULL,
    number      bigint NOT NULL,
    version     int NOT NULL,
    content     text NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, number, version),
    FOREIGN KEY (agent, number) REFERENCES {shard}.memories ON DELETE CASCADE
);
