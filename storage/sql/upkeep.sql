-- name: analyze
-- Bring the planner's statistics of a table up to date.
ANALYZE {shard}.{table};

-- name: promote
-- Note that an agent has an index over its vectors up to a number.
INSERT INTO {shard}.promotions (agent, model, upto, index_name, vectors, m, ef_construction)
VALUES (%(agent)s, %(model)s, %(upto)s, %(index_name)s, %(vectors)s, %(m)s, %(ef_construction)s)
ON CONFLICT (agent, model) DO UPDATE
SET upto = EXCLUDED.upto, index_name = EXCLUDED.index_name, vectors = EXCLUDED.vectors, m = EXCLUDED.m,
    ef_construction = EXCLUDED.ef_construction, ef_search = NULL, tail = 0, built_at = now();

-- name: promotion
-- An agent's index, if it has one.
SELECT upto, index_name, vectors, coalesce(m, 16), coalesce(ef_construction, 64),
       to_regclass('{shard}.' || quote_ident(index_name)) IS NOT NULL
FROM {shard}.promotions WHERE agent = %(agent)s AND model = %(model)s;

-- name: last_vector
-- How many vectors an agent has, and the number of the newest.
SELECT count(*), coalesce(max(number), 0) FROM {shard}.{vectors} WHERE agent = %(agent)s;

-- name: tail
-- How many vectors of an agent are newer than its index.
SELECT count(*) FROM {shard}.{vectors} WHERE agent = %(agent)s AND number > %(upto)s;

-- name: build_in_memory
-- How much memory the next build in this session may take; it works alone, so that others have the processors.
SELECT set_config('maintenance_work_mem', %(memory)s, false), set_config('max_parallel_maintenance_workers', '0', false);

-- name: build_index
-- Index the vectors of one agent up to a number, without holding writers up.
CREATE INDEX CONCURRENTLY {index} ON {shard}.{vectors} USING hnsw (embedding halfvec_ip_ops)
WITH (m = {m}, ef_construction = {ef_construction}) WHERE agent = {agent} AND number <= {upto};

-- name: drop_index
-- Drop an index that another has replaced, or that was left half built.
DROP INDEX CONCURRENTLY IF EXISTS {shard}.{index};

-- name: left_indexes
-- Indexes that a build left behind, unfinished or before they served, of tables that nobody builds on: whoever does holds
-- such a lock to the end.
SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE c.relnamespace = {quoted_shard}::regnamespace
  AND (NOT i.indisvalid
       OR (m.amname = 'hnsw' AND i.indpred IS NOT NULL AND c.relname ~ '_[0-9]+_[0-9]+(_again)?$'
           AND NOT EXISTS (SELECT FROM {shard}.promotions p WHERE p.index_name = c.relname)))
  AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                  WHERE l.locktype = 'relation' AND l.relation = i.indrelid AND d.datname = current_database()
                    AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock'));
