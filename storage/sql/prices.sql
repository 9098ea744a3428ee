-- name: listed
-- What each model costs.
SELECT model, micro_per_million FROM control.prices ORDER BY model;

-- name: set_to
-- What a model costs from now on.
INSERT INTO control.prices (model, micro_per_million) VALUES (%(model)s, %(micro_per_million)s)
ON CONFLICT (model) DO UPDATE SET micro_per_million = EXCLUDED.micro_per_million, set_at = now();

-- name: remove
-- A model has no price any more.
DELETE FROM control.prices WHERE model = %(model)s RETURNING model;
