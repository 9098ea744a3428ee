-- name: find
-- The embeddings of texts that were embedded before.
SELECT known.*
FROM unnest(%(tenants)s::text[], %(hashes)s::bytea[]) AS asked(tenant, content_hash)
CROSS JOIN LATERAL (  -- so that each is looked up, whatever the size that the planner believes in
    SELECT tenant, content_hash, embedding, tokens, used_at < now() - interval '1 day'
    FROM {shard}.embedding_cache
    WHERE tenant = asked.tenant AND content_hash = asked.content_hash AND model = %(model)s
    LIMIT 1) AS known;

-- name: lacking
-- The texts that were not embedded before.
SELECT tenant, content_hash
FROM unnest(%(tenants)s::text[], %(hashes)s::bytea[]) AS asked(tenant, content_hash)
WHERE (  -- no EXISTS: that might be answered for the whole table at once
    SELECT true FROM {shard}.embedding_cache known
    WHERE known.tenant = asked.tenant AND known.content_hash = asked.content_hash AND model = %(model)s) IS NULL;

-- name: hurried
-- This transaction's commit does not wait for the disk, nor for standbys: the next one that does so waits for both.
SELECT set_config('synchronous_commit', 'off', true);

-- name: used
-- Note that embeddings were of use today; rows that somebody else holds are left.
UPDATE {shard}.embedding_cache SET used_at = now()
WHERE (tenant, content_hash, model) IN (
    SELECT tenant, content_hash, model FROM {shard}.embedding_cache
    WHERE tenant = %(tenant)s AND content_hash = ANY(%(hashes)s::bytea[]) AND model = %(model)s
      AND used_at < now() - interval '1 day' AND EXISTS (SELECT FROM {shard}.fence(%(epoch)s))
    FOR NO KEY UPDATE SKIP LOCKED);

-- name: keep
-- Keep embeddings for the next time that the same text comes.
INSERT INTO {shard}.embedding_cache (tenant, content_hash, model, embedding, tokens)
SELECT e.tenant, e.content_hash, %(model)s, e.embedding, e.tokens
FROM unnest(%(tenants)s::text[], %(hashes)s::bytea[], %(embeddings)s::halfvec[], %(tokens)s::int[])
         AS e(tenant, content_hash, embedding, tokens),
     {shard}.fence(%(epoch)s)
ORDER BY e.tenant, e.content_hash
ON CONFLICT DO NOTHING;

-- name: drop
-- Let go of the embeddings of texts that were forgotten, or only of those that were of no use for a time.
DELETE FROM {shard}.embedding_cache
WHERE tenant = %(tenant)s AND content_hash = ANY(%(hashes)s::bytea[])
  AND (%(unused_s)s::float8 IS NULL OR used_at < now() - make_interval(secs => %(unused_s)s));

-- name: rows
-- About how many there are.
SELECT greatest(0, reltuples)::bigint FROM pg_class
WHERE relname = 'embedding_cache' AND relnamespace = {quoted_shard}::regnamespace;
