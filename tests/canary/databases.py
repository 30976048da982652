# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database's password: rotated whole, broken in every step, killed, and with a grace."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ground import ScenarioError

if TYPE_CHECKING:
    from scenario import Scenario

SET = (r"Using module file .*/postgresql_credential\.py", "SSH: EXEC")
ROTATE = ("rotate.yml", "-e", "rotate=postgres")
ABORT = ("abort.yml", "-e", "rotate=postgres")


class Databases:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.stack, self.plays = scenario, scenario.stack, scenario.plays

    def rotate(self, name: str, *arguments: str, **options: Any) -> str:
        return self.scenario.run(name, *ROTATE, *arguments, **options)

    def begin(self) -> None:
        """A whole rotation, and one that comes to nothing."""
        # User names are no secrets, and stay readable.
        shows = r"set +chat4all_1 accepted beside chat4all(.|\n)*ROTATED"
        self.rotate("whole rotation", runner=True, ends=0, shows=shows)
        self.open_fails()

    def part(self) -> None:
        self.roll_out_fails()
        self.scenario.killed("postgres at set", *SET, command=ROTATE)

    def whole(self) -> None:
        self.early_steps_fail()
        self.part()
        self.late_steps_fail()
        self.scenario.killed(
            "postgres at roll out", r"^\d\d:\d\d:\d\d db1 +roll out ", command=ROTATE, then=ABORT, shows="ABORTED"
        )
        self.grace()

    def open_fails(self) -> None:
        env = (self.stack.directory / ".env").read_text()
        cut = re.sub(r"(?m)^POSTGRES_PASSWORD=.*$", f'POSTGRES_PASSWORD="{self.current["password"]}', env)
        self.scenario.env_refused("open fails, .env malformed", cut, "is never closed|not KEY=value", ROTATE)
        bad = f"{env}\nBROKEN=${{{self.current['password']}\n"
        self.scenario.env_refused("open fails, .env with a bad template", bad, "docker compose config failed", ROTATE)
        if not self.scenario.part:
            with self.scenario.env_replaced(None):
                self.rotate("open fails, .env is a folder", ends=2)

    def early_steps_fail(self) -> None:
        store, stopped = self.plays.folder, "STOPPED  postgres at "
        with self.scenario.unwritable(store):
            self.rotate("create fails, store not writable", ends=2, shows=stopped + "create")
        self.no_roles_change()
        locked = {r"canceling statement due to lock timeout": partial(self.end, "locker")}
        self.rotate("set fails, roles locked", ends=2, shows=stopped + "set", at=locked)
        with self.no_login(self.idle_user):
            self.rotate("test fails, login refused", ends=2, shows=stopped + "(set|test)")
        self.publish_fails()

    def publish_fails(self) -> None:
        env = self.stack.directory / ".env"
        aside = self.scenario.folder / "env-aside"

        def make_folder() -> None:
            env.rename(aside)
            env.mkdir()

        def restore() -> None:
            env.rmdir()
            aside.rename(env)

        at = {r"^\d\d:\d\d:\d\d db1 +test ": make_folder, "FAILED! =>": restore}
        shows = "STOPPED  postgres at publish"
        self.rotate("publish fails, .env becomes a folder", ends=2, shows=shows, at=at)

    @contextlib.contextmanager
    def no_login(self, user: str) -> Iterator[None]:
        """Have a server that knows a user's password and does not let it in."""
        body = f"BEGIN IF session_user = '{user}' THEN RAISE EXCEPTION 'not today'; END IF; END"
        self.stack.psql(f"CREATE FUNCTION no_login() RETURNS event_trigger LANGUAGE plpgsql AS $${body}$$")
        self.stack.psql("CREATE EVENT TRIGGER no_login ON login EXECUTE FUNCTION no_login()")
        try:
            yield
        finally:
            self.stack.psql("DROP EVENT TRIGGER no_login; DROP FUNCTION no_login")

    def roll_out_fails(self) -> None:
        self.stack.plant_fault("message-service", "log-failure")
        self.rotate("roll out fails, service does not work", ends=2, shows="STOPPED  postgres at roll out")
        self.stack.plant_fault("message-service", None)

    def late_steps_fail(self) -> None:
        """One roll-out, after which a rerun comes one step further each time."""
        old, stopped = self.current, "STOPPED  postgres at "
        foreign = self.hold("SELECT pg_sleep(300);", "foreign", old["user"], old["password"])
        soon = ("-e", json.dumps({"rotate_drain": {"timeout": 3}}))
        self.rotate("drain fails, a foreign session", *soon, ends=2, shows=stopped + "drain")
        self.end("foreign")
        foreign.wait()
        drained = r"^\d\d:\d\d:\d\d db1 +drain "
        self.rotate(
            "finish fails, store not writable",
            ends=2,
            shows=stopped + "finish",
            at={drained: partial(self.scenario.seal, self.plays.folder)},
        )
        self.scenario.open(self.plays.folder)
        pause = partial(self.stack.docker, "pause", self.stack.server)
        try:
            self.rotate("revoke fails, server paused", ends=2, shows=stopped + "(finish|revoke)", at={drained: pause})
        finally:
            self.stack.docker("unpause", self.stack.server)
        self.stack.wait()
        self.rotate("the rerun", ends=0, shows="only the old value's end is left")

    def no_roles_change(self) -> subprocess.Popen[bytes]:
        """Keep everybody from changing a role, so that the statement with the verifier fails."""
        return self.hold("BEGIN; LOCK TABLE pg_authid IN SHARE MODE; SELECT pg_sleep(90);", "locker")

    def hold(self, sql: str, application: str, user: str = "", password: str = "") -> subprocess.Popen[bytes]:
        """Begin a session that lasts; with a user it comes over the network, as a client's does."""
        target = f"application_name={application}" + (f" host=postgres user={user} dbname=chat4all" if user else "")
        command = ["docker", "exec", "-i", self.stack.server, "psql", "-X", "-q"]
        command += ["-W", "-d", target] if user else ["-d", f"{target} user=chat4all dbname=chat4all"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.stdin.write((f"{password}\n" if user else "").encode() + sql.encode() + b"\n")
        process.stdin.close()
        sleeping = (
            f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND wait_event = 'PgSleep'"
        )
        while self.stack.psql(sleeping) != "1":
            if process.poll() is not None:
                raise ScenarioError(f"the session {application} did not begin")
            time.sleep(0.05)
        return process

    def end(self, application: str) -> None:
        self.stack.psql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'"
        )

    @property
    def idle_user(self) -> str:
        """The user whose turn it is."""
        user = self.current["user"]
        return "chat4all_2" if user == "chat4all_1" else "chat4all_1"

    @property
    def current(self) -> dict[str, str]:
        return self.plays.store()["secrets_credentials"]["postgres"]["current"]

    def grace(self) -> None:
        self.plays.variables["secrets_catalog"]["postgres"] = {"grace": "1d"}
        self.plays.write_inventory()
        self.rotate("rotation with a grace", ends=0, shows="valid until")
        self.scenario.run("status", "status.yml", ends=0, shows="serial")
        revoke = ("-e", "revoke=postgres", "-e", "end_grace=true")
        self.scenario.run("revoke", "revoke.yml", *revoke, ends=0, shows="dead")
