-- name: keep
-- Keep a producer's message that could not be taken in.
INSERT INTO {shard}.strays (id, task, tenant, reason, payload, target)
SELECT %(id)s, %(task)s, %(tenant)s, %(reason)s, %(payload)s, %(target)s FROM {shard}.fence(%(epoch)s)
ON CONFLICT DO NOTHING;

-- name: targets
-- The shards that messages wait for.
SELECT DISTINCT target FROM {shard}.strays WHERE target IS NOT NULL ORDER BY target;

-- name: waiting
-- Messages that wait for a shard, oldest first.
SELECT id, task, tenant, payload FROM {shard}.strays
WHERE target = %(target)s ORDER BY received_at LIMIT %(limit)s;

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
