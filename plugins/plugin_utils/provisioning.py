# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Provisioning: fill the store, render ``.env``, keep a server's first-start values apart from its consumers'."""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import is_placeholder
from ansible_collections.chat4all.secrets.plugins.module_utils.catalog import role_of
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import is_uri
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import INIT_PREFIX
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate
from ansible_collections.chat4all.secrets.plugins.module_utils.state import person
from ansible_collections.chat4all.secrets.plugins.module_utils.uris import parse
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys, jwt_rotation
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, now, owner
from ansible_collections.chat4all.secrets.plugins.plugin_utils.report import command
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import changed_by_hand, old_value, role_in
from ansible_collections.chat4all.secrets.plugins.plugin_utils.serverless import rotation_of

# Under which name the deployment is locked.
LOCK = "provision"


def login_found(facts: dict[str, Any], found: dict[str, str]) -> tuple[str, str]:
    """Return user and password that ``.env`` holds of a credential, empty where it has none.

    Refuses variables that contradict one another: nobody knows which of them is right.
    """
    name, held = facts["name"], []
    for part, variable in facts["variables"].items():
        if is_uri(part) and variable in found:
            uri = parse(found[variable], f".env: {variable}")
            held.append((variable, {"user": uri.user, "password": uri.password}))
        elif found.get(variable):
            held.append((variable, {part: found[variable]}))
    login: dict[str, tuple[str, str]] = {}
    for variable, parts in held:
        for part, value in parts.items():
            other, known = login.setdefault(part, (variable, value))
            if known != value:
                raise SecretsError(
                    f"{name}: {other} and {variable} hold different {part}s in .env; write the one that is in use into both"
                )
    return login.get("user", ("", ""))[1], (login.get("password") or login.get("key") or ("", ""))[1]


def spelling(facts: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
    """Return how the login is typed in URIs, where that is not how it would be written here."""
    uris = {
        variable: parse(found[variable], f".env: {variable}")
        for part, variable in facts["variables"].items()
        if is_uri(part) and variable in found
    }
    typed = {variable: uri.spelling for variable, uri in uris.items() if not uri.is_plain}
    return {"spelling": typed} if typed else {}


def password_variable(facts: dict[str, Any]) -> str:
    """Return the variable that has the password, by itself or in a URI, or the key."""
    variables = facts["variables"]
    return str(variables.get("password") or variables.get("key") or variables["uri"])


def _before(facts: dict[str, Any], found: dict[str, str], current: dict[str, Any]) -> dict[str, Any]:
    """Return the value before that ``.env`` has beside the current one: services accept both, and either may be sent."""
    value = found.get(facts.get("previous_variable") or "", "")
    if not value or value == current["password"]:
        return {}
    date = now().isoformat()
    slot = {"user": current["user"], "password": value, "created": date, "revoke_after": date, "imported": True}
    return {"previous": {**slot, "rotation": f"r-{secrets.token_hex(2)}"}}


def check_roles(credentials: dict[str, dict[str, Any]], entries: dict[str, dict[str, Any]]) -> None:
    """Refuse two credentials of one server whose logins would be the same; of what has no value yet nothing is known."""
    for name in (name for name in credentials if name in entries):
        facts = credentials[name]
        role = role_in(facts, entries[name])
        for other in (other for other in facts["siblings"] if other in entries):
            theirs = role_in(credentials[other], entries[other])
            if theirs in (role, f"{role}_1", f"{role}_2", f"{role}_admin"):
                raise SecretsError(
                    f"secrets_catalog.{other}.role: {theirs} is a login of {name} already "
                    f"({facts['service']}, role {role}); give each entry the role that its variables log in as"
                )


class Provisioning:
    """Brings one deployment's store, ``.env`` and Compose override in step with its catalog."""

    def __init__(self, deployment: Deployment, arguments: dict[str, Any]) -> None:
        self.deployment = deployment
        self.arguments = arguments

    def store(self) -> dict[str, Any]:
        """Import what is in use, generate what is missing; a value that the store has is replaced only where asked."""
        deployment = self.deployment
        deployment.require_discretion()
        accepting, only = self.arguments["drift"] == "accept", self.arguments.get("only")
        # A store that is older than the target has seen is taken where its lost values are to be read from .env.
        older = accepting and not only
        memory = deployment.state("read", store_id=deployment.store.id) if older else deployment.memory()
        info, found = deployment.values_found()
        names = only or list(info["credentials"])
        if memory["lock"] or not deployment.check_mode:
            self._take(older)
        # What cannot be separated is refused before store and .env are written.
        for facts in info["credentials"].values():
            if facts["server_variables"] and not only:
                deployment.home(facts).would("compose_pin", **deployment.pin(facts))
        entries = {name: self.entry_for(info["credentials"][name], found[name], accepting) for name in names}
        if not only:
            check_roles(info["credentials"], entries)
        before = {name: deployment.stored(name) for name in entries}
        changed = sorted(name for name, entry in entries.items() if entry != before[name])
        if not deployment.check_mode:
            update = {name: entries[name] for name in changed}
            beyond = memory["highest_serial"] if older else 0
            deployment.store.change(lambda credentials: credentials.update(update), beyond)
        for name in changed:
            deployment.line("store", f"{name}: {self._what(before[name], entries[name])}")
            if jwt_keys.has_keys(info["credentials"][name]) and entries[name]["current"].get("weak"):
                deployment.line("store", jwt_rotation.about_weak(name, entries[name]))
        replaced = [name for name in changed if before[name].get("current") != entries[name].get("current")]
        return {"changed": bool(changed), "info": info, "replaced": replaced}

    def _take(self, older: bool) -> None:
        try:
            # Where all of .env's values are accepted, a store older than the target has seen is, too.
            serial = None if older else self.deployment.store.serial
            self.deployment.take({**self.deployment.holder(LOCK), "serial": serial})
        except SecretsError:
            lock = self.deployment.state("read")["lock"]
            if not lock:
                raise
            raise SecretsError(
                f"{person(lock['owner'])} holds the lock ({lock['rotation']}, since {lock['since']}), and values are not "
                f"touched meanwhile; wait until that run has ended; if it is dead, its lock ends at {lock['expires']}"
            ) from None

    def render(self) -> dict[str, Any]:
        """Write ``.env``, ``.env.example`` and the ``.gitignore`` lines."""
        deployment = self.deployment
        info = self.arguments["info"]
        # One host has an .env even where no credential is in it.
        first = [] if deployment.is_spread else [(deployment.first, info["project"]["env_file"])]
        writes = {host.name: (host, {"path": path, "values": {}, "uris": {}}) for host, path in first}
        for name, facts in info["credentials"].items():
            entry = deployment.stored(name)
            if not entry:  # only under --check, on a store that does not exist yet
                continue
            for host, place in deployment.places(facts):
                label = deployment.published(facts, entry, place)
                if label is None and self.arguments["drift"] != "replace":
                    where = f" on {host.name}" if deployment.is_spread else ""
                    raise SecretsError(
                        f"DRIFT {name}: .env{where} holds another {' or '.join(sorted(facts['variables'].values()))} than "
                        "the store; to put the store's value back: -e drift=replace; to take .env's over: -e drift=accept"
                    )
                own = {"path": place["env_file"], "values": {}, "uris": {}}
                _host, write = writes.setdefault(host.name, (host, own))
                slot = deployment.to_publish(facts, entry, label or "current")
                write["values"].update(deployment.env_values(facts, entry, slot, place))
                write["uris"].update(deployment.uris(facts, entry, slot, place))
        results = deployment.publish(list(writes.values()), example=True, gitignore=True)
        for name, result in zip(writes, results, strict=True):
            if result["changed"]:
                deployment.line("render", ", ".join(result["added"] + result["updated"]) or "mode and owner", name)
        return {
            "changed": any(result["changed"] for result in results),
            "diff": [one for result in results for one in result.get("diff", [])],
        }

    def separate(self) -> dict[str, Any]:
        """Keep every server's first-start values apart, so that a new value never recreates the server."""
        deployment = self.deployment
        changed = False
        for facts in self.arguments["info"]["credentials"].values():
            if not facts["server_variables"]:
                continue
            result = deployment.home(facts).module("compose_pin", **deployment.pin(facts))
            changed = changed or result["changed"]
            if result["changed"]:
                deployment.line(
                    "separate", f"{result['path']}: pins {facts['service']}'s first-start values", facts["host"]
                )
        # The target remembers the serial only now that nothing is missing there.
        if not deployment.check_mode:
            deployment.release(deployment.holder(LOCK))
        return {"changed": changed}

    def stop(self) -> None:
        """Let others work after a failure."""
        if not self.deployment.check_mode:
            with contextlib.suppress(SecretsError, AnsibleConnectionFailure):
                self.deployment.state("release", rotation=LOCK, owner=owner())

    def entry_for(self, facts: dict[str, Any], found: dict[str, str], accepting: bool = False) -> dict[str, Any]:
        """Return what the store shall hold of a credential."""
        entry = self.deployment.stored(facts["name"])
        if jwt_keys.has_keys(facts):
            known = entry.get("current") and not (accepting and not self.deployment.published(facts, entry))
            return entry if known else jwt_rotation.first_entry(facts, found)
        if not entry.get("current"):
            role = self._role(facts, found)
            current = self._first_value({**facts, "role": role}, found)
            entry = {
                "engine": facts["engine"],
                "role": role,
                "current": current,
                **_before(facts, found, current),
            }
            entry["role"] = self._stem(facts, entry)
        elif self.arguments["drift"] != "refuse" and not self.deployment.published(facts, entry):
            if accepting:
                entry = self._accepted(facts, entry, found)
            else:
                self._check_replaceable(facts, entry)
        if entry.get("role"):
            entry = {**entry, "role": role_in(facts, entry)}
        kept = {name: found[name] for name in map(INIT_PREFIX.__add__, facts["variables"].values()) if name in found}
        init = {**self.deployment.first_start(facts, entry["current"]), **kept, **entry.get("init", {})}
        uris = dict(entry.get("uris", {}))
        for part, variable in facts["variables"].items():
            if is_uri(part) and variable in found:
                uris[variable] = parse(found[variable], f".env: {variable}").template
        return {**entry, **({"init": init} if init else {}), **({"uris": uris} if uris else {})}

    @staticmethod
    def _role(facts: dict[str, Any], found: dict[str, str]) -> str:
        """Return the role that a new entry has: on several hosts the user may be in another one's ``.env`` alone."""
        if not facts["service"]:
            return str(facts["role"])
        user = login_found(facts, found)[0]
        if facts["address"] and not user and not facts["declared_role"]:
            raise SecretsError(
                f"secrets_catalog.{facts['name']}.role: nobody knows it, as .env has no user; add role: NAME"
            )
        return role_of(facts, found, user)

    def _stem(self, facts: dict[str, Any], entry: dict[str, Any]) -> str:
        """Return the role of a new entry; of one of two logins that alternate, the server says that it works as another."""
        role, imported = str(entry["role"]), entry["current"].get("imported")
        stem = re.fullmatch(r"(.+)_[12]", role)
        if not (stem and imported and facts["type"] == "pair" and role != facts["declared_role"]):
            return role
        owner = stem.group(1)
        try:
            login = self.log_in(facts, {**entry, "role": owner})
        except SecretsError as error:
            if f"role {owner} does not exist" in error.message:
                return role
            login = {"status": "unknown", "reason": error.message}
        if login["status"] == "accepted":
            works_as = {seen["current_user"] for seen in login.get("databases", {}).values()}
            return owner if works_as == {owner} else role
        raise SecretsError(
            f"secrets_catalog.{facts['name']}.role: {role} may be one of two logins of {owner}, and the server does not "
            f"say ({login['reason']}); add role: {owner}, or role: {role} where it is no such login"
        )

    def _accepted(self, facts: dict[str, Any], entry: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
        """Return the entry with ``.env``'s value as the current one, which the server has to accept."""
        user, password = login_found(facts, found)
        current = {
            "user": user or entry["role"],
            "password": password,
            "created": now().isoformat(),
            "imported": True,
            **spelling(facts, found),
        }
        kept = {key: value for key, value in entry.items() if key not in ("pending", "previous", "dropped")}
        if facts["type"] == "person" and old_value(entry):
            kept["previous"] = entry["previous"]
        # Another login that the server may still accept is the next run's to end.
        for old in (old_value(entry), entry["current"], entry.get("pending")):
            if old and old["user"] != current["user"]:
                kept_of_it = ("user", "password", "created", "revoke_after", "waits_for", "confirmed")
                left = {key: old[key] for key in kept_of_it if key in old}
                kept["previous"] = {**left, "rotation": old.get("rotation") or f"r-{secrets.token_hex(2)}"}
                break
        kept.update(_before(facts, found, current))
        login = self.log_in(facts, {**kept, "current": current})
        if login["status"] not in ("accepted", "untested"):
            mend = f"to make a new one: {command('rotate', rotate=facts['name'], drift='replace')}"
            mend = mend if facts["service"] else rotation_of(self.deployment, facts["name"], {}).mend()
            raise SecretsError(
                f"{facts['name']}: {self.server_of(facts)} does not accept .env's value either: {login['reason']}; {mend}"
            )
        if facts["type"] == "person" and "previous" not in kept and entry["current"]["password"] != password:
            # A person ends what the store held.
            left = {key: entry["current"][key] for key in ("user", "password", "created")}
            kept["previous"] = {**left, "rotation": f"r-{secrets.token_hex(2)}", "revoke_after": now().isoformat()}
        return {**kept, "current": current}

    def server_of(self, facts: dict[str, Any]) -> str:
        """Return what people call whoever accepts a credential."""
        return facts["service"] or rotation_of(self.deployment, facts["name"], {}).server_name

    def _check_replaceable(self, facts: dict[str, Any], entry: dict[str, Any]) -> None:
        """Refuse to put a value into ``.env`` that the server rejects; one that cannot be asked proves nothing."""
        name, service = facts["name"], self.server_of(facts)
        user = f" for {entry['current']['user']}" if entry["current"]["user"] else ""
        try:
            login = self.log_in(facts, entry)
        except SecretsError as error:
            login = {"status": "unknown", "reason": error.message}
        if login["status"] == "rejected":
            raise SecretsError(
                f"DRIFT {name}: {service} rejects the store's value{user}, so it is not put back into .env. "
                f"{changed_by_hand(name)}"
            )
        if login["status"] not in ("accepted", "untested"):
            self.deployment.line(
                "store", f"{name}: {service} cannot be asked whether it accepts the store's value: {login['reason']}"
            )

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """Try the current value at the server."""
        logins = rotation_of(self.deployment, facts["name"], {}).log_in(facts, entry, "current")["logins"]
        login: dict[str, Any] = logins["current"]
        return login

    def _first_value(self, facts: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
        user, given = login_found(facts, found)
        slot = {"user": user or facts["role"], "created": now().isoformat()}
        running = not facts["service"] and any(place["in_use"] for place in facts.get("places", ()))
        if given and (facts["has_data"] or running or not is_placeholder(given)):
            return {**slot, "password": given, "imported": True, **spelling(facts, found)}
        if facts["type"] == "person":
            raise SecretsError(
                f"{facts['name']}: a person brings its value, but .env holds no {password_variable(facts)}; put it there"
            )
        if not facts["service"] and (facts["has_data"] or running):
            raise SecretsError(
                f"{facts['name']}: its services run already, but .env holds no {password_variable(facts)}; "
                "put the value that they use there"
            )
        if facts["has_data"]:
            raise SecretsError(
                f"{facts['name']}: {facts['service']} has data already, but .env holds no {password_variable(facts)}; "
                "put the password that it was started with there"
            )
        return {**slot, "password": generate(**facts["generate"]).value}

    @staticmethod
    def _what(before: dict[str, Any], entry: dict[str, Any]) -> str:
        if before.get("current") == entry["current"]:
            return "noted what else .env has"
        return "imported from .env" if entry["current"].get("imported") else "generated"
