-- name: take_job
-- Forget a memory, first: end its open job, after any finish that is under way.
DELETE FROM {shard}.jobs USING {shard}.ids i, {shard}.fence(%(epoch)s)
WHERE i.agent = %(agent)s AND i.id = %(id)s AND jobs.number = i.number AND jobs.kind IN ('remember', 'embed')
RETURNING jobs.kind;

-- name: take_identity
-- Forget a memory, second: its identity becomes a tombstone; the agent is locked before it, as in a finish.
WITH owner AS MATERIALIZED (
    SELECT number FROM {shard}.agents WHERE number = %(agent)s FOR NO KEY UPDATE
)
UPDATE {shard}.ids SET state = 'forgotten'
FROM owner
WHERE ids.agent = owner.number AND id = %(id)s AND state <> 'forgotten'
RETURNING ids.number, content_hash;

-- name: take_memory
-- Forget a memory, third: its row, and what the agent's counts say of it.
WITH gone AS (
    DELETE FROM {shard}.memories m USING {shard}.ids i
    WHERE i.agent = %(agent)s AND i.id = %(id)s AND m.agent = i.agent AND m.number = i.number
    RETURNING length(m.words) AS words
)
UPDATE {shard}.agents SET memories = agents.memories - 1, words = agents.words - gone.words
FROM gone WHERE number = %(agent)s
RETURNING 1;

-- name: take_vector
-- Forget a memory, fourth: its vector of one model.
DELETE FROM {shard}.{vectors}
WHERE (agent, number) IN (
    SELECT v.agent, v.number FROM {shard}.ids i JOIN {shard}.{vectors} v ON v.agent = i.agent AND v.memory = i.number
    WHERE i.agent = %(agent)s AND i.id = %(id)s);

-- name: take_stats
-- Forget a memory, fifth: what is known of its use.
DELETE FROM {shard}.memory_stats s USING {shard}.ids i
WHERE i.agent = %(agent)s AND i.id = %(id)s AND s.agent = i.agent AND s.number = i.number;

-- name: count
-- Note it in the ledger.
INSERT INTO {shard}.ledger (tenant, event, count) VALUES (%(tenant)s, %(event)s, %(count)s);

-- name: vector_tables
-- The tables of vectors in a shard.
SELECT tablename::text FROM pg_tables WHERE schemaname = %(schema)s AND tablename LIKE 'vectors\_%%' ORDER BY 1;

-- name: doomed
-- The next identities of an agent that was forgotten, in order.
SELECT i.number FROM {shard}.ids i JOIN {shard}.agents a ON a.number = i.agent
WHERE i.agent = %(agent)s AND i.number < a.forgotten_before AND i.state <> 'forgotten'
ORDER BY i.number LIMIT %(limit)s;

-- name: remove_jobs
-- Remove a slice of a forgotten agent, first: open jobs.
DELETE FROM {shard}.jobs USING {shard}.fence(%(epoch)s)
WHERE number IN (SELECT number FROM {shard}.jobs WHERE number = ANY(%(numbers)s::bigint[]) AND agent = %(agent)s
                 AND kind IN ('remember', 'embed') ORDER BY number FOR UPDATE)
RETURNING kind;

-- name: lock_agent
-- Remove a slice of a forgotten agent, second: lock the agent, as all do between jobs and what they are about.
SELECT number FROM {shard}.agents WHERE number = %(agent)s FOR NO KEY UPDATE;

-- name: remove_memories
-- Remove a slice of a forgotten agent, third: the rows and their counts.
WITH gone AS (
    DELETE FROM {shard}.memories WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[])
    RETURNING length(words) AS words
)
UPDATE {shard}.agents SET memories = agents.memories - s.memories, words = agents.words - s.words
FROM (SELECT count(*) AS memories, coalesce(sum(words), 0) AS words FROM gone) s
WHERE number = %(agent)s
RETURNING s.memories;

-- name: remove_vectors
-- Remove a slice of a forgotten agent, fourth: the vectors of one model.
DELETE FROM {shard}.{vectors}
WHERE (agent, number) IN (
    SELECT agent, number FROM {shard}.{vectors} WHERE agent = %(agent)s AND memory = ANY(%(numbers)s::bigint[]));

-- name: remove_stats
-- Remove a slice of a forgotten agent, fifth: what is known of their use.
DELETE FROM {shard}.memory_stats WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[]);

-- name: remove_identities
-- Remove a slice of a forgotten agent, last: the identities become tombstones.
UPDATE {shard}.ids SET state = 'forgotten'
WHERE (agent, id) IN (SELECT agent, id FROM {shard}.ids WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[])
                      ORDER BY id FOR UPDATE)
RETURNING content_hash;
