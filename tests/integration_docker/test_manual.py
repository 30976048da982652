# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A value that a person brings is rolled out and taken back as any other; only a person can end the old one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import secrets
import time

import pytest
import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Ledger
from outcome import containers, left_to_do, published, services_work
from plays import ROOT, Plays
from stack import Stack

CATALOG = {"postgres": {}, "smtp": {"engine": "manual", "variables": {"secret": "SMTP_PASSWORD"}}}


class Mailing(Stack):
    """user-service also sends mail."""

    def create(self):
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        model["services"]["user-service"]["environment"]["SMTP_PASSWORD"] = "${SMTP_PASSWORD}"
        path.write_text(yaml.safe_dump(model, sort_keys=False))
        with (self.directory / ".env").open("a") as env:
            env.write(f"SMTP_PASSWORD={secrets.token_hex(16)}\n")


@pytest.fixture(scope="module")
def stack():
    with Mailing("test-manual") as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(
        tmp_path_factory.mktemp("inventory"),
        stack.directory,
        secrets_catalog=CATALOG,
        rotate_rollout={"quiet": 0.3, "settle": 0.3, "timeout": 15},
        rotate_drain={"quiet": 0.5, "timeout": 3},
    )
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


@pytest.fixture
def brought(plays):
    """A vaulted file with a new value, and the value."""
    value = f"brought-{secrets.token_hex(16)}"
    path = plays.folder / ".new.yml"
    path.write_bytes(plays.vault(yaml.safe_dump({"secrets_new_values": {"smtp": value}})))
    return path, value


def entry(plays) -> dict:
    return plays.store()["secrets_credentials"]["smtp"]


def deployed(stack) -> str:
    [one] = [
        one for one in containers(stack) if one["Config"]["Labels"]["com.docker.compose.service"] == "user-service"
    ]
    return dict(pair.split("=", 1) for pair in one["Config"]["Env"])["SMTP_PASSWORD"]


def everywhere(stack, plays) -> str:
    """Return the value that store, ``.env`` and container agree on."""
    env = dotenv.values((stack.directory / ".env").read_text())["SMTP_PASSWORD"]
    assert entry(plays)["current"]["password"] == env == deployed(stack)
    assert not left_to_do(stack)
    services_work(stack)
    return env


def typed(command, environment, answer) -> tuple[int, str]:
    """Run a command in a terminal, where a person answers its question; returns its exit code and what was shown."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(ROOT)
        os.execvpe(command[0], command, environment)
    output, answered = b"", False
    with contextlib.suppress(OSError):  # a terminal that nobody has open any more cannot be read
        while data := os.read(terminal, 65536):
            output += data
            if not answered and b"New value of smtp (it is not shown):" in output:
                time.sleep(1)  # a terminal throws away what is typed before its echo is off
                os.write(terminal, answer.encode() + b"\n")
                answered = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), output.decode()


def test_it_is_imported_and_left_alone_where_databases_are_rotated(stack, plays):
    before, login = everywhere(stack, plays), published(stack)
    plays.rotate()
    assert everywhere(stack, plays) == before and published(stack) != login


def test_without_a_value_nothing_begins(stack, plays):
    before = plays.store_path.read_bytes()
    done = plays.run("rotate.yml", "-e", "rotate=smtp")
    assert done.returncode != 0 and "a person brings its new value" in done.stdout, done.stdout
    assert plays.store_path.read_bytes() == before


def test_a_failed_roll_out_goes_back_to_the_old_value(stack, plays, brought):
    path, value = brought
    before = everywhere(stack, plays)
    stack.plant_fault("user-service", "exit")
    done = plays.run("rotate.yml", "-e", "rotate=smtp", "-e", f"@{path}")
    stack.plant_fault("user-service", None)
    assert done.returncode != 0 and "STOPPED  smtp at roll out" in done.stdout, done.stdout
    assert "back on the old, valid password" in " ".join(done.stdout.split())
    stack.wait()
    assert everywhere(stack, plays) == before and "pending" not in entry(plays)
    assert value not in done.stdout


def test_it_is_rotated_and_a_person_ends_the_old_value(stack, plays, brought):
    path, value = brought
    before = everywhere(stack, plays)
    plan = plays.run("rotate.yml", "-e", "rotate=smtp", "-e", f"@{path}", "--check")
    assert plan.returncode == 0 and "nobody here can test it" in plan.stdout, plan.stdout
    assert everywhere(stack, plays) == before
    code, output = typed(plays.command("rotate.yml", "-e", "rotate=smtp", "-vvvv"), plays.environment, value)
    assert code == 0 and "ROTATED  smtp" in output, output
    assert everywhere(stack, plays) == value
    assert value not in output and before not in output

    again = plays.run("rotate.yml", "-e", "rotate=smtp", "-e", f"@{path}")
    assert again.returncode == 0 and "the value that was brought is in use already" in again.stdout, again.stdout
    path.write_bytes(plays.vault(yaml.safe_dump({"secrets_new_values": {"smtp": "another-value-0123456789"}})))
    another = plays.run("rotate.yml", "-e", "rotate=smtp", "-e", f"@{path}")
    assert another.returncode != 0 and "one value at a time" in another.stdout, another.stdout
    status = plays.run("status.yml")
    assert status.returncode != 0
    todo = "TODO: end the old value of smtp where it was issued, then: revoke -e revoke=smtp -e confirmed=true"
    assert todo in " ".join(status.stdout.split()), status.stdout

    unconfirmed = plays.run("revoke.yml", "-e", "revoke=smtp")
    assert "smtp: not ended" in unconfirmed.stdout and "revoked" not in entry(plays)["previous"], unconfirmed.stdout
    ended = plays.run("revoke.yml", "-e", "revoke=smtp", "-e", "confirmed=true")
    assert ended.returncode == 0 and "REVOKED  smtp" in ended.stdout, ended.stdout
    assert "revoked" in entry(plays)["previous"] and everywhere(stack, plays) == value
    status = plays.run("status.yml")
    assert status.returncode == 0 and "lock: none" in status.stdout, status.stdout
    rows = [json.loads(row) for row in (stack.directory / ".chat4all" / "ledger.jsonl").read_text().splitlines()]
    assert "confirmed by a person" in [row["state"] for row in rows if row.get("credential") == "smtp"]
    assert not Ledger(str(stack.directory / ".chat4all")).verify(None)[1]
