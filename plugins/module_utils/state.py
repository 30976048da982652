# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a target remembers of its deployment: who works on it, how far a rotation is, and which store it has seen.

The folder (``.chat4all`` beside the Compose file, 0700) holds ``lock``, held by the kernel while a module works,
``state.json``, ``ledger.jsonl``, ``rollout.json``, and ``runs/<rotation id>/`` with masked
logs and progress lines. Nothing in it is a secret.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import (
    atomic_write,
    file_lock,
    heir,
    read_plain_file,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Head, Ledger

# What a module that works under the deployment's lock is told of it.
LOCK_ARGUMENTS: dict[str, dict[str, Any]] = {
    "state_dir": {"type": "path"},
    "holder": {
        "type": "dict",
        "options": {
            "rotation": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "store_id": {"type": "str"},
            "serial": {"type": "int"},
        },
    },
    "ledger": {"type": "list", "elements": "dict", "default": []},
}

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Seconds for which a lease outlives the last sign of life of a run.
LEASE = 120
LEASE_KEYS = {"rotation", "owner", "since", "expires", "boot_id", "boot_expires"}


def make_folder(path: str) -> None:
    """Make a folder (0700, as those above it that are missing), or check that it is ours alone."""
    above = os.path.dirname(os.path.abspath(path))
    if not os.path.lexists(above):
        make_folder(above)
    try:
        with contextlib.suppress(FileExistsError):
            kept = os.umask(0o077)
            try:
                os.mkdir(path, 0o700)
            finally:
                os.umask(kept)
            if os.geteuid() == 0:
                os.chown(path, *heir(above), follow_symlinks=False)
        found = os.lstat(path)
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SecretsError(f"{path}: is a link, which is not followed; move it away")
    if not stat.S_ISDIR(found.st_mode):
        raise SecretsError(f"{path}: is not a folder; move it away")
    if found.st_uid not in (os.geteuid(), heir(above)[0]):
        raise SecretsError(f"{path}: belongs to user id {found.st_uid}; move it away")
    if found.st_mode & 0o022:
        raise SecretsError(f"{path}: others may write there; chmod 0700 {path}")


@contextlib.contextmanager
def kernel_lock(
    state_dir: str | None,
    ledger: Sequence[dict[str, Any]] = (),
    holder: dict[str, Any] | None = None,
    wait: float = 5.0,
    renew: bool = True,
) -> Iterator[None]:
    """Hold the deployment's lock while a module works; the kernel ends it when the process does.

    Work is a sign of life: when it is done, the lease that was alive when it began is renewed, and the records for the
    ledger are appended. With ``holder`` (``rotation``, ``owner``; ``store_id``, ``serial``) a run that has lost the lease
    does not begin, nor does one with an older store than the target has seen.

    ``wait`` is how many seconds to wait for it. Without a folder there is nothing to lock.
    Raises :class:`SecretsError` that says who holds it.
    """
    if not state_dir:
        yield
        return
    above = os.path.dirname(os.path.abspath(state_dir))
    if not os.path.isdir(above):
        raise SecretsError(f"{above}: there is no such folder, so it cannot hold {os.path.basename(state_dir)}")
    make_folder(state_dir)
    file = StateFile(state_dir)
    with file_lock(os.path.join(state_dir, "lock"), _who(file.read().get("lease")), wait):
        store = (holder.get("store_id"), holder.get("serial")) if holder else (None, None)
        if holder:
            _check_holder(file.read(), holder["rotation"], holder["owner"])
            check_serial(file.read(), *store)
        alive = lease_alive(file.read().get("lease"))
        yield
        if (renew and alive) or ledger:
            state = file.read()
            if renew and alive:
                _extend(state["lease"])
            remember_serial(state, *store)
            file.record(state, ledger)
            file.write(state)


def module_lock(params: dict[str, Any], check_mode: bool) -> contextlib.AbstractContextManager[None]:
    """Return the lock that a module's options ask for; none in check mode, where nothing is changed."""
    if check_mode:
        return contextlib.nullcontext()
    return kernel_lock(params["state_dir"], params["ledger"], params["holder"])


def _who(lease: dict[str, Any] | None) -> str:
    """Return who works here, for the message to others."""
    module = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    run = f" for {lease['rotation']} of {person(lease['owner'])}" if lease_alive(lease) else ""
    return f"{module}{run} (process {os.getpid()}, since {utc_now()})"


def person(owner: str) -> str:
    """Return of an owner what people are shown: what follows ``#`` only tells processes of one name apart."""
    return owner.partition(" #")[0]


def utc_now(ahead: int = 0) -> str:
    """Return the time ``ahead`` seconds from now as the state writes it: ISO 8601, UTC, whole seconds."""
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ahead)
    return moment.replace(microsecond=0).isoformat()


def boot_id() -> str:
    """Return which boot of the machine this is."""
    try:
        with open(BOOT_ID, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def boot_seconds() -> float:
    """Return the seconds since the machine booted, sleep included: a clock that nobody sets."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class StateFile:
    """``state.json``: ``lease``, ``records`` by rotation, ``outcomes`` by credential, ``serials`` by store.

    And ``ledger``, the ledger's end.
    """

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self.path = os.path.join(state_dir, "state.json")

    def read(self) -> dict[str, Any]:
        """Return the state; empty where nothing was remembered yet."""
        content = read_plain_file(self.path)
        if content is None:
            return {}
        try:
            state = json.loads(content)
        except ValueError:
            state = None
        if not isinstance(state, dict) or (state.get("lease") and LEASE_KEYS - set(state["lease"])):
            raise SecretsError(f"{self.path}: is damaged; move it away (it holds no secret)")
        return state

    def update(
        self, mutator: Callable[[dict[str, Any]], None], ledger: Sequence[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        """Change the state under the lock, and append records to the ledger; returns the state."""
        with kernel_lock(self.state_dir, renew=False):
            state = self.read()
            mutator(state)
            self.record(state, ledger)
            self.write(state)
        return state

    def record(self, state: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        """Append to the ledger, and note its end; the caller holds the lock and writes the state."""
        for row in rows:
            record = state.get("records", {}).get(row.get("rotation"))
            if record is not None and row.get("step") != "open":
                record["step"] = row["step"]
        if rows:
            state["ledger"] = asdict(Ledger(self.state_dir).append(rows, ledger_end(state)))

    def write(self, state: dict[str, Any]) -> None:
        """Replace the state; the caller holds the lock."""
        atomic_write(self.path, json.dumps(state, indent=1).encode())


def ledger_end(state: dict[str, Any]) -> Head | None:
    """Return the ledger's end as the state remembers it."""
    known = state.get("ledger")
    return Head(**known) if known else None


def _extend(lease: dict[str, Any]) -> None:
    # ``expires`` is for people: the wall clock can be set back, and would keep a dead lease alive.
    lease.update(expires=utc_now(LEASE), boot_id=boot_id(), boot_expires=boot_seconds() + LEASE)


def lease_alive(lease: dict[str, Any] | None) -> bool:
    """Tell whether a lease still counts: same boot of the machine, and not run out by the clock that nobody sets.

    It never has more to run than it was given, whatever became of the clock where a machine was restored from a copy.
    """
    return bool(lease) and lease["boot_id"] == boot_id() and 0 < lease["boot_expires"] - boot_seconds() <= LEASE


def check_serial(state: dict[str, Any], store_id: str | None, serial: int | None) -> None:
    """Refuse a store that is older than the one that the target has seen."""
    seen = state.get("serials", {}).get(store_id, 0)
    if store_id and serial is not None and serial < seen:
        raise SecretsError(f"your store is serial {serial}, the target has seen {seen}: git pull")


def remember_serial(state: dict[str, Any], store_id: str | None, serial: int | None) -> None:
    """Remember the highest serial of the store in use."""
    check_serial(state, store_id, serial)
    if store_id and serial is not None:
        state.setdefault("serials", {})[store_id] = serial


def note(state: dict[str, Any], rotation: str, facts: dict[str, Any]) -> None:
    """Remember safe facts of a rotation. It takes the place of an earlier one of the same credential."""
    records = state.setdefault("records", {})
    # Moved to the end: the last one is the one in work.
    record = {**records.pop(rotation, {}), **facts}
    for other in [key for key, known in records.items() if known.get("credential") == record.get("credential")]:
        del records[other]
    records[rotation] = record


def take(
    state: dict[str, Any], rotation: str, owner: str, forced: str | None = None, dead: str | None = None
) -> str | None:
    """Take the lease for one run of a rotation; returns the rotation whose lease was taken over.

    A lease that is alive and another run's is refused, unless it is the one of the rotation ``forced``, or of the owner
    ``dead``, whom the caller has seen to be gone.
    """
    held = state.get("lease")
    other = held if held and (held["rotation"], held["owner"]) != (rotation, owner) else None
    if other and lease_alive(other) and other["rotation"] != forced and other["owner"] != dead:
        raise SecretsError(
            f"{person(other['owner'])} holds the lock ({other['rotation']}, since {other['since']}); wait until that run has "
            f"ended; if it is dead: -e take_lock={other['rotation']}"
        )
    state["lease"] = {"rotation": rotation, "owner": owner, "since": utc_now() if other or not held else held["since"]}
    _extend(state["lease"])
    return other["rotation"] if other else None


def keep(state: dict[str, Any], rotation: str, owner: str) -> None:
    """Renew the lease; refuses where another run has taken it meanwhile."""
    _check_holder(state, rotation, owner)
    take(state, rotation, owner)


def release(state: dict[str, Any], rotation: str, owner: str | None = None, forget: bool = True) -> None:
    """End the lease, and forget the rotation's record; refuses where another run has taken the lease meanwhile."""
    if state.get("lease"):
        _check_holder(state, rotation, owner or state["lease"]["owner"])
    state["lease"] = None
    if forget:
        state.get("records", {}).pop(rotation, None)


def _check_holder(state: dict[str, Any], rotation: str, owner: str) -> None:
    held = state.get("lease")
    if not held or (held["rotation"], held["owner"]) != (rotation, owner):
        taker = f"taken over by {person(held['owner'])}" if held else "released"
        raise SecretsError(f"the lock of {rotation} was {taker} meanwhile; run the same command again")
