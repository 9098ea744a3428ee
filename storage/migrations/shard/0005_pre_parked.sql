-- How large a stray is, for those who may not read it.

ALTER TABLE {shard}.strays ADD COLUMN bytes int NOT NULL GENERATED ALWAYS AS (octet_length(payload)) STORED;
