-- name: shards
-- The map: which shard lives on which node.
SELECT shard, node, epoch FROM control.shards ORDER BY shard;

-- name: schemas
-- The shards' schemas on this node.
SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^shard_[0-9]+$' ORDER BY 1;

-- name: active
-- What a shard says of itself, if it is open here.
SELECT shard, epoch, shard_count FROM {shard}.meta WHERE state = 'active';

-- name: found
-- The cluster as it was created.
SELECT shard_count, hash_version FROM control.cluster;

-- name: create
-- Fix the cluster's shard count and hash for good.
INSERT INTO control.cluster (shard_count, hash_version) VALUES (%(shard_count)s, %(hash_version)s);

-- name: place
-- Put a shard on the map.
INSERT INTO control.shards (shard, node) VALUES (%(shard)s, %(node)s);

-- name: enroll
-- Write a new shard's own record of itself.
INSERT INTO {shard}.meta (shard, shard_count, hash_version)
VALUES (%(shard)s, %(shard_count)s, %(hash_version)s) ON CONFLICT DO NOTHING;

-- name: size
-- How many agents and memories a shard holds, and how many bytes that takes.
SELECT count(*), coalesce(sum(memories), 0)::bigint,
       (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
        WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'r')
FROM {shard}.agents;

-- name: settings
-- What a node promises to keep.
SELECT name, setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'server_version')
   OR name = 'synchronous_standby_names' AND setting <> '';

-- name: position
-- Whether a server follows another, and how far it has come, in bytes of the log: what it has on its disk, and what
-- those who read there see; and whether it waits for standbys, or would as the primary. Nothing of a standby that still
-- reads what it has itself, and so does not know how much that is (config/postgres/promote.sh asks alike).
SELECT follows,
       pg_wal_lsn_diff(CASE WHEN follows THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                            ELSE pg_current_wal_flush_lsn() END, '0/0')::bigint,
       pg_wal_lsn_diff(CASE WHEN follows THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_flush_lsn() END, '0/0')::bigint,
       current_setting('synchronous_standby_names') <> ''
FROM pg_is_in_recovery() AS server(follows)
WHERE NOT follows OR pg_last_wal_receive_lsn() IS NOT NULL;

-- name: open_jobs
-- How many jobs of tenants wait or are worked on, but for those that wait for a budget; of all tenants unless some are named.
SELECT tenant, count(*) FROM {shard}.jobs
WHERE parked_at IS NULL AND (error IS NULL OR NOT starts_with(error, %(over_budget)s)) AND (%(tenants)s::text[] IS NULL OR tenant = ANY(%(tenants)s::text[]))
GROUP BY tenant;

-- name: open_bytes
-- Those of some agents whose memories that are not stored yet hold more than so much here, as it lies on the disk:
-- compressed, and so without reading what is kept apart for its size.
WITH watched AS MATERIALIZED (
    SELECT number, tenant, agent
    FROM {shard}.agents JOIN unnest(%(tenants)s::text[], %(agents)s::text[]) AS asked(tenant, agent) USING (tenant, agent)
)
SELECT w.tenant, w.agent, sum(pg_column_size(j.payload))::bigint
FROM watched w JOIN {shard}.jobs j ON j.agent = w.number
WHERE j.kind = 'remember' AND j.parked_at IS NULL AND j.tenant = ANY(%(tenants)s)
GROUP BY w.tenant, w.agent HAVING sum(pg_column_size(j.payload)) > %(above)s;
