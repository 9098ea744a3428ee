#!/bin/sh
# Run by the Postgres image when it makes a node's data directory: the extension, which only a superuser may make, and
# memlane's roles with the passwords of the secret files. `memlane migrate` makes the schemas and grants the rights.
# Run again, on the primary, it makes roles that are new and takes over passwords that have changed.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"
export PGOPTIONS="-c synchronous_commit=local"  # standbys that cannot log in yet confirm nothing

# The passwords are read by psql itself, so that they are in no list of processes and no log.
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set migrator `cat "$SECRETS/postgres_migrator"`
\set gateway `cat "$SECRETS/postgres_gateway"`
\set worker `cat "$SECRETS/postgres_worker"`
\set standby `cat "$SECRETS/postgres_standby"`

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['memlane_migrator', 'memlane_gateway', 'memlane_worker', 'memlane_standby']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- Owns the schemas: `memlane migrate`, and the upkeep worker, which builds indexes.
ALTER ROLE memlane_migrator LOGIN PASSWORD :'migrator';
ALTER DATABASE :"DBNAME" OWNER TO memlane_migrator;

ALTER ROLE memlane_gateway LOGIN PASSWORD :'gateway';
ALTER ROLE memlane_worker LOGIN PASSWORD :'worker';
REVOKE CONNECT, TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO memlane_gateway, memlane_worker;
-- The sweep ends sessions that stalled inside a transaction, whose ever they are.
GRANT pg_signal_backend, pg_read_all_stats TO memlane_worker;

-- With this one the standbys copy the primary, and follow it.
ALTER ROLE memlane_standby REPLICATION LOGIN PASSWORD :'standby';
SQL
