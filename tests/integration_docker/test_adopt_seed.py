# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The founding document's own Compose file, to the letter, started by hand from a hand-made ``.env``.

Three commands, adopt, the plan and rotate, and nothing is refused meanwhile. Its images are ours under its images' names:
the real PostgreSQL, and the reference consumer with a health check of its own and a new login every 20 ms.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from outcome import containers, left_to_do, log_in, published, stored
from plays import Plays
from stack import Stack

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "benchmarks"))

from counters import ServerLog  # noqa: E402
from harness import WRONG_LOGIN  # noqa: E402

COMPOSE = TESTS / "stack" / "founding-compose.yml"
CONSUMER = "FROM chat4all-test/consumer:1\nHEALTHCHECK --interval=500ms --timeout=5s CMD {check}\n{more}"
HEALTH = "busybox wget -q -O /dev/null http://127.0.0.1:8080/health"
IMAGES = {
    "postgres:16-alpine": "FROM chat4all-test/postgres:17\n",
    "chat4all-message-service:latest": CONSUMER.format(check=HEALTH, more="ENV LOGIN_INTERVAL=0.02\n"),
    "chat4all-whatsapp-connector:latest": CONSUMER.format(check="true", more='ENTRYPOINT ["sleep", "infinity"]\n'),
}


class Founding(Stack):
    """Its services, and a hand-made ``.env``."""

    def create(self):
        self.down()
        self.directory.mkdir(parents=True)
        (self.directory / "docker-compose.yml").write_bytes(COMPOSE.read_bytes())
        (self.directory / "haproxy.cfg").touch()  # by which down() knows the folder
        names = sorted(set(re.findall(r"\$\{(\w+)\}", COMPOSE.read_text())) - {"MONGO_INITDB_ROOT_USERNAME"})
        lines = [f"COMPOSE_PROJECT_NAME={self.project}", "MONGO_INITDB_ROOT_USERNAME=chat4all"]
        lines += [f"{name}={secrets.token_urlsafe(24)}" for name in names]
        (self.directory / ".env").write_text("\n".join(lines) + "\n")

    def up(self, timeout: float = 120):
        deadline = time.monotonic() + timeout
        self.compose("up", "-d", "postgres")
        [server] = self.containers("postgres")
        ready = ("docker", "exec", server, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "chat4all", "-d", "chat4all")
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        self.compose("up", "-d")
        while (
            self.docker("ps", "--quiet", "--filter", f"name={self.project}", "--filter", "health=healthy").count("\n")
            < 2
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.fixture(scope="module")
def images():
    """Images of the names that the file has; what the machine had under such a name is used as it is."""
    made = []
    for name, dockerfile in IMAGES.items():
        if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode:
            made.append(name)
            build = ["docker", "build", "--quiet", "--tag", name, "-"]
            subprocess.run(build, input=dockerfile.encode(), capture_output=True, check=True)
    yield
    for name in made:
        subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def stack(images):
    with Founding("test-adopt-seed") as running:
        yield running


@pytest.fixture(scope="module")
def plays(stack, tmp_path_factory):
    plays = Plays(tmp_path_factory.mktemp("inventory"), stack.directory, rotate_drain={"quiet": 0.5, "timeout": 10})
    for name in ("secrets_catalog", "secrets_services"):
        del plays.variables[name]
    plays.write_inventory()
    return plays


@pytest.fixture(scope="module")
def server_log(stack):
    stack.psql("ALTER SYSTEM SET log_connections = on")
    stack.psql("SELECT pg_reload_conf()")
    [facts] = [one for one in containers(stack) if one["Config"]["Labels"]["com.docker.compose.service"] == "postgres"]
    own = {facts["Config"]["Hostname"]}
    own |= {each[key] for each in facts["NetworkSettings"]["Networks"].values() for key in ("IPAddress", "Gateway")}
    log = ServerLog(facts["Id"], own, admin="chat4all")
    yield log
    log.close()


def started(stack, *services: str) -> dict[str, str]:
    """Return when the containers of services, or of all, were started."""
    found = {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in containers(stack)}
    return {
        name: f"{one['Id']} {one['State']['StartedAt']}" for name, one in found.items() if name in (services or found)
    }


def test_three_commands_and_no_login_is_refused(stack, plays, server_log):
    before, files = started(stack), {path.name: path.read_bytes() for path in stack.directory.iterdir()}
    old = published(stack)
    server_log.mark()
    [container] = stack.containers("message-service")
    said = stack.docker("exec", "--interactive", container, "python3", "-", stdin=WRONG_LOGIN)
    assert "password authentication failed" in said

    adopted = plays.run("adopt.yml")
    assert adopted.returncode == 0, adopted.stdout
    assert "FOUND  postgres  postgresql  db1  POSTGRES_USER + POSTGRES_PASSWORD  1 service" in adopted.stdout
    draft = yaml.safe_load((plays.folder / "group_vars" / "all" / "secrets_catalog.yml").read_text())
    assert draft["secrets_catalog"]["postgres"] == {}
    brought = [name for name, entry in draft["secrets_catalog"].items() if entry.get("engine") == "manual"]
    assert brought == ["mongo_initdb_root", "redis"] and "whatsapp" in draft["secrets_catalog"]
    plan = plays.run("rotate.yml", "-e", "rotate=postgres", "--check")
    assert plan.returncode == 0, plan.stdout
    assert "override docker-compose.override.yml: pins postgres's first-start values" in plan.stdout
    # Adoption and the plan: no container restarted, no file of the deployment touched but the target's own memory.
    left = {path.name: path.read_bytes() for path in stack.directory.iterdir() if path.name != ".chat4all"}
    assert (started(stack), left) == (before, files)

    done = plays.run("rotate.yml", "-e", "rotate=postgres")
    assert done.returncode == 0 and "refused logins 0" in done.stdout, done.stdout
    logins = server_log.mark()
    print(f"login attempts {logins.attempts}, refused {logins.refused}, our own wrong logins {logins.negative_probes}")
    assert (logins.refused, logins.controls) == (0, 1), logins.reasons
    assert logins.attempts > 200

    new = stored(plays)
    assert published(stack) == new and log_in(stack, new) == "accepted"
    assert "password authentication failed" in log_in(stack, old)
    assert not left_to_do(stack)
    now = started(stack)
    stack.compose("up", "-d")
    assert started(stack) == now
    untouched = ("postgres", "whatsapp-connector")
    assert started(stack, *untouched) == {name: before[name] for name in untouched}
    assert (stack.directory / "docker-compose.yml").read_bytes() == COMPOSE.read_bytes()


def test_the_next_rotation_finds_it_separated(stack, plays, server_log):
    server_log.mark()
    done = plays.run("rotate.yml", "-e", "rotate=postgres")
    assert done.returncode == 0 and "pins" not in done.stdout, done.stdout
    assert server_log.mark().refused == 0
    assert not left_to_do(stack)
    outcomes = json.loads((stack.directory / ".chat4all" / "state.json").read_text())["outcomes"]
    assert outcomes["postgres"]["result"] == "ok"
