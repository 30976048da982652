# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the catalog to facts: which server, which variables, which consumers, in which waves.

Everything is derived from the Compose files, the running containers and ``.env``. What is returned holds no
secret value.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Container, Project, Service
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import TYPES, Engine, engine_named, engine_of
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ENTRY_KEYS = {
    "engine",
    "service",
    "role",
    "database",
    "variables",
    "strategy",
    "generate",
    "interval",
    "priority",
    "grace",
}
SERVICE_KEYS = {"replace", "ready_log", "failure_log", "rerun", "after", "timeout"}
DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any, where: str) -> int:
    """Return a duration in seconds; it is written as a number of seconds or as ``90d``, ``12h``, ``30m``, ``45s``."""
    match = re.fullmatch(r"(\d+)\s*([smhd]?)", str(value))
    if not match:
        raise SecretsError(f"{where}: {value!r} is no duration; write 90d, 12h, 30m or 45s")
    return int(match.group(1)) * DURATION_UNITS[match.group(2) or "s"]


def check_catalog(catalog: Any) -> None:
    """Refuse a catalog with an unknown shape, before anything is looked at."""
    if not isinstance(catalog, dict) or not catalog:
        raise SecretsError("secrets_catalog: names no credential; write for example secrets_catalog: {postgres: {}}")
    for name, entry in catalog.items():
        where = f"secrets_catalog.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(name)):
            raise SecretsError(f"{where}: a name is made of letters, digits, '_', '-' and '.'")
        if not isinstance(entry, dict):
            raise SecretsError(f"{where}: must be a mapping; {{}} takes every default")
        unknown = sorted(set(entry) - ENTRY_KEYS)
        if unknown:
            raise SecretsError(f"{where}.{unknown[0]}: unknown key; known: {', '.join(sorted(ENTRY_KEYS))}")
        if "engine" in entry:
            engine_named(str(entry["engine"]), f"{where}.engine")
        for key in ("interval", "grace"):
            if key in entry:
                seconds(entry[key], f"{where}.{key}")


def check_services(options: Any, project: Project) -> None:
    """Refuse exceptions for services that do not exist or say what nobody understands."""
    if not isinstance(options, dict):
        raise SecretsError("secrets_services: must be a mapping of service names")
    for service, given in options.items():
        where = f"secrets_services.{service}"
        if service not in project.services:
            raise SecretsError(f"{where}: no such service in {project.directory}; there are {_names(project)}")
        if not isinstance(given, dict):
            raise SecretsError(f"{where}: must be a mapping, for example {{replace: stop_first}}")
        unknown = sorted(set(given) - SERVICE_KEYS)
        if unknown:
            raise SecretsError(f"{where}.{unknown[0]}: unknown key; known: {', '.join(sorted(SERVICE_KEYS))}")


def resolve(name: str, entry: dict[str, Any], project: Project) -> dict[str, Any]:
    """Return what is known of one credential: its engine, server, variables, strategy, rule and consumers."""
    where = f"secrets_catalog.{name}"
    server, engine = _server(name, entry, project)
    variables = {**engine.variables, **entry.get("variables", {})}
    if set(variables) != {"user", "password"}:
        raise SecretsError(f"{where}.variables: needs exactly user and password, has {sorted(variables) or 'none'}")
    strategy = str(entry.get("strategy", engine.strategies[0]))
    if strategy not in engine.strategies:
        raise SecretsError(f"{where}.strategy: {engine.name} has {' and '.join(engine.strategies)}, not {strategy!r}")

    used_by = project.consumers(variables.values())
    affected = set().union(*used_by.values())
    consumers = sorted(affected - {server.name})
    for role, variable in variables.items():
        if not used_by[variable] and (role == "password" or strategy == "pair"):
            raise SecretsError(f"{where}.variables.{role}: no service of {project.directory} uses {variable}")
    # A user name typed into the Compose file cannot follow an alternating user.
    literal = sorted(used_by[variables["password"]] - used_by[variables["user"]] - {server.name})

    environment = server.config.get("environment") or {}
    user = environment.get(engine.server_user) or engine.default_user
    return {
        "name": name,
        "engine": engine.name,
        "modules": engine.modules,
        "type": TYPES[strategy],
        "strategy": strategy,
        "service": server.name,
        "image": server.image,
        "port": engine.port,
        "role": str(entry.get("role", user)),
        "database": str(entry.get("database") or environment.get(engine.server_database) or user),
        "variables": variables,
        # What the server itself reads (at its first start only); none once provisioning has separated them.
        "server_variables": sorted(variable for variable in used_by if server.name in used_by[variable]),
        "consumers": consumers,
        "literal_user": literal if strategy == "pair" else [],
        "generate": {**engine.generate, **entry.get("generate", {})},
        "interval": seconds(entry.get("interval", f"{engine.interval}d"), f"{where}.interval"),
        "grace": seconds(entry.get("grace", 0), f"{where}.grace"),
        "priority": str(entry.get("priority", engine.priority)),
    }


def roll_out_plan(
    project: Project, present: list[Container], consumers: list[str], options: dict[str, Any], skipped: list[str]
) -> dict[str, Any]:
    """Return the waves, how each consumer is replaced, and every reason not to begin."""
    unknown = sorted(set(skipped) - set(consumers))
    if unknown:
        raise SecretsError(f"skip_service={unknown[0]}: not a consumer; there are {', '.join(consumers)}")
    containers: dict[str, list[Container]] = {}
    for container in present:
        containers.setdefault(container.service, []).append(container)
    rolled = [name for name in consumers if name not in skipped]
    waves, refusals = [], []
    for wave in project.waves(rolled):
        row = []
        for name in wave:
            given = options.get(name, {})
            mode, reason = project.replace_mode(name, given)
            evidence = project.evidence(name, given)
            mine = containers.get(name, [])
            row.append(
                {
                    "service": name,
                    "scale": len(mine),
                    "mode": mode,
                    "reason": reason,
                    "evidence": evidence,
                    "after": (given.get("after") or {}).get("exec", ""),
                }
            )
            if mode == "job":
                refusals += _job_refusals(name, given, mine)
            else:
                refusals += _service_refusals(name, evidence, mine)
        waves.append(row)
    return {"waves": waves, "refusals": refusals}


def _job_refusals(name: str, given: dict[str, Any], present: list[Container]) -> list[str]:
    if present and given.get("rerun") != "safe":
        return [
            f"{name} is a one-shot job that would run again with the new value; "
            f"if that does no harm: secrets_services: {{{name}: {{rerun: safe}}}}"
        ]
    return [
        f"{name} failed (exit code {container.exit_code}); run it to its end first"
        for container in present
        if not container.running and container.exit_code
    ]


def _service_refusals(name: str, evidence: str, present: list[Container]) -> list[str]:
    refusals = []
    for container in present:
        state = "restarting" if container.restarting else container.health or container.status
        if state not in ("healthy", "running"):
            refusals.append(
                f"{name} is {state} now ({container.name}); fix it, or -e skip_service={name} (it stays stale)"
            )
    if present and evidence == "none":
        refusals.append(
            f"{name} has neither health check nor log pattern; give one "
            f"(secrets_services: {{{name}: {{ready_log: 'Started .*'}}}}), or -e accept_weak=true"
        )
    return refusals


def _server(name: str, entry: dict[str, Any], project: Project) -> tuple[Service, Engine]:
    where = f"secrets_catalog.{name}"
    if "service" in entry:
        if entry["service"] not in project.services:
            raise SecretsError(
                f"{where}.service: no service {entry['service']!r} in {project.directory}; there are {_names(project)}"
            )
        server = project.services[entry["service"]]
    elif name in project.services:
        server = project.services[name]
    else:
        wanted = engine_named(str(entry["engine"]), f"{where}.engine") if "engine" in entry else engine_of(name)
        found = [s for s in project.services.values() if wanted and engine_of(s.image) == wanted]
        if len(found) != 1:
            what = "no service" if not found else " and ".join(sorted(s.name for s in found))
            raise SecretsError(
                f"{where}: {what} in {project.directory} matches; add the server's service: "
                f"{name}: {{service: NAME, engine: ENGINE}}"
            )
        server = found[0]
    if "engine" in entry:
        return server, engine_named(str(entry["engine"]), f"{where}.engine")
    engine = engine_of(server.image) or engine_of(server.name)
    if engine is None:
        raise SecretsError(
            f"{where}: no engine known for service {server.name} ({server.image}); add {name}: {{engine: ENGINE}}"
        )
    return server, engine


def _names(project: Project) -> str:
    return ", ".join(sorted(project.services))
