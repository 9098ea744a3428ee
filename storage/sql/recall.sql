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

-- name: fresh
-- A part of other queries: a memory m was handed over after a number, or recalled within so many seconds.
(m.number > %(fresh_after)s OR EXISTS (
    SELECT FROM {shard}.memory_stats s
    WHERE s.agent = m.agent AND s.number = m.number
      AND s.last_accessed_at >= now() - make_interval(secs => %(fresh_s)s::float8)));

-- name: with_memories
-- A part of other queries: the memories of vectors v, where anything is asked of them.
JOIN {shard}.memories m ON m.agent = v.agent AND m.number = v.memory;

-- name: in_tiers
-- A part of other queries: a memory m is of one of some tiers, by when it was handed over or recalled last.
((CASE WHEN m.number > %(hot_after)s THEN 'hot'
       ELSE coalesce((SELECT CASE WHEN s.last_accessed_at >= now() - make_interval(secs => %(hot_s)s::float8) THEN 'hot'
                                  WHEN m.number > %(warm_after)s THEN 'warm'
                                  WHEN s.last_accessed_at >= now() - make_interval(secs => %(warm_s)s::float8) THEN 'warm'
                                  ELSE 'cold' END
                      FROM {shard}.memory_stats s WHERE s.agent = m.agent AND s.number = m.number),
                     CASE WHEN m.number > %(warm_after)s THEN 'warm' ELSE 'cold' END)
  END) = ANY(%(tiers)s::text[]));

-- name: fresh_similarity
-- A part of other queries: the vectors of an agent's fresh memories that pass the filters, compared exactly.
(SELECT v.memory AS number, -(v.embedding <#> %(vector)s) AS similarity
 FROM {shard}.{vectors} v {with_memories}
 WHERE v.agent = %(agent)s AND v.memory >= %(forgotten_before)s AND v.memory > %(fresh_after)s AND {filtered} AND {visible})
UNION ALL
(SELECT v.memory, -(v.embedding <#> %(vector)s)
 FROM {shard}.memory_stats s
 JOIN {shard}.{vectors} v ON v.agent = s.agent AND v.memory = s.number {with_memories}
 WHERE s.agent = %(agent)s AND s.number >= %(forgotten_before)s AND s.number <= %(fresh_after)s
   AND s.last_accessed_at >= now() - make_interval(secs => %(fresh_s)s::float8) AND {filtered} AND {visible});

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
-- Settings for one transaction: the order comes from the index, which looks at as much of its graph as the knob
-- says, and goes on until there are enough rows.
SELECT set_config('enable_sort', 'off', true), set_config('hnsw.ef_search', %(ef_search)s::text, true),
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
