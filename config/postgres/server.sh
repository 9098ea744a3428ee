#!/bin/sh
# The entry of each server of a node, in front of the Postgres image's own. A server with data starts as what it is,
# unless another has taken its place as primary. One without data copies the node's primary; if the node was never made,
# its first server goes on, and the image makes it.
#
# SERVER is its name, SERVERS the names of all servers of the node, the first one first, OTHERS the hosts and ports of the
# others. LINEUP is a directory that they share: the file `primary` in it names the server that was made or promoted last.
# Without that an empty server could not tell a new node from one whose primary is away for a moment.
set -eu
here="$(dirname "$0")"
export SECRETS="${SECRETS:-/run/secrets}"
primary="postgresql://memlane_standby@$OTHERS/postgres?target_session_attrs=primary&connect_timeout=2"
copying=""
trap '[ -z "$copying" ] || kill "$copying"; exit 1' INT TERM  # a shell that is the first process ignores them otherwise

say() { echo "$SERVER: $*" >&2; }

# as_standby COMMAND: run it with the password, which is in no list of processes.
as_standby() { PGPASSWORD="$(cat "$SECRETS/postgres_standby")" "$@"; }

# Whether one of the others is the primary; if not, what they said is in $said.
look() { said="$(as_standby psql --no-psqlrc --no-password --dbname "$primary" --command "SELECT 1" 2>&1)"; }

# Whether the node was never made, and this is the server that makes it.
begins() { [ "$SERVER" = "${SERVERS%% *}" ] && [ ! -e "$LINEUP/primary" ]; }

# Wait for a primary; there is none to be waited for if it is this server that begins.
await() {
    looked=0
    until look; do
        looked=$((looked + 1))
        if [ "$looked" -ge 3 ] && begins; then return 1; fi
        [ $((looked % 15)) -ne 1 ] || say "waits for a primary among $OTHERS: $(echo "$said" | grep -m 1 error)"
        sleep 1
    done
}

# Copy the primary: beside the place where the data belongs, so that half a copy is never taken for it.
copy() {
    say "copies the primary"
    [ ! -e "$PGDATA" ] || rmdir "$PGDATA"
    rm -rf "$PGDATA.copy"
    mkdir -p "$(dirname "$PGDATA")"
    as_standby pg_basebackup --dbname "$primary" --pgdata "$PGDATA.copy" --wal-method stream --checkpoint fast \
        --no-password &
    copying=$!
    wait "$copying"
    touch "$PGDATA.copy/standby.signal"
    mv "$PGDATA.copy" "$PGDATA"
}

# End if another server has been made the primary: what this one has may differ from what the others have.
yield_to_another() {
    if [ -e "$LINEUP/primary" ] && [ "$(cat "$LINEUP/primary")" != "$SERVER" ]; then
        say "$(cat "$LINEUP/primary") has taken its place as primary: remove this server's volume, and it copies that one"
        exit 1
    fi
    if look; then
        say "there is another primary among $OTHERS: remove the volume of the one that is to follow the other"
        exit 1
    fi
}

# The image goes on as another user, who writes down that the node was made; nobody else has this directory.
[ "$(id -u)" -ne 0 ] || chmod 777 "$LINEUP"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if await; then copy; fi
elif [ ! -e "$PGDATA/standby.signal" ]; then
    yield_to_another
fi
[ ! -s "$PGDATA/PG_VERSION" ] || "$here/settings.sh"
exec docker-entrypoint.sh "$@"
