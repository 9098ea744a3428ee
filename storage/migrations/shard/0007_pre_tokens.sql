-- What was charged for a text when it was embedded, so that what the cache saves is measured; null: nobody knows.

ALTER TABLE {shard}.embedding_cache ADD COLUMN tokens int;
