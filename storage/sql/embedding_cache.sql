-- name: find
-- The embeddings of texts that were embedded before.
SELECT content_hash, embedding, tokens, used_at < now() - interval '1 day' FROM {shard}.embedding_cache
WHERE tenant = %(tenant)s AND content_hash = ANY(%(hashes)s::bytea[]) AND model = %(model)s;

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
