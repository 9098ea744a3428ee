-- name: prepare_schema
-- The schema itself.
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: prepare_record
-- The record of what was applied to it.
CREATE TABLE IF NOT EXISTS {schema}.migrations (
    scope      text NOT NULL,          -- control, shard, or the table of a model
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name)
);

-- name: done
-- What was applied before.
SELECT name FROM {schema}.migrations WHERE scope = %(scope)s;

-- name: record
-- Note a migration, in its own transaction.
INSERT INTO {schema}.migrations (scope, name) VALUES (%(scope)s, %(name)s);
