# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of a playbook, and how to kill it: found by a mark in the environment, since Ansible's workers leave the
session of their controller and outlive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

HOOK = Path(__file__).resolve().parent / "hook"
MARK = "CHAT4ALL_CRASH"
# Seconds after which a run that neither ends nor comes to its point is given up.
RUN_TIMEOUT = 180
TREE, CONTROLLER = "tree", "controller"


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:
        return b""


def _parents() -> dict[int, int]:
    """Return the parent of every process."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _read(int(entry), "stat").rpartition(b")")[2].split()
            if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
                found[int(entry)] = int(fields[1])
    return found


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


class Run:
    """One run of a command in a folder of its own, from its start on.

    ``wanted`` is the label of the point at which it stops itself; ``plan`` is where its durable files are.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        cwd: Path,
        folder: Path,
        files: list[Path],
        wanted: str = "",
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._marker = f"{MARK}={folder}".encode()
        (folder / "plan.json").write_text(json.dumps({"wanted": wanted, "folders": [str(path) for path in files]}))
        (folder / "trace").touch()
        with (folder / "output").open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environment, MARK: str(folder), "PYTHONPATH": str(HOOK)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.began = time.monotonic()
        # Those that worked on after it was killed.
        self.survivors: set[int] = set()

    # -- what it does

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    @property
    def trace(self) -> list[dict[str, Any]]:
        """The points that it came to."""
        rows = (self.folder / "trace").read_text().splitlines()
        return [json.loads(row) for row in rows if row.endswith("}")]

    @property
    def reached(self) -> bool:
        """Tell whether it stands still at the wanted point."""
        path = self.folder / "reached"
        process = path.read_text() if path.exists() else ""
        return bool(process) and _read(int(process), "stat").rpartition(b")")[2].split()[:1] == [b"T"]

    def until(self, condition: Callable[[], bool], timeout: float = RUN_TIMEOUT) -> bool:
        """Wait until ``condition`` holds; false where the run ends before."""
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.monotonic() - self.began > timeout:
                self.kill(TREE)
                raise TimeoutError(f"a run did not end within {timeout:g} s: {self.folder}")
            time.sleep(0.01)
        return True

    def until_age(self, seconds: float) -> bool:
        """Wait until it has run for so long; false where it ends before."""
        return self.until(lambda: time.monotonic() - self.began >= seconds)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        self.until(lambda: False)
        return self.process.returncode

    # -- its processes

    def processes(self) -> set[int]:
        """Return the processes that carry its mark, and their descendants: the engine's client gets a clean
        environment."""
        parents = _parents()
        found = {one for one in parents if self._marker in _read(one, "environ").split(b"\0")}
        new = found
        while new:
            new = {one for one, parent in parents.items() if parent in found} - found
            found |= new
        return found - {os.getpid()}

    def kill(self, mode: str) -> None:
        """Kill it as it stands: all of it, or the controller and its workers alone, which lets modules work on."""
        doomed: set[int] = set()
        while True:
            # What is frozen starts nothing; what was started just before is found by the next look.
            new = {one for one in self.processes() if mode == TREE or self._is_controller(one)} - doomed
            if not new:
                break
            for process in new:
                _signal(process, signal.SIGSTOP)
            doomed |= new
        for process in doomed:
            _signal(process, signal.SIGKILL)
        self.process.wait(30)
        self.survivors = self.processes()
        for process in self.survivors:
            _signal(process, signal.SIGCONT)

    @staticmethod
    def _is_controller(process: int) -> bool:
        # A module's Python reads its program from its standard input.
        return b"ansible-playbook" in _read(process, "cmdline")

    def modules_at_work(self) -> bool:
        """Tell whether something of it works on although its controller is gone."""
        return bool(self.processes())
