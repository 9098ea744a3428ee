-- name: store
-- Finish remember jobs: write the memories, with the vectors that are at hand, and open embed jobs for the rest.
WITH ended AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s) WHERE token = %(token)s RETURNING token
), held AS (
    SELECT number FROM {shard}.jobs JOIN ended ON lease = token ORDER BY number FOR UPDATE OF jobs
), gone AS (
    DELETE FROM {shard}.jobs USING held WHERE jobs.number = held.number
    RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.position, jobs.payload, jobs.created_at
), owners AS MATERIALIZED (
    SELECT number, forgotten_before FROM {shard}.agents
    WHERE number IN (SELECT agent FROM gone)
    ORDER BY number
    FOR NO KEY UPDATE
), vectors AS MATERIALIZED (
    SELECT number, embedding FROM unnest(%(numbers)s::bigint[], %(embeddings)s::halfvec[]) AS v(number, embedding)
), finished AS MATERIALIZED (
    SELECT gone.*, vectors.embedding, gone.number < owners.forgotten_before AS forgotten
    FROM gone JOIN owners ON owners.number = gone.agent LEFT JOIN vectors ON vectors.number = gone.number
), stored AS (
    INSERT INTO {shard}.memories (agent, number, id, key, kind, content, speaker, thread, position,
                                  importance, tags, metadata, occurred_at, created_at, words,
                                  expires_at, supersedes, pinned)
    SELECT f.agent, f.number, f.id, p.key, p.kind, p.content, p.speaker, p.thread, f.position,
           p.importance, coalesce(p.tags, '{}'), coalesce(p.metadata, '{}'), coalesce(p.occurred_at, f.created_at), f.created_at,
           to_tsvector(%(text_search)s::regconfig, coalesce(p.speaker || ': ', '') || p.content)
               || array_to_tsvector(ARRAY['@' || f.agent]),
           p.expires_at, nullif(p.supersedes, f.id), coalesce(p.pinned, false)
    FROM finished f CROSS JOIN LATERAL jsonb_to_record(f.payload) AS p(
        key text, kind text, content text, speaker text, thread text,
        importance real, tags text[], metadata jsonb, occurred_at timestamptz,
        expires_at timestamptz, supersedes uuid, pinned boolean)
    WHERE NOT f.forgotten
    RETURNING agent, length(words) AS words, expires_at IS NOT NULL OR supersedes IS NOT NULL AS conditional
), searchable AS (
    INSERT INTO {shard}.{vectors} (agent, memory, embedding)
    SELECT agent, number, embedding FROM finished
    WHERE NOT forgotten AND embedding IS NOT NULL
    ORDER BY number
), later AS (
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, payload, error, created_at, not_before)
    SELECT f.number, 'embed', f.tenant, f.agent, f.id, '{}', coalesce(late.error, nullif(%(error)s, '')), f.created_at,
           now() + make_interval(secs => coalesce(late.delay_s, %(delay_s)s::float8))
    FROM finished f LEFT JOIN {delays} ON late.number = f.number
    WHERE NOT f.forgotten AND f.embedding IS NULL
), known AS (
    UPDATE {shard}.ids
    SET state = CASE WHEN f.forgotten THEN 'forgotten' WHEN f.embedding IS NULL THEN 'stored' ELSE 'searchable' END
    FROM finished f
    WHERE ids.agent = f.agent AND ids.id = f.id
), owned AS (
    UPDATE {shard}.agents
    SET memories = agents.memories + s.memories, words = agents.words + s.words,
        conditional = agents.conditional + s.conditional
    FROM (SELECT agent, count(*) AS memories, sum(words) AS words, count(*) FILTER (WHERE conditional) AS conditional
          FROM stored GROUP BY agent) s
    WHERE agents.number = s.agent
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, event, count(*) FROM (
        SELECT tenant, CASE WHEN forgotten THEN 'dropped' ELSE 'stored' END AS event FROM finished
        UNION ALL
        SELECT tenant, 'embedded' FROM finished WHERE NOT forgotten AND embedding IS NOT NULL) events
    GROUP BY tenant, event
)
SELECT count(*) FILTER (WHERE NOT forgotten), count(*) FILTER (WHERE NOT forgotten AND embedding IS NOT NULL),
       count(*) FILTER (WHERE forgotten), (SELECT count(*) FROM ended)
FROM finished;

-- name: attach
-- Finish embed jobs: add the vectors to memories that are stored, and give the jobs without one back for
-- later; what was forgotten meanwhile needs none.
WITH ended AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s) WHERE token = %(token)s RETURNING token
), held AS (
    SELECT number FROM {shard}.jobs JOIN ended ON lease = token ORDER BY number FOR UPDATE OF jobs
), vectors AS MATERIALIZED (
    SELECT number, embedding FROM unnest(%(numbers)s::bigint[], %(embeddings)s::halfvec[]) AS v(number, embedding)
), gone AS (
    DELETE FROM {shard}.jobs USING held LEFT JOIN vectors ON vectors.number = held.number
    WHERE jobs.number = held.number
      AND (vectors.number IS NOT NULL
           OR NOT EXISTS (SELECT FROM {shard}.memories m
                          JOIN {shard}.agents a ON a.number = m.agent AND m.number >= a.forgotten_before
                          WHERE m.agent = jobs.agent AND m.number = jobs.number))
    RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, vectors.embedding
), later AS (
    UPDATE {shard}.jobs SET lease = NULL, error = coalesce(late.error, %(error)s), not_before = {later}
    FROM held LEFT JOIN {delays} ON late.number = held.number
    WHERE jobs.number = held.number AND NOT EXISTS (SELECT FROM gone WHERE gone.number = held.number)
    RETURNING 1
), owners AS MATERIALIZED (
    SELECT number, forgotten_before FROM {shard}.agents
    WHERE number IN (SELECT agent FROM gone)
    ORDER BY number
    FOR NO KEY UPDATE
), finished AS MATERIALIZED (
    SELECT gone.*
    FROM gone JOIN owners ON owners.number = gone.agent AND gone.number >= owners.forgotten_before
    JOIN {shard}.memories m ON m.agent = gone.agent AND m.number = gone.number
    WHERE gone.embedding IS NOT NULL
), searchable AS (
    INSERT INTO {shard}.{vectors} (agent, memory, embedding)
    SELECT agent, number, embedding FROM finished ORDER BY number
    ON CONFLICT (agent, memory) DO NOTHING
    RETURNING memory
), known AS (
    UPDATE {shard}.ids SET state = 'searchable' FROM finished f WHERE ids.agent = f.agent AND ids.id = f.id
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, 'embedded', count(*) FROM finished JOIN searchable ON memory = number GROUP BY tenant
)
SELECT (SELECT count(*) FROM finished), (SELECT count(*) FROM later), (SELECT count(*) FROM ended);

-- name: texts
-- The texts of memories that are stored and not forgotten, for embedding.
SELECT m.number, m.speaker, m.content
FROM unnest(%(agents)s::bigint[], %(numbers)s::bigint[]) AS w(agent, number)
JOIN {shard}.memories m ON m.agent = w.agent AND m.number = w.number
JOIN {shard}.agents a ON a.number = m.agent AND m.number >= a.forgotten_before;

-- name: columns
-- A part of other queries: what is read of a memory m. The + 0 keeps anybody from walking the whole agent for the order.
m.number, m.id, m.content, m.kind, m.importance, m.tags, m.metadata, m.occurred_at, m.created_at, m.key, m.thread, m.speaker,
m.version, m.changed_at, m.expires_at, m.pinned, m.supersedes,
(SELECT n.id FROM {shard}.memories n WHERE n.agent = m.agent AND n.supersedes = m.id
 ORDER BY n.number + 0 DESC LIMIT 1);

-- name: alive
-- A part of other queries: a memory m has not expired.
(m.expires_at IS NULL OR m.expires_at > now());

-- name: by_id
-- One memory by its id, also one that was superseded.
SELECT {columns}
FROM {shard}.agents a
JOIN {shard}.ids i ON i.agent = a.number AND i.id = %(id)s AND i.number >= a.forgotten_before
JOIN {shard}.memories m ON m.agent = a.number AND m.number = i.number
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s AND {alive};

-- name: use
-- How a memory was used: how often, when last, what that still counts for, and when it was handed over.
SELECT coalesce(s.access_count, 0), s.last_accessed_at, {resonance}, greatest(m.created_at, s.last_accessed_at), now()
FROM {shard}.agents a
JOIN {shard}.ids i ON i.agent = a.number AND i.id = %(id)s AND i.number >= a.forgotten_before
JOIN {shard}.memories m ON m.agent = a.number AND m.number = i.number
LEFT JOIN {shard}.memory_stats s ON s.agent = m.agent AND s.number = m.number
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s AND {alive};

-- name: by_numbers
-- Memories of an agent by number, as hits of a recall.
SELECT {columns}
FROM {shard}.memories m
JOIN {shard}.agents a ON a.number = m.agent AND m.number >= a.forgotten_before
WHERE m.agent = %(agent)s AND m.number = ANY(%(numbers)s::bigint[]);

-- name: page
-- An agent's memories beyond a number, newest first or oldest first, filtered.
SELECT page.*
FROM {shard}.agents a CROSS JOIN LATERAL (  -- so that the order comes from the index, and the rest is not read
    SELECT {columns}
    FROM {shard}.memories m
    WHERE m.agent = a.number AND m.number >= a.forgotten_before AND m.number {beyond} %(last)s
      AND {holds} AND {visible}
    ORDER BY m.agent {order}, m.number {order}
    LIMIT %(limit)s) AS page
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s
ORDER BY page.number {order};

-- name: vectors
-- The vectors of some memories of an agent, by number.
SELECT v.memory, v.embedding
FROM {shard}.agents a JOIN {shard}.{vectors} v ON v.agent = a.number AND v.memory = ANY(%(numbers)s::bigint[])
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s;

-- name: count_accesses
-- Add to how often memories were recalled, and when last; each time lifts their resonance.
WITH there AS (  -- locked, so that whoever removes one removes its stats too
    SELECT m.agent, m.number, n.count, m.created_at
    FROM unnest(%(agents)s::bigint[], %(numbers)s::bigint[], %(counts)s::bigint[]) AS n(agent, number, count)
    JOIN {shard}.memories m ON m.agent = n.agent AND m.number = n.number
    ORDER BY m.agent, m.number
    FOR KEY SHARE OF m
)
INSERT INTO {shard}.memory_stats AS s (agent, number, access_count, last_accessed_at, resonance)
SELECT m.agent, m.number, m.count, now(), 1 - (1 - {born}) * power(0.8, m.count)
FROM there m CROSS JOIN {shard}.fence(%(epoch)s)
ORDER BY m.agent, m.number
ON CONFLICT (agent, number) DO UPDATE
SET access_count = s.access_count + EXCLUDED.access_count, last_accessed_at = EXCLUDED.last_accessed_at,
    resonance = 1 - (1 - {still}) * power(0.8, EXCLUDED.access_count);
