# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What rotations are killed on: what all have in common, and a small deployment with a database server.

Each can check the state in which a rotation must end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
for _folder in ("benchmarks", "stack", "platforms"):
    sys.path.insert(0, str(ROOT / "tests" / _folder))
sys.path.insert(0, str(BUILD / "collections"))

import harness  # noqa: E402
from counters import Logins  # noqa: E402
from outcome import Login, check_end, failure_of, stored  # noqa: E402
from plays import Plays  # noqa: E402
from processes import Run  # noqa: E402
from stack import Stack, StackError  # noqa: E402

if TYPE_CHECKING:
    from cases import Case

# A job, a service that is replaced start-first, and one in the next wave that is stopped first.
START_FIRST, STOP_FIRST, JOB, SERVER = "message-service", "api-gateway", "migrate", "postgres"
# Those with a health check; of the others the log shows that they work.
CHECKED = (SERVER, START_FIRST)
EVENTS = ("create", "start", "die", "destroy")


class SmallStack(Stack):
    """The demo stack without its proxy and with two consumers, which are quick to start and to stop."""

    def create(self) -> None:
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        services = {name: model["services"][name] for name in (SERVER, JOB, START_FIRST, STOP_FIRST)}
        for name in (START_FIRST, STOP_FIRST):
            services[name]["environment"].update(DRAIN_SECONDS="0.2")
        # The engine's health checks would be most of the machine's work.
        services[SERVER]["healthcheck"]["interval"] = "3s"
        del services[STOP_FIRST]["healthcheck"]
        del services[STOP_FIRST]["depends_on"]["user-service"]
        for name in ("UPSTREAM_URL", "DIRECT_URL"):
            del services[STOP_FIRST]["environment"][name]
        path.write_text(yaml.safe_dump({**model, "services": services}, sort_keys=False))
        self.consumers = (START_FIRST, STOP_FIRST)

    def wait(self, timeout: float = 60) -> None:
        """Wait until every service that has a health check is healthy."""
        mine = ("--filter", f"label=com.docker.compose.project={self.project}")
        deadline = time.monotonic() + timeout
        while len(self.docker("ps", "--quiet", *mine, "--filter", "health=healthy").split()) < len(CHECKED):
            if time.monotonic() > deadline:
                raise StackError(f"{self.project}: not healthy within {timeout:g} s")
            time.sleep(0.2)


class Events:
    """Follows the engine's events about the deployment's containers, and counts them from ``begin`` on."""

    def __init__(self, project: str) -> None:
        form = '{{.Action}} {{index .Actor.Attributes "com.docker.compose.service"}}'
        command = ["docker", "events", "--filter", f"label=com.docker.compose.project={project}", "--format", form]
        command += ["--filter", "type=container", *(f"--filter=event={event}" for event in EVENTS)]
        self.labels: list[str] = []
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True, name="events")
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout or []:
            action, service = line.split()
            with self._lock:
                self._numbers[action, service] += 1
                self.labels.append(f"roll_out container: {service} {action} #{self._numbers[action, service]} event")

    def begin(self) -> None:
        with self._lock:
            self.labels.clear()
            self._numbers.clear()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)


@dataclass
class Check:
    """What is wrong with a deployment's state."""

    problems: list[str]
    # Old logins that the check has tried itself, and that had to be refused.
    probes: int


class Rotated:
    """A stack whose credential is rotated again and again, with its store and inventory, and the engine's events."""

    # What is carried out in turn, where a rotation is done by more than one command.
    turns: tuple[str, ...] = ("",)
    case: Case
    folder: Path
    stack: Stack
    plays: Plays
    events: Events
    runs = 0

    @property
    def store_folder(self) -> Path:
        return self.folder / "inventory"

    @property
    def command(self) -> tuple[str, ...]:
        """The playbook that rotates, and its arguments."""
        return self.case.command

    def warm_up(self) -> None:
        """Do what comes before the first of many rotations that are alike."""

    def prepare(self, turn: str) -> None:
        """Do what has to be done before the next rotation, so that it is the turn's."""

    def run(self, wanted: str = "", command: tuple[str, ...] = ()) -> Run:
        """Start the command that rotates."""
        self.runs += 1
        project = self.stack.directory
        files = [project, project / ".chat4all", self.store_folder]
        # The events before have been read: the engine has no more to say about a command that has ended.
        self.events.begin()
        playbook, *arguments = command or self.command
        return Run(
            self.plays.command(playbook, *arguments),
            self.plays.environment,
            ROOT,
            self.folder / "runs" / f"{self.runs:04d}",
            files,
            wanted,
        )

    def remember(self) -> None:
        """Remember what the end's check has to know of the values that the store holds now."""

    def works(self) -> bool:
        """Tell whether a service that must never be away works."""
        return True

    def until_nothing_works(self, runs: list[Run], timeout: float = 60) -> bool:
        """Wait until no process of these runs is left."""
        return _until(lambda: not any(run.modules_at_work() for run in runs), timeout)


class Deployment(Rotated, harness.Deployment):
    """One small stack with its store and inventory, its server's log and its events."""

    def __init__(self, name: str, case: Case) -> None:
        super().__init__(name, folder=BUILD / "crash" / name)
        self.case = case
        self.stack = SmallStack(name)
        # Every login that was ever valid, or was to become so; and those that were tried after their end.
        self.seen: set[Login] = set()
        self.tried: set[Login] = set()

    def start(self) -> None:
        """Start the stack, provision it, and rotate once, from where the two users alternate.

        In the case of the first rotation it is but adopted: that rotation keeps the server's first values apart, too.
        """
        super().start()
        self.plays = Plays(
            self.store_folder,
            self.stack.directory,
            secrets_catalog=self.case.catalog,
            secrets_services={
                JOB: {"rerun": "safe"},
                STOP_FIRST: {"replace": "stop_first", "ready_log": "Started .*Application"},
            },
            rotate_rollout={"quiet": 0.2, "settle": 0.2},
        )
        self.events = Events(self.stack.project)
        (self.folder / ".git").mkdir()  # the top of a repository, where adopt writes what AWX needs
        for command in [("adopt.yml",)] if self.case.first else [("provision.yml",), self.case.command]:
            run = self.run(command=command)
            if run.end():
                raise harness.BenchmarkError(f"{command[0]} failed on a fresh stack\n{run.output}")
            self.remember()
        if self.case.first:
            for folder in self._memories:
                shutil.copytree(folder, self.folder / "adopted" / folder.name)

    @property
    def _memories(self) -> tuple[Path, Path]:
        """The folders in which a rotation leaves something."""
        return self.stack.directory, self.store_folder

    def prepare(self, turn: str) -> None:
        """Undo, where each rotation is to be the first, whatever has happened since the stack was adopted."""
        if not self.case.first:
            return
        for folder in self._memories:
            shutil.rmtree(folder)
            shutil.copytree(self.folder / "adopted" / folder.name, folder)
        login = stored(self.plays)
        self.stack.psql(f"ALTER ROLE {login.user} LOGIN PASSWORD '{login.password}'")
        self.stack.compose("up", "--detach")
        for user in self.stack.psql(rf"SELECT rolname FROM pg_roles WHERE rolname LIKE '{login.user}\_%'").split():
            self.stack.psql(f"DROP OWNED BY {user}; DROP ROLE {user}")
        self.stack.wait()
        self.seen, self.tried = {login}, set()
        self.counts()

    def __exit__(self, *exception: object) -> None:
        if hasattr(self, "events"):
            self.events.close()
        if self._log:
            self._log.close()
        self.stack.down()

    # -- the state

    def remember(self) -> None:
        """Remember every login that the store holds now."""
        slots = [stored(self.plays, slot) for slot in ("current", "pending", "previous")]
        self.seen |= {login for login in slots if login}

    def counts(self) -> Logins:
        """Return the consumers' logins since the last call: ``accepted``, ``refused``, and ``reasons``."""
        return self._log.mark()

    def works(self) -> bool:
        """Tell whether the service that is replaced start-first works, in one of its containers."""
        return any(not failure_of(container) for container in self.stack.containers(START_FIRST))

    def control_is_seen(self) -> bool:
        """Make one deliberate wrong login as a consumer, and tell whether the server's log shows it."""
        self.counts()
        self.control()
        return self.counts().controls == 1

    def check(self, everything: bool = False) -> Check:
        """Say what is wrong. Tries the old logins that were not tried since their end; all with ``everything``."""
        dead = self.seen - {stored(self.plays)}
        trying = sorted(dead if everything else dead - self.tried)
        problems = []
        try:
            check_end(self.stack, self.plays, trying, others=(JOB, SERVER))
        except (AssertionError, LookupError, ValueError, OSError, subprocess.SubprocessError, StackError) as error:
            problems.append(str(error) or type(error).__name__)
        self.tried.update(trying)
        return Check(problems, len(trying))


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
