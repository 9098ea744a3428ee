-- name: of
-- What caches have to know of an agent: its number, the version of what it knows, what of it was forgotten, now, and when
-- a memory that takes another's place expires next, so that the other is seen again; times as seconds since 1970.
SELECT a.number, e.epoch, a.version, a.forgotten_before, extract(epoch FROM now())::float8,
       CASE WHEN a.conditional > 0 THEN
           (SELECT extract(epoch FROM min(m.expires_at))::float8 FROM {shard}.memories m
            WHERE m.agent = a.number AND m.supersedes IS NOT NULL AND m.expires_at > now())
       END
FROM {shard}.agents a CROSS JOIN {shard}.epochs e
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s;

-- name: renew
-- No cache knows anything of a tenant's agent any more, or of all its agents.
UPDATE {shard}.agents SET version = gen_random_uuid() FROM {shard}.fence(%(epoch)s)
WHERE tenant = %(tenant)s AND (%(agent)s::text IS NULL OR agent = %(agent)s)
RETURNING number;

-- name: renew_all
-- No cache knows anything of a shard any more.
UPDATE {shard}.epochs SET epoch = gen_random_uuid() FROM {shard}.fence(%(epoch)s);
