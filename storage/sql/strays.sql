-- name: keep
-- Keep a producer's message that could not be taken in.
INSERT INTO {shard}.strays (id, task, tenant, reason, payload, target)
SELECT %(id)s, %(task)s, %(tenant)s, %(reason)s, %(payload)s, %(target)s FROM {shard}.fence(%(epoch)s)
ON CONFLICT DO NOTHING;

-- name: targets
-- The shards that messages wait for; what is held back waits for room.
SELECT DISTINCT target FROM {shard}.strays
WHERE target IS NOT NULL AND reason NOT LIKE 'held: %%' ORDER BY target;

-- name: waiting
-- Messages that wait for a shard, oldest first.
SELECT id, task, tenant, payload FROM {shard}.strays
WHERE target = %(target)s AND reason NOT LIKE 'held: %%' ORDER BY received_at LIMIT %(limit)s;

-- name: hold
-- Hold parts of a message back that are over a limit, in their order.
INSERT INTO {shard}.strays (id, task, tenant, reason, payload, target, received_at)
SELECT h.id, %(task)s, %(tenant)s, h.reason, h.payload, h.target,
       coalesce(%(since)s::timestamptz, now()) + h.place * interval '1 microsecond'
FROM unnest(%(ids)s::uuid[], %(reasons)s::text[], %(payloads)s::text[], %(targets)s::int[])
     WITH ORDINALITY AS h(id, reason, payload, target, place), {shard}.fence(%(epoch)s)
ON CONFLICT DO NOTHING;

-- name: held
-- What is held back, oldest first, but for tenants and agents that have no room now. The payload is read only where
-- it has to be: of others it may be no JSON that Postgres can read.
SELECT id, tenant, CASE WHEN reason LIKE 'held: %%' THEN payload::jsonb #>> '{items,0,agent}' END, payload, received_at
FROM {shard}.strays
WHERE reason LIKE 'held: %%' AND target IS NOT NULL AND tenant <> ALL(%(tenants)s::text[])
  AND CASE WHEN reason LIKE 'held: %%' AND tenant = ANY(%(agents_of)s::text[])
           THEN (tenant, payload::jsonb #>> '{items,0,agent}')
                NOT IN (SELECT * FROM unnest(%(agents_of)s::text[], %(agents)s::text[]))
           ELSE true END
ORDER BY received_at, id
LIMIT %(limit)s;

-- name: set_aside
-- Leave to an operator what was held back for too long.
UPDATE {shard}.strays SET target = NULL, reason = replace(reason, 'held: ', 'held back in vain: ')
FROM {shard}.fence(%(epoch)s)
WHERE reason LIKE 'held: %%' AND target IS NOT NULL AND received_at < now() - make_interval(secs => %(hold_s)s)
RETURNING id;

-- name: drop
-- A message has reached its shard.
DELETE FROM {shard}.strays WHERE id = %(id)s;

-- name: summary
-- How many messages are kept, by task and reason.
SELECT task, reason, count(*), min(received_at) FROM {shard}.strays GROUP BY task, reason ORDER BY 1, 2;

-- name: listed
-- Messages kept here after a place, oldest first; not what they say, only how much.
SELECT id, task, tenant, reason, received_at, bytes, target FROM {shard}.strays
WHERE (received_at, id) > (%(at)s, %(last)s)
  AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(task)s::text IS NULL OR task = %(task)s)
  AND (%(id)s::uuid IS NULL OR id = %(id)s)
ORDER BY received_at, id
LIMIT %(limit)s;

-- name: retry
-- Let the sweep deliver messages again that were refused.
UPDATE {shard}.strays SET target = %(target)s FROM {shard}.fence(%(epoch)s)
WHERE id = ANY(%(ids)s::uuid[]) AND target IS NULL
RETURNING id;

-- name: give_up
-- Give messages up that were refused; one that waits for its shard is a good one.
DELETE FROM {shard}.strays USING {shard}.fence(%(epoch)s)
WHERE id = ANY(%(ids)s::uuid[]) AND target IS NULL
RETURNING id;
