-- name: beat
-- A process lives; what it says replaces what it said before. No row when it is not known, or not any more.
UPDATE control.processes SET seen_at = now(), gauges = %(gauges)s, counts = %(counts)s WHERE name = %(name)s RETURNING name;

-- name: begin
-- A process says something for the first time, or for the first time since it was given up.
INSERT INTO control.processes (name, class, gauges, counts)
VALUES (%(name)s, %(class)s, %(gauges)s, %(counts)s)
ON CONFLICT (name) DO UPDATE SET seen_at = now(), gauges = EXCLUDED.gauges, counts = EXCLUDED.counts;

-- name: heard
-- Processes were heard of that do not speak for themselves.
INSERT INTO control.processes AS p (name, class, seen_at)
SELECT name, %(class)s, now() - make_interval(secs => age)
FROM unnest(%(names)s::text[], %(ages)s::float8[]) AS h(name, age)
ORDER BY name
ON CONFLICT (name) DO UPDATE
SET seen_at = CASE WHEN p.seen_at <= now() THEN greatest(p.seen_at, EXCLUDED.seen_at) ELSE EXCLUDED.seen_at END;

-- name: set_back
-- What lies ahead is from before the clock was set back: it is taken to be now, else who is gone would live until then.
UPDATE control.processes SET seen_at = least(seen_at, now()), started_at = least(started_at, now())
WHERE seen_at > now() OR started_at > now();

-- name: gone
-- A process that does not speak for itself has said good-bye. Its row stays for a moment, hidden: somebody else may have heard
-- of it just before, and would make it anew.
INSERT INTO control.processes (name, class, gauges) VALUES (%(name)s, %(class)s, '{"gone": 1}')
ON CONFLICT (name) DO UPDATE SET gauges = EXCLUDED.gauges;

-- name: drop_gone
-- Those of whom nobody speaks any more that said good-bye.
DELETE FROM control.processes WHERE gauges ? 'gone' AND seen_at < now() - interval '5 minutes';

-- name: end
-- A process has said good-bye: its row goes, its counts stay.
SELECT control.retire(ARRAY(SELECT name FROM control.processes WHERE name = %(name)s));

-- name: forget
-- These are given up, unless they have been heard of meanwhile.
SELECT control.retire(ARRAY(SELECT name FROM control.processes
                            WHERE name = ANY(%(names)s::text[]) AND seen_at < now() - make_interval(secs => %(lost_s)s)));

-- name: living
-- All that did not say good-bye.
SELECT name, class, started_at, seen_at, extract(epoch FROM now() - seen_at)::float8, gauges
FROM control.processes WHERE NOT gauges ? 'gone' ORDER BY class, started_at, name;

-- name: knows
-- A class is known from now on, also when all its processes are gone that had nothing to count.
INSERT INTO control.past_counts (class, counts)
SELECT %(class)s, '{}' WHERE NOT EXISTS (SELECT FROM control.past_counts WHERE class = %(class)s)
ON CONFLICT DO NOTHING;

-- name: classes
-- The classes of which there ever was a process.
SELECT class FROM control.processes UNION SELECT class FROM control.past_counts;

-- name: counts
-- The counts of all processes there ever were, added up.
SELECT key, sum(value::float8)::float8
FROM (SELECT counts FROM control.processes UNION ALL SELECT counts FROM control.past_counts) AS every
CROSS JOIN LATERAL jsonb_each_text(every.counts)
GROUP BY key ORDER BY key;
