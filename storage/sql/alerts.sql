-- name: rearm
-- A limit that was raised has shares that are not reached any more: they are told of again when they are.
DELETE FROM control.alerts a
USING control.budgets b
LEFT JOIN control.spending s ON s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                            AND s.starts = control.starts(b.period, control.today())
WHERE a.tenant = b.tenant AND a.agent = b.agent AND a.period = b.period
  AND a.starts = control.starts(b.period, control.today())
  AND a.percent > floor(coalesce(s.settled, 0) / 10000.0 / b.limit_micro);

-- name: reach
-- Note which shares of budgets are reached: those that nobody had noted yet.
INSERT INTO control.alerts (tenant, agent, period, starts, percent)
SELECT b.tenant, b.agent, b.period, s.starts, p.percent
FROM control.budgets b
JOIN control.spending s ON s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                       AND s.starts = control.starts(b.period, control.today())
JOIN unnest(%(percents)s::int[]) AS p(percent) ON p.percent <= floor(s.settled / 10000.0 / b.limit_micro)
ORDER BY b.tenant, b.agent, b.period, p.percent
ON CONFLICT DO NOTHING
RETURNING tenant, agent, period, percent;

-- name: pass_over
-- Where a higher share is reached as well, that is the one to tell of.
UPDATE control.alerts a SET told_at = now()
WHERE a.told_at IS NULL
  AND EXISTS (SELECT FROM control.alerts h
              WHERE h.tenant = a.tenant AND h.agent = a.agent AND h.period = a.period AND h.starts = a.starts
                AND h.percent > a.percent);

-- name: claim
-- Be the one who tells of an alert now: the one that was tried least. The pauses between the tries grow, and are longer
-- than a try may take, so that nobody else tells of it meanwhile.
UPDATE control.alerts a SET tries = a.tries + 1
FROM (
    SELECT c.tenant, c.agent, c.period, c.starts, c.percent, b.limit_micro, b.at_limit, s.settled
    FROM control.alerts c
    JOIN control.budgets b ON b.tenant = c.tenant AND b.agent = c.agent AND b.period = c.period
    JOIN control.spending s ON s.tenant = c.tenant AND s.agent = c.agent AND s.period = c.period AND s.starts = c.starts
    WHERE c.told_at IS NULL AND c.tries < %(tries)s AND c.starts = control.starts(c.period, control.today())
      AND c.at + c.tries * c.tries * make_interval(secs => %(pause_s)s) <= now()
    ORDER BY c.tries, c.at, c.tenant, c.agent, c.period, c.percent
    LIMIT 1 FOR UPDATE OF c SKIP LOCKED
) due
WHERE a.tenant = due.tenant AND a.agent = due.agent AND a.period = due.period AND a.starts = due.starts
  AND a.percent = due.percent
RETURNING a.tenant, a.agent, a.period, a.percent, a.starts, control.ends(a.period, a.starts), due.limit_micro,
          due.settled / 1e6::float8, due.at_limit, a.tries;

-- name: told
-- An alert was told.
UPDATE control.alerts SET told_at = now()
WHERE tenant = %(tenant)s AND agent = %(agent)s AND period = %(period)s AND starts = %(starts)s
  AND percent = %(percent)s;
