-- name: open_job
-- Update a memory, first: if its content becomes another, an embed job that nobody holds. A holder of the one
-- before finds that it is not his any more.
INSERT INTO {shard}.jobs AS j (number, kind, tenant, agent, id, payload)
SELECT m.number, 'embed', %(tenant)s, m.agent, m.id, '{}'
FROM {shard}.ids i
JOIN {shard}.memories m ON m.agent = i.agent AND m.number = i.number
CROSS JOIN {shard}.fence(%(epoch)s)
WHERE i.agent = %(agent)s AND i.id = %(id)s AND m.content <> %(content)s
ON CONFLICT (number) DO UPDATE
SET lease = NULL, not_before = now(), deaths = 0, parked_at = NULL, error = NULL, created_at = now()
RETURNING 1;

-- name: find
-- Update a memory, second: as it is now, locked; the agent was locked before it, as in a finish.
SELECT m.number, m.content, m.kind, m.importance, m.tags, m.metadata, m.occurred_at, m.expires_at, m.supersedes, m.pinned,
       length(m.words)
FROM {shard}.ids i
JOIN {shard}.agents a ON a.number = i.agent AND i.number >= a.forgotten_before
JOIN {shard}.memories m ON m.agent = i.agent AND m.number = i.number
CROSS JOIN {shard}.fence(%(epoch)s)
WHERE i.agent = %(agent)s AND i.id = %(id)s AND (m.expires_at IS NULL OR m.expires_at > now())
FOR UPDATE OF m;

-- name: leads_back
-- Whether what a memory is to take the place of has, in the end, taken its own.
WITH RECURSIVE chain (id) AS (
    SELECT %(supersedes)s::uuid
    UNION
    SELECT m.supersedes FROM chain
    JOIN {shard}.ids i ON i.agent = %(agent)s AND i.id = chain.id
    JOIN {shard}.memories m ON m.agent = i.agent AND m.number = i.number
    WHERE m.supersedes IS NOT NULL)
SELECT 1 FROM chain WHERE id = %(id)s;

-- name: keep_version
-- Update a memory, third: what it said before.
INSERT INTO {shard}.versions (agent, number, version, content)
SELECT agent, number, version, content FROM {shard}.memories WHERE agent = %(agent)s AND number = %(number)s;

-- name: write
-- Update a memory, fourth: the row.
UPDATE {shard}.memories
SET content = %(content)s, kind = %(kind)s, importance = %(importance)s, tags = %(tags)s, metadata = %(metadata)s,
    occurred_at = %(occurred_at)s, expires_at = %(expires_at)s, supersedes = %(supersedes)s,
    pinned = %(pinned)s, version = version + %(rewritten)s::int, changed_at = now(),
    words = to_tsvector(%(text_search)s::regconfig, coalesce(speaker || ': ', '') || %(content)s)
            || array_to_tsvector(ARRAY['@' || agent])
WHERE agent = %(agent)s AND number = %(number)s
RETURNING length(words);

-- name: recount
-- Update a memory, fifth: what the agent's counts say of it.
UPDATE {shard}.agents SET words = words + %(words)s, conditional = conditional + %(conditional)s WHERE number = %(agent)s;

-- name: wait_for_vector
-- Update a memory, last: it has no vector until its embed job is done, which is not parked any more.
UPDATE {shard}.ids SET state = 'stored' WHERE agent = %(agent)s AND id = %(id)s AND state IN ('searchable', 'parked');

-- name: history
-- What a memory said before, newest first; a forgotten one says nothing.
SELECT v.version, v.content, v.replaced_at
FROM {shard}.agents a
JOIN {shard}.ids i ON i.agent = a.number AND i.id = %(id)s AND i.number >= a.forgotten_before
JOIN {shard}.memories m ON m.agent = a.number AND m.number = i.number AND (m.expires_at IS NULL OR m.expires_at > now())
JOIN {shard}.versions v ON v.agent = a.number AND v.number = i.number
WHERE a.tenant = %(tenant)s AND a.agent = %(agent)s
ORDER BY v.version DESC
LIMIT %(limit)s;
