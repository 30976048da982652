# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Consumers outside Compose: a file that a process reads, a person to confirm; and a Compose secret from a variable."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
import yaml
from outcome import stored
from plays import Plays
from stack import Stack

PERSON = {"name": "dba-laptop", "confirm": True}
READ_SECRET = (
    "SPRING_DATASOURCE_PASSWORD=$$(cat $$SPRING_DATASOURCE_PASSWORD_FILE) exec python3 -u /app/consumer.py serve"
)
# Has the job restarted, and waits until it has logged in; breaks once where it is told to.
RESTART = """\
if [ -e {folder}/break ]; then rm {folder}/break; cat {env}; kill -9 $$; fi
docker rm --force {name} >/dev/null 2>&1
docker run --detach --name {name} --network {network} --env-file {env} chat4all-test/consumer:1 || exit 1
until docker exec {name} busybox wget -q -O /dev/null http://127.0.0.1:8080/health; do sleep 0.2; done
"""


class Deployment(Stack):
    """The demo stack, whose user-service reads its password from a Compose secret, and a job beside it."""

    def create(self):
        super().create()
        self.write_compose({"environment": "POSTGRES_PASSWORD"})

    def write_compose(self, secret):
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        service = model["services"]["user-service"]
        service["environment"].pop("SPRING_DATASOURCE_PASSWORD", None)
        service["environment"]["SPRING_DATASOURCE_PASSWORD_FILE"] = "/run/secrets/db"
        service.update(entrypoint=["sh", "-c", READ_SECRET], secrets=["db"])
        model["secrets"] = {"db": secret}
        path.write_text(yaml.safe_dump(model, sort_keys=False))

    def job_users(self) -> set[str]:
        sql = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'backup'"
        return set(self.psql(sql).split())


class Job:
    """A process that Compose does not know, with an env file of its own."""

    def __init__(self, stack, folder):
        self.stack, self.folder = stack, folder
        self.name = f"{stack.project}-backup"
        self.env, self.script = folder / "db.env", folder / "restart.sh"
        network = f"{stack.project}_default"
        self.script.write_text(RESTART.format(folder=folder, env=self.env, name=self.name, network=network))
        password = re.search("^POSTGRES_PASSWORD=(.*)$", (stack.directory / ".env").read_text(), re.MULTILINE).group(1)
        self.env.write_text(self.text("chat4all", password))
        self.env.chmod(0o640)
        self.consumer = {
            "name": "backup-job",
            "file": str(self.env),
            "after": shlex.join(["sh", str(self.script)]),
            "timeout": 60,
            "variables": {"user": "SPRING_DATASOURCE_USERNAME", "password": "SPRING_DATASOURCE_PASSWORD"},
        }

    @staticmethod
    def text(user, password):
        return (
            "# read by docker run --env-file, which knows no quotes\n"
            f"SPRING_DATASOURCE_PASSWORD={password}\n"
            "SPRING_DATASOURCE_URL=jdbc:postgresql://postgres:5432/chat4all\n\n"
            f"SPRING_DATASOURCE_USERNAME={user}\nSERVICE_NAME=backup\n"
        )

    def start(self):
        subprocess.run(["sh", str(self.script)], check=True, timeout=60, capture_output=True)

    def stop(self):
        self.stack.docker("rm", "--force", self.name)


@pytest.fixture(scope="module")
def stack():
    with Deployment("test-outside") as running:
        yield running


@pytest.fixture(scope="module")
def job(stack, tmp_path_factory):
    job = Job(stack, tmp_path_factory.mktemp("backup"))
    try:
        job.start()
        yield job
    finally:
        job.stop()


@pytest.fixture(scope="module")
def plays(stack, job, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog={"postgres": {"consumers": [job.consumer, PERSON]}},
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 10},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


def said(done) -> str:
    return " ".join(done.stdout.split())


def quiet(done, *values) -> None:
    """Nothing of what was written shows a value."""
    assert [number for number, value in enumerate(values) if value in done.stdout] == []


def test_a_file_and_a_secret_from_a_variable_follow_and_a_person_is_waited_for(stack, job, plays):
    plan = plays.run("rotate-db.yml", "--check")
    text = said(plan)
    assert plan.returncode == 0, plan.stdout
    assert f"publish {job.env} on db1: SPRING_DATASOURCE_PASSWORD, SPRING_DATASOURCE_USERNAME" in text
    assert f"backup-job sh {job.script}"[:60] in text  # a line of the plan has 100 columns
    assert "by hand dba-laptop confirms old value ends: once confirmed" in text

    old = stored(plays)
    with stack.foreign_session(*old):  # the person's
        done = plays.run("rotate-db.yml", "-vvv")
    text = said(done)
    assert done.returncode == 0, done.stdout
    new = stored(plays)
    quiet(done, old.password, new.password)
    assert "may go on with chat4all until it ends" in text
    assert "4/4 services and 1/1 files on chat4all_1" in text and "refused logins 0" in text
    assert "To do: dba-laptop still has the old value; then: ansible-playbook chat4all.secrets.revoke" in text
    assert job.env.read_text() == job.text(*new) and job.env.stat().st_mode & 0o777 == 0o640
    assert stack.job_users() == {"chat4all_1"}
    secret = stack.docker("exec", stack.containers("user-service")[0], "cat", "/run/secrets/db")
    assert secret.strip() == new.password
    containers = {name: stack.containers(name) for name in (*stack.consumers, "postgres")}
    stack.compose("up", "-d")
    assert {name: stack.containers(name) for name in containers} == containers


def test_the_old_value_ends_when_the_person_has_confirmed_and_does_not_use_it(stack, plays):
    old = stored(plays, "previous")
    status = plays.run("status.yml")
    assert status.returncode != 0
    assert "TODO: dba-laptop still has the old value; then: revoke -e revoke=postgres -e confirmed=dba-laptop" in said(
        status
    )
    assert "4/4 services, 1/1 files" in said(status)
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "postgres: dba-laptop still has the old value; then:" in said(refused)

    with stack.foreign_session(*old):
        blocked = plays.run("revoke.yml", "-e", "revoke=postgres", "-e", "confirmed=dba-laptop")
    assert blocked.returncode != 0 and "chat4all is still used by" in said(blocked), blocked.stdout
    assert "revoked" not in plays.store()["secrets_credentials"]["postgres"]["previous"]
    # What was confirmed is remembered.
    done = plays.run("revoke.yml", "-e", "revoke=postgres")
    assert done.returncode == 0 and "old password refused over the network" in said(done), done.stdout


def test_a_command_that_is_killed_sends_everybody_back(stack, job, plays):
    before = stored(plays)
    (job.folder / "break").touch()
    done = plays.run("rotate-db.yml", "-vvv")
    text = said(done)
    pending = job.text(*before)  # what it had written was the new one; nothing of that is left
    assert done.returncode != 0 and "STOPPED postgres at roll out: backup-job failed: sh" in text, done.stdout
    assert "killed by signal 9: SERVICE_NAME=backup" in text
    assert "working: 5 of 5 back on the old, valid password" in text
    [log] = stack.directory.glob(".chat4all/runs/*/backup-job.log")
    assert "SPRING_DATASOURCE_PASSWORD=********" in log.read_text()
    quiet(done, before.password)
    assert stored(plays) == before and job.env.read_text() == pending
    assert stack.job_users() == {before.user}
    assert stack.psql("SELECT rolcanlogin FROM pg_authid WHERE rolname = 'chat4all_2'") == "f"


def test_what_does_not_agree_is_refused_before_anything_is_touched(stack, job, plays):
    kept = job.env.read_text()
    try:
        job.env.write_text(kept.replace(stored(plays).password, "by-hand"))
        drift = plays.run("rotate-db.yml", "--check")
        skipped = plays.run("rotate-db.yml", "--check", "-e", "skip_service=backup-job")
    finally:
        job.env.write_text(kept)
    assert drift.returncode != 0
    assert f"DRIFT postgres: {job.env} (backup-job) holds another SPRING_DATASOURCE_PASSWORD than the store" in said(
        drift
    )
    assert skipped.returncode == 0 and "skipped, it stays stale" in said(skipped), skipped.stdout

    (stack.directory / "db.txt").write_text(stored(plays).password)
    stack.write_compose({"file": "./db.txt"})
    refused = plays.run("rotate-db.yml", "--check")
    assert refused.returncode != 0
    assert f"user-service: has the password from the file {stack.directory}/db.txt (Compose secret db)" in said(refused)
    assert "secrets: {db: {environment: POSTGRES_PASSWORD}} in place of file:" in said(refused)
