-- name: claim
-- Lease due jobs of a kind, for each tenant that has some as its weight says, but at least one, beginning after a
-- tenant; fewer where they are large. A tenant whose jobs are all put off takes no place. With each job comes the last tenant that was looked
-- at, unless all were.
WITH RECURSIVE looked_at (tenant, places, weight) AS (
    SELECT %(after)s::text, 0, 0
    UNION ALL
    (SELECT next.tenant, looked_at.places + next.is_due::int,
            CASE WHEN next.is_due THEN coalesce((%(weights)s::jsonb ->> next.tenant)::int, 1) ELSE 0 END
     FROM looked_at CROSS JOIN LATERAL (
         SELECT tenant, (  -- no EXISTS: that would be answered for all tenants at once
             SELECT true FROM {shard}.jobs j
             WHERE j.kind = %(kind)s AND j.tenant = n.tenant AND j.lease IS NULL AND j.parked_at IS NULL
                   AND j.not_before <= now() AND j.deaths = 0
             LIMIT 1) IS TRUE AS is_due
         FROM {shard}.jobs n
         WHERE kind = %(kind)s AND lease IS NULL AND parked_at IS NULL AND tenant > looked_at.tenant
         ORDER BY tenant LIMIT 1) AS next
     WHERE looked_at.places < %(limit)s)
), scan AS (
    SELECT max(places) AS places, sum(weight) AS weights, max(tenant) AS last FROM looked_at
), shares AS (
    SELECT tenant, weight, 1 + (%(limit)s::int - scan.places) * weight / weights AS share
    FROM looked_at CROSS JOIN scan WHERE weight > 0
), taken AS MATERIALIZED (
    SELECT shares.tenant, found.number
    FROM shares CROSS JOIN LATERAL (
        SELECT number FROM {shard}.jobs
        WHERE kind = %(kind)s AND tenant = shares.tenant AND lease IS NULL AND parked_at IS NULL
              AND not_before <= now() AND deaths = 0
        ORDER BY not_before, number
        LIMIT (SELECT shares.share)
        FOR UPDATE SKIP LOCKED) AS found
), hungry AS (  -- what some have left of their shares goes to those who may have more
    SELECT tenant, weight, sum(weight) OVER () AS weights, %(limit)s::int - (SELECT count(*) FROM taken) AS places
    FROM shares WHERE share = (SELECT count(*) FROM taken WHERE taken.tenant = shares.tenant)
), more AS MATERIALIZED (
    SELECT found.number
    FROM hungry CROSS JOIN LATERAL (
        SELECT number FROM {shard}.jobs
        WHERE kind = %(kind)s AND tenant = hungry.tenant AND lease IS NULL AND parked_at IS NULL
              AND not_before <= now() AND deaths = 0 AND number <> ALL(ARRAY(SELECT number FROM taken))
        ORDER BY not_before, number
        LIMIT (SELECT hungry.places * hungry.weight / hungry.weights)
        FOR UPDATE SKIP LOCKED) AS found
    WHERE hungry.places > 0
), sized AS (
    SELECT number, octet_length(payload::text) AS bytes,
           (row_number() OVER (PARTITION BY tenant ORDER BY not_before, number) - 1)::float8 / shares.share AS turn
    FROM {shard}.jobs JOIN shares USING (tenant)
    WHERE number = ANY(ARRAY(SELECT number FROM taken UNION ALL SELECT number FROM more))
), picked AS MATERIALIZED (  -- one of each tenant, and then as much of the share of each until there are too many bytes
    SELECT number
    FROM (SELECT number, turn, sum(bytes) OVER (ORDER BY turn, number) - bytes AS before FROM sized) AS summed
    WHERE turn = 0 OR before < %(bytes)s
), lease AS (
    INSERT INTO {shard}.leases (token, kind, holder, expires_at, timeline)
    SELECT %(token)s, %(kind)s, %(holder)s, now() + make_interval(secs => %(lease_s)s), {timeline}
    FROM {shard}.fence(%(epoch)s) WHERE EXISTS (SELECT FROM picked)
    RETURNING token
)
UPDATE {shard}.jobs SET lease = lease.token
FROM lease
WHERE jobs.number = ANY(ARRAY(SELECT number FROM picked))
RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.payload::text,
          (SELECT CASE WHEN places >= %(limit)s THEN last ELSE '' END FROM scan);

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
    INSERT INTO {shard}.leases (token, kind, holder, expires_at, timeline)
    SELECT %(token)s, %(kind)s, %(holder)s, now() + make_interval(secs => %(lease_s)s), {timeline}
    FROM {shard}.fence(%(epoch)s) WHERE EXISTS (SELECT FROM picked)
    RETURNING token
)
UPDATE {shard}.jobs SET lease = lease.token
FROM lease
WHERE jobs.number = ANY(ARRAY(SELECT number FROM picked))
RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.payload::text, '';

-- name: timeline
-- A part of other queries: the history that the server writes; a standby that is promoted begins another.
left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);

-- name: renew
-- Hold a lease for longer; no row means that it is lost.
UPDATE {shard}.leases SET expires_at = now() + make_interval(secs => %(lease_s)s)
WHERE token = %(token)s
RETURNING token;

-- name: release
-- Give all jobs of a lease back, as if they had never been claimed.
WITH ended AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s) WHERE token = %(token)s RETURNING token
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
    UPDATE {shard}.jobs SET lease = NULL, error = coalesce(late.error, %(error)s), not_before = {later}
    FROM held LEFT JOIN {delays} ON late.number = held.number
    WHERE jobs.number = held.number AND jobs.number <> ALL(%(numbers)s::bigint[])
)
SELECT count(*) FROM ended;

-- name: later
-- A part of other queries: when a job that was refused is due again.
now() + make_interval(secs => greatest(coalesce(late.delay_s, %(delay_s)s::float8),
                                       least(coalesce(late.longest_s, %(longest_s)s::float8),
                                             extract(epoch FROM now() - jobs.created_at)::float8)));

-- name: delays
-- A part of other queries: the delays of single jobs, and why.
unnest(%(late)s::bigint[], %(late_s)s::float8[], %(late_longest_s)s::float8[], %(late_errors)s::text[])
    AS late(number, delay_s, longest_s, error);

-- name: resume
-- The next jobs that were put off for a reason are due now; how many, and the last.
WITH due AS MATERIALIZED (
    SELECT number FROM {shard}.jobs, {shard}.fence(%(epoch)s)
    WHERE number > %(after)s AND lease IS NULL AND parked_at IS NULL AND not_before > now()
          AND starts_with(error, %(reason)s) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    ORDER BY number LIMIT %(limit)s
    FOR UPDATE OF jobs SKIP LOCKED
), freed AS (
    UPDATE {shard}.jobs SET not_before = now() FROM due WHERE jobs.number = due.number
)
SELECT count(*), max(number) FROM due;

-- name: fail
-- Say that the work of a lease failed for a reason of its own; the lease counts as run out.
UPDATE {shard}.leases SET expires_at = '-infinity', error = %(error)s WHERE token = %(token)s;

-- name: expire
-- Take jobs from leases that ran out: a death for each, unless the node itself was down meanwhile, or is another now.
WITH dead AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s)
    WHERE expires_at < now()
    RETURNING token, created_at > pg_postmaster_start_time() AND coalesce(timeline = {timeline}, true) AS counts,
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
-- A holder that was merely late takes back the deaths that were counted for its lease; what was parked by them is open.
WITH struck AS (
    SELECT number, parked_at IS NOT NULL AS parked FROM {shard}.jobs, {shard}.fence(%(epoch)s)
    WHERE died_in = %(token)s AND deaths > 0
          AND number = ANY(coalesce(%(numbers)s::bigint[],
                                    ARRAY(SELECT number FROM {shard}.jobs WHERE died_in = %(token)s)))
    ORDER BY number
    FOR UPDATE OF jobs
), freed AS (
    UPDATE {shard}.jobs
    SET deaths = deaths - 1, died_in = NULL, parked_at = NULL, error = CASE WHEN NOT parked THEN error END
    FROM struck WHERE jobs.number = struck.number
    RETURNING jobs.kind, jobs.tenant, jobs.agent, jobs.id, parked
), known AS (
    UPDATE {shard}.ids SET state = CASE WHEN freed.kind = 'remember' THEN 'accepted' ELSE 'stored' END
    FROM freed
    WHERE parked AND freed.kind IN ('remember', 'embed') AND ids.agent = freed.agent AND ids.id = freed.id
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, 'unparked', count(*) FROM freed WHERE parked AND kind = 'remember' GROUP BY tenant
)
SELECT count(*) FROM freed;

-- name: idle_work
-- The kinds that have due work and nobody on it.
SELECT kind FROM unnest(%(kinds)s::text[]) AS kinds(kind)
WHERE EXISTS (SELECT FROM {shard}.jobs j WHERE j.kind = kinds.kind AND j.lease IS NULL AND j.parked_at IS NULL
                                               AND j.not_before <= now())
  AND NOT EXISTS (SELECT FROM {shard}.leases l WHERE l.kind = kinds.kind);

-- name: at_work
-- How many leases of a kind are held by somebody who was heard of in the last half of it.
SELECT count(*) FROM {shard}.leases
WHERE kind = %(kind)s AND expires_at > now() + make_interval(secs => %(lease_s)s / 2);

-- name: backlog
-- Open, leased and parked jobs by kind, how long the oldest that is due and that nobody works on has waited since it was due,
-- and how many wait for a budget.
SELECT kind,
       count(*) FILTER (WHERE parked_at IS NULL),
       count(*) FILTER (WHERE lease IS NOT NULL),
       count(*) FILTER (WHERE parked_at IS NOT NULL),
       coalesce(extract(epoch FROM now() - min(greatest(created_at, not_before))
           FILTER (WHERE lease IS NULL AND parked_at IS NULL AND not_before <= now())), 0)::float8,
       count(*) FILTER (WHERE parked_at IS NULL AND starts_with(error, %(over_budget)s))
FROM {shard}.jobs GROUP BY kind;

-- name: open_texts
-- Open jobs for texts that belong to no agent, unless they are open already; what was parked begins anew.
INSERT INTO {shard}.jobs AS j (number, kind, tenant, id, payload)
SELECT nextval('{shard}.numbers'), 'text_embed', %(tenant)s, t.id, jsonb_build_object('content', t.content)
FROM unnest(%(ids)s::uuid[], %(contents)s::text[]) AS t(id, content), {shard}.fence(%(epoch)s)
ORDER BY t.id
ON CONFLICT (id) WHERE kind = 'text_embed' DO UPDATE
SET not_before = now(), deaths = 0, parked_at = NULL, error = NULL
WHERE j.parked_at IS NOT NULL
RETURNING 1;

-- name: open_missing
-- Open an embed job for each memory of a slice that has no vector of this model; how many it has, and where it ended.
WITH slice AS MATERIALIZED (
    SELECT agent, number, id FROM {shard}.memories
    WHERE (agent, number) > (%(agent)s, %(number)s) AND agent <= %(last_agent)s
    ORDER BY agent, number
    LIMIT %(limit)s
), opened AS (
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload)
    SELECT s.number, 'embed', a.tenant, s.agent, s.id, '{}'
    FROM slice s
    JOIN {shard}.agents a ON a.number = s.agent AND s.number >= a.forgotten_before
    CROSS JOIN {shard}.fence(%(epoch)s)
    WHERE NOT EXISTS (SELECT FROM {shard}.{vectors} v WHERE v.agent = s.agent AND v.memory = s.number)
    ORDER BY s.number
    ON CONFLICT (number) DO NOTHING
    RETURNING agent, id
), waiting AS (
    UPDATE {shard}.ids SET state = 'stored'
    FROM opened
    WHERE ids.agent = opened.agent AND ids.id = opened.id AND ids.state = 'searchable'
)
SELECT (SELECT count(*) FROM slice), (SELECT count(*) FROM opened), last.agent, last.number
FROM (SELECT) AS one LEFT JOIN (SELECT agent, number FROM slice ORDER BY agent DESC, number DESC LIMIT 1) AS last ON true;

-- name: open_optimize
-- Open an optimize job unless the same one is open already; one that was parked begins anew.
INSERT INTO {shard}.jobs AS j (number, kind, tenant, agent, id, payload)
SELECT nextval('{shard}.numbers'), 'optimize', %(tenant)s, %(agent)s, %(id)s, '{}'
FROM {shard}.fence(%(epoch)s)
ON CONFLICT (agent, id) WHERE kind IN ('forget', 'optimize') DO UPDATE
SET not_before = now(), deaths = 0, parked_at = NULL, error = NULL
WHERE j.parked_at IS NOT NULL;

-- name: stalled
-- End sessions of the main path that have been inside a transaction for longer than a lease: those that we may
-- see and end. Of other roles' sessions that takes two rights, and a superuser's are left to a superuser.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity JOIN pg_roles theirs ON theirs.oid = usesysid
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND application_name LIKE 'memlane %%' AND application_name <> %(unhurried)s
  AND xact_start < now() - make_interval(secs => %(lease_s)s)
  AND (current_setting('is_superuser')::bool
       OR NOT theirs.rolsuper AND (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')));
