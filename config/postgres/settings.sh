#!/bin/sh
# Writes what a server is told of the others of its node, be it the primary or not, so that it may become either. Run when
# the Postgres image has made a node's data directory, and by server.sh at each start.
#
# It is a file, and no options of the command: the server that the image starts for a moment to make the roles would wait
# for standbys, and what an operator has to change at once (ALTER SYSTEM, pg_reload_conf) has to be stronger.
set -eu
umask 077
SECRETS="${SECRETS:-/run/secrets}"

confirmed_by=""
if [ "${STANDBYS_CONFIRM:-1}" -gt 0 ]; then
    confirmed_by="ANY $STANDBYS_CONFIRM ($(echo "$SERVERS" | sed 's/[^ ][^ ]*/"&"/g; s/ /, /g'))"
fi

printf '*:*:*:memlane_standby:%s\n' "$(sed 's/[\\:]/\\&/g' "$SECRETS/postgres_standby")" > "$PGDATA/memlane.pgpass"

# A standby calls itself by its cluster_name.
cat > "$PGDATA/memlane.conf.new" <<CONF
# Made anew at each start.
cluster_name = '$SERVER'
shared_buffers = '$SHARED_BUFFERS'
primary_conninfo = 'postgresql://memlane_standby@$OTHERS/postgres?target_session_attrs=primary&connect_timeout=2&passfile=$PGDATA/memlane.pgpass'
synchronous_standby_names = '$confirmed_by'
CONF
mv "$PGDATA/memlane.conf.new" "$PGDATA/memlane.conf"

# ensure FILE LINE: add a line unless it is there.
ensure() { grep -qxF "$2" "$PGDATA/$1" || printf '\n%s\n' "$2" >> "$PGDATA/$1"; }

ensure postgresql.conf "include 'memlane.conf'"
ensure pg_hba.conf "host replication memlane_standby all scram-sha-256"

# A standby never writes itself down: if the line-up was lost, the primary does when it starts.
[ -e "$PGDATA/standby.signal" ] || [ -e "$LINEUP/primary" ] || echo "$SERVER" > "$LINEUP/primary"
