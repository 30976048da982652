# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the scenarios' tests look at: the deployment on the host that testinfra is connected to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "build" / "collections"), str(ROOT / "tests" / "benchmarks")]

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv  # noqa: E402
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms  # noqa: E402
from counters import LoginCounter, Logins  # noqa: E402

CONSUMERS = ("api-gateway", "message-service", "user-service")
SERVICES = {*CONSUMERS, "migrate", "postgres", "proxy"}


@dataclass(frozen=True)
class Container:
    id: str
    name: str
    service: str
    status: str
    health: str
    exit_code: int
    environment: dict[str, str]
    addresses: frozenset[str]


class Deployment:
    """One scenario's deployment, looked at from outside: files, containers, the server, and what was printed."""

    def __init__(self, host, scenario: str) -> None:
        self.host = host
        self.scenario = scenario
        self.folder = ROOT / "build" / "molecule" / scenario
        self.store_folder = self.folder
        self.directory = ROOT / "build" / "stacks" / f"molecule-{scenario}"
        self.project = f"chat4all-molecule-{scenario}"

    def run(self, *command: str) -> str:
        done = self.host.run(" ".join(["%s"] * len(command)), *command)
        assert done.rc == 0, done.stderr
        return done.stdout

    def containers(self) -> list[Container]:
        """Return every container of the project, stopped ones too."""
        ids = self.run(
            "docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"
        )
        found = []
        for item in json.loads(self.run("docker", "inspect", *ids.split())) if ids else []:
            state = item["State"]
            found.append(
                Container(
                    item["Id"],
                    item["Name"].removeprefix("/"),
                    item["Config"]["Labels"]["com.docker.compose.service"],
                    state["Status"],
                    state.get("Health", {}).get("Status", ""),
                    state["ExitCode"],
                    dict(pair.split("=", 1) for pair in item["Config"]["Env"]),
                    frozenset(network["IPAddress"] for network in item["NetworkSettings"]["Networks"].values()),
                )
            )
        return found

    def one(self, service: str) -> Container:
        [container] = [container for container in self.containers() if container.service == service]
        return container

    def up(self) -> set[str]:
        """Do a plain ``docker compose up -d``; return the names of the containers that it replaced or made."""
        before = {container.id: container.name for container in self.containers()}
        done = self.host.run("cd %s && docker compose up -d", str(self.directory))
        assert done.rc == 0, done.stderr
        after = {container.id: container.name for container in self.containers()}
        return {name for key, name in (before | after).items() if key not in before or key not in after}

    def env(self) -> dict[str, str]:
        return dotenv.values(self.host.file(str(self.directory / ".env")).content_string)

    @property
    def login(self) -> tuple[str, str]:
        """The user name and password that ``.env`` gives to the consumers."""
        env = self.env()
        return env.get("POSTGRES_USER", "chat4all"), env["POSTGRES_PASSWORD"]

    def seen(self) -> list[tuple[str, str]]:
        """The logins that were valid earlier, as molecule/shared/remember.yml kept them."""
        kept = sorted((self.folder / "seen").glob("*.env"))
        found = [dotenv.values(path.read_text()) for path in kept]
        return [(env.get("POSTGRES_USER", "chat4all"), env["POSTGRES_PASSWORD"]) for env in found]

    def seen_containers(self, number: int) -> set[str]:
        """Return the ids of the containers that there were then."""
        return set((self.folder / "seen" / f"{number}.containers").read_text().split())

    @property
    def store_path(self) -> Path:
        return self.store_folder / ".secrets-store.yml"

    def store(self) -> dict:
        """Return the decrypted store."""
        return yaml.safe_load(self.run("ansible-vault", "view", str(self.store_path)))

    def credential(self) -> dict:
        return self.store()["secrets_credentials"]["postgres"]

    def log_in(self, user: str, password: str) -> str:
        """Log in over the containers' network; return what the server says: the two users, or why not."""
        quoted = {
            name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in (("u", user), ("p", password))
        }
        script = (
            f"\\connect \"host=postgres user='{quoted['u']}' password='{quoted['p']}' dbname=chat4all\"\n"
            "SELECT current_user || ' ' || session_user;\n"
        )
        done = subprocess.run(
            ["docker", "exec", "-i", self.one("postgres").name, "psql", "-XqAt", "-U", "chat4all", "-d", "chat4all"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def sql(self, statement: str) -> str:
        """Run SQL over the server's trusted socket."""
        command = (
            "docker",
            "exec",
            self.one("postgres").name,
            "psql",
            "-XqAt",
            "-U",
            "chat4all",
            "-d",
            "chat4all",
            "-c",
        )
        return self.run(*command, statement).strip()

    def logins(self) -> Logins:
        """Count the logins in the server's own log."""
        server = self.one("postgres")
        counter = LoginCounter({*server.addresses, "postgres"})
        done = self.host.run("docker logs %s 2>&1", server.name)
        for line in done.stdout.splitlines():
            counter.feed(line)
        return counter.logins

    def printed(self, name: str) -> str:
        """Return what a run by molecule/shared/tasks/refused.yml printed."""
        return (self.folder / f"{name}.txt").read_text()

    @cached_property
    def output(self) -> str:
        """Everything that Ansible printed in this scenario."""
        kept = "".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))
        return (ROOT / "build" / f"molecule-{self.scenario}.log").read_text() + kept

    def values(self) -> set[str]:
        """Return every secret value of this scenario: those in the store, and those that were valid earlier."""
        found = {password for _user, password in self.seen()} | {(self.folder / ".vault-password").read_text().strip()}
        slots = [self.credential().get(slot) for slot in ("current", "pending", "previous", "admin")]
        return found | {slot["password"] for slot in slots if slot and slot.get("password")} | {self.login[1]}

    def leaks(self) -> list[str]:
        """Return which forms of which values were printed, by their lengths: a failure must not leak either."""
        forms = [form for value in self.values() for form in encoded_forms(value)]
        return [f"a form of {len(form)} characters" for form in forms if form in self.output]


@pytest.fixture(scope="module")
def deployment(host) -> Deployment:
    return Deployment(host, os.environ["MOLECULE_SCENARIO_NAME"])


@pytest.fixture(scope="module")
def consumers(deployment) -> list[Container]:
    """The consumers' containers: one of each, and every other container of the stack where it belongs."""
    containers = deployment.containers()
    assert sorted(container.service for container in containers) == sorted(SERVICES)
    return [container for container in containers if container.service in CONSUMERS]
