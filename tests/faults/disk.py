# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small file system of its own, which can really be full or read-only. Needs root."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path


class Disk:
    """A file system in memory, mounted at a folder. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / ".ballast"

    def __enter__(self) -> Disk:
        self.path.mkdir(parents=True, exist_ok=True)
        self._mount("-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.path)], check=True)

    def fill(self) -> None:
        """Take all that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def heal(self) -> None:
        """Have it writable again, with room."""
        self._mount("-o", "remount,rw")
        self._ballast.unlink(missing_ok=True)

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.path)], check=True)
