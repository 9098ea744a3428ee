-- How the system does: what its processes say of themselves, how its duties end, and what came of looking at it all.

-- How a run of a duty ended; both are null while it runs, and for good where it broke off.
ALTER TABLE control.ticks
    ADD COLUMN outcome text CHECK (outcome IN ('done', 'failed', 'stopped')),   -- stopped: at the end of its slice
    ADD COLUMN detail  text,                      -- what it came to, or why it failed, in a line
    ADD COLUMN stop_at timestamptz;               -- when its slice ends; who has not ended by then hangs, or was killed

-- How far a duty got that goes through more than it can do in one slice.
CREATE TABLE control.places (
    duty  text NOT NULL,
    part  text NOT NULL,                          -- a shard, a node
    place jsonb NOT NULL,
    at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (duty, part)
);

-- What a process says every few seconds. Its counts begin with it.
CREATE TABLE control.processes (
    name       text PRIMARY KEY,                  -- host, pid, and a part that no other has had
    class      text NOT NULL,                     -- a class of workers, gateway, or beat
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    gauges     jsonb NOT NULL DEFAULT '{}',       -- how it is now
    counts     jsonb NOT NULL DEFAULT '{}'        -- what it has done
) WITH (fillfactor = 50);

-- The counts of processes that are gone, added up, so that sums over all processes never fall.
CREATE TABLE control.past_counts (
    class  text PRIMARY KEY,
    counts jsonb NOT NULL
);

-- Processes are gone: their rows go, their counts stay, in one transaction.
CREATE FUNCTION control.retire(gone text[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    retired int;
BEGIN
    LOCK TABLE control.past_counts IN SHARE ROW EXCLUSIVE MODE;   -- one at a time, and a sum sees both or neither
    WITH dropped AS (
        DELETE FROM control.processes WHERE name = ANY(gone) RETURNING class, counts
    ), added AS (
        SELECT class, key, sum(value::float8) AS value
        FROM (SELECT class, counts FROM dropped
              UNION ALL
              SELECT class, counts FROM control.past_counts WHERE class IN (SELECT class FROM dropped)) AS every
        CROSS JOIN LATERAL jsonb_each_text(every.counts)
        GROUP BY class, key
    ), kept AS (
        INSERT INTO control.past_counts (class, counts) SELECT class, jsonb_object_agg(key, value) FROM added GROUP BY class
        ON CONFLICT (class) DO UPDATE SET counts = EXCLUDED.counts
    )
    SELECT count(*) INTO retired FROM dropped;
    RETURN retired;
END $$;

-- Looks at the whole, kept for a week.
CREATE TABLE control.reports (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    score  int NOT NULL CHECK (score BETWEEN 0 AND 100),
    report jsonb NOT NULL,                        -- the components, their findings, what would help
    figures jsonb NOT NULL,                       -- what trends are seen in
    totals jsonb                                  -- what all processes had counted, for the differences; for an hour
);
CREATE INDEX reports_at ON control.reports (at);

-- What is wrong, from when it was seen until it was over. Told once when it begins or gets worse, and once when it is over.
CREATE TABLE control.incidents (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject    text NOT NULL,                     -- what it is about: a node, a duty, a class of processes
    component  text NOT NULL,                     -- the part of the system that it belongs to
    level      text NOT NULL CHECK (level IN ('warning', 'error', 'critical')),
    title      text NOT NULL,
    detail     text NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    told       text,                              -- the level that was told last, or 'over'
    tries      int NOT NULL DEFAULT 0,            -- how often it was tried to tell what is not told yet
    try_at     timestamptz NOT NULL DEFAULT now() -- nobody tries before
);
CREATE UNIQUE INDEX incidents_open ON control.incidents (subject) WHERE ended_at IS NULL;

-- What vacuum did, per table and kept for a week.
CREATE TABLE control.vacuums (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    node        text NOT NULL,
    shard       int,                              -- null: control's
    relation    text NOT NULL,                    -- a table, or an index
    action      text NOT NULL CHECK (action IN ('vacuum', 'analyze', 'reindex', 'drop')),
    why         text NOT NULL,                    -- which threshold was passed
    outcome     text NOT NULL CHECK (outcome IN ('done', 'stopped', 'failed')),
    ms          float8 NOT NULL,
    dead_before bigint NOT NULL DEFAULT 0,
    dead_after  bigint NOT NULL DEFAULT 0,
    bytes_before bigint NOT NULL DEFAULT 0,
    bytes_after  bigint NOT NULL DEFAULT 0
);

-- What was used of each model on days that are not kept any more, added up, so that sums over all time never fall.
CREATE TABLE control.past_usage (
    model        text PRIMARY KEY,
    requests     float8 NOT NULL,
    failed       float8 NOT NULL,
    texts        bigint NOT NULL,
    tokens       bigint NOT NULL,
    cost         bigint NOT NULL,
    saved_texts  bigint NOT NULL,
    saved_tokens bigint NOT NULL,
    saved_cost   bigint NOT NULL
);

-- The knobs that auto-tune has turned; the settings hold for the others.
CREATE TABLE control.knobs (
    knob   text PRIMARY KEY,
    value  float8 NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    by_hand boolean NOT NULL DEFAULT false         -- then auto-tune leaves it alone
);

-- Each turn of a knob: on trial until it is known whether it made things better.
CREATE TABLE control.tunings (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    knob          text NOT NULL,
    before        float8 NOT NULL,
    after         float8 NOT NULL,
    why           text NOT NULL,
    metric        text NOT NULL,                  -- what is to become better
    metric_before float8,                         -- null: it was set by hand
    metric_after  float8,
    state         text NOT NULL DEFAULT 'trial' CHECK (state IN ('trial', 'kept', 'taken back')),
    began_at      timestamptz NOT NULL DEFAULT now(),
    decided_at    timestamptz
);
CREATE UNIQUE INDEX tunings_trial ON control.tunings (state) WHERE state = 'trial';   -- one at a time
