-- name: claim
-- Lease due jobs of a kind, the same share for each tenant that has some, beginning after a tenant.
WITH RECURSIVE waiting (tenant, place) AS (
    (SELECT tenant, 1 FROM {shard}.jobs
     WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND tenant > %(after)s
     ORDER BY tenant LIMIT 1)
    UNION ALL
    (SELECT next.tenant, waiting.place + 1
     FROM waiting CROSS JOIN LATERAL (
         SELECT tenant FROM {shard}.jobs
         WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND tenant > waiting.tenant
         ORDER BY tenant LIMIT 1) AS next
     WHERE waiting.place < %(limit)s)
), picked AS MATERIALIZED (
    SELECT share.number
    FROM waiting CROSS JOIN LATERAL (
        SELECT number FROM {shard}.jobs
        WHERE kind = %(kind)s AND tenant = waiting.tenant AND lease IS NULL AND parked_at IS NULL
              AND not_before <= now() AND deaths = 0
        ORDER BY not_before, number
        LIMIT (SELECT ceil(%(limit)s::numeric / max(place)) FROM waiting)
        FOR UPDATE SKIP LOCKED) AS share
), lease AS (
    INSERT INTO {shard}.leases (token, kind, holder, expires_at)
    SELECT %(token)s, %(kind)s, %(holder)s, now() + make_interval(secs => %(lease_s)s)
    FROM {shard}.fence(%(epoch)s) WHERE EXISTS (SELECT FROM picked)
    RETURNING token
)
UPDATE {shard}.jobs SET lease = lease.token
FROM picked CROSS JOIN lease
WHERE jobs.number = picked.number
RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.payload;

-- name: claim_suspects
-- Lease jobs that a holder died with, fewer the more often: half, a quarter, ..., alone.
WITH level AS (
    SELECT max(deaths) AS deaths FROM {shard}.jobs
    WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND deaths > 0 AND not_before <= now()
), picked AS MATERIALIZED (
    SELECT number FROM {shard}.jobs
    WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND deaths > 0
          AND deaths = (SELECT deaths FROM level) AND not_before <= now()
    ORDER BY number
    LIMIT (SELECT greatest(1, %(limit)s::int >> least(deaths, 30)) FROM level)
    FOR UPDATE SKIP LOCKED
), lease AS (
    INSERT INTO {shard}.leases (token, kind, holder, expires_at)
    SELECT %(token)s, %(kind)s, %(holder)s, now() + make_interval(secs => %(lease_s)s)
    FROM {shard}.fence(%(epoch)s) WHERE EXISTS (SELECT FROM picked)
    RETURNING token
)
UPDATE {shard}.jobs SET lease = lease.token
FROM picked CROSS JOIN lease
WHERE jobs.number = picked.number
RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.payload;

-- name: renew
-- Hold a lease for longer; no row means that it is lost.
UPDATE {shard}.leases SET expires_at = now() + make_interval(secs => %(lease_s)s)
WHERE token = %(token)s
RETURNING token;

-- name: release
-- Give all jobs of a lease back, as if they had never been claimed.
WITH ended AS (
    DELETE FROM {shard}.leases WHERE token = %(token)s RETURNING token
), held AS (
    SELECT number FROM {shard}.jobs JOIN ended ON lease = token ORDER BY number FOR UPDATE OF jobs
), freed AS (
    UPDATE {shard}.jobs SET lease = NULL FROM held WHERE jobs.number = held.number RETURNING jobs.number
)
SELECT count(*) FROM freed;

-- name: settle
-- End the jobs of a lease that are done, and give the others back for later: after a delay, or after as
-- long again as they have waited already.
WITH ended AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s) WHERE token = %(token)s RETURNING token
), held AS (
    SELECT number FROM {shard}.jobs JOIN ended ON lease = token ORDER BY number FOR UPDATE OF jobs
), gone AS (
    DELETE FROM {shard}.jobs USING held
    WHERE jobs.number = held.number AND jobs.number = ANY(%(numbers)s::bigint[])
), later AS (
    UPDATE {shard}.jobs SET lease = NULL, error = %(error)s, not_before = {later}
    FROM held WHERE jobs.number = held.number AND jobs.number <> ALL(%(numbers)s::bigint[])
)
SELECT count(*) FROM ended;

-- name: later
-- A part of other queries: when a job that was refused is due again.
now() + make_interval(secs => greatest(%(delay_s)s::float8,
                                       least(%(longest_s)s::float8, extract(epoch FROM now() - created_at)::float8)));

-- name: fail
-- Say that the work of a lease failed for a reason of its own; the lease counts as run out.
UPDATE {shard}.leases SET expires_at = '-infinity', error = %(error)s WHERE token = %(token)s;

-- name: expire
-- Take jobs from leases that ran out: a death for each, unless the node itself was down meanwhile.
WITH dead AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s)
    WHERE expires_at < now()
    RETURNING token, created_at > pg_postmaster_start_time() AS counts,
              coalesce(error, 'the process that worked on it died each time') AS error
), struck AS (
    SELECT jobs.number, dead.counts, dead.error, jobs.deaths + dead.counts::int AS deaths
    FROM {shard}.jobs JOIN dead ON dead.token = jobs.lease
    ORDER BY jobs.number
    FOR UPDATE OF jobs
), freed AS (
    UPDATE {shard}.jobs
    SET lease = NULL,
        deaths = struck.deaths,
        died_in = CASE WHEN struck.counts THEN jobs.lease ELSE jobs.died_in END,
        parked_at = CASE WHEN struck.deaths >= %(deaths)s THEN now() END,
        error = CASE WHEN struck.deaths >= %(deaths)s THEN struck.error ELSE jobs.error END
    FROM struck
    WHERE jobs.number = struck.number
    RETURNING jobs.number, jobs.kind, jobs.tenant, jobs.agent, jobs.id, jobs.parked_at
), parked AS (
    UPDATE {shard}.ids SET state = 'parked'
    FROM freed
    WHERE freed.parked_at IS NOT NULL AND ids.agent = freed.agent AND ids.id = freed.id
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, 'parked', count(*) FROM freed
    WHERE parked_at IS NOT NULL AND kind = 'remember' GROUP BY tenant
)
SELECT count(*), count(parked_at) FROM freed;

-- name: not_dead
-- A holder that was merely late takes back the deaths that were counted for its lease.
UPDATE {shard}.jobs SET deaths = deaths - 1, died_in = NULL
WHERE died_in = %(token)s AND deaths > 0 AND number = ANY(%(numbers)s::bigint[]);

-- name: idle_work
-- The kinds that have due work and nobody on it.
SELECT kind FROM unnest(%(kinds)s::text[]) AS kinds(kind)
WHERE EXISTS (SELECT FROM {shard}.jobs j WHERE j.kind = kinds.kind AND j.lease IS NULL AND j.parked_at IS NULL
                                               AND j.not_before <= now())
  AND NOT EXISTS (SELECT FROM {shard}.leases l WHERE l.kind = kinds.kind);

-- name: backlog
-- Open, leased and parked jobs by kind, and the age of the oldest that is due.
SELECT kind,
       count(*) FILTER (WHERE parked_at IS NULL),
       count(*) FILTER (WHERE lease IS NOT NULL),
       count(*) FILTER (WHERE parked_at IS NOT NULL),
       coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE parked_at IS NULL AND not_before <= now())), 0)::float8
FROM {shard}.jobs GROUP BY kind;

-- name: open_texts
-- Open jobs for texts that belong to no agent.
INSERT INTO {shard}.jobs (number, kind, tenant, id, payload)
SELECT nextval('{shard}.numbers'), 'text_embed', %(tenant)s, t.id, jsonb_build_object('content', t.content)
FROM unnest(%(ids)s::uuid[], %(contents)s::text[]) AS t(id, content), {shard}.fence(%(epoch)s);

-- name: open_missing
-- Open an embed job for each memory of a tenant, or of one agent, that has no vector of this model.
WITH missing AS (
    SELECT m.number, a.tenant, m.agent, m.id
    FROM {shard}.memories m
    JOIN {shard}.agents a ON a.number = m.agent AND m.number >= a.forgotten_before
    LEFT JOIN {shard}.{vectors} v ON v.agent = m.agent AND v.memory = m.number
    WHERE v.memory IS NULL
      AND (%(tenant)s::text IS NULL OR a.tenant = %(tenant)s)
      AND (%(agent)s::text IS NULL OR a.agent = %(agent)s)
), opened AS (
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
    SELECT number, 'embed', tenant, agent, id, '{}' FROM missing, {shard}.fence(%(epoch)s)
    ON CONFLICT (number) DO NOTHING
    RETURNING agent, id
), waiting AS (
    UPDATE {shard}.ids SET state = 'stored'
    FROM opened
    WHERE ids.agent = opened.agent AND ids.id = opened.id AND ids.state = 'searchable'
)
SELECT count(*) FROM opened;

-- name: open_once
-- Open a forget or optimize job unless the same one is open already.
INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
SELECT nextval('{shard}.numbers'), %(kind)s, %(tenant)s, %(agent)s, %(id)s, '{}'
FROM {shard}.fence(%(epoch)s)
ON CONFLICT DO NOTHING;

-- name: stalled
-- End sessions of the main path that have been inside a transaction for longer than a lease.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name LIKE 'memlane %%' AND application_name <> 'memlane upkeep'
  AND xact_start < now() - make_interval(secs => %(lease_s)s);
