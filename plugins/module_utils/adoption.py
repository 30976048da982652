# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the secrets of a Compose project that nobody has described: which server, which variable, which consumers.

Three answers: *found* (a server that is known, and where its credential comes from), *ask* (something that looks like a
secret, and of which only its owner knows what it is), *warn* (what stands in the way of a rotation, or should not stay).
Nothing that is returned holds a value.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.catalog import called_by, hosts
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import (
    Project,
    Service,
    env_files,
    typed_environment,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import ENGINES, INIT_PREFIX, base_name, engine_of
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import read_plain_file
from ansible_collections.chat4all.secrets.plugins.module_utils.jwt import DERIVED
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import LOGIN
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import read_env

# Bits by which a value is worth to be left as it is until its next turn.
WEAK = 60

# A reference to a variable in a Compose file; $$ is a dollar sign.
NAME_USED = re.compile(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_]\w*)")
WHOLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-?+](.*))?\}|([A-Za-z_]\w*))", re.DOTALL)

# Words of a variable's name that tell a secret, and those that tell that it only speaks about one.
SECRET_WORD = re.compile(
    r"(?!BYPASS|COMPASS)\w*PASS|\w*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|APIKEY)|PW|PWD|SECRETS|SALT"
)
KEY_BEFORE = {
    "ACCESS",
    "API",
    "AUTH",
    "COOKIE",
    "CRYPTO",
    "ENCRYPTION",
    "ENCRYPT",
    "JWT",
    "LICENSE",
    "MASTER",
    "PRIVATE",
    "SECRET",
    "SESSION",
    "SIGNING",
}
ABOUT = {
    "ALGORITHM",
    "COUNT",
    "DAYS",
    "ENABLED",
    "EXPIRATION",
    "EXPIRES",
    "EXPIRY",
    "FILE",
    "HEADER",
    "HOURS",
    "ID",
    "ISSUER",
    "LENGTH",
    "LIFETIME",
    "MAX",
    "MIN",
    "MINUTES",
    "NAME",
    "PATH",
    "POLICY",
    "SECONDS",
    "TIMEOUT",
    "TTL",
    "TYPE",
    "URL",
    "USER",
    "USERNAME",
}
NO_SECRET = re.compile(r"(?:true|false|yes|no|on|off|none|null|\d{1,5}[smhd]?)?$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable's name says that it holds a secret."""
    words = [word for word in re.split(r"[_.\-]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()) if word]
    if not words or words[-1] in ABOUT or words[0] in ("MIN", "MAX"):
        return False
    keys = {words[place] for place in range(len(words) - 1) if words[place + 1] in ("KEY", "KEYS")}
    return any(SECRET_WORD.fullmatch(word) for word in words) or bool(KEY_BEFORE & keys)


def strength(value: str) -> float:
    """Return an upper limit of a value's bits: of its length, its alphabet, and how many different characters it has."""
    classes = ((r"[a-z]", 26), (r"[A-Z]", 26), (r"[0-9]", 10), (r"[^A-Za-z0-9]", 32))
    alphabet = sum(size for pattern, size in classes if re.search(pattern, value))
    return min(len(value) * math.log2(alphabet or 1), len(value) * math.log2(len(set(value)) or 1) + 1)


# What people leave in a copied .env.example; the strategy document's own words among them.
PLACEHOLDERS = re.compile(
    r"change[-_ ]?(?:me|this|it|pass|user|secret)|your[-_ ]|generate[-_ ]|replace[-_ ]?(?:me|this|with)|<|todo|xxx",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Tell whether a value is one that nobody meant to keep."""
    return bool(PLACEHOLDERS.match(value))


def meant(present: Mapping[str, str], variables: Mapping[str, str], begun: bool) -> list[str]:
    """Return the variables of an env file whose values somebody has meant; the others contradict no store.

    Not meant is an empty JWKS document or key id, and, where no container has ever begun with it, whatever is empty or a
    placeholder. ``present``: the values, of a URI its password.
    """
    derived = {variables.get(part) for part in DERIVED}
    return [
        name
        for name, value in present.items()
        if (value or name not in derived) and (begun or (value and not is_placeholder(value)))
    ]


def weakness(value: str) -> str:
    """Say why a value should not stay, in a few words; empty where it may."""
    if is_placeholder(value):
        return "is still a placeholder"
    return "" if strength(value) >= WEAK else "is weak"


# -- the servers that are known


@dataclass(frozen=True)
class Server:
    """How the servers of one engine are recognized, and how they are told who their first user is."""

    engine: str
    # Matched against the last part of an image's name, or else against the service's.
    names: str
    # Where such a server keeps its data; together with the password's variable it tells images of other names.
    data: str
    # Variables of the container, the first that is there counts.
    password: tuple[str, ...]
    user: tuple[str, ...] = ()
    # Where the password may stand in the command line instead.
    argument: str = ""


SERVERS = (
    Server(
        "postgresql",
        ENGINES["postgresql"].names + r"|postgres(ql)?-(repmgr|ha|[0-9][\w-]*)|pgvecto-rs|paradedb|spilo-[0-9]+",
        r"/var/lib/(postgresql|pgsql)(/.*)?|/bitnami/postgresql",
        ("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        ("POSTGRES_USER", "POSTGRESQL_USERNAME"),
    ),
    Server(
        "mongodb",
        r"mongo(db)?|mongodb-(community|enterprise)-server|mongodb-sharded|percona-server-mongodb",
        r"/data/db|/bitnami/mongodb",
        ("MONGO_INITDB_ROOT_PASSWORD", "MONGODB_ROOT_PASSWORD"),
        ("MONGO_INITDB_ROOT_USERNAME", "MONGODB_ROOT_USER"),
    ),
    Server(
        "redis",
        r"redis|redis-stack(-server)?|redis-sentinel|valkey|keydb",
        r"/bitnami/(redis|valkey)/data",
        ("REDIS_PASSWORD", "VALKEY_PASSWORD"),
        argument=r"--requirepass[ =]+[\"']?([^\s\"']+)",
    ),
    Server(
        "minio",
        r"minio",
        r"/bitnami/minio/data",
        ("MINIO_ROOT_PASSWORD", "MINIO_SECRET_KEY"),
        ("MINIO_ROOT_USER", "MINIO_ACCESS_KEY"),
    ),
    Server(
        "grafana",
        r"grafana|grafana-(oss|enterprise)",
        r"/var/lib/grafana",
        ("GF_SECURITY_ADMIN_PASSWORD",),
        ("GF_SECURITY_ADMIN_USER",),
    ),
    Server(
        "prometheus",
        r"prometheus",
        r"/prometheus",
        ("PROMETHEUS_BASIC_AUTH_PASSWORD",),
    ),
    Server(
        "keycloak",
        r"keycloak",
        r"/opt/keycloak/data",
        ("KC_BOOTSTRAP_ADMIN_PASSWORD", "KEYCLOAK_ADMIN_PASSWORD"),
        ("KC_BOOTSTRAP_ADMIN_USERNAME", "KEYCLOAK_ADMIN"),
    ),
)


def server_of(service: Service) -> Server | None:
    """Return what is known of a service that is a server: by its image, its name, or its data and its variables."""
    for text in (service.image, service.name):
        for server in SERVERS:
            if re.fullmatch(server.names, base_name(text)):
                return server
    environment = service.config.get("environment") or {}
    targets = [str(mount.get("target")) for mount in service.config.get("volumes") or []]
    for server in SERVERS:
        given = any(f"{name}{suffix}" in environment for name in server.password for suffix in ("", *FILE_SUFFIXES))
        if given and any(re.fullmatch(server.data, target) for target in targets):
            return server
    return None


# -- where a service takes a value from

# What an image appends to a variable's name for the path of a file that holds the value.
FILE_SUFFIXES = ("_FILE", "__FILE")


@dataclass(frozen=True)
class Place:
    """Where a value comes from.

    ``variable``: from the variable ``name`` of the project's env file or of the shell. ``literal``: typed into the
    Compose file. ``env_file``: from the other file ``name``. ``secret``: from the file ``name`` of a Compose secret.
    """

    kind: str
    name: str = ""
    # The variable is but a part of the value.
    part: bool = False
    # A server reads a copy of its own of the variable, of its first start.
    pinned: bool = False


class Sources:
    """Where the services of a project take their values from; ``raw`` is the model before interpolation."""

    def __init__(self, raw: Mapping[str, Any], directory: str, env_file: str) -> None:
        self.raw = raw
        self.directory = directory
        self.env_file = os.path.realpath(env_file)

    def service(self, name: str) -> Mapping[str, Any]:
        """Return a service as it is typed."""
        return (self.raw.get("services") or {}).get(name) or {}

    def variables(self) -> set[str]:
        """Return the names of all variables to which the services refer, save the servers' own copies."""
        names = set(_references(list((self.raw.get("services") or {}).values())))
        return {name for name in names if original(name) == name or original(name) not in names}

    def place(self, service: str, variable: str) -> Place | None:
        """Return where a variable of the service's environment comes from; ``None`` where it has none."""
        place = self._place(service, variable)
        if place and place.kind == "variable" and original(place.name) in self.variables() - {place.name}:
            return replace(place, name=original(place.name), pinned=True)
        return place

    def _place(self, service: str, variable: str) -> Place | None:
        environment = typed_environment(self.service(service))
        for suffix in FILE_SUFFIXES:
            if environment.get(variable + suffix):
                return self._secret(service, str(environment[variable + suffix]))
        if variable in environment:
            value = environment[variable]
            return Place("variable", variable) if value is None else place_of(value)
        # The last file counts.
        for path in reversed(env_files(self.service(service), self.directory)):
            if variable in read_env(path, [variable]):
                return Place("variable", variable) if path == self.env_file else Place("env_file", path)
        return None

    def _secret(self, service: str, path: str) -> Place:
        """Return the source of a Compose secret that is mounted at ``path``; of another file its path in there."""
        for used in self.service(service).get("secrets") or []:
            source = used if isinstance(used, str) else used.get("source", "")
            target = source if isinstance(used, str) else used.get("target") or source
            if os.path.join("/run/secrets", target) == path:
                facts = (self.raw.get("secrets") or {}).get(source) or {}
                if facts.get("environment"):
                    return Place("variable", facts["environment"])
                return Place("secret", str(facts.get("file") or source))
        return Place("secret", path)

    def values(self) -> dict[str, str]:
        """Return what the project's env file holds, save what only Compose can know."""
        content = read_plain_file(self.env_file) or b""
        entries = dotenv.parse(content.decode("utf-8", "surrogateescape"), where=self.env_file)
        return {entry.key: entry.value for entry in entries if entry.value is not None}

    @staticmethod
    def content(path: str) -> str:
        """Return what a secret's file holds, without the line's end; nothing where it cannot be read."""
        try:
            return (read_plain_file(path) or b"").decode("utf-8", "surrogateescape").rstrip("\r\n")
        except (OSError, SecretsError):
            return ""


def original(name: str) -> str:
    """Return the name of the variable of which a server's own copy may have been made."""
    return name.removeprefix(INIT_PREFIX)


def place_of(value: str) -> Place:
    """Return where a value comes from, by how it is typed in the Compose file."""
    whole = WHOLE.fullmatch(value)
    if whole:
        return Place("variable", whole.group(1) or whole.group(3))
    used = NAME_USED.search(value)
    return Place("variable", used.group(1), part=True) if used else Place("literal")


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield from NAME_USED.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [given]


# -- what is found


@dataclass
class Secret:
    """One value and whoever uses it; the value itself is never returned or shown."""

    place: Place
    value: str = field(default="", repr=False)
    # The variables that hold it, by service; none where a service has it in another way.
    users: dict[str, set[str]] = field(default_factory=dict)
    # The project's env file has a value for it.
    in_env: bool = False
    # Its variable holds a URI with the login in it.
    uri: bool = False

    @property
    def label(self) -> str:
        """What people call it: the variable that it comes from, else the containers' own."""
        if self.place.kind == "variable":
            return self.place.name
        names = sorted(set().union(*self.users.values()))
        return names[0] if names else os.path.basename(self.place.name)


@dataclass
class Credential:
    """The first user of a server that is known, and who uses it."""

    name: str
    engine: str
    # None: the server asks for no password.
    password: Secret | None
    user: Place | None
    consumers: list[str]
    # Neither image nor service are named after the engine.
    unusual: bool = False
    # The variables that hold it within a URI, and whether anybody has it in another way.
    uris: list[str] = field(default_factory=list)
    direct: bool = True
    # The server, where the credential is not its first user's.
    service: str = ""


@dataclass
class Findings:
    """What a look at a project gives; ``warn`` are lines for people."""

    found: list[Credential] = field(default_factory=list)
    ask: list[Secret] = field(default_factory=list)
    warn: list[str] = field(default_factory=list)


def survey(project: Project) -> Findings:
    """Look at a project's files; raises :class:`SecretsError` where Compose cannot read them."""
    return Survey(project, Sources(project.uninterpolated(), project.directory, project.env_file)).findings()


class Survey:
    """One look at a project. ``sources`` tells where its services take their values from."""

    def __init__(self, project: Project, sources: Sources) -> None:
        self.project = project
        self.sources = sources
        self.secrets: dict[tuple[str, ...], Secret] = {}
        for name in project.services:
            for variable, value in self._environment(name).items():
                self._look_at(name, variable, value)
        self._ask_compose()

    def _environment(self, service: str) -> dict[str, str]:
        """Return what a service's containers have as their environment; what Compose prints has its dollars doubled."""
        given = self.project.services[service].config.get("environment") or {}
        return {name: str(value).replace("$$", "$") for name, value in given.items() if value is not None}

    def _look_at(self, service: str, variable: str, value: str) -> None:
        """Enter what one variable of a service holds, where that is a secret."""
        variable = next((variable[: -len(end)] for end in FILE_SUFFIXES if variable.endswith(end)), variable)
        place = self.sources.place(service, variable)
        inside = [unquote(found.group(1)) for found in LOGIN.finditer(value)]
        if place is None or not (is_secret_name(variable) or inside):
            return
        if place.kind == "variable" and place.part:
            typed = typed_environment(self.sources.service(service))[variable] or ""
            for name in filter(is_secret_name, NAME_USED.findall(typed)):
                self._enter(("variable", name), Place("variable", name), "", service, variable)
        elif place.kind == "variable":
            value = "" if place.pinned else [*inside, value][0]
            secret = self._enter(("variable", place.name), replace(place, pinned=False), value, service, variable)
            secret.uri = secret.uri or bool(inside)
        elif place.kind == "secret":
            self._enter(("secret", place.name), place, self.sources.content(place.name), service, variable)
        elif not NO_SECRET.match(value):
            value = [*inside, value][0]
            key = (place.name, variable) if place.kind == "env_file" else ("", variable, value)
            self._enter((place.kind, *key), place, value, service, variable)

    def _enter(self, key: tuple[str, ...], place: Place, value: str, service: str, variable: str) -> Secret:
        secret = self.secrets.setdefault(key, Secret(place))
        secret.value = secret.value or value
        secret.users.setdefault(service, set()).add(variable)
        return secret

    def _ask_compose(self) -> None:
        """Add the services that use a variable in any other way than in their environment."""
        for name in filter(is_secret_name, self.sources.variables()):
            self.secrets.setdefault(("variable", name), Secret(Place("variable", name)))
        variables = {key[1]: secret for key, secret in self.secrets.items() if key[0] == "variable"}
        present = self.sources.values()
        for name, secret in variables.items():
            secret.in_env = bool(present.get(name))
        for name, services in self.project.consumers(variables).items():
            variables[name].value = variables[name].value or present.get(name, "")
            for service in services:
                variables[name].users.setdefault(service, set())
        for name, secret in variables.items():
            others = [other for other in variables.values() if other is not secret and other.value == secret.value]
            # A URL in .env that is made of other variables is no secret of its own.
            made = not is_secret_name(name) and any(set(secret.users) <= set(other.users) for other in others)
            if made or not secret.users:
                del self.secrets["variable", name]

    # -- credentials

    def findings(self) -> Findings:
        """Return the credentials of the servers that are known, the other secrets, and what stands in the way."""
        result = Findings()
        left = dict(self.secrets)
        for service in self.project.services.values():
            server = server_of(service)
            if server:
                result.found.append(self._credential(service, server, left))
        result.found += self._other_users(left, {one.name for one in result.found})
        result.ask = [secret for secret in left.values() if not NO_SECRET.match(secret.value or "?")]
        for credential in result.found:
            result.warn += self._in_the_way(credential)
        named = [(one.password, one.name) for one in result.found if one.password] + [(one, "") for one in result.ask]
        for secret, server in named:
            result.warn += _should_not_stay(secret, self._edits(secret, server))
        return result

    def _edits(self, secret: Secret, server: str = "") -> list[str]:
        """Return where a value is typed into a Compose file, and how that line is to be written: never the value.

        ``server``: whose password it is; the services that log in there have it under other names.
        """
        if secret.place.kind != "literal":
            return []
        same = [secret, *(self._typed_elsewhere(secret, server) if server else [])]
        typed = [(one, name) for one in same for name in sorted(set().union(*one.users.values()))]
        found = []
        for path in self.project.files:
            text = (read_plain_file(path) or b"").decode("utf-8", "replace")
            for number, line in enumerate(text.splitlines(), 1):
                edited = next(
                    filter(None, (typed_edit(line, name, one.value, secret.label) for one, name in typed)), ""
                )
                if edited:
                    found.append(f"{os.path.basename(path)}:{number}: {edited}")
        return found

    def _credential(self, service: Service, server: Server, left: dict[tuple[str, ...], Secret]) -> Credential:
        name = service.name
        given = (self._secret_of(name, variable) for variable in server.password)
        secret = next((one for one in given if one), None) or self._in_command(service, server)
        users = (self.sources.place(name, variable) for variable in server.user)
        consumers: set[str] = set()
        direct: set[str] = set()
        uris = []
        for one in [secret, *self._typed_elsewhere(secret, name)] if secret else []:
            consumers |= set(one.users)
            if one.uri:
                uris.append(one.label)
            else:
                direct |= set(one.users)
            for key in [key for key, other in left.items() if other is one]:
                del left[key]
        user, unusual = next(filter(None, users), None), not (engine_of(service.image) or engine_of(name))
        consumers, direct = consumers - {name}, direct - {name}
        return Credential(name, server.engine, secret, user, sorted(consumers), unusual, sorted(uris), bool(direct))

    def _other_users(self, left: dict[tuple[str, ...], Secret], taken: set[str]) -> list[Credential]:
        """Return the further credentials of the servers: URIs in the env file that name one as their host."""
        found = []
        for service in self.project.services.values():
            server, callers = server_of(service), called_by(self.project, service.name, service.name)
            for key, secret in list(left.items()):
                if not (server and secret.uri and secret.place.kind == "variable") or not set(secret.users) <= set(
                    callers
                ):
                    continue
                values = (self._environment(name)[one] for name, ours in secret.users.items() for one in ours)
                if not all(service.name in hosts("", value) for value in values):
                    continue
                name = re.sub(r"_(URL|URI|DSN)$", "", secret.label).lower()
                name = name if name not in taken else secret.label.lower()
                taken.add(name)
                del left[key]
                users = sorted(secret.users)
                found.append(
                    Credential(name, server.engine, secret, None, users, False, [secret.label], False, service.name)
                )
        return found

    def _secret_of(self, service: str, variable: str) -> Secret | None:
        return next((one for one in self.secrets.values() if variable in one.users.get(service, set())), None)

    def _in_command(self, service: Service, server: Server) -> Secret | None:
        """Return the password that a server gets in its command line."""
        if not server.argument:
            return None
        typed, real = (
            re.search(server.argument, " ".join(map(str, _listed(config.get("command") or []))))
            for config in (self.sources.service(service.name), service.config)
        )
        if not typed or not real:
            return None
        # $$NAME is the variable of the shell in the container.
        inside = re.fullmatch(r"\$\$\{?(\w+)\}?", typed.group(1))
        if inside:
            return self._secret_of(service.name, inside.group(1))
        place = place_of(typed.group(1))
        key = ("variable", place.name) if place.kind == "variable" else ("literal", "", "command", real.group(1))
        return self._enter(key, place, real.group(1), service.name, "command")

    def _typed_elsewhere(self, secret: Secret, server: str) -> list[Secret]:
        """Return the entries of the same value by which services log in that name this server as a host."""
        callers = set(called_by(self.project, server, server))
        return [
            other
            for other in self.secrets.values()
            if other is not secret and secret.value and other.value == secret.value and set(other.users) <= callers
        ]

    # -- what stands in the way

    def _in_the_way(self, credential: Credential) -> list[str]:
        """Return what a rotation of this credential would stumble over."""
        secret, user = credential.password, credential.user
        if secret is None:
            return [f"{credential.name}: asks for no password"]
        if secret.place.kind != "variable" or secret.uri:
            return []
        by_uri = set().union(*(self.secrets["variable", name].users for name in credential.uris))
        lines = [
            f"{name}: the password is typed in -> use ${{{secret.place.name}}}"
            for name in credential.consumers
            if name not in secret.users and name not in by_uri
        ]
        engine = ENGINES.get(credential.engine)
        if not engine or "pair" not in engine.strategies:
            return lines
        environment = self._environment(credential.name)
        value = next((environment[name] for name in SERVER_USERS if name in environment), engine.default_user)
        follows = user is not None and user.kind == "variable"
        variable = user.name if user and follows else engine.variables["user"]
        following = self.project.consumers([variable])[variable] if follows else set()
        return lines + [
            f'{name}: user name is the literal "{value}" -> use ${{{variable}:-{value}}}'
            for name in ([] if follows else [credential.name]) + credential.consumers
            if name not in following and name not in by_uri
        ]


SERVER_USERS = tuple(name for server in SERVERS for name in server.user)


def typed_edit(line: str, name: str, value: str, variable: str) -> str:
    """Return a line of a Compose file with a reference in the place of a value; empty where it is no such line."""
    key, reference = re.escape(name), f"${{{variable}:?}}"
    item = re.fullmatch(rf"\s*-\s+([\"']?){key}=(.*?)\1\s*(?:\s#.*)?", line)
    if item:
        return f"- {name}={reference}" if value and item.group(2) == value else ""
    pair = re.fullmatch(rf"\s*([\"']?){key}\1\s*:\s+([\"']?)(.*?)\2\s*(?:\s#.*)?", line)
    return f"{name}: {reference}" if pair and value and pair.group(3) == value else ""


def _should_not_stay(secret: Secret, edits: list[str]) -> list[str]:
    """Return what is wrong with a value or its place."""
    lines = []
    services, better = ", ".join(sorted(secret.users)), f"${{{secret.label}}}, and the value into .env"
    if secret.place.kind == "literal":
        better = f"write {' and '.join(edits)}, and the value into .env" if edits else better
        lines.append(f"{secret.label} ({services}): typed into the Compose file -> {better}")
    elif secret.place.kind == "env_file":
        lines.append(f"{secret.label} ({services}): in {os.path.basename(secret.place.name)} -> {better}")
    weak = weakness(secret.value) if secret.value else ""
    return [*lines, f"{secret.label} {weak} -> rotate it first"] if weak else lines
