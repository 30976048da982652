# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment whose database is elsewhere: provisioned, rotated under load, revoked, through its administrator."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from elsewhere import ADMIN, Elsewhere, docker
from outcome import check_unlocked, left_to_do, services_work, stored
from plays import Plays
from stack import Stack


class WithoutDatabase(Stack):
    """The services alone, on the network of a server that is no part of the project."""

    def __init__(self, name: str, server: Elsewhere) -> None:
        super().__init__(name)
        self.server = server

    def create(self):
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        del model["services"]["postgres"], model["volumes"]
        for service in model["services"].values():
            service.get("depends_on", {}).pop("postgres", None)
            environment = service.get("environment", {})
            if "SPRING_DATASOURCE_URL" in environment:
                environment["SPRING_DATASOURCE_URL"] = f"jdbc:postgresql://{self.server.address}:5432/chat4all"
                environment["LOGIN_INTERVAL"] = "0.1"
        model["networks"] = {"default": {"name": self.server.network, "external": True}}
        path.write_text(yaml.safe_dump(model, sort_keys=False))
        values = {
            "POSTGRES_PASSWORD": self.server.first["password"],
            "RDS_USER": self.server.admin["user"],
            "RDS_PASSWORD": self.server.admin["password"],
        }
        env = self.directory / ".env"
        env.write_text(dotenv.render(env.read_text(), values))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Elsewhere(tmp_path_factory.mktemp("tls"), "17", "deployment") as running:
        yield running


@pytest.fixture(scope="module")
def stack(server):
    with WithoutDatabase("test-address", server) as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, server, tmp_path_factory):
    address = {"host": server.address, "ca": str(server.folder / "ca.pem"), "database": "chat4all"}
    rds = {"variables": {"user": "RDS_USER", "password": "RDS_PASSWORD"}, "strategy": "single_user"}
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog={
            "database": {"engine": "postgresql", "address": address, "admin": "rds", "role": "chat4all", "grace": "1h"},
            "rds": {"engine": "postgresql", "address": {**address, "database": "postgres"}, **rds},
        },
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    assert not (stack.directory / "docker-compose.override.yml").exists(), "there is no server to be kept apart"
    return plays


def log_in(server: Elsewhere, login) -> str:
    """Log in over the network; returns ``accepted``, or why not."""
    connection = f"host={server.address} user={login.user} dbname=chat4all sslmode=require"
    command = ("exec", "-i", server.name, "psql", "-X", "-q", "-A", "-t", "-W", "-d", connection)
    done = docker(*command, stdin=f"{login.password}\nSELECT 'accepted'\n", check=False)
    return done.stdout.strip() or done.stderr


def test_what_the_administrator_lacks_is_told_before_anything_is_done(stack, server, plays):
    before, env = plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()
    server.sql(f"ALTER ROLE {ADMIN} NOCREATEROLE")
    for arguments in ((), ("--check",)):
        refused = plays.run("rotate.yml", "-e", "rotate=database", *arguments)
        text = " ".join(refused.stdout.split())
        assert refused.returncode != 0 and "admin: rds lacks on" in text and "Nothing was changed" in text, text
    server.sql(f"ALTER ROLE {ADMIN} CREATEROLE")
    assert (plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()) == (before, env)
    check_unlocked(stack.directory / ".chat4all")


def test_a_rotation_under_load_refuses_nobody_and_the_grace_ends_on_demand(stack, server, plays):
    old = stored(plays, credential="database")
    done = plays.run("rotate.yml", "-e", "rotate=database")
    assert done.returncode == 0, done.stdout
    text = " ".join(done.stdout.split())
    assert "refused logins not counted (the server's log is elsewhere)" in text, text
    new = stored(plays, credential="database")
    assert (old.user, new.user) == ("chat4all", "chat4all_1")
    assert (log_in(server, old), log_in(server, new)) == ("accepted", "accepted")
    assert "admin" not in plays.store()["secrets_credentials"]["database"], "the server has its own"
    services_work(stack)
    assert not left_to_do(stack)
    # Nobody can read the log, so we do.
    refusals = [line for line in server.log().splitlines() if "FATAL" in line]
    assert not refusals, refusals

    ended = plays.run("revoke.yml", "-e", "revoke=database", "-e", "end_grace=true")
    assert ended.returncode == 0 and "REVOKED  database" in ended.stdout, ended.stdout
    assert "password authentication failed" in log_in(server, old) or "not permitted to log in" in log_in(server, old)
    assert log_in(server, new) == "accepted"
    services_work(stack)
    assert [one["logins"]["refused"] for name in stack.consumers for one in stack.stats(name)] == [0, 0, 0]


def test_the_administrator_is_rotated_in_place_and_goes_on_to_serve(stack, server, plays):
    old = stored(plays, credential="rds")
    done = plays.run("rotate.yml", "-e", "rotate=rds")
    assert done.returncode == 0, done.stdout
    new = stored(plays, credential="rds")
    assert new.user == ADMIN and new.password != old.password
    env = dotenv.values((stack.directory / ".env").read_text())
    assert (env["RDS_USER"], env["RDS_PASSWORD"]) == new, "kept in step, because it was there"
    status = plays.run("status.yml")
    assert status.returncode == 0, status.stdout
    assert " ".join(status.stdout.split()).count("current=env=server") == 2
