# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two credentials of one server: the same command finishes what it had begun before it begins anew."""

from __future__ import annotations

import secrets

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from outcome import stored
from plays import Plays
from stack import Stack

REPORTING = {
    "service": "postgres",
    "role": "reporting",
    "variables": {"user": "REPORTING_USER", "password": "REPORTING_PASSWORD"},
}


class TwoCredentials(Stack):
    """user-service also reports, under a login of its own; nothing shows that it works."""

    def create(self):
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        service = model["services"]["user-service"]
        service["environment"].update(
            {"REPORTING_USER": "${REPORTING_USER:-reporting}", "REPORTING_PASSWORD": "${REPORTING_PASSWORD}"}
        )
        del service["healthcheck"]
        model["services"]["api-gateway"]["depends_on"]["user-service"] = {"condition": "service_started"}
        path.write_text(yaml.safe_dump(model, sort_keys=False))
        with (self.directory / ".env").open("a") as env:
            env.write(f"REPORTING_PASSWORD={secrets.token_hex(16)}\n")


@pytest.fixture(scope="module")
def stack():
    with TwoCredentials("test-two-credentials") as running:
        password = dotenv.values((running.directory / ".env").read_text())["REPORTING_PASSWORD"]
        running.psql(f"CREATE ROLE reporting LOGIN PASSWORD '{password}'")
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog={"postgres": {}, "reporting": REPORTING},
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


def users(plays) -> dict[str, str]:
    return {name: entry["current"]["user"] for name, entry in plays.store()["secrets_credentials"].items()}


def test_a_name_that_the_catalog_lacks_is_refused_before_the_first_rotation(stack, plays):
    before = plays.store_path.read_bytes()
    done = plays.run("rotate.yml", "-e", "rotate=postgres,reportng", "-e", "accept_weak=true")
    assert done.returncode != 0, done.stdout
    assert "reportng: not in secrets_catalog; there are postgres, reporting" in " ".join(done.stdout.split())
    assert plays.store_path.read_bytes() == before


def test_the_unfinished_one_comes_first(stack, plays):
    env = stack.directory / ".env"
    with stack.foreign_session(*stored(plays, credential="reporting")):
        stopped = plays.run("rotate-db.yml", "-e", "accept_weak=true")
        assert stopped.returncode != 0 and "STOPPED  reporting at drain" in stopped.stdout, stopped.stdout
    assert users(plays) == {"postgres": "chat4all_1", "reporting": "reporting"}

    # As if it had been killed in roll out: user-service still has the old value.
    new = env.read_bytes()
    pending = stored(plays, "pending", "reporting")
    old = new.decode().replace(pending.password, stored(plays, credential="reporting").password)
    env.write_text(old.replace("reporting_1", "reporting"))
    stack.compose("up", "-d", "user-service")
    env.write_bytes(new)

    alone = plays.run("rotate.yml", "-e", "rotate=postgres", "-e", "accept_weak=true", "--check")
    assert alone.returncode != 0 and "finish the rotation of reporting (ansible-playbook" in " ".join(
        alone.stdout.split()
    ), alone.stdout

    done = plays.run("rotate-db.yml", "-e", "accept_weak=true")
    assert done.returncode == 0, done.stdout
    assert done.stdout.index("RESUME") < done.stdout.index("chat4all_1 logs in")
    assert users(plays) == {"postgres": "chat4all_2", "reporting": "reporting_1"}


def test_the_way_back_is_told_with_what_it_needs(stack, plays):
    before = stored(plays, credential="reporting")
    with stack.foreign_session(*before):
        stopped = plays.run("rotate.yml", "-e", "rotate=reporting", "-e", "accept_weak=true")
    text = " ".join(stopped.stdout.split())
    assert "Go back ansible-playbook chat4all.secrets.abort -e rotate=reporting -e accept_weak=true" in text, text
    refused = plays.run("abort.yml", "-e", "rotate=reporting")
    assert refused.returncode != 0 and "neither health check nor log pattern" in refused.stdout, refused.stdout
    done = plays.run("abort.yml", "-e", "rotate=reporting", "-e", "accept_weak=true")
    assert done.returncode == 0 and "ABORTED  reporting" in done.stdout, done.stdout
    assert stored(plays, credential="reporting") == before
    assert "pending" not in plays.store()["secrets_credentials"]["reporting"]
