# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts logins where they are decided: in PostgreSQL's own log (``log_connections = on``, ``[%p]`` in the prefix)."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# Nobody has this name: whoever logs in with it is refused, and the refusal can be told from every other.
CONTROL_USER = "benchmark_control"
# A login over the server's own socket under this application name says how far the log has been read.
MARK = "benchmark_mark_"

LINE = re.compile(r"^\d{4}-\S+ \S+ \S+ \[(\d+)\].*? (LOG|FATAL):  (.*)$")
RECEIVED = re.compile(r"connection received: host=(\S+)")
AUTHORIZED = re.compile(r"connection authorized: .*?(?:application_name=(.*))?$")
REFUSED = re.compile(
    r"\w+ authentication failed for user "
    r'|role ".*" (is not permitted to log in|does not exist)'
    r"|no pg_hba\.conf entry|pg_hba\.conf rejects connection"
    r"|too many connections for|sorry, too many clients already|remaining connection slots are reserved"
    r"|the database system is |canceling authentication due to timeout"
    r'|permission denied for database|database ".*" does not exist'
)


@dataclass
class Logins:
    """The logins of one stretch of the log. Ours are not among ``attempts`` and ``refused``."""

    attempts: int = 0
    accepted: int = 0
    refused: int = 0
    # Ours: from the server's own address, over its socket, and the deliberate wrong logins.
    probes: int = 0
    negative_probes: int = 0
    local: int = 0
    controls: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Logins) -> Logins:
        return Logins(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def abandoned(self) -> int:
        """Connections that came to neither answer: the client went away first."""
        return self.attempts - self.accepted - self.refused


@dataclass
class _Connection:
    host: str
    logins: Logins
    accepted: bool = False
    refused: bool = False


class LoginCounter:
    """Reads a server's log line by line; ``own_hosts`` are the server's own addresses and names.

    A login belongs to the stretch in which its connection was received, whenever its answer comes.
    """

    def __init__(self, own_hosts: Iterable[str]) -> None:
        self.own_hosts = set(own_hosts)
        self.logins = Logins()
        self._connections: dict[str, _Connection] = {}

    def next_stretch(self) -> Logins:
        """Return what has been counted until here, and begin anew."""
        finished, self.logins = self.logins, Logins()
        return finished

    def feed(self, line: str) -> str | None:
        """Count one line. Returns the application name of a login over the server's own socket."""
        matched = LINE.match(line)
        if not matched:
            return None
        process, severity, text = matched.groups()
        if severity == "LOG":
            received = RECEIVED.match(text)
            if received:
                self._received(process, received[1])
                return None
            authorized = AUTHORIZED.match(text)
            connection = self._connections.get(process)
            if authorized and connection:
                return self._authorized(connection, authorized[1] or "")
        elif REFUSED.match(text) and process in self._connections:
            self._refused(self._connections[process], text)
        return None

    def _kind(self, host: str) -> str:
        if host == "[local]" or host in ("127.0.0.1", "::1", "localhost"):
            return "local"
        return "probes" if host in self.own_hosts else "attempts"

    def _received(self, process: str, host: str) -> None:
        kind = self._kind(host)
        setattr(self.logins, kind, getattr(self.logins, kind) + 1)
        self._connections[process] = _Connection(host, self.logins)

    def _authorized(self, connection: _Connection, application: str) -> str | None:
        kind = self._kind(connection.host)
        if kind == "attempts" and not connection.accepted:
            connection.accepted = True
            connection.logins.accepted += 1
        return application if kind == "local" else None

    def _refused(self, connection: _Connection, text: str) -> None:
        # A session that is refused after "authorized" (NOLOGIN, for one) was not accepted.
        kind = self._kind(connection.host)
        if connection.refused or kind == "local":
            return
        connection.refused = True
        if kind == "probes":
            connection.logins.negative_probes += 1
        elif f'"{CONTROL_USER}"' in text:
            connection.logins.attempts -= 1
            connection.logins.controls += 1
        else:
            connection.logins.accepted -= connection.accepted
            connection.logins.refused += 1
            connection.logins.reasons[text] += 1


class ServerLog:
    """Follows ``docker logs`` of a PostgreSQL container in one thread, from now on."""

    def __init__(self, container: str, own_hosts: Iterable[str], *, admin: str) -> None:
        self.container = container
        self._log_in = ("psql", "--no-psqlrc", "--quiet", f"--username={admin}", "--dbname=template1", "--command=")
        self._counter = LoginCounter(own_hosts)
        self._marks: dict[str, threading.Event] = {}
        self._stretches: dict[str, Logins] = {}
        self._number = 0
        self._process = subprocess.Popen(
            ["docker", "logs", "--follow", "--tail", "0", container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._thread = threading.Thread(target=self._read, daemon=True, name="server log")
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            application = self._counter.feed(line.rstrip("\n"))
            if application in self._marks:
                self._stretches[application] = self._counter.next_stretch()
                self._marks[application].set()

    def mark(self, timeout: float = 20) -> Logins:
        """Return the logins since the last mark, once the log has been read up to now."""
        self._number += 1
        name = f"{MARK}{self._number}"
        self._marks[name] = threading.Event()
        # The log is one pipe: what stands before our own login's line has been written before it.
        subprocess.run(
            ["docker", "exec", "--env", f"PGAPPNAME={name}", self.container, *self._log_in],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=timeout,
        )
        if not self._marks[name].wait(timeout):
            raise RuntimeError(f"{self.container}: its log does not show our own login; is log_connections on?")
        return self._stretches.pop(name)

    def close(self) -> None:
        """Stop reading."""
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
