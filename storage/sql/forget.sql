-- Rows are removed in this order, whoever asks for it: open jobs, after any finish that is under way; the agent
-- is locked, as all do between jobs and what they are about; versions, memories, vectors, stats; identities.

-- name: take_job
-- Forget a memory: end its open job.
DELETE FROM {shard}.jobs USING {shard}.ids i, {shard}.fence(%(epoch)s)
WHERE i.agent = %(agent)s AND i.id = %(id)s AND jobs.number = i.number AND jobs.kind IN ('remember', 'embed')
RETURNING jobs.kind;

-- name: take_identity
-- Forget a memory: its identity becomes a tombstone, behind the lock of its agent.
UPDATE {shard}.ids SET state = 'forgotten'
WHERE agent = %(agent)s AND id = %(id)s AND state <> 'forgotten'
RETURNING number, content_hash;

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

-- name: matching
-- The next memories of an agent, stored or still to be stored, that pass filters, up to a number, in order.
SELECT m.number FROM (
    SELECT number, kind, importance, tags, metadata, occurred_at, thread, pinned
    FROM {shard}.memories
    WHERE agent = %(agent)s AND number > %(after)s
    UNION ALL
    SELECT j.number, p.kind, p.importance, coalesce(p.tags, '{}'), coalesce(p.metadata, '{}'),
           coalesce(p.occurred_at, j.created_at), p.thread, coalesce(p.pinned, false)
    FROM {shard}.jobs j CROSS JOIN LATERAL jsonb_to_record(j.payload) AS p(
        kind text, importance real, tags text[], metadata jsonb, occurred_at timestamptz, thread text, pinned boolean)
    WHERE j.agent = %(agent)s AND j.kind = 'remember' AND j.number > %(after)s
      AND (j.tenant = %(tenant)s AND j.lease IS NULL AND j.parked_at IS NULL  -- as the indexes have it
           OR j.lease IS NOT NULL OR j.parked_at IS NOT NULL)) AS m
JOIN {shard}.agents a ON a.number = %(agent)s AND m.number >= a.forgotten_before
WHERE m.number <= %(upto)s AND {holds}
ORDER BY m.number
LIMIT %(limit)s;

-- name: count_matching
-- How many those are.
SELECT count(*) FROM ({matching}) AS m;

-- name: newest
-- The number of what was accepted last in a shard.
SELECT last_value FROM {shard}.numbers;

-- name: open_matching
-- Ask for the memories of an agent that pass filters to be forgotten; one that was asked for before begins anew, but
-- not by the same request.
WITH asked AS (
    SELECT number, forgotten_by IS NOT DISTINCT FROM %(request)s::uuid AND forgotten_by IS NOT NULL AS again
    FROM {shard}.agents, {shard}.fence(%(epoch)s)
    WHERE number = %(agent)s
    FOR NO KEY UPDATE OF agents
), noted AS (  -- also again: the answer then waits for the standbys, as the first should have
    UPDATE {shard}.agents SET forgotten_by = coalesce(%(request)s::uuid, forgotten_by)
    FROM asked WHERE agents.number = asked.number
)
INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
SELECT nextval('{shard}.numbers'), 'forget', %(tenant)s, number, %(id)s, %(payload)s
FROM asked WHERE NOT again
ON CONFLICT (agent, id) WHERE kind IN ('forget', 'optimize') DO UPDATE
SET payload = EXCLUDED.payload, lease = NULL, not_before = now(), deaths = 0, parked_at = NULL, error = NULL;

-- name: expired
-- The next memories that have expired, by agent.
SELECT a.tenant, m.agent, array_agg(m.number ORDER BY m.number)
FROM (SELECT agent, number FROM {shard}.memories WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s) m
JOIN {shard}.agents a ON a.number = m.agent
GROUP BY a.tenant, m.agent
ORDER BY m.agent;

-- name: remove_jobs
-- Remove memories: open jobs.
DELETE FROM {shard}.jobs USING {shard}.fence(%(epoch)s)
WHERE number IN (SELECT number FROM {shard}.jobs WHERE number = ANY(%(numbers)s::bigint[]) AND agent = %(agent)s
                 AND kind IN ('remember', 'embed') ORDER BY number FOR UPDATE)
RETURNING kind;

-- name: lock_agent
-- Remove memories: lock the agent.
SELECT number FROM {shard}.agents WHERE number = %(agent)s FOR NO KEY UPDATE;

-- name: remove_memories
-- Remove memories: the rows and their counts; how many, and the hashes of their texts. What a removed one had
-- taken the place of, its own successor takes the place of from now on.
WITH RECURSIVE gone AS MATERIALIZED (
    DELETE FROM {shard}.memories WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[])
    RETURNING id, supersedes, length(words) AS words, expires_at IS NOT NULL OR supersedes IS NOT NULL AS conditional,
              sha256(convert_to(coalesce(speaker || ': ', '') || content, 'UTF8')) AS hash
), inherited (id, supersedes) AS (
    SELECT id, supersedes FROM gone
    UNION
    SELECT i.id, g.supersedes FROM inherited i JOIN gone g ON g.id = i.supersedes
), relinked AS (
    UPDATE {shard}.memories n SET supersedes = nullif(i.supersedes, n.id)
    FROM inherited i
    WHERE n.agent = %(agent)s AND n.supersedes = i.id AND n.number <> ALL(%(numbers)s::bigint[])
      AND NOT EXISTS (SELECT FROM gone g WHERE g.id = i.supersedes)
)
UPDATE {shard}.agents
SET memories = agents.memories - s.memories, words = agents.words - s.words,
    conditional = greatest(0, agents.conditional - s.conditional)
FROM (SELECT count(*) AS memories, coalesce(sum(words), 0) AS words, count(*) FILTER (WHERE conditional) AS conditional,
             coalesce(array_agg(hash), '{}') AS hashes
      FROM gone) s
WHERE number = %(agent)s
RETURNING s.memories, s.hashes;

-- name: remove_versions
-- Remove memories: what they said before; the hashes of those texts.
DELETE FROM {shard}.versions v USING {shard}.memories m
WHERE v.agent = %(agent)s AND v.number = ANY(%(numbers)s::bigint[]) AND m.agent = v.agent AND m.number = v.number
RETURNING sha256(convert_to(coalesce(m.speaker || ': ', '') || v.content, 'UTF8'));

-- name: remove_vectors
-- Remove memories: the vectors of one model.
DELETE FROM {shard}.{vectors}
WHERE (agent, number) IN (
    SELECT agent, number FROM {shard}.{vectors} WHERE agent = %(agent)s AND memory = ANY(%(numbers)s::bigint[]));

-- name: remove_stats
-- Remove memories: what is known of their use.
DELETE FROM {shard}.memory_stats WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[]);

-- name: remove_identities
-- Remove memories: the identities become tombstones.
UPDATE {shard}.ids SET state = 'forgotten'
WHERE (agent, id) IN (SELECT agent, id FROM {shard}.ids WHERE agent = %(agent)s AND number = ANY(%(numbers)s::bigint[])
                      ORDER BY id FOR UPDATE)
RETURNING content_hash;
