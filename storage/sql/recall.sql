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

-- name: of_one
-- A part of other queries: how similar one memory is that words have brought up.
(SELECT -(v.embedding <#> %(vector)s) FROM {shard}.{vectors} v WHERE v.agent = {whose} AND v.memory = chosen.number);

-- name: share
-- A part of other queries: what a word adds to the score of a memory m, beside its rarity: saturated, and normed by length.
16.45 * ts_rank('{0.1, 0.1, 0.1, 0.1}', m.words, term) / (1 + 0.24 * (length(m.words) / %(mean_words)s - 1));

-- name: every_match
-- Parts of another query: the memories of an agent that have some of the words, and how many have each.
matches AS MATERIALIZED (
    SELECT place, number, share
    FROM lexemes CROSS JOIN LATERAL (
        SELECT m.number, {share} AS share
        FROM {shard}.memories m
        WHERE m.words @@ (quote_literal('@' || %(agent)s)::tsquery && term)
          AND m.number >= %(forgotten_before)s AND {holds} AND {visible}
        OFFSET 0) AS found
), frequencies AS (
    SELECT place, count(number) AS n FROM lexemes LEFT JOIN matches USING (place) GROUP BY place
);

-- name: best_matches
-- Parts of another query: as above, where all would be too many. How many memories have a word is estimated by the newest.
-- The rarest words bring theirs as long as these are few together; of the others, the rarest first, as many have to be
-- there at once as leave few, if they come independently. Every word counts in what was brought, and in the nearest.
newest AS MATERIALIZED (
    SELECT m.words FROM (
        SELECT * FROM {shard}.memories m
        WHERE m.agent = %(agent)s AND m.number >= %(forgotten_before)s
        ORDER BY m.agent DESC, m.number DESC
        LIMIT %(sample)s) AS m
    WHERE {holds} AND {visible}
), estimated AS (
    SELECT place, quoted, least(CASE count(words) WHEN 0 THEN %(most)s / 10.0 END,
                                %(memories)s * greatest(count(words), 0.5) / least(%(sample)s, %(memories)s))::float8 AS n
    FROM lexemes LEFT JOIN newest ON words @@ term
    GROUP BY place, quoted
), told_apart AS (
    SELECT *, sum(n) OVER (ORDER BY n, place) <= %(most)s AS rare FROM estimated
), counted AS (
    SELECT *, %(memories)s * exp(sum(ln(n / %(memories)s)) OVER (PARTITION BY rare ORDER BY n, place)) AS rest FROM told_apart
), estimates AS MATERIALIZED (
    SELECT *, NOT rare AND coalesce(lag(rest) OVER (PARTITION BY rare ORDER BY n, place), %(memories)s) > %(most)s AS needed
    FROM counted
), brought AS MATERIALIZED (
    SELECT m.number, m.words
    FROM (SELECT concat_ws(' | ', string_agg(quoted, ' | ') FILTER (WHERE rare),
                           '(' || string_agg(quoted, ' & ') FILTER (WHERE needed) || ')')::tsquery AS few
          FROM estimates) AS wanted
    CROSS JOIN LATERAL (
        SELECT m.number, m.words FROM {shard}.memories m
        WHERE m.words @@ (quote_literal('@' || %(agent)s)::tsquery && few)
          AND m.number >= %(forgotten_before)s AND {holds} AND {visible}
        LIMIT 2 * %(most)s) AS m
    UNION ALL
    SELECT m.number, m.words
    FROM near CROSS JOIN LATERAL (
        SELECT m.number, m.words FROM {shard}.memories m WHERE m.agent = %(agent)s AND m.number = near.number LIMIT 1) AS m
), matches AS MATERIALIZED (
    SELECT DISTINCT place, number, share
    FROM brought m CROSS JOIN lexemes CROSS JOIN LATERAL (SELECT {share} AS share OFFSET 0) AS found
    WHERE share > 0
), frequencies AS (
    SELECT place, CASE WHEN rare THEN count(number) ELSE n END AS n
    FROM estimates LEFT JOIN matches USING (place)
    GROUP BY place, rare, n
);

-- name: lexemes
-- A part of other queries: the words of a question, as they are looked for; of many the longest.
SELECT row_number() OVER (ORDER BY length(lexeme) DESC)::int AS place, quote_literal(lexeme) AS quoted,
       quote_literal(lexeme)::tsquery AS term
FROM unnest(to_tsvector(%(text_search)s::regconfig, %(query)s))
ORDER BY length(lexeme) DESC
LIMIT 32;

-- name: rarity
-- A part of other queries: BM25's weight of each word, in their order.
SELECT array_agg(ln(1 + (greatest(%(memories)s, n) - n + 0.5) / (n + 0.5)) ORDER BY place) AS idf FROM frequencies;

-- name: near_of_many
-- A part of other queries: the vectors of several agents' memories that pass the filters, compared exactly.
SELECT v.agent, v.memory AS number, -(v.embedding <#> %(vector)s) AS similarity
FROM {shard}.{vectors} v {with_memories}
WHERE v.agent = asked.agent AND v.memory >= asked.forgotten_before AND {holds} AND {visible}
OFFSET 0;

-- name: near_of_none
-- A part of other queries: nothing is known of similarity, the query has no vector.
SELECT NULL::bigint AS agent, NULL::bigint AS number, NULL::float8 AS similarity WHERE false;

-- name: candidates_of_many
-- As `candidates`, over the memories of several small agents together. They are read one by one, without the index of
-- words: the IS TRUE keeps anybody from that, which took six times as long for a thousand agents.
WITH asked AS MATERIALIZED (
    SELECT agent, forgotten_before FROM unnest(%(agents)s::bigint[], %(marks)s::bigint[]) AS a(agent, forgotten_before)
), near AS MATERIALIZED (
    SELECT near.* FROM asked CROSS JOIN LATERAL ({near}) AS near
    ORDER BY similarity DESC, number DESC
    LIMIT %(candidates)s
), lexemes AS MATERIALIZED (
    {lexemes}
), brought AS MATERIALIZED (
    SELECT m.*
    FROM (SELECT string_agg(quoted, ' | ')::tsquery AS any_word FROM lexemes) AS wanted CROSS JOIN asked CROSS JOIN LATERAL (
        SELECT m.agent, m.number, m.words FROM {shard}.memories m
        WHERE m.agent = asked.agent AND m.number >= asked.forgotten_before AND (m.words @@ any_word) IS TRUE
          AND {holds} AND {visible}
        OFFSET 0) AS m
), matches AS MATERIALIZED (
    SELECT place, agent, number, share
    FROM brought m CROSS JOIN lexemes CROSS JOIN LATERAL (SELECT {share} AS share OFFSET 0) AS found
    WHERE share > 0
), frequencies AS (
    SELECT place, count(number) AS n FROM lexemes LEFT JOIN matches USING (place) GROUP BY place
), rarity AS (
    {rarity}
), worded AS MATERIALIZED (
    SELECT agent, number, sum(share * (SELECT idf FROM rarity)[place]) AS score FROM matches GROUP BY agent, number
), chosen AS MATERIALIZED (
    SELECT agent, number, max(similarity) AS similarity, max(score) AS score
    FROM (
        SELECT agent, number, similarity, NULL::float8 AS score, true AS best FROM near
        UNION ALL
        SELECT agent, number, NULL, score, false FROM worded
        UNION ALL
        (SELECT agent, number, NULL, score, true FROM worded ORDER BY score DESC, number DESC LIMIT %(candidates)s)) AS all_found
    GROUP BY agent, number
    HAVING bool_or(best)
)
SELECT chosen.agent, chosen.number, m.thread, m.position, coalesce(similarity, {of_one}), score
FROM chosen CROSS JOIN LATERAL (
    SELECT m.thread, m.position FROM {shard}.memories m
    WHERE m.agent = chosen.agent AND m.number = chosen.number AND {visible}
    LIMIT 1) AS m;

-- name: candidates
-- The memories that match a query best, by meaning and by words, with both scores and their place in a thread.
WITH near AS MATERIALIZED (
    SELECT number, similarity FROM ({similarity}) AS compared
    ORDER BY similarity DESC, number DESC
    LIMIT %(candidates)s
), lexemes AS MATERIALIZED (
    {lexemes}
), {matches}, rarity AS (
    {rarity}
), worded AS MATERIALIZED (
    SELECT number, sum(share * (SELECT idf FROM rarity)[place]) AS score FROM matches GROUP BY number
), chosen AS MATERIALIZED (
    SELECT number, max(similarity) AS similarity, max(score) AS score
    FROM (
        SELECT number, similarity, NULL::float8 AS score, true AS best FROM near
        UNION ALL
        SELECT number, NULL, score, false FROM worded
        UNION ALL
        (SELECT number, NULL, score, true FROM worded ORDER BY score DESC, number DESC LIMIT %(candidates)s)) AS all_found
    GROUP BY number
    HAVING bool_or(best)
)
SELECT chosen.number, m.thread, m.position, coalesce(similarity, {of_one}), score
FROM chosen CROSS JOIN LATERAL (
    SELECT m.thread, m.position FROM {shard}.memories m
    WHERE m.agent = %(agent)s AND m.number = chosen.number AND {visible}
    LIMIT 1) AS m;
