# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write files so that a crash leaves the old content or the new one, and nobody else ever reads them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError


def check_plain_file(path: str, uid: int | None = None) -> os.stat_result | None:
    """Return what ``lstat`` says of ``path``, ``None`` where nothing is there.

    Raises :class:`SecretsError` for a link, a folder or anything else that is no plain file, and, with ``uid``, for a
    file that belongs to somebody else.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SecretsError(f"{path}: is a link, which is not followed; name the file itself")
    if stat.S_ISDIR(found.st_mode):
        raise SecretsError(f"{path}: is a folder, not a file; move it away")
    if not stat.S_ISREG(found.st_mode):
        raise SecretsError(f"{path}: is not a plain file; move it away")
    if uid is not None and found.st_uid != uid:
        raise SecretsError(f"{path}: belongs to user id {found.st_uid}, not {uid}; chown it, or name its owner")
    return found


def read_plain_file(path: str) -> bytes | None:
    """Return the content of a plain file, ``None`` where nothing is there; links are refused."""
    if check_plain_file(path) is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None


def heir(folder: str) -> tuple[int, int]:
    """Return the user and group ids to whom new things in ``folder`` belong.

    What root makes goes to the folder's owner, who would be locked out otherwise.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        found = os.stat(folder)
    except OSError as error:
        raise SecretsError(f"{folder}: {error.strerror}") from None
    return found.st_uid, found.st_gid


def atomic_write(path: str, data: bytes, mode: int = 0o600, uid: int | None = None, gid: int | None = None) -> None:
    """Replace ``path`` by ``data`` in one durable rename.

    The temporary file is made in the same folder, with ``mode`` and owner from its first byte; file and folder are
    synced. Without ``uid`` the owner of an existing file stays; it has to be the folder's owner where root writes, the
    user otherwise.
    Raises :class:`SecretsError` for a link, a folder, somebody else's file, or when the disk refuses; the old content
    is then untouched.
    """
    folder, name = os.path.split(path)
    folder = folder or "."
    user, group = heir(folder)
    found = check_plain_file(path, uid)
    if uid is None and found:
        if found.st_uid not in (user, os.geteuid()):
            check_plain_file(path, user)
        user, group = found.st_uid, found.st_gid if os.geteuid() == 0 else group
    user, group = user if uid is None else uid, group if gid is None else gid
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        _remove_leftovers(folder, name)
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as stream:
                if os.geteuid() == 0 or gid is not None or user != os.geteuid():
                    os.fchown(stream.fileno(), user, group)
                os.fchmod(stream.fileno(), mode)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise SecretsError(f"{path}: cannot be written: {error.strerror}; the old content is untouched") from None
    try:
        sync_folder(folder)
    except OSError as error:
        raise SecretsError(f"{path}: was written, but may not outlive a power cut: {error.strerror}") from None


def check_writable(path: str, size: int) -> None:
    """Refuse what would refuse to replace ``path`` by a file of that size, as far as that is seen without trying."""
    folder = os.path.dirname(path) or "."
    reason = ""
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = f"{folder} cannot be written to"
    elif os.path.realpath(path) in _mount_points():
        reason = "it is a mount of its own, and nothing can take its place"
    else:
        found = os.statvfs(folder)
        free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
        if free * found.f_frsize < size + found.f_frsize or (found.f_files and not found.f_ffree):
            reason = "no space is left on the device"
    if reason:
        raise SecretsError(f"{path}: cannot be written: {reason}; the old content is untouched")


def _mount_points() -> set[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            rows = [row.split()[4] for row in table]
    except OSError:
        return set()
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), row) for row in rows}


def _remove_leftovers(folder: str, name: str) -> None:
    """Remove what killed processes left half-written beside a file."""
    for entry in os.listdir(folder):
        match = re.fullmatch(re.escape(f".{name}.") + r"(\d+)\.tmp", entry)
        if match and (int(match.group(1)) == os.getpid() or not _runs(int(match.group(1)))):
            # What cannot go stands in nobody's way.
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, entry))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def file_lock(path: str, holder: str, wait: float = 5.0) -> Iterator[None]:
    """Hold the exclusive lock on ``path``, made where it is missing; the kernel ends it when the process does.

    ``holder`` is left in the file for the message to those who wait for ``wait`` seconds in vain.
    """
    check_plain_file(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SecretsError(f"{path}: {error.strerror}") from None
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, *heir(os.path.dirname(path) or "."))
        # Whatever the umask. It may be another one's who has it in the same folder.
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, 0o600)
        _lock(descriptor, path, time.monotonic() + wait)
        # A full disk must not keep anybody from working.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode("utf-8", "replace"), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: str, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = " ".join(os.pread(descriptor, 500, 0).decode("utf-8", "replace").split()) or "another process"
                raise SecretsError(f"{path}: {holder} is working there; run the same command later") from None
            time.sleep(0.1)
        except OSError as error:
            raise SecretsError(f"{path}: cannot be locked: {error.strerror}; is it on a local file system?") from None


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
