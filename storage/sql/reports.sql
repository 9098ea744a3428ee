-- name: now
-- The time, by the clock that all other times here are of.
SELECT now();

-- name: add
-- Keep what came of a look.
INSERT INTO control.reports (score, report, figures, totals)
VALUES (%(score)s, %(report)s, %(figures)s, %(totals)s);

-- name: newest
-- The last look: how long ago it was, in seconds, and what came of it. Those of a clock that was set back lie ahead, so that
-- not their times but their numbers have an order.
SELECT extract(epoch FROM now() - at)::float8, report::text FROM control.reports ORDER BY number DESC LIMIT 1;

-- name: figures
-- The figures of the last minutes, with their age in seconds, the oldest first.
SELECT extract(epoch FROM now() - at)::float8, figures::text FROM control.reports
WHERE at BETWEEN now() - make_interval(secs => %(since_s)s) AND now() ORDER BY number;

-- name: cached_percent
-- The most that the cache of questions was of use for at a look of the last time, in percent; null where nobody knows.
SELECT max((figures->>'cached_percent')::float8) FROM control.reports
WHERE at BETWEEN now() - make_interval(secs => %(since_s)s) AND now();

-- name: before
-- What all processes had counted some minutes ago, and how long ago that is, in seconds: the oldest in this window.
SELECT extract(epoch FROM now() - at)::float8, totals FROM control.reports
WHERE at BETWEEN now() - make_interval(secs => %(since_s)s) AND now() - make_interval(secs => %(least_s)s)
  AND totals IS NOT NULL
ORDER BY number LIMIT 1;

-- name: sizes
-- About how many bytes the shards on this node take, by their schemas, as the catalog knows without a look at the disk.
SELECT n.nspname::text, (sum(c.relpages::bigint) * current_setting('block_size')::bigint)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname ~ '^shard_[0-9]+$' GROUP BY n.nspname;
