# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people write into ``secrets_catalog`` and ``secrets_services``, checked before anything is looked at.

Wherever it is used, it is used as it comes from here. A key without a value (``null``) counts as left out.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.engines import TYPES, engine_named
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import RULE_KEYS
from ansible_collections.chat4all.secrets.plugins.module_utils.logs import patterns

ENTRY_KEYS = (
    "address",
    "admin",
    "algorithm",
    "api",
    "app_id",
    "ca",
    "cache",
    "callback",
    "consumers",
    "database",
    "engine",
    "generate",
    "grace",
    "host",
    "interval",
    "overlap",
    "platform",
    "priority",
    "role",
    "service",
    "signers",
    "skew",
    "strategy",
    "token",
    "token_life",
    "variables",
)
SERVICE_KEYS = ("after", "failure_log", "ready_log", "replace", "rerun", "timeout")
ADDRESS_KEYS = ("ca", "database", "host", "port")
CONSUMER_KEYS = ("after", "confirm", "file", "host", "name", "timeout", "variables")
VARIABLE_PARTS = (
    "account_id",
    "jwks",
    "key",
    "kid",
    "password",
    "phone_number_id",
    "previous",
    "secondary",
    "secret",
    "uri",
    "user",
)
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
PRIORITIES = ("critical", "high", "medium", "low")
REPLACE = ("auto", "start_first", "stop_first")

DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 100 * 365 * 86400


def seconds(value: Any, where: str, like: str = "90d, 12h, 30m or 45s") -> float:
    """Return a duration in seconds; it is written as a number of seconds or as ``90d``, ``12h``, ``30m``, ``45s``."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([smhd]?)", str(value).strip())
    if not match:
        raise SecretsError(f"{where}: {value!r} is no duration; write {like}")
    found = float(match.group(1)) * DURATION_UNITS[match.group(2) or "s"]
    if found > LONGEST:
        raise SecretsError(f"{where}: {value!r} is more than a hundred years; write {like}")
    return int(found) if found.is_integer() else found


@dataclass(frozen=True)
class After:
    """A command that follows a replacement: in the containers of ``service``, the words of ``exec``."""

    service: str
    exec: str

    @property
    def command(self) -> list[str]:
        return shlex.split(self.exec)


@dataclass(frozen=True)
class ServiceOptions:
    """The exceptions for one service."""

    replace: str = "auto"
    ready_log: str = ""
    failure_log: tuple[str, ...] = ()
    rerun_safe: bool = False
    after: After | None = None
    timeout: float | None = None


def service_options(given: Any, services: Collection[str], directory: str) -> dict[str, ServiceOptions]:
    """Return ``secrets_services``; ``services`` are those of the Compose project in ``directory``."""
    return {
        name: _service_options(f"secrets_services.{name}", options, services)
        for name, options in _named(given, "secrets_services", services, directory).items()
    }


def _named(given: Any, where: str, services: Collection[str], directory: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SecretsError(f"{where}: must be a mapping of service names")
    for name in given:
        if name not in services:
            raise SecretsError(
                f"{where}.{name}: no such service in {directory}; there are {', '.join(sorted(services))}"
            )
    return dict(given)


def _service_options(where: str, given: Any, services: Collection[str]) -> ServiceOptions:
    found = _mapping(given, where, SERVICE_KEYS, "{replace: stop_first}")
    timeout = found.get("timeout")
    if timeout is not None:
        timeout = seconds(timeout, f"{where}.timeout", like="120 or 2m")
        if not timeout:
            raise SecretsError(f"{where}.timeout: must be more than 0; write 120 or 2m")
    ready = _text(found, "ready_log", where)
    patterns([ready] if ready else [], f"{where}.ready_log")
    failures = found.get("failure_log", [])
    failures = [failures] if isinstance(failures, str) else failures
    if not isinstance(failures, list) or not all(isinstance(one, str) for one in failures):
        raise SecretsError(f"{where}.failure_log: must be a regular expression in quotes, or a list of them")
    patterns(failures, f"{where}.failure_log")
    return ServiceOptions(
        replace=_choice(found, "replace", where, REPLACE) or "auto",
        ready_log=ready,
        failure_log=tuple(failures),
        rerun_safe=_choice(found, "rerun", where, ("safe",)) == "safe",
        after=_after(f"{where}.after", found["after"], services) if "after" in found else None,
        timeout=timeout,
    )


def _after(where: str, given: Any, services: Collection[str]) -> After:
    example = "{service: nginx, exec: nginx -s reload}"
    found = _mapping(given, where, ("exec", "service"), example)
    after = After(_text(found, "service", where), _text(found, "exec", where))
    if not after.service or not after.exec:
        raise SecretsError(f"{where}: needs service and exec, for example {example}")
    if after.service not in services:
        raise SecretsError(
            f"{where}.service: {after.service!r} is no such service; there are {', '.join(sorted(services))}"
        )
    _words(after.exec, f"{where}.exec", "nginx -s reload")
    return after


def _words(command: str, where: str, example: str) -> list[str]:
    """Return the words of a command; no shell reads it."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SecretsError(f"{where}: {error} in {command!r}") from None
    if not any(words[:1]):
        raise SecretsError(f"{where}: {command!r} holds no command; write for example {example}")
    return words


def checked_catalog(given: Any) -> dict[str, dict[str, Any]]:
    """Return the catalog's entries, durations in seconds, without what was left out; refuses any other shape."""
    if not isinstance(given, Mapping) or not given:
        raise SecretsError("secrets_catalog: names no credential; write for example secrets_catalog: {postgres: {}}")
    entries = {name: _entry(f"secrets_catalog.{name}", name, entry) for name, entry in given.items()}
    for name, entry in entries.items():
        _check_admin(f"secrets_catalog.{name}", name, entry, entries)
    return entries


def _check_admin(where: str, name: str, entry: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an administrator that is not one of the same server elsewhere."""
    admin = entry.get("admin")
    if "address" not in entry:
        if admin:
            raise SecretsError(f"{where}.admin: is for a server elsewhere; give address, too, or leave admin out")
        return
    if not admin:
        if entry.get("strategy") != "single_user":
            raise SecretsError(
                f"{where}.admin: name the entry whose login makes the roles there, or set strategy: single_user for a "
                "login that changes its own password"
            )
        return
    if admin == name or admin not in entries:
        others = [other for other in entries if other != name and "address" in entries[other]]
        raise SecretsError(f"{where}.admin: {admin} is no other entry; there are {', '.join(others) or 'none'}")
    theirs = entries[admin].get("address", {})
    if any(theirs.get(key) != entry["address"].get(key) for key in ("host", "port")):
        raise SecretsError(f"{where}.admin: {admin} is not of the same address; name an entry of that server")


def _entry(where: str, name: Any, given: Any) -> dict[str, Any]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(name)):
        raise SecretsError(f"{where}: a name is made of letters, digits, '_', '-' and '.'")
    if given is None:
        raise SecretsError(f"{where}: must be a mapping; {{}} takes every default")
    entry = _mapping(given, where, ENTRY_KEYS, "{}, which takes every default")
    for key in (
        *("admin", "api", "app_id", "ca", "callback", "database", "engine", "host", "platform", "role"),
        *("service", "token"),
    ):
        _text(entry, key, where)
    if "engine" in entry:
        engine_named(entry["engine"], f"{where}.engine")
    _choice(entry, "strategy", where, tuple(TYPES))
    _choice(entry, "priority", where, PRIORITIES)
    _choice(entry, "algorithm", where, ALGORITHMS)
    for key in ("interval", "grace", "overlap", "token_life", "skew", "cache"):
        if key in entry:
            entry[key] = seconds(entry[key], f"{where}.{key}")
    if "address" in entry:
        entry["address"] = _address(entry["address"], f"{where}.address")
        if "service" in entry:
            raise SecretsError(f"{where}: has both service and address; a server is in one place")
    if "signers" in entry and not (
        isinstance(entry["signers"], list) and entry["signers"] and all(isinstance(s, str) for s in entry["signers"])
    ):
        raise SecretsError(f"{where}.signers: must be a list of services, for example [auth-service]")
    if "variables" in entry:
        entry["variables"] = _variables(entry["variables"], f"{where}.variables")
    if "consumers" in entry:
        entry["consumers"] = _consumers(entry["consumers"], f"{where}.consumers")
    if "generate" in entry:
        example = "{kind: password, length: 32}"
        entry["generate"] = _mapping(entry["generate"], f"{where}.generate", RULE_KEYS, example)
    return entry


def _consumers(given: Any, where: str) -> list[dict[str, Any]]:
    """Return the consumers outside Compose: files, and persons to confirm."""
    example = "[{name: backup-job, file: /etc/backup/db.env}, {name: dba-laptop, confirm: true}]"
    if not isinstance(given, list):
        raise SecretsError(f"{where}: must be a list, for example {example}")
    found = [_consumer(one, f"{where}.{number}", example) for number, one in enumerate(given)]
    for key in ("name", "file"):
        # One file cannot be written for two, nor two be told apart by one name.
        seen = [(one.get("host"), one[key]) if key == "file" else one[key] for one in found if key in one]
        twice = next((one for one in seen if seen.count(one) > 1), None)
        if twice:
            raise SecretsError(f"{where}: {twice if key == 'name' else twice[1]} is there twice; keep one of the two")
    return found


def _consumer(given: Any, where: str, example: str) -> dict[str, Any]:
    found = _mapping(given, where, CONSUMER_KEYS, example)
    name = found.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SecretsError(f"{where}.name: needs a name of letters, digits, '_', '-' and '.', for example {example}")
    if not isinstance(found.setdefault("confirm", False), bool):
        raise SecretsError(f"{where}.confirm: {found['confirm']!r} is neither true nor false")
    if found["confirm"] == ("file" in found):
        raise SecretsError(f"{where}: {name} needs either file or confirm: true, for example {example}")
    if found["confirm"]:
        for key in ("after", "host", "timeout", "variables"):
            if key in found:
                raise SecretsError(f"{where}.{key}: {name} is a person; {key} goes with file")
        return found
    for key in ("after", "file", "host"):
        _text(found, key, where)
    if os.path.normpath(found["file"]) != found["file"] or not os.path.isabs(found["file"]):
        raise SecretsError(f"{where}.file: {found['file']!r} is no absolute path; write one such as /etc/backup/db.env")
    if "after" in found:
        _words(found["after"], f"{where}.after", "systemctl restart backup")
    found["timeout"] = seconds(found.get("timeout", 120), f"{where}.timeout", like="120 or 2m")
    if not found["timeout"]:
        raise SecretsError(f"{where}.timeout: must be more than 0; write 120 or 2m")
    if "variables" in found:
        found["variables"] = _variables(found["variables"], f"{where}.variables")
    return found


def _address(given: Any, where: str) -> dict[str, Any]:
    example = "{host: db.example.com, ca: /etc/ssl/certs/ca-certificates.crt}"
    found = _mapping(given, where, ADDRESS_KEYS, example)
    for key in ("host", "database", "ca"):
        _text(found, key, where)
    for key in ("host", "ca"):
        if key not in found:
            raise SecretsError(f"{where}.{key}: is missing; write for example {example}")
    port = found.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise SecretsError(f"{where}.port: {port!r} is no port; write a number such as 5432")
    return found


def _variables(given: Any, where: str) -> dict[str, str]:
    """Return the variables by what they hold; of several URIs the second is ``uri_2``, and so on."""
    found = _mapping(given, where, VARIABLE_PARTS, "{user: POSTGRES_USER, password: POSTGRES_PASSWORD}")
    uris = found.pop("uri", [])
    for number, variable in enumerate(uris if isinstance(uris, list) else [uris], 1):
        found["uri" if number == 1 else f"uri_{number}"] = variable
    for part, variable in found.items():
        if not isinstance(variable, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise SecretsError(
                f"{where}.{part}: {variable!r} is no name of a variable; write one such as POSTGRES_PASSWORD"
            )
    if len(set(found.values())) < len(found):
        raise SecretsError(f"{where}: names a variable twice; each holds one thing")
    return found


def is_uri(part: str) -> bool:
    """Tell whether a variable holds a whole URI, by its part in ``variables``."""
    return part.partition("_")[0] == "uri"


def _mapping(given: Any, where: str, known: Collection[str], example: str) -> dict[str, Any]:
    """Return a mapping without its empty keys; refuses what is none, and unknown keys by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SecretsError(f"{where}: must be a mapping, for example {example}")
    for key in given:
        if key not in known:
            raise SecretsError(f"{where}.{key}: unknown key; known: {', '.join(sorted(known))}")
    return {key: value for key, value in given.items() if value is not None}


def _text(given: Mapping[str, Any], key: str, where: str) -> str:
    """Return a string; empty where it was left out."""
    if key not in given:
        return ""
    if not isinstance(given[key], str) or not given[key].strip():
        raise SecretsError(f"{where}.{key}: {given[key]!r} is no text; write it in quotes")
    return given[key]


def _choice(given: Mapping[str, Any], key: str, where: str, choices: Collection[str]) -> str:
    """Return one of the choices; empty where it was left out."""
    if key not in given:
        return ""
    if given[key] not in tuple(choices):
        raise SecretsError(f"{where}.{key}: {given[key]!r} is not known; write {' or '.join(choices)}")
    return given[key]
