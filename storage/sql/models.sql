-- name: all
-- Every model that has ever been current.
SELECT model, dims FROM control.models ORDER BY created_at;

-- name: retire
-- Whatever was current no longer is.
UPDATE control.models SET is_current = false WHERE is_current AND model <> %(model)s;

-- name: make_current
-- Make a model the current one; whether all memories have been looked through for its vectors since. With
-- the first model there are none yet.
INSERT INTO control.models AS m (model, dims, is_current, backfilled_at)
VALUES (%(model)s, %(dims)s, true, CASE WHEN %(first)s THEN now() END)
ON CONFLICT (model) DO UPDATE SET is_current = true, backfilled_at = CASE WHEN m.is_current THEN m.backfilled_at END
RETURNING backfilled_at IS NOT NULL;

-- name: backfilled
-- All memories have been looked through for vectors of the current model.
UPDATE control.models SET backfilled_at = now() WHERE is_current AND model = %(model)s;
