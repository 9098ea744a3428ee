-- name: accept
-- Take in what tenants hand over: identities first, then jobs for the new ones, and the ledger, all or nothing.
WITH items AS MATERIALIZED (
    SELECT nextval('{shard}.numbers') AS number, i.tenant, i.agent, i.id, decode(i.hash, 'hex') AS hash, i.thread,
           i.payload, i.place
    FROM ROWS FROM (jsonb_to_recordset(%(items)s)
                    AS (tenant text, agent bigint, id uuid, hash text, thread text, payload jsonb))
         WITH ORDINALITY AS i(tenant, agent, id, hash, thread, payload, place),
         {shard}.fence(%(epoch)s)
), fresh AS (
    INSERT INTO {shard}.ids (agent, id, number, content_hash)
    SELECT agent, id, number, hash FROM items ORDER BY agent, id
    ON CONFLICT (agent, id) DO NOTHING
    RETURNING number
), turns AS (
    INSERT INTO {shard}.threads AS t (agent, thread, turns)
    SELECT agent, thread, count(*) FROM fresh JOIN items USING (number)
    WHERE thread IS NOT NULL
    GROUP BY agent, thread
    ORDER BY agent, thread
    ON CONFLICT (agent, thread) DO UPDATE SET turns = t.turns + EXCLUDED.turns
    RETURNING agent, thread, turns
), open AS (
    INSERT INTO {shard}.jobs (number, kind, tenant, agent, id, position, payload)
    SELECT number, 'remember', tenant, agent, id,
           turns.turns - count(*) OVER (PARTITION BY agent, thread)
                       + row_number() OVER (PARTITION BY agent, thread ORDER BY number),
           payload
    FROM fresh JOIN items USING (number) LEFT JOIN turns USING (agent, thread)
), outcomes AS (
    SELECT items.place, items.tenant,
           CASE WHEN fresh.number IS NOT NULL THEN 'accepted'
                WHEN ids.id IS NULL THEN 'unseen'          -- someone else's insert is newer than this statement
                WHEN ids.content_hash = items.hash THEN 'duplicate'
                ELSE 'conflict' END AS outcome,
           CASE WHEN ids.number < agents.forgotten_before THEN 'forgotten' ELSE ids.state END AS state
    FROM items
    LEFT JOIN fresh USING (number)
    LEFT JOIN {shard}.ids ids ON ids.agent = items.agent AND ids.id = items.id
    LEFT JOIN {shard}.agents agents ON agents.number = items.agent
), counted AS (
    INSERT INTO {shard}.ledger (tenant, event, count)
    SELECT tenant, CASE outcome WHEN 'conflict' THEN 'rejected' ELSE outcome END, count(*)
    FROM outcomes WHERE outcome <> 'unseen'
    GROUP BY tenant, outcome
)
SELECT outcome, state FROM outcomes ORDER BY place;

-- name: states
-- How far memories have come, with why they are parked, or why their vectors wait.
SELECT i.agent, i.id,
       CASE WHEN ids.number < agents.forgotten_before THEN 'forgotten' ELSE ids.state END,
       jobs.error
FROM unnest(%(agents)s::bigint[], %(ids)s::uuid[]) AS i(agent, id)
JOIN {shard}.ids ids ON ids.agent = i.agent AND ids.id = i.id
JOIN {shard}.agents agents ON agents.number = i.agent
LEFT JOIN {shard}.jobs jobs ON jobs.number = ids.number AND (jobs.parked_at IS NOT NULL OR jobs.kind = 'embed');
