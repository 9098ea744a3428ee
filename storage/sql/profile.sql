-- name: come_first
-- A job is the first that a claim of its tenant takes; the tenant before it, in the order in which claims go round.
WITH first AS (
    UPDATE {shard}.jobs SET not_before = '-infinity'
    WHERE number = (SELECT number FROM {shard}.ids WHERE agent = %(agent)s AND id = %(id)s) AND kind = %(kind)s
)
SELECT coalesce(max(tenant), '') FROM {shard}.jobs
WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND tenant < %(tenant)s;

-- name: commit
-- Something to be committed that leaves nothing: a message in the log, of which no table knows.
SELECT pg_logical_emit_message(true, 'memlane', '');
