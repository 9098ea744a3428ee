-- name: of
-- How far a duty got in each part, what has waited longest first.
SELECT part, place FROM control.places WHERE duty = %(duty)s ORDER BY at, part;

-- name: lately
-- How far a duty got in the parts where that was noted within a time.
SELECT part, place FROM control.places WHERE duty = %(duty)s AND at > now() - make_interval(secs => %(within_s)s);

-- name: place
-- How far a duty got in a part, and how long ago that was.
SELECT place, extract(epoch FROM now() - at)::float8 FROM control.places WHERE duty = %(duty)s AND part = %(part)s;

-- name: keep
-- A duty got so far in a part.
INSERT INTO control.places (duty, part, place) VALUES (%(duty)s, %(part)s, %(place)s)
ON CONFLICT (duty, part) DO UPDATE SET place = EXCLUDED.place, at = now();
