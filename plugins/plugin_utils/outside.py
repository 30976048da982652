# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The consumers of a credential outside Compose: files with a command each, and persons to confirm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Host

if TYPE_CHECKING:
    from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation


def waits_for(previous: dict[str, Any]) -> list[str]:
    """Return the persons who have not confirmed yet that they do not use a previous value any more."""
    return [name for name in previous.get("waits_for", []) if name not in previous.get("confirmed", [])]


class Outside:
    """The files of one credential's consumers outside Compose, as a rotation keeps them in step."""

    def __init__(self, rotation: Rotation, facts: dict[str, Any]) -> None:
        self.rotation = rotation
        self.facts = facts
        self.files: list[dict[str, Any]] = facts.get("files", [])
        self._skipped = set(rotation.arguments.get("skip_services") or [])

    @property
    def followed(self) -> list[dict[str, Any]]:
        """The files that are kept in step: those that are not skipped."""
        return [one for one in self.files if one["name"] not in self._skipped]

    def check(self, entry: dict[str, Any]) -> None:
        """Refuse a file that lacks a variable, cannot be written, or holds a value that the store does not know."""
        slots = [entry[label] for label in ("current", "pending", "dropped") if entry.get(label)]
        for one in self.followed:
            self._write(one, slots, trial=True)

    def stale(self, entry: dict[str, Any]) -> list[str]:
        """Return the consumers whose file does not hold the current value."""
        return [one["name"] for one in self.files if not self.holds(one, entry["current"])]

    def holds(self, one: dict[str, Any], slot: dict[str, Any]) -> bool:
        """Tell whether a file holds a slot's value."""
        try:
            self._write(one, [slot], trial=True, known=True)
        except SecretsError as error:
            if error.details.get("foreign"):
                return False
            raise
        return True

    def publish(self, slots: list[dict[str, Any]], trial: bool = False) -> list[dict[str, Any]]:
        """Have every file hold the first slot's value, in the place of one of them; returns which ones were changed."""
        return [{"changed": self._write(one, slots, trial)} for one in self.followed]

    def run(self, step: str, slot: dict[str, Any]) -> None:
        """Run the commands of those that have not taken this value yet."""
        rotation, deployment = self.rotation, self.rotation.deployment
        if not any(one["after"] for one in self.followed):
            return
        record = deployment.state("read", rotation=rotation.id)["record"]
        if step == "back" and not record.get("outside"):
            return
        taken, mark = record.get("taken", {}), deployment.store.fingerprint(slot["password"])
        entry = rotation.entry()
        values = [entry[label]["password"] for label in ("current", "pending", "previous") if entry.get(label)]
        for one in self.followed:
            if not one["after"] or taken.get(one["name"]) == mark:
                continue
            host = self._on(one)
            with deployment.kept(rotation.holder):
                result = host.module(
                    "consumer_command",
                    consumer=one["name"],
                    command=one["after"],
                    timeout=one["timeout"],
                    mask=values,
                    log_dir=os.path.join(host.state_dir, "runs", rotation.id),
                    state_dir=host.state_dir,
                    holder=rotation.holder,
                    ledger=rotation.records(step, state=f"{one['name']} replaced"),
                )
            taken = {**taken, one["name"]: mark}
            rotation.note([], taken=taken)
            took = report.duration(result["seconds"])
            deployment.line(step, f"{one['name']}: {' '.join(one['after'])} ({took})", host=host.name)

    def _on(self, one: dict[str, Any]) -> Host:
        """Return the host of a file: the server's, unless another one is named."""
        try:
            return self.rotation.deployment.named(one["host"] or self.facts["host"])
        except SecretsError as error:
            where = f"secrets_catalog.{self.rotation.name}.consumers: {one['name']}"
            raise SecretsError(f"{where}: {error.message}") from None

    def _write(
        self, one: dict[str, Any], slots: list[dict[str, Any]], trial: bool = False, known: bool = False
    ) -> bool:
        """Write a file, or see whether that could be done; ``known``: even where any value shall be replaced."""
        rotation, deployment, host = self.rotation, self.rotation.deployment, self._on(one)
        names = {**self.facts, "variables": one["variables"]}
        values = [deployment.slot_values(names, slot) for slot in slots]
        fingerprint = deployment.store.fingerprint
        replacing = rotation.arguments.get("drift") == "replace" and not known
        given = {
            "path": one["path"],
            "values": values[0],
            "preserve": True,
            "replaces": {}
            if replacing
            else {variable: [fingerprint(each[variable]) for each in values] for variable in values[0]},
            "fingerprint_key": deployment.store.fingerprint_key.hex(),
        }
        try:
            if trial:
                return bool(host.would("env_file", **given)["changed"])
            held = {"state_dir": host.state_dir, "holder": rotation.holder}
            return bool(host.module("env_file", **given, **held)["changed"])
        except SecretsError as error:
            foreign = error.details.get("foreign")
            if not foreign:
                raise SecretsError(f"{one['name']}: {error.message}") from None
            raise SecretsError(
                f"DRIFT {rotation.name}: {one['path']} ({one['name']}) holds another {' or '.join(foreign)} than the "
                f"store; copy .env's values there, or -e skip_service={one['name']} (it stays stale)",
                foreign=foreign,
            ) from None
