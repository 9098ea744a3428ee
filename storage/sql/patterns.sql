-- name: learn
-- The questions that agents were asked more often than so many times, among their last ones, take the place of the
-- patterns that they had. One that was forgotten since this statement began, or whose log is still to be removed, is
-- left out; the others are locked, so that whoever forgets one afterwards removes these rows as well.
WITH due AS MATERIALIZED (
    SELECT a.number
    FROM {shard}.agents a
    JOIN {shard}.agents seen ON seen.number = a.number AND seen.forgotten_before = a.forgotten_before
    WHERE a.number = ANY(%(agents)s::bigint[]) AND seen.number = ANY(%(agents)s)
      AND NOT EXISTS (SELECT FROM {shard}.jobs j
                      WHERE j.agent = a.number AND j.agent = ANY(%(agents)s) AND j.id = %(forget)s AND j.kind = 'forget')
    ORDER BY a.number
    FOR NO KEY UPDATE OF a
), recent AS MATERIALIZED (
    SELECT due.number AS agent, last.*
    FROM due CROSS JOIN LATERAL (
        SELECT q.query_hash, q.at, q.query, q.spelt FROM {shard}.queries q
        WHERE q.agent = due.number ORDER BY q.number DESC LIMIT %(window)s) AS last
), frequent AS MATERIALIZED (
    SELECT agent, query_hash, count(*) AS seen, max(at) AS last_at, max(query) AS query
    FROM recent GROUP BY agent, query_hash HAVING count(*) > %(least)s
), worded AS MATERIALIZED (  -- how it was asked most often, of those that are patterns alone
    SELECT f.agent, f.query_hash, f.seen, f.last_at, f.query,
           nullif(mode() WITHIN GROUP (ORDER BY coalesce(r.spelt, r.query) COLLATE "C"), f.query) AS spelt
    FROM frequent f JOIN recent r ON r.agent = f.agent AND r.query_hash = f.query_hash
    GROUP BY f.agent, f.query_hash, f.seen, f.last_at, f.query
), gone AS (
    DELETE FROM {shard}.patterns p USING due
    WHERE p.agent = due.number AND (p.agent, p.query_hash) NOT IN (SELECT agent, query_hash FROM worded)
), kept AS (
    INSERT INTO {shard}.patterns AS p (agent, query_hash, query, spelt, seen, last_at)
    SELECT agent, query_hash, query, spelt, seen, last_at FROM worded CROSS JOIN {shard}.fence(%(epoch)s)
    ORDER BY agent, query_hash
    ON CONFLICT (agent, query_hash) DO UPDATE
    SET query = EXCLUDED.query, spelt = EXCLUDED.spelt, seen = EXCLUDED.seen, last_at = EXCLUDED.last_at, found_at = now()
    RETURNING 1
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM kept);

-- name: of
-- An agent's patterns, the most frequent first; a row of nulls for an agent that has none, or that is being forgotten: those
-- that are still there are to be removed, and new ones are not learnt until then.
SELECT p.query_hash, coalesce(p.spelt, p.query), p.seen, p.last_at, p.found_at
FROM {shard}.agents a
LEFT JOIN {shard}.patterns p ON p.agent = a.number
      AND NOT EXISTS (SELECT FROM {shard}.jobs j WHERE j.agent = a.number AND j.id = %(forget)s AND j.kind = 'forget')
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s
ORDER BY p.seen DESC, p.last_at DESC, p.query_hash;

-- name: page
-- The next patterns whose text is kept, with whose they are, but for agents that are being forgotten.
SELECT p.agent, a.tenant, a.agent, p.query_hash, coalesce(p.spelt, p.query)
FROM {shard}.patterns p JOIN {shard}.agents a ON a.number = p.agent
WHERE (p.agent, p.query_hash) > (%(agent)s, %(hash)s) AND p.query IS NOT NULL
  AND NOT EXISTS (SELECT FROM {shard}.jobs j WHERE j.agent = p.agent AND j.id = %(forget)s AND j.kind = 'forget')
ORDER BY p.agent, p.query_hash LIMIT %(limit)s;

-- name: remove
-- Remove the patterns of an agent that was forgotten; their hashes, by which the cache knows their vectors.
DELETE FROM {shard}.patterns USING {shard}.fence(%(epoch)s) WHERE agent = %(agent)s RETURNING query_hash;
