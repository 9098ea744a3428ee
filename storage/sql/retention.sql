-- name: reports
-- Looks at the whole that are older than a week; of the others the totals, which are most of each, are of use for an hour.
WITH thinned AS (
    UPDATE control.reports SET totals = NULL
    WHERE totals IS NOT NULL AND at < now() - interval '1 hour' AND at >= now() - interval '7 days'
)
DELETE FROM control.reports WHERE at < now() - interval '7 days';

-- name: vacuums
-- What vacuum did more than a week ago.
DELETE FROM control.vacuums WHERE at < now() - interval '7 days';

-- name: incidents
-- What has been over for more than 400 days: last year's may be asked for.
DELETE FROM control.incidents WHERE ended_at < now() - interval '400 days';

-- name: tunings
-- Turns of knobs that were decided more than 90 days ago.
DELETE FROM control.tunings WHERE decided_at < now() - interval '90 days';

-- name: usage
-- What was used long ago is kept as one sum for each model, which the sums over all time go on from; how many rows went.
WITH old AS MATERIALIZED (
    SELECT day, tenant, agent, model FROM control.usage WHERE day < control.today() - %(days)s::int
    ORDER BY day, tenant, agent, model LIMIT %(limit)s
), gone AS (
    DELETE FROM control.usage u USING old
    WHERE u.day = old.day AND u.tenant = old.tenant AND u.agent = old.agent AND u.model = old.model
    RETURNING u.*
), added AS (
    INSERT INTO control.past_usage AS p (model, requests, failed, texts, tokens, cost, saved_texts, saved_tokens, saved_cost)
    SELECT model, sum(requests), sum(failed), sum(texts), sum(tokens), sum(cost), sum(saved_texts), sum(saved_tokens),
           sum(saved_cost)
    FROM gone GROUP BY model
    ON CONFLICT (model) DO UPDATE
    SET requests = p.requests + EXCLUDED.requests, failed = p.failed + EXCLUDED.failed, texts = p.texts + EXCLUDED.texts,
        tokens = p.tokens + EXCLUDED.tokens, cost = p.cost + EXCLUDED.cost,
        saved_texts = p.saved_texts + EXCLUDED.saved_texts, saved_tokens = p.saved_tokens + EXCLUDED.saved_tokens,
        saved_cost = p.saved_cost + EXCLUDED.saved_cost
)
SELECT count(*) FROM gone;

-- name: spending
-- What was spent of budgets in periods that ended long ago.
WITH gone AS (
    DELETE FROM control.spending
    WHERE (tenant, agent, period, starts) IN (
        SELECT tenant, agent, period, starts FROM control.spending WHERE starts < control.today() - %(days)s::int
        LIMIT %(limit)s)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: alerts
-- Alerts of periods that ended long ago.
WITH gone AS (
    DELETE FROM control.alerts
    WHERE (tenant, agent, period, starts, percent) IN (
        SELECT tenant, agent, period, starts, percent FROM control.alerts WHERE starts < control.today() - %(days)s::int
        LIMIT %(limit)s)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: queries
-- Recalls that were noted long ago: how many of them, whose, and the hashes of those questions that are no pattern.
WITH gone AS (
    DELETE FROM {shard}.queries USING {shard}.fence(%(epoch)s)
    WHERE (agent, number) IN (
        SELECT agent, number FROM {shard}.queries WHERE at < now() - make_interval(days => %(days)s)
        ORDER BY at LIMIT %(limit)s)
    RETURNING agent, query_hash
)
SELECT a.tenant, count(*),
       coalesce(array_agg(DISTINCT g.query_hash) FILTER (WHERE NOT EXISTS (
           SELECT FROM {shard}.patterns p WHERE p.agent = g.agent AND p.query_hash = g.query_hash)), '{}')
FROM gone g LEFT JOIN {shard}.agents a ON a.number = g.agent GROUP BY a.tenant;

-- name: patterns
-- Patterns that were not found again for 30 days: how many, whose, and their hashes.
WITH gone AS (
    DELETE FROM {shard}.patterns USING {shard}.fence(%(epoch)s)
    WHERE (agent, query_hash) IN (
        SELECT agent, query_hash FROM {shard}.patterns WHERE found_at < now() - interval '30 days' LIMIT %(limit)s)
    RETURNING agent, query_hash
)
SELECT a.tenant, count(*), array_agg(g.query_hash)
FROM gone g LEFT JOIN {shard}.agents a ON a.number = g.agent GROUP BY a.tenant;

-- name: cache
-- Embeddings in some pages of the cache that were of no use for long.
WITH gone AS (
    DELETE FROM {shard}.embedding_cache USING {shard}.fence(%(epoch)s)
    WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid AND used_at < now() - make_interval(days => %(days)s)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: pages
-- How many pages a table has.
SELECT pg_relation_size('{shard}.{table}') / current_setting('block_size')::int;

-- name: faded
-- Of the next memories, by agent: the number of the last one, and those whose use does not count any more. What is
-- pinned stays.
WITH next AS MATERIALIZED (
    SELECT agent, number, created_at, pinned FROM {shard}.memories
    WHERE (agent, number) > (%(agent)s, %(number)s)
    ORDER BY agent, number LIMIT %(limit)s
)
SELECT m.agent, a.tenant, max(m.number),
       coalesce(array_agg(m.number ORDER BY m.number) FILTER (WHERE NOT m.pinned AND {resonance} < %(below)s::float8), '{}')
FROM next m
JOIN {shard}.agents a ON a.number = m.agent
LEFT JOIN {shard}.memory_stats s ON s.agent = m.agent AND s.number = m.number
GROUP BY m.agent, a.tenant
ORDER BY m.agent;
