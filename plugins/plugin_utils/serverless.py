# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotations of what no server of the project accepts: published and rolled out as any other, never logged in with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import is_placeholder
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import VARIABLE_PARTS
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import serverless_engine
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.deployment import Deployment, now
from ansible_collections.chat4all.secrets.plugins.plugin_utils.rotation import Rotation, old_value, record_of

# The variable of the play that holds what a person brings, by name of the credential; its file is vaulted.
NEW_VALUES = "secrets_new_values"


class ServerlessRotation(Rotation):
    """A rotation without a server that could be asked: every login is ``untested``.

    What only a server can tell or do is left out; ``set``, ``test``, ``drain`` and ``revoke`` are a subclass's own.
    """

    def called(self, slot: dict[str, Any]) -> str:
        return "the new value" if slot.get("rotation") == self.id else "the present value"

    def log_in(self, facts: dict[str, Any], entry: dict[str, Any], *labels: str, **arguments: Any) -> dict[str, Any]:
        login = {"status": "untested", "reason": "no server here accepts it"}
        return {"logins": {label: dict(login) for label in labels if entry.get(label)}}

    def _server(self, facts: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _check_logins(self, logins: dict[str, Any], entry: dict[str, Any], facts: dict[str, Any], phase: str) -> None:
        return

    def _is_restored(self, facts: dict[str, Any], entry: dict[str, Any], logins: dict[str, Any]) -> bool:
        return False

    def _users(self, facts: dict[str, Any], entry: dict[str, Any]) -> tuple[str, str]:
        return "the present value", "the new value"

    def _would_set(self, slot: dict[str, Any], entry: dict[str, Any]) -> None:
        return

    def _greeting(self, user: str, accepted: bool) -> str:
        return ".env has the store's value"

    def _count_refused(self, tried: int = 0) -> int | None:
        return None


class ManualRotation(ServerlessRotation):
    """A rotation whose value a person brings, and whose old value a person ends where it was issued."""

    AGAIN = "tries the value again that it is given"

    def open(self) -> dict[str, Any]:
        deployment = self.deployment
        deployment.require_discretion()
        entry = deployment.entry(self.name)
        old, purpose = old_value(entry), self.arguments["purpose"]
        if not old or entry.get("pending") or purpose == "abort":
            return super().open()
        if self.arguments["confirmed"]:
            # Whoever has ended it does not wait for the grace.
            self.arguments["end_grace"] = True
            return super().open()
        left = record_of(self.name, deployment.memory()).get("rotation")
        if left == old["rotation"]:
            return self._close(entry, left)
        todo = report.to_end(self.name)
        if purpose == "rotate":
            raise SecretsError(f"{self.name}: one value at a time: {todo}")
        deployment.line("open", f"{self.name}: not ended. {todo}")
        return {"changed": False, "phase": "grace"}

    def _refuse(self, facts: dict[str, Any], info: dict[str, Any], resuming: bool) -> None:
        super()._refuse(facts, info, resuming)
        entry = self.entry()
        pending, given = entry.get("pending"), self._given()
        if self.opened["purpose"] != "rotate" or (pending or {}).get("direction") == "back":
            return
        if not pending:
            self._check_new(entry, given)
        elif given and self._value(given, entry) != (pending["user"], pending["password"]):
            raise SecretsError(
                f"{self.name}: a rotation to another value is unfinished; give that one, or none, or go back first: "
                + report.command("abort", rotate=self.name)
            )

    def _given(self) -> Any:
        """Return what the play was given as this credential's new value; nothing where it was given none."""
        task_vars = self.deployment.task_vars
        if NEW_VALUES not in task_vars:
            return ""
        values = self.deployment.action._templar.template(task_vars[NEW_VALUES])
        if not isinstance(values, Mapping):
            raise SecretsError(f"{NEW_VALUES}: must be a mapping of credentials, for example {{{self.name}: VALUE}}")
        return values.get(self.name, "")

    def _value(self, given: Any, entry: dict[str, Any]) -> tuple[str, str]:
        """Return user name and value of what was given: the value alone, or a mapping with a user name beside it."""
        where = f"{NEW_VALUES}.{self.name}"
        user = entry["current"]["user"]
        if isinstance(given, Mapping):
            others = sorted(set(given) - {"user"})
            if len(others) != 1 or others[0] not in VARIABLE_PARTS:
                raise SecretsError(f"{where}: must be the value, or a mapping such as {{user: NAME, secret: VALUE}}")
            user, given = given.get("user", user), given[others[0]]
        for part in (user, given):
            if part is None or isinstance(part, (bool, int, float, list, Mapping)):
                raise SecretsError(f"{where}: is no text; put it in quotes")
        return str.__str__(str(user)), str.__str__(str(given))

    def _check_new(self, entry: dict[str, Any], given: Any) -> None:
        """Refuse what cannot be meant as a new value."""
        where = f"{NEW_VALUES}.{self.name}"
        user, value = self._value(given, entry)
        if user != entry["current"]["user"] and "user" not in self.facts["variables"]:
            raise SecretsError(f"{where}: has a user name, but secrets_catalog.{self.name}.variables names none for it")
        if not value.strip():
            raise SecretsError(
                f"{self.name}: a person brings its new value; put {NEW_VALUES}: {{{self.name}: VALUE}} into a file, "
                "ansible-vault encrypt FILE, and add -e @FILE"
            )
        if any(part != part.strip() or not part.isprintable() for part in (user, value)):
            raise SecretsError(
                f"{where}: begins or ends with a space, or has a character that is no text (a line's end?)"
            )
        if is_placeholder(value):
            raise SecretsError(f"{where}: is a placeholder, not a value")
        for label in ("current", "previous"):
            if value == entry.get(label, {}).get("password"):
                raise SecretsError(f"{where}: is the {label} value; have a new one issued first")

    def create(self) -> dict[str, Any]:
        """Write the value that was brought durably, before any service sees it."""
        entry = self.entry()
        if entry.get("pending"):
            self.deployment.line("create", "stored value reused")
            return {"changed": False}
        given = self._given()
        self._check_new(entry, given)
        user, value = self._value(given, entry)
        pending = {
            "user": user,
            "password": value,
            "created": now().isoformat(),
            "rotation": self.id,
        }
        self.change(lambda stored: stored.update(pending=pending))
        self.note(self.records("open", "create", slot=pending))
        self.deployment.line("create", "value stored")
        return {"changed": True}

    def set(self) -> dict[str, Any]:
        self.slot(self.entry(), "pending")
        self.deployment.line("set", "left to whoever issued the value")
        return {"changed": False, "login": {"status": "untested"}}

    def test(self) -> dict[str, Any]:
        self.deployment.line("test", "not tested: nobody here can; the consumers' health is the evidence")
        return {"changed": False}

    def drain(self) -> dict[str, Any]:
        skipped = self.skipped(self.facts)
        consumers = [name for name in self.facts["consumers"] if name not in skipped]
        self.deployment.line("drain", f"{len(consumers)} of {len(self.facts['consumers'])} have the new value")
        return {"changed": False}

    def _revoke_after(self) -> str:
        # A person ends it, in any case: without a grace from now on.
        return super()._revoke_after() or now().isoformat()

    def revoke(self) -> dict[str, Any]:
        """Believe the person who says that the old value is ended."""
        previous = self.slot(self.entry(), "previous")
        self.note(self.records("revoke", state="confirmed by a person", slot=previous))
        self.change(lambda stored: stored["previous"].update(revoked=now().isoformat()))
        self.deployment.line("revoke", "old value ended where it was issued, as a person confirms")
        if self.opened["purpose"] == "revoke":
            self._end([], None, refused_at=report.clock())
        return {"changed": True, "own_refusals": 0}


# By the engine's name; "" stands for all that have a server.
ROTATIONS: dict[str, type[Rotation]] = {"": Rotation, "manual": ManualRotation}


def rotation_of(deployment: Deployment, name: str, arguments: dict[str, Any]) -> Rotation:
    """Return the rotation of a credential, of the class that its engine needs."""
    engine = serverless_engine(name, deployment.arguments["catalog"].get(name))
    return ROTATIONS[engine.name if engine else ""](deployment, name, arguments)
