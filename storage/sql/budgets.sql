-- name: set_up
-- Set a budget up, or change it; no row where there is no such tenant.
SELECT t.tenant FROM control.tenants t
CROSS JOIN LATERAL control.set_budget(t.tenant, %(agent)s, %(period)s, %(limit_micro)s, %(at_limit)s::text)
WHERE t.tenant = %(tenant)s;

-- name: remove
-- Take a budget away; false where there was none.
SELECT control.remove_budget(%(tenant)s, %(agent)s, %(period)s);

-- name: listed
-- Budgets, with what is spent in the period that goes on now, and the alerts that hold.
SELECT b.tenant, b.period, b.limit_micro, b.at_limit, n.starts, control.ends(b.period, n.starts), s.spent, s.reserved,
       s.percent,
       ARRAY(SELECT a.percent FROM control.alerts a
             WHERE a.tenant = b.tenant AND a.agent = b.agent AND a.period = b.period AND a.starts = n.starts
               AND a.percent <= floor(s.percent::numeric)
             ORDER BY a.percent),
       nullif(b.agent, '')
FROM control.budgets b
CROSS JOIN LATERAL (SELECT control.starts(b.period, control.today()) AS starts) n
CROSS JOIN LATERAL (
    SELECT coalesce(max(c.settled), 0) / 1e6::float8 AS spent, coalesce(max(c.reserved), 0) / 1e6::float8 AS reserved,
           coalesce(max(c.settled), 0) / 1e4::float8 / b.limit_micro AS percent
    FROM control.spending c
    WHERE c.tenant = b.tenant AND c.agent = b.agent AND c.period = b.period AND c.starts = n.starts
) s
WHERE (%(tenant)s::text IS NULL OR b.tenant = %(tenant)s) AND (%(agent)s::text IS NULL OR b.agent = %(agent)s)
  AND (%(period)s::text IS NULL OR b.period = %(period)s) AND s.percent >= %(least)s::float8
ORDER BY b.tenant, b.agent, b.period
LIMIT %(limit)s OFFSET %(offset)s;

-- name: history
-- What was spent in each period of budgets, the latest first.
SELECT s.tenant, s.period, s.starts, control.ends(s.period, s.starts), s.limit_micro, s.settled / 1e6::float8,
       s.reserved / 1e6::float8, s.settled / 1e4::float8 / s.limit_micro, nullif(s.agent, '')
FROM control.spending s
WHERE (%(tenant)s::text IS NULL OR s.tenant = %(tenant)s) AND (%(agent)s::text IS NULL OR s.agent = %(agent)s)
  AND (%(period)s::text IS NULL OR s.period = %(period)s)
ORDER BY s.starts DESC, s.tenant, s.agent, s.period
LIMIT %(limit)s OFFSET %(offset)s;

-- name: reached
-- How many budgets have reached which of these shares, the highest of each, in percent; 0 for none.
SELECT r.percent, count(*)
FROM control.budgets b
LEFT JOIN control.spending s ON s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                            AND s.starts = control.starts(b.period, control.today())
CROSS JOIN LATERAL (
    SELECT coalesce(max(p), 0) AS percent FROM unnest(%(percents)s::int[]) AS p
    WHERE p <= floor(coalesce(s.settled, 0) / 10000.0 / b.limit_micro)
) r
GROUP BY r.percent;
