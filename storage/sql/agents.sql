-- name: register
-- Give numbers to agents that have none yet.
INSERT INTO {shard}.agents (tenant, agent)
SELECT %(tenant)s, agent FROM unnest(%(agents)s::text[]) AS a(agent), {shard}.fence(%(epoch)s)
ORDER BY agent
ON CONFLICT (tenant, agent) DO NOTHING;

-- name: numbers
-- The numbers of agents by name.
SELECT agent, number FROM {shard}.agents WHERE tenant = %(tenant)s AND agent = ANY(%(agents)s::text[]);

-- name: names
-- The names of agents by number.
SELECT number, agent FROM {shard}.agents WHERE number = ANY(%(numbers)s::bigint[]);

-- name: find
-- What recall has to know of agents before it chooses a statement.
SELECT a.agent, a.number, a.memories, a.words, a.forgotten_before, a.conditional > 0, coalesce(p.upto, 0), coalesce(p.ef_search, 0)
FROM {shard}.agents a
LEFT JOIN {shard}.promotions p ON p.agent = a.number AND p.model = %(model)s
WHERE a.tenant = %(tenant)s AND a.agent = ANY(%(agents)s::text[]);

-- name: newest
-- The same of a tenant's newest agents, until they have so many memories together, and how many agents there are that
-- have some. Those with an index of their own count for as much as looking into that costs.
SELECT agent, number, memories, words, forgotten_before, conditional > 0, upto, ef_search, agents
FROM (
    SELECT a.*, coalesce(p.upto, 0) AS upto, coalesce(p.ef_search, 0) AS ef_search, count(*) OVER () AS agents,
           coalesce(sum(CASE WHEN p.agent IS NULL THEN a.memories ELSE least(a.memories, 5000) END) OVER (
               ORDER BY a.number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS newer
    FROM {shard}.agents a
    LEFT JOIN {shard}.promotions p ON p.agent = a.number AND p.model = %(model)s
    WHERE a.tenant = %(tenant)s AND a.memories > 0) AS known
WHERE newer < %(memories)s
ORDER BY number DESC;

-- name: forget
-- Everything accepted up to now is forgotten; readers and the finish step obey at once. A job removes the
-- rows; one that is open begins anew, since it may be past what is forgotten now. The same request changes nothing more.
WITH asked AS (
    SELECT number, forgotten_by IS NOT DISTINCT FROM %(request)s::uuid AND forgotten_by IS NOT NULL AS again
    FROM {shard}.agents, {shard}.fence(%(epoch)s)
    WHERE tenant = %(tenant)s AND agent = %(agent)s
    FOR NO KEY UPDATE OF agents
), forgotten AS (  -- also again: the answer then waits for the standbys, as the first should have
    UPDATE {shard}.agents
    SET forgotten_before = CASE WHEN again THEN forgotten_before ELSE nextval('{shard}.numbers') END,
        forgotten_by = coalesce(%(request)s::uuid, forgotten_by)
    FROM asked WHERE agents.number = asked.number
    RETURNING agents.number, again
), opened AS (  -- it removes what was asked as well; nobody sees it, or learns from it, until then
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
    SELECT nextval('{shard}.numbers'), 'forget', %(tenant)s, number, %(id)s, '{}' FROM forgotten WHERE NOT again
    ON CONFLICT (agent, id) WHERE kind IN ('forget', 'optimize') DO UPDATE
    SET lease = NULL, not_before = now(), deaths = 0, parked_at = NULL, error = NULL
)
SELECT number FROM forgotten;

-- name: of_tenant
-- All agents of a tenant.
SELECT number FROM {shard}.agents WHERE tenant = %(tenant)s ORDER BY number;

-- name: large
-- Agents that may have outgrown exact search.
SELECT number FROM {shard}.agents WHERE memories >= %(promote_at)s ORDER BY memories DESC;
