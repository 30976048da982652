# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold when a rotation has ended, however it came there; looked at from outside."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.chat4all.secrets.plugins.module_utils import dotenv
from ansible_collections.chat4all.secrets.plugins.module_utils.ledger import Ledger
from ansible_collections.chat4all.secrets.plugins.module_utils.state import ledger_end
from plays import Plays
from stack import SHADOWING, Stack


class Login(NamedTuple):
    user: str
    password: str


def published(stack: Stack) -> Login:
    """Return the login that ``.env`` gives to the consumers."""
    env = dotenv.values((stack.directory / ".env").read_text())
    return Login(env.get("POSTGRES_USER", "chat4all"), env["POSTGRES_PASSWORD"])


def stored(plays: Plays, slot: str = "current", credential: str = "postgres") -> Login | None:
    """Return the login of a slot of the store."""
    found = plays.store()["secrets_credentials"][credential].get(slot)
    return Login(found["user"], found["password"]) if found else None


def stopped_at_drain(stack: Stack, plays: Plays) -> subprocess.CompletedProcess[str]:
    """Have a rotation stop because a stranger uses the old value: ``.env`` and the services have the new one by then."""
    with stack.foreign_session(*stored(plays)):
        done = plays.run("rotate-db.yml")
    assert done.returncode != 0 and "STOPPED  postgres at drain" in done.stdout, done.stdout
    return done


# What Compose calls a container until the one that it replaces is gone.
INTERIM_NAME = re.compile(r"/[0-9a-f]{12}_")
WORKS_AS_OWNER = "SELECT CASE current_user WHEN 'chat4all' THEN 'accepted' ELSE 'works as ' || current_user END;"


def log_in(stack: Stack, login: Login) -> str:
    """Log in over the containers' network; return ``accepted`` where the session works as the owner, or why not."""
    user, password = (re.sub(r"(['\\])", r"\\\1", part) for part in login)
    connect = f"\\connect \"host=postgres user='{user}' password='{password}' dbname=chat4all\"\n"
    [server] = stack.containers("postgres")
    done = subprocess.run(
        ["docker", "exec", "-i", server, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "chat4all", "-d", "chat4all"],
        input=f"{connect}{WORKS_AS_OWNER}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()


def containers(stack: Stack) -> list[dict[str, Any]]:
    """Return ``docker inspect`` of every container of the project, stopped ones too."""
    mine = f"label=com.docker.compose.project={stack.project}"
    ids = stack.docker("ps", "--all", "--quiet", "--filter", mine).split()
    return json.loads(stack.docker("inspect", *ids)) if ids else []


WORK = "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/work').read()"


def services_work(stack: Stack, timeout: float = 30) -> None:
    """Every consumer logs in anew, reads and writes; one that passes requests on may need a moment to be found again."""
    deadline = time.monotonic() + timeout
    for name in stack.consumers:
        [container] = stack.containers(name)
        while (said := failure_of(container)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not said, f"{name} does not work: {said}"


def failure_of(container: str) -> str:
    """Have a consumer's container log in, read and write; return why it does not, nothing where it does."""
    command = ["docker", "exec", container, "python3", "-c", WORK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr[-200:] if done.returncode else ""


def deployed(stack: Stack, container: dict[str, Any]) -> Login:
    """Return the login that a consumer's container was given, by its environment or as a file."""
    env = dict(pair.split("=", 1) for pair in container["Config"]["Env"])
    password = env.get("SPRING_DATASOURCE_PASSWORD")
    if password is None:
        password = stack.docker("exec", container["Id"], "cat", "/run/secrets/db_password")
    return Login(env["SPRING_DATASOURCE_USERNAME"], password)


def left_to_do(stack: Stack) -> list[str]:
    """Return what a plain ``docker compose up -d`` would make or make anew."""
    done = subprocess.run(
        ["docker", "compose", "up", "-d", "--dry-run"],
        cwd=stack.directory,
        env={name: value for name, value in os.environ.items() if not name.startswith(SHADOWING)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "DRY-RUN MODE" in done.stderr, done.stderr
    return re.findall(r"Container \S+ +(?:Recreate|Creating)\b", done.stderr)


def check_end(
    stack: Stack, plays: Plays, dead: Iterable[Login] = (), others: Iterable[str] = ("migrate", "postgres", "proxy")
) -> None:
    """Assert that one login is stored, published, deployed and valid, that the ``dead`` ones are refused, and that
    nothing is left behind: no unfinished value, no lock, no stray container, nothing for ``docker compose up``."""
    entry = plays.store()["secrets_credentials"]["postgres"]
    current = stored(plays)
    # A revoked value is kept, to recognize a server that was restored.
    left = entry.get("pending") or "revoked" not in entry.get("previous", {"revoked": ""})
    assert not left, f"unfinished in the store: {sorted(entry)}"
    assert published(stack) == current, ".env and store disagree"

    found = check_containers(stack, {*others, *stack.consumers})
    for name in stack.consumers:
        assert deployed(stack, found[name]) == current, f"{name} was not given what is stored"
    services_work(stack)

    assert (said := log_in(stack, current)) == "accepted", f"{current.user}, which is the current login: {said}"
    for login in dead:
        assert "authentication failed" in (said := log_in(stack, login)), f"{login.user}, which shall be dead: {said}"
    valid = {current.user}
    if admin := stored(plays, "admin"):
        valid.add(admin.user)
        assert (said := log_in(stack, admin)) == f"works as {admin.user}", f"{admin.user}, which is stored: {said}"
    may = set(stack.psql("SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL").split())
    assert may == valid, f"these logins are valid: {', '.join(sorted(may))}"

    check_nothing_left(stack, plays)


def check_containers(stack: Stack, services: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Assert that each service has one container, under its own name, that works; returns them by service."""
    found = containers(stack)
    names = [one["Config"]["Labels"]["com.docker.compose.service"] for one in found]
    assert sorted(names) == sorted(services), f"stray or missing containers: {[one['Name'] for one in found]}"
    interim = [one["Name"] for one in found if INTERIM_NAME.match(one["Name"])]
    assert not interim, f"a container still has an interim name: {interim}"
    for name, one in zip(names, found, strict=True):
        state = one["State"]
        if name == "migrate":
            assert (state["Status"], state["ExitCode"]) == ("exited", 0), f"{name}: {state['Status']}"
            continue
        assert state["Status"] == "running", f"{name}: {state['Status']}"
        assert state.get("Health", {}).get("Status", "healthy") == "healthy", f"{name}: {state['Health']['Status']}"
    return dict(zip(names, found, strict=True))


def check_nothing_left(stack: Stack, plays: Plays) -> None:
    """Assert that there is nothing to do for ``docker compose up``, no lock, and no temporary file."""
    assert not (planned := left_to_do(stack)), f"docker compose up would change: {planned}"
    check_unlocked(stack.directory / ".chat4all")
    litter = [path.name for folder in (stack.directory, plays.folder) for path in folder.glob(".*.tmp")]
    assert not litter, f"temporary files are left: {litter}"


def check_settled(stack: Stack, plays: Plays) -> None:
    """Assert ``check_end`` with the previous login dead, and that ``status.yml`` says so, too."""
    previous = stored(plays, "previous")
    check_end(stack, plays, [previous] if previous else [])
    status = plays.run("status.yml")
    assert status.returncode == 0, status.stdout
    assert "current=env=server; 4/4 services" in " ".join(status.stdout.split())
    assert "lock: none" in status.stdout and "ledger: intact" in status.stdout


def check_unlocked(state_dir: Path) -> None:
    """Assert that nobody holds the deployment, no rotation is remembered as unfinished, and the ledger is intact."""
    state = json.loads((state_dir / "state.json").read_text())
    entries, problem = Ledger(str(state_dir)).verify(ledger_end(state))
    assert entries or not state.get("outcomes"), "nothing is in the ledger"
    assert not problem, f"the ledger: {problem}"
    assert not state.get("lease"), f"a lease is left: {state['lease']}"
    assert not state.get("records"), f"a rotation is left: {state['records']}"
    with (state_dir / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left = [path.name for path in state_dir.glob(".*.tmp")]
    journal = state_dir / "rollout.json"
    if journal.exists() and json.loads(journal.read_text()):
        left.append(journal.name)
    assert not left, f"left in the target's memory: {left}"
