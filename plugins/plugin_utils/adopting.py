# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adopting a deployment that runs: say what is there, draft the catalog, import the values. Nothing that runs changes."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.engines import ENGINES
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment
from ansible_collections.chat4all.secrets.plugins.plugin_utils.provisioning import LOCK, Provisioning

# Where Ansible finds the draft by itself, beside the inventory; and what would be hidden by that folder.
DRAFT = os.path.join("group_vars", "all", "secrets_catalog.yml")
HIDDEN = tuple(os.path.join("group_vars", "all" + end) for end in ("", ".yml", ".yaml", ".json"))


def draft_of(found: list[dict[str, Any]], ask: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return the catalog's entries for what this version can rotate, and the text of a file that has them.

    The text names all the rest in comments.
    """
    catalog, lines, later = {}, [], []
    for one in found:
        engine = ENGINES.get(one["engine"])
        if engine and one["place"] == "variable":
            entry = catalog[one["name"]] = _entry(one)
            inside = ", ".join(f"{key}: {_flow(value)}" for key, value in entry.items())
            lines.append(f"  {one['name']}: {{{inside}}}")
        elif one["place"] != "none":
            reason = "not in .env yet" if engine else f"{one['engine']} cannot be rotated yet"
            later.append(f"  # {one['name']}: {one['variable']}: {reason}")
    later += [f"  # {one['variable']} ({', '.join(one['services'])}): no engine known" for one in ask]
    head = ["# A draft, made by chat4all.secrets.adopt from what is running; yours to edit. Keys: docs/catalog.md"]
    return catalog, "\n".join([*head, f"secrets_catalog:{'' if lines else ' {}'}", *lines, *later]) + "\n"


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry has to say beyond its name."""
    engine = ENGINES[one["engine"]]
    variables = {"user": one["user_variable"] or engine.variables["user"], "password": one["variable"]}
    entry: dict[str, Any] = {"engine": one["engine"]} if one["unusual"] else {}
    changed = {part: name for part, name in variables.items() if name != engine.variables[part]}
    if changed:
        entry["variables"] = changed
    if not one["user_variable"]:
        entry["strategy"] = "single_user"
    return entry


def _flow(value: Any) -> str:
    """Return a value as YAML writes it within a line; all are names."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)


class Adoption:
    """Adopts one deployment. ``arguments`` are the action's own."""

    def __init__(self, deployment: Deployment, arguments: dict[str, Any]) -> None:
        self.deployment = deployment
        self.arguments = arguments

    def look(self) -> dict[str, Any]:
        """Say what is there, and draft the catalog."""
        deployment = self.deployment
        seen = deployment.module("adopt_info", **deployment.project())
        deployment.show(report.findings(seen, deployment.host))
        catalog, text = draft_of(seen["found"], seen["ask"])
        given = self.arguments["catalog"]
        for name in catalog:
            if given and name not in given:
                deployment.line("adopt", f"{name}: not in secrets_catalog yet; add it there: {name}: {{}}")
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
            if not found[name].get(facts["variables"]["password"]):
                deployment.line("adopt", f"{name}: .env holds no {facts['variables']['password']}; nothing to import")
                continue
            entries[name] = provisioning.entry_for(facts, found[name])
        if not entries:
            return {"changed": False}
        if not deployment.check_mode:
            holder = deployment.holder(LOCK)
            deployment.take(holder)
            try:
                deployment.store.change(lambda credentials: credentials.update(entries))
            finally:
                deployment.release({**holder, "serial": deployment.store.serial})
        for name in entries:
            deployment.line("adopt", f"{name}: value imported from .env into {deployment.store_path}")
        deployment.show([f"Next: {report.command('provision')}"])
        return {"changed": True}
