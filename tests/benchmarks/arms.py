# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways of rotating that are compared: ``prepare`` once, on the running stack; ``rotate`` is what is timed."""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

import yaml
from harness import HERE, Deployment, run
from plays import Plays


class Arm:
    """One way of rotating, on a stack of its own."""

    name: str

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.stack = deployment.stack

    def prepare(self) -> None:
        """Bring the fresh stack to where the first rotation begins."""

    def rotate(self) -> None:
        """Rotate once, to the end."""
        raise NotImplementedError

    @property
    def waves(self) -> list[list[str]]:
        """The services in the order that ``depends_on`` asks for; the one-shot job comes before them."""
        last = "api-gateway"
        return [[name for name in self.stack.consumers if name != last], [last]]

    def separate_first_start_values(self) -> None:
        """Give the server first-start variables of its own, so that a new value does not recreate the database."""
        compose_file, env_file = self.stack.directory / "docker-compose.yml", self.stack.directory / ".env"
        model = yaml.safe_load(compose_file.read_text())
        environment = model["services"]["postgres"]["environment"]
        for variable in ("POSTGRES_USER", "POSTGRES_PASSWORD"):
            environment[variable] = environment[variable].replace(variable, f"INIT_{variable}")
        compose_file.write_text(yaml.safe_dump(model, sort_keys=False))
        [password] = re.findall(r"(?m)^POSTGRES_PASSWORD=(.*)$", env_file.read_text())
        with env_file.open("a") as env:
            env.write(f"INIT_POSTGRES_PASSWORD={password}\n")


class SeedProcedure(Arm):
    """The procedure of the runbook that this project began with, to the letter."""

    name = "seed_procedure"

    def rotate(self) -> None:
        run([str(HERE / "seed_procedure.sh"), str(self.stack.directory), self.deployment.server, *self.stack.consumers])


class ShellStartFirst(Arm):
    """A shell script that issues the Docker and psql commands of ours, start-first, and nothing else."""

    name = "shell_start_first"

    def prepare(self) -> None:
        self.separate_first_start_values()

    def rotate(self) -> None:
        script = [str(HERE / "start_first.sh"), str(self.stack.directory), self.stack.project, "migrate"]
        run([*script, *(" ".join(wave) for wave in self.waves)])


def ansible_playbook() -> str:
    """Return the ``ansible-playbook`` of the environment that this program runs in."""
    return str(Path(sys.executable).with_name("ansible-playbook"))


class PlainPlaybook(Arm):
    """The same job by the modules of community.postgresql and community.docker, service by service."""

    name = "plain_playbook"

    def prepare(self) -> None:
        self.separate_first_start_values()
        password = secrets.token_urlsafe(24)
        # The owner loses its password with the first rotation.
        self.stack.psql(f"CREATE ROLE benchmark_admin SUPERUSER LOGIN PASSWORD '{password}'")
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "project": self.stack.project,
            "project_dir": str(self.stack.directory),
            "services": [name for wave in self.waves for name in wave],
            "admin_password": password,
        }
        self.inventory.touch(mode=0o600)
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": {"db1": variables}}}))

    @property
    def inventory(self) -> Path:
        return self.deployment.folder / "plain.yml"

    def rotate(self) -> None:
        run([ansible_playbook(), "-i", str(self.inventory), str(HERE / "plain_playbook.yml")])


class AlternatingUsers(Arm):
    """Ours: ``ansible-playbook playbooks/rotate-db.yml``."""

    name = "alternating_users"
    catalog: dict[str, dict[str, str]] = {"postgres": {}}

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self.plays = Plays(deployment.folder, self.stack.directory, secrets_catalog=self.catalog)

    def play(self, playbook: str, *arguments: str) -> str:
        return run(self.plays.command(playbook, *arguments), **self.plays.environment)

    def prepare(self) -> None:
        self.play("provision.yml")

    def rotate(self) -> None:
        self.play("rotate-db.yml")

    def do_nothing(self) -> None:
        """Start Ansible on the same inventory, for nothing."""
        run([ansible_playbook(), "-i", str(self.plays.folder), str(HERE / "nothing.yml")], **self.plays.environment)


class SingleUser(AlternatingUsers):
    """Ours with ``strategy: single_user``: one user, whose password is changed in place."""

    name = "single_user"
    catalog = {"postgres": {"strategy": "single_user"}}


ARMS = {each.name: each for each in (SeedProcedure, SingleUser, AlternatingUsers, ShellStartFirst, PlainPlaybook)}
