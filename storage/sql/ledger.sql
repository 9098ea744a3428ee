-- name: balance
-- The sums of a tenant's events, or of all, and what is open and parked, as one consistent view.
SELECT event, sum(count)::bigint FROM {shard}.ledger
WHERE %(tenant)s::text IS NULL OR tenant = %(tenant)s
GROUP BY event
UNION ALL
SELECT CASE WHEN parked_at IS NULL THEN 'open now' ELSE 'parked now' END, count(*) FROM {shard}.jobs
WHERE kind = 'remember' AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
GROUP BY 1;

-- name: note
-- Count an event.
INSERT INTO {shard}.ledger (tenant, event, count)
SELECT %(tenant)s, %(event)s, %(count)s FROM {shard}.fence(%(epoch)s);

-- name: bucket
-- A part of other queries: the moment under which a row of the ledger is kept: its own for two days, then its day's, and
-- after 30 days one for all.
CASE WHEN at >= date_trunc('day', now(), 'UTC') - interval '1 day' THEN at
     WHEN at >= date_trunc('day', now(), 'UTC') - interval '31 days' THEN date_trunc('day', at, 'UTC')
     ELSE 'epoch'::timestamptz END;

-- name: compact
-- Put rows of some pages that are kept under the same moment together, as one: no reader sees both, or neither.
WITH found AS (
    SELECT ctid AS place, at = {bucket} AS settled, count(*) OVER (PARTITION BY tenant, event, {bucket}) AS many
    FROM {shard}.ledger
    WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid AND at < date_trunc('day', now(), 'UTC') - interval '1 day'
), gone AS (
    DELETE FROM {shard}.ledger USING {shard}.fence(%(epoch)s)
    WHERE ledger.ctid = ANY(ARRAY(SELECT place FROM found WHERE many > 1 OR NOT settled))
    RETURNING tenant, event, count, {bucket} AS at
), kept AS (
    INSERT INTO {shard}.ledger (tenant, event, count, at)
    SELECT tenant, event, sum(count), at FROM gone GROUP BY tenant, event, at
)
SELECT count(*) FROM gone;

-- name: merge
-- The same for rows that lie in pages far apart: some tenants' at a time.
WITH twice AS MATERIALIZED (
    SELECT tenant, event, at FROM {shard}.ledger
    WHERE at < date_trunc('day', now(), 'UTC') - interval '1 day' AND at = {bucket}
    GROUP BY tenant, event, at HAVING count(*) > 1 LIMIT %(limit)s
), gone AS (
    DELETE FROM {shard}.ledger l USING twice t, {shard}.fence(%(epoch)s)
    WHERE l.tenant = t.tenant AND l.event = t.event AND l.at = t.at
    RETURNING l.tenant, l.event, l.count, l.at
), kept AS (
    INSERT INTO {shard}.ledger (tenant, event, count, at)
    SELECT tenant, event, sum(count), at FROM gone GROUP BY tenant, event, at
)
SELECT count(*) FROM gone;
