# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every step on a deployment needs: its arguments, its store, its modules, its lines of output."""

from __future__ import annotations

import copy
import datetime
import getpass
import json
import os
import secrets
import shlex
import socket
import threading
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal
from ansible_collections.chat4all.secrets.plugins.module_utils.state import boot_id, person
from ansible_collections.chat4all.secrets.plugins.plugin_utils import report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import Store

COLLECTION = "chat4all.secrets"
STORE_NAME = ".secrets-store.yml"
STATE_FOLDER = ".chat4all"

ARGUMENTS: dict[str, dict[str, Any]] = {
    "project_dir": {"type": "path", "required": True},
    "compose_files": {"type": "list", "elements": "path", "default": []},
    "env_file": {"type": "path"},
    "catalog": {"type": "dict", "required": True},
    "services": {"type": "dict", "default": {}},
    "store": {"type": "dict", "default": {}},
}


def now() -> datetime.datetime:
    """Return the time of the store's dates: UTC, whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def process_table() -> str:
    """Return in which process table this process lives: on Linux a container has one of its own."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def owner(process: int | None = None) -> str:
    """Return who runs this play, for the lock: user, machine and process of ``ansible-playbook``.

    People are shown that much (``state.person``). The rest tells where the process's number means something.
    """
    # An action plugin runs in a worker process of its own.
    process = process or os.getppid()
    return f"{getpass.getuser()}@{socket.gethostname()} process {process} #{boot_id()}/{process_table()}"


def is_gone(holder: str) -> bool:
    """Tell whether a lock's owner is known to be gone: a process that would be seen from here, and is no more.

    Nothing is known of another machine's, another container's, or another boot's: that lock has to run out.
    """
    process = person(holder).rpartition(" process ")[2]
    if not process.isdecimal() or holder != owner(int(process)):
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Deployment:
    """One deployment as an action plugin sees it.

    ``arguments`` are the action's own, checked against ``ARGUMENTS``.
    """

    def __init__(self, action: ActionBase, arguments: dict[str, Any], task_vars: dict[str, Any]) -> None:
        self.action = action
        self.arguments = arguments
        self.task_vars = task_vars
        self.host = str(task_vars.get("inventory_hostname", "localhost"))
        self.check_mode = bool(action._task.check_mode)
        self.state_dir = os.path.join(arguments["project_dir"], STATE_FOLDER)
        self._store: Store | None = None

    # -- output

    def line(self, step: str, text: str) -> None:
        """Show one line of the run."""
        Display().display(report.line(self.host, step, text))

    def show(self, lines: list[str], color: str | None = None) -> None:
        """Show a block of lines."""
        for text in lines:
            Display().display(text, color=color)

    # -- modules

    def require_discretion(self) -> None:
        """Refuse to work where Ansible would show a module's arguments: on the target's disk, or in its own output."""
        if not self.action._is_pipelining_enabled("new"):
            raise SecretsError(
                f"{self.host}: pipelining is off, so secrets would be written to temporary files there; "
                "set ANSIBLE_PIPELINING=true (and not ANSIBLE_KEEP_REMOTE_FILES)"
            )
        if constants.DEFAULT_DEBUG:
            raise SecretsError(
                f"{self.host}: ANSIBLE_DEBUG prints the arguments of modules, secrets among them; unset it, "
                "-vvvv shows all but these"
            )

    def would(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return what a module would do: it runs in check mode, and refuses what it would refuse."""
        task = self.action._task
        kept, task.check_mode = task.check_mode, True
        try:
            return self.module(name, **arguments)
        finally:
            task.check_mode = kept

    def module(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a module on the target and return its result; its failure is raised as one line."""
        result = self.action._execute_module(
            module_name=f"{COLLECTION}.{name}",
            module_args={key: value for key, value in arguments.items() if value is not None},
            task_vars=self.task_vars,
        )
        if result.get("failed"):
            details = {key: value for key, value in result.items() if key in ("service", "reason", "log", "foreign")}
            raise SecretsError(self._reason(name, result), **details)
        return result

    @staticmethod
    def _reason(name: str, result: dict[str, Any]) -> str:
        """Return why a module failed, in one line."""
        if result.get("msg"):
            return str(result["msg"]).strip().splitlines()[0]
        # It broke instead of failing: the last line of what it left says most.
        event = getattr(result.get("exception"), "event", None)
        broken = str(getattr(event, "msg", "") or result.get("module_stderr") or result.get("exception") or "silently")
        return f"the module {name} broke: {broken.strip().splitlines()[-1]}"

    def state(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Read or change what the target remembers of this deployment."""
        return self.module("deployment_state", path=self.state_dir, action=action, **arguments)

    def memory(self) -> dict[str, Any]:
        """Return what the target remembers; raises where the store is older than the one that it has seen."""
        return self.state("read", store_id=self.store.id, serial=self.store.serial)

    def holder(self, rotation: str) -> dict[str, Any]:
        """Return as whom this run works on the deployment: for which rotation, and with which store."""
        return {"rotation": rotation, "owner": owner(), "store_id": self.store.id, "serial": self.store.serial}

    def take(self, holder: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """Take the deployment's lock and return what the target remembers.

        A lock whose owner is known to be gone is taken over.
        """
        try:
            taken = self.state("take", **holder, **arguments)
        except SecretsError:
            other = (self.state("read")["lock"] or {}).get("owner", "")
            if not is_gone(other):
                raise
            taken = self.state("take", **holder, **arguments, dead_owner=other)
        if taken["took_over"]:
            self.line("open", f"the lock of {taken['took_over']} was dead: taken over")
        return taken

    def release(self, holder: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """End the deployment's lock, and have the target remember the store's serial; returns what it remembers."""
        return self.state("release", **holder, **arguments)

    def project(self) -> dict[str, Any]:
        """Return the options by which modules are told the Compose project."""
        return {key: self.arguments[key] for key in ("project_dir", "compose_files", "env_file")}

    def catalog_info(self, credentials: list[str], **arguments: Any) -> dict[str, Any]:
        """Resolve credentials against the Compose project."""
        return self.module(
            "catalog_info",
            **self.project(),
            catalog=self.arguments["catalog"],
            services=self.arguments["services"],
            credentials=credentials,
            **arguments,
        )

    def values_found(self) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """Return the facts of the whole catalog, and what ``.env`` holds of each credential's variables today."""
        key = secrets.token_bytes(32)
        info = self.catalog_info([], seal_key=key.hex(), fingerprint_key=self.store.fingerprint_key.hex())
        return info, json.loads(unseal(key, info.pop("sealed")))

    # -- store

    @property
    def store_path(self) -> str:
        """The store's path on the controller, or on the target."""
        given = self.arguments["store"]
        unknown = sorted(set(given) - {"path", "location", "vault_id"})
        if unknown:
            raise SecretsError(f"secrets_store.{unknown[0]}: unknown key; known: path, location, vault_id")
        if given.get("location", "controller") not in ("controller", "target"):
            raise SecretsError(f"secrets_store.location: {given['location']!r} is neither controller nor target")
        if given.get("path"):
            return str(given["path"])
        if given.get("location") == "target":
            return os.path.join(self.arguments["project_dir"], STORE_NAME)
        if not self.task_vars.get("inventory_dir"):
            raise SecretsError("secrets_store.path: not set, and the inventory has no folder to put the store beside")
        return os.path.join(self.task_vars["inventory_dir"], STORE_NAME)

    @property
    def store(self) -> Store:
        """The store, opened with the vault secrets of the running play."""
        if self._store is None:
            vault = self.action._loader._vault
            secrets_of_play = vault.secrets if vault else []
            given = self.arguments["store"]
            remote: dict[str, Any] = {}
            if given.get("location") == "target":
                remote = {"reader": self._read_remote, "writer": self._write_remote}
            self._store = Store.open(self.store_path, secrets_of_play, vault_id=given.get("vault_id"), **remote)
        return self._store

    def known(self, name: str) -> str:
        """Return the name; raises where the catalog has none such."""
        if name not in self.arguments["catalog"]:
            raise SecretsError(f"{name}: not in secrets_catalog; there are {', '.join(self.arguments['catalog'])}")
        return name

    def stored(self, name: str) -> dict[str, Any]:
        """Return what the store holds of a credential; an empty dict where it was never provisioned."""
        return self.store.entry(name) if name in self.store.names() else {}

    def entry(self, name: str) -> dict[str, Any]:
        """Return what the store holds of a credential; raises where it was never provisioned."""
        entry = self.stored(self.known(name))
        if entry.get("current"):
            return entry
        raise SecretsError(
            f"{name}: not in the store {self.store_path}; provision it first: {report.command('provision')}"
        )

    def _read_remote(self) -> bytes | None:
        content = self.module("store_file", path=self.store_path, state="read").get("content")
        return content.encode() if content else None

    def _write_remote(self, data: bytes, expected_sha256: str | None) -> None:
        self.module(
            "store_file",
            path=self.store_path,
            state="present",
            content=data.decode(),
            expected_sha256=expected_sha256,
            state_dir=self.state_dir,
        )

    # -- .env

    @staticmethod
    def slot_values(facts: dict[str, Any], slot: dict[str, Any]) -> dict[str, str]:
        """Return what the credential's variables hold where a slot is published."""
        return {variable: slot[part] for part, variable in facts["variables"].items()}

    def env_values(self, facts: dict[str, Any], entry: dict[str, Any], slot: dict[str, Any]) -> dict[str, str]:
        """Return the variables of ``.env`` that hold a slot's values, and those of the server's first start."""
        return {**self.slot_values(facts, slot), **entry.get("init", {})}

    def published(self, facts: dict[str, Any], entry: dict[str, Any]) -> str | None:
        """Return the slot (``current``, ``pending``, ``dropped``) whose values ``.env`` holds; ``None`` where it is none.

        A variable that ``.env`` lacks contradicts nothing.
        """
        fingerprints = facts["env"]["fingerprints"]
        for label in ("current", "pending", "dropped"):
            slot = entry.get(label)
            if slot and all(
                fingerprints.get(variable) in (None, self.store.fingerprint(value))
                for variable, value in self.slot_values(facts, slot).items()
            ):
                return label
        return None

    def publish(self, path: str, values: dict[str, str], **arguments: Any) -> dict[str, Any]:
        """Write values to the project's env file in one atomic rename."""
        return self.module("env_file", path=path, values=values, state_dir=self.state_dir, **arguments)


class ProgressReader(threading.Thread):
    """Shows the lines that a working module appends to its progress file, over a second channel of the connection.

    Nothing depends on it: what it could not read in time is shown when the module has ended.
    """

    INTERVAL = 0.5

    def __init__(self, deployment: Deployment, path: str, step: str) -> None:
        super().__init__(daemon=True)
        self.deployment = deployment
        self.path = path
        self.step = step
        self.offset = 0
        self.ended = threading.Event()
        self.action = copy.copy(deployment.action)
        self.action._connection = copy.copy(deployment.action._connection)

    def run(self) -> None:
        while not self.ended.wait(self.INTERVAL):
            try:
                self.read()
            except Exception:  # a lost line of progress must never end a rotation
                return

    def read(self) -> None:
        """Show what has been appended since the last look."""
        command = f"tail -c +{self.offset + 1} {shlex.quote(self.path)} 2>/dev/null || true"
        text = self.action._low_level_execute_command(command)["stdout"]
        complete = text[: text.rfind("\n") + 1]
        self.offset += len(complete.encode())
        for row in complete.splitlines():
            self.deployment.line(self.step, json.loads(row)["text"])

    def __enter__(self) -> ProgressReader:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.join()
        try:
            self.read()
        except Exception:  # as above
            return
