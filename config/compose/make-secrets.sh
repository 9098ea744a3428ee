#!/bin/sh
# Makes the secret files that docker-compose.yml names, with random passwords, in ./secrets or the directory given.
# A file that is there is left alone, so that it can be run again after an upgrade.
#
# Compose mounts each file as it is, and the processes in the containers run as other users than you: so the files may
# be read by all, and the directory entered by you alone.
set -eu
umask 077
folder="${1:-secrets}"
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME VALUE: write a secret unless it is there.
keep() {
    [ -e "$1" ] && return
    printf '%s\n' "$2" > "$1.new"
    chmod 644 "$1.new"
    mv "$1.new" "$1"
}

for role in superuser migrator gateway worker standby; do keep "postgres_$role" "$(random 24)"; done
# A node's address names all its servers: whoever connects finds the primary among them.
for role in migrator gateway worker; do
    login="postgresql://memlane_$role:$(cat "postgres_$role")"
    first="$login@node-1:5432,node-1-b:5432,node-1-c:5432/memlane"
    second="$login@node-2:5432,node-2-b:5432,node-2-c:5432/memlane"
    keep "nodes_$role" "{\"node-1\": \"$first\", \"node-2\": \"$second\"}"
done
for server in broker cache; do
    keep "redis_$server" "requirepass $(random 24)"
    keep "${server}_url" "redis://:$(cut -d' ' -f2 "redis_$server")@$server:6379/0"
done
keep flower_password "$(random 24)"
keep grafana_password "$(random 24)"
keep admin_key "mlk_$(random 6)_$(random 24)"
keep openai_api_key ""
keep alert_urls "[]"
