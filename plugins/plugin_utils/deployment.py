# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every step on a deployment needs: its arguments, its store, its modules, its lines of output."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import os
import secrets
import shlex
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import is_uri
from ansible_collections.chat4all.secrets.plugins.module_utils.engines import INIT_PREFIX
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write
from ansible_collections.chat4all.secrets.plugins.module_utils.sealed import unseal
from ansible_collections.chat4all.secrets.plugins.module_utils.state import LEASE, boot_id, person
from ansible_collections.chat4all.secrets.plugins.module_utils.uris import login_part, parse
from ansible_collections.chat4all.secrets.plugins.plugin_utils import jwt_keys, report
from ansible_collections.chat4all.secrets.plugins.plugin_utils.hosts import Host, everywhere, members, on_host
from ansible_collections.chat4all.secrets.plugins.plugin_utils.placing import (
    Place,
    consumers_of,
    homes,
    needless,
    placed,
    places,
)
from ansible_collections.chat4all.secrets.plugins.plugin_utils.store import (
    LocalFile,
    Reader,
    Store,
    Writer,
    checksum,
)

STORE_NAME = ".secrets-store.yml"

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
    """One deployment as an action plugin sees it, on one host or on several.

    ``arguments`` are the action's own, checked against ``ARGUMENTS``.
    """

    def __init__(self, action: ActionBase, arguments: dict[str, Any], task_vars: dict[str, Any]) -> None:
        self.action = action
        self.arguments = arguments
        self.task_vars = task_vars
        self.host = str(task_vars.get("inventory_hostname", "localhost"))
        self.first = Host(self.host, action, task_vars, arguments)
        self.check_mode = bool(action._task.check_mode)
        self.state_dir = self.first.state_dir
        self._hosts: list[Host] = []
        self._store: Store | None = None

    # -- hosts

    @property
    def hosts(self) -> list[Host]:
        """All hosts in the inventory's order; the first one is where this action runs."""
        if not self._hosts:
            others = [name for name in members(self.action, self.task_vars) if name != self.host]
            self.first.spread = bool(others)
            self._hosts = [
                self.first,
                *(on_host(self.action, name, self.task_vars, self.arguments) for name in others),
            ]
        return self._hosts

    @property
    def is_spread(self) -> bool:
        """Whether there are several hosts."""
        return len(self.hosts) > 1

    def named(self, name: str) -> Host:
        """Return the host of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise SecretsError(f"{name}: no host of this play; there are {', '.join(host.name for host in self.hosts)}")

    def home(self, facts: dict[str, Any]) -> Host:
        """Return the host where a credential's server is."""
        return self.named(facts["host"])

    def places(self, facts: dict[str, Any]) -> list[tuple[Host, Place]]:
        """Return where a credential is published and rolled out: the server's host, and those of its consumers."""
        return [(self.named(place["host"]), place) for place in places(facts)]

    # -- output

    def line(self, step: str, text: str, host: str = "") -> None:
        """Show one line of the run."""
        Display().display(report.line(host or self.host, step, text))

    def show(self, lines: list[str], color: str | None = None) -> None:
        """Show a block of lines."""
        for text in lines:
            Display().display(text, color=color)

    # -- modules

    def require_discretion(self) -> None:
        """Refuse to work where Ansible would show a module's arguments: on a target's disk, or in its own output."""
        for host in self.hosts:
            host.require_discretion()

    def would(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return what a module would do on the first host: it refuses what it would refuse."""
        return self.first.would(name, **arguments)

    def module(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a module on the first host and return its result; its failure is raised as one line."""
        return self.first.module(name, **arguments)

    def state(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Read or change what the targets remember of this deployment; returns what the first one does, and what only
        another one still does."""
        return _together(self.hosts, self._states(self.hosts, action, **arguments))

    @staticmethod
    def _states(hosts: list[Host], action: str, **arguments: Any) -> list[dict[str, Any]]:
        def ask(host: Host) -> dict[str, Any]:
            return host.module("deployment_state", path=host.state_dir, action=action, **arguments)

        return everywhere(hosts, ask)

    def memory(self) -> dict[str, Any]:
        """Return what the targets remember; raises where the store is older than the one that they have seen."""
        return self.state("read", store_id=self.store.id, serial=self.store.serial)

    def holder(self, rotation: str) -> dict[str, Any]:
        """Return as whom this run works on the deployment: for which rotation, and with which store."""
        return {"rotation": rotation, "owner": owner(), "store_id": self.store.id, "serial": self.store.serial}

    def take(self, holder: dict[str, Any], forget: bool = True, **arguments: Any) -> dict[str, Any]:
        """Take the deployment's lock and return what the targets remember.

        Whoever has the first host's is not disturbed on the others: where one of these is refused, all that were taken
        are let go. A lock whose owner is known to be gone is taken over.
        """
        taken = [self._take(self.first, holder, arguments)]
        if self.is_spread:
            try:
                taken += everywhere(self.hosts[1:], lambda host: self._take(host, holder, arguments))
            except (SecretsError, AnsibleConnectionFailure):
                self.let_go(holder, forget)
                raise
        for dead in dict.fromkeys(one["took_over"] for one in taken if one["took_over"]):
            self.line("open", f"the lock of {dead} was dead: taken over")
        return _together(self.hosts, taken)

    @staticmethod
    def _take(host: Host, holder: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        given = {"path": host.state_dir, **arguments}
        try:
            return host.module("deployment_state", action="take", **holder, **given)
        except SecretsError:
            memory = host.module("deployment_state", action="read", path=host.state_dir)
            other = (memory["lock"] or {}).get("owner", "")
            if not is_gone(other):
                raise
            return host.module("deployment_state", action="take", **holder, **given, dead_owner=other)

    def release(self, holder: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """End the deployment's lock, and have the targets remember the store's serial; returns what they remember."""
        return self.state("release", **holder, **arguments)

    def let_go(self, holder: dict[str, Any], forget: bool) -> None:
        """End the lock wherever this run has it and that can be done."""

        def end(host: Host) -> None:
            with contextlib.suppress(SecretsError, AnsibleConnectionFailure):
                self._states([host], "release", **holder, forget=forget)

        everywhere(self.hosts, end)

    @contextlib.contextmanager
    def kept(self, holder: dict[str, Any]) -> Iterator[None]:
        """Renew the lease on every host while something takes long on one of them."""
        if not self.is_spread:
            yield
            return
        ended = threading.Event()

        def keep(host: Host) -> None:
            while not ended.wait(LEASE / 4):
                # Where a module is at work, it renews the lease itself; who has lost it is told by the next step.
                with contextlib.suppress(Exception):
                    self._states([host], "keep", **holder)

        # A thread of its own for each: one that is cut off must not hold up the others.
        threads = [threading.Thread(target=keep, args=(host.beside(),), daemon=True) for host in self.hosts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def project(self) -> dict[str, Any]:
        """Return the options by which modules are told the first host's Compose project."""
        return self.first.project()

    def catalog_info(
        self, credentials: list[str], skip_services: Sequence[str] = (), **arguments: Any
    ) -> dict[str, Any]:
        """Resolve credentials against the Compose projects of all hosts."""
        if not self.is_spread:
            info = self.first.module(
                "catalog_info",
                **self.project(),
                catalog=self.arguments["catalog"],
                services=self.arguments["services"],
                credentials=credentials,
                skip_services=list(skip_services),
                **arguments,
            )
            return placed([(self.host, info)])

        def ask(host: Host, **more: Any) -> dict[str, Any]:
            given = {**host.project(), "catalog": self.arguments["catalog"], "credentials": credentials, **more}
            return host.module("catalog_info", **given)

        names = [host.name for host in self.hosts]
        surveys = dict(zip(names, everywhere(self.hosts, lambda host: ask(host, survey=True)), strict=True))
        self._check_services({name: seen["services"] for name, seen in surveys.items()})
        found = homes(self.arguments["catalog"], surveys, credentials)

        def resolve(host: Host) -> dict[str, Any]:
            elsewhere = {
                name: {} if home == host.name else {**seen, "host": home} for name, (home, seen) in found.items()
            }
            here = [one.rpartition("/")[2] for one in skip_services if one.rpartition("/")[0] in ("", host.name)]
            return ask(host, elsewhere=elsewhere, services=host.arguments["services"], skip_services=here, **arguments)

        infos = everywhere(self.hosts, resolve)
        info = placed(
            list(zip(names, infos, strict=True)),
            {name: home for name, (home, _seen) in found.items() if name in (credentials or found)},
        )
        consumers = {one for facts in info["credentials"].values() for one in consumers_of(facts)}
        for one in skip_services:
            if not consumers & {one, *(f"{name}/{one}" for name in names)}:
                raise SecretsError(f"skip_service={one}: not a consumer; there are {', '.join(sorted(consumers))}")
        return info

    def _check_services(self, services: dict[str, list[str]]) -> None:
        """Refuse an exception for a service that no host has."""
        known = set().union(*services.values())
        for host in self.hosts:
            given = host.arguments["services"]
            for name in given if isinstance(given, dict) else ():
                if name not in known:
                    raise SecretsError(
                        f"secrets_services.{name}: no such service on {' or '.join(services)}; "
                        f"there are {', '.join(sorted(known))}"
                    )

    def values_found(self) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """Return the facts of the whole catalog, and what ``.env`` holds of each credential's variables today."""
        key = secrets.token_bytes(32)
        info = self.catalog_info([], seal_key=key.hex(), fingerprint_key=self.store.fingerprint_key.hex())
        sealed = info.pop("sealed")
        opened = {host: json.loads(unseal(key, text)) for host, text in sealed.items()}
        found = {name: self._agreed(facts, opened) for name, facts in info["credentials"].items()}
        return info, found

    def _agreed(self, facts: dict[str, Any], opened: dict[str, dict[str, dict[str, str]]]) -> dict[str, str]:
        """Return what all hosts' ``.env`` hold of a credential: first of all, what is not the store's.

        Of what the store does not know yet they have to agree; of a URI that is the login, since each host may reach the
        server by a name of its own.
        """
        name, found, origin = facts["name"], dict[str, str](), dict[str, str]()
        uris = {variable for part, variable in facts["variables"].items() if is_uri(part)}

        def value_of(variable: str, text: str) -> str:
            return parse(text, f".env: {variable}").login if variable in uris else text

        entry = self.stored(name)
        for place in sorted(places(facts), key=lambda place: bool(self.published(facts, entry, place))):
            for variable, value in opened[place["host"]][name].items():
                known = value_of(variable, found.setdefault(variable, value))
                if known != value_of(variable, value) and not entry:
                    raise SecretsError(
                        f"{name}: .env holds another {variable} on {place['host']} than on {origin[variable]}, and "
                        "nobody knows which is right; make them the same"
                    )
                origin.setdefault(variable, place["host"])
        return found

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
            self._store = self._open_store()
        return self._store

    def _open_store(self, **given: Any) -> Store:
        vault = self.action._loader._vault
        secrets_of_play = vault.secrets if vault else []
        vault_id = self.arguments["store"].get("vault_id")
        reader, writer = self._store_file(self.store_path)
        return Store.open(
            self.store_path, secrets_of_play, vault_id=vault_id, **{"reader": reader, "writer": writer, **given}
        )

    def is_locked_out(self) -> bool:
        """Tell whether there is a store that the vault password of this play does not open."""
        try:
            return not self.store.id
        except SecretsError as error:
            if error.details.get("locked"):
                return True
            raise

    def new_store(self) -> str:
        """Begin a store in the place of one that nobody can open; returns where that one is kept aside at the first write."""
        folder, name = os.path.split(self.store_path)
        aside = os.path.join(folder, f".{name.lstrip('.')}.{now():%Y%m%dT%H%M%SZ}")
        reader, writer = self._store_file(self.store_path)
        old = reader() or b""

        def write(data: bytes, expected_sha256: str | None) -> None:
            if expected_sha256 is None and self.arguments["store"].get("location") == "target":
                self._store_file(aside)[1](old, None)
            elif expected_sha256 is None:
                atomic_write(aside, old)
            writer(data, expected_sha256 or checksum(old))

        self._store = self._open_store(reader=lambda: None, writer=write)
        return aside

    def _store_file(self, path: str) -> tuple[Reader, Writer]:
        """Return how a file is read and written where the store is."""
        if self.arguments["store"].get("location") != "target":
            local = LocalFile(path)
            return local.read, local.write

        def read() -> bytes | None:
            content = self.module("store_file", path=path, state="read").get("content")
            if not content and self.is_spread:
                others = self.hosts[1:]
                found = everywhere(others, lambda host: host.module("store_file", path=path, state="read"))
                for host, one in zip(others, found, strict=True):
                    if one.get("content"):
                        raise SecretsError(
                            f"{path}: is not on {self.host}, but on {host.name}; the host that has the store comes first in "
                            "the inventory"
                        )
            return content.encode() if content else None

        def write(data: bytes, expected_sha256: str | None) -> None:
            self.module(
                "store_file",
                path=path,
                state="present",
                content=data.decode(),
                expected_sha256=expected_sha256,
                state_dir=self.state_dir,
            )

        return read, write

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

    # -- .env

    @staticmethod
    def to_publish(facts: dict[str, Any], entry: dict[str, Any], label: str) -> dict[str, Any]:
        """Return what is published under a label of ``published``: a slot, or the signing keys together."""
        return dict(jwt_keys.state(entry, label)) if jwt_keys.has_keys(facts) else entry[label]

    @staticmethod
    def slot_values(facts: dict[str, Any], slot: dict[str, Any]) -> dict[str, str]:
        """Return what the credential's variables hold where a slot is published; of a URI that is its login."""
        return {
            variable: login_part(slot["user"], slot["password"]) if is_uri(part) else slot[part]
            for part, variable in facts["variables"].items()
        }

    @staticmethod
    def uris(facts: dict[str, Any], entry: dict[str, Any], slot: dict[str, Any], place: Place) -> dict[str, Any]:
        """Return the variables that hold a URI, each with the URI as it was last seen and how the login was typed."""
        names = [variable for part, variable in facts["variables"].items() if is_uri(part)]
        names = [variable for variable in names if variable not in needless(place)]
        known = {"template": entry.get("uris", {}), "spelling": slot.get("spelling", {})}
        return {variable: {key: found.get(variable) for key, found in known.items()} for variable in names}

    def env_values(
        self, facts: dict[str, Any], entry: dict[str, Any], slot: dict[str, Any], place: Place | None = None
    ) -> dict[str, str]:
        """Return the variables of ``.env`` that hold a slot's values, and those of the server's first start.

        Of signing keys ``slot`` is all of them, see ``to_publish``.
        What no service uses is kept in step where it is there, and not put there.
        """
        if place and jwt_keys.has_keys(facts):
            return jwt_keys.values_at(place, slot)
        away = place is not None and place["host"] != facts["host"]
        left_out = needless(place) if place else set()
        before = self._value_before(facts, entry, slot)
        values = {**self.slot_values(facts, slot), **before, **({} if away else entry.get("init", {}))}
        return {variable: value for variable, value in values.items() if variable not in left_out}

    @staticmethod
    def _value_before(facts: dict[str, Any], entry: dict[str, Any], slot: dict[str, Any]) -> dict[str, str]:
        """Return the variable with the value that services accept beside a slot's; empty when it has ended."""
        variable = facts.get("previous_variable")
        if not variable:
            return {}
        if slot["password"] != entry["current"]["password"]:
            return {variable: entry["current"]["password"]}
        previous = entry.get("previous") or {}
        return {variable: "" if {"ending", "revoked"} & set(previous) else previous.get("password", "")}

    def first_start(self, facts: dict[str, Any], slot: dict[str, Any]) -> dict[str, str]:
        """Return what keeps the server as it is where other values than this slot's are published."""
        values = self.slot_values(facts, slot)
        names = [
            name for part, name in facts["variables"].items() if name in facts["server_variables"] and not is_uri(part)
        ]
        return {INIT_PREFIX + name: values[name] for name in names}

    def pin(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return what the module compose_pin is told, on the server's host, to have it read values of its own."""
        home = self.home(facts)
        return {
            **home.project(),
            "service": facts["service"],
            "variables": {variable: INIT_PREFIX + variable for variable in facts["server_variables"]},
            "state_dir": home.state_dir,
        }

    def published(self, facts: dict[str, Any], entry: dict[str, Any], place: Place | None = None) -> str | None:
        """Return the slot (``current``, ``pending``, ``dropped``) whose values ``.env`` holds; ``None`` where it is none.

        A variable that ``.env`` lacks contradicts nothing. On several hosts it is the first one's, or that of ``place``,
        and ``None`` where any host's holds others.
        """
        wanted = [place] if place else places(facts)
        found = [self._published(facts, entry, one) for one in wanted]
        return found[0] if all(found) else None

    def _published(self, facts: dict[str, Any], entry: dict[str, Any], place: Place) -> str | None:
        fingerprints = place["env"]["fingerprints"]
        for label, values in self._states_of(facts, entry, place):
            if all(fingerprints.get(name) in (None, self.store.fingerprint(value)) for name, value in values.items()):
                return label
        return None

    def _states_of(
        self, facts: dict[str, Any], entry: dict[str, Any], place: Place
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Return all that a host's ``.env`` may hold of a credential, and what that is called."""
        if jwt_keys.has_keys(facts):
            states = [(label, jwt_keys.state(entry, label)) for label in jwt_keys.STATES]
            yield from ((label, jwt_keys.complete(place, slots)) for label, slots in states if slots)
            return
        for label in ("current", "pending", "dropped"):
            if entry.get(label):
                yield label, self.slot_values(facts, entry[label])

    def publish(self, writes: list[tuple[Host, dict[str, Any]]], **arguments: Any) -> list[dict[str, Any]]:
        """Write values to the projects' env files, each in one atomic rename; returns what was done on each host.

        ``writes``: for each host the arguments of the module env_file. On several hosts nothing is written before each
        of them has said that it would.
        """
        given = {host.name: {**own, **arguments, "state_dir": host.state_dir} for host, own in writes}
        hosts = [host for host, _own in writes]
        if len(hosts) > 1:
            everywhere(hosts, lambda host: host.would("env_file", **given[host.name]))
        return everywhere(hosts, lambda host: host.module("env_file", **given[host.name]))


def _further(record: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return of two hosts' records of one rotation the one that is further: a step is noted where it was done."""
    if not record or not other:
        return record or other
    steps = ["open", "create", "set", "test", "publish", "roll_out", "drain", "finish", "revoke", "back"]
    at, there = (steps.index(one["step"]) if one.get("step") in steps else -1 for one in (record, other))
    return {**record, **other} if there > at else {**other, **record}


def _together(hosts: list[Host], memories: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the first host remembers, and what only another one still does: it was cut off, or they were."""
    first = dict(memories[0])
    # Each host has a clock of its own, and a log is searched by that of the host where it is.
    first["clocks"] = {host.name: one["clock"] for host, one in zip(hosts, memories, strict=True)}
    for host, other in zip(hosts[1:], memories[1:], strict=True):
        first["lock"] = first["lock"] or other["lock"]
        first["record"] = _further(first["record"], other["record"])
        others = {record.get("rotation"): record for record in other["records"]}
        first["records"] = [_further(one, others.pop(one.get("rotation"), {})) for one in first["records"]]
        first["records"] = [*others.values(), *first["records"]]
        first["outcomes"] = {**other["outcomes"], **first["outcomes"]}
        first["highest_serial"] = max(first["highest_serial"], other["highest_serial"])
        first["took_over"] = first["took_over"] or other["took_over"]
        if other["ledger"]["problem"] and not first["ledger"]["problem"]:
            problem = f"{other['ledger']['problem']} (on {host.name})"
            first["ledger"] = {"entries": first["ledger"]["entries"], "problem": problem}
    return first


class ProgressReader(threading.Thread):
    """Shows the lines that a working module appends to its progress file, over a second channel of the connection.

    Nothing depends on it: what it could not read in time is shown when the module has ended.
    """

    INTERVAL = 0.5

    def __init__(self, deployment: Deployment, path: str, step: str, host: Host | None = None) -> None:
        super().__init__(daemon=True)
        self.deployment = deployment
        self.host = host or deployment.first
        self.path = path
        self.step = step
        self.offset = 0
        self.ended = threading.Event()
        self.action = self.host.beside().action

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
            self.deployment.line(self.step, json.loads(row)["text"], self.host.name)

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
