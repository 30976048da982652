# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A demo stack under load and under observation, and what is measured of an arm on it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build"
sys.path.insert(0, str(HERE.parent / "stack"))

from counters import CONTROL_USER, Logins, ServerLog  # noqa: E402
from load import Load, Requests  # noqa: E402
from stack import SHADOWING, Stack, StackError  # noqa: E402

# HTTP requests per second over all services, and how long the load runs before and after the rotations.
RATE = 20
WARM_UP = 2.0
SETTLE = 1.0
COMMAND_TIMEOUT = 400

# Runs in a consumer's container: a login that must be refused, and must be seen to be.
WRONG_LOGIN = f"""
import psycopg2
try:
    psycopg2.connect(host="postgres", dbname="chat4all", user="{CONTROL_USER}", password="wrong", connect_timeout=5)
except psycopg2.OperationalError as error:
    print(error)
"""


class BenchmarkError(Exception):
    """An arm failed, or the measurement is not to be trusted."""


def run(command: Sequence[str], *, show: bool = False, **environment: str) -> str:
    """Run one command to its end and return what it wrote; with ``show`` it writes to the terminal instead."""
    wanted = {name: value for name, value in {**os.environ, **environment}.items() if not name.startswith(SHADOWING)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=wanted,
        stdin=subprocess.DEVNULL,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout or "").splitlines()[-15:])
        raise BenchmarkError(f"{Path(command[0]).name} ended with exit code {done.returncode}\n{tail}".rstrip())
    return done.stdout or ""


def brief(error: Exception) -> str:
    """Return what failed and the last thing that it said; Compose's whole output is too much."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if isinstance(error, BenchmarkError) or len(lines) < 2:
        return str(error)
    return f"{lines[0].partition(': ')[0]}: {lines[-1].strip()}"


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP end the program as Ctrl-C does, so that everything is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)


@dataclass
class Result:
    """What an arm did to those who use the database while it rotated."""

    rotations: int = 0
    seconds: list[float] = field(default_factory=list)
    # Processor time of the commands themselves, which a busy machine does not lengthen.
    command_cpu: list[float] = field(default_factory=list)
    logins: Logins = field(default_factory=Logins)
    requests: Requests = field(default_factory=Requests)
    # The machine's busy share and the load's own, under load and before any rotation.
    machine_cpu: list[float] = field(default_factory=list)
    load_cpu: list[float] = field(default_factory=list)

    def __add__(self, other: Result) -> Result:
        return Result(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def summary(self) -> dict[str, Any]:
        """Return the figures of the demo's table."""
        return {
            "rotations": self.rotations,
            "attempts": self.logins.attempts,
            "refused_logins": self.logins.refused,
            "http_requests": self.requests.http_requests,
            "http_failures": self.requests.http_failures,
            "longest_gap_s": round(self.requests.longest_gap_s, 3),
            "seconds": round(sum(self.seconds), 2),
        }

    def details(self) -> dict[str, Any]:
        """Return every figure."""
        return {
            **self.summary(),
            "seconds_per_rotation": [round(each, 2) for each in self.seconds],
            "command_cpu_s": [round(each, 2) for each in self.command_cpu],
            "direct_calls": self.requests.direct_calls,
            "direct_failures": self.requests.direct_failures,
            "abandoned_logins": self.logins.abandoned,
            "refused_reasons": dict(self.logins.reasons),
            "http_failure_reasons": dict(self.requests.reasons),
            "probes": self.logins.probes,
            "negative_probes": self.logins.negative_probes,
            "controls": self.logins.controls,
            "machine_cpu": [round(each, 3) for each in self.machine_cpu],
            "load_cpu": [round(each, 3) for each in self.load_cpu],
        }


def processor_times() -> tuple[int, int]:
    """Return the machine's busy and total processor time."""
    times = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def children_cpu() -> float:
    """Return the processor time of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Deployment:
    """One stack of the benchmark, made by ``with`` and removed at its end, unless it is to be kept."""

    keep = False

    def __init__(
        self,
        name: str,
        *,
        consumers: int = 3,
        rate: float = RATE,
        folder: Path | None = None,
        health_interval: str = "1s",
    ) -> None:
        self.stack = Stack(name, consumers=consumers, health_interval=health_interval)
        self.rate = rate
        # What belongs to the arm, not to the stack: inventory, store, vault password.
        self.folder = folder or BUILD / "benchmark" / name
        self._log: ServerLog | None = None

    def __enter__(self) -> Deployment:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.stack.create()
        return self

    def __exit__(self, *_: object) -> None:
        if self._log:
            self._log.close()
        if not self.keep:
            self.stack.down()
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def server(self) -> str:
        """The name of the database server's container."""
        [name] = self.stack.containers("postgres")
        return name

    @property
    def _mine(self) -> str:
        return f"label=com.docker.compose.project={self.stack.project}"

    def start(self) -> None:
        """Start the stack and follow the server's log."""
        self.stack.up()
        facts = json.loads(self.stack.docker("inspect", self.server))[0]
        networks = facts["NetworkSettings"]["Networks"].values()
        # Logins from the server's own address, and from this machine, which no consumer uses.
        own_hosts = {facts["Config"]["Hostname"]}
        own_hosts |= {network[key] for network in networks for key in ("IPAddress", "Gateway")}
        if self._log:
            self._log.close()
        self._log = ServerLog(facts["Id"], own_hosts, admin="chat4all")

    def pause(self) -> None:
        """Freeze every container: what is not measured must not disturb what is."""
        # A busy container cannot always be frozen at the first attempt.
        for attempt in range(20):
            running = self.stack.docker("ps", "--quiet", "--filter", self._mine, "--filter", "status=running").split()
            if not running:
                return
            time.sleep(0.2 * attempt)
            with suppress(StackError):
                self.stack.docker("pause", *running)
        raise BenchmarkError(f"{self.stack.project} cannot be paused")

    def unpause(self) -> None:
        self.stack.compose("unpause")
        # The engine calls a paused container unhealthy, until its next health check.
        sick = ("ps", "--quiet", "--filter", self._mine, "--filter", "health=unhealthy")
        deadline = time.monotonic() + 60
        while self.stack.docker(*sick):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{self.stack.project} does not recover from the pause")
            time.sleep(0.2)
        self.stack.wait()

    def containers(self) -> dict[str, str]:
        """Return the service of each of the project's containers, by its id; running or not."""
        row = '{{.ID}} {{.Label "com.docker.compose.service"}}'
        rows = self.stack.docker("ps", "--all", "--filter", self._mine, "--format", row).splitlines()
        return dict(each.split() for each in rows)

    def recreated_by_up(self) -> list[str]:
        """Do a plain ``docker compose up -d`` and return the services whose containers it replaced or added."""
        before = self.containers()
        self.stack.compose("up", "-d")
        self.stack.wait()
        return sorted(service for container, service in self.containers().items() if container not in before)

    def control(self) -> None:
        """Log in wrongly from a consumer's container."""
        container = self.stack.containers(self.stack.consumers[0])[0]
        said = self.stack.docker("exec", "--interactive", container, "python3", "-", stdin=WRONG_LOGIN)
        if "password authentication failed" not in said:
            raise BenchmarkError(f"the deliberate wrong login was not refused: {said.strip() or 'it was let in'}")

    def measure(self, rotate: Callable[[], object], rotations: int) -> Result:
        """Rotate so many times under load; everything is counted from just before until just after."""
        if self._log is None:
            raise BenchmarkError("the stack has not been started")
        services = [f"/{name}/work" for name in self.stack.consumers]
        with Load(self.stack.proxy_url, services, rate=self.rate, direct=["/api-gateway/call"]) as load:
            result = Result(rotations)
            self._warm_up(load, result)
            self._log.mark()
            self.control()
            for _turn in range(rotations):
                began, spent = time.monotonic(), children_cpu()
                rotate()
                result.seconds.append(time.monotonic() - began)
                result.command_cpu.append(children_cpu() - spent)
            time.sleep(SETTLE)
            result.requests = load.mark()
            result.logins = self._log.mark()
            if load.ended:
                raise BenchmarkError("the load came to its end before the rotations did")
        if result.logins.controls != 1:
            raise BenchmarkError(
                f"1 deliberate wrong login was made and {result.logins.controls} counted: "
                "the count of refused logins is not to be trusted"
            )
        return result

    def _warm_up(self, load: Load, result: Result) -> None:
        began, (busy, total), spent = time.monotonic(), processor_times(), load.cpu_seconds
        time.sleep(WARM_UP)
        busy_after, total_after = processor_times()
        result.machine_cpu.append((busy_after - busy) / (total_after - total))
        result.load_cpu.append((load.cpu_seconds - spent) / (time.monotonic() - began))
        before = load.mark()
        if before.http_failures:
            raise BenchmarkError(f"requests fail before any rotation: {dict(before.reasons)}")
