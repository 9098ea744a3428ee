-- name: rooms
-- The budgets that refuse, what is used of each in its period, and when that ends. Nobody has spent of one without a row.
SELECT b.tenant, b.agent, b.period, b.limit_micro, coalesce(s.settled + s.reserved, 0),
       control.ends(b.period, control.starts(b.period, control.today()))
FROM control.budgets b
LEFT JOIN control.spending s ON s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                            AND s.starts = control.starts(b.period, control.today())
WHERE b.at_limit = 'reject';

-- name: prices
-- What a million tokens of each model cost, in micro-dollars.
SELECT model, micro_per_million FROM control.prices;
