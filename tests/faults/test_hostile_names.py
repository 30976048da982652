# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and texts that are made to be misread: of folders, files and services, and in what programs print."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import moments
import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.first_start import merged
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from outcome import check_end, published
from stack import Stack

FOLDER = '-pro j\'ect "$(touch pwned)" `touch pwned` ; ${POSTGRES_PASSWORD} \\ é'
SECOND = "-sec ond 'file'.yml"

POSTGRES = """\
x-consumer: &consumer
  image: chat4all-test/consumer:1
  init: true
  stop_grace_period: 10s
  environment: &login
    SPRING_DATASOURCE_URL: jdbc:postgresql://postgres:5432/chat4all
    SPRING_DATASOURCE_USERNAME: ${POSTGRES_USER}
    SPRING_DATASOURCE_PASSWORD: ${POSTGRES_PASSWORD:?has to be set}
  healthcheck: &check
    test: [CMD, busybox, wget, -q, -O, /dev/null, "http://127.0.0.1:8080/health"]
    interval: 1s
    timeout: 5s
    retries: 10
  depends_on: {postgres: {condition: service_healthy}}

include:
  - path: "./-inc luded's/more.yml"

services:
  postgres:
    image: chat4all-test/postgres:17
    env_file: ["./-data base.env"]
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck:
      test: [CMD-SHELL, "pg_isready -q -h 127.0.0.1 -U chat4all -d chat4all"]
      interval: 1s
      start_period: 2m

  # An anchor, and a name that looks like an option.
  -d:
    <<: *consumer
    environment: {<<: *login, SERVICE_NAME: leading-dash}

  # A profile that is not in use at a plain `docker compose up`.
  a.b_c-D:
    <<: *consumer
    profiles: [extra]

  # Made of another file's.
  "1e3":
    extends: {file: "com'mon.yml", service: base}

  # Takes the whole file.
  whole-file:
    <<: *consumer
    env_file: [.env]

  # Given a file instead of a variable, and talks to the terminal.
  with-secret:
    <<: *consumer
    environment:
      SPRING_DATASOURCE_URL: jdbc:postgresql://postgres:5432/chat4all
      SPRING_DATASOURCE_USERNAME: ${POSTGRES_USER}
    secrets: [db_password]
    entrypoint:
      - sh
      - -c
      - |
        printf '\\033]0;owned\\007\\033[2J\\rROTATED  postgres   0 s\\r\\n'
        export SPRING_DATASOURCE_PASSWORD="$$(cat /run/secrets/db_password)"
        exec python3 -u /app/consumer.py serve

secrets:
  db_password: {environment: POSTGRES_PASSWORD}

volumes:
  data:
"""

CONSUMER = {
    "image": "chat4all-test/consumer:1",
    "init": True,
    "environment": {
        "SPRING_DATASOURCE_URL": "jdbc:postgresql://postgres:5432/chat4all",
        "SPRING_DATASOURCE_USERNAME": "${POSTGRES_USER}",
        "SPRING_DATASOURCE_PASSWORD": "${POSTGRES_PASSWORD}",
    },
    "healthcheck": {
        "test": ["CMD", "busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health"],
        "interval": "1s",
        "timeout": "5s",
        "retries": 10,
    },
}


class HostileStack(Stack):
    """A deployment that uses what Compose has to offer, under names that are made to be misread."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory=directory)
        self.consumers = ("-d", "1e3", "a.b_c-D", "included.one", "second", "whole-file", "with-secret")

    def create(self) -> None:
        self.down()
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        included = self.directory / "-inc luded's"
        included.mkdir()
        # The mark by which `down` knows a folder of ours.
        (self.directory / "haproxy.cfg").touch()
        (self.directory / "base.yml").write_text(POSTGRES)
        (self.directory / "com'mon.yml").write_text(yaml.safe_dump({"services": {"base": CONSUMER}}))
        (included / "more.yml").write_text(yaml.safe_dump({"services": {"included.one": CONSUMER}}))
        second = {"second": CONSUMER, "-d": {"labels": {"from": "another file"}}}
        (self.directory / SECOND).write_text(yaml.safe_dump({"services": second}))
        password = secrets.token_urlsafe(24)
        first = f"POSTGRES_USER=chat4all\nPOSTGRES_DB=chat4all\nPOSTGRES_PASSWORD={password}\n"
        (self.directory / "-data base.env").write_text(first)
        env = self.directory / ".env"
        env.touch(mode=0o600)
        env.write_text(
            f'COMPOSE_PROJECT_NAME={self.project}\nCOMPOSE_FILE="base.yml:{SECOND}"\n'
            f"export POSTGRES_USER=chat4all # as at first\nPOSTGRES_PASSWORD='{password}'\n"
        )

    def up(self, timeout: float = 120) -> None:
        # Some of its services do not say what they depend on.
        self.compose("up", "-d", "--wait", "postgres", timeout=timeout)
        self.compose("--profile", "extra", "up", "-d", "--wait", timeout=timeout)
        # The tables that its services read and write.
        [container] = self.containers("second")
        self.docker("exec", container, "python3", "/app/consumer.py", "migrate")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    with HostileStack("faults-hostile", folder / FOLDER) as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    return moments.provisioned(tmp_path_factory.mktemp("inventory"), stack, secrets_services={})


def test_a_whole_rotation_of_a_hostile_project(stack, plays, tmp_path_factory):
    old = published(stack)
    for _number in range(2):
        run = moments.run(plays)
        run.rotated()
        assert "\x1b" not in run.stdout
        assert "7/7 services" in run.stdout
    check_end(stack, plays, [old], others=["postgres"])
    env = (stack.directory / ".env").read_text()
    assert env.startswith(f"COMPOSE_PROJECT_NAME={stack.project}\nCOMPOSE_FILE=")
    assert re.search(r"(?m)^export POSTGRES_USER=('?)chat4all_\d\1 # as at first$", env)
    for folder in (stack.directory, plays.folder, Path.cwd()):
        assert not list(folder.rglob("pwned"))


def test_a_service_of_it_that_fails_says_nothing_to_the_terminal(stack, plays):
    old = published(stack)
    kept = plays.variables
    plays.variables = {**kept, "secrets_services": {"with-secret": {"failure_log": "ROTATED  postgres"}}}
    plays.write_inventory()
    try:
        run = moments.run(plays)
    finally:
        plays.variables = kept
        plays.write_inventory()
    # It is stopped first, and says the same when it goes back: that is left to the next run.
    run.stopped("with-secret failed", "ROTATED postgres 0 s")
    assert "\x1b" not in run.stdout
    assert "\nROTATED" not in run.stdout
    assert published(stack) == old
    [log] = (stack.directory / ".chat4all" / "runs").glob("*/with-secret.log")
    assert "\x1b" not in log.read_text()
    moments.run(plays).stopped("working")
    moments.run(plays).rotated()
    check_end(stack, plays, [old], others=["postgres"])


@pytest.mark.parametrize("folder", ["/srv/line\nbreak", "/srv/tab\ttab", '/srv/"quoted"'])
def test_another_projects_folder_may_have_any_name(tmp_path, folder):
    """All projects of an engine are looked through for the one that was started from a folder."""
    docker = DockerCli()
    mine = "com.docker.compose.project=chat4all-faults-label"
    label = f"com.docker.compose.project.working_dir={folder}"
    made = docker.run("create", f"--label={mine}", f"--label={label}", "chat4all-test/consumer:1").stdout.strip()
    try:
        with pytest.raises(SecretsError, match="no Compose file there"):
            Project.load(docker, str(tmp_path))
        (tmp_path / "compose.yml").write_text("services: {}")
        assert Project._running(docker, folder, None)["project"] == "chat4all-faults-label"
    finally:
        docker.run("rm", made)


@pytest.mark.parametrize("name", ["-d", 'we ird\'s "file"', "line\nbreak", "$(touch pwned)", "${PW}", "ünï", "a,b"])
def test_an_env_file_and_a_compose_file_may_have_any_name(tmp_path, name):
    (tmp_path / f"{name}.env").write_text("PW=the-value\n")
    service = {"image": "chat4all-test/consumer:1", "environment": {"PASSWORD": "${PW}"}}
    (tmp_path / f"{name}.yml").write_text(yaml.safe_dump({"services": {"a": service}}))
    project = Project.load(DockerCli(), str(tmp_path), [f"{name}.yml"], f"{name}.env", "chat4all-faults-names")
    assert project.services["a"].config["environment"] == {"PASSWORD": "the-value"}
    assert project.consumers(["PW"]) == {"PW": {"a"}}
    assert not list(tmp_path.glob("pwned"))


SAID = "\x1b]0;owned\x07\x1b[2J\x1b[31mROTATED\u202e postgres\x9b1m\b\x00 hunter2-hunter2"


def test_what_a_program_says_is_shown_without_what_a_terminal_obeys(tmp_path):
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "said").write_text(f"first line\r\n{SAID}\r\n")
    with pytest.raises(SecretsError) as caught:
        DockerCli(Masker(["hunter2-hunter2"]), str(program)).run("exec", "x")
    assert caught.value.message == "docker exec failed: ROTATED postgres ********".replace("docker", str(program), 1)


@pytest.mark.parametrize("name", ["null", "1e3", "-", "yes", "-d", "a.b", "postgres"])
def test_an_override_is_written_for_the_service_of_any_name(tmp_path, name):
    text = merged(
        str(tmp_path / "missing.yml"), name, {"environment": {"A": "${INIT_A}"}, "command": ["-x", "$INIT_A"]}
    )
    assert yaml.safe_load(text)["services"] == {name: {"environment": {"A": "${INIT_A}"}, "command": ["-x", "$INIT_A"]}}
