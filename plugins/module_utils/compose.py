# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Compose project: as its files describe it, and as it runs.

Facts about Compose 2.26 that this relies on (tests/integration_docker/test_compose.py):
``docker compose create --no-recreate --scale S=N S`` makes new containers without starting anything and without running
jobs again; their ``config-hash`` label equals what ``docker compose config --hash`` says of the resolved configuration
(of the files themselves it says something else, where there is an ``env_file``); ``create --dry-run`` says at once what
``docker compose up -d`` would create or recreate, and recreates what depends on it as well; ``create S`` also scales
what ``S`` depends on.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import moment
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker, sensitive_values

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
# What the engine waits for a container to stop, unless its service says otherwise.
STOP_GRACE = 10


@dataclass(frozen=True)
class Service:
    """A service of the resolved Compose model. ``config`` holds secret values: it is never returned or shown."""

    name: str
    image: str
    config: dict[str, Any] = field(repr=False)
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
    # Seconds since 1970, by the engine's clock.
    created: float
    started_at: str
    finished_at: str = ""
    restarts: int = 0
    # Seconds between the signal to stop and the one to kill.
    stop_grace: int = STOP_GRACE
    # It has volumes without a name: nothing but ``docker compose create`` hands them on.
    anonymous_volumes: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_inspect(cls, data: Mapping[str, Any]) -> Container:
        """Read one element of ``docker inspect``."""
        labels, state = data["Config"].get("Labels") or {}, data["State"]
        networks = (data.get("NetworkSettings") or {}).get("Networks") or {}
        grace = data["Config"].get("StopTimeout")
        return cls(
            id=data["Id"],
            name=data["Name"].lstrip("/"),
            service=labels.get(LABEL + "service", ""),
            number=int(labels.get(LABEL + "container-number") or 0),
            config_hash=labels.get(LABEL + "config-hash", ""),
            image=data["Config"].get("Image", ""),
            image_id=data["Image"],
            running=bool(state.get("Running")),
            status=state.get("Status", ""),
            health=(state.get("Health") or {}).get("Status"),
            exit_code=int(state.get("ExitCode") or 0),
            restarting=bool(state.get("Restarting")),
            created=moment(data["Created"]),
            started_at=state.get("StartedAt", ""),
            finished_at=state.get("FinishedAt", ""),
            restarts=int(data.get("RestartCount") or 0),
            stop_grace=STOP_GRACE if grace is None else int(grace),
            anonymous_volumes=any(
                mount.get("Type") == "volume" and re.fullmatch(r"[0-9a-f]{64}", mount.get("Name", ""))
                for mount in data.get("Mounts") or []
            ),
            addresses={name: facts.get("IPAddress", "") for name, facts in networks.items()},
            env=dict(item.split("=", 1) for item in data["Config"].get("Env") or [] if "=" in item),
        )


def by_address(containers: Iterable[Container]) -> dict[str, str]:
    """Return the service of every address that containers have."""
    return {address: one.service for one in containers for address in one.addresses.values() if address}


class Project:
    """A Compose project in a folder. Raises :class:`SecretsError` where there is none or it is not valid."""

    def __init__(
        self,
        docker: DockerCli,
        directory: str,
        files: Iterable[str] = (),
        env_file: str | None = None,
        name: str | None = None,
    ) -> None:
        self.docker = docker
        self.directory = directory
        # The one file with the project's variables, for whoever reads or writes it.
        self.env_file = os.path.join(directory, env_file or ".env")
        self._files = list(files)
        # A running service of a profile is one like any other.
        self._flags = ["--project-directory", directory, "--profile", "*"]
        if env_file:
            # One that is still to be written is an empty one; Compose would refuse.
            self._flags += ["--env-file", self.env_file if os.path.lexists(self.env_file) else os.devnull]
        if name:
            self._flags += ["--project-name", name]
        self._env_values = Masker()
        self._images: dict[str, dict[str, Any]] = {}
        # What a trial reads in the place of a file, and the variables that it has besides those of the env file.
        self._text: str | None = None
        self._extra: dict[str, str] = {}
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
        """Find the project: what is given, else what its containers say, else what Compose finds by itself."""
        directory = os.path.abspath(project_dir)
        if not os.path.isdir(directory):
            raise SecretsError(f"{project_dir}: no such folder; secrets_project_dir is where the Compose file is")
        labels = cls._running(docker, directory, name)
        # Compose hashes absolute paths, so the folder has to be spelled as it was when the containers were made.
        directory = labels.get("project.working_dir") or directory
        name = name or labels.get("project")
        env_file = env_file or cls._started_with(directory, labels.get("project.environment_file", ""))
        files = [os.path.join(directory, path) for path in files]
        if not files:
            plain = cls._plain_files(directory, os.path.join(directory, env_file or ".env"))
            used = [path for path in labels.get("project.config_files", "").split(",") if path]
            overrides = {os.path.join(directory, known) for known in OVERRIDE_FILES}
            # An override may have come or gone since: what counts is what a plain `docker compose up` reads now.
            if [path for path in used if path not in overrides] != [path for path in plain if path not in overrides]:
                files = used
            if not files and not plain:
                raise SecretsError(f"{project_dir}: no Compose file there ({', '.join(DEFAULT_FILES)})")
        for path in files:
            if not os.path.exists(path):
                raise SecretsError(f"{path}: no such Compose file")
        return cls(docker, directory, files, env_file, name)

    @staticmethod
    def _running(docker: DockerCli, directory: str, name: str | None) -> dict[str, str]:
        """Return the labels of the newest container of the project that was made from this folder."""
        keys = ("project", "project.working_dir", "project.config_files", "project.environment_file")
        # A folder's name may hold any character.
        form = "[" + ",".join(f'{{{{json (.Label "{LABEL}{key}")}}}}' for key in keys) + "]"
        listing = docker.run("ps", "--all", "--filter", f"label={LABEL}project.working_dir", "--format", form).stdout
        found: dict[str, dict[str, str]] = {}
        for row in listing.splitlines():
            labels = dict(zip(keys, json.loads(row)))
            if os.path.realpath(labels["project.working_dir"]) != os.path.realpath(directory):
                continue
            if name in (None, labels["project"]):
                found.setdefault(labels["project"], labels)
        if len(found) > 1:
            raise SecretsError(
                f"{directory}: several projects were started from this folder ({', '.join(sorted(found))}); "
                "say which one: project_name"
            )
        return next(iter(found.values()), {})

    @staticmethod
    def _started_with(directory: str, label: str) -> str | None:
        """Return the env file that the containers were started with; ``None`` where it was not named."""
        if not label or os.path.exists(os.path.join(directory, label)):
            return label or None
        if "," in label:
            raise SecretsError(
                f"{directory}: was started with several env files ({label}); keep the variables in one of them"
            )
        raise SecretsError(
            f"{os.path.join(directory, label)}: no such file, but the running containers were started with "
            f"--env-file {label}; say where it is: secrets_env_file"
        )

    @classmethod
    def _plain_files(cls, directory: str, env_file: str) -> list[str]:
        """Return the files that ``docker compose`` reads in a folder when its command line names none."""
        named = cls._named_files(directory, env_file)
        if named:
            return named
        present = [path for path in (os.path.join(directory, known) for known in DEFAULT_FILES) if os.path.exists(path)]
        beside = [path for path in (os.path.join(directory, known) for known in OVERRIDE_FILES) if os.path.exists(path)]
        return present[:1] + beside[:1] if present else []

    @staticmethod
    def _named_files(directory: str, env_file: str) -> list[str]:
        """Return the files that the env file names."""
        env = read_plain_file(env_file)
        entries = dotenv.parse(env.decode("utf-8", "surrogateescape"), where=env_file) if env else []
        chosen = {entry.key: entry.value for entry in entries}
        if not chosen.get("COMPOSE_FILE"):
            return []
        separator = chosen.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        return [os.path.join(directory, path) for path in str(chosen["COMPOSE_FILE"]).split(separator)]

    def reload(self) -> None:
        """Read the files and ``.env`` again."""
        self._mask_env_file()
        self._resolved = self.compose("config", "--format", "json").stdout
        model = json.loads(self._resolved)
        self.name: str = model["name"]
        services: dict[str, dict[str, Any]] = model.get("services") or {}
        depends = {name: _depends_on(config) for name, config in services.items()}
        jobs = {name for needed in depends.values() for name, condition in needed.items() if condition == COMPLETED}
        self.services = {
            name: Service(name, config.get("image") or f"{self.name}-{name}", config, depends[name], name in jobs)
            for name, config in services.items()
        }
        self._volumes: dict[str, dict[str, Any]] = model.get("volumes") or {}
        self._mounted = {kind: model.get(kind) or {} for kind in ("secrets", "configs")}

    @property
    def files(self) -> list[str]:
        """The Compose files in their order, overrides included."""
        return self._files or self._plain_files(self.directory, self.env_file)

    @property
    def override(self) -> str | None:
        """The override that belongs to the files, there or not; ``None`` where they are named and it is not."""
        beside = [os.path.join(self.directory, known) for known in OVERRIDE_FILES]
        read = [path for path in self.files if path in beside]
        if read or self._files or self._named_files(self.directory, self.env_file):
            return read[0] if read else None
        # Beside compose.yml an override of the same kind of name.
        kind = os.path.basename(self.files[0]).partition(".")[0]
        return os.path.join(self.directory, f"{kind}.override.yml")

    def with_override(self, text: str, variables: Mapping[str, str]) -> Project:
        """Return the project as it would be with this text as its override, and these variables set; writes nothing."""
        trial = copy.copy(self)
        trial._files = ["-" if path == self.override else path for path in self.files]
        if "-" not in trial._files:
            trial._files.append("-")
        trial._text, trial._extra = text, dict(variables)
        trial.reload()
        return trial

    def compose(self, *arguments: str, **options: Any) -> Completed:
        """Run ``docker compose ARGUMENTS`` for this project."""
        return self._compose(self._files, *arguments, **options)

    def create(self, services: Iterable[str], scale: Mapping[str, int], *flags: str, **options: Any) -> Completed:
        """Make containers without starting them; whatever else these services need is left at the number that is there.

        ``scale`` is how many containers each of ``services`` shall have, those that exist counted in.
        """
        services = list(services)
        there: dict[str, int] = dict.fromkeys(self.needed_by(services), 0)
        for container in self.containers(there):
            there[container.service] += 1
        counts = [f"--scale={name}={count}" for name, count in sorted({**there, **scale}.items())]
        # The name of a service may begin with a dash.
        return self.compose("create", *flags, *counts, "--", *services, **options)

    def hashes(self) -> dict[str, str]:
        """Return the configuration hash that a fresh container of each service would get."""
        rows = self._compose(["-"], "config", "--hash", "*", stdin=self._resolved).stdout.splitlines()
        return dict(row.split(None, 1) for row in rows if row.strip())

    def stale(self, containers: Iterable[Container]) -> set[str]:
        """Return the ids of the containers that were made from another configuration than the present one."""
        hashes = self.hashes()
        # The hash does not cover secrets and configs made from variables: take the last change of the source.
        mounting = {name for name in self.services if self._mounts_of(name)}
        changed = os.stat(self.env_file).st_mtime if mounting and os.path.exists(self.env_file) else 0.0
        return {
            container.id
            for container in containers
            if container.config_hash != hashes.get(container.service)
            or (container.service in mounting and container.created < changed)
        }

    def containers(self, services: Iterable[str] | None = None) -> list[Container]:
        """Return the project's containers, also those that do not run; those of ``docker compose run`` left out."""
        filters = ["--filter", f"label={LABEL}project={self.name}", "--filter", f"label={LABEL}oneoff=False"]
        ids = self.docker.run("ps", "--all", "--quiet", "--no-trunc", *filters).stdout.split()
        wanted = None if services is None else set(services)
        return [one for one in self.inspect(ids) if one.service and (wanted is None or one.service in wanted)]

    def inspect(self, ids: Iterable[str]) -> list[Container]:
        """Return the containers with these ids; one that is gone meanwhile is left out."""
        ids = list(ids)
        done = self.docker.run("inspect", "--type", "container", *ids, check=False) if ids else None
        if not done:
            return []
        if done.returncode != 0 and "no such" not in done.stderr.lower():
            raise SecretsError(f"docker inspect failed: {self.docker.last_line(done.stderr)}")
        return [Container.from_inspect(data) for data in json.loads(done.stdout or "[]")]

    def consumers(self, variables: Iterable[str]) -> dict[str, set[str]]:
        """Return, for each variable, the services whose resolved configuration changes when the variable does."""
        variables = list(variables)
        with ThreadPoolExecutor(max_workers=4) as pool:
            uninterpolated = pool.submit(self.uninterpolated)
            # The process environment beats .env.
            models = pool.map(lambda variable: self._model(environment={variable: MARKER}), variables)
            raw, marked = uninterpolated.result().get("services") or {}, dict(zip(variables, models))
        found = {}
        for variable, changed in marked.items():
            services = changed.get("services") or {}
            found[variable] = {name for name, service in self.services.items() if services.get(name) != service.config}
            for kind, sources in self._mounted.items():
                moved = {
                    source
                    for source, facts in (changed.get(kind) or {}).items()
                    if facts != sources.get(source) or facts.get("environment") == variable
                }
                found[variable] |= {name for name in self.services if self._mounts_of(name, kind) & moved}
            # What a service takes from the whole file does not follow the process environment.
            found[variable] |= {name for name, config in raw.items() if self._takes_all(config, variable)}
        return found

    def secret_files(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return, by service, its secrets that are files: name, path in the containers, path here."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        for name, service in self.services.items():
            for used in service.config.get("secrets") or []:
                path = (self._mounted["secrets"].get(used["source"]) or {}).get("file")
                if path:
                    target = os.path.join("/run/secrets", used.get("target") or used["source"])
                    found.setdefault(name, []).append((used["source"], target, os.path.join(self.directory, path)))
        return found

    def uninterpolated(self) -> dict[str, Any]:
        """Return the model as it is typed, before variables and env files are put in."""
        return self._model("--no-interpolate")

    def needed_by(self, services: Iterable[str]) -> set[str]:
        """Return the services and all that they depend on."""
        found, left = set(), list(services)
        while left:
            name = left.pop()
            if name in self.services and name not in found:
                found.add(name)
                left += self.services[name].depends_on
        return found

    def waves(self, names: Iterable[str]) -> list[list[str]]:
        """Return the services in waves: each one comes after all that it depends on, directly or through others."""
        wanted = set(names)
        depth: dict[str, int] = {}

        def level(name: str) -> int:
            if name not in depth:
                below = [level(needed) for needed in self.services[name].depends_on if needed in self.services]
                depth[name] = max(below, default=0) + (name in wanted)
            return depth[name]

        by_level: dict[int, list[str]] = {}
        for name in sorted(wanted):
            by_level.setdefault(level(name), []).append(name)
        return [by_level[number] for number in sorted(by_level)]

    def replace_mode(self, name: str, declared: str = "auto") -> tuple[str, str]:
        """Return how a service is replaced (``start_first``, ``stop_first``, ``job``), and why."""
        service = self.services[name]
        if service.is_job:
            return "job", "others wait for it to end"
        inside = self.inside(name)
        impossible = f"{inside} runs inside it" if inside else _one_at_a_time(service.config)
        if impossible:
            return "stop_first", impossible
        if declared != "auto":
            return declared, "configured"
        owned = self._owns(name)
        return ("stop_first", owned) if owned else ("start_first", "")

    def inside(self, name: str) -> str:
        """Return a service that runs inside another one's network, IPC or process space; empty where none does."""
        return min((other for other, facts in self.services.items() if name in _joined(facts.config)), default="")

    def evidence(self, name: str, ready_log: str = "") -> str:
        """Return what will show that a new container of the service works."""
        service = self.services[name]
        if service.is_job:
            return "exit code 0"
        if ready_log:
            return f'log "{ready_log}"'
        check = service.config.get("healthcheck") or {}
        test = check.get("test") or (self._image_config(service.image).get("Healthcheck") or {}).get("Test")
        return "health check" if test and test[0] != "NONE" and not check.get("disable") else "none"

    def pending_changes(self, containers: Sequence[Container] | None = None) -> list[tuple[str, str]]:
        """Return what ``docker compose up -d`` would do to services with containers: ``(service, recreate|create)``.

        Left out are those that it would recreate only because they depend on another one that it recreates, and those
        without any container (of a profile that is not in use). ``containers``: the project's, where they are known.
        """
        containers = self.containers() if containers is None else containers
        changes = self.announced(self.compose("create", "--dry-run", check=False), containers)
        recreated = {service for service, change in changes if change == "recreate"}
        stale = self.stale(containers) if len(recreated) > 1 else set()
        changed = {one.service for one in containers if one.id in stale or (recreated and self._drift(one))}
        dragged = {name for name in recreated - changed if (self.needed_by([name]) - {name}) & recreated}
        present = {container.service for container in containers} - dragged
        return sorted(change for change in changes if change[0] in present)

    def announced(self, dry_run: Completed, containers: Sequence[Container]) -> set[tuple[str, str]]:
        """Return what a dry run says that it would do: ``(service, recreate|create)``."""
        if dry_run.returncode != 0 and "Could not find the file" in dry_run.stderr:
            # It tries to copy a secret into a container that was only pretended. What it compares is known here, too.
            stale = self.stale(containers)
            return {(one.service, "recreate") for one in containers if one.id in stale or self._drift(one)}
        if dry_run.returncode != 0:
            raise SecretsError(f"docker compose create --dry-run failed: {self._reason('create', dry_run.stderr)}")
        rows = re.findall(r"Container (\S+)\s+(Recreate|Creating)\s*$", dry_run.stderr, re.MULTILINE)
        names = {container.name: container.service for container in containers}
        words = {"Recreate": "recreate", "Creating": "create"}
        return {(names.get(name) or self._service_of(name), words[what]) for name, what in rows}

    def image_drift(self, containers: Iterable[Container]) -> list[str]:
        """Return, as lines, which containers run another image than their tag names now."""
        return [line for line in map(self._drift, containers) if line]

    def has_data(self, name: str) -> bool:
        """Tell whether a service was started before: it has a container, a volume of its own or a filled folder."""
        if self.containers([name]):
            return True
        for mount in self.services[name].config.get("volumes") or []:
            if mount.get("type") == "volume" and mount.get("source"):
                volume = (self._volumes.get(mount["source"]) or {}).get("name") or f"{self.name}_{mount['source']}"
                if self.docker.run("volume", "inspect", volume, check=False).returncode == 0:
                    return True
            elif mount.get("type") != "bind" or mount.get("read_only"):
                continue
            elif os.path.isdir(mount["source"]) and os.listdir(mount["source"]):
                return True
        return False

    # -- small parts

    def _compose(self, files: Iterable[str], *arguments: str, **options: Any) -> Completed:
        flags = [*self._flags, *(f"--file={path}" for path in files)]
        options = {"stdin": self._text, **options}
        options["environment"] = {**self._extra, **(options.get("environment") or {})}
        done = self.docker.run("compose", *flags, *arguments, cwd=self.directory, **{**options, "check": False})
        if done.returncode != 0 and options.get("check", True):
            reason = self._reason(arguments[0], done.stderr or done.stdout)
            raise SecretsError(f"docker compose {arguments[0]} failed: {reason}")
        return done

    def _model(self, *flags: str, **options: Any) -> dict[str, Any]:
        return json.loads(self.compose("config", *flags, "--format", "json", **options).stdout)

    def _mounts_of(self, name: str, kind: str | None = None) -> set[str]:
        """Return the secrets and configs of a service that come from variables, not from files."""
        config = self.services[name].config
        return {
            used["source"]
            for which, sources in self._mounted.items()
            for used in config.get(which) or []
            if kind in (None, which) and {"environment", "content"} & set(sources.get(used["source"]) or {})
        }

    def _takes_all(self, raw: Mapping[str, Any], variable: str) -> bool:
        """Tell whether a service has ``env_file: .env`` and does not set the variable by itself."""
        files = env_files(raw, self.directory)
        return os.path.realpath(self.env_file) in files and variable not in typed_environment(raw)

    def _owns(self, name: str) -> str:
        """Return which data of a service two containers might write at the same time; empty where there is none."""
        config = self.services[name].config
        if config.get("devices"):
            return "devices"
        mounts = config.get("volumes") or []
        for mount in mounts:
            if mount.get("type") == "volume" and not mount.get("source"):
                return "anonymous volume"
            if mount.get("read_only") or self._writers(mount) != {name}:
                continue
            if mount.get("type") == "volume":
                return f"volume {mount['source']} has one writer"
            if mount.get("type") == "bind" and os.path.isdir(mount["source"]):
                return f"folder {os.path.relpath(mount['source'], self.directory)} has one writer"
        targets = {mount.get("target") for mount in mounts} | {path.split(":")[0] for path in config.get("tmpfs") or []}
        anonymous = set(self._image_config(self.services[name].image).get("Volumes") or {}) - targets
        return f"anonymous volume {min(anonymous)} (of the image)" if anonymous else ""

    def _writers(self, mount: Mapping[str, Any]) -> set[str]:
        place = (mount.get("type"), mount.get("source"))
        return {
            name
            for name, service in self.services.items()
            for other in service.config.get("volumes") or []
            if (other.get("type"), other.get("source")) == place and not other.get("read_only")
        }

    def _drift(self, container: Container) -> str:
        """Return how a container's image differs from what its tag names now; empty where it does not."""
        if container.image.startswith("sha256:"):
            return ""
        now = self._image(container.image)
        if not now:
            return f"{container.name} runs {container.image}, which is not here any more"
        return (
            ""
            if now["Id"] == container.image_id
            else f"{container.name} runs another image than {container.image} is now"
        )

    def _image(self, image: str) -> dict[str, Any]:
        """Return what the engine knows of a local image; empty where there is none of that name."""
        if image not in self._images:
            done = self.docker.run("image", "inspect", image, check=False)
            self._images[image] = json.loads(done.stdout)[0] if done.returncode == 0 else {}
        return self._images[image]

    def _image_config(self, image: str) -> dict[str, Any]:
        return self._image(image).get("Config") or {}

    def _service_of(self, container_name: str) -> str:
        """Return which service a container that does not exist yet would belong to."""
        for name, service in self.services.items():
            usual = re.escape(self.name) + "[-_]" + re.escape(name) + r"[-_]\d+"
            if container_name == service.config.get("container_name") or re.fullmatch(usual, container_name):
                return name
        return container_name

    def _mask_env_file(self) -> None:
        """Check ``.env`` first, since Compose quotes a line that it cannot read; mask in its errors what it can."""
        content = read_plain_file(self.env_file)
        if content is not None:
            entries = dotenv.parse(content.decode("utf-8", "surrogateescape"), where=self.env_file)
            for entry in entries:
                self.docker.masker.add(*sensitive_values({entry.key: entry.value}))
            self._env_values.add(*[entry.value for entry in entries])

    def _reason(self, command: str, text: str) -> str:
        """Return the line with the reason why Compose failed, without what it quotes of the files."""
        if "unknown flag: --project-directory" in text or "not a docker command" in text:
            return "Compose v2 is not installed (apt install docker-compose-v2 or docker-compose-plugin)"
        quoted = re.search(r"(invalid interpolation format for \S+?)\.?\s", text)
        if quoted:
            return f"{quoted.group(1)}; write $$ for a literal $"
        line = self.docker.last_line(text)
        if "failed to read" in line and "unexpected character" in line:
            return f"it cannot read {self.env_file}"
        line = re.sub(r"`[^`]*`", "a value", line)
        # Only here: elsewhere the names of containers would look like a user's.
        return self._env_values.mask(line) if command == "config" else line


def env_files(config: Mapping[str, Any], directory: str) -> list[str]:
    """Return the files of which a service, as it is typed, gets every variable; their real paths, in their order."""
    given = config.get("env_file") or []
    paths = [
        one.get("path", "") if isinstance(one, dict) else one for one in ([given] if isinstance(given, str) else given)
    ]
    return [os.path.realpath(os.path.join(directory, path)) for path in paths]


def typed_environment(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a service's own environment as it is typed; ``None``: a name alone."""
    given = config.get("environment") or {}
    if isinstance(given, dict):
        return {name: None if value is None else str(value) for name, value in given.items()}
    rows = [str(item).partition("=") for item in given]
    return {name: value if equals else None for name, equals, value in rows}


def _joined(config: Mapping[str, Any]) -> set[str]:
    """Return the services whose network, IPC or process space a service shares."""
    modes = [str(config.get(key) or "").partition(":") for key in ("network_mode", "ipc", "pid")]
    return {target for kind, _colon, target in modes if kind == "service"}


def _depends_on(config: Mapping[str, Any]) -> dict[str, str]:
    needed = {name: facts.get("condition", "") for name, facts in (config.get("depends_on") or {}).items()}
    return {**dict.fromkeys(_joined(config), ""), **needed}


def _one_at_a_time(config: Mapping[str, Any]) -> str:
    """Return why two containers of a service cannot exist beside one another; empty where they can."""
    if config.get("container_name"):
        return "fixed container_name"
    for port in config.get("ports") or []:
        if str(port.get("published") or "0") != "0":
            return f"host port {port['published']}"
    mode = str(config.get("network_mode") or "").partition(":")[0]
    if mode in ("host", "service", "container"):
        return f"network_mode {mode}"
    if config.get("mac_address"):
        return "fixed MAC address"
    for facts in (config.get("networks") or {}).values():
        if facts and any(facts.get(key) for key in ("ipv4_address", "ipv6_address", "mac_address")):
            return "static address"
    return ""
