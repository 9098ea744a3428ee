-- name: note
-- Note the number that was given last, and let go of what is older than a tier can be.
WITH old AS (
    DELETE FROM {shard}.moments WHERE at < now() - interval '60 days'
)
INSERT INTO {shard}.moments (at, number)
SELECT now(), CASE WHEN is_called THEN last_value ELSE 0 END FROM {shard}.numbers, {shard}.fence(%(epoch)s)
ON CONFLICT DO NOTHING;

-- name: numbers_at
-- For each time ago the number that was given last at the latest moment that lies so long ago; 0 if none does.
SELECT coalesce((SELECT number FROM {shard}.moments WHERE at <= now() - make_interval(secs => ago_s)
                 ORDER BY at DESC LIMIT 1), 0)
FROM unnest(%(agos_s)s::float8[]) WITH ORDINALITY AS a(ago_s, place) ORDER BY place;
