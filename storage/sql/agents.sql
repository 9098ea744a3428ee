-- name: register
-- Give numbers to agents that have none yet.
INSERT INTO {shard}.agents (tenant, agent)
SELECT %(tenant)s, agent FROM unnest(%(agents)s::text[]) AS a(agent), {shard}.fence(%(epoch)s)
ORDER BY agent
ON CONFLICT (tenant, agent) DO NOTHING;

-- name: numbers
-- The numbers of agents by name.
SELECT agent, number FROM {shard}.agents WHERE tenant = %(tenant)s AND agent = ANY(%(agents)s::text[]);

-- name: find
-- What recall has to know of an agent before it chooses a statement.
SELECT a.number, a.memories, a.words, a.forgotten_before, a.conditional > 0, coalesce(p.upto, 0)
FROM {shard}.agents a
LEFT JOIN {shard}.promotions p ON p.agent = a.number AND p.model = %(model)s
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s;

-- name: forget
-- Everything accepted up to now is forgotten; readers and the finish step obey at once. A job removes the
-- rows; one that is open begins anew, since it may be past what is forgotten now. The same request changes nothing more.
WITH forgotten AS (
    UPDATE {shard}.agents
    SET forgotten_before = nextval('{shard}.numbers'), forgotten_by = coalesce(%(request)s::uuid, forgotten_by)
    FROM {shard}.fence(%(epoch)s)
    WHERE tenant = %(tenant)s AND agent = %(agent)s
      AND (%(request)s::uuid IS NULL OR forgotten_by IS DISTINCT FROM %(request)s::uuid)
    RETURNING number
), opened AS (
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
    SELECT nextval('{shard}.numbers'), 'forget', %(tenant)s, number, %(id)s, '{}' FROM forgotten
    ON CONFLICT (agent, id) WHERE kind IN ('forget', 'optimize') DO UPDATE
    SET lease = NULL, not_before = now(), deaths = 0, parked_at = NULL, error = NULL
)
SELECT number FROM {shard}.agents WHERE tenant = %(tenant)s AND agent = %(agent)s;

-- name: of_tenant
-- All agents of a tenant.
SELECT number FROM {shard}.agents WHERE tenant = %(tenant)s ORDER BY number;

-- name: large
-- Agents that may have outgrown exact search.
SELECT number FROM {shard}.agents WHERE memories >= %(promote_at)s ORDER BY memories DESC;
