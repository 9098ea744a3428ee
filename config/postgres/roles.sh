#!/bin/sh
# Run by the Postgres image when it makes a node's data directory: the extension, which only a superuser may make, and
# memlane's three roles with the passwords of the secret files. `memlane migrate` makes the schemas and grants the rights.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"

# The passwords are read by psql itself, so that they are in no list of processes and no log.
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set migrator `cat "$SECRETS/postgres_migrator"`
\set gateway `cat "$SECRETS/postgres_gateway"`
\set worker `cat "$SECRETS/postgres_worker"`

CREATE EXTENSION IF NOT EXISTS vector;

-- Owns the schemas: `memlane migrate`, and the upkeep worker, which builds indexes.
CREATE ROLE memlane_migrator LOGIN PASSWORD :'migrator';
ALTER DATABASE :"DBNAME" OWNER TO memlane_migrator;

CREATE ROLE memlane_gateway LOGIN PASSWORD :'gateway';
CREATE ROLE memlane_worker LOGIN PASSWORD :'worker';
REVOKE CONNECT, TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO memlane_gateway, memlane_worker;
-- The sweep ends sessions that stalled inside a transaction, whose ever they are.
GRANT pg_signal_backend, pg_read_all_stats TO memlane_worker;
SQL
