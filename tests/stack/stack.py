# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo stack as an object: ``with Stack("mytest") as stack: ...``.

By hand: ``python tests/stack/stack.py up demo`` and ``python tests/stack/stack.py down demo``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
STACKS = HERE.parent.parent / "build" / "stacks"
CONSUMERS = ("message-service", "user-service", "api-gateway")
# What a larger deployment has besides: connectors, and more of the same.
MORE_CONSUMERS = (
    "whatsapp-connector",
    "telegram-connector",
    "instagram-connector",
    "file-service",
    "presence-service",
    "notification-service",
    "search-service",
    "media-service",
    "audit-service",
)
# A variable of the shell would beat the one in the stack's own .env.
SHADOWING = ("COMPOSE_", "POSTGRES_", "PROXY_")


class StackError(Exception):
    """A command about the stack failed, or the stack did not become ready."""


def compose_text(consumers: int) -> str:
    """Return the Compose file for a number of consumers; the ones beyond three are made as user-service is."""
    text = (HERE / "docker-compose.yml").read_text()
    if consumers == len(CONSUMERS):
        return text
    import yaml  # here, because `make clean` runs without the virtual environment

    model = yaml.safe_load(text)
    for name in MORE_CONSUMERS[: consumers - len(CONSUMERS)]:
        service = copy.deepcopy(model["services"]["user-service"])
        service["environment"]["SERVICE_NAME"] = name
        model["services"][name] = service
    return yaml.safe_dump(model, sort_keys=False)


def proxy_text(consumers: int) -> str:
    """Return the proxy's configuration for a number of consumers."""
    more = MORE_CONSUMERS[: consumers - len(CONSUMERS)]
    backends = [f"\nbackend {name}\n    server-template {name} 4 {name}:8080\n" for name in more]
    return (HERE / "haproxy.cfg").read_text() + "".join(backends)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses, below those that outgoing connections take."""
    while True:
        port = random.randint(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


# A session of somebody who is no consumer.
HOLD = """
import os, time, psycopg2
connection = psycopg2.connect(host="postgres", dbname="chat4all", user=os.environ["U"], password=os.environ["P"])
print("connected", flush=True)
time.sleep(600)
"""


class Stack:
    """One deployment of the demo stack in a folder of its own, under a project name of its own."""

    def __init__(
        self,
        name: str,
        directory: str | Path | None = None,
        consumers: int = 3,
        postgres: str = "17",
        health_interval: str = "1s",
    ) -> None:
        if not len(CONSUMERS) <= consumers <= len(CONSUMERS) + len(MORE_CONSUMERS):
            raise ValueError(f"consumers must be {len(CONSUMERS)} to {len(CONSUMERS) + len(MORE_CONSUMERS)}")
        self.project = f"chat4all-{name}"
        self.directory = Path(directory or STACKS / name).resolve()
        self.consumers = CONSUMERS + MORE_CONSUMERS[: consumers - len(CONSUMERS)]
        self.postgres = postgres
        self.health_interval = health_interval

    def __enter__(self) -> Stack:
        self.create()
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def create(self) -> None:
        """Write a fresh deploy folder; what an earlier stack of this name left is removed."""
        self.down()
        self.directory.mkdir(parents=True)
        # Both are read inside containers by users of their own.
        self.directory.chmod(0o755)
        (self.directory / "faults").mkdir(mode=0o755)
        for name, text in {
            "docker-compose.yml": compose_text(len(self.consumers)),
            "haproxy.cfg": proxy_text(len(self.consumers)),
        }.items():
            (self.directory / name).write_text(text)
            (self.directory / name).chmod(0o644)
        descriptor = os.open(self.directory / ".env", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as env:
            env.write(
                f"COMPOSE_PROJECT_NAME={self.project}\n"
                f"PROXY_PORT={free_port()}\n"
                f"POSTGRES_VERSION={self.postgres}\n"
                f"HEALTH_INTERVAL={self.health_interval}\n"
                f"POSTGRES_PASSWORD={secrets.token_urlsafe(24)}\n"
            )

    def up(self, timeout: float = 120) -> None:
        """Start everything and wait until each service answers through the proxy."""
        self.compose("up", "-d", timeout=timeout)
        self.wait(timeout)

    def wait(self, timeout: float = 60) -> None:
        """Wait until each service answers through the proxy."""
        waiting = list(self.consumers)
        deadline = time.monotonic() + timeout
        while waiting:
            waiting = [name for name in waiting if self.get(f"/{name}/health") != 200]
            if waiting and time.monotonic() > deadline:
                raise StackError(f"{self.project}: no answer within {timeout:g} s: {', '.join(waiting)}")
            time.sleep(0.2 if waiting else 0)

    def down(self) -> None:
        """Remove containers, networks, volumes and the folder, whatever state they are in."""
        mine = f"label=com.docker.compose.project={self.project}"
        for listing, removal in (
            (("ps", "--all", "--quiet"), ("rm", "--force", "--volumes")),
            (("network", "ls", "--quiet"), ("network", "rm")),
            (("volume", "ls", "--quiet"), ("volume", "rm", "--force")),
        ):
            found = self.docker(*listing, "--filter", mine).split()
            if found:
                self.docker(*removal, *found)
        if (self.directory / "haproxy.cfg").exists():
            shutil.rmtree(self.directory)

    def docker(self, *arguments: str, stdin: str = "", timeout: float = 120) -> str:
        """Run ``docker ARGUMENTS`` in the deploy folder and return its output."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SHADOWING)}
        done = subprocess.run(
            ["docker", *arguments],
            cwd=self.directory if self.directory.is_dir() else None,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise StackError(f"docker {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """Run ``docker compose ARGUMENTS`` as somebody who stands in the deploy folder would."""
        return self.docker("compose", *arguments, timeout=timeout)

    def containers(self, service: str, running: bool = True) -> list[str]:
        """Return the names of a service's containers, oldest first."""
        filters = ["--filter", f"label=com.docker.compose.project={self.project}"]
        filters += ["--filter", f"label=com.docker.compose.service={service}"]
        listing = self.docker("ps", *([] if running else ["--all"]), *filters, "--format", "{{.Names}}")
        return listing.split()[::-1]

    @cached_property
    def proxy_url(self) -> str:
        """The one address of the stack that the host can reach."""
        return f"http://{self.compose('port', 'proxy', '8080').strip()}"

    def get(self, path: str, timeout: float = 10) -> int:
        """Return the status of a request through the proxy; 0 when there was no answer."""
        try:
            with urllib.request.urlopen(self.proxy_url + path, timeout=timeout) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def stats(self, service: str) -> list[dict]:
        """Return what /stats says in each running container of a service."""
        script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/stats').read().decode())"
        return [json.loads(self.docker("exec", name, "python3", "-c", script)) for name in self.containers(service)]

    def psql(self, sql: str, user: str = "chat4all", database: str = "chat4all") -> str:
        """Run SQL over the server's trusted socket and return the bare values."""
        [server] = self.containers("postgres")
        options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
        command = ("psql", *options, f"--username={user}", f"--dbname={database}")
        return self.docker("exec", "--interactive", server, *command, stdin=sql).strip()

    @contextlib.contextmanager
    def foreign_session(self, user: str, password: str) -> Iterator[None]:
        """Have a session of somebody who is no consumer, from a container of its own."""
        name = f"{self.project}-foreign"
        environment = ("--env", f"U={user}", "--env", f"P={password}")
        options = (f"--network={self.project}_default", *environment, "--entrypoint", "python3")
        self.docker("rm", "--force", name)  # one that a killed test has left
        self.docker("run", "--detach", "--name", name, *options, "chat4all-test/consumer:1", "-uc", HOLD)
        try:
            while "connected" not in self.docker("logs", name):
                if self.docker("inspect", "--format", "{{.State.Running}}", name).strip() != "true":
                    raise StackError(f"{name}: {self.docker('logs', name)}")
            yield
        finally:
            self.docker("rm", "--force", name)

    def server_log(self, since: str = "") -> str:
        """Return what the database server has logged, since a time if one is given."""
        [server] = self.containers("postgres", running=False)
        limit = ["--since", since] if since else []
        done = subprocess.run(
            ["docker", "logs", *limit, server], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return done.stdout

    def plant_fault(self, service: str, fault: str | None) -> None:
        """Break the next start of a service: ``log-failure``, ``exit``, ``never-healthy``; none: heal it."""
        planted = self.directory / "faults" / service
        if fault is None:
            planted.unlink(missing_ok=True)
        else:
            planted.write_text(fault)
            planted.chmod(0o644)


def main() -> int:
    parser = argparse.ArgumentParser(description="Start or remove a demo stack.")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("name")
    parser.add_argument("--consumers", type=int, default=3)
    parser.add_argument("--postgres", default="17")
    options = parser.parse_args()
    stack = Stack(options.name, consumers=options.consumers, postgres=options.postgres)
    if options.action == "down":
        stack.down()
    else:
        stack.create()
        stack.up()
        print(f"{stack.project} runs in {stack.directory}, behind {stack.proxy_url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
