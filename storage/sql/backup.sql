-- name: snapshot
-- A name under which pg_dump sees the same.
SELECT pg_export_snapshot();

-- name: tables
-- The tables of a schema.
SELECT tablename::text FROM pg_tables WHERE schemaname = %(schema)s ORDER BY 1;

-- name: count
-- How many rows a table has.
SELECT count(*) FROM {schema}.{table};

-- name: applied
-- What was applied to a schema.
SELECT scope, name FROM {schema}.migrations ORDER BY scope, name;

-- name: epoch
-- What a shard says of itself.
SELECT epoch FROM {shard}.meta WHERE state = 'active';

-- name: current_model
-- The current model, if there is one.
SELECT model FROM control.models WHERE is_current;

-- name: inhabited
-- The schemas of memlane that a node has already.
SELECT nspname::text FROM pg_namespace WHERE nspname = 'control' OR nspname ~ '^shard_[0-9]+$' ORDER BY 1;

-- name: settle_leases
-- Those who held jobs when the backup was made do not hold them here.
WITH freed AS (UPDATE {shard}.jobs SET lease = NULL WHERE lease IS NOT NULL)
DELETE FROM {shard}.leases;

-- name: move_on
-- A process that knew the shard elsewhere may not write here before it has read the map.
UPDATE {shard}.meta SET epoch = epoch + 1 RETURNING epoch;

-- name: move
-- Where a shard lives from now on.
UPDATE control.shards SET node = %(node)s, epoch = %(epoch)s WHERE shard = %(shard)s;

-- name: drop
-- Take away what a restore that failed has made.
DROP SCHEMA IF EXISTS {schema} CASCADE;
