# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a target remembers of its deployment: who works on it, how far a rotation is, and which store it has seen.

The folder (``.chat4all`` beside the Compose file, 0700) holds ``lock``, held by the kernel while a module works, ``state.json``,
and ``runs/<rotation id>/`` with masked logs. Nothing in it is a secret.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.files import atomic_write, read_plain_file

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Seconds for which a lease outlives the last sign of life of a run.
LEASE = 120


def make_folder(path: str) -> None:
    """Make the state folder (0700), or check that it is ours alone."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise SecretsError(f"{path}: is not a folder; move it away")
    if found.st_uid not in (os.geteuid(), os.stat(os.path.dirname(path)).st_uid):
        raise SecretsError(f"{path}: belongs to user id {found.st_uid}; move it away")
    if found.st_mode & 0o022:
        raise SecretsError(f"{path}: others may write there; chmod 0700 {path}")


@contextlib.contextmanager
def kernel_lock(state_dir: str | None, wait: float = 5.0, renew: bool = True) -> Iterator[None]:
    """Hold the deployment's lock while a module works; the kernel ends it when the process does.

    Work is a sign of life: when it is done, the lease of the rotation that it belongs to is renewed.

    ``wait`` is how many seconds to wait for it. Without a folder there is nothing to lock.
    Raises :class:`SecretsError` that says who holds it.
    """
    if not state_dir:
        yield
        return
    make_folder(state_dir)
    path = os.path.join(state_dir, "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "r+") as stream:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    holder = stream.read().strip() or "another process"
                    raise SecretsError(f"{state_dir}: {holder} is working there; run the same command later") from None
                time.sleep(0.1)
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()}, since {utc_now()},")
        stream.flush()
        yield
        if renew:
            _renew_lease(state_dir)


def utc_now() -> str:
    """Return the time as the state writes it: ISO 8601, UTC, whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()


def boot_id() -> str:
    """Return which boot of the machine this is."""
    try:
        with open(BOOT_ID, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def boot_seconds() -> float:
    """Return the seconds since the machine booted: a clock that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StateFile:
    """``state.json``: ``store`` (id, serial), ``lease`` and ``record``."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self.path = os.path.join(state_dir, "state.json")

    def read(self) -> dict[str, Any]:
        """Return the state; empty where nothing was remembered yet."""
        content = read_plain_file(self.path)
        if content is None:
            return {}
        try:
            return dict(json.loads(content))
        except ValueError:
            raise SecretsError(f"{self.path}: is damaged; move it away (it holds no secret)") from None

    def update(self, mutator: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Change the state under the lock; returns it."""
        with kernel_lock(self.state_dir, renew=False):
            state = self.read()
            mutator(state)
            self.write(state)
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Replace the state; the caller holds the lock."""
        atomic_write(self.path, json.dumps(state, indent=1, sort_keys=True).encode())


def _renew_lease(state_dir: str) -> None:
    file = StateFile(state_dir)
    state = file.read()
    if state.get("lease"):
        state["lease"]["boot_expires"] = boot_seconds() + LEASE
        file.write(state)


def lease_alive(lease: dict[str, Any] | None) -> bool:
    """Tell whether a lease still counts: same boot of the machine, and not run out by the clock that nobody sets."""
    return bool(lease) and lease["boot_id"] == boot_id() and boot_seconds() < lease["boot_expires"]


def check_serial(state: dict[str, Any], store_id: str | None, serial: int | None) -> None:
    """Refuse a store that is older than the one that the target has seen."""
    seen = state.get("store") or {}
    if store_id and serial is not None and seen.get("id") == store_id and serial < seen["serial"]:
        raise SecretsError(f"your store is serial {serial}, the target has seen {seen['serial']}: git pull")


def remember_serial(state: dict[str, Any], store_id: str | None, serial: int | None) -> None:
    """Remember the highest serial of the store in use."""
    check_serial(state, store_id, serial)
    if store_id and serial is not None:
        state["store"] = {"id": store_id, "serial": serial}


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
            f"{other['owner']} holds the lock ({other['rotation']}, since {other['since']}); wait until that run has ended; "
            f"if it is dead: -e take_lock={other['rotation']}"
        )
    state["lease"] = {
        "rotation": rotation,
        "owner": owner,
        "since": utc_now() if other or not held else held["since"],
        "boot_id": boot_id(),
        "boot_expires": boot_seconds() + LEASE,
    }
    return other["rotation"] if other else None


def keep(state: dict[str, Any], rotation: str, owner: str) -> None:
    """Renew the lease; refuses where another run has taken it meanwhile."""
    held = state.get("lease")
    if not held or (held["rotation"], held["owner"]) != (rotation, owner):
        taker = f"taken over by {held['owner']}" if held else "released"
        raise SecretsError(f"the lock of {rotation} was {taker} meanwhile; run the same command again")
    take(state, rotation, owner)
