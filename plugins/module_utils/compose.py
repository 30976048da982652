# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Compose project: as its files describe it, and as it runs.

Facts about Compose 2.26 that this relies on (tests/integration_docker/test_compose.py):
``docker compose create --no-recreate --scale S=N S`` makes new containers without starting anything and without running jobs
again; their ``config-hash`` label equals ``docker compose config --hash``; ``create --dry-run`` says at once what
``docker compose up -d`` would create or recreate. ``create S`` scales the services that ``S`` depends on, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

LABEL = "com.docker.compose."
# In the order in which Compose itself looks for them.
DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_FILES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
COMPLETED = "service_completed_successfully"
MARKER = "chat4all-secrets-marker"
# Names of variables whose values are masked where Compose quotes them in an error.
SENSITIVE = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|URI|URL|DSN|SALT", re.IGNORECASE)


@dataclass(frozen=True)
class Service:
    """A service of the resolved Compose model. ``config`` holds secret values: it is never returned or shown."""

    name: str
    image: str
    config: dict[str, Any]
    depends_on: dict[str, str]
    # Others wait for it to end: a one-shot job.
    is_job: bool


@dataclass(frozen=True)
class Container:
    """A container of the project. ``env`` holds secret values: it is never returned or shown."""

    id: str
    name: str
    service: str
    number: int
    config_hash: str
    image: str
    image_id: str
    running: bool
    status: str
    health: str | None
    exit_code: int
    restarting: bool
    started_at: str
    addresses: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_inspect(cls, data: Mapping[str, Any]) -> Container:
        """Read one element of ``docker inspect``."""
        labels, state = data["Config"].get("Labels") or {}, data["State"]
        networks = (data.get("NetworkSettings") or {}).get("Networks") or {}
        return cls(
            id=data["Id"],
            name=data["Name"].lstrip("/"),
            service=labels.get(LABEL + "service", ""),
            number=int(labels.get(LABEL + "container-number", 0) or 0),
            config_hash=labels.get(LABEL + "config-hash", ""),
            image=data["Config"].get("Image", ""),
            image_id=data["Image"],
            running=bool(state.get("Running")),
            status=state.get("Status", ""),
            health=(state.get("Health") or {}).get("Status"),
            exit_code=int(state.get("ExitCode") or 0),
            restarting=bool(state.get("Restarting")),
            started_at=state.get("StartedAt", ""),
            addresses={name: facts.get("IPAddress", "") for name, facts in networks.items()},
            env=dict(item.split("=", 1) for item in data["Config"].get("Env") or [] if "=" in item),
        )


class Project:
    """A Compose project in a folder. Raises :class:`SecretsError` where there is none or it is not valid."""

    def __init__(self, docker: DockerCli, directory: str, flags: list[str]) -> None:
        self.docker = docker
        self.directory = directory
        self._flags = flags
        self.reload()

    @classmethod
    def load(
        cls,
        docker: DockerCli,
        project_dir: str,
        files: Iterable[str] = (),
        env_file: str | None = None,
        name: str | None = None,
    ) -> Project:
        """Find the project: what is given, else what its running containers say, else what Compose finds by itself."""
        directory = os.path.realpath(project_dir)
        if not os.path.isdir(directory):
            raise SecretsError(f"{project_dir}: no such folder; secrets_project_dir is where the Compose file is")
        files = [path if os.path.isabs(path) else os.path.join(directory, path) for path in files]
        if not files:
            files, running_name = cls._running(docker, directory)
            name = name or running_name
        if not files and not any(os.path.exists(os.path.join(directory, known)) for known in DEFAULT_FILES):
            raise SecretsError(f"{project_dir}: no Compose file there ({', '.join(DEFAULT_FILES)})")
        for path in files:
            if not os.path.exists(path):
                raise SecretsError(f"{path}: no such Compose file")
        flags = ["--project-directory", directory, "--profile", "*"]
        for path in files:
            flags += ["--file", path]
        if env_file:
            flags += ["--env-file", env_file]
        if name:
            flags += ["--project-name", name]
        return cls(docker, directory, flags)

    @staticmethod
    def _running(docker: DockerCli, directory: str) -> tuple[list[str], str | None]:
        """Return files and name of the project that runs from this folder; no files where Compose finds the same ones."""
        form = f'{{{{.Label "{LABEL}project"}}}}\t{{{{.Label "{LABEL}project.config_files"}}}}'
        listing = docker.run(
            "ps", "--all", "--filter", f"label={LABEL}project.working_dir={directory}", "--format", form
        ).stdout
        projects: dict[str, str] = {}
        for row in listing.splitlines():
            name, _tab, files = row.partition("\t")
            projects.setdefault(name, files)
        if len(projects) > 1:
            raise SecretsError(
                f"{directory}: several projects run from this folder ({', '.join(sorted(projects))}); "
                "remove the one that is not meant"
            )
        for name, files in projects.items():
            paths = [path for path in files.split(",") if path]
            found = [path for path in (os.path.join(directory, known) for known in DEFAULT_FILES) if os.path.exists(path)]
            overrides = [os.path.join(directory, known) for known in OVERRIDE_FILES]
            # An override may have come or gone since: what counts is what a plain `docker compose up` reads now.
            if found and [path for path in paths if path not in overrides] == found[:1]:
                return [], name
            return paths, name
        return [], None

    def reload(self) -> None:
        """Read the files and ``.env`` again."""
        model = json.loads(self.compose("config", "--format", "json").stdout)
        self.name: str = model["name"]
        services: dict[str, dict[str, Any]] = model.get("services") or {}
        depends = {name: _depends_on(config) for name, config in services.items()}
        jobs = {name for needed in depends.values() for name, condition in needed.items() if condition == COMPLETED}
        self.services = {
            name: Service(name, config.get("image", ""), config, depends[name], name in jobs)
            for name, config in services.items()
        }
        self._volumes: dict[str, dict[str, Any]] = model.get("volumes") or {}

    @property
    def files(self) -> list[str]:
        """The Compose files in their order, overrides included."""
        given = [self._flags[index + 1] for index, flag in enumerate(self._flags) if flag == "--file"]
        if given:
            return given
        present = [os.path.join(self.directory, known) for known in DEFAULT_FILES + OVERRIDE_FILES]
        present = [path for path in present if os.path.exists(path)]
        return present[:1] + [path for path in present[1:] if ".override." in path][:1]

    def compose(self, *arguments: str, **options: Any) -> Completed:
        """Run ``docker compose ARGUMENTS`` for this project."""
        return self.docker.run("compose", *self._flags, *arguments, cwd=self.directory, **options)

    def hashes(self) -> dict[str, str]:
        """Return the configuration hash that a fresh container of each service would get."""
        rows = self.compose("config", "--hash", "*").stdout.splitlines()
        return dict(row.split(None, 1) for row in rows if row.strip())

    def containers(self, services: Iterable[str] | None = None) -> list[Container]:
        """Return the project's containers, also those that do not run; those of ``docker compose run`` left out."""
        filters = ["--filter", f"label={LABEL}project={self.name}", "--filter", f"label={LABEL}oneoff=False"]
        ids = self.docker.run("ps", "--all", "--quiet", "--no-trunc", *filters).stdout.split()
        if not ids:
            return []
        # A container may vanish between the two commands; what is there is still printed.
        inspected = json.loads(self.docker.run("inspect", *ids, check=False).stdout or "[]")
        found = [Container.from_inspect(data) for data in inspected]
        return [container for container in found if services is None or container.service in services]

    def consumers(self, variables: Iterable[str]) -> dict[str, set[str]]:
        """Return, for each variable, the services whose resolved configuration changes when the variable does."""
        found = {}
        for variable in variables:
            # The process environment beats .env.
            changed = self.compose("config", "--format", "json", environment={variable: MARKER}).stdout
            services = json.loads(changed).get("services") or {}
            found[variable] = {name for name, service in self.services.items() if services.get(name) != service.config}
        return found

    def waves(self, names: Iterable[str]) -> list[list[str]]:
        """Return the services in waves: each one comes after all that it depends on, directly or through others."""
        wanted, depth = set(names), {}

        def level(name: str) -> int:
            if name not in depth:
                below = [level(needed) for needed in self.services[name].depends_on if needed in self.services]
                depth[name] = max(below, default=0) + (name in wanted)
            return depth[name]

        by_level: dict[int, list[str]] = {}
        for name in sorted(wanted):
            by_level.setdefault(level(name), []).append(name)
        return [by_level[number] for number in sorted(by_level)]

    def replace_mode(self, name: str, options: Mapping[str, Any]) -> tuple[str, str]:
        """Return how a service is replaced (``start_first``, ``stop_first``, ``job``), and why."""
        service = self.services[name]
        if service.is_job:
            return "job", "others wait for it to end"
        declared = options.get("replace", "auto")
        if declared not in ("auto", "start_first", "stop_first"):
            raise SecretsError(f"secrets_services.{name}.replace: {declared!r} is neither start_first nor stop_first")
        forced = _stop_first_reason(service.config)
        if forced:
            if declared == "start_first":
                raise SecretsError(f"secrets_services.{name}.replace: start_first is not possible: {forced}")
            return "stop_first", forced
        return ("stop_first", "configured") if declared == "stop_first" else ("start_first", "")

    def evidence(self, name: str, options: Mapping[str, Any]) -> str:
        """Return what will show that a new container of the service works."""
        service = self.services[name]
        if service.is_job:
            return "exit code 0"
        if options.get("ready_log"):
            return f'log "{options["ready_log"]}"'
        check = service.config.get("healthcheck")
        if check and not check.get("disable") and check.get("test") != ["NONE"]:
            return "health check"
        return "health check" if check is None and self._image_has_check(service.image) else "none"

    def _image_has_check(self, image: str) -> bool:
        done = self.docker.run("image", "inspect", "--format", "{{json .Config.Healthcheck}}", image, check=False)
        return done.returncode == 0 and done.stdout.strip() not in ("", "null", "<no value>")

    def pending_changes(self) -> list[tuple[str, str]]:
        """Return what ``docker compose up -d`` would do to services that have containers: ``(service, recreate)``.

        A service without any container (one of a profile that is not in use) is not listed.
        """
        text = self.compose("create", "--dry-run").stderr
        rows = re.findall(r"Container (\S+)\s+Recreate\s*$", text, re.MULTILINE)
        names = {container.name: container.service for container in self.containers()}
        return sorted({(names.get(name, name), "recreate") for name in rows})

    def image_drift(self, services: Iterable[str]) -> list[str]:
        """Return, as lines, which containers run another image than their tag names now."""
        wanted, lines, known = set(services), [], {}
        for container in self.containers():
            if container.service not in wanted or container.image.startswith("sha256:"):
                continue
            if container.image not in known:
                done = self.docker.run("image", "inspect", "--format", "{{.Id}}", container.image, check=False)
                known[container.image] = done.stdout.strip()
            if known[container.image] != container.image_id:
                lines.append(f"{container.name} runs another image than {container.image} is now")
        return lines

    def has_data(self, name: str) -> bool:
        """Tell whether a service has been started before: a container or a filled volume of its own is there."""
        if self.containers([name]):
            return True
        for mount in self.services[name].config.get("volumes") or []:
            if mount.get("type") == "volume" and mount.get("source"):
                volume = (self._volumes.get(mount["source"]) or {}).get("name") or f"{self.name}_{mount['source']}"
                if self.docker.run("volume", "inspect", volume, check=False).returncode == 0:
                    return True
            elif mount.get("type") == "bind" and not mount.get("read_only"):
                if os.path.isdir(mount["source"]) and os.listdir(mount["source"]):
                    return True
        return False


def _depends_on(config: Mapping[str, Any]) -> dict[str, str]:
    needed = {name: facts.get("condition", "") for name, facts in (config.get("depends_on") or {}).items()}
    for key in ("network_mode", "ipc", "pid"):
        kind, _colon, target = str(config.get(key) or "").partition(":")
        if kind == "service":
            needed.setdefault(target, "")
    return needed


def _stop_first_reason(config: Mapping[str, Any]) -> str:
    """Return why two containers of a service cannot run beside one another; empty where they can."""
    if config.get("container_name"):
        return "fixed container_name"
    for port in config.get("ports") or []:
        published = str(port.get("published") or "")
        if published and "-" not in published and published != "0":
            return f"host port {published}"
    mode = str(config.get("network_mode") or "")
    if mode == "host" or mode.startswith(("service:", "container:")):
        return f"network_mode {mode.split(':')[0]}"
    for facts in (config.get("networks") or {}).values():
        if facts and (facts.get("ipv4_address") or facts.get("ipv6_address")):
            return "static address"
    for mount in config.get("volumes") or []:
        if mount.get("type") == "volume" and not mount.get("source"):
            return "anonymous volume"
        if mount.get("type") == "volume" and not mount.get("read_only"):
            return f"volume {mount['source']} has one writer"
    if config.get("devices"):
        return "devices"
    return ""
