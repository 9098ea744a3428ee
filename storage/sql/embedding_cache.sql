-- name: find
-- The embeddings of texts that were embedded before.
SELECT content_hash, embedding, tokens FROM {shard}.embedding_cache
WHERE tenant = %(tenant)s AND content_hash = ANY(%(hashes)s::bytea[]) AND model = %(model)s;

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
-- Let go of the embeddings of texts that were forgotten.
DELETE FROM {shard}.embedding_cache WHERE tenant = %(tenant)s AND content_hash = ANY(%(hashes)s::bytea[]);
