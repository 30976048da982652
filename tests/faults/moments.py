# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a playbook and act at a moment of it: when it comes to a step, before the step begins. No sleeping, no guessing."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from plays import Plays
from stack import Stack

PLUGINS = Path(__file__).resolve().parent / "callback_plugins"
# A rotation here proves what it does after a fault, not how patient it is.
QUICK = {"rotate_rollout": {"quiet": 0.2, "settle": 0.2}, "rotate_drain": {"quiet": 0.5}}
# What a test does at a step; it is given the process id of ansible-playbook.
Act = Callable[[int], object]


def provisioned(folder: Path, stack: Stack, **variables: object) -> Plays:
    """Return the playbooks for a stack, provisioned."""
    plays = Plays(folder, stack.directory, **QUICK, **variables)
    done = plays.run("provision.yml")
    assert done.returncode == 0, done.stdout
    return plays


@dataclass
class Run:
    """What a run printed, how it ended, and the steps that it came to."""

    returncode: int
    stdout: str
    steps: list[str] = field(default_factory=list)

    @property
    def block(self) -> str:
        """The block ``STOPPED``, in one line; empty where there is none."""
        rows = self.stdout.splitlines()
        starts = [number for number, row in enumerate(rows) if row.startswith("STOPPED ")]
        if not starts:
            return ""
        block = [rows[starts[-1]]]
        for row in rows[starts[-1] + 1 :]:
            if not row.startswith("  "):
                break
            block.append(row)
        return " ".join(" ".join(block).split())

    def stopped(self, *words: str) -> None:
        """Assert that it failed with one clear block, which holds the words; case and wrapping do not count."""
        assert self.returncode != 0, self.stdout
        assert "Traceback" not in self.stdout, self.stdout
        assert self.stdout.count("\nSTOPPED ") == 1, self.stdout
        missing = [word for word in (*words, "Services", "Rerun") if word.lower() not in self.block.lower()]
        assert not missing, f"{missing} not in the block:\n{self.stdout}"

    def refused(self, *words: str) -> None:
        """Assert that it failed before it touched anything, with one line that holds the words."""
        assert self.returncode != 0, self.stdout
        assert "Traceback" not in self.stdout, self.stdout
        assert "create" not in self.steps, self.stdout
        assert all(word in self.flat for word in words), f"{words}:\n{self.stdout}"

    def rotated(self) -> None:
        """Assert that it went through."""
        assert self.returncode == 0, self.stdout
        assert "ROTATED  postgres" in self.stdout, self.stdout

    @property
    def flat(self) -> str:
        """Everything that was printed, in one line: blocks are wrapped."""
        return " ".join(self.stdout.split())


class _Listener(threading.Thread):
    """Answers the callback plugin: does what the test wants done at a step, and lets the run go on."""

    def __init__(self, path: str, at: Mapping[str, Act]) -> None:
        super().__init__(daemon=True, name="moments")
        self.at, self.steps, self.errors = dict(at), [], []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen()

    def run(self) -> None:
        while True:
            try:
                channel, _address = self.server.accept()
            except OSError:
                return
            with channel:
                process, step = channel.makefile().readline().split()
                self.steps.append(step)
                act = self.at.pop(step, None)
                try:
                    if act:
                        act(int(process))
                except BaseException as error:  # it is the test's, and raised there
                    self.errors.append(error)
                with suppress(OSError):
                    channel.sendall(b"\n")

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.join()


def run(
    plays: Plays, playbook: str = "rotate-db.yml", *arguments: str, at: Mapping[str, Act] | None = None, **more: str
) -> Run:
    """Run a playbook to its end; ``at`` is what to do at which step. ``more`` is its environment."""
    at = at or {}
    with tempfile.TemporaryDirectory(prefix="moments-") as folder:
        path = f"{folder}/socket"
        listener = _Listener(path, at)
        listener.start()
        try:
            environment = {"CHAT4ALL_MOMENTS": path, "ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS), **more}
            done: subprocess.CompletedProcess[str] = plays.run(playbook, *arguments, **environment)
        finally:
            listener.close()
    for error in listener.errors:
        raise error
    missed = set(at) - set(listener.steps)
    assert not missed, f"the run never came to {', '.join(sorted(missed))}:\n{done.stdout}"
    return Run(done.returncode, done.stdout, listener.steps)
