-- name: worn
-- How many rows the tables of some schemas have, how many of them are dead, and what has changed since they were looked
-- after.
SELECT s.schemaname::text, s.relname::text, greatest(s.n_live_tup, c.reltuples::bigint, 0), s.n_dead_tup,
       s.n_ins_since_vacuum, s.n_mod_since_analyze
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = ANY(%(schemas)s::text[])
ORDER BY 1, 2;

-- name: size
-- How many dead rows a table has, and how large it is with its indexes.
SELECT coalesce(pg_stat_get_dead_tuples(oid), 0), pg_total_relation_size(oid)
FROM pg_class WHERE oid = to_regclass(%(relation)s);

-- name: vacuum
-- Let the room of dead rows be used again, and bring the planner's statistics up to date.
VACUUM (ANALYZE) {schema}.{table};

-- name: analyze
-- Bring the planner's statistics of a table up to date.
ANALYZE {schema}.{table};

-- name: reindex
-- Build an index again beside the old one, which serves until the new one does.
REINDEX INDEX CONCURRENTLY {schema}.{index};

-- name: promoted
-- The indexes of agents that have one, and how many vectors each had when it was built.
SELECT p.agent, p.model, p.upto, p.index_name, t.relname::text, p.vectors
FROM {shard}.promotions p
JOIN pg_class c ON c.relname = p.index_name AND c.relnamespace = '{shard}'::regnamespace
JOIN pg_index i ON i.indexrelid = c.oid AND i.indisvalid
JOIN pg_class t ON t.oid = i.indrelid
ORDER BY p.agent, p.model;

-- name: living
-- How many of the vectors of an agent's index are still there.
SELECT count(*) FROM {shard}.{vectors} WHERE agent = %(agent)s AND number <= %(upto)s;

-- name: count_anew
-- Note how many vectors an index has now.
UPDATE {shard}.promotions SET vectors = %(vectors)s
WHERE agent = %(agent)s AND model = %(model)s AND index_name = %(index)s;

-- name: alone
-- Be the only one who vacuums on a node.
SELECT pg_try_advisory_lock(1835887986, 0);

-- name: leave
-- Let others vacuum on a node.
SELECT pg_advisory_unlock(1835887986, 0);

-- name: note
-- Note what was done to a table or an index.
INSERT INTO control.vacuums (node, shard, relation, action, why, outcome, ms, dead_before, dead_after, bytes_before,
                             bytes_after)
VALUES (%(node)s, %(shard)s, %(relation)s, %(action)s, %(why)s, %(outcome)s, %(ms)s, %(dead_before)s, %(dead_after)s,
        %(bytes_before)s, %(bytes_after)s);

-- name: stops
-- How often work on a relation was stopped within a day, since it was last done.
SELECT node, coalesce(shard, -1), relation, count(*)::int FROM control.vacuums v
WHERE outcome = 'stopped' AND at > now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM control.vacuums d
                  WHERE d.outcome = 'done' AND d.at > v.at AND d.node = v.node AND d.relation = v.relation
                    AND d.shard IS NOT DISTINCT FROM v.shard)
GROUP BY 1, 2, 3;

-- name: done
-- What was done last, the latest first.
SELECT node, relation, action, why, outcome, ms, dead_before, dead_after, bytes_before, bytes_after, at, shard
FROM control.vacuums
WHERE (%(shard)s::int IS NULL OR shard = %(shard)s) AND (%(relation)s::text IS NULL OR relation = %(relation)s)
ORDER BY number DESC LIMIT %(limit)s;
