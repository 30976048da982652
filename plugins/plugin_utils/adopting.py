# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adopting a deployment that runs: say what is there, draft the catalog, import the values. Nothing that runs changes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.chat4all.secrets.plugins.module_utils.api_tokens import entry_variables, known_variable
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import ENGINES, kind_of
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import COLLECTION, everywhere
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import (
    LOCK,
    Provisioning,
    check_roles,
    login_found,
    password_variable,
)

# Where Ansible finds the draft by itself, beside the inventory; and what would be hidden by that folder.
DRAFT = os.path.join("group_vars", "all", "secrets_catalog.yml")
HIDDEN = tuple(os.path.join("group_vars", "all" + end) for end in ("", ".yml", ".yaml", ".json"))

# What AWX installs before it runs anything.
REQUIREMENTS = """\
collections:
  - name: https://github.com/chat4all/secrets.git
    type: git
"""


def draft_of(found: list[dict[str, Any]], ask: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return the catalog's entries for what this version can rotate, and the text of a file that has them.

    What nobody here knows is a person's to bring. The text names all the rest in comments.
    """
    catalog: dict[str, Any] = {}
    later = []
    for one in found:
        engine = ENGINES.get(one["engine"])
        if engine and (one["place"] == "variable" or _by_uri(one)):
            catalog[one["name"]] = _entry(one)
        elif one["place"] != "none":
            reason = "not in .env yet" if engine else f"{one['engine']} cannot be rotated yet"
            later.append(f"  # {one['name']}: {one['variable']}: {reason}")
    asked = {one["variable"] for one in ask if one["place"] == "variable"}
    for one in ask:
        known = known_variable(one["variable"], asked) if one["place"] == "variable" else None
        if known and known.beside in asked:
            continue
        if known and known.lacks:
            later.append(f"  # {one['variable']}: engine: {known.engine}: {known.lacks}: docs/tokens.md")
        elif known and not known.beside and one["in_env"] and known.name not in {other["name"] for other in found}:
            catalog[known.name] = {}
        elif one["place"] == "variable" and one["in_env"]:
            name = _manual_name(one["variable"], {*catalog, *(other["name"] for other in found)})
            catalog[name] = {"engine": "manual", "variables": {"secret": one["variable"]}}
        else:
            later.append(f"  # {one['variable']} ({', '.join(one['services'])}): not in .env, or not by a variable")
    used = Counter(name for one in found if one["name"] in catalog for name in {one["variable"], *one.get("uris", [])})
    for name in [name for name, times in used.items() if times > 1]:
        both = [one["name"] for one in found if name in (one["variable"], *one.get("uris", []))]
        later.append(f"  # {' and '.join(both)} share {name}, and a variable holds one credential: rename one first")
    lines = [f"  {name}: {_flow(entry)}" for name, entry in catalog.items()]
    head = ["# A draft, made by chat4all.secrets.adopt from what is running; yours to edit. Keys: docs/catalog.md"]
    return catalog, "\n".join([*head, f"secrets_catalog:{'' if lines else ' {}'}", *lines, *later]) + "\n"


def together(seen: dict[str, dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what was found and what is asked on several hosts as those of one deployment.

    What one host asks about may be the password of a server on another one.
    """
    found, ask = [], dict[str, dict[str, Any]]()
    times = Counter(one["name"] for one_host in seen.values() for one in one_host["found"])
    for host, one_host in seen.items():
        for one in one_host["found"]:
            twice = (
                {"name": f"{one['name']}_{host}", "host": host, "service": one["name"]}
                if times[one["name"]] > 1
                else {}
            )
            found.append({**one, **twice})
    known = {one["variable"] for one in found if one["place"] == "variable"}
    for one_host in seen.values():
        for one in one_host["ask"]:
            if one["variable"] in known:
                continue
            first = ask.setdefault(one["variable"], {**one, "services": []})
            first["services"] = [*first["services"], *one["services"]]
            first["in_env"] = first["in_env"] or one["in_env"]
    return found, list(ask.values())


def _manual_name(variable: str, taken: Collection[str]) -> str:
    """Return what a secret is called after its variable: ``smtp`` for ``SMTP_PASSWORD``, where that name is free."""
    whole = variable.lower()
    short = re.sub(r"_(password|passwd|pass|pw|pwd|secret|token|key)$", "", whole)
    name = next(name for name in (short, whole, f"{whole}_value") if name and name not in taken)
    return name if name[0] != "_" else f"secret{name}"


def _by_uri(one: dict[str, Any]) -> bool:
    """Tell whether every consumer has the credential within a URI."""
    return bool(one.get("uris")) and not one["direct"]


def _where(one: dict[str, Any]) -> dict[str, Any]:
    """Return what tells the server, where its name does not."""
    place = {key: one[key] for key in ("host", "service") if one.get(key)}
    return {**place, **({"engine": one["engine"]} if one["unusual"] else {})}


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry has to say beyond its name."""
    engine, uris = ENGINES[one["engine"]], one.get("uris", [])
    uri = {"uri": uris[0] if len(uris) == 1 else uris} if uris else {}
    if _by_uri(one):
        return {**_where(one), "variables": uri}
    variables = {"user": one["user_variable"] or engine.variables["user"], "password": one["variable"]}
    entry = _where(one)
    changed = {part: name for part, name in variables.items() if name != engine.variables[part]}
    if changed or uri:
        # A URI alone would stand for all.
        entry["variables"] = {**(variables if uri else changed), **uri}
    if not one["user_variable"]:
        entry["strategy"] = "single_user"
    return entry


def _flow(value: Any) -> str:
    """Return a value as YAML writes it within a line; all are names."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return str(value)


def root_of(inventory: str) -> str:
    """Return the repository above an inventory's folder, or what is above ``inventories``; nothing where there is neither.

    In the inventory's own folder playbooks would be read as inventories.
    """
    folder = inventory
    while folder and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        if os.path.lexists(os.path.join(folder, ".git")):
            return folder
    above = os.path.dirname(inventory)
    return os.path.dirname(above) if os.path.basename(above) == "inventories" else ""


def playbooks() -> list[str]:
    """Return the names of the collection's playbooks, as people type them."""
    folder = os.path.join(os.path.dirname(__file__), "..", "..", "playbooks")
    return sorted(name[:-4] for name in os.listdir(folder) if name.endswith(".yml") and "_" not in name)


def wrappers(names: list[str]) -> dict[str, str]:
    """Return the files with which AWX runs these playbooks, by their path."""
    files = {
        os.path.join("playbooks", f"{name}.yml"): (
            f"- ansible.builtin.import_playbook: {COLLECTION}.{name.replace('-', '_')}\n"
        )
        for name in names
    }
    return {**files, os.path.join("collections", "requirements.yml"): REQUIREMENTS}


class Adoption:
    """Adopts one deployment. ``arguments`` are the action's own."""

    def __init__(self, deployment: Deployment, arguments: dict[str, Any]) -> None:
        self.deployment = deployment
        self.arguments = arguments

    def look(self) -> dict[str, Any]:
        """Say what is there, and draft the catalog."""
        deployment = self.deployment
        seen = everywhere(deployment.hosts, lambda host: host.module("adopt_info", **host.project()))
        names = [host.name for host in deployment.hosts]
        for host, one in zip(names, seen, strict=True):
            deployment.show(report.findings(one, host))
        catalog, text = draft_of(*together(dict(zip(names, seen, strict=True))))
        given = self.arguments["catalog"]
        known = set().union(*(entry_variables(name, entry or {}) for name, entry in given.items()))
        for name, entry in catalog.items():
            brought = kind_of(name, entry) != "db" and entry_variables(name, entry) & known
            if given and name not in given and not brought:
                deployment.line("adopt", f"{name}: not in secrets_catalog yet; add it there: {name}: {_flow(entry)}")
        return {"changed": False, "catalog": given or catalog, "draft": "" if given else text}

    def write(self) -> dict[str, Any]:
        """Write the draft beside the inventory; a catalog that is there is left alone."""
        text, folder = self.arguments["draft"], self.deployment.task_vars.get("inventory_dir")
        if not text:
            return {"changed": False}
        if not folder:
            raise SecretsError(f"the inventory has no folder to put {DRAFT} beside; use one: -i inventories/production")
        path = os.path.join(folder, DRAFT)
        hidden = [os.path.join(folder, name) for name in HIDDEN if os.path.isfile(os.path.join(folder, name))]
        if hidden:
            self.deployment.show(text.splitlines())
            raise SecretsError(f"{hidden[0]}: a folder of that name would hide it; add the lines above there yourself")
        if os.path.lexists(path):
            raise SecretsError(f"{path}: is there, but secrets_catalog is not set; is it empty? Edit or remove it")
        if not self.deployment.check_mode:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            atomic_write(path, text.encode(), mode=0o644)
        self.deployment.line("adopt", f"draft of the catalog: {path}")
        return {"changed": True}

    def wrap(self) -> dict[str, Any]:
        """Write what AWX needs to run the playbooks out of the user's own repository; what is there is left alone."""
        root, done = root_of(self.deployment.task_vars.get("inventory_dir") or ""), []
        if not root:
            return {"changed": False}
        for path, text in wrappers(playbooks()).items():
            target = os.path.join(root, path)
            if os.path.lexists(target):
                continue
            if not self.deployment.check_mode:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                atomic_write(target, text.encode(), mode=0o644)
            done.append(path)
        if done:
            self.deployment.line("adopt", f"for AWX, in {root}: {', '.join(done)}")
        return {"changed": bool(done)}

    def accept(self) -> dict[str, Any]:
        """Take ``.env``'s values of the named credentials over, once their servers have accepted them."""
        deployment, names = self.deployment, self.arguments["accept"]
        for name in names:
            deployment.entry(name)
        provisioning = Provisioning(deployment, {"drift": "accept", "only": names})
        try:
            result = provisioning.store()
            for name in (name for name in names if name not in result["replaced"]):
                facts, entry = result["info"]["credentials"][name], deployment.entry(name)
                self._check_agreed(facts, entry, provisioning.log_in(facts, entry))
        except (SecretsError, AnsibleConnectionFailure):
            provisioning.stop()
            raise
        if not deployment.check_mode:
            deployment.release(deployment.holder(LOCK))
            self._drop_unfinished("accept", result["replaced"])
        return {"changed": result["changed"]}

    def _check_agreed(self, facts: dict[str, Any], entry: dict[str, Any], login: dict[str, Any]) -> None:
        """Say why there is nothing to take over; raises where the value that is there is dead all the same."""
        name = facts["name"]
        if self.deployment.published(facts, entry) != "current":
            raise SecretsError(
                f"{name}: a rotation is unfinished, and .env holds its new value; to finish it: "
                + report.command("rotate", rotate=name)
            )
        if login["status"] == "rejected":
            raise SecretsError(
                f"{name}: .env holds the store's value, and {facts['service'] or 'its platform'} rejects it; "
                + (
                    f"to make a new one: {report.command('rotate', rotate=name, drift='replace')}"
                    if facts["service"]
                    else f"have a new one issued, and bring it: {report.command('rotate', rotate=name)} -e @FILE"
                )
            )
        self.deployment.line("adopt", f"{name}: .env holds the store's value already")

    def reseal(self) -> dict[str, Any]:
        """Begin a new store where nobody can open the old one: what ``.env`` holds and the servers accept."""
        deployment = self.deployment
        deployment.require_discretion()
        if not deployment.is_locked_out():
            deployment.line("adopt", f"{deployment.store_path}: this vault password opens it, or it is not there yet")
            return {"changed": False}
        aside = deployment.new_store()
        info, found = deployment.values_found()
        entries = self._readable(info, found)
        check_roles(info["credentials"], entries)
        if not deployment.check_mode:
            self._drop_unfinished("reseal")
            holder = deployment.holder(LOCK)
            deployment.take(holder)
            try:
                deployment.store.change(lambda credentials: credentials.update(entries))
            finally:
                deployment.release({**holder, "serial": deployment.store.serial})
        for name in entries:
            deployment.line("adopt", f"{name}: value read from .env again")
        deployment.line("adopt", f"the store that nobody can open is kept: {aside}")
        return {"changed": True}

    def _readable(self, info: dict[str, Any], found: dict[str, dict[str, str]]) -> dict[str, dict[str, Any]]:
        """Return the entries of a new store; each value is tried at its server, where it has one."""
        provisioning, entries, dead = Provisioning(self.deployment, {"drift": "refuse"}), {}, []
        for name, facts in info["credentials"].items():
            variable = password_variable(facts)
            if not login_found(facts, found[name])[1]:
                self.deployment.line("adopt", f"{name}: .env holds no {variable}; left out")
                continue
            entry = provisioning.entry_for(facts, found[name])
            login = provisioning.log_in(facts, entry)
            if login["status"] == "unknown" and not facts["service"]:
                # One platform that is down does not hold up the whole store.
                self.deployment.line("adopt", f"{name}: not tried: {login['reason']}")
            elif login["status"] == "unknown":
                raise SecretsError(
                    f"{name}: {facts['service']} cannot be asked: {login['reason']}; nothing was changed"
                )
            if login["status"] == "rejected":
                dead.append(name)
            entries[name] = entry
        if len(dead) == len(entries):
            raise SecretsError(
                f"{self.deployment.store_path}: .env holds no value that its server accepts; nothing was changed"
            )
        for name in dead:
            server = info["credentials"][name]["service"]
            replace = f"to make a new one: {report.command('rotate', rotate=name, drift='replace')}"
            bring = f"have a new one issued, and bring it: {report.command('rotate', rotate=name)} -e @FILE"
            line = f"its {'server' if server else 'platform'} rejects .env's value; {replace if server else bring}"
            self.deployment.line("adopt", f"{name}: {line}")
        return entries

    def _drop_unfinished(self, step: str, names: Collection[str] | None = None) -> None:
        """End what the target remembers of rotations whose values are in the store no more: of all, or of those named."""
        for record in self.deployment.memory()["records"]:
            name, rotation = record["credential"], record["rotation"]
            if names is not None and name not in names:
                continue
            holder = self.deployment.holder(rotation)
            self.deployment.take(holder)
            dropped = {"rotation": rotation, "credential": name, "step": step, "state": "unfinished value dropped"}
            self.deployment.release(holder, outcome={name: {"result": "aborted"}}, ledger=[dropped])
            self.deployment.line("adopt", f"{name}: the unfinished {rotation} is dropped")

    def _is_manual(self, name: str) -> bool:
        return kind_of(name, self.deployment.arguments["catalog"][name]) == "manual"

    def store(self) -> dict[str, Any]:
        """Import the values in use into the store; what it has already is left alone, and nothing is generated."""
        deployment = self.deployment
        if not deployment.arguments["catalog"]:
            return {"changed": False}
        deployment.require_discretion()
        provisioning = Provisioning(deployment, {"drift": "refuse"})
        deployment.memory()
        info, found = deployment.values_found()
        entries = {}
        for name, facts in info["credentials"].items():
            if deployment.stored(name):
                continue
            if not login_found(facts, found[name])[1]:
                deployment.line("adopt", f"{name}: .env holds no {password_variable(facts)}; nothing to import")
                continue
            entries[name] = provisioning.entry_for(facts, found[name])
        if not entries:
            return {"changed": False}
        stored = {name: entry for name in info["credentials"] if (entry := deployment.stored(name))}
        check_roles(info["credentials"], {**stored, **entries})
        if not deployment.check_mode:
            holder = deployment.holder(LOCK)
            deployment.take(holder)
            try:
                deployment.store.change(lambda credentials: credentials.update(entries))
            finally:
                deployment.release({**holder, "serial": deployment.store.serial})
        for name in entries:
            deployment.line("adopt", f"{name}: value imported from .env into {deployment.store_path}")
        deployment.show([f"Next: {report.command('rotate', rotate=min(entries, key=self._is_manual))} --check"])
        return {"changed": True}
