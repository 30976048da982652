# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small deployment to kill rotations on, and the check of the state in which they must end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
for _folder in ("benchmarks", "stack"):
    sys.path.insert(0, str(ROOT / "tests" / _folder))

import harness  # noqa: E402
from cases import Case  # noqa: E402
from plays import Plays  # noqa: E402
from processes import Run  # noqa: E402
from stack import Stack, StackError  # noqa: E402

# A job, a service that is replaced start-first, and one in the next wave that is stopped first.
START_FIRST, STOP_FIRST, JOB, SERVER = "message-service", "api-gateway", "migrate", "postgres"
EXPECTED = {SERVER: 1, JOB: 1, START_FIRST: 1, STOP_FIRST: 1}
# Those with a health check; of the others the log shows that they work.
CHECKED = (SERVER, START_FIRST)
EVENTS = ("create", "start", "die", "destroy")
INTERIM_NAME = re.compile(r"[0-9a-f]{12}_")
TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
PLANNED = re.compile(r"Container (\S+)\s+(Recreate|Recreated|Creating|Starting)\s*$", re.MULTILINE)

# Runs in the server's container: one login over the network for each line of standard input.
LOG_IN = """
while IFS=' ' read -r user password; do
  said=$(PGPASSWORD="$password" PGCONNECT_TIMEOUT=5 psql -XqAtw -h postgres -U "$user" -d chat4all -c 'SELECT 1' 2>&1)
  case "$said" in
    1) echo accepted ;;
    *'password authentication failed'*|*'is not permitted to log in'*) echo refused ;;
    *) echo "unknown: $said" | tr '\\n' ' '; echo ;;
  esac
done
"""


class SmallStack(Stack):
    """The demo stack without its proxy and with two consumers, which are quick to start and to stop."""

    def create(self) -> None:
        super().create()
        path = self.directory / "docker-compose.yml"
        model = yaml.safe_load(path.read_text())
        services = {name: model["services"][name] for name in EXPECTED}
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
    """What is wrong with a deployment's state; each a line."""

    problems: list[str]
    # Logins that the check itself made and that had to be refused.
    probes: int


class Deployment(harness.Deployment):
    """One small stack with its store and inventory, its server's log and its events."""

    def __init__(self, name: str, case: Case) -> None:
        super().__init__(name, folder=BUILD / "crash" / name)
        self.case = case
        self.stack = SmallStack(name)
        self.store_folder = self.folder / "inventory"
        self.runs = 0
        # Every login that was ever valid, or was to become so; and those that were tried after their end.
        self.seen: set[tuple[str, str]] = set()
        self.tried: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Start the stack, provision it, and rotate once: from then on the two users alternate."""
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
        for command in (("provision.yml",), self.case.command):
            run = self.run(command=command)
            if run.end():
                raise harness.BenchmarkError(f"{command[0]} failed on a fresh stack\n{run.output}")
            self.remember()

    def __exit__(self, *exception: object) -> None:
        if hasattr(self, "events"):
            self.events.close()
        if self._log:
            self._log.close()
        self.stack.down()

    # -- runs

    def run(self, wanted: str = "", command: tuple[str, ...] = ()) -> Run:
        """Start the command that rotates."""
        self.runs += 1
        project = self.stack.directory
        files = [project, project / ".chat4all", self.store_folder]
        # The events before have been read: the engine has no more to say about a command that has ended.
        self.events.begin()
        playbook, *arguments = command or self.case.command
        return Run(
            self.plays.command(playbook, *arguments),
            self.plays.environment,
            ROOT,
            self.folder / "runs" / f"{self.runs:04d}",
            files,
            wanted,
        )

    # -- the state

    def entry(self) -> dict[str, Any]:
        return self.plays.store()["secrets_credentials"]["postgres"]

    def remember(self) -> None:
        """Remember every login that the store holds now."""
        entry = self.entry()
        self.seen |= {_login(entry[slot]) for slot in ("current", "pending", "previous") if entry.get(slot)}

    def log_in(self, logins: list[tuple[str, str]]) -> list[str]:
        """Try logins over the containers' network, from the server's own address, which is not a consumer's."""
        lines = "".join(f"{user} {password}\n" for user, password in logins)
        done = self.stack.docker("exec", "--interactive", self.server, "bash", "-c", LOG_IN, stdin=lines)
        return done.splitlines()

    def refused(self) -> Counter[str]:
        """Return why logins of the consumers were refused since the last call."""
        return self._log.mark().reasons

    def control_is_seen(self) -> bool:
        """Make one deliberate wrong login as a consumer, and tell whether the server's log shows it."""
        self._log.mark()
        self.control()
        logins = self._log.mark()
        return logins.controls == 1

    def check(self, everything: bool = False) -> Check:
        """Say what is wrong. Tries the old logins that were not tried since their end; all with ``everything``."""
        entry = self.entry()
        current = _login(entry["current"])
        # A revoked value may be kept, as what it is.
        alive = {slot: entry.get(slot) or {"revoked": ""} for slot in ("pending", "previous")}
        problems = [f"the store still has a {slot} value" for slot, value in alive.items() if "revoked" not in value]
        problems += self._published(current)
        problems += self._containers(current)
        problems += self._memory()
        problems += self._left_behind()
        problems += self._up_would_change()
        dead = self.seen - {current}
        logins = [current, *sorted(dead if everything else dead - self.tried)]
        for login, answer in zip(logins, self.log_in(logins), strict=True):
            which, wanted = ("the current", "accepted") if login == current else ("an earlier", "refused")
            if answer != wanted:
                problems.append(f"{which} login of {login[0]} is {answer}, not {wanted}")
        self.tried |= set(logins[1:])
        return Check(problems, len(logins) - 1)

    def _published(self, current: tuple[str, str]) -> list[str]:
        lines = (self.stack.directory / ".env").read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        found = (values.get("POSTGRES_USER", "chat4all"), values.get("POSTGRES_PASSWORD", "").strip("'\""))
        return [] if found == current else [f".env holds another login than the store (user {found[0]})"]

    def _containers(self, current: tuple[str, str]) -> list[str]:
        ids = self.stack.docker("ps", "--all", "--quiet", "--filter", self._mine).split()
        problems = []
        counts: Counter[str] = Counter()
        for facts in json.loads(self.stack.docker("inspect", *ids)):
            name, state = facts["Name"].lstrip("/"), facts["State"]
            service = facts["Config"]["Labels"]["com.docker.compose.service"]
            counts[service] += 1
            status = state.get("Health", {}).get("Status") or (state["Status"], state["ExitCode"])
            wanted = ("exited", 0) if service == JOB else "healthy" if service in CHECKED else ("running", 0)
            if status != wanted:
                problems.append(f"{name} is {status}")
            if INTERIM_NAME.match(name):
                problems.append(f"{name} has the name of a container on its way")
            values = dict(item.split("=", 1) for item in facts["Config"]["Env"] if "=" in item)
            login = tuple(values.get(f"SPRING_DATASOURCE_{key}") for key in ("USERNAME", "PASSWORD"))
            if service != SERVER and login != current:
                problems.append(f"{name} has another login than the store")
        if counts != EXPECTED:
            problems.append(f"containers: {dict(counts)} instead of {EXPECTED}")
        return problems

    def _memory(self) -> list[str]:
        folder = self.stack.directory / ".chat4all"
        state = json.loads((folder / "state.json").read_text())
        problems = []
        if state.get("lease"):
            problems.append(f"the lock is still held by {state['lease']['rotation']}")
        if state.get("records"):
            problems.append(f"unfinished: {', '.join(state['records'])}")
        journal = folder / "rollout.json"
        if journal.exists() and json.loads(journal.read_text()):
            problems.append(f"rollout.json: {journal.read_text()}")
        return problems + _ledger(folder, state)

    def _left_behind(self) -> list[str]:
        folders = [self.stack.directory, self.stack.directory / ".chat4all", self.store_folder]
        found = [path for folder in folders for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]
        return [f"left behind: {path.name}" for path in found]

    def _up_would_change(self) -> list[str]:
        """Return what a plain ``docker compose up -d`` would do, beyond running an ended job again."""
        done = subprocess.run(
            ["docker", "compose", "--dry-run", "up", "-d"],
            cwd=self.stack.directory,
            env={
                name: value for name, value in self.plays.environment.items() if not name.startswith(harness.SHADOWING)
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            return [f"docker compose up --dry-run failed: {done.stderr.strip().splitlines()[-1]}"]
        planned = PLANNED.findall(done.stdout + done.stderr)
        if not re.search(rf"{SERVER}-1\s+Running", done.stdout + done.stderr):
            return ["docker compose up --dry-run does not say what it would do"]
        rows = {f"{name} {what}" for name, what in planned if what != "Starting" or f"-{JOB}-" not in name}
        return [f"docker compose up would change: {row}" for row in sorted(rows)]

    def until_nothing_works(self, runs: list[Run], timeout: float = 60) -> bool:
        """Wait until no process of these runs is left."""
        return _until(lambda: not any(run.modules_at_work() for run in runs), timeout)


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _login(slot: dict[str, Any]) -> tuple[str, str]:
    return slot["user"], slot["password"]


def _ledger(folder: Path, state: dict[str, Any]) -> list[str]:
    """Return what is wrong with the ledger, its end as the state remembers it included."""
    try:
        from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Ledger
        from ansible_collections.chat4all.secrets.plugins.module_utils.state import ledger_end
    except ImportError:  # this version keeps none
        return []
    entries, problem = Ledger(str(folder)).verify(ledger_end(state))
    return [f"ledger: {problem or 'is empty'}"] if problem or not entries else []
