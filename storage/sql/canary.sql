-- name: promoted
-- Some agents that have an index of their own.
SELECT agent, upto, coalesce(ef_search, 0) FROM {shard}.promotions WHERE model = %(model)s ORDER BY random() LIMIT %(limit)s;

-- name: sample
-- Some of the vectors in an agent's index.
SELECT v.embedding
FROM (SELECT floor(random() * %(upto)s::bigint)::bigint AS at FROM generate_series(1, %(count)s::int)) AS r
CROSS JOIN LATERAL (
    SELECT embedding FROM {shard}.{vectors}
    WHERE agent = %(agent)s AND number > r.at AND number <= %(upto)s
    ORDER BY number LIMIT 1) AS v;

-- name: exact
-- How similar the nearest are, compared exactly.
SELECT -(embedding <#> %(vector)s) FROM {shard}.{vectors}
WHERE agent = %(agent)s AND number <= %(upto)s
ORDER BY embedding <#> %(vector)s LIMIT %(nearest)s;

-- name: indexed
-- How similar those are that the agent's index brings up.
SELECT -(embedding <#> %(vector)s) FROM {shard}.{vectors}
WHERE agent = {agent} AND number <= {upto}
ORDER BY embedding <#> %(vector)s LIMIT %(nearest)s;
