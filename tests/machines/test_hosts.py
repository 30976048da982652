# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One deployment on three hosts: one store, one lock, published on all or on none, rolled out host by host."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from machines import CONSUMERS, PROJECT
from moments import QUICK
from outcome import Login, stored

HOLD = """
import os, time, psycopg2
held = psycopg2.connect(host=os.environ["H"], dbname="chat4all", user=os.environ["U"], password=os.environ["P"])
print("connected", flush=True)
time.sleep(600)
"""


def flat(done) -> str:
    assert "Traceback" not in done.stdout, done.stdout
    return " ".join(done.stdout.split())


def everything(machines):
    """What a run that was refused must not have changed."""
    return {host: (machines.env(host), machines.identities(host)) for host in CONSUMERS}


@contextmanager
def stranger(machines, host, login):
    """A session of somebody who is no consumer, from one of the machines."""
    environment = f"-e H={machines.addresses['db1']} -e U={login.user} -e P={login.password}"
    options = f"--name stranger {environment} --entrypoint python3 chat4all-test/consumer:1"
    machines.run(host, f"docker run -d {options} -uc '{HOLD}'")
    try:
        machines.run(host, "until docker logs stranger 2>&1 | grep -q connected; do sleep 0.2; done")
        yield
    finally:
        machines.run(host, "docker rm -f stranger")


def test_provisioning_restarts_nothing_and_gives_each_host_what_it_needs(machines, plays):
    current = stored(plays)
    for host in CONSUMERS:
        assert machines.published(host) == current
        assert ("INIT_POSTGRES_PASSWORD" in machines.env(host).decode()) == (host == "db1"), host
    machines.check_end(plays)


def test_the_plan_names_every_host(machines, plays):
    before = everything(machines)
    done = plays.run("rotate-db.yml", "--check")
    assert done.returncode == 0, done.stdout
    text = flat(done)
    assert "server db1:postgres" in text
    for host, consumers in CONSUMERS.items():
        assert f"{PROJECT}/.env on {host}" in text
        assert all(f"{host}/{name}" in text for name in consumers), text
    assert everything(machines) == before


def test_a_part_of_the_hosts_is_refused(machines, plays):
    before = everything(machines)
    done = plays.run("rotate-db.yml", "--limit", "db1,app1")
    assert done.returncode != 0
    assert "--limit leaves out app2" in flat(done)
    assert everything(machines) == before


def test_a_file_that_one_host_cannot_write_is_written_on_none(machines, plays):
    before = everything(machines)
    # Nothing can take the place of a mount.
    machines.run("app2", f"mount --bind {PROJECT}/.env {PROJECT}/.env")
    try:
        done = plays.run("rotate-db.yml")
    finally:
        machines.run("app2", f"umount {PROJECT}/.env")
    assert done.returncode != 0
    text = flat(done)
    assert "STOPPED postgres at publish: app2: " in text, text
    assert "Nothing is locked out" in text
    assert everything(machines) == before
    machines.check_end(plays)


def test_no_login_is_refused_while_three_hosts_and_a_file_on_one_of_them_move(machines, plays):
    old = stored(plays)
    machines.run("app2", f"printf 'U=%s\\nP=%s\\n' {old.user} {old.password} > /etc/job.env")
    job = {"name": "job", "host": "app2", "file": "/etc/job.env", "variables": {"user": "U", "password": "P"}}
    kept = plays.variables["secrets_catalog"]
    plays.variables["secrets_catalog"] = {
        "postgres": {**kept["postgres"], "consumers": [{**job, "after": "cp /etc/job.env /etc/job.seen"}]}
    }
    plays.write_inventory()
    machines.log_in(Login("chat4all", "wrong"))
    before = machines.refused()
    said = plays.rotate()
    assert "refused logins 0" in said
    assert "4 files, on app1, app2, db1" in said
    assert re.search(r"app2\s+roll out\s+job: cp /etc/job.env /etc/job.seen", said)
    new = stored(plays)
    assert machines.run("app2", "cat /etc/job.seen").split() == [f"U={new.user}", f"P={new.password}"]
    plays.variables["secrets_catalog"] = kept
    plays.write_inventory()
    assert "4 of 4 on" in said or "behind app1 (one of" in said, said
    ours = machines.refused() - before
    machines.log_in(Login("chat4all", "wrong"))
    assert machines.refused() == before + ours + 1, "a refused login is not seen"
    assert ours == 0, f"{ours} refused logins"
    machines.check_end(plays, [old])


def test_a_session_of_the_old_value_is_told_by_its_host_and_the_way_back_is_open(machines, plays):
    old = stored(plays)
    with stranger(machines, "app2", old):
        done = plays.run("rotate-db.yml")
        assert "STOPPED postgres at drain" in flat(done), done.stdout
        assert f"{old.user} is still used by app2/billing" in flat(done)
        assert "-e end_sessions=true" in flat(done)
        back = plays.run("abort.yml", "-e", "rotate=postgres")
        assert back.returncode == 0 and "ABORTED postgres" in flat(back), back.stdout
    assert stored(plays) == old
    machines.check_end(plays)


def test_a_host_that_cannot_be_reached_stops_the_run_before_it_begins(machines, plays):
    before, store = everything(machines), plays.store_path.read_bytes()
    machines.cut("app2")
    try:
        done = plays.run("rotate-db.yml")
    finally:
        machines.mend("app2")
    assert done.returncode == 4, done.stdout
    assert "STOPPED before create: app2 unreachable" in flat(done)
    assert "Nothing was changed" in flat(done)
    assert everything(machines) == before
    assert plays.store_path.read_bytes() == store


def test_sessions_that_nobody_uses_are_ended_where_asked(machines, plays):
    old = stored(plays)
    with stranger(machines, "app2", old):
        said = plays.rotate("-e", "end_sessions=true")
        assert "its sessions end at revoke" in said
        assert machines.run("app2", "docker logs stranger 2>&1").count("connected") == 1
        assert not machines.psql(
            f"SELECT pid FROM pg_stat_activity WHERE usename = '{old.user}' AND client_addr IS NOT NULL"
        )
    machines.check_end(plays, [old])


def test_a_service_that_was_skipped_on_one_host_keeps_the_old_value_valid_until_it_is_revoked(machines, plays):
    old = stored(plays)
    said = plays.rotate("-e", "skip_service=billing")
    assert "app2/billing keeps the old value" in said
    assert machines.log_in(old) == "accepted"
    status = plays.run("status.yml")
    assert status.returncode != 0 and "3/4 services" in flat(status), status.stdout
    refused = plays.run("revoke.yml")
    assert refused.returncode != 0 and "docker compose up -d billing on app2" in flat(refused), refused.stdout
    machines.compose("app2", "up", "-d", "--wait", "billing")
    done = plays.run("revoke.yml")
    assert done.returncode == 0 and "REVOKED postgres" in flat(done), done.stdout
    machines.check_end(plays, [old])
    status = plays.run("status.yml")
    assert status.returncode == 0 and "current=env=server; 4/4 services" in flat(status), status.stdout
    assert "lock: none" in status.stdout and "ledger: intact" in status.stdout


TOKENS = "/srv/tokens"
# The inventory's first host has the one that signs.
VERIFIERS = {"app1": "auth", "app2": "chat", "db1": "mail"}


def verifier(name):
    """A service that is given what it verifies tokens with, and ``auth`` what it signs them with."""
    environment = {"JWT_JWKS": "${JWT_JWKS}"}
    if name == "auth":
        environment |= {"JWT_SIGNING_KEY": "${JWT_SIGNING_KEY}", "JWT_KEY_ID": "${JWT_KEY_ID}"}
    return {
        "image": "chat4all-test/consumer:1",
        "entrypoint": ["busybox", "sleep", "100000"],
        "init": True,
        "environment": environment,
        "healthcheck": {"test": ["CMD", "true"], "interval": "1s"},
    }


def test_nobody_signs_with_a_key_before_all_hosts_verify_with_it(machines, tmp_path):
    for host, name in VERIFIERS.items():
        text = yaml.safe_dump({"services": {name: verifier(name)}})
        machines.run(host, f"mkdir -p {TOKENS} && umask 077 && cat > {TOKENS}/docker-compose.yml", stdin=text)
        machines.run(host, f"umask 077 && echo COMPOSE_PROJECT_NAME=tokens > {TOKENS}/.env")
    catalog = {"jwt": {"algorithm": "ES256", "overlap": "1h"}}
    plays = machines.plays(tmp_path, secrets_project_dir=TOKENS, secrets_catalog=catalog, **QUICK)

    def play(*arguments):
        done = plays.run(*arguments)
        assert done.returncode == 0, done.stdout
        return flat(done)

    def seen():
        """By service: when it began, with which key it signs, and by how many it verifies."""
        found = {}
        for host, name in VERIFIERS.items():
            identity = machines.run(host, f"cd {TOKENS} && docker compose ps -q {name}").strip()
            [facts] = json.loads(machines.run(host, f"docker inspect {identity}"))
            env = dict(pair.split("=", 1) for pair in facts["Config"]["Env"])
            keys = {key["kid"] for key in json.loads(env["JWT_JWKS"])["keys"]}
            found[name] = (facts["State"]["StartedAt"], env.get("JWT_KEY_ID"), keys)
        return found

    try:
        play("provision.yml")
        for host in VERIFIERS:
            machines.run(host, f"cd {TOKENS} && docker compose up -d --wait 2>&1")
            env = dotenv.values(machines.run(host, f"cat {TOKENS}/.env"))
            assert ("JWT_SIGNING_KEY" in env) == (host == "app1"), host
        old = seen()["auth"][1]
        plan = play("rotate-jwt.yml", "-e", "jwt_phase=introduce", "--check")
        assert f"{TOKENS}/.env on app1: JWT_JWKS, JWT_KEY_ID, JWT_SIGNING_KEY" in plan, plan
        assert f"{TOKENS}/.env on app2: JWT_JWKS publish {TOKENS}/.env on db1: JWT_JWKS roll out" in plan, plan
        assert "INTRODUCED jwt" in play("rotate-jwt.yml", "-e", "jwt_phase=introduce")
        introduced = seen()
        new = plays.store()["secrets_credentials"]["jwt"]["next"]["user"]
        assert [one[1:] for one in introduced.values()] == [
            (old, {old, new}),
            (None, {old, new}),
            (None, {old, new}),
        ]
        # Who signs comes last, on whichever host it is.
        assert introduced["auth"][0] == max(one[0] for one in introduced.values())
        assert "PROMOTED jwt" in play("rotate-jwt.yml", "-e", "jwt_phase=promote")
        promoted = seen()
        assert promoted["auth"][1:] == (new, {old, new})
        assert all(promoted[name] == introduced[name] for name in ("chat", "mail"))
    finally:
        for host in VERIFIERS:
            machines.run(host, f"cd {TOKENS} && docker compose down --timeout 1 2>&1", check=False)
