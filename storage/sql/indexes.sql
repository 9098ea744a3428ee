-- name: known
-- The indexes of agents for a model, how they are doing, and the agents that have none since none was good enough. What
-- the canary found of an index that was there before says nothing.
SELECT number, a.tenant, a.agent, a.memories, coalesce(p.upto, 0), p.index_name, p.vectors,
       coalesce(pg_relation_size(to_regclass('{shard}.' || quote_ident(p.index_name))), 0), coalesce(p.m, 16),
       coalesce(p.ef_construction, 64), p.ef_search, p.tail, p.asked, p.asked_at, p.built_at, sung.recall,
       coalesce(sung.questions, 0), sung.ms, sung.at, coalesce(c.rung, 0),
       CASE WHEN c.exact_until > now() THEN c.exact_until END
FROM (SELECT * FROM {shard}.promotions WHERE model = %(model)s) AS p
FULL JOIN (SELECT * FROM {shard}.canaries WHERE model = %(model)s) AS c ON c.agent = p.agent
JOIN {shard}.agents a ON a.number = coalesce(p.agent, c.agent)
LEFT JOIN LATERAL (SELECT c.recall, c.questions, c.ms, c.at WHERE c.at > p.built_at) AS sung ON true
WHERE p.agent IS NOT NULL OR c.exact_until > now()
ORDER BY a.number;

-- name: outgrown
-- Agents that are large enough for an index, have none, and may have one.
SELECT a.number, a.tenant, a.memories FROM {shard}.agents a
WHERE a.memories >= %(promote_at)s
  AND NOT EXISTS (SELECT FROM {shard}.promotions p WHERE p.agent = a.number AND p.model = %(model)s)
  AND NOT EXISTS (SELECT FROM {shard}.canaries c
                  WHERE c.agent = a.number AND c.model = %(model)s AND c.exact_until > now())
ORDER BY a.memories DESC;

-- name: asked
-- How often agents were asked within a time, up to a number, and when last.
SELECT wanted.agent, count(*)::int, max(q.at)
FROM unnest(%(agents)s::bigint[]) AS wanted(agent)
CROSS JOIN LATERAL (
    SELECT at FROM {shard}.queries l
    WHERE l.agent = wanted.agent AND l.at > now() - make_interval(secs => %(within_s)s::float8)
    ORDER BY l.number DESC LIMIT %(most)s) AS q
GROUP BY wanted.agent;

-- name: note
-- Keep how much is newer than an index, and how often its agent was asked.
UPDATE {shard}.promotions SET tail = %(tail)s, asked = %(asked)s, asked_at = %(asked_at)s
WHERE agent = %(agent)s AND model = %(model)s;

-- name: care
-- How well an agent's index has to be built, and whether it may have none for now.
SELECT rung, coalesce(exact_until > now(), false) FROM {shard}.canaries WHERE agent = %(agent)s AND model = %(model)s;

-- name: questions
-- What an agent was asked last, each once.
SELECT DISTINCT query_hash
FROM (SELECT query_hash FROM {shard}.queries WHERE agent = %(agent)s ORDER BY number DESC LIMIT 10 * %(count)s::bigint) AS q
LIMIT %(count)s;

-- name: sung
-- Keep how well an agent's index answers.
INSERT INTO {shard}.canaries AS c (agent, model, recall, questions, ms, at)
VALUES (%(agent)s, %(model)s, %(recall)s, %(questions)s, %(ms)s, now())
ON CONFLICT (agent, model) DO UPDATE
SET recall = EXCLUDED.recall, questions = EXCLUDED.questions, ms = EXCLUDED.ms, at = EXCLUDED.at;

-- name: look_further
-- From now on recall looks at more of an agent's index, while it is this one.
UPDATE {shard}.promotions SET ef_search = %(ef_search)s
WHERE agent = %(agent)s AND model = %(model)s AND index_name = %(index_name)s;

-- name: build_better
-- The next index of an agent is to be built better than its size asks for.
UPDATE {shard}.canaries SET rung = %(rung)s WHERE agent = %(agent)s AND model = %(model)s;

-- name: go_exact
-- An agent is to have no index for some time.
UPDATE {shard}.canaries SET rung = 0, exact_until = now() + make_interval(secs => %(seconds)s::float8)
WHERE agent = %(agent)s AND model = %(model)s;

-- name: demote
-- From now on an agent is searched exactly.
DELETE FROM {shard}.promotions WHERE agent = %(agent)s AND model = %(model)s RETURNING index_name;

-- name: taken
-- How many indexes a model has in a shard, and how many bytes those of it and of other models take.
SELECT count(*) FILTER (WHERE model = %(model)s)::int,
       coalesce(sum(size) FILTER (WHERE model = %(model)s), 0)::bigint,
       coalesce(sum(size) FILTER (WHERE model <> %(model)s), 0)::bigint
FROM (SELECT model, pg_relation_size(to_regclass('{shard}.' || quote_ident(index_name))) AS size
      FROM {shard}.promotions) AS p;
