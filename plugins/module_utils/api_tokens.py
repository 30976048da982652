# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a catalog entry of a platform's API token or webhook has besides: where the API is, and what it must be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Project
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import ServiceOptions
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import (
    ENGINES,
    Engine,
    platform_of,
    serverless_engine,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.http import checked_url
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.tokens import PLATFORMS
from ansible_collections.chat4all.secrets.plugins.module_utils.platforms.webhooks import WEBHOOKS
from ansible_collections.chat4all.secrets.plugins.module_utils.project_options import read_env

TOKEN_KEYS = ("api", "ca")
WEBHOOK_KEYS = ("callback", "platform")
# An app of Meta's: its id, and the entry that holds its secret; a webhook's ``token`` is the entry that any call is made with.
APP_KEYS = ("app_id", "token")


def check_keys(engine: Engine | None, entry: Mapping[str, Any], where: str) -> None:
    """Refuse keys that mean something for a platform's tokens and webhooks alone."""
    name = engine.name if engine else ""
    with_app = tuple(one for one, platform in PLATFORMS.items() if platform.ends_by_app)
    whose = {**dict.fromkeys(TOKEN_KEYS, tuple(PLATFORMS)), **dict.fromkeys(APP_KEYS, with_app)}
    for key in (*TOKEN_KEYS, *APP_KEYS, *WEBHOOK_KEYS):
        theirs = [*whose.get(key, ()), "webhook"]
        if key in entry and name not in theirs:
            raise SecretsError(f"{where}.{key}: with engine {', '.join(theirs)} alone; leave it out")
    if name in with_app and len(set(APP_KEYS) & set(entry)) == 1:
        raise SecretsError(
            f"{where}: app_id and token, the entry with the app's secret, go together; write both or none"
        )
    if "consumers" in entry and (name in PLATFORMS or name == "webhook"):
        raise SecretsError(
            f"{where}.consumers: not with engine {name}, which knows Compose services alone; leave it out"
        )
    for key in ("api", "callback"):
        if key in entry:
            checked_url(entry[key], f"{where}.{key}")


@dataclasses.dataclass(frozen=True)
class Known:
    """What a variable holds, by its name: an entry of that name needs nothing else.

    ``beside`` names the variable that it belongs to where it has no entry of its own, ``lacks`` what has to be done first.
    """

    name: str
    engine: str
    beside: str = ""
    lacks: str = ""


def known_variable(variable: str, asked: Collection[str]) -> Known | None:
    """Return what a variable holds that is called as usual; ``asked`` are all the variables that look like secrets."""
    platform = platform_of(variable)
    if platform:
        return Known(platform, platform)
    jwt = ENGINES["jwt"].variables
    if variable in jwt.values():
        return Known("jwt", "jwt", beside=jwt["key"] if variable == jwt["secondary"] else "")
    for platform, webhook in WEBHOOKS.items():
        name = f"{platform}-webhook"
        if variable == f"{webhook.variable}_PREVIOUS":
            return Known(name, "webhook", beside=webhook.variable)
        if variable == webhook.variable:
            lacks = f"needs {' and '.join(webhook.declared)}" if webhook.declared else ""
            if f"{variable}_PREVIOUS" not in asked:
                lacks = f"its services have to accept {variable}_PREVIOUS beside it first"
            return Known(name, "webhook", lacks=lacks)
    return None


def entry_variables(name: str, entry: Mapping[str, Any]) -> set[str]:
    """Return the variables of an entry that needs no server, with its engine's defaults; those it names, of any other."""
    engine = serverless_engine(name, entry)
    given = dict(entry.get("variables") or {})
    if engine:
        given = variables(engine, name, {**entry, "variables": given}, f"secrets_catalog.{name}")
        given["previous"] = take_previous(engine, given)
    return {one for one in given.values() if isinstance(one, str) and one}


def webhook_platform(name: str, entry: Mapping[str, Any], where: str) -> str:
    """Return whose webhook it is, by the entry's name where it does not say so."""
    platform = str(entry.get("platform") or name.replace("_", "-").partition("-webhook")[0])
    if platform not in WEBHOOKS:
        raise SecretsError(f"{where}.platform: says nobody whose webhook it is; write {' or '.join(WEBHOOKS)}")
    return platform


def variables(engine: Engine, name: str, entry: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the variables of an entry, with the defaults of its engine and platform."""
    given = {**engine.variables, **entry.get("variables", {})}
    if engine.name == "webhook":
        webhook = WEBHOOKS[webhook_platform(name, entry, where)]
        if not set(given) & {"key", "password", "secret"}:
            given["secret"] = webhook.variable
    return given


def take_settings(
    engine: Engine, name: str, entry: Mapping[str, Any], given: dict[str, str], where: str
) -> dict[str, str]:
    """Take out of the variables those that are read and never rotated; return them with the defaults."""
    settings: dict[str, str] = {}
    if engine.name in PLATFORMS:
        settings = dict(PLATFORMS[engine.name].settings)
    elif engine.name == "webhook":
        settings = dict(WEBHOOKS[webhook_platform(name, entry, where)].settings)
    return {part: given.pop(part, variable) for part, variable in settings.items()}


def take_previous(engine: Engine, given: dict[str, str]) -> str:
    """Take out of the variables the one with the secret before, which a webhook accepts as well; empty for others."""
    if engine.name != "webhook":
        return ""
    own = next((variable for part, variable in given.items() if part in ("key", "password", "secret")), "")
    return given.pop("previous", f"{own}_PREVIOUS")


def grace(engine: Engine, entry: Mapping[str, Any]) -> int:
    """Return for how many seconds an old value stays valid where the catalog says nothing; nobody waits for a call."""
    if engine.name not in PLATFORMS or "app_id" in entry:
        return 0
    return PLATFORMS[engine.name].grace * 86400


def facts(
    engine: Engine,
    name: str,
    entry: Mapping[str, Any],
    settings: Mapping[str, str],
    consumers: list[str],
    project: Project,
    spread: bool = False,
) -> dict[str, Any]:
    """Return what is known of a platform's token or webhook besides; nothing for other engines.

    ``spread``: of several hosts, this one need not have a consumer.
    """
    where = f"secrets_catalog.{name}"
    if engine.name != "webhook" and engine.name not in PLATFORMS:
        return {}
    values = {part: _setting(variable, consumers, project) for part, variable in settings.items()}
    for part, value in values.items():
        if not value and (consumers or not spread):
            raise SecretsError(
                f"{where}.variables.{part}: neither {project.env_file} nor a service that uses the value has "
                f"{settings[part]}; put it there, or name the variable that holds it"
            )
    api = {"api": entry.get("api"), "ca": entry.get("ca"), **values}
    if engine.name in PLATFORMS:
        return {"platform": {"platform": engine.name, **api}, "ready_log": PLATFORMS[engine.name].ready_log}
    platform = webhook_platform(name, entry, where)
    if platform == "telegram" and (entry.get("generate") or {}).get("kind") == "password":
        raise SecretsError(f"{where}.generate.kind: Telegram takes letters, digits, _ and - alone; use uuid4 or token")
    for key, what in WEBHOOKS[platform].declared.items():
        if key not in entry:
            raise SecretsError(
                f"{where}.{key}: is needed for {WEBHOOKS[platform].title}: {what}; write {name}: {{{key}: '…'}}"
            )
    own = {"app_id": entry.get("app_id"), "callback": entry.get("callback")}
    return {"platform": {"platform": platform, **api, **own}, "token": entry.get("token") or platform}


def check_previous(previous: str, variable: str, consumers: list[str], project: Project) -> None:
    """Refuse a webhook's secret that a consumer cannot accept beside the one before."""
    if not previous:
        return
    for name in sorted(set(consumers) - project.consumers([previous])[previous]):
        raise SecretsError(
            f"{name}: has {variable} without {previous}, so it would refuse what is still sent with the secret before; have it "
            f"accept both, and add to its environment: {previous}: ${{{previous}:-}}"
        )


def _setting(variable: str, consumers: list[str], project: Project) -> str:
    """Return a variable's value in the env file, or else in the environment of a service."""
    found = [read_env(project.env_file, [variable]).get(variable, "")]
    found += [str((project.services[name].config.get("environment") or {}).get(variable) or "") for name in consumers]
    return next((value for value in found if value), "")


def ready_log(found: Mapping[str, Any], service: str) -> str:
    """Return what the log of a consumer has to say by default: that of a connector, which is named after its platform.

    Others may have the token without connecting; what shows that they work is what shows it of any service.
    """
    return str(found.get("ready_log", "")) if found["engine"] in service.lower() else ""


def with_ready_log(services: Mapping[str, ServiceOptions], found: Mapping[str, Any]) -> dict[str, ServiceOptions]:
    """Return the exceptions for services, with the platform's ``ready_log`` for connectors that have none."""
    own = {name: services.get(name, ServiceOptions()) for name in found["consumers"] if ready_log(found, name)}
    default = {
        name: dataclasses.replace(given, ready_log=given.ready_log or ready_log(found, name))
        for name, given in own.items()
    }
    return {**services, **default}
