-- name: all
-- Every model that has ever been current.
SELECT model, dims FROM control.models ORDER BY created_at;

-- name: retire
-- Whatever was current no longer is.
UPDATE control.models SET is_current = false WHERE is_current AND model <> %(model)s;

-- name: make_current
-- Make a model the current one.
INSERT INTO control.models (model, dims, is_current) VALUES (%(model)s, %(dims)s, true)
ON CONFLICT (model) DO UPDATE SET is_current = true;
