# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What watches the machine while playbooks run: processes, the system's log, the engine, the store's versions."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
SYSLOG = "/dev/log"


class WatchError(Exception):
    """What cannot be watched here, and why."""


class Watcher:
    """Works between ``with`` and its end."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class Sampler(Watcher):
    """Every process, and the files that are in some folders for a moment; see sampler.py."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.folders = [str(folder) for folder in folders]
        self.looks = 0
        self.arguments = b""
        self.environments: list[tuple[str, bytes]] = []
        self.files: list[tuple[str, bytes]] = []

    def start(self) -> None:
        self._result = tempfile.mkdtemp(prefix="canary-sampler-")
        command = [sys.executable, str(HERE / "sampler.py"), f"{self._result}/result", *self.folders]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._process.stdout.readline()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()
        try:
            self.__dict__.update(pickle.loads(Path(self._result, "result").read_bytes()))
        finally:
            shutil.rmtree(self._result)


class Syslog(Watcher):
    """What programs send to the system's log: read at ``/dev/log`` itself where nobody else listens."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._ended = False

    def start(self) -> None:
        self._began = time.time()
        self._socket = None
        if self._somebody_listens():
            if not shutil.which("journalctl"):
                raise WatchError(f"somebody else listens at {SYSLOG}, and there is no journalctl to ask")
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SYSLOG)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(SYSLOG)
        except OSError as error:
            raise WatchError(f"{SYSLOG}: {error.strerror}; run as root") from None
        os.chmod(SYSLOG, 0o666)
        self._socket.settimeout(0.2)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _somebody_listens() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            return probe.connect_ex(SYSLOG) == 0

    def _read(self) -> None:
        while True:
            try:
                self.received.append(self._socket.recv(1 << 20))
            except TimeoutError:
                if self._ended:
                    return

    def stop(self) -> None:
        if self._socket is None:
            command = ["journalctl", "--quiet", "--all", f"--since=@{int(self._began)}"]
            self.received = subprocess.run(command, capture_output=True, check=True).stdout.splitlines(True)
            return
        self._ended = True
        self._reader.join()
        self._socket.close()
        os.unlink(SYSLOG)

    @property
    def data(self) -> bytes:
        return b"\n".join(self.received)


class Engine(Watcher):
    """One project as the engine tells of it: its events, and what each container logs, also one that is removed."""

    def __init__(self, project: str) -> None:
        self.mine = f"label=com.docker.compose.project={project}"
        self.events: list[bytes] = []
        self._logs: dict[str, Any] = {}
        self._followers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        command = ["docker", "events", "--filter", self.mine, "--format", "{{json .}}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        listing = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", self.mine]
        for container in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split():
            self._follow(container)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.events.append(line)
            event = json.loads(line)
            if event.get("Type") == "container" and event.get("Action") == "start":
                self._follow(event["Actor"]["ID"])

    def _follow(self, container: str) -> None:
        # A restart ends what follows the log; from its beginning, each content counts once.
        output = tempfile.TemporaryFile()  # noqa: SIM115
        self._logs[f"{container[:12]} {len(self._followers)}"] = output
        command = ["docker", "logs", "--follow", container]
        self._followers.append(subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL))

    def stop(self) -> None:
        self._process.terminate()
        self._reader.join()
        self._process.wait()
        for follower in self._followers:
            follower.terminate()
            follower.wait()

    @property
    def logs(self) -> list[tuple[str, bytes]]:
        found = []
        for name, output in self._logs.items():
            output.seek(0)
            found.append((name, output.read()))
        return found


class Statements(Watcher):
    """What a query about the server returned at any time, asked again every few milliseconds in a session of its own."""

    def __init__(self, command: list[str], query: str) -> None:
        self.command, self.query = command, query

    def start(self) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.DEVNULL
        )
        script = f"SET log_statement = 'none'; SET log_min_duration_statement = -1;\n{self.query} \\watch 0.02\n"
        self._process.stdin.write(script.encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._output.seek(0)
        # Each row once.
        self.data = b"\n".join(sorted(set(self._output.read().splitlines())))


class Versions(Watcher):
    """Every version that a file had, as long as each lasts some milliseconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents: list[bytes] = []
        self._ended = threading.Event()

    def start(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        known = None
        while True:
            last = self._ended.wait(0.01)
            with contextlib.suppress(FileNotFoundError):
                inode = self.path.stat().st_ino, self.path.stat().st_mtime_ns
                if inode != known:
                    known = inode
                    self.contents.append(self.path.read_bytes())
            if last:
                return

    def stop(self) -> None:
        self._ended.set()
        self._reader.join()


def snapshot(folder: Path, *exempt: str) -> Iterable[tuple[str, bytes]]:
    """Yield name and content of every file below a folder, less those with an exempt name."""
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if name not in exempt and path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield str(path.relative_to(folder)), path.read_bytes()


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it, whatever session they made for themselves."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def kill(pid: int) -> int:
    """End a process and all that descend from it, at once and without a chance to tidy up; returns how many."""
    members = family(pid)
    for member in members:  # first none of them may start another
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGSTOP)
    members = family(pid)
    for member in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    return len(members)
