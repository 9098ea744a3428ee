-- Whoever changes the identity of a memory holds its job first. A parked job is held by nobody: to retry or to drop it is
-- one statement, which takes the jobs in order of their numbers, as a finish does.

-- name: listed
-- Parked jobs of a shard after a place, the longest parked first; not what they carry, only how much.
SELECT number, kind, tenant, id, error, deaths, parked_at, octet_length(payload::text)
FROM {shard}.jobs
WHERE parked_at IS NOT NULL AND (parked_at, number) > (%(at)s, %(last)s)
  AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(id)s::uuid IS NULL OR id = %(id)s)
  AND (%(number)s::bigint IS NULL OR number = %(number)s)
ORDER BY parked_at, number
LIMIT %(limit)s;

-- name: own
-- A tenant's memories whose jobs are parked, after a place, with what they say; what is forgotten or has expired is out
-- of sight.
SELECT j.number, a.agent, j.id, j.kind, j.error, j.deaths, j.parked_at, coalesce(m.content, j.payload->>'content', '')
FROM {shard}.jobs j
JOIN {shard}.agents a ON a.number = j.agent AND j.number >= a.forgotten_before
LEFT JOIN {shard}.memories m ON m.agent = j.agent AND m.number = j.number
WHERE j.parked_at IS NOT NULL AND (j.parked_at, j.number) > (%(at)s, %(last)s)
  AND j.tenant = %(tenant)s AND j.kind IN ('remember', 'embed')
  AND (%(agent)s::text IS NULL OR a.agent = %(agent)s)
  AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(id)s::uuid IS NULL OR j.id = %(id)s)
  AND (m.expires_at IS NULL OR m.expires_at > now())
ORDER BY j.parked_at, j.number
LIMIT %(limit)s;

-- name: numbers
-- The numbers of a tenant's memories by agent and id.
SELECT i.number
FROM unnest(%(agents)s::text[], %(ids)s::uuid[]) AS w(agent, id)
JOIN {shard}.agents a ON a.tenant = %(tenant)s AND a.agent = w.agent
JOIN {shard}.ids i ON i.agent = a.number AND i.id = w.id;

-- name: had
-- A part of other queries: the state of a memory that was stored before its job was parked.
CASE WHEN EXISTS (SELECT FROM {shard}.{vectors} v WHERE v.agent = ids.agent AND v.memory = ids.number)
     THEN 'searchable' ELSE 'stored' END;

-- name: retry
-- Open parked jobs again, as if they had never died.
WITH taken AS (
    SELECT number FROM {shard}.jobs, {shard}.fence(%(epoch)s)
    WHERE number = ANY(%(numbers)s::bigint[]) AND parked_at IS NOT NULL
    ORDER BY number FOR UPDATE OF jobs
), opened AS (
    UPDATE {shard}.jobs SET parked_at = NULL, error = NULL, deaths = 0, not_before = now()
    FROM taken WHERE jobs.number = taken.number
    RETURNING jobs.number, jobs.kind, jobs.tenant, jobs.agent, jobs.id
), known AS (
    UPDATE {shard}.ids
    SET state = CASE WHEN opened.kind = 'remember' THEN 'accepted'
                     ELSE {had} END
    FROM opened
    WHERE opened.kind IN ('remember', 'embed') AND ids.agent = opened.agent AND ids.id = opened.id
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, 'unparked', count(*) FROM opened WHERE kind = 'remember' GROUP BY tenant
)
SELECT kind FROM opened;

-- name: drop
-- Give parked jobs up; how each was, with the hash of a text that nobody will remember. A memory that was not stored is
-- forgotten, one that only waits for its vector stays without. A promise to forget is not given up.
WITH taken AS (
    SELECT number FROM {shard}.jobs, {shard}.fence(%(epoch)s)
    WHERE number = ANY(%(numbers)s::bigint[]) AND parked_at IS NOT NULL AND kind <> 'forget'
    ORDER BY number FOR UPDATE OF jobs
), gone AS (
    DELETE FROM {shard}.jobs USING taken WHERE jobs.number = taken.number
    RETURNING jobs.number, jobs.kind, jobs.tenant, jobs.agent, jobs.id
), known AS (
    UPDATE {shard}.ids
    SET state = CASE WHEN gone.kind = 'remember' THEN 'forgotten'
                     ELSE {had} END
    FROM gone
    WHERE gone.kind IN ('remember', 'embed') AND ids.agent = gone.agent AND ids.id = gone.id
    RETURNING ids.number, ids.content_hash
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, 'dropped', count(*) FROM gone WHERE kind = 'remember' GROUP BY tenant
)
SELECT gone.tenant, CASE WHEN gone.kind = 'remember' THEN known.content_hash END
FROM gone LEFT JOIN known USING (number);
