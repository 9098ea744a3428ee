-- name: open
-- Incidents that go on.
SELECT subject, component, level, title, detail, began_at, ended_at FROM control.incidents
WHERE ended_at IS NULL ORDER BY began_at, subject;

-- name: note
-- Something is wrong: a new incident, or one that goes on and has become worse; no row if it is neither, so that each is told
-- to one caller alone.
INSERT INTO control.incidents AS i (subject, component, level, title, detail)
VALUES (%(subject)s, %(component)s, %(level)s, %(title)s, %(detail)s)
ON CONFLICT (subject) WHERE ended_at IS NULL DO UPDATE
SET seen_at = now(), level = EXCLUDED.level, title = EXCLUDED.title, detail = EXCLUDED.detail, tries = 0, try_at = now()
WHERE array_position(ARRAY['warning', 'error', 'critical'], EXCLUDED.level)
    > array_position(ARRAY['warning', 'error', 'critical'], i.level)
RETURNING number;

-- name: seen
-- These go on.
UPDATE control.incidents SET seen_at = now() WHERE subject = ANY(%(subjects)s::text[]) AND ended_at IS NULL;

-- name: end
-- It is over. How long it lasted, in seconds; no row if somebody else saw that first.
UPDATE control.incidents SET ended_at = now(), tries = 0, try_at = now()
WHERE subject = %(subject)s AND ended_at IS NULL
RETURNING extract(epoch FROM ended_at - began_at)::float8, level;

-- name: claim
-- Be the one who tells of an incident now: that it goes on, at a level that was not told yet, or that it is over, if it was
-- told that it goes on, and is not over for a day. The pauses between the tries grow, and are longer than a try may take; a
-- time that lies further ahead than its pause is from before the clock was set back.
UPDATE control.incidents i
SET tries = i.tries + 1,
    try_at = now() + (i.tries + 1) * (i.tries + 1) * make_interval(secs => %(pause_s)s)
FROM (
    SELECT number FROM control.incidents
    WHERE level = ANY(%(levels)s::text[]) AND tries < %(tries)s
      AND (try_at <= now() - make_interval(secs => %(overdue_s)s)
           OR try_at > now() + tries * tries * make_interval(secs => %(pause_s)s))
      AND CASE WHEN ended_at IS NULL THEN told IS DISTINCT FROM level ELSE told <> 'over' AND ended_at > now() - interval '1 day' END
    ORDER BY tries, try_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
) due
WHERE i.number = due.number
RETURNING i.number, i.subject, i.component, i.level, i.title, i.detail, i.began_at, i.ended_at, i.tries;

-- name: told
-- It was told.
UPDATE control.incidents SET told = %(told)s, tries = 0, try_at = now() WHERE number = %(number)s;

-- name: hand_over
-- One that was seen, and maybe told, while control was away, and goes on.
INSERT INTO control.incidents (subject, component, level, title, detail, began_at, told)
VALUES (%(subject)s, %(component)s, %(level)s, %(title)s, %(detail)s, %(began_at)s, %(told)s)
ON CONFLICT (subject) WHERE ended_at IS NULL DO NOTHING;

-- name: counts
-- How many go on, by level.
SELECT level, count(*) FROM control.incidents WHERE ended_at IS NULL GROUP BY level;
