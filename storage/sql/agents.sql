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
SELECT a.number, a.memories, a.words, a.forgotten_before, coalesce(p.upto, 0)
FROM {shard}.agents a
LEFT JOIN {shard}.promotions p ON p.agent = a.number AND p.model = %(model)s
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s;

-- name: forget
-- Everything accepted up to now is forgotten; readers and the finish step obey at once.
UPDATE {shard}.agents SET forgotten_before = nextval('{shard}.numbers')
FROM {shard}.fence(%(epoch)s)
WHERE tenant = %(tenant)s AND agent = %(agent)s
RETURNING number;

-- name: large
-- Agents that may have outgrown exact search.
SELECT number FROM {shard}.agents WHERE memories >= %(promote_at)s ORDER BY memories DESC;
