-- name: summed
-- What was used, added up by any of day, tenant, agent and model; the latest days first, then what cost most.
SELECT sum(requests), sum(failed), sum(texts)::bigint, sum(tokens)::bigint, (sum(cost) / 1e6)::float8,
       sum(saved_texts)::bigint, sum(saved_tokens)::bigint, (sum(saved_cost) / 1e6)::float8,
       sum(texts) + sum(saved_texts) - sum(requests), g.day, g.tenant, g.agent, g.model
FROM control.usage u
CROSS JOIN LATERAL (
    SELECT CASE WHEN 'day' = ANY(%(by)s::text[]) THEN u.day END AS day,
           CASE WHEN 'tenant' = ANY(%(by)s::text[]) THEN u.tenant END AS tenant,
           CASE WHEN 'agent' = ANY(%(by)s::text[]) THEN u.agent END AS agent,
           CASE WHEN 'model' = ANY(%(by)s::text[]) THEN u.model END AS model
) g
WHERE u.day >= coalesce(%(since)s::date, control.today() - 29) AND (%(until)s::date IS NULL OR u.day <= %(until)s)
  AND (%(tenant)s::text IS NULL OR u.tenant = %(tenant)s) AND (%(agent)s::text IS NULL OR u.agent = %(agent)s)
  AND (%(model)s::text IS NULL OR u.model = %(model)s)
GROUP BY g.day, g.tenant, g.agent, g.model
ORDER BY g.day DESC, sum(cost) DESC, g.tenant, g.agent, g.model
LIMIT %(limit)s OFFSET %(offset)s;

-- name: yesterday
-- The first day that may still change: a call that began before midnight is settled on its own day.
SELECT control.today() - 1;

-- name: by_model
-- What was used, by model: from a day on, and before another; without the first, days that are not kept any more as well.
SELECT model, round(sum(requests)::numeric, 6)::float8, round(sum(failed)::numeric, 6)::float8,
       sum(texts)::float8, sum(tokens)::float8, (sum(cost) / 1e12)::float8,
       sum(saved_texts)::float8, sum(saved_tokens)::float8, (sum(saved_cost) / 1e12)::float8,
       (sum(texts) + sum(saved_texts) - round(sum(requests)::numeric, 6))::float8
FROM (
    SELECT model, requests, failed, texts, tokens, cost, saved_texts, saved_tokens, saved_cost FROM control.usage
    WHERE day >= coalesce(%(since)s::date, '-infinity'::date) AND day < coalesce(%(before)s::date, 'infinity'::date)
    UNION ALL
    SELECT model, requests, failed, texts, tokens, cost, saved_texts, saved_tokens, saved_cost FROM control.past_usage
    WHERE %(since)s::date IS NULL
) AS every
GROUP BY model;

-- name: latencies
-- How long requests took, by model and size.
SELECT model, texts, requests, seconds / requests FROM control.latencies WHERE requests > 0 ORDER BY model, texts;
