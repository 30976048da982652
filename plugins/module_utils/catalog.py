# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the catalog to facts: which server, which variables, which consumers, in which waves.

Everything is derived from the Compose files, the running containers and ``.env``. What is returned holds no
secret value.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils import api_tokens, jwt
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project, Service
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ServiceOptions, is_uri
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import (
    INIT_PREFIX,
    NO_SERVER,
    TYPES,
    Engine,
    engine_named,
    engine_of,
    serverless_engine,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import policy

# The database that every PostgreSQL server has for its administrators.
MAINTENANCE = "postgres"
AUTHORITY = re.compile(r"//([^/?#\s'\"]+)")
# Between a login and a path, or with a port; a segment of a path is no host, and host-2 another one.
HOST = re.compile(r"(?:@([\w.-]+)(?=[:/,?\s]|$)|(?<![\w.:/@-])([\w.-]+)(?=:[0-9]+(?![\w.-])))")
HOST_VARIABLE = re.compile(r"HOST|ADDR|UPSTREAM|ENDPOINT|BROKER|URL|URI", re.IGNORECASE)


def resolve(
    name: str,
    entry: dict[str, Any],
    project: Project,
    elsewhere: dict[str, Any] | None = None,
    serves: bool = False,
) -> dict[str, Any]:
    """Return what is known of one credential: its engine, server, variables, strategy, rule and consumers.

    ``entry`` is one of a checked catalog. Of a deployment that has several hosts, ``elsewhere`` says what another one
    knows of the server (see :func:`candidates`); on the server's own host it is empty. There a consumer need not be, nor
    where the credential ``serves`` others as their administrator.
    """
    if jwt.is_jwt(name, entry):
        return jwt.resolve(name, entry, project, elsewhere is not None)
    where = f"secrets_catalog.{name}"
    for key in entry:
        if key in jwt.OWN_KEYS:
            raise SecretsError(f"{where}.{key}: with engine jwt alone")
    alone = serverless_engine(name, entry)
    api_tokens.check_keys(alone, entry, where)
    if alone:
        return _serverless(name, entry, alone, project, elsewhere is not None)
    if elsewhere:
        server, engine = None, engine_named(elsewhere["engine"], f"{where}.engine")
    else:
        server, engine = _server(name, entry, project)
    own = server.name if server else ""
    variables = _variables(engine, entry)
    uris = {part for part in variables if is_uri(part)}
    parts = set(variables) - uris
    if parts != {"user", "password"} and (parts or not uris):
        raise SecretsError(f"{where}.variables: needs user and password, or uri; has {sorted(variables) or 'none'}")
    strategy = entry.get("strategy", engine.strategies[0])
    if strategy not in engine.strategies:
        raise SecretsError(f"{where}.strategy: {engine.name} has {' and '.join(engine.strategies)}, not {strategy!r}")
    if strategy == "single_user" and entry.get("grace"):
        raise SecretsError(
            f"{where}.grace: with strategy: single_user the old password is refused as soon as the new one is set; "
            "leave grace out"
        )

    used_by = project.consumers(variables.values())
    affected = set().union(*used_by.values())
    consumers = sorted(affected - {own})
    for part, variable in variables.items():
        # Beside a URI the other two may be the server's own, which reads them at its first start.
        needed = part in uris or (not uris and (part == "password" or strategy == "pair"))
        if needed and not used_by[variable] and not serves and elsewhere is None:
            left = left_behind(project, own, variables, {})
            if left:
                raise SecretsError(left[0])
            raise SecretsError(f"{where}.variables.{part}: no service of {project.directory} uses {variable}")
    # A user name typed into the Compose file cannot follow an alternating user.
    literal = sorted(used_by[variables["password"]] - used_by[variables["user"]] - {own}) if parts else []

    seen = _seen(server, engine) if server else elsewhere or {}
    return {
        "name": name,
        "engine": engine.name,
        "modules": engine.modules,
        "type": TYPES[strategy],
        "strategy": strategy,
        "service": seen["service"],
        "image": seen["image"],
        "port": engine.port,
        "role": entry.get("role") or seen["role"],
        "declared_role": entry.get("role", ""),
        "first_user": seen["role"],
        "address": address_of(entry, engine),
        "admin": entry.get("admin", ""),
        "serves": serves,
        "database": entry.get("database", "") or entry.get("address", {}).get("database", ""),
        "unused": sorted(variable for variable in used_by if not used_by[variable]),
        "variables": variables,
        # What the server itself reads (at its first start only); none once they have been separated.
        "server_variables": sorted(variable for variable in used_by if own in used_by[variable]),
        "consumers": consumers,
        "literal_user": literal if strategy == "pair" else [],
        **_outside(entry.get("consumers", []), variables, strategy, project, f"{where}.consumers"),
        "generate": _rule(engine, entry.get("generate", {}), f"{where}.generate"),
        "interval": entry.get("interval", engine.interval * 86400),
        "grace": entry.get("grace", 0),
        "priority": entry.get("priority", engine.priority),
    }


def _serverless(name: str, entry: dict[str, Any], engine: Engine, project: Project, spread: bool) -> dict[str, Any]:
    """Return what is known of a credential that no server of the project accepts; its value counts as a password."""
    where = f"secrets_catalog.{name}"
    for key in ("service", "role", "strategy", *(("generate",) if engine.strategies[0] == "manual" else ())):
        if key in entry:
            raise SecretsError(f"{where}.{key}: engine {engine.name} has none; leave it out")
    given = api_tokens.variables(engine, name, entry, where)
    settings = api_tokens.take_settings(engine, name, entry, given, where)
    previous = api_tokens.take_previous(engine, given)
    parts = sorted(set(given) - {"user"})
    if len(parts) != 1:
        raise SecretsError(f"{where}.variables: needs exactly one of key, password and secret, has {parts or 'none'}")
    variables = {"password": given[parts[0]], **({"user": given["user"]} if "user" in given else {})}
    used_by = project.consumers(variables.values())
    for part, variable in zip((parts[0], "user"), variables.values()):
        if not used_by[variable] and not spread:
            raise SecretsError(f"{where}.variables.{part}: no service of {project.directory} uses {variable}")
    consumers = sorted(set().union(*used_by.values()))
    api_tokens.check_previous(previous, variables["password"], consumers, project)
    return {
        **api_tokens.facts(engine, name, entry, settings, consumers, project, spread),
        "previous_variable": previous,
        "name": name,
        "engine": engine.name,
        "modules": engine.modules,
        "type": TYPES[engine.strategies[0]],
        "strategy": engine.strategies[0],
        **NO_SERVER,
        "unused": [],
        "variables": variables,
        "server_variables": [],
        "consumers": consumers,
        "literal_user": [],
        **_outside(entry.get("consumers", []), variables, engine.strategies[0], project, f"{where}.consumers"),
        "generate": _rule(engine, entry.get("generate", {}), f"{where}.generate"),
        "interval": entry.get("interval", engine.interval * 86400),
        "grace": entry.get("grace", api_tokens.grace(engine, entry)),
        "priority": entry.get("priority", engine.priority),
    }


def _seen(server: Service, engine: Engine) -> dict[str, Any]:
    """Return what is seen of a server in its own project alone; its ``role`` is its first user."""
    user = (server.config.get("environment") or {}).get(engine.server_user) or engine.default_user
    return {"service": server.name, "image": server.image, "engine": engine.name, "role": user}


def candidates(name: str, entry: dict[str, Any], project: Project) -> list[dict[str, Any]]:
    """Return the services of a project that may be a credential's server, each with ``service``, ``image``, ``engine``,
    ``role``, and ``named``: whether it is so by its name, not by its image alone."""
    alone = serverless_engine(name, entry)
    if alone:
        return [{"service": "", "image": "", "engine": alone.name, "role": "", "named": False}]
    if "address" in entry:
        return [{**_seen(*_server(name, entry, project)), "named": False, "anywhere": True}]
    declared = engine_named(entry["engine"], f"secrets_catalog.{name}.engine") if "engine" in entry else None
    wanted = entry.get("service", name)
    named = wanted in project.services
    if named:
        found = [project.services[wanted]]
    else:
        engine = None if "service" in entry else declared or engine_of(name)
        found = [one for one in project.services.values() if engine and engine_of(one.image) == engine]
    engines = [(one, declared or engine_of(one.image) or engine_of(one.name)) for one in found]
    return [{**_seen(one, engine), "named": named} for one, engine in engines if engine]


def _variables(engine: Engine, entry: dict[str, Any]) -> dict[str, str]:
    """Return the variables of an entry by what they hold; one with a URI needs no others."""
    given = entry.get("variables", {})
    alone = any(map(is_uri, given)) and not {"user", "password"} & set(given)
    return dict(given) if alone else {**engine.variables, **given}


def address_of(entry: Mapping[str, Any], engine: Engine) -> dict[str, Any] | None:
    """Return where a server elsewhere is reached; ``None`` for one of the project."""
    given = entry.get("address")
    return {"host": given["host"], "port": given.get("port") or engine.port, "ca": given["ca"]} if given else None


def siblings(
    name: str,
    catalog: Mapping[str, dict[str, Any]],
    project: Project,
    elsewhere: Mapping[str, dict[str, Any]] | None = None,
) -> list[str]:
    """Return the other entries of the same server; refuses a variable that another entry has as well.

    An entry that cannot be resolved is nobody's sibling: it has an error of its own. Of several hosts, ``elsewhere`` says of
    each entry what another one knows of its server, and on which ``host`` that is; of its own host's it is empty.
    """
    try:
        server, mine = _place(name, catalog[name], project, elsewhere)
    except SecretsError:
        return []
    found = []
    for other in [other for other in catalog if other != name]:
        try:
            their_server, theirs = _place(other, catalog[other], project, elsewhere)
        except SecretsError:
            continue
        shared = mine & theirs
        if shared:
            raise SecretsError(
                f"secrets_catalog.{name}.variables: {min(shared)} is {other}'s, too; a variable holds one credential, "
                "so give each entry variables of its own"
            )
        if server[1] and their_server == server:
            found.append(other)
    return found


def _place(
    name: str, entry: dict[str, Any], project: Project, elsewhere: Mapping[str, dict[str, Any]] | None
) -> tuple[tuple[str, str], set[str]]:
    """Return the server of an entry, where it needs one, as its host (empty: this one) and service; and its variables."""
    alone = serverless_engine(name, entry)
    if alone:
        given = api_tokens.variables(alone, name, entry, f"secrets_catalog.{name}")
        previous = api_tokens.take_previous(alone, given)
        symmetric = entry.get("algorithm", "HS256").startswith("HS")
        own = ("key", "password", "secret", "user", *(("secondary",) if symmetric else ()))
        return ("", ""), {variable for part, variable in given.items() if part in own} | ({previous} - {""})
    if elsewhere is not None and name not in elsewhere:
        raise SecretsError(f"secrets_catalog.{name}: no host has its server")
    away = (elsewhere or {}).get(name)
    if away and "address" not in entry:
        engine = engine_named(away["engine"], f"secrets_catalog.{name}.engine")
        return (away["host"], away["service"]), set(_variables(engine, entry).values())
    server, engine = _server(name, entry, project)
    return ("", server.name), set(_variables(engine, entry).values())


def role_of(facts: Mapping[str, Any], present: Mapping[str, str], user: str) -> str:
    """Return the role whose logins alternate: as declared, else the user in ``.env``, else the server's first one.

    ``present`` is what ``.env`` has of the credential's variables, ``user`` the user among that. One of two alternating
    logins is no role of its own.
    """
    first = present.get(INIT_PREFIX + facts["variables"].get("user", "")) or facts["first_user"]
    if facts["declared_role"] or not user or user in (f"{first}_1", f"{first}_2"):
        return facts["declared_role"] or first
    return user


def _outside(
    given: list[dict[str, Any]], variables: dict[str, str], strategy: str, project: Project, where: str
) -> dict[str, Any]:
    """Return the consumers outside Compose: ``files``, each with its variables and command, and ``persons``."""
    files, persons = [], []
    for one in given:
        name = one["name"]
        if name in project.services:
            raise SecretsError(
                f"{where}: {name} is a service of {project.directory}, which is found by itself; rename it"
            )
        if one["confirm"]:
            persons.append(name)
            continue
        if one["file"] == project.env_file:
            raise SecretsError(f"{where}: {name}: {one['file']} is written in any case; leave it out")
        # In place the user stays what it is; a file need not have it.
        own = {part: name for part, name in variables.items() if part in ("user", "password")}
        if strategy == "single_user":
            own.pop("user", None)
        # What counts as a password may be called otherwise.
        given_names = {
            "password" if part in ("key", "secret") else part: variable
            for part, variable in one.get("variables", {}).items()
        }
        # A file takes user and password apart, wherever the credential's own variables have them.
        wanted, known = {**own, **given_names}, {"user", "password"} if any(map(is_uri, variables)) else set(variables)
        needed = {"user", "password"} if strategy == "pair" else {"password"}
        if needed - set(wanted) or any(map(is_uri, wanted)):
            raise SecretsError(
                f"{where}: {name}: a file takes user and password; write variables: {{user: …, password: …}}"
            )
        unknown = sorted(set(given_names) - known)
        if unknown:
            raise SecretsError(f"{where}: {name}: variables.{unknown[0]}: the credential has none; leave it out")
        files.append(
            {
                "name": name,
                "path": one["file"],
                "host": one.get("host", ""),
                "variables": wanted,
                "after": shlex.split(one.get("after", "")),
                "timeout": one["timeout"],
            }
        )
    if persons and strategy != "pair":
        why = "only the old login of a pair goes on meanwhile"
        if TYPES[strategy] == "person":
            why = "a person ends the old value in any case"
        if strategy == "single_user":
            why = "with strategy: single_user the old password is refused as soon as the new one is set"
        raise SecretsError(f"{where}: {persons[0]}: {why}, so nobody is waited for; leave confirm out")
    return {"files": files, "persons": persons}


def left_behind(project: Project, server: str, variables: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """Return, as lines, the services that would keep an old password, since they have it from a file of their own.

    These are Compose ``secrets`` with ``file:``. ``values`` is what the env file holds.
    """
    password = variables.get("password") or variables.get("key")
    if not password:  # within a URI, which no such file is compared with
        return []
    found = []
    shared = {path for _secret, _target, path in project.secret_files().get(server, [])}
    for service, secrets in sorted(project.secret_files().items()):
        environment = project.services[service].config.get("environment") or {}
        pointed = {environment.get(f"{variable}_FILE") for variable in variables.values()}
        for secret, target, path in secrets:
            if service == server or not (target in pointed or _holds(path, values.get(password))):
                continue
            found.append(
                f"{service}: has the password from the file {path} (Compose secret {secret}), which cannot change "
                f"together with .env; in the Compose file write secrets: {{{secret}: {{environment: {password}}}}} in place "
                f"of file:, and the value into .env as {password}"
                + (
                    f"; {server}, which reads it at its first start alone, keeps the file as another secret"
                    if path in shared
                    else ""
                )
            )
    return found


def _holds(path: str, value: str | None) -> bool:
    if not value or not os.path.isfile(path):
        return False
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(65536).rstrip("\r\n") == value
    except OSError:
        return False


def _rule(engine: Engine, given: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the rule by which values are made; the engine's own does not fit another kind than its own."""
    same = given.get("kind") in (None, engine.generate["kind"])
    rule = {**(engine.generate if same else {}), **given}
    try:
        policy(**rule)
    except SecretsError as error:
        raise SecretsError(f"{where}.{error.message}") from None
    return rule


def hosts(variable: str, value: str) -> set[str]:
    """Return the hosts that a value of an environment names, ports and logins left out, in small letters.

    A word alone is a host only where the variable's name says so.
    """
    found = set()
    for authority in AUTHORITY.findall(value):
        found |= {one.rpartition("@")[2].partition(":")[0] for one in authority.split(",")}
    found |= {match for pair in HOST.findall(value) for match in pair}
    if HOST_VARIABLE.search(variable):
        found |= set(re.split(r"[\s,;]+", value))
    return {one.lower() for one in found if one}


def called_by(project: Project, name: str, server: str) -> list[str]:
    """Return the services, save the server, whose environment names a service as a host.

    Docker's DNS shows a new container before it is healthy, so they see some refused calls when it is replaced
    start-first. Those that come through a proxy which checks its health do not.
    """
    networks = (project.services[name].config.get("networks") or {}).values()
    names = {name, *(alias for facts in networks for alias in (facts or {}).get("aliases") or [])}
    wanted = {one.lower() for one in names}
    return sorted(
        other.name
        for other in project.services.values()
        if other.name not in (name, server)
        and any(
            wanted & hosts(variable, str(value)) for variable, value in (other.config.get("environment") or {}).items()
        )
    )


def roll_out_plan(
    project: Project,
    present: list[Container],
    server: str,
    consumers: list[str],
    options: Mapping[str, ServiceOptions],
    skipped: list[str],
    spread: bool = False,
    files: Collection[str] = (),
) -> dict[str, Any]:
    """Return the waves, how each consumer is replaced, and every reason not to begin.

    ``files`` are the names of consumers outside Compose, which may be skipped, too.
    """
    unknown = sorted(set(skipped) - {*consumers, *files})
    if unknown and not spread:
        raise SecretsError(f"skip_service={unknown[0]}: not a consumer; there are {', '.join([*consumers, *files])}")
    containers: dict[str, list[Container]] = {}
    for container in present:
        containers.setdefault(container.service, []).append(container)
    rolled = [name for name in consumers if name not in skipped]
    waves, refusals = [], []
    for wave in project.waves(rolled):
        row = []
        for name in wave:
            given = options.get(name, ServiceOptions())
            mode, reason = project.replace_mode(name, given.replace)
            evidence = project.evidence(name, given.ready_log)
            mine = containers.get(name, [])
            row.append(
                {
                    "service": name,
                    "scale": len(mine),
                    "mode": mode,
                    "reason": reason,
                    "evidence": evidence,
                    "after": given.after.exec if given.after else "",
                    "called_by": called_by(project, name, server) if mode == "start_first" else [],
                }
            )
            if mine:
                refusals += [
                    *_state_objections(name, mode, mine),
                    *objections(project, name, mode, reason, evidence, given),
                ]
        waves.append(row)
    return {"waves": waves, "refusals": refusals}


def objections(
    project: Project, name: str, mode: str, reason: str, evidence: str, options: ServiceOptions
) -> list[dict[str, str]]:
    """Return what speaks against replacing a service that has containers, however these are.

    Each has a ``kind`` and a ``text``: ``shared`` (another service lives inside its containers), ``impossible``
    (start-first is declared where it cannot be), ``job`` (a one-shot job that nobody has declared safe to run again),
    ``weak`` (nothing would show that the new container works).
    """
    found = []
    inside = project.inside(name)
    if inside:
        found.append(
            _objection(
                "shared",
                f"{name}: {inside} runs inside {name}'s network or process space and would lose it; "
                f"replace both by hand, or -e skip_service={name} (it stays stale)",
            )
        )
    elif mode == "stop_first" and options.replace == "start_first":
        text = f"secrets_services.{name}.replace: start_first is not possible: {reason}"
        found.append(_objection("impossible", text))
    if mode == "job" and not options.rerun_safe:
        found.append(
            _objection(
                "job",
                f"{name} is a one-shot job that would run again with the new value; "
                f"if that does no harm: secrets_services: {{{name}: {{rerun: safe}}}}",
            )
        )
    if evidence == "none":
        found.append(
            _objection(
                "weak",
                f"{name} has neither health check nor log pattern; give one "
                f"(secrets_services: {{{name}: {{ready_log: 'Started .*'}}}}), or accept_weak=true",
            )
        )
    return found


def _state_objections(name: str, mode: str, present: list[Container]) -> list[dict[str, str]]:
    """Return what is wrong with a service already: ``job_failed``, ``unhealthy``."""
    if mode == "job":
        return [
            _objection("job_failed", f"{name} failed (exit code {container.exit_code}); run it to its end first")
            for container in present
            if not container.running and container.exit_code
        ]
    states = [
        (container, "restarting" if container.restarting else container.health or container.status)
        for container in present
    ]
    return [
        _objection(
            "unhealthy", f"{name} is {state} now ({container.name}); fix it, or -e skip_service={name} (it stays stale)"
        )
        for container, state in states
        if state not in ("healthy", "running")
    ]


def _objection(kind: str, text: str) -> dict[str, str]:
    return {"kind": kind, "text": text}


def _server(name: str, entry: dict[str, Any], project: Project) -> tuple[Service, Engine]:
    where = f"secrets_catalog.{name}"
    if "address" in entry:
        engine = engine_named(entry["engine"], f"{where}.engine") if "engine" in entry else engine_of(name)
        if engine is None:
            raise SecretsError(f"{where}: no engine known for a server at an address; add engine: ENGINE")
        address = address_of(entry, engine) or {}
        # No service of a project has a colon in its name.
        return Service(f"{address['host']}:{address['port']}", engine.name, {}, {}, False), engine
    if "service" in entry:
        if entry["service"] not in project.services:
            raise SecretsError(
                f"{where}.service: no service {entry['service']!r} in {project.directory}; there are {_names(project)}"
            )
        server = project.services[entry["service"]]
    elif name in project.services:
        server = project.services[name]
    else:
        wanted = engine_named(entry["engine"], f"{where}.engine") if "engine" in entry else engine_of(name)
        found = [s for s in project.services.values() if wanted and engine_of(s.image) == wanted]
        if len(found) != 1:
            what = "no service" if not found else " and ".join(sorted(s.name for s in found))
            raise SecretsError(
                f"{where}: {what} in {project.directory} matches; add the server's service: "
                f"{name}: {{service: NAME, engine: ENGINE}}"
            )
        server = found[0]
    if "engine" in entry:
        return server, engine_named(entry["engine"], f"{where}.engine")
    engine = engine_of(server.image) or engine_of(server.name)
    if engine is None:
        raise SecretsError(
            f"{where}: no engine known for service {server.name} ({server.image}); add {name}: {{engine: ENGINE}}"
        )
    return server, engine


def _names(project: Project) -> str:
    return ", ".join(sorted(project.services))
