# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three machines, each with a Docker engine of its own, reached by SSH over a network that can be cut.

``db1`` has the server and a consumer, ``app1`` two consumers, ``app2`` one; each has a Compose project and an ``.env`` of
its own. All log in some ten times a second.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from outcome import Login
from plays import Plays

PROJECT = "/srv/chat4all"
CONSUMERS = {"db1": ("reporter",), "app1": ("orders", "mailer"), "app2": ("billing",)}
IMAGES = {"db1": ("postgres:17", "consumer:1"), "app1": ("consumer:1",), "app2": ("consumer:1",)}
# What an engine in a container needs; all of --privileged is not to be had everywhere.
RIGHTS = [
    *(f"--cap-add={name}" for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")),
    *(f"--security-opt={name}=unconfined" for name in ("seccomp", "apparmor", "systempaths")),
    "--device-cgroup-rule=a *:* rwm",
]
SSH = {
    "UserKnownHostsFile": "/dev/null",
    "StrictHostKeyChecking": "no",
    "LogLevel": "ERROR",
    "IdentitiesOnly": "yes",
    "ConnectTimeout": 5,
    # A network that is gone says nothing.
    "ServerAliveInterval": 1,
    "ServerAliveCountMax": 4,
}
TABLES = """
CREATE TABLE messages (id bigserial PRIMARY KEY, service text NOT NULL, body text NOT NULL,
    created timestamptz NOT NULL DEFAULT now());
"""
WORK = "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/work').read()"


def consumer(name: str, server: str) -> dict[str, Any]:
    """Return a service that logs in at the server ten times a second."""
    return {
        "image": "chat4all-test/consumer:1",
        "init": True,
        "restart": "unless-stopped",
        "environment": {
            "SERVICE_NAME": name,
            "LOGIN_INTERVAL": "0.1",
            "SPRING_DATASOURCE_URL": f"jdbc:postgresql://{server}:5432/chat4all",
            "SPRING_DATASOURCE_USERNAME": "${POSTGRES_USER:-chat4all}",
            "SPRING_DATASOURCE_PASSWORD": "${POSTGRES_PASSWORD}",
        },
        "healthcheck": {
            "test": ["CMD", "busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health"],
            "interval": "1s",
            "timeout": "5s",
            "retries": 10,
        },
    }


def database() -> dict[str, Any]:
    """Return the server; other machines reach it by a port of its own machine."""
    return {
        "image": "chat4all-test/postgres:17",
        "environment": {
            "POSTGRES_DB": "chat4all",
            "POSTGRES_USER": "${POSTGRES_USER:-chat4all}",
            "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD}",
        },
        "command": ["-c", "log_connections=on", "-c", "log_line_prefix=%m [%p] host=%h user=%u app=%a "],
        "ports": ["5432:5432"],
        "volumes": ["data:/var/lib/postgresql/data"],
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD-SHELL", 'pg_isready -q -h 127.0.0.1 -U "$$POSTGRES_USER" -d "$$POSTGRES_DB"'],
            "interval": "1s",
            "start_period": "2m",
        },
    }


def docker(*arguments: str, stdin: str = "", check: bool = True) -> str:
    """Run the outer engine's client and return what it says."""
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


class Machines:
    """The three machines, their network and the key with which they are reached. Use it as a context manager."""

    def __init__(self, name: str, folder: Path) -> None:
        # Another checkout may run the same test at the same time.
        self.name = f"chat4all-machines-{name}-{zlib.crc32(os.fsencode(__file__)):x}"
        self.folder = folder
        self.addresses: dict[str, str] = {}

    def container(self, host: str) -> str:
        return f"{self.name}-{host}"

    def __enter__(self) -> Machines:
        self.remove()
        try:
            self._start()
            self._deploy()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove machines, their engines' data and their network."""
        found = docker("ps", "--all", "--quiet", "--filter", f"label=machines={self.name}").split()
        if found:
            docker("rm", "--force", "--volumes", *found)
        if docker("network", "ls", "--quiet", "--filter", f"label=machines={self.name}").strip():
            docker("network", "rm", self.name)

    def _start(self) -> None:
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        label = f"--label=machines={self.name}"
        # A fixed address each, which it has again after it was cut off, and none that the engines inside would take.
        prefix = next(prefix for prefix in (f"10.213.{part}" for part in range(256)) if self._network(label, prefix))
        for number, host in enumerate(CONSUMERS, 11):
            self.addresses[host] = f"{prefix}.{number}"
            docker(
                "run",
                "--detach",
                "--init",
                label,
                f"--name={self.container(host)}",
                f"--hostname={host}",
                f"--network={self.name}",
                f"--ip={self.addresses[host]}",
                f"--env=AUTHORIZED_KEY={key.with_suffix('.pub').read_text().strip()}",
                *RIGHTS,
                "chat4all-test/machine:1",
            )

    def _network(self, label: str, prefix: str) -> bool:
        made = docker("network", "create", label, f"--subnet={prefix}.0/24", self.name, check=False)
        return bool(made.strip())

    def _deploy(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._load, CONSUMERS))
        password = secrets.token_urlsafe(24)
        for host in CONSUMERS:
            self._project(host, password)
        self.compose("db1", "up", "-d", "--wait")
        self.psql(TABLES)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.compose(host, "up", "-d", "--wait"), CONSUMERS))

    def _load(self, host: str) -> None:
        wait(lambda: "Server Version" in docker("exec", self.container(host), "docker", "info", check=False), host)
        names = [f"chat4all-test/{name}" for name in IMAGES[host]]
        with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as saved:
            load = ["docker", "exec", "-i", self.container(host), "docker", "load", "--quiet"]
            subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True)

    def _project(self, host: str, password: str) -> None:
        server = "postgres" if host == "db1" else self.addresses["db1"]
        model: dict[str, Any] = {"services": {name: consumer(name, server) for name in CONSUMERS[host]}}
        if host == "db1":
            model["services"]["postgres"] = database()
            model["services"]["reporter"]["depends_on"] = {"postgres": {"condition": "service_healthy"}}
            model["volumes"] = {"data": {}}
        self.write(host, "docker-compose.yml", yaml.safe_dump(model))
        self.write(host, ".env", f"COMPOSE_PROJECT_NAME={host}\nPOSTGRES_PASSWORD={password}\n")

    # -- on a machine

    def run(self, host: str, script: str, stdin: str = "", check: bool = True) -> str:
        """Run a shell script on a machine, past its network."""
        return docker("exec", "-i", self.container(host), "sh", "-c", script, stdin=stdin, check=check)

    def write(self, host: str, name: str, text: str) -> None:
        self.run(host, f"mkdir -p {PROJECT} && umask 077 && cat > {PROJECT}/{name}", stdin=text)

    def compose(self, host: str, *arguments: str) -> str:
        return self.run(host, f"cd {PROJECT} && docker compose {' '.join(arguments)} 2>&1")

    def env(self, host: str) -> bytes:
        return self.run(host, f"cat {PROJECT}/.env").encode()

    def published(self, host: str) -> Login:
        env = dotenv.values(self.env(host).decode())
        return Login(env.get("POSTGRES_USER", "chat4all"), env["POSTGRES_PASSWORD"])

    def psql(self, sql: str) -> str:
        return self.run(
            "db1",
            f"cd {PROJECT} && docker compose exec -T postgres psql -XqAt -v ON_ERROR_STOP=1 -U chat4all -d chat4all",
            stdin=sql,
        ).strip()

    def log_in(self, login: Login, host: str = "app2") -> str:
        """Log in over the network, as a client on a machine would; return ``accepted``, or the server's words."""
        script = (
            "import os, psycopg2\ntry:\n  psycopg2.connect(host=os.environ['H'], dbname='chat4all', user=os.environ['U'], "
            "password=os.environ['P'], connect_timeout=5)\n  print('accepted')\nexcept psycopg2.Error as error:\n  print(error)\n"
        )
        environment = f"-e H={self.addresses['db1']} -e U={login.user} -e P={login.password}"
        command = f"docker run --rm -i {environment} --entrypoint python3 chat4all-test/consumer:1 -"
        return self.run(host, command, stdin=script).strip()

    def refused(self) -> int:
        """Return how many logins the server has refused so far; those that a run makes itself come from its own address."""
        log = self.run("db1", f"cd {PROJECT} && docker compose logs --no-log-prefix postgres 2>&1")
        [server] = [one for one in self.containers("db1") if "postgres" in one["Config"]["Image"]]
        own = {facts["IPAddress"] for facts in server["NetworkSettings"]["Networks"].values()}
        refused = r"host=(\S+) .*FATAL: +(?:password authentication failed|role .* is not permitted)"
        return sum(address not in own for address in re.findall(refused, log))

    def containers(self, host: str) -> list[dict[str, Any]]:
        """Return ``docker inspect`` of every container of a machine."""
        return json.loads(self.run(host, "docker inspect $(docker ps -aq)"))

    def identities(self, host: str) -> list[str]:
        return sorted(one["Id"] for one in self.containers(host))

    # -- cutting off

    def cut(self, host: str) -> None:
        """Take a machine off the network: nobody is told."""
        docker("network", "disconnect", "--force", self.name, self.container(host))

    def mend(self, host: str) -> None:
        """Put it back, with the address that it had, and wait until it answers."""
        docker("network", "connect", "--ip", self.addresses[host], self.name, self.container(host))
        wait(lambda: "SSH-" in self._banner(host), f"{host}'s SSH server")

    def _banner(self, host: str) -> str:
        probe = f"exec 3<>/dev/tcp/{self.addresses[host]}/22 && head -c 4 <&3"
        return subprocess.run(["timeout", "2", "bash", "-c", probe], capture_output=True, text=True, check=False).stdout

    # -- playbooks

    def plays(self, folder: Path, **variables: Any) -> Plays:
        """Return the playbooks for the deployment of all three."""
        return SpreadPlays(self, folder, **variables)

    # -- the end

    def check_end(self, plays: Plays, dead: Iterable[Login] = ()) -> None:
        """Assert that one login is stored, published, deployed and valid everywhere, that others are dead, and that nothing
        is left behind on any machine."""
        entry = plays.store()["secrets_credentials"]["postgres"]
        current = Login(entry["current"]["user"], entry["current"]["password"])
        assert not entry.get("pending") and "revoked" in entry.get("previous", {"revoked": ""}), sorted(entry)
        for host, consumers in CONSUMERS.items():
            assert self.published(host) == current, f"{host}: .env and store disagree"
            found = self.containers(host)
            names = sorted(one["Config"]["Labels"].get("com.docker.compose.service", "") for one in found)
            assert names == sorted([*consumers, *(["postgres"] if host == "db1" else [])]), f"{host}: {names}"
            for one in found:
                env = dict(pair.split("=", 1) for pair in one["Config"]["Env"])
                if "SPRING_DATASOURCE_PASSWORD" in env:
                    given = Login(env["SPRING_DATASOURCE_USERNAME"], env["SPRING_DATASOURCE_PASSWORD"])
                    assert given == current, f"{host}: {one['Name']} was not given what is stored"
                    self.run(host, f'docker exec -i {one["Id"]} python3 -c "{WORK}"')
            planned = self.compose(host, "up", "-d", "--dry-run")
            assert not re.search(r"Container \S+ +(?:Recreate|Creating)\b", planned), f"{host}: {planned}"
            state = json.loads(self.run(host, f"cat {PROJECT}/.chat4all/state.json"))
            assert not state.get("lease") and not state.get("records"), f"{host}: {state}"
            litter = self.run(host, f"find {PROJECT} -name '.*.tmp'")
            assert not litter, f"{host}: {litter}"
        assert self.log_in(current) == "accepted"
        for login in dead:
            assert "authentication failed" in self.log_in(login), f"{login.user} shall be dead"
        may = set(self.psql("SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL").split())
        assert may == {current.user, *([entry["admin"]["user"]] if entry.get("admin") else [])}


class SpreadPlays(Plays):
    """The playbooks for three hosts in one group."""

    def __init__(self, machines: Machines, folder: Path, **variables: Any) -> None:
        self.machines = machines
        super().__init__(
            folder,
            Path(PROJECT),
            ansible_connection="ssh",
            ansible_user="root",
            ansible_python_interpreter="/usr/bin/python3",
            ansible_ssh_private_key_file=str(machines.folder / "key"),
            ansible_ssh_common_args="-F /dev/null " + " ".join(f"-o {key}={value}" for key, value in SSH.items()),
            ansible_control_path_dir=str(machines.folder / "cp"),
            secrets_services={},
            **variables,
        )

    def write_inventory(self) -> None:
        # Each by a variable of its own, as in many an inventory.
        hosts = {
            host: {"address": address, "ansible_host": "{{ address }}"}
            for host, address in self.machines.addresses.items()
        }
        group = {"hosts": hosts, "vars": self.variables}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"production": group}))


def wait(condition: Callable[[], Any], what: str, timeout: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.3)
