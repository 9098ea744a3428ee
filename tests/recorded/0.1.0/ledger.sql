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
