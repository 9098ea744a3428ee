#!/bin/sh
# Makes a standby the primary of its node: `docker compose stop node-1`, then
# `docker compose exec node-1-b /memlane/promote.sh`. It refuses while a primary answers, and if another standby has more,
# or may have it because it does not answer; --may-lack overrides only the latter.
set -eu
SECRETS="${SECRETS:-/run/secrets}"
has="greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"

fail() { echo "$SERVER is not promoted: $*" >&2; exit 1; }

own() { psql --no-psqlrc --no-align --tuples-only --username "$POSTGRES_USER" --dbname postgres --command "$1"; }

# ask SERVER STATEMENT: of another server.
ask() {
    PGPASSWORD="$(cat "$SECRETS/postgres_standby")" psql --no-psqlrc --no-password --no-align --tuples-only \
        --dbname "postgresql://memlane_standby@$1/postgres?connect_timeout=2" --command "$2" 2> /dev/null
}

[ "$(own "SELECT pg_is_in_recovery()")" = t ] || fail "it is no standby"
# Until a standby has read its own log and asks a primary for more, it has received nothing, and does not know what it has.
mine="$(own "SELECT $has WHERE pg_last_wal_receive_lsn() IS NOT NULL")"
[ -n "$mine" ] || fail "it still reads its own log: try again in a moment"
silent=""
for other in $(echo "$OTHERS" | tr , ' '); do
    case "$(ask "$other" "SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'primary' WHEN pg_last_wal_receive_lsn() IS NULL THEN 'silent' WHEN $has > '$mine' THEN 'more' ELSE 'enough' END")" in
        primary) fail "$other is the primary, and answers: stop it first" ;;
        more) fail "$other has something that it lacks: promote that one" ;;
        enough) ;;
        *) silent="$silent $other" ;;
    esac
done
# One is silent in any case: the primary that is lost. What was confirmed is on the disk of at least one standby.
if [ "$(echo "$silent" | wc -w)" -gt 1 ] && [ "${1:-}" != --may-lack ]; then
    fail "none of$silent answers: a standby among them may have something that was confirmed and that it lacks"
fi

# First who it is, so that the former primary does not start again beside it.
echo "$SERVER" > "$LINEUP/primary.new"
mv "$LINEUP/primary.new" "$LINEUP/primary"
sync "$LINEUP/primary" "$LINEUP"
[ "$(own "SELECT pg_promote(true, 60)")" = t ] || fail "see its log"
echo "$SERVER is the primary"
