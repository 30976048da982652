# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""Read in a container's log whether its service works.

:class:`LogWatch` follows one container, :func:`verify` judges several together, :func:`masked_log` saves what one said.
What the caller of a ``LogWatch`` has to know (each has a test against a real engine):

- Begin to watch *after* ``docker start``: of a container that was never started the engine follows nothing, and what a
  container has said before one began to watch is read all the same.
- A container that is made anew needs no ``since``. One that was started before needs :func:`run_began`, or lines of an
  earlier run count.
- A container that is restarted by its policy mostly looks as if it ran: compare ``RestartCount`` (0 in a new one), not
  only ``State.Restarting``.
- After an exit call :meth:`LogWatch.finish`: the reason is often in the last lines; :meth:`LogWatch.last` is the last.
- ``unreadable`` (the log driver keeps nothing) never becomes another status: whoever needs a line can stop waiting.
- A pattern is searched in up to 32 KiB at once, without a time limit: one that backtracks without bound, such as
  ``(a+)+$``, stops the whole process. Patterns come from the inventory, never from a log.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli, clean_environment
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker, clean

# What clients and servers say when they refuse a credential. What an application says of its own users is not meant.
DEFAULT_FAILURES = (
    r"password authentication failed",
    r'role "[^"]*" (?:is not permitted to log in|does not exist(?!, skipping))',
    r"permission denied to set role",
    r"no pg_hba\.conf entry",
    r"no password (?:was )?(?:provided|supplied)",
    r"WRONGPASS",
    r"NOAUTH Authentication required",
    r"ERR invalid password",
    r"Mongo\w*(?:Error|Exception)\b.*[Aa]uthenticat",
    r"AuthenticationFailed",
    r"InvalidAccessKeyId",
    r"SignatureDoesNotMatch",
)
# Docker, too, keeps a longer line in pieces of this size; what lies across two pieces is seen by the overlap.
PIECE = 16 * 1024
OVERLAP = 1024
SHOWN = 300
SAVED = 1024 * 1024
SAVED_LINES = 2000
POLL = 0.25

NEVER = "0001-01-01"


def patterns(texts: Iterable[str], where: str) -> list[re.Pattern[str]]:
    """Compile regular expressions; a bad one is named together with its place."""
    compiled = []
    for text in texts:
        try:
            compiled.append(re.compile(text))
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            raise SecretsError(f"{where}: {text!r} is not a regular expression: {error}") from None
        if compiled[-1].search(""):
            raise SecretsError(f"{where}: {text!r} matches every line, even an empty one; write what the line must say")
    return compiled


def moment(text: str, where: str = "time") -> float:
    """Return a point of time, written as the engine or Ansible writes it (RFC 3339), in seconds since 1970."""
    parts = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text.strip())
    try:
        if parts:
            zone = "+00:00" if parts[4] == "Z" else parts[4]
            whole = datetime.datetime.fromisoformat(f"{parts[1]}T{parts[2]}{zone}").timestamp()
            return whole + float(parts[3] or 0)
    except ValueError:
        pass
    raise SecretsError(f"{where}: {text!r} is not a time with its zone, such as 2026-11-24T03:10:00Z")


def run_began(state: Mapping[str, Any]) -> str:
    """Return for ``docker logs --since`` where a container's present run begins; empty when it is the first one.

    ``StartedAt`` will not do: the engine takes it when the process runs already, and the first line can be some
    milliseconds older. The last line of the run before can be as much younger than its ``FinishedAt``. So: half-way
    between the two.

    ``state`` is ``State`` of ``docker inspect``; without ``Running`` and ``Restarting`` the container is taken to run.
    """
    if state["FinishedAt"].startswith(NEVER):
        return ""
    began, ended = moment(state["StartedAt"]), moment(state["FinishedAt"])
    if ended < began and state.get("Running", True) and not state.get("Restarting"):
        return f"{(began + ended) / 2:.6f}"
    # The run is over, and a short one can have ended before its StartedAt; the end of the one before is not known.
    # Rather a line too many than the reason missed.
    return f"{min(began, ended) - 1:.6f}"


@dataclass(frozen=True)
class Line:
    """A line as it came, or a piece of a long one."""

    text: str
    cut_before: bool = False
    cut_after: bool = False

    def shown(self, masker: Masker, pattern: re.Pattern[str] | None = None) -> str:
        """Return what may be shown of it: masked, clean, short; around what the pattern matches."""
        # Twice: a secret may hold what gets cleaned away, and escapes may stand between its characters.
        text = masker.mask(clean(masker.mask(self.text)))
        # A secret that was cut cannot be recognized.
        begin = masker.longest if self.cut_before else 0
        text = text[begin : max(begin, len(text) - masker.longest)] if self.cut_after else text[begin:]
        found = pattern.search(text) if pattern else None
        if found and found.end() > SHOWN:
            text = "..." + text[max(0, found.start() - SHOWN // 3) :]
        return text.strip()[:SHOWN]


@dataclass(frozen=True)
class Verdict:
    """What a log says so far.

    ``status`` is ``waiting``, ``matched``, ``failed`` or ``unreadable``; ``line`` is masked; ``seconds`` count from the
    beginning of the watch.
    """

    status: str
    line: str
    seconds: float


class LogWatch:
    """Follows one container's log in a thread. Use as a context manager, or call :meth:`close`.

    ``success`` and ``failure`` are searched in every line, stdout and stderr alike; one failure outweighs any success.
    """

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
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._matched: Verdict | None = None
        self._failed: Verdict | None = None
        self._unreadable = False
        self._last = Line("")
        self._closing = False
        self._process = _logs(docker, "--follow", *(["--since", since] if since else []), container_id)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> LogWatch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def poll(self) -> Verdict:
        """Return what the log says so far."""
        with self._lock:
            if self._failed or self._matched:
                return self._failed or self._matched
            if self._unreadable:
                return Verdict("unreadable", self._last.shown(self._masker), self.elapsed())
            return Verdict("waiting", "", self.elapsed())

    def elapsed(self) -> float:
        """Return the seconds since the watch began."""
        return time.monotonic() - self._began

    def finish(self, timeout: float = 2) -> Verdict:
        """Read what an ended container's log still holds, then return what it says."""
        self._thread.join(timeout)
        return self.poll()

    def last(self) -> str:
        """Return the last line that said something, masked; empty where there is none."""
        with self._lock:
            line = self._last
        return line.shown(self._masker)

    def close(self) -> None:
        """End the process that follows the log."""
        self._closing = True
        _end(self._process)
        self._thread.join()
        self._process.stdout.close()

    def _read(self) -> None:
        rest, cut = b"", False
        while chunk := self._process.stdout.read1(PIECE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._judge(line, cut, False)
                cut = False
            while len(rest) > PIECE:
                self._judge(rest[:PIECE], cut, True)
                rest, cut = rest[PIECE - OVERLAP :], True
        if rest:
            self._judge(rest, cut, self._closing)
        # The client itself fails, and says so last, where the engine keeps no log that could be read.
        if self._process.wait() != 0 and not self._closing:
            with self._lock:
                self._unreadable = True

    def _judge(self, raw: bytes, cut_before: bool, cut_after: bool) -> None:
        line = Line(raw.decode("utf-8", "replace"), cut_before, cut_after)
        text = clean(line.text)
        if not text.strip():
            return
        seconds = self.elapsed()
        failure = self._failed is None and _first(self._failure, text)
        success = self._matched is None and not failure and _first(self._success, text)
        with self._lock:
            self._last = line
            if failure:
                self._failed = Verdict("failed", line.shown(self._masker, failure), seconds)
            elif success:
                self._matched = Verdict("matched", line.shown(self._masker, success), seconds)


def _first(candidates: Iterable[re.Pattern[str]], text: str) -> re.Pattern[str] | None:
    return next((pattern for pattern in candidates if pattern.search(text)), None)


def _logs(docker: DockerCli, *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``docker logs``; both streams come in one, in the order in which the engine kept them."""
    try:
        return subprocess.Popen(
            [docker.executable, "logs", *arguments],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise SecretsError(f"{docker.executable}: command not found; install the Docker client") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def masked_log(docker: DockerCli, container_id: str, masker: Masker) -> str:
    """Return the end of a container's log, at most 1 MiB of it, without secrets and without terminal escapes."""
    process = _logs(docker, "--tail", str(SAVED_LINES), container_id)
    # What is written faster than it is read would never end.
    timer = threading.Timer(60, process.kill)
    timer.start()
    kept, cut = bytearray(), False
    try:
        while chunk := process.stdout.read1(65536):
            kept += chunk
            if len(kept) > 2 * SAVED:
                del kept[:-SAVED]
                cut = True
    finally:
        timer.cancel()
        _end(process)
        process.stdout.close()
    text = masker.mask(kept.decode("utf-8", "replace"))
    text = masker.mask("\n".join(clean(row) for row in text.split("\n")))
    if cut:
        text = "(the beginning is left out)\n" + text[masker.longest :]
    return text if text.endswith("\n") else text + "\n"


def inspect(docker: DockerCli, container_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the engine knows of the containers that are still there, by their ids."""
    done = docker.run("container", "inspect", *container_ids, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = []
    if done.returncode != 0 and "no such container" not in done.stderr.lower():
        raise SecretsError(f"docker container inspect failed: {docker.last_line(done.stderr)}")
    return {data["Id"]: data for data in found}


def verify(
    docker: DockerCli,
    containers: Mapping[str, Mapping[str, Any]],
    success: Sequence[re.Pattern[str]],
    failure: Sequence[re.Pattern[str]],
    masker: Masker,
    timeout: float,
    quiet: float,
    since: float | None = None,
) -> list[dict[str, Any]]:
    """Wait until every container's log has a line of success and, for ``quiet`` seconds after it, none of failure.

    ``containers`` is what :func:`inspect` returned; with ``since``, one that its policy has restarted after that moment
    has failed already. One result each: ``name``, ``status``, ``line`` (masked), ``reason`` (empty when it is well),
    ``seconds``. ``status`` is ``ok``, ``failed``, ``exited``, ``restarted``, ``gone``, ``unreadable``, ``timed_out``,
    or ``waiting`` where another one has ended it before.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        watches = {
            key: stack.enter_context(LogWatch(docker, key, success, failure, masker, run_began(data["State"])))
            for key, data in containers.items()
        }
        while True:
            late = time.monotonic() - began > timeout
            now = inspect(docker, list(containers))
            results = [
                _judged(data, now.get(key), watches[key], quiet, timeout if late else None, since)
                for key, data in containers.items()
            ]
            if any(result["reason"] for result in results) or all(result["status"] == "ok" for result in results):
                return results
            time.sleep(POLL)


def restarted(before: Mapping[str, Any], now: Mapping[str, Any], since: float | None) -> bool:
    """Tell whether a container was started again since it was looked at first, or by its policy since a moment."""
    if now["RestartCount"] > before["RestartCount"] or now["State"]["StartedAt"] != before["State"]["StartedAt"]:
        return True
    return since is not None and now["RestartCount"] > 0 and moment(now["State"]["FinishedAt"]) >= since


def _judged(
    before: Mapping[str, Any],
    now: Mapping[str, Any] | None,
    watch: LogWatch,
    quiet: float,
    waited: float | None,
    since: float | None,
) -> dict[str, Any]:
    """Return the result of one container as it stands; ``waited`` is the time-out when it is over."""
    running = now is not None and now["State"]["Running"] and not now["State"]["Restarting"]
    verdict = watch.poll() if running else watch.finish()

    def result(status: str, reason: str = "", line: str = verdict.line) -> dict[str, Any]:
        name = before["Name"].lstrip("/")
        return {"name": name, "status": status, "line": line, "reason": reason, "seconds": round(verdict.seconds, 1)}

    if verdict.status == "failed":
        return result("failed", f'its log says "{verdict.line}"')
    last = watch.last()
    said = f'; its last line: "{last}"' if last else "; its log is empty"
    if now is None:
        return result("gone", "was removed" + said, last)
    state = now["State"]
    if restarted(before, now, since):
        return result("restarted", "restarted" + said, last)
    if state["Status"] == "created":
        return result("exited", "was never started")
    if not running:
        return result("exited", f"exited with code {state['ExitCode']}" + said, last)
    if verdict.status == "unreadable":
        return result("unreadable", f"its log cannot be read by docker logs: {verdict.line}")
    if verdict.status == "matched":
        over = watch.elapsed() - verdict.seconds >= quiet
        return result("ok" if over else "waiting")
    if waited is not None:
        return result("timed_out", f"no line of success within {waited:g} s" + said, last)
    return result("waiting")
