# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at every process of the machine, and at short-lived files, every few milliseconds: ``sampler.py RESULT FOLDER...``.

A program of its own, so that nothing else takes its time. It ends with SIGTERM and leaves in RESULT, pickled: the
arguments of every process; the environment of every process, entry by entry with the process, less what the containers
that they run in were given;
the content that files in the folders had at some time; the number of looks.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
from pathlib import Path

PAUSE = 0.003  # seconds between two looks
# A process that kept its arguments for so many looks is looked at rarely from then on.
SETTLED = 30
RARELY = 100
LARGEST = 5_000_000  # bytes of a file


class Sampler:
    def __init__(self, folders: list[str]) -> None:
        self.folders = folders
        self.looks = 0
        self.arguments: set[bytes] = set()
        self.files: dict[tuple[str, int, int], bytes] = {}
        self._outside = os.stat("/proc/self/ns/pid").st_ino
        self._processes: dict[str, tuple[bytes, int]] = {}  # what it was started as, and for how many looks it is that
        # By namespace of processes, of which a container has one of its own: each entry, and a process that had it.
        self._environments: dict[int, dict[bytes, bytes]] = {}
        self._given: dict[int, set[bytes]] = {}

    def look(self) -> None:
        self.looks += 1
        running = [name for name in os.listdir("/proc") if name.isdigit()]
        for name in running:
            known, looks = self._processes.get(name, (b"", 0))
            if looks < SETTLED or (self.looks + int(name)) % RARELY == 0:
                with contextlib.suppress(OSError):
                    self._look_at(name, known, looks)
        if self.looks % RARELY == 0:
            alive = set(running)
            self._processes = {name: known for name, known in self._processes.items() if name in alive}
        for folder in self.folders:
            self._look_into(folder)

    def _look_at(self, name: str, known: bytes, looks: int) -> None:
        # Both: a process that was forked and becomes another program keeps its number.
        started = _read(f"/proc/{name}/cmdline")
        environment = _read(f"/proc/{name}/environ")
        now = started + b"\0" + environment
        if now == known:
            # A container's first process waits as the engine's helper, and becomes the program without a new number.
            waits = started.split(b"\0")[1:2] == [b"init"]
            self._processes[name] = (known, 0 if waits else looks + 1)
            return
        self._processes[name] = (now, 0)
        self.arguments.add(started.replace(b"\0", b" "))
        entries = environment.split(b"\0")
        namespace, number = os.stat(f"/proc/{name}/ns/pid").st_ino, _number_inside(name)
        self._environments.setdefault(namespace, {}).update(dict.fromkeys(entries, started))
        if namespace != self._outside and number == b"1":
            self._given.setdefault(namespace, set()).update(entries)

    def _look_into(self, folder: str) -> None:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self._look_into(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    key = (entry.path, found.st_size, found.st_mtime_ns)
                    if key not in self.files and found.st_size <= LARGEST:
                        self.files[key] = _read(entry.path)

    def result(self) -> dict[str, object]:
        environments = {
            (started.replace(b"\0", b" ").decode(errors="replace"), entry)
            for namespace, entries in self._environments.items()
            for entry, started in entries.items()
            if entry not in self._given.get(namespace, set())
        }
        return {
            "looks": self.looks,
            "arguments": b"\n".join(sorted(self.arguments)),
            "environments": sorted(environments),
            "files": [(path, data) for (path, _size, _time), data in self.files.items()],
        }


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        return stream.readall() or b""


def _number_inside(name: str) -> bytes:
    """Return the number that a process has in its own container."""
    for line in _read(f"/proc/{name}/status").splitlines():
        if line.startswith(b"NSpid:"):
            return line.split()[-1]
    return b""


def main() -> int:
    result, *folders = sys.argv[1:]
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    sampler = Sampler(folders)
    Path(result).unlink(missing_ok=True)
    print("looking", flush=True)
    while not ended:
        sampler.look()
        time.sleep(PAUSE)
    Path(result).write_bytes(pickle.dumps(sampler.result()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
