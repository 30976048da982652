# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of bad input ends with one clear line, and nothing is half-done."""

from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest
import yaml
from plays import Plays


def state_of(stack, plays) -> dict[str, str]:
    """Return everything that a refused run must leave alone."""
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (stack.directory / ".env", stack.directory / "docker-compose.yml", plays.store_path)
        if path.is_file()
    }
    containers = stack.docker(
        "ps",
        "--all",
        "--no-trunc",
        "--filter",
        f"label=com.docker.compose.project={stack.project}",
        "--format",
        "{{.ID}} {{.Names}}",
    )
    return {**files, "containers": containers}


def refused(done, *words: str) -> str:
    """Return the one line with which a run ended; it has to hold the words, and there is no traceback."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if all(word in line for word in words)]
    assert lines, done.stdout
    return lines[0]


@pytest.fixture
def untouched(stack, plays):
    """The test body must leave files and containers as they were."""
    before = state_of(stack, plays)
    yield
    assert state_of(stack, plays) == before


@pytest.fixture
def compose_file(stack):
    """The stack's Compose file as text that a test may change."""
    path = stack.directory / "docker-compose.yml"
    kept = path.read_text()
    yield path
    path.write_text(kept)


def test_no_vault_password(stack, plays, untouched):
    done = plays.run("rotate-db.yml", ANSIBLE_VAULT_PASSWORD_FILE="")
    refused(done, "vault password")


def test_a_wrong_vault_password(stack, plays, untouched, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password\n")
    done = plays.run("rotate-db.yml", ANSIBLE_VAULT_PASSWORD_FILE=str(wrong))
    refused(done, "vault password", str(plays.store_path))


def test_an_unknown_engine(plays, untouched, inventory):
    inventory(secrets_catalog={"postgres": {"engine": "postgre"}})
    refused(plays.run("rotate-db.yml"), "secrets_catalog.postgres.engine", "'postgre'", "postgresql")


def test_a_variable_that_no_service_uses(plays, untouched, inventory):
    inventory(secrets_catalog={"postgres": {"variables": {"password": "PG_PASSWD"}}})
    refused(plays.run("rotate-db.yml"), "secrets_catalog.postgres.variables.password", "PG_PASSWD")


def test_an_unknown_key_of_the_catalog(plays, untouched, inventory):
    inventory(secrets_catalog={"postgres": {"intervall": "90d"}})
    refused(plays.run("rotate-db.yml"), "secrets_catalog.postgres.intervall", "interval")


def test_an_entry_without_a_server(plays, untouched, inventory):
    inventory(secrets_catalog={"billing": {}})
    refused(plays.run("provision.yml"), "secrets_catalog.billing", "service: NAME")


def test_a_service_that_does_not_exist(plays, untouched, inventory):
    inventory(secrets_services={"mesage-service": {"replace": "stop_first"}})
    refused(plays.run("rotate-db.yml"), "secrets_services.mesage-service", "message-service")


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ({"api-gateway": {"timeout": "2 moons"}}, ["api-gateway.timeout", "'2 moons' is no duration; write 120 or 2m"]),
        ({"api-gateway": {"ready_log": ["Started"]}}, ["secrets_services.api-gateway.ready_log", "is no text"]),
        ({"api-gateway": {"after": "reload"}}, ["secrets_services.api-gateway.after", "must be a mapping"]),
    ],
)
def test_an_exception_that_nobody_understands(plays, untouched, inventory, services, words):
    inventory(secrets_services=services)
    refused(plays.run("rotate-db.yml"), *words)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"variables": "POSTGRES_PASSWORD"}, ["secrets_catalog.postgres.variables", "must be a mapping"]),
        ({"service": ["postgres"]}, ["secrets_catalog.postgres.service", "is no text"]),
        ({"priority": 1}, ["secrets_catalog.postgres.priority", "critical or high"]),
    ],
)
def test_an_entry_that_nobody_understands(plays, untouched, inventory, entry, words):
    inventory(secrets_catalog={"postgres": entry})
    refused(plays.run("rotate-db.yml"), *words)


def test_an_option_of_the_roll_out_that_does_not_exist(plays, untouched, inventory):
    inventory(rotate_rollout={"paralel": 4})
    refused(plays.run("rotate-db.yml"), "rollout.paralel", "Supported parameters include")


def test_nothing_named(plays, untouched):
    refused(plays.run("rotate.yml"), "rotate=NAME", "postgres")


def test_a_name_that_the_catalog_does_not_have(plays, untouched):
    refused(plays.run("rotate.yml", "-e", "rotate=mongo"), "mongo", "postgres")


def test_a_password_policy_that_cannot_be_met(plays, untouched, inventory):
    inventory(secrets_catalog={"postgres": {"generate": {"kind": "password", "length": 8}}})
    refused(plays.run("rotate-db.yml"), "entropy")


def test_no_compose_file(plays, untouched, inventory, tmp_path):
    inventory(secrets_project_dir=str(tmp_path))
    refused(plays.run("provision.yml"), str(tmp_path), "ompose")


def test_an_invalid_compose_file(plays, stack, compose_file):
    good = compose_file.read_text()
    compose_file.write_text(good + "\n  - this: is: not yaml\n")
    before = state_of(stack, plays)
    refused(plays.run("rotate-db.yml"), "docker compose")
    assert state_of(stack, plays) == before


def test_a_literal_user_name(plays, stack, compose_file):
    text = compose_file.read_text()
    head, tail = text.split("  user-service:", 1)
    compose_file.write_text(head + "  user-service:" + tail.replace("${POSTGRES_USER:-chat4all}", "chat4all", 1))
    before = state_of(stack, plays)
    refused(plays.run("rotate-db.yml"), "user-service", "${POSTGRES_USER:-chat4all}")
    assert state_of(stack, plays) == before


def test_unrelated_drift(plays, stack, compose_file):
    compose_file.write_text(compose_file.read_text().replace("stop_grace_period: 10s", "stop_grace_period: 11s"))
    before = state_of(stack, plays)
    refused(plays.run("rotate-db.yml"), "docker compose up -d would")
    assert state_of(stack, plays) == before


def test_no_evidence_of_health(plays, stack, compose_file):
    good = compose_file.read_text()
    model = yaml.safe_load(good)
    model["services"]["user-service"]["healthcheck"] = {"disable": True}
    model["services"]["api-gateway"]["depends_on"]["user-service"]["condition"] = "service_started"
    compose_file.write_text(yaml.safe_dump(model))
    # The running stack has to agree with its file, or the drift would be the reason to refuse.
    stack.compose("up", "-d")
    stack.wait()
    before = state_of(stack, plays)
    try:
        refused(plays.run("rotate-db.yml"), "user-service", "neither health check nor log pattern", "accept_weak=true")
        assert state_of(stack, plays) == before
    finally:
        compose_file.write_text(good)
        stack.compose("up", "-d")
        stack.wait()


def test_a_job_that_may_not_run_again(plays, untouched, inventory):
    inventory(secrets_services={})
    refused(plays.run("rotate-db.yml"), "migrate", "rerun: safe")


@pytest.mark.parametrize("kind", ["link", "directory", "owner"])
def test_an_env_file_that_is_not_ours(plays, stack, kind):
    env = stack.directory / ".env"
    kept = stack.directory / "env.kept"
    shutil.copy2(env, kept)
    try:
        if kind == "link":
            env.unlink()
            env.symlink_to(kept)
        elif kind == "directory":
            env.unlink()
            env.mkdir()
        else:
            os.chown(env, 12345, 12345)
        before = state_of(stack, plays)
        for playbook in ("provision.yml", "rotate-db.yml"):
            refused(plays.run(playbook), str(env))
        assert state_of(stack, plays) == before
    finally:
        if env.is_dir() and not env.is_symlink():
            env.rmdir()
        else:
            env.unlink()
        shutil.move(kept, env)


def test_a_consumer_that_is_unhealthy_already(plays, stack, untouched):
    name = stack.containers("user-service")[0]
    stack.docker("pause", name)
    try:
        refused(plays.run("rotate-db.yml"), "user-service", "skip_service=user-service")
    finally:
        stack.docker("unpause", name)
        stack.wait()


def test_the_database_is_down(plays, stack):
    name = stack.containers("postgres")[0]
    stack.docker("stop", name)
    before = state_of(stack, plays)
    try:
        refused(plays.run("rotate-db.yml"), "postgres", "not running")
        assert state_of(stack, plays) == before
    finally:
        stack.docker("start", name)
        stack.wait()


def test_admin_access_refused(plays, stack, untouched):
    name = stack.containers("postgres")[0]
    path = stack.docker("exec", name, "psql", "-U", "chat4all", "-d", "chat4all", "-Atc", "show hba_file").strip()
    stack.docker("exec", name, "sh", "-c", f"cp {path} /tmp/kept && sed -i 's/trust/reject/' {path}")
    stack.docker("kill", "-s", "HUP", name)
    time.sleep(1)
    try:
        refused(plays.run("rotate-db.yml"), "postgres", "admin")
    finally:
        stack.docker("exec", name, "sh", "-c", f"cat /tmp/kept > {path}")
        stack.docker("kill", "-s", "HUP", name)
        stack.wait()


def test_a_store_that_is_older_than_the_target_has_seen(plays, stack, tmp_path):
    old = plays.store_path.read_bytes()
    assert plays.run("rotate-db.yml").returncode == 0
    new = plays.store_path.read_bytes()
    before = state_of(stack, plays)["containers"]
    plays.store_path.write_bytes(old)
    try:
        refused(plays.run("rotate-db.yml"), "serial")
        assert state_of(stack, plays)["containers"] == before
    finally:
        plays.store_path.write_bytes(new)


def test_a_value_changed_by_hand(plays, stack):
    env = stack.directory / ".env"
    kept = env.read_text()
    lines = [
        line if not line.startswith("POSTGRES_PASSWORD") else "POSTGRES_PASSWORD=by-hand-0123456789"
        for line in kept.splitlines()
    ]
    env.write_text("\n".join(lines) + "\n")
    before = state_of(stack, plays)
    try:
        refused(plays.run("rotate-db.yml"), "DRIFT postgres", "POSTGRES_PASSWORD")
        refused(plays.run("provision.yml"), "DRIFT postgres", "drift=replace")
        assert state_of(stack, plays) == before
    finally:
        env.write_text(kept)


def test_a_server_that_has_data_but_no_known_password(stack, tmp_path):
    fresh = Plays(tmp_path / "inventory", stack.directory)
    env = stack.directory / ".env"
    kept = env.read_text()
    env.write_text("\n".join(line for line in kept.splitlines() if "PASSWORD" not in line) + "\n")
    try:
        refused(fresh.run("provision.yml"), "postgres", "has data already", "POSTGRES_PASSWORD")
        assert not fresh.store_path.exists()
    finally:
        env.write_text(kept)
