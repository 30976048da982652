#!/usr/bin/env bash
# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# "Database Passwords (Zero-Downtime)" of the runbook that this project began with, step by step as it is printed there:
#   seed_procedure.sh FOLDER SERVER_CONTAINER SERVICE...
# Three things differ: "docker compose" is the Compose that exists today, "-t" is left out of "docker exec" since nobody
# sits at a terminal, and the password has none of the characters (/ and &) that break the sed line.
set -euo pipefail
cd "$1"
server=$2
shift 2
new_password=$(openssl rand -hex 24)

# Step 1: Add new password to .env (keep old one)
echo "POSTGRES_PASSWORD_NEW=$new_password" >> .env

# Step 2: Update PostgreSQL to accept both passwords
docker exec -i "$server" psql -U chat4all -c "ALTER USER chat4all WITH PASSWORD '$new_password';"

# Step 3: Update .env
sed -i "s/POSTGRES_PASSWORD=.*/POSTGRES_PASSWORD=$new_password/" .env

# Step 4: Restart services one by one
for service in "$@"; do
    docker compose up -d --no-deps --force-recreate "$service"
done

# Step 5: Verify all services connected successfully
docker compose ps
for service in "$@"; do
    application=$(sed -E 's/(^|-)(.)/\u\2/g' <<< "$service")Application
    # "up" returns when the container runs; who reads the log too early finds nothing and looks again.
    for _ in $(seq 120); do
        docker compose logs "$service" | grep "Started $application" && continue 2
        sleep 0.25
    done
    echo "$service did not log that $application started" >&2
    exit 1
done
