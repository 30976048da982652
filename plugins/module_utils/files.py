# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write files so that a crash leaves the old content or the new one, and nobody else ever reads them."""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError


def check_plain_file(path: str, uid: int | None = None) -> os.stat_result | None:
    """Return what ``lstat`` says of ``path``, ``None`` where nothing is there.

    Raises :class:`SecretsError` for a link, a folder or anything else that is no plain file, and, with ``uid``, for a file
    that belongs to somebody else.
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


def atomic_write(path: str, data: bytes, mode: int = 0o600, uid: int | None = None, gid: int | None = None) -> None:
    """Replace ``path`` by ``data`` in one durable rename.

    The temporary file is made in the same folder, with ``mode`` and owner from its first byte; file and folder are synced.
    Raises :class:`SecretsError` for a link, a folder, somebody else's file (with ``uid``), or when the disk refuses; the old
    content is then untouched.
    """
    check_plain_file(path, uid)
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        _remove_leftovers(folder, os.path.basename(path))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                if (uid is not None and uid != os.geteuid()) or gid is not None:
                    os.fchown(stream.fileno(), -1 if uid is None else uid, -1 if gid is None else gid)
                os.fchmod(stream.fileno(), mode)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
        sync_folder(folder)
    except OSError as error:
        raise SecretsError(f"{path}: cannot be written: {error.strerror}; the old content is untouched") from None


def _remove_leftovers(folder: str, name: str) -> None:
    """Remove what killed processes left half-written beside a file."""
    for entry in os.listdir(folder):
        match = re.fullmatch(re.escape(f".{name}.") + r"(\d+)\.tmp", entry)
        if match and (int(match.group(1)) == os.getpid() or not os.path.exists(f"/proc/{match.group(1)}")):
            os.unlink(os.path.join(folder, entry))


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
