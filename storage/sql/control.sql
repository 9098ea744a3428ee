-- name: create_tenant
-- Add a tenant.
INSERT INTO control.tenants (tenant) VALUES (%(tenant)s) ON CONFLICT DO NOTHING RETURNING tenant;

-- name: tenants
-- All tenants, with the limits that were set for them.
SELECT tenant, created_at, weight, rate, agent_rate, open_jobs FROM control.tenants ORDER BY tenant;

-- name: limits
-- The limits of those tenants for which some were set.
SELECT tenant, weight, rate, agent_rate, open_jobs FROM control.tenants
WHERE coalesce(weight, rate, agent_rate, open_jobs) IS NOT NULL;

-- name: set_limits
-- Set those limits of a tenant that are given; null takes one back.
UPDATE control.tenants
SET weight = CASE WHEN 'weight' = ANY(%(given)s::text[]) THEN %(weight)s ELSE weight END,
    rate = CASE WHEN 'rate' = ANY(%(given)s::text[]) THEN %(rate)s ELSE rate END,
    agent_rate = CASE WHEN 'agent_rate' = ANY(%(given)s::text[]) THEN %(agent_rate)s ELSE agent_rate END,
    open_jobs = CASE WHEN 'open_jobs' = ANY(%(given)s::text[]) THEN %(open_jobs)s ELSE open_jobs END
WHERE tenant = %(tenant)s
RETURNING weight, rate, agent_rate, open_jobs;

-- name: create_key
-- Add an API key by its hash, for a time or for good.
INSERT INTO control.api_keys (prefix, key_hash, tenant, label, lives, expires_at)
SELECT %(prefix)s, %(key_hash)s, %(tenant)s, %(label)s, lives, now() + lives
FROM make_interval(secs => %(lives_s)s) AS made(lives);

-- name: create_first_admin_key
-- Add an admin key by its hash, unless there is one, good or revoked.
INSERT INTO control.api_keys (prefix, key_hash, tenant, label)
SELECT %(prefix)s, %(key_hash)s, NULL, %(label)s
WHERE NOT EXISTS (SELECT FROM control.api_keys WHERE tenant IS NULL)
ON CONFLICT DO NOTHING RETURNING prefix;

-- name: keys
-- All keys, without their secrets.
SELECT prefix, label, created_at, tenant, revoked_at, expires_at, last_used_at FROM control.api_keys
WHERE %(tenant)s::text IS NULL OR tenant = %(tenant)s
ORDER BY created_at;

-- name: find_key
-- The key behind a prefix, and for how long it is good, unless it has ended.
SELECT key_hash, tenant, extract(epoch FROM expires_at - now())::float8 FROM control.api_keys
WHERE prefix = %(prefix)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: known_key
-- Whether there is, or was, a key with this prefix.
SELECT prefix FROM control.api_keys WHERE prefix = %(prefix)s;

-- name: revoke_key
-- Make a key worthless.
UPDATE control.api_keys SET revoked_at = now() WHERE prefix = %(prefix)s AND revoked_at IS NULL RETURNING prefix;

-- name: rotate_key
-- Put a new key in the place of one that is good: for the same tenant, with the same label and for as long. The old
-- one ends after a grace, or at once, then by revocation, which the version before knows as well.
WITH old AS (
    UPDATE control.api_keys
    SET expires_at = least(expires_at, now() + make_interval(secs => %(grace_s)s)),
        revoked_at = CASE WHEN %(grace_s)s = 0 THEN now() END
    WHERE prefix = %(prefix)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    RETURNING tenant, label, lives, extract(epoch FROM expires_at - now())::float8 AS left_s
), new AS (
    INSERT INTO control.api_keys (prefix, key_hash, tenant, label, lives, expires_at)
    SELECT %(new_prefix)s, %(key_hash)s, tenant, label, lives, now() + lives FROM old
)
SELECT left_s FROM old;

-- name: note_use
-- Keys were used: noted once a minute at most, and not where somebody else holds the row.
UPDATE control.api_keys SET last_used_at = now()
WHERE prefix IN (SELECT prefix FROM control.api_keys
                 WHERE prefix = ANY(%(prefixes)s::text[])
                   AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
                 FOR NO KEY UPDATE SKIP LOCKED);

-- name: claim_tick
-- Be the one who runs a duty in the slot that it is now, by the database's clock; no row when somebody else does. Slots
-- that lie ahead are from before that clock was set back: else the duty would rest until they are over.
WITH now AS (
    SELECT to_timestamp(floor(extract(epoch FROM now()) / %(every_s)s::float8) * %(every_s)s::float8) AS slot
), ahead AS (
    DELETE FROM control.ticks WHERE name = %(name)s AND slot > (SELECT slot FROM now)
)
INSERT INTO control.ticks (name, slot, holder, stop_at)
SELECT %(name)s, slot, %(holder)s, now() + make_interval(secs => %(slice_s)s) FROM now
ON CONFLICT DO NOTHING RETURNING slot;

-- name: finish_tick
-- A duty has ended for this slot.
UPDATE control.ticks SET done_at = now(), outcome = %(outcome)s, detail = %(detail)s
WHERE name = %(name)s AND slot = %(slot)s;

-- name: ticks
-- The last run of each duty.
SELECT DISTINCT ON (name) name, slot, holder, claimed_at, done_at, outcome, detail,
       done_at IS NULL AND stop_at < now() - interval '1 minute'
FROM control.ticks ORDER BY name, slot DESC;

-- name: runs
-- How many runs of each duty ended how in the last day, null: they go on; and of the whole week: how long ago the last of these
-- ended, and how long ago the first began, in seconds. What ended without an outcome is of a version that noted none.
SELECT name, ended, count(*) FILTER (WHERE claimed_at > now() - interval '1 day'),
       extract(epoch FROM now() - max(done_at))::float8, extract(epoch FROM now() - min(claimed_at))::float8
FROM (
    SELECT name, claimed_at, done_at,
           CASE WHEN done_at IS NOT NULL THEN coalesce(outcome, 'done')
                WHEN stop_at < now() - interval '1 minute' THEN 'broken_off' END AS ended
    FROM control.ticks
) runs
GROUP BY name, ended;

-- name: drop_old_ticks
-- Ticks are kept for a week.
DELETE FROM control.ticks WHERE slot < now() - interval '7 days';
