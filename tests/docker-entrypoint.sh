#!/bin/sh
# Stands in for the entry of the Postgres image on a machine without it, as far as a node's servers see it. On an empty data
# directory: initdb, a server with the command's options on its socket alone, the database, the scripts. Then the command.
# Root goes on as the user RUN_AS, to whom it gives the data directory.
set -eu
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    find "$PGDATA" ! -user "$RUN_AS" -exec chown "$RUN_AS" '{}' +
    # The signal for orphans is forgotten with the user.
    exec setpriv --reuid "$RUN_AS" --regid "$(id -g "$RUN_AS")" --clear-groups --pdeathsig INT "$0" "$@"
fi
here="-cunix_socket_directories=$PGHOST"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # shellcheck disable=SC2086  # arguments
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 \
        --no-instructions --no-sync $POSTGRES_INITDB_ARGS
    # In the image the other containers get in with a password, but for replication: that is for this host alone. Here all
    # servers are on this host.
    sed -i '/replication/d' "$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait --options="$(shift; echo "$*") $here -clisten_addresses=" start
    psql --quiet --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE $POSTGRES_DB"
    for script in "$SCRIPTS"/*.sh; do "$script"; done
    pg_ctl --silent --wait --mode=fast stop
fi
exec "$@" "$here" -clisten_addresses=127.0.0.1
