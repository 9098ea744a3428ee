-- name: reserve
-- Set aside what a call may cost at most, for the groups whose budgets allow it.
SELECT place, granted, budgeted, price, room, soon, resets_at
FROM control.reserve(%(id)s::uuid, %(model)s, %(tenants)s::text[], %(agents)s::text[], %(tokens)s::bigint[],
                     %(lives_s)s::float8);

-- name: settle
-- Turn a reservation into what the call came to.
SELECT control.settle(%(id)s::uuid, %(model)s, %(tenants)s::text[], %(agents)s::text[], %(requests)s::float8[],
                      %(failed)s::float8[], %(texts)s::int[], %(tokens)s::bigint[], %(saved_texts)s::int[],
                      %(saved_tokens)s::bigint[], %(sent)s::int, %(took_s)s::float8);

-- name: charge_one
-- Charge one reservation that ran out.
SELECT control.charge_one();
