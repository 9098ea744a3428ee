-- name: log
-- Log questions, but for agents that were forgotten since they were answered. The agents are locked, so that whoever
-- forgets one removes these rows as well.
WITH asked AS (
    SELECT * FROM unnest(%(agents)s::bigint[], %(marks)s::bigint[], %(hashes)s::bytea[], %(queries)s::text[],
                         %(spelt)s::text[], %(ages)s::float8[], %(ms)s::real[], %(hits)s::int[], %(cached)s::boolean[])
        WITH ORDINALITY AS q(agent, mark, query_hash, query, spelt, age_s, ms, hits, cached, place)
), there AS MATERIALIZED (
    SELECT a.number, a.forgotten_before
    FROM {shard}.agents a
    JOIN (SELECT DISTINCT agent, mark FROM asked) w ON w.agent = a.number AND w.mark = a.forgotten_before
    ORDER BY a.number
    FOR SHARE OF a
), logged AS (
    INSERT INTO {shard}.queries (agent, at, query_hash, query, spelt, ms, hits, cached)
    SELECT agent, now() - make_interval(secs => age_s), query_hash, query, spelt, ms, hits, cached
    FROM asked JOIN there ON number = agent AND forgotten_before = mark CROSS JOIN {shard}.fence(%(epoch)s)
    ORDER BY place
    RETURNING 1
)
SELECT count(*) FROM logged;

-- name: since
-- Now, and which agents beyond a number were asked since a time.
SELECT extract(epoch FROM now())::float8,
       ARRAY(SELECT DISTINCT agent FROM {shard}.queries WHERE at >= to_timestamp(%(at)s) AND agent > %(after)s ORDER BY agent);

-- name: lately
-- The agents that were asked within a time, the last one first.
SELECT agent FROM {shard}.queries WHERE at > now() - make_interval(secs => %(within_s)s)
GROUP BY agent ORDER BY max(at) DESC LIMIT %(most)s;

-- name: remove
-- Remove questions of an agent that was forgotten.
DELETE FROM {shard}.queries USING {shard}.fence(%(epoch)s)
WHERE (agent, number) IN (SELECT agent, number FROM {shard}.queries WHERE agent = %(agent)s ORDER BY number LIMIT %(limit)s)
RETURNING query_hash;
