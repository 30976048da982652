#!/usr/bin/env bash
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# One rotation with the Docker and psql commands that rotate-db.yml issues, start-first, in the same waves and with the same
# quiet times, and nothing else: no store, no lock, no way back, no resumption, nothing masked.
#   start_first.sh FOLDER PROJECT JOB 'SERVICE SERVICE ...' 'SERVICE ...'     (one argument per wave)
set -euo pipefail
cd "$1"
project=$2
job=$3
shift 3
owner=chat4all
quiet=${QUIET:-1}   # seconds without a failure in the logs, once healthy
settle=${SETTLE:-1} # seconds that the proxy has to find the new containers
drain=${DRAIN:-2}   # seconds without a session of the old user

fail() { echo "$*" >&2; exit 1; }
of() { docker ps "${@:2}" --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" -q; }
server=$(of postgres)
sql() { docker exec -i "$server" psql -X -q -t -A -v ON_ERROR_STOP=1 -U "$owner" -d chat4all; }
log_in() { # user password: over the network, as the consumers do
    printf '\\connect "host=postgres user=%s password=%s dbname=chat4all application_name=start_first.sh"\nSELECT current_user;\n' "$1" "$2" |
        docker exec -i "$server" psql -X -q -t -A -v ON_ERROR_STOP=1 -U "$owner" -d chat4all 2>&1
}
in_env() { sed -n "s/^$1=//p" .env | tail -n 1; }

# open
old_user=$(in_env POSTGRES_USER)
old_user=${old_user:-$owner}
old_password=$(in_env POSTGRES_PASSWORD)
[[ "$(log_in "$old_user" "$old_password")" == "$owner" ]] || fail "$old_user does not log in"
[[ -z "$(docker compose create --dry-run 2>&1 | grep -E ' (Recreate|Creating)$' || true)" ]] || fail "up -d would recreate something"

# create
new_user=${owner}_1
[[ "$old_user" == "$new_user" ]] && new_user=${owner}_2
new_password=$(openssl rand -hex 24)

# set
sql <<SQL
SET log_statement = none;
SELECT 'CREATE ROLE $new_user' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$new_user') \gexec
ALTER ROLE $new_user LOGIN PASSWORD '$new_password';
GRANT $owner TO $new_user WITH INHERIT TRUE, SET TRUE;
ALTER ROLE $new_user SET role = '$owner';
SQL

# test
[[ "$(log_in "$new_user" "$new_password")" == "$owner" ]] || fail "$new_user does not log in"

# publish
(umask 077; sed -E '/^POSTGRES_(USER|PASSWORD)=/d' .env > .env.new)
printf 'POSTGRES_USER=%s\nPOSTGRES_PASSWORD=%s\n' "$new_user" "$new_password" >> .env.new
sync .env.new
mv .env.new .env

# roll out: the one-shot job first, then wave after wave
docker compose create "$job" > /dev/null 2>&1
container=$(of "$job" --all)
docker start "$container" > /dev/null
[[ "$(docker wait "$container")" == 0 ]] || fail "$job failed"

for wave in "$@"; do
    read -ra services <<< "$wave"
    stale=() scale=()
    for service in "${services[@]}"; do
        mapfile -t running < <(of "$service")
        stale+=("${running[@]}")
        scale+=(--scale "$service=$((2 * ${#running[@]}))")
    done
    docker compose create --no-recreate "${scale[@]}" "${services[@]}" > /dev/null 2>&1
    fresh=()
    for service in "${services[@]}"; do
        mapfile -t created < <(of "$service" --all --filter status=created)
        fresh+=("${created[@]}")
    done
    docker start "${fresh[@]}" > /dev/null
    for _ in $(seq 480); do
        states=$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "${fresh[@]}")
        grep -qvE '^running (starting|healthy)$' <<< "$states" && fail "a new container of $wave failed"
        grep -qv ' healthy$' <<< "$states" || break
        sleep 0.25
    done
    grep -qv ' healthy$' <<< "$states" && fail "$wave did not get healthy"
    sleep "$quiet"
    for container in "${fresh[@]}"; do
        docker logs "$container" 2>&1 | grep -E 'password authentication failed' && fail "a login of $wave was refused"
    done
    sleep "$settle"
    printf '%s\n' "${stale[@]}" | xargs -P 16 -n 1 docker stop > /dev/null
    docker rm --force "${stale[@]}" > /dev/null
done
[[ -z "$(docker compose create --dry-run 2>&1 | grep -E ' (Recreate|Creating)$' || true)" ]] || fail "up -d would recreate something"

# drain
now() { echo "${EPOCHREALTIME/[.,]/}"; } # microseconds
idle_since=$(now)
until (($(now) - idle_since >= drain * 1000000)); do
    [[ "$(sql <<< "SELECT count(*) FROM pg_stat_activity WHERE usename = '$old_user' AND client_addr IS NOT NULL")" == 0 ]] || idle_since=$(now)
    sleep 0.25
done

# revoke: the image's own superuser keeps its socket, so it loses its password alone
nologin=$([[ "$old_user" == "$owner" ]] || echo NOLOGIN)
sql > /dev/null <<SQL
ALTER ROLE $old_user $nologin PASSWORD NULL;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '$old_user' AND client_addr IS NOT NULL;
SQL
[[ "$(log_in "$old_user" "$old_password" || true)" == *"password authentication failed"* ]] || fail "$old_user is not refused"
