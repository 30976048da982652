# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a PostgreSQL server is reached: inside its container, or at an address, over TLS that is verified.

Either way ``psql -W`` does the talking, with no terminal, so that it reads a password as one line of its standard input,
for the first connection and after each ``\\connect``. None is ever part of a command, an environment or a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import ENGINES, base_name
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

# How our sessions call themselves; together with the server's own address it tells them from a client's.
APPLICATION = "chat4all.secrets"

# Seconds: for one psql script, for a connection.
SCRIPT_TIMEOUT = 60
CONNECT_TIMEOUT = 10

PSQL = ("psql", "-X", "-q", "-A", "-t", "-W", "-v", "ON_ERROR_STOP=1", "-d")
# What the container's own environment must not decide: where psql connects, and with what. (PGPORT is the server's too.)
NO_DEFAULTS = ("PGHOST", "PGHOSTADDR", "PGPASSWORD", "PGOPTIONS")
LANGUAGE = {"LC_ALL": "C", "PGCLIENTENCODING": "UTF8"}
# Where a client container finds the certificates.
CA_INSIDE = "/run/chat4all-ca.pem"


def conninfo(**parameters: object) -> str:
    """Return a libpq connection string."""

    def quoted(value: object) -> str:
        return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"

    return " ".join(f"{name}={quoted(value)}" for name, value in parameters.items())


class Reach:
    """A way to a server. ``name`` is what people call it, ``own_addresses`` are those of which it logs our logins."""

    name: str
    docker: DockerCli
    own_addresses: list[str]
    # Whether it is a server of which we have neither socket nor log, and no superuser.
    elsewhere = False
    # Its first user, by which its own socket may let us in.
    first_user = ""

    def admin_connection(self, user: str, database: str) -> str:
        """Return the connection string of an administrator's session."""
        raise NotImplementedError

    def network(self, user: str, database: str) -> str:
        """Return the connection string for a login as consumers do it."""
        raise NotImplementedError

    def run(self, connection: str, password: str, script: str, timeout: float) -> Completed:
        """Run a script in ``psql``."""
        raise NotImplementedError

    def log(self, since: float) -> str | None:
        """Return what the server has logged since a time; ``None`` where nobody can tell."""
        raise NotImplementedError


class InContainer(Reach):
    """A server in a running container, whose own socket is for its administrator.

    ``host`` is how consumers reach the server; its own address on its first network by default.
    """

    def __init__(self, docker: DockerCli, container: str, host: str | None = None, port: int = 5432) -> None:
        self.docker = docker
        self.name = container
        self.port = port
        names = {"running": ".State.Running", "paused": ".State.Paused", "networks": ".NetworkSettings.Networks"}
        parts = [f'"{name}":{{{{json {path}}}}}' for name, path in names.items()]
        # Only the one variable: the others hold passwords.
        user = '{{range .Config.Env}}{{if eq (index (split . "=") 0) "POSTGRES_USER"}}{{json .}}{{end}}{{end}}'
        template = "{" + ",".join(parts) + ',"user":[' + user + "]}"
        done = docker.run(
            "inspect", "--type", "container", "--format", template, container, check=False, timeout=SCRIPT_TIMEOUT
        )
        if done.returncode:
            raise SecretsError(f"{container}: cannot be looked at: {docker.last_line(done.stderr)}")
        found = json.loads(done.stdout)
        if not found["running"] or found["paused"]:
            state = "paused" if found["paused"] else "not running"
            raise SecretsError(f"{container}: is {state}, so its PostgreSQL cannot be asked; start it first")
        networks = (found["networks"] or {}).values()
        addresses = [network.get(key) for network in networks for key in ("IPAddress", "GlobalIPv6Address")]
        self.own_addresses = [address for address in addresses if address]
        if not host and not self.own_addresses:
            raise SecretsError(f"{container}: has no address on a container network; give host, as consumers reach it")
        self.host = host or self.own_addresses[0]
        self.first_user = (found["user"][0].split("=", 1)[1] if found["user"] else "") or "postgres"

    def admin_connection(self, user: str, database: str) -> str:
        return conninfo(user=user, dbname=database, application_name=APPLICATION, connect_timeout=CONNECT_TIMEOUT)

    def network(self, user: str, database: str) -> str:
        return conninfo(
            host=self.host,
            port=self.port,
            user=user,
            dbname=database,
            application_name=APPLICATION,
            connect_timeout=CONNECT_TIMEOUT,
        )

    def run(self, connection: str, password: str, script: str, timeout: float) -> Completed:
        command = ["exec", "-i", *_environment_options(), self.name, *PSQL, connection]
        done = self.docker.run(*command, stdin=f"{password}\n{script}", timeout=timeout, check=False)
        if done.returncode in (126, 127) or "Error response from daemon" in done.stderr:
            said = self.docker.last_line(done.stderr or done.stdout)
            raise SecretsError(f"{self.name}: psql cannot be run there: {said}")
        return done

    def log(self, since: float) -> str | None:
        done = self.docker.run("logs", "--since", str(since), self.name, timeout=SCRIPT_TIMEOUT, check=False)
        return None if done.returncode else done.stderr + done.stdout


class AtAddress(Reach):
    """A server elsewhere. ``ca`` is a file here with the certificates by which it is known; ``network`` a container
    network for the client where this host has no ``psql`` of its own and an image has to do."""

    elsewhere = True

    def __init__(self, docker: DockerCli, host: str, port: int, ca: str, network: str | None = None) -> None:
        self.docker = docker
        self.name = f"{host}:{port}"
        self.host, self.port, self.ca = host, port, os.path.abspath(ca)
        self.own_addresses = []
        if not os.path.isfile(self.ca):
            raise SecretsError(f"address.ca: {ca} is no file on this host; put the server's CA certificates there")
        self.image = "" if shutil.which("psql") else self._client_image()
        self.network_name = network

    def _client_image(self) -> str:
        """Return a local image that has ``psql``; nothing is pulled."""
        listing = self.docker.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", check=False).stdout.split()
        names = ENGINES["postgresql"].names
        found = [one for one in listing if re.fullmatch(names, base_name(one)) and not one.endswith("<none>")]
        if not found:
            raise SecretsError(
                f"{self.name}: there is no psql on this host and no image with one; apt-get install postgresql-client"
            )
        return found[0]

    def admin_connection(self, user: str, database: str) -> str:
        return self.network(user, database)

    def network(self, user: str, database: str) -> str:
        return conninfo(
            host=self.host,
            port=self.port,
            user=user,
            dbname=database,
            application_name=APPLICATION,
            connect_timeout=CONNECT_TIMEOUT,
            sslmode="verify-full",
            sslrootcert=CA_INSIDE if self.image else self.ca,
            gssencmode="disable",
        )

    def run(self, connection: str, password: str, script: str, timeout: float) -> Completed:
        text = f"{password}\n{script}"
        return self._in_a_container(connection, text, timeout) if self.image else self._here(connection, text, timeout)

    def _here(self, connection: str, text: str, timeout: float) -> Completed:
        try:
            done = subprocess.run(
                [*PSQL, connection],
                input=text,
                # Of a session of its own: with a terminal it would ask there for the password.
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath), **LANGUAGE},
                timeout=timeout,
                check=False,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise SecretsError(f"{self.name}: psql cannot be run on this host: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise SecretsError(f"{self.name}: psql did not end within {timeout:g} s") from None
        return Completed(done.returncode, done.stdout, done.stderr)

    def _in_a_container(self, connection: str, text: str, timeout: float) -> Completed:
        name = f"chat4all-psql-{secrets.token_hex(4)}"
        options: list[str] = ["--rm", "-i", "--init", "--pull", "never", "--name", name, "--log-driver", "none"]
        options += ["--mount", f"type=bind,source={self.ca},target={CA_INSIDE},readonly"]
        options += ["--network", self.network_name] if self.network_name else []
        command = ["run", *options, *_environment_options(), "--entrypoint", PSQL[0], self.image, *PSQL[1:], connection]
        try:
            done = self.docker.run(*command, stdin=text, timeout=timeout, check=False)
        except SecretsError as error:
            with contextlib.suppress(SecretsError):
                self.docker.run("rm", "--force", name, check=False)
            raise SecretsError(f"{self.name}: psql of {self.image}: {error.message}") from None
        if done.returncode in (125, 126, 127):
            said = self.docker.last_line(done.stderr or done.stdout)
            raise SecretsError(f"{self.name}: psql of {self.image} cannot be run: {said}")
        return done

    def log(self, since: float) -> str | None:
        return None


def _environment_options() -> list[str]:
    pairs = [f"{name}={value}" for name, value in {**LANGUAGE, **dict.fromkeys(NO_DEFAULTS, "")}.items()]
    return [word for pair in pairs for word in ("-e", pair)]


def reach_of(params: dict[str, Any], docker: DockerCli) -> Reach:
    """Return the way to the server that a module's options name."""
    address = params.get("address")
    if not address:
        return InContainer(docker, params["container"], params["host"], params["port"])
    return AtAddress(docker, address["host"], address["port"], address["ca"], address.get("network"))
