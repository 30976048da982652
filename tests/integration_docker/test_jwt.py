# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three phases of a signing key, under traffic: no live token is rejected, and those of the retired key all are."""

from __future__ import annotations

import time

import jwt
import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from outcome import check_unlocked, left_to_do
from plays import Plays
from stack import CONSUMERS
from tokens import SERVICES, TokenStack

POLICY = {"token_life": "4s", "skew": "1s", "overlap": "4s"}


@pytest.fixture(scope="module")
def stack():
    with TokenStack("test-jwt", token_life=4) as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog={"jwt": POLICY},
        secrets_services=SERVICES,
        rotate_rollout={"quiet": 0.3, "settle": 0.3, "timeout": 20},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    assert not left_to_do(stack)
    return plays


def entry(plays):
    return plays.store()["secrets_credentials"]["jwt"]


def containers(stack):
    return sorted(name for service in CONSUMERS for name in stack.containers(service))


def turn(plays, *arguments):
    done = plays.run("rotate-jwt.yml", *arguments)
    assert done.returncode == 0, done.stdout
    return " ".join(done.stdout.split())


def refused(plays, *arguments):
    done = plays.run("rotate-jwt.yml", *arguments)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def when_due(plays, word):
    """Run the schedule until it does something; each run before that is a no-op."""
    for _attempt in range(20):
        said = turn(plays)
        if word in said:
            return said
        assert "changed=0" in said, said
        time.sleep(0.5)
    raise AssertionError(said)


def test_nothing_due_is_one_line_and_touches_nothing(stack, plays):
    before = containers(stack), plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()
    said = turn(plays)
    assert "jwt: nothing is due; next: introduce from 20" in said and "changed=0" in said
    done = plays.run("provision.yml")
    assert done.returncode == 0 and "changed=0" in done.stdout, done.stdout
    assert (containers(stack), plays.store_path.read_bytes(), (stack.directory / ".env").read_bytes()) == before


def test_three_phases_reject_no_live_token_and_all_of_the_retired_key(stack, plays):
    old = entry(plays)["current"]["password"]
    stack.wait()
    assert "jwt introduce" in turn(plays, "-e", "jwt_phase=introduce", "--check")
    assert "INTRODUCED jwt" in turn(plays, "-e", "jwt_phase=introduce")
    new = entry(plays)["next"]["password"]
    assert (stack.env()["JWT_SIGNING_KEY"], stack.env()["JWT_SIGNING_KEY_SECONDARY"]) == (old, new)
    # A new key that fails to come up is taken back, and was harmless.
    service = CONSUMERS[1]
    broken = {**SERVICES, service: {**SERVICES[service], "ready_log": "never said", "timeout": 3}}
    plays.variables["secrets_services"] = broken
    plays.write_inventory()
    said = refused(plays, "-e", "jwt_phase=promote")
    assert "STOPPED jwt at roll out" in said and "no token was rejected for it" in said, said
    assert stack.env()["JWT_SIGNING_KEY"] == old and "target" not in entry(plays)
    plays.variables["secrets_services"] = SERVICES
    plays.write_inventory()

    when_due(plays, "PROMOTED jwt")
    assert (stack.env()["JWT_SIGNING_KEY"], stack.env()["JWT_SIGNING_KEY_SECONDARY"]) == (new, old)
    status = " ".join(plays.run("status.yml").stdout.split())
    assert "is accepted too; 3/3 services; next: retire from" in status, status
    when_due(plays, "RETIRED jwt")
    env = stack.env()
    assert env["JWT_SIGNING_KEY"] == new and env["JWT_SIGNING_KEY_SECONDARY"] not in ("", old, new)

    stack.settle()
    counts = stack.counts()
    assert counts["rejected"] == 0 and counts["verified"] > 1000, counts
    claims = {"iss": "probe", "exp": int(time.time()) + 600}
    assert stack.judge([jwt.encode(claims, old, "HS256")] * 5) == {"rejected": 30}
    assert stack.judge([jwt.encode(claims, new, "HS256")] * 5) == {"verified": 30}
    assert not left_to_do(stack)
    check_unlocked(stack.directory / ".chat4all")


def test_what_would_invalidate_live_tokens_is_refused_and_a_compromised_key_dies_at_once(stack, plays):
    said = refused(plays, "-e", "jwt_phase=promote")
    assert "promote: introduce comes first" in said and "Nothing was changed" in said, said
    old = entry(plays)["current"]["password"]
    said = turn(plays, "-e", "emergency=true")
    assert "REPLACED jwt" in said and "INVALID live tokens: all that were signed in the last 1 minute" in said, said
    claims = {"iss": "probe", "exp": int(time.time()) + 600}
    assert stack.judge([jwt.encode(claims, old, "HS256")] * 5) == {"rejected": 30}
    assert old not in stack.env().values()


def test_a_copied_example_is_filled_before_anything_runs(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    keys = {name: f"${{{name}:-}}" for name in ("JWT_SIGNING_KEY", "JWT_SIGNING_KEY_SECONDARY")}
    login = {"POSTGRES_USER": "${POSTGRES_USER:-chat4all}", "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD}"}
    services = {
        "postgres": {"image": "chat4all-test/postgres:17", "environment": login},
        "app": {"image": "chat4all-test/jwt:1", "environment": {**keys, **login}},
    }
    (project / "docker-compose.yml").write_text(yaml.safe_dump({"services": services}))
    env = project / ".env"
    env.touch(mode=0o600)
    # The founding document's words.
    env.write_text("POSTGRES_PASSWORD=change_me_in_production\nJWT_SIGNING_KEY=generate_strong_key_here\n")
    plays = Plays(tmp_path / "inventory", project, secrets_catalog={"postgres": {}, "jwt": {}}, secrets_services={})
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    slots = {name: one["current"]["password"] for name, one in plays.store()["secrets_credentials"].items()}
    found = dotenv.values(env.read_text())
    assert (found["JWT_SIGNING_KEY"], found["POSTGRES_PASSWORD"]) == (slots["jwt"], slots["postgres"])
