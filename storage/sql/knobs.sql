-- name: known
-- The knobs that were turned, and whether by hand.
SELECT knob, value, by_hand FROM control.knobs;

-- name: begin_trial
-- Turn a knob and put that on trial, unless another is, or it was set by hand; the number of the trial.
WITH begun AS (
    INSERT INTO control.tunings (knob, before, after, why, metric, metric_before)
    SELECT %(knob)s, %(before)s, %(after)s, %(why)s, %(metric)s, %(metric_before)s
    WHERE NOT EXISTS (SELECT FROM control.knobs WHERE knob = %(knob)s AND by_hand)
    ON CONFLICT (state) WHERE state = 'trial' DO NOTHING
    RETURNING number, knob, after
), turned AS (
    INSERT INTO control.knobs AS k (knob, value) SELECT knob, after FROM begun
    ON CONFLICT (knob) DO UPDATE SET value = EXCLUDED.value, set_at = now() WHERE NOT k.by_hand
)
SELECT number FROM begun;

-- name: trial
-- The turn that is on trial.
SELECT number, knob, before, after, why, metric, metric_before, extract(epoch FROM now() - began_at)::float8
FROM control.tunings WHERE state = 'trial';

-- name: decide
-- Keep a turn, or take it back.
WITH decided AS (
    UPDATE control.tunings SET state = %(state)s, metric_after = %(metric_after)s, decided_at = now()
    WHERE number = %(number)s AND state = 'trial'
    RETURNING knob, before, state
), back AS (
    UPDATE control.knobs k SET value = d.before, set_at = now() FROM decided d
    WHERE d.state = 'taken back' AND k.knob = d.knob AND NOT k.by_hand
)
SELECT count(*) FROM decided;

-- name: in_vain
-- Turns that were taken back within a day.
SELECT knob, after FROM control.tunings WHERE state = 'taken back' AND decided_at > now() - interval '1 day';

-- name: set
-- Set a knob by hand, or give it back to the settings; what is on trial with it is over.
WITH over AS (
    UPDATE control.tunings SET state = 'taken back', decided_at = now() WHERE knob = %(knob)s AND state = 'trial'
), noted AS (
    INSERT INTO control.tunings (knob, before, after, why, metric, state, decided_at)
    VALUES (%(knob)s, %(before)s, %(after)s, %(why)s, 'none', 'kept', now())
), gone AS (
    DELETE FROM control.knobs WHERE knob = %(knob)s AND NOT %(by_hand)s::boolean
)
INSERT INTO control.knobs (knob, value, by_hand) SELECT %(knob)s, %(after)s, true WHERE %(by_hand)s::boolean
ON CONFLICT (knob) DO UPDATE SET value = EXCLUDED.value, by_hand = true, set_at = now();

-- name: history
-- The turns of knobs, the latest first.
SELECT knob, before, after, why, metric, state, began_at, metric_before, metric_after, decided_at
FROM control.tunings ORDER BY number DESC LIMIT %(limit)s;
