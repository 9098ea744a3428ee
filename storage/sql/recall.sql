-- name: holds
-- A part of other queries: the filters, as a condition on a memory m.
(%(kinds)s::text[] IS NULL OR m.kind = ANY(%(kinds)s))
  AND (%(tags)s::text[] IS NULL OR m.tags @> %(tags)s)
  AND (%(since)s::timestamptz IS NULL OR m.occurred_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR m.occurred_at < %(until)s)
  AND (%(thread)s::text IS NULL OR m.thread = %(thread)s)
  AND (%(metadata)s::jsonb IS NULL OR m.metadata @> %(metadata)s)
  AND (%(pinned)s::boolean IS NULL OR m.pinned = %(pinned)s)
  AND m.importance >= %(min_importance)s::real;

-- name: visible
-- A part of other queries: a memory m has not expired, and no newer one has taken its place.
{alive}
  AND (%(include_superseded)s::boolean OR NOT EXISTS (
      SELECT FROM {shard}.memories n
      WHERE n.agent = m.agent AND n.supersedes = m.id AND (n.expires_at IS NULL OR n.expires_at > now())));

-- name: every_similarity
-- A part of other queries: all vectors of an agent, compared exactly.
SELECT v.memory AS number, -(v.embedding <#> %(vector)s) AS similarity
FROM {shard}.{vectors} v
WHERE v.agent = %(agent)s AND v.memory >= %(forgotten_before)s;

-- name: filtered_similarity
-- A part of other queries: the vectors of an agent's memories that pass the filters, compared exactly.
SELECT v.memory AS number, -(v.embedding <#> %(vector)s) AS similarity
FROM {shard}.{vectors} v
JOIN {shard}.memories m ON m.agent = v.agent AND m.number = v.memory
WHERE v.agent = %(agent)s AND v.memory >= %(forgotten_before)s AND {holds} AND {visible};

-- name: indexed_similarity
-- A part of other queries: the nearest by a promoted agent's index, and the newer rows compared exactly.
(SELECT memory AS number, -(embedding <#> %(vector)s) AS similarity
 FROM {shard}.{vectors}
 WHERE agent = {agent} AND number <= {upto} AND memory >= %(forgotten_before)s
 ORDER BY embedding <#> %(vector)s
 LIMIT %(candidates)s)
UNION ALL
(SELECT memory, -(embedding <#> %(vector)s)
 FROM {shard}.{vectors}
 WHERE agent = {agent} AND number > {upto} AND memory >= %(forgotten_before)s);

-- name: prepare_index_scan
-- Settings for one transaction: the order comes from the index, which looks at more of its graph than by
-- default, and goes on until there are enough rows.
SELECT set_config('enable_sort', 'off', true), set_config('hnsw.ef_search', '200', true),
       set_config('hnsw.iterative_scan', 'relaxed_order', true);

-- name: no_similarity
-- A part of other queries: nothing is known of similarity, the query has no vector.
SELECT NULL::bigint AS number, NULL::float8 AS similarity WHERE false;

-- name: candidates
-- The memories that match a query best, by meaning and by words, with both scores and their place in a thread.
WITH compared AS MATERIALIZED (
    {similarity}
), terms AS MATERIALIZED (
    SELECT quote_literal(lexeme)::tsquery AS term,
           (quote_literal('@' || %(agent)s) || ' & ' || quote_literal(lexeme))::tsquery AS wanted
    FROM unnest(to_tsvector(%(text_search)s::regconfig, %(query)s))
    ORDER BY length(lexeme) DESC
    LIMIT 32
), matches AS MATERIALIZED (
    SELECT m.number, terms.term,
           ts_rank('{0.1, 0.1, 0.1, 0.1}', m.words, terms.term) AS rank,
           length(m.words) AS words
    FROM terms JOIN {shard}.memories m ON m.words @@ terms.wanted
    WHERE m.number >= %(forgotten_before)s AND {holds} AND {visible}
), rarity AS (
    SELECT term, ln(1 + (greatest(%(memories)s, count(*)) - count(*) + 0.5) / (count(*) + 0.5)) AS idf
    FROM matches GROUP BY term
), worded AS MATERIALIZED (
    SELECT number, sum(idf * rank * 16.45 / (1 + 0.24 * (words / %(mean_words)s - 1))) AS score
    FROM matches JOIN rarity USING (term)
    GROUP BY number
), chosen AS (
    (SELECT number FROM compared ORDER BY similarity DESC LIMIT %(candidates)s)
    UNION
    (SELECT number FROM worded ORDER BY score DESC LIMIT %(candidates)s)
)
SELECT chosen.number, m.thread, m.position, compared.similarity, worded.score::float8
FROM chosen
JOIN {shard}.memories m ON m.agent = %(agent)s AND m.number = chosen.number AND {visible}
LEFT JOIN compared ON compared.number = chosen.number
LEFT JOIN worded ON worded.number = chosen.number;
