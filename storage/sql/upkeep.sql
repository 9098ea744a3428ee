-- name: analyze
-- Bring the planner's statistics of a table up to date.
ANALYZE {shard}.{table};

-- name: promote
-- Note that an agent has an index over its vectors up to a number.
INSERT INTO {shard}.promotions (agent, model, upto, index_name, vectors)
VALUES (%(agent)s, %(model)s, %(upto)s, %(index_name)s, %(vectors)s)
ON CONFLICT (agent, model) DO UPDATE
SET upto = EXCLUDED.upto, index_name = EXCLUDED.index_name, vectors = EXCLUDED.vectors, built_at = now();

-- name: promotion
-- An agent's index, if it has one.
SELECT upto, index_name, vectors FROM {shard}.promotions WHERE agent = %(agent)s AND model = %(model)s;

-- name: last_vector
-- How many vectors an agent has, and the number of the newest.
SELECT count(*), coalesce(max(number), 0) FROM {shard}.{vectors} WHERE agent = %(agent)s;

-- name: tail
-- How many vectors of an agent are newer than its index.
SELECT count(*) FROM {shard}.{vectors} WHERE agent = %(agent)s AND number > %(upto)s;

-- name: build_index
-- Index the vectors of one agent up to a number, without holding writers up.
CREATE INDEX CONCURRENTLY {index} ON {shard}.{vectors} USING hnsw (embedding halfvec_ip_ops)
WITH (m = 16, ef_construction = 64) WHERE agent = {agent} AND number <= {upto};

-- name: drop_index
-- Drop an index that another has replaced, or that was left half built.
DROP INDEX CONCURRENTLY IF EXISTS {shard}.{index};

-- name: broken_indexes
-- Indexes that a build left behind unfinished, of tables that nobody builds on: whoever does holds such a lock to the end.
SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = {quoted_shard}::regnamespace
  AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                  WHERE l.locktype = 'relation' AND l.relation = i.indrelid AND d.datname = current_database()
                    AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock'));
