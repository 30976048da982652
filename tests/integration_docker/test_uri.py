# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services that get their login within a URI: it is rotated there, and nothing else in the URI changes."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv, uris
from outcome import left_to_do, log_in, services_work, stored
from plays import Plays
from stack import Stack

# Every reserved character, and what a .env file has to quote.
OLD = "p@s/s:w%r?d#&=+$x';~"
ENCODED = "p%40s%2fs%3Aw%25r%3Fd%23%26%3D%2B%24x%27%3b~"
URLS = {
    "DATABASE_URL": f"postgresql://chat4all:{ENCODED}@postgres:5432,postgres:5432/chat4all?connect_timeout=5&options=%2dc%20x.y%3d1",
    "JDBC_URL": f"jdbc:postgresql://postgres/chat4all?user=chat4all&connect_timeout=5&password={ENCODED}",
}
# libpq itself reads the URI.
START = """
import os, runpy, psycopg2.extensions
given = psycopg2.extensions.parse_dsn(os.environ["URL"].removeprefix("jdbc:"))
os.environ.update(SPRING_DATASOURCE_USERNAME=given["user"], SPRING_DATASOURCE_PASSWORD=given["password"])
runpy.run_path("/app/consumer.py", run_name="__main__")
"""
VARIABLES = {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD", "uri": sorted(URLS)}


class WithUris(Stack):
    """message-service and user-service have a URI each; the others user name and password."""

    def create(self):
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        for name, variable in (("message-service", "DATABASE_URL"), ("user-service", "JDBC_URL")):
            service = model["services"][name]
            service["entrypoint"] = ["python3", "-uc", START.replace("$", "$$"), "serve"]
            service["environment"] = {
                "SERVICE_NAME": name,
                "SPRING_DATASOURCE_URL": "jdbc:postgresql://postgres:5432/chat4all",
                "URL": f"${{{variable}}}",
            }
        path.write_text(yaml.safe_dump(model, sort_keys=False))
        env = self.directory / ".env"
        env.write_text(dotenv.render(env.read_text(), {"POSTGRES_PASSWORD": OLD, **URLS}))


@pytest.fixture(scope="module")
def stack():
    with WithUris("test-uri") as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog={"postgres": {"variables": VARIABLES}},
        rotate_rollout={"quiet": 0.3, "settle": 0.3},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    before = env(stack)
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    assert {name: env(stack)[name] for name in URLS} == {name: before[name] for name in URLS}
    return plays


def env(stack) -> dict[str, str]:
    return dotenv.values((stack.directory / ".env").read_text())


def check(stack, plays) -> None:
    """Assert that every variable holds the stored login, which works, and that nothing else in a URI has changed."""
    login, found = stored(plays), env(stack)
    assert (found["POSTGRES_USER"], found["POSTGRES_PASSWORD"]) == login
    for name, before in URLS.items():
        after = uris.parse(found[name], name)
        assert (after.user, after.password) == login
        assert after.template == uris.parse(before, name).template
    assert log_in(stack, login) == "accepted"
    services_work(stack)
    assert not left_to_do(stack)


def test_a_rotation_that_goes_back_puts_the_old_login_back_into_each_uri(stack, plays):
    stack.plant_fault("user-service", "exit")
    stopped = plays.run("rotate-db.yml")
    assert stopped.returncode != 0 and "4 of 4 back on the old, valid password" in stopped.stdout, stopped.stdout
    stack.plant_fault("user-service", None)
    assert stored(plays) == ("chat4all", OLD)
    check(stack, plays)


def test_the_login_within_each_uri_is_rotated_with_user_name_and_password(stack, plays):
    old = stored(plays)
    text = plays.rotate()
    assert "refused logins 0" in text and "4/4 services on chat4all_1" in text, text
    check(stack, plays)
    assert "password authentication failed" in log_in(stack, old)
    assert OLD not in text and ENCODED not in text and stored(plays).password not in text


def test_another_parameter_is_no_drift_and_another_password_is(stack, plays, monkeypatch):
    path = stack.directory / ".env"
    monkeypatch.setitem(URLS, "DATABASE_URL", URLS["DATABASE_URL"].replace("connect_timeout=5", "connect_timeout=7"))
    path.write_text(path.read_text().replace("5&options", "7&options"))
    stack.compose("up", "-d")
    stack.wait()
    status = plays.run("status.yml")
    assert status.returncode == 0, status.stdout
    plays.rotate()
    check(stack, plays)
    assert "connect_timeout=7" in env(stack)["DATABASE_URL"]

    kept = path.read_text()
    path.write_text(kept.replace(f"//chat4all_2:{stored(plays).password}@", "//chat4all_2:by-hand@"))
    refused = plays.run("rotate-db.yml")
    assert refused.returncode != 0 and "DRIFT postgres: .env holds another DATABASE_URL" in " ".join(
        refused.stdout.split()
    ), refused.stdout
    path.write_text(kept)
