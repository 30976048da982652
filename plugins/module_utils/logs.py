# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read in a container's log whether its service works.

The log is followed from the container's own start, so that a line from before cannot count.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli, clean_environment
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker

# What servers and clients say when a credential is wrong.
DEFAULT_FAILURES = (
    r"password authentication failed",
    r"role \".*\" is not permitted to log in",
    r"no pg_hba\.conf entry",
    r"WRONGPASS",
    r"NOAUTH Authentication required",
    r"Authentication failed\.?$",
    r"AuthenticationFailed",
    r"InvalidAccessKeyId|SignatureDoesNotMatch",
)
# Lines longer than this are cut before they are matched or shown.
LINE_LENGTH = 2000
SHOWN_LENGTH = 300
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(line: str) -> str:
    """Return a line without terminal escapes and control characters."""
    return CONTROLS.sub("", ESCAPES.sub("", line))


def patterns(texts: Iterable[str], where: str) -> list[re.Pattern[str]]:
    """Compile regular expressions; a bad one is named together with its place."""
    compiled = []
    for text in texts:
        try:
            compiled.append(re.compile(text))
        except re.error as error:
            raise SecretsError(f"{where}: {text!r} is not a regular expression: {error}") from None
    return compiled


@dataclass(frozen=True)
class Verdict:
    """What a log says so far: ``waiting``, ``matched`` or ``failed``; the line, masked; seconds since the watch began."""

    status: str
    line: str
    seconds: float


class LogWatch:
    """Follows one container's log in a thread. Use as a context manager, or call :meth:`close`."""

    def __init__(
        self,
        docker: DockerCli,
        container_id: str,
        success: Iterable[re.Pattern[str]],
        failure: Iterable[re.Pattern[str]],
        masker: Masker,
        since: str = "",
    ) -> None:
        self._success, self._failure, self._masker = list(success), list(failure), masker
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._matched: Verdict | None = None
        self._failed: Verdict | None = None
        arguments = ["logs", "--follow", *(["--since", since] if since else []), container_id]
        try:
            self._process = subprocess.Popen(
                [docker.executable, *arguments],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise SecretsError(f"{docker.executable}: command not found; install the Docker client") from None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> LogWatch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def poll(self) -> Verdict:
        """Return what the log says so far; a failure outweighs a success."""
        with self._lock:
            return self._failed or self._matched or Verdict("waiting", "", time.monotonic() - self._started)

    def finish(self, timeout: float = 2) -> Verdict:
        """Read what an ended container's log still holds, then return what it says."""
        self._thread.join(timeout)
        return self.poll()

    def close(self) -> None:
        """End the process that follows the log."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._thread.join(2)
        if self._process.stdout and not self._thread.is_alive():
            self._process.stdout.close()

    def _read(self) -> None:
        stream, rest = self._process.stdout, b""
        while stream:
            chunk = stream.read1(65536)
            if not chunk:
                break
            lines = (rest + chunk).split(b"\n")
            # A line without an end is cut, so that it cannot fill the memory.
            rest = lines.pop()[:LINE_LENGTH]
            for line in lines:
                self._judge(line)
        if rest:
            self._judge(rest)

    def _judge(self, raw: bytes) -> None:
        line = clean(raw[:LINE_LENGTH].decode("utf-8", "replace"))
        seconds = time.monotonic() - self._started
        with self._lock:
            if self._failed is None and any(pattern.search(line) for pattern in self._failure):
                self._failed = Verdict("failed", self._shown(line), seconds)
            elif self._matched is None and any(pattern.search(line) for pattern in self._success):
                self._matched = Verdict("matched", self._shown(line), seconds)

    def _shown(self, line: str) -> str:
        return self._masker.mask(line).strip()[:SHOWN_LENGTH]


def masked_log(docker: DockerCli, container_id: str, masker: Masker, lines: int = 2000) -> str:
    """Return the end of a container's log without secrets and without terminal escapes."""
    done = docker.run("logs", "--timestamps", "--tail", str(lines), container_id, check=False)
    rows = sorted((done.stdout + done.stderr).splitlines())
    return "\n".join(clean(masker.mask(row[:LINE_LENGTH])) for row in rows) + "\n"
