# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack that is started with ``--env-file .env.production``."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from plays import Plays
from stack import Stack

ENV = ".env.production"


class Production(Stack):
    def create(self):
        super().create()
        (self.directory / ".env").rename(self.directory / ENV)

    def compose(self, *arguments, timeout=120):
        return self.docker("compose", "--env-file", ENV, *arguments, timeout=timeout)

    @property
    def files(self):
        return sorted(path.name for path in self.directory.iterdir())

    @property
    def env(self):
        return {entry.key: entry.value for entry in dotenv.parse((self.directory / ENV).read_text())}


@pytest.fixture(scope="module")
def stack():
    with Production("test-another-env-file") as running:
        yield running


def test_what_cannot_be_separated_is_refused_before_anything_is_written(stack, tmp_path):
    plays = Plays(tmp_path / "inventory", stack.directory, secrets_compose_files=["docker-compose.yml"])
    before, env = stack.files, stack.env
    done = plays.run("provision.yml")
    assert done.returncode != 0
    assert (
        "postgres: its first-start variables are shared" in done.stdout and "${INIT_POSTGRES_PASSWORD}" in done.stdout
    )
    assert not plays.store_path.exists()
    assert [name for name in stack.files if name not in (".chat4all", *before)] == []
    assert stack.env == env


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    return Plays(tmp_path_factory.mktemp("inventory"), stack.directory)


@pytest.mark.parametrize("given", [{}, {"secrets_env_file": ENV}])
def test_it_is_provisioned_and_rotated_in_its_own_file(stack, plays, given):
    plays.variables.update(given)
    plays.write_inventory()
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    before = stack.env
    assert plays.store()["secrets_credentials"]["postgres"]["current"]["password"] == before["POSTGRES_PASSWORD"]
    done = plays.run("rotate-db.yml")
    assert done.returncode == 0, done.stdout
    current = plays.store()["secrets_credentials"]["postgres"]["current"]
    after = stack.env
    assert (after["POSTGRES_USER"], after["POSTGRES_PASSWORD"]) == (current["user"], current["password"])
    assert after["POSTGRES_PASSWORD"] != before["POSTGRES_PASSWORD"]
    assert after["INIT_POSTGRES_PASSWORD"] == before["INIT_POSTGRES_PASSWORD"]
    assert not (stack.directory / ".env").exists()
    override = yaml.safe_load((stack.directory / "docker-compose.override.yml").read_text())
    assert list(override["services"]) == ["postgres"]
    containers = {name: stack.containers(name) for name in (*stack.consumers, "postgres")}
    stack.compose("up", "-d")
    assert {name: stack.containers(name) for name in containers} == containers
    assert plays.run("status.yml").returncode == 0
