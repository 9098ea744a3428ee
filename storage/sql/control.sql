-- name: create_tenant
-- Add a tenant.
INSERT INTO control.tenants (tenant) VALUES (%(tenant)s) ON CONFLICT DO NOTHING RETURNING tenant;

-- name: tenants
-- All tenants.
SELECT tenant, created_at FROM control.tenants ORDER BY tenant;

-- name: create_key
-- Add an API key by its hash.
INSERT INTO control.api_keys (prefix, key_hash, tenant, label)
VALUES (%(prefix)s, %(key_hash)s, %(tenant)s, %(label)s);

-- name: create_first_admin_key
-- Add an admin key by its hash, unless there is one, good or revoked.
INSERT INTO control.api_keys (prefix, key_hash, tenant, label)
SELECT %(prefix)s, %(key_hash)s, NULL, %(label)s
WHERE NOT EXISTS (SELECT FROM control.api_keys WHERE tenant IS NULL)
ON CONFLICT DO NOTHING RETURNING prefix;

-- name: keys
-- All keys, without their secrets.
SELECT prefix, label, created_at, tenant, revoked_at FROM control.api_keys
WHERE %(tenant)s::text IS NULL OR tenant = %(tenant)s
ORDER BY created_at;

-- name: find_key
-- The key behind a prefix, unless it was revoked.
SELECT key_hash, tenant FROM control.api_keys WHERE prefix = %(prefix)s AND revoked_at IS NULL;

-- name: revoke_key
-- Make a key worthless.
UPDATE control.api_keys SET revoked_at = now() WHERE prefix = %(prefix)s AND revoked_at IS NULL RETURNING prefix;

-- name: claim_tick
-- Be the one who runs a duty in this slot; no row when somebody else does.
INSERT INTO control.ticks (name, slot, holder) VALUES (%(name)s, %(slot)s, %(holder)s)
ON CONFLICT DO NOTHING RETURNING slot;

-- name: finish_tick
-- A duty is done for this slot.
UPDATE control.ticks SET done_at = now() WHERE name = %(name)s AND slot = %(slot)s;

-- name: ticks
-- The last run of each duty.
SELECT DISTINCT ON (name) name, slot, holder, claimed_at, done_at FROM control.ticks ORDER BY name, slot DESC;

-- name: drop_old_ticks
-- Ticks are kept for a week.
DELETE FROM control.ticks WHERE slot < now() - interval '7 days';
