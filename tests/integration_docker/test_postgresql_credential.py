# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alternating PostgreSQL logins on real servers: nothing changes hands, the old value dies, nothing shows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import state
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate, scram_sha_256
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import encoded_forms
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import identifier, literal
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_reach import conninfo
from ansible_collections.chat4all.secrets.plugins.modules import postgresql_credential, postgresql_credential_info
from images import versions

# 16, the official image, where images can be pulled; tests/images/images.py --list says where each comes from.
VERSIONS = versions("postgres")
OWNER = "chat4all"
ADMIN = f"{OWNER}_admin"

Slot = dict[str, str]


def docker(*arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done


def slot(user: str, password: str | None = None) -> Slot:
    return {"user": user, "password": password or generate().value}


class Lab:
    """A server as the official image makes it, a client on its network, and the two modules for it."""

    def __init__(self, version: str, name: str, *options: str, environment: str = "") -> None:
        self.version = version
        self.name = f"postgres-helper-{os.getpid()}-{name}-{version}"
        self.server, self.client, self.network = (f"{self.name}-{part}" for part in ("server", "client", "network"))
        self.first = slot(OWNER)
        self.admin = slot(ADMIN)
        self.options = options
        self.environment = environment

    def __enter__(self) -> Lab:
        image = f"chat4all-test/postgres:{self.version}"
        try:
            docker("network", "create", self.network)
            environment = f"POSTGRES_USER={OWNER}\nPOSTGRES_DB={OWNER}\nPOSTGRES_PASSWORD={self.first['password']}\n"
            environment += self.environment
            joined = ("--network", self.network, "--env-file", "/dev/stdin")
            command = (
                "run",
                "-d",
                "--name",
                self.server,
                *joined,
                "--network-alias",
                "postgres",
                image,
                "postgres",
                *self.options,
            )
            docker(*command, stdin=environment)
            docker("run", "-d", "--init", "--name", self.client, *joined, "--entrypoint", "sleep", image, "infinity")
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        docker("rm", "-fv", self.server, self.client, check=False)
        docker("network", "rm", self.network, check=False)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while docker(
            "exec", "-e", "PGHOSTADDR=", self.server, "pg_isready", "-q", "-h", "127.0.0.1", check=False
        ).returncode:
            assert time.monotonic() < deadline, docker("logs", self.server).stderr
            time.sleep(0.2)

    # -- by hand

    def sql(self, statements: str, database: str = OWNER) -> str:
        """Run SQL as the first superuser on the trusted socket."""
        command = ("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", OWNER, "-d", database)
        return docker(
            "exec", "-i", "-e", "PGOPTIONS=-c role=none", self.server, *command, stdin=statements
        ).stdout.strip()

    def application(
        self, login: Slot, statements: str, database: str = OWNER, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run SQL as a consumer does: from another container, over the network, with its password."""
        done = docker(*self._application(login, database), stdin=f"{login['password']}\n{statements}", check=False)
        assert not check or not done.returncode, done.stderr
        return done

    @contextlib.contextmanager
    def session(self, login: Slot) -> Iterator[subprocess.Popen[str]]:
        """A consumer's session that stays open."""
        with subprocess.Popen(
            ["docker", *self._application(login, OWNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            process.stdin.write(f"{login['password']}\nSELECT 'here';\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "here", process.stderr.read()
            try:
                yield process
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait(20)

    def _application(self, login: Slot, database: str) -> list[str]:
        connection = conninfo(host="postgres", user=login["user"], dbname=database, application_name="application")
        return [
            "exec",
            "-i",
            self.client,
            "psql",
            "-X",
            "-q",
            "-A",
            "-t",
            "-W",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            connection,
        ]

    def hba(self, text: str) -> None:
        """Replace pg_hba.conf."""
        script = 'cat > "$PGDATA/pg_hba.conf"; kill -HUP 1'
        docker("exec", "-i", "-u", "postgres", self.server, "sh", "-c", script, stdin=text)
        time.sleep(0.3)

    @contextlib.contextmanager
    def rules(self, text: str) -> Iterator[None]:
        before = docker("exec", self.server, "sh", "-c", 'cat "$PGDATA/pg_hba.conf"').stdout
        self.hba(text)
        try:
            yield
        finally:
            self.hba(before)

    def log(self) -> str:
        done = docker("logs", self.server)
        return done.stdout + done.stderr

    def roles(self) -> str:
        """Everything that the modules could change, verifiers included."""
        return self.sql(
            "SELECT json_agg(a ORDER BY rolname) FROM pg_authid a; SELECT json_agg(m) FROM pg_auth_members m;"
            "SELECT json_agg(s) FROM pg_db_role_setting s; SELECT json_agg(d) FROM pg_database d;"
        )

    # -- the modules

    def credential(self, login: Slot, current: Slot, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        return postgresql_credential.work(self.arguments(login, current, **options), check_mode)

    def arguments(self, login: Slot, current: Slot, **options: Any) -> dict[str, Any]:
        given = {
            "container": self.server,
            "host": "postgres",
            "port": 5432,
            "admin": None,
            "owner": OWNER,
            "databases": [],
        }
        given |= {
            "state": "present",
            "strategy": "pair",
            "iterations": 4096,
            "state_dir": None,
            "holder": None,
            "ledger": [],
            "refused_since": None,
            "own_refusals": 0,
        }
        return given | {"credential": login, "current": current, "admin_login": self.admin} | options

    def info(self, **options: Any) -> dict[str, Any]:
        logins = [{"label": label, **options.pop(label)} for label in ("one", "two") if label in options]
        given = {
            "container": self.server,
            "host": "postgres",
            "port": 5432,
            "admin": None,
            "owner": OWNER,
            "databases": [],
        }
        given |= {
            "credentials": logins,
            "idle_user": None,
            "idle_for": 0.5,
            "timeout": 5,
            "refused_since": None,
            "own_refusals": 0,
        }
        return postgresql_credential_info.work(given | options)

    def refusal(self, *arguments: Any, **options: Any) -> str:
        """Return the one line with which the module refuses, in check mode as well; it must have touched nothing."""
        before = self.roles()
        messages = []
        for check_mode in (True, False):
            with pytest.raises(SecretsError) as caught:
                self.credential(*arguments, check_mode=check_mode, **options)
            messages.append(caught.value.message)
        assert messages[0] == messages[1] and "\n" not in messages[0]
        assert self.roles() == before
        return messages[0]

    def rotate(self, current: Slot, user: str) -> Slot:
        """One rotation without a grace."""
        new = slot(user)
        assert self.credential(new, current)["changed"]
        assert self.credential(current, new, state="absent")["changed"]
        return new


@pytest.fixture(scope="module", params=VERSIONS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """One server for tests that leave it as usable as before: whatever logs in, owner and database stay."""
    # log_line_prefix stays PostgreSQL's own, "%m [%p] ": what the command line sets could not be altered later.
    options = ("-c", "log_statement=all", "-c", "log_min_duration_statement=0")
    with Lab(request.param, "shared", *options) as running:
        yield running


@pytest.fixture
def fresh(lab: Lab) -> Iterator[Lab]:
    """The shared server, without any login of ours before and after."""
    forget(lab)
    yield lab
    forget(lab)


def forget(lab: Lab) -> None:
    roles = lab.sql("SELECT quote_ident(rolname) FROM pg_roles WHERE oid >= 16384").splitlines()
    drops = "".join(f"DROP OWNED BY {role}; DROP ROLE {role};" for role in roles)
    lab.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = "
        "'client backend';"
        f"SET log_statement = none; SET log_min_duration_statement = -1; {drops}"
        "DO $$DECLARE d name; BEGIN FOR d IN SELECT datname FROM pg_database LOOP "
        f"EXECUTE format('ALTER ROLE {OWNER} IN DATABASE %I RESET ALL', d); END LOOP; END$$;"
        f"ALTER ROLE {OWNER} RESET ALL; ALTER ROLE {OWNER} CONNECTION LIMIT -1 "
        f"PASSWORD {literal(scram_sha_256(lab.first['password']))};"
        "GRANT CONNECT ON DATABASE postgres TO PUBLIC; DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE "
        "ON SCHEMA public TO PUBLIC;"
    )


# -- three rotations

OWNERS = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


def test_three_rotations_with_ddl_between_them_change_no_owner(fresh: Lab) -> None:
    lab = fresh
    lab.sql(
        f"ALTER ROLE {OWNER} SET statement_timeout = '61s'; ALTER ROLE {OWNER} SET app.tenant = 'it''s \\ us';"
        f"""ALTER ROLE {OWNER} IN DATABASE {OWNER} SET search_path = "$user", public, "Odd, name";"""
    )
    current = lab.first
    lab.application(
        current, "CREATE TABLE t0 (id serial PRIMARY KEY, by text); INSERT INTO t0 (by) VALUES (session_user);"
    )
    for number, user in enumerate((f"{OWNER}_1", f"{OWNER}_2", f"{OWNER}_1"), 1):
        new = slot(user)
        assert lab.credential(new, current)["changed"]
        assert not lab.credential(new, current)["changed"]
        assert lab.credential(new, current)["owner_superuser"]
        found = lab.info(one=current, two=new)
        for label, login in (("one", current), ("two", new)):
            assert found["logins"][label] == {
                "status": "accepted",
                "reason": "",
                "databases": {
                    name: {"current_user": OWNER, "session_user": login["user"]} for name in (OWNER, "postgres")
                },
            }
        # While both are valid each reads and alters what the other has made.
        for step, login in enumerate((current, new, current, new)):
            table = f"t{number}_{step}"
            lab.application(
                login,
                "DISCARD ALL; RESET ROLE; INSERT INTO t0 (by) VALUES (session_user);"
                f"CREATE TABLE {table} (id int, by text); INSERT INTO {table} VALUES (1, session_user);"
                "DO $$DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP "
                f"EXECUTE format('ALTER TABLE %I ADD COLUMN {table}_c int DEFAULT 1', t); "
                "EXECUTE format('UPDATE %I SET by = by', t); END LOOP; END$$;",
            )
        assert lab.sql(OWNERS) == OWNER
        settings = (
            "SELECT current_setting('statement_timeout'), current_setting('app.tenant'), current_setting('search_path')"
        )
        assert lab.application(new, settings).stdout.strip() == """61s|it's \\ us|"$user", public, "Odd, name\""""
        result = lab.credential(current, new, state="absent")
        assert result["changed"] and "password authentication failed" in result["refused"]
        again = lab.credential(current, new, state="absent")
        assert not again["changed"] and "password authentication failed" in again["refused"]
        assert "password authentication failed" in lab.application(current, "SELECT 1", check=False).stderr
        current = new
    assert lab.sql("SELECT count(*) FROM t0") == str(1 + 3 * 4)
    # What is taken from the owner is taken from its logins, and what was set on a login alone goes; the role stays.
    lab.sql(
        f"ALTER ROLE {OWNER} RESET statement_timeout; ALTER ROLE {OWNER} SET lock_timeout = '62s';"
        f"ALTER ROLE {OWNER}_2 IN DATABASE postgres SET role = 'none'; ALTER ROLE {OWNER}_2 SET work_mem = '5MB'"
    )
    changes = lab.credential(slot(f"{OWNER}_2"), current)["actions"]
    assert {"setting statement_timeout", "setting lock_timeout", "setting work_mem", "setting role in postgres"} <= set(
        changes
    )
    assert "setting role" not in changes
    settings = f"SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = '{OWNER}_2'::regrole ORDER BY 1"
    assert lab.sql(settings).splitlines() == [
        "app.tenant=it's \\ us",
        "lock_timeout=62s",
        f"role={OWNER}",
        'search_path="$user", public, "Odd, name"',
    ]


def test_the_first_superuser_keeps_its_trusted_socket_and_is_not_nologin(fresh: Lab) -> None:
    lab = fresh
    lab.application(lab.first, "CREATE TABLE kept (id int)")
    lab.rotate(lab.first, f"{OWNER}_1")
    assert lab.sql(f"SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = '{OWNER}'") == "t|t"
    dump = docker("exec", lab.server, "pg_dump", "-U", OWNER, OWNER).stdout
    assert "CREATE TABLE public.kept" in dump and f"OWNER TO {OWNER}" in dump
    assert lab.application(lab.admin, "SELECT current_setting('is_superuser')").stdout.strip() == "on"


def test_a_revoked_login_loses_its_sessions_and_its_login(fresh: Lab) -> None:
    lab = fresh
    one = lab.rotate(lab.first, f"{OWNER}_1")
    two = slot(f"{OWNER}_2")
    lab.credential(two, one)
    backup = subprocess.Popen(
        ["docker", "exec", "-i", lab.server, "psql", "-U", OWNER, "-tc", "SELECT pg_sleep(2), 'backup done'"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with lab.session(one) as old, lab.session(two) as new:
        found = [(s["user"], s["application"], s["count"]) for s in lab.info()["sessions"]]
        assert found == [(one["user"], "application", 1), (two["user"], "application", 1)]
        result = lab.credential(one, two, state="absent")
        assert result["ended_sessions"] == 1
        for process in (old, new):
            process.stdin.write("SELECT 'alive';\n")
            process.stdin.flush()
        assert new.stdout.readline().strip() == "alive"
        assert old.stdout.readline() == ""
        assert "terminating connection due to administrator command" in old.stderr.read()
    assert "backup done" in backup.communicate()[0]
    assert lab.sql(f"SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = '{one['user']}'") == "f|t"
    # With the next rotation it is a login again.
    lab.rotate(two, f"{OWNER}_1")


def test_an_owner_that_is_no_superuser(fresh: Lab) -> None:
    """Its limit and expiry hold for both logins, its groups serve both, and it cannot log in any more itself."""
    lab = fresh
    first = slot("app")
    lab.sql(
        "CREATE ROLE app LOGIN REPLICATION CONNECTION LIMIT 7 VALID UNTIL '2999-01-02 03:04:05+02' PASSWORD "
        f"'{first['password']}';"
        "CREATE ROLE readers; GRANT readers TO app; CREATE TABLE secret_table (id int); GRANT SELECT ON secret_table "
        "TO readers;"
        "CREATE ROLE openers NOINHERIT; GRANT openers TO app; GRANT CREATE ON SCHEMA public TO app;"
        "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO app;"
    )
    lab.application(first, "CREATE TABLE of_app (id int)")
    new = slot("app_1")
    result = lab.credential(new, first, owner="app")
    assert result["databases"] == [OWNER, "postgres"] and not result["owner_superuser"]
    assert lab.info(owner="app", one=new)["logins"]["one"]["status"] == "accepted"
    attributes = (
        "SELECT rolconnlimit, rolvaliduntil AT TIME ZONE 'UTC', rolreplication, rolsuper FROM pg_roles WHERE rolname = "
    )
    assert lab.sql(attributes + "'app_1'") == lab.sql(attributes + "'app'") == "7|2999-01-02 01:04:05|t|f"
    lab.application(
        new, "SELECT * FROM secret_table; SET ROLE openers; RESET ROLE; ALTER TABLE of_app ADD COLUMN b int"
    )
    lab.credential(first, new, owner="app", state="absent")
    assert lab.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'") == "f"
    assert lab.application(new, "SELECT current_user").stdout.strip() == "app"
    # A changed limit is copied without touching the password, under running sessions as well.
    lab.sql("ALTER ROLE app CONNECTION LIMIT 9")
    two = slot("app_2")
    lab.credential(two, new, owner="app")
    lab.sql("ALTER ROLE app CONNECTION LIMIT 8")
    with lab.session(two):
        assert lab.credential(two, new, owner="app")["actions"] == ["limit"]
    lab.sql("ALTER ROLE app VALID UNTIL '2001-01-01'")
    assert "VALID UNTIL of app is over" in lab.refusal(slot("app_2"), new, owner="app")


def test_the_right_to_connect_follows_an_owner_that_has_it_as_superuser(fresh: Lab) -> None:
    lab = fresh
    lab.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    # The superuser owns the database as well; without that right nothing but being a superuser lets it in.
    lab.sql(
        f"CREATE ROLE somebody; ALTER DATABASE postgres OWNER TO somebody; REVOKE ALL ON DATABASE postgres FROM {OWNER}"
    )
    try:
        new = slot(f"{OWNER}_1")
        lab.credential(new, lab.first)
        assert lab.info(one=new)["logins"]["one"]["status"] == "accepted"
        lab.sql(f"REVOKE CONNECT ON DATABASE postgres FROM {OWNER}_1")
        found = lab.info(one=new)["logins"]["one"]
        assert found["status"] == "unknown" and "in database postgres: FATAL:  permission denied" in found["reason"]
        assert lab.credential(new, lab.first)["actions"] == ["right to connect"]
        assert lab.info(one=new)["logins"]["one"]["status"] == "accepted"
    finally:
        lab.sql(f"ALTER DATABASE postgres OWNER TO {OWNER}")


def test_names_that_need_quoting(fresh: Lab) -> None:
    lab = fresh
    owner = """O'Neil "the" \\ $wait$ ümlaut :name"""
    # Whoever may create a database chooses its name, and a line of its own would be a command to psql.
    database = """d"b' \\ ß\n\\! touch /tmp/injected\r"""
    first = slot(owner, """pass'word" \\connect $$ ñ :x #""")
    lab.sql(
        f"CREATE ROLE {identifier(owner)} LOGIN PASSWORD {literal(first['password'])};\n"
        f"CREATE DATABASE {identifier(database)} OWNER {identifier(owner)};"
    )
    try:
        names = [f"{owner}_1", "x" * 63]
        current = first
        for name in names:
            new = slot(name, first["password"] + name)
            lab.credential(new, current, owner=owner)
            found = lab.info(owner=owner, one=new, idle_user=name)
            assert found["logins"]["one"]["status"] == "accepted", found["logins"]
            assert found["logins"]["one"]["databases"][database] == {"current_user": owner, "session_user": name}
            assert found["idle"]
            lab.credential(current, new, owner=owner, state="absent")
            current = new
        assert docker("exec", lab.server, "ls", "/tmp").stdout.split() == []
        assert "line break" in lab.refusal(slot("a\nb"), current, owner=owner)
        assert "credential.password: is empty" in lab.refusal({"user": "empty", "password": ""}, current, owner=owner)
        assert "has 64 bytes" in lab.refusal(slot("ü" * 32), current, owner=owner)
    finally:
        lab.sql(f"DROP DATABASE {identifier(database)}", "postgres")


# -- refusals


def test_what_is_in_use_or_not_ours_is_refused(fresh: Lab) -> None:
    lab = fresh
    first, name = lab.first, f"{OWNER}_1"
    new = slot(name)
    assert "in use" in lab.refusal(slot(OWNER), first)
    assert "is the current login" in lab.refusal(slot(OWNER), first, state="absent")
    assert "role nobody does not exist" in lab.refusal(new, first, owner="nobody")
    assert "databases: nothing does not exist" in lab.refusal(new, first, databases=["nothing"])
    assert "admin_login: chat4all is a login of the application" in lab.refusal(new, first, admin_login=slot(OWNER))
    lab.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'somebody'; SET ROLE {name}; CREATE TEMP TABLE x (id int); RESET ROLE;")
    assert f"role {name} exists" in lab.refusal(new, first)
    lab.sql(f"GRANT {OWNER} TO {name}; CREATE TABLE theirs (id int); ALTER TABLE theirs OWNER TO {name}")
    assert "owns 1 objects" in lab.refusal(new, first)
    # Going back from there must not revoke what is somebody else's.
    before = lab.roles()
    assert lab.credential(new, first, state="absent")["actions"] == []
    assert lab.roles() == before
    lab.sql(f"DROP TABLE theirs; DROP ROLE {name}; CREATE ROLE {ADMIN} LOGIN SUPERUSER PASSWORD 'somebody'")
    assert f"admin_login: role {ADMIN} exists" in lab.refusal(new, first)
    lab.sql(f"DROP ROLE {ADMIN}; CREATE ROLE app; ALTER ROLE {OWNER} SET role = 'app'")
    assert "chat4all itself works as app; give owner: app" in lab.refusal(new, first)
    lab.sql(f"ALTER ROLE {OWNER} RESET role")
    assert "chat4all does not work as app" in lab.refusal(new, first, owner="app")


def test_a_current_login_that_a_restored_server_lacks_hinders_no_new_one(fresh: Lab) -> None:
    lab = fresh
    first, gone = lab.first, slot(f"{OWNER}_2")
    lab.sql(f"ALTER ROLE {OWNER} PASSWORD 'of-the-copy'")
    # A line for the group is for the login that is made again, as it was for the one that is gone.
    with lab.rules(f"local all all trust\nhost all +{OWNER} all scram-sha-256\nhost all all all scram-sha-256\n"):
        new = slot(f"{OWNER}_1")
        assert lab.credential(new, gone, check_mode=True)["changed"]
        result = lab.credential(new, gone)
        assert result["login"]["status"] == "accepted" and f"administrator {ADMIN}" in result["actions"]
        assert lab.application(new, "SELECT current_user").stdout.strip() == OWNER
        # Neither of both is ended while the current one cannot log in.
        for login in (new, first):
            assert f"current: {gone['user']} cannot log in" in lab.refusal(login, gone, state="absent")
        assert lab.credential(gone, new, state="absent")["refused"] == f"role {gone['user']} does not exist"


def test_a_foreign_session_on_the_idle_user_is_refused(fresh: Lab) -> None:
    lab = fresh
    one = slot(f"{OWNER}_1")
    lab.credential(one, lab.first)
    with lab.session(one):
        message = lab.refusal(slot(f"{OWNER}_1"), lab.first)
        assert f"{OWNER}_1 should be idle, but 1 sessions use it" in message
        # The same value once more touches nothing, so a rotation that was interrupted goes on.
        assert not lab.credential(one, lab.first)["changed"]
    assert lab.credential(slot(f"{OWNER}_1"), lab.first)["actions"] == ["password"]


def test_a_first_superuser_is_not_revoked_without_a_working_administrator(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    lab.credential(new, lab.first)
    absent = {"state": "absent"}
    assert "give admin_login" in lab.refusal(lab.first, new, **absent, admin_login=None)
    assert "logs in with this password" in lab.refusal(lab.first, new, **absent, admin_login=slot(ADMIN))
    with lab.rules(f"local all all trust\nhost all {ADMIN} all reject\nhost all all all scram-sha-256\n"):
        message = lab.refusal(lab.first, new, **absent)
        assert f"{ADMIN} would not get in over the network (pg_hba.conf: line 2 rejects {ADMIN}, from 1" in message
    before = lab.roles()
    with pytest.raises(SecretsError, match=f"the administrator {ADMIN} does not get in: could not translate host"):
        lab.credential(lab.first, new, **absent, host="no-such-host")
    assert lab.roles() == before
    assert "another password" in lab.refusal(lab.first, slot(new["user"]), **absent)
    assert lab.application(lab.first, "SELECT 1").stdout.strip() == "1"


def test_lines_for_one_user_in_pg_hba_are_refused_with_their_number(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    base = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
    with lab.rules(f"{base}# a comment\nhost {OWNER} {OWNER} all scram-sha-256\nhost all all all reject\n"):
        assert "pg_hba.conf line 4 is for chat4all and not for chat4all_1" in lab.refusal(new, lab.first)
    alike = f"{base}host all +{OWNER} all scram-sha-256\n"
    with lab.rules(alike):
        assert f"(pg_hba.conf: no line lets {ADMIN} in, from 1" in lab.refusal(new, lab.first)
    with lab.rules(f"{alike}host all {ADMIN} samenet scram-sha-256\n"):
        lab.credential(new, lab.first)
        assert lab.info(one=new)["logins"]["one"]["status"] == "accepted"
    with lab.rules(alike):
        # The first superuser could not be revoked; from then on nobody needs the administrator over the network.
        assert f"(pg_hba.conf: no line lets {ADMIN} in, from 1" in lab.refusal(new, lab.first)
    lab.credential(lab.first, new, state="absent")
    with lab.rules(alike):
        assert lab.credential(slot(f"{OWNER}_2"), new)["changed"]


def test_a_database_that_pg_hba_closes_is_no_consumers(fresh: Lab) -> None:
    lab = fresh
    with lab.rules(f"local all all trust\nhost {OWNER} all all scram-sha-256\nhost all all all reject\n"):
        current = lab.first
        for user in (f"{OWNER}_1", f"{OWNER}_2"):
            new = slot(user)
            made = lab.credential(new, current)
            assert (made["changed"], made["databases"]) == (True, [OWNER])
            found = lab.info(one=current, two=new)
            assert {login["status"] for login in found["logins"].values()} == {"accepted"}
            assert found["databases"] == [OWNER]
            assert "password authentication failed" in lab.credential(current, new, state="absent")["refused"]
            current = new
        # Whoever names it gets the server's answer.
        found = lab.info(one=current, databases=["postgres"])["logins"]["one"]
        assert found["status"] == "unknown" and "pg_hba.conf rejects connection" in found["reason"]
    # What other addresses may open matters still, although it cannot be tried from here.
    with lab.rules(
        f"local all all trust\nhost {OWNER} all 192.0.2.7/32 scram-sha-256\nhost postgres all all scram-sha-256\n"
    ):
        found = lab.info(one=current)
        assert found["databases"] == [OWNER, "postgres"]
        assert found["logins"]["one"]["status"] == "unknown"
    with lab.rules("local all all trust\nhost all all all reject\n"):
        found = lab.info(one=current)["logins"]["one"]
        assert found["status"] == "unknown" and "pg_hba.conf rejects connection" in found["reason"]


def test_a_login_that_trust_lets_in_proves_nothing(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    with lab.rules("local all all trust\nhost all all samenet trust\n"):
        found = lab.info(one=slot(OWNER))["logins"]["one"]
        assert found == {
            "status": "unknown",
            "reason": "pg_hba.conf line 2 lets anybody in as chat4all (trust)",
            "databases": {},
        }
        lab.credential(new, lab.first)
        with pytest.raises(SecretsError, match="still logs in over the network with the revoked password"):
            lab.credential(lab.first, new, state="absent")
    with lab.rules(f"local all all trust\nhost all {OWNER} all reject\nhost all all all scram-sha-256\n"):
        assert lab.info(one=lab.first)["logins"]["one"]["status"] == "unknown"
        with pytest.raises(SecretsError, match="its refusal could not be seen: could not translate host name"):
            lab.credential(lab.first, new, state="absent", host="no-such-host")
        assert lab.credential(lab.first, new, state="absent")["refused"].startswith("FATAL:  pg_hba.conf rejects")


@pytest.mark.parametrize("rest", ["host all all all reject\n", ""])
def test_what_pg_hba_refuses_does_not_hinder_a_revocation(fresh: Lab, rest: str) -> None:
    """A rotation that was refused for such a line has to find its way back, and a later one its end."""
    lab = fresh
    new = slot(f"{OWNER}_1")
    said = "FATAL:  pg_hba.conf rejects connection" if rest else "FATAL:  no pg_hba.conf entry for host"
    with lab.rules(f"local all all trust\nhost all {OWNER} all scram-sha-256\n{rest}"):
        assert "would not log in alike" in lab.refusal(new, lab.first)
        before = lab.roles()
        for _again in range(2):
            back = lab.credential(new, lab.first, state="absent")
            assert not back["changed"] and back["refused"] == f"role {OWNER}_1 does not exist"
        assert lab.roles() == before
        # A role of that name that is somebody else's is not ours to touch on the way back.
        lab.sql(f"CREATE ROLE {OWNER}_1 LOGIN PASSWORD 'somebody'")
        back = lab.credential(new, lab.first, state="absent")
        assert not back["changed"] and back["refused"].startswith(said)
        with pytest.raises(SecretsError, match="chat4all_1 has another password, of somebody else, but its refusal"):
            lab.credential(new, lab.first, state="absent", host="no-such-host")
        lab.sql(f"DROP ROLE {OWNER}_1")
    lab.credential(new, lab.first)
    with lab.rules(f"local all all trust\nhost all {OWNER} all scram-sha-256\n{rest}"):
        time.sleep(1.1)
        since = int(time.time())
        # It proves nothing of a candidate's value.
        assert lab.info(one=new)["logins"]["one"]["status"] == "unknown"
        gone = lab.credential(new, lab.first, state="absent")
        assert gone["actions"] == ["password", "login"] and gone["refused"].startswith(said)
        again = lab.credential(new, lab.first, state="absent")
        assert not again["changed"] and again["refused"].startswith(said)
        assert lab.sql(f"SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = '{OWNER}_1'") == "f|"
        # Such a line of the log names the address, so that none of these is taken for a client's.
        time.sleep(0.3)
        counted = lab.info(refused_since=since)
        assert (counted["refused_logins"], counted["own_refused_logins"]) == (0, 3)
        lab.application(new, "SELECT 1", check=False)
        time.sleep(0.3)
        assert lab.info(refused_since=since)["refused_logins"] == 1


def test_a_role_without_login_that_trust_lets_in_is_refused(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    lab.credential(new, lab.first)
    lab.credential(new, lab.first, state="absent")
    with lab.rules("local all all trust\nhost all all all trust\n"):
        again = lab.credential(new, lab.first, state="absent")
        assert again["refused"] == f'FATAL:  role "{OWNER}_1" is not permitted to log in'


def test_a_socket_that_asks_for_a_password(fresh: Lab) -> None:
    """The first user's own password serves before there is an administrator, the administrator's afterwards."""
    lab = fresh
    new = slot(f"{OWNER}_1")
    with lab.rules("local all all scram-sha-256\nhost all all all scram-sha-256\n"):
        with pytest.raises(SecretsError, match="no administrator gets in on the server's socket .*; give admin"):
            lab.credential(new, {"user": OWNER, "password": None}, admin_login=None)
        assert lab.credential(new, lab.first)["changed"]
        assert lab.credential(lab.first, new, admin=lab.admin, state="absent")["changed"]
        assert lab.info(one=new, admin=lab.admin)["logins"]["one"]["status"] == "accepted"
        with pytest.raises(SecretsError, match="chat4all_1|no password supplied"):
            lab.info(admin=new | {"password": "wrong-password"})
    with lab.rules("local all chat4all reject\nlocal all all trust\nhost all all all scram-sha-256\n"):
        lab.sql_as = None
        with pytest.raises(SecretsError, match="somebody is no superuser|does not exist"):
            lab.info(admin=slot("somebody"))


def test_a_first_rotation_needs_no_administrator_where_the_socket_asks(fresh: Lab) -> None:
    """Before it, the store knows nothing but the first user's own login."""
    lab = fresh
    new, wrong = slot(f"{OWNER}_1"), slot(OWNER)
    # Masking a weak password changes the messages; what they say must be understood all the same.
    weak = slot(OWNER, "password")
    lab.sql(f"ALTER ROLE {OWNER} PASSWORD 'password'")
    with lab.rules("local all all scram-sha-256\nhost all all all scram-sha-256\n"):
        assert lab.info(one=weak)["logins"]["one"]["status"] == "accepted"
        assert lab.info(one=lab.first, two=weak)["logins"]["one"]["status"] == "rejected"
    verifier = literal(scram_sha_256(lab.first["password"]))
    lab.sql(f"SET log_statement = none; SET log_min_duration_statement = -1; ALTER ROLE {OWNER} PASSWORD {verifier}")
    with lab.rules("local all all scram-sha-256\nhost all all all scram-sha-256\n"):
        found = lab.info(one=lab.first, two=new, idle_user=f"{OWNER}_1")
        assert (found["logins"]["one"]["status"], found["idle"]) == ("accepted", True)
        assert found["logins"]["two"]["status"] == "rejected"
        # The first candidate is wrong: it is tried once, on the socket, and judged by that.
        time.sleep(1.1)
        since = str(int(time.time()))
        found = lab.info(one=wrong, two=lab.first)["logins"]
        assert (found["one"]["status"], found["two"]["status"]) == ("rejected", "accepted")
        assert "password authentication failed" in found["one"]["reason"]
        time.sleep(0.3)
        log = docker("logs", "--since", since, lab.server)
        assert (log.stdout + log.stderr).count(f'password authentication failed for user "{OWNER}"') == 1
        with pytest.raises(SecretsError, match=f"no administrator gets in .*{OWNER}: FATAL:  password .*; give admin"):
            lab.info(one=wrong)
        # A login of the application that is no superuser is none to look with either.
        lab.credential(new, lab.first)
        with pytest.raises(SecretsError, match=f"no administrator gets in .*{OWNER}_1 is no superuser.*; give admin"):
            lab.info(one=new)
        # In place: a run that was interrupted once the password was set, and the way back from there.
        options = {"strategy": "single_user", "admin_login": None}
        assert lab.credential(wrong, lab.first, **options)["changed"]
        assert not lab.credential(wrong, lab.first, **options)["changed"]
        found = lab.info(one=lab.first, two=wrong)["logins"]
        assert (found["one"]["status"], found["two"]["status"]) == ("rejected", "accepted")
        assert lab.credential(lab.first, wrong, **options)["changed"]
        assert lab.info(one=lab.first)["logins"]["one"]["status"] == "accepted"


def test_what_only_the_server_would_refuse_is_refused_in_check_mode(fresh: Lab) -> None:
    lab = fresh
    assert "reserves the name pg_new" in lab.refusal(slot("pg_new"), lab.first)
    assert "reserves the name none" in lab.refusal(slot("none"), lab.first)
    assert "admin_login: PostgreSQL reserves the name public" in lab.refusal(
        slot(f"{OWNER}_1"), lab.first, admin_login=slot("public")
    )
    docker("exec", "-u", "postgres", lab.server, "sh", "-c", 'touch "$PGDATA/standby.signal"')
    docker("restart", lab.server)
    lab.wait()
    try:
        for options in ({}, {"strategy": "single_user", "admin_login": None}):
            login = slot(OWNER if options else f"{OWNER}_1")
            assert "is a standby, which changes no role" in lab.refusal(login, lab.first, **options)
    finally:
        lab.sql("SELECT pg_promote()")
    assert lab.credential(slot(f"{OWNER}_1"), lab.first)["changed"]


def test_check_mode_looks_with_any_password_and_touches_nothing(fresh: Lab, tmp_path: Path) -> None:
    lab = fresh
    one = slot(f"{OWNER}_1")

    def check(login: Slot, current: Slot, **options: Any) -> dict[str, Any]:
        before = lab.roles()
        given = lab.arguments(login, current, _ansible_check_mode=True, state_dir=str(tmp_path / "state"), **options)
        done, _logged = run_module("postgresql_credential", given, tmp_path)
        assert lab.roles() == before
        assert not (tmp_path / "state").exists()
        return json.loads(done.stdout)

    placeholder = slot(f"{OWNER}_1", "placeholder-0123456")
    predicted = check(placeholder, lab.first)
    assert predicted["changed"] and predicted["actions"] == lab.credential(one, lab.first)["actions"]
    assert check(slot(OWNER), lab.first, strategy="single_user", admin_login=None)["actions"] == ["password"]
    with lab.session(one):
        # The sessions of a rotation that is resumed are known by its password; those of anybody else are in the way.
        assert check(one, lab.first)["changed"] is False
        assert "should be idle, but 1 sessions use it" in check(placeholder, lab.first)["msg"]
        assert check(slot(OWNER), lab.first, strategy="single_user", admin_login=None)["actions"] == ["password"]


def test_who_waits_for_sessions_to_end_keeps_the_lock(fresh: Lab, tmp_path: Path) -> None:
    file = state.StateFile(str(tmp_path / "state"))
    holder = {"rotation": "r-1", "owner": "anna@laptop process 1", "store_id": "s", "serial": 7}
    waiting = {"container": fresh.server, "host": "postgres", "port": 5432, "owner": OWNER, "admin": fresh.first}
    waiting |= {"idle_user": OWNER, "idle_for": 0.5, "timeout": 2, "state_dir": file.state_dir, "holder": holder}

    def soon_over(found: dict[str, Any]) -> None:
        state.take(found, holder["rotation"], holder["owner"])
        found["lease"]["boot_expires"] = state.boot_seconds() + 1

    file.update(soon_over)
    with fresh.session(fresh.first):
        done, _logged = run_module("postgresql_credential_info", waiting, tmp_path)
    assert json.loads(done.stdout)["idle"] is False
    assert state.lease_alive(file.read()["lease"])
    done, _logged = run_module(
        "postgresql_credential_info", {**waiting, "holder": {**holder, "rotation": "r-2"}}, tmp_path
    )
    assert "the lock of r-2 was taken over by anna@laptop process 1 meanwhile" in json.loads(done.stdout)["msg"]


def test_check_mode_predicts_and_touches_nothing(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    before = lab.roles()
    predicted = lab.credential(new, lab.first, check_mode=True)
    assert lab.roles() == before
    done = lab.credential(new, lab.first)
    assert done.pop("login")["status"] == "accepted" and predicted.pop("login") == {}
    assert done == predicted
    with lab.session(lab.first) as old:
        before = lab.roles()
        predicted = lab.credential(lab.first, new, check_mode=True, state="absent")
        assert predicted["changed"] and predicted["ended_sessions"] == 1 and predicted["refused"] == ""
        assert lab.roles() == before
        old.stdin.write("SELECT 'alive';\n")
        old.stdin.flush()
        assert old.stdout.readline().strip() == "alive"
        assert lab.credential(lab.first, new, state="absent")["actions"] == predicted["actions"]


def test_a_membership_without_set_is_seen_and_mended(fresh: Lab) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    lab.credential(new, lab.first)
    if lab.version == "15":
        return
    lab.sql(f"GRANT {OWNER} TO {OWNER}_1 WITH SET FALSE")
    # The server lets it in with a warning, as itself.
    assert lab.info(one=new)["logins"]["one"]["databases"][OWNER]["current_user"] == f"{OWNER}_1"
    assert lab.credential(new, lab.first)["actions"] == [f"membership in {OWNER}"]
    assert lab.info(one=new)["logins"]["one"]["databases"][OWNER]["current_user"] == OWNER


def test_single_user_changes_the_password_in_place(fresh: Lab) -> None:
    lab = fresh
    new = slot(OWNER)
    options = {"strategy": "single_user", "admin_login": None}
    assert lab.credential(new, lab.first, **options)["actions"] == ["password"]
    assert not lab.credential(new, new, **options)["changed"]
    found = lab.info(one=new, two=lab.first)["logins"]
    assert (found["one"]["status"], found["two"]["status"]) == ("accepted", "rejected")
    assert "absent means nothing" in lab.refusal(new, new, state="absent", **options)
    assert "single_user keeps the user" in lab.refusal(slot("other"), new, **options)
    assert "role nobody does not exist" in lab.refusal(slot("nobody"), slot("nobody"), owner="nobody", **options)


# -- info


def test_the_wait_ends_once_the_user_is_idle(fresh: Lab) -> None:
    lab = fresh
    assert lab.info(idle_user=OWNER)["idle"]
    with lab.session(lab.first) as process:
        found = lab.info(idle_user=OWNER, timeout=1)
        assert not found["idle"]
        address = docker(
            "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", lab.client
        ).stdout.strip()
        assert found["sessions"] == [
            {"user": OWNER, "address": address, "application": "application", "state": "idle", "count": 1}
        ]
        started = time.monotonic()
        threading.Timer(1, process.stdin.close).start()
        found = lab.info(idle_user=OWNER, timeout=30)
        assert found["idle"] and not found["sessions"]
        assert time.monotonic() - started > 1
    # A backup on the trusted socket needs no password and is not waited for.
    with subprocess.Popen(["docker", "exec", lab.server, "psql", "-U", OWNER, "-c", "SELECT pg_sleep(3)"], stdout=-3):
        time.sleep(0.5)
        assert lab.info(idle_user=OWNER, timeout=2)["idle"]


def test_refused_logins_are_counted_without_ours(fresh: Lab) -> None:
    lab = fresh
    time.sleep(1.1)
    since = int(time.time())
    new = lab.rotate(lab.first, f"{OWNER}_1")
    counted = ("refused_logins", "own_refused_logins")

    def count(**options: Any) -> tuple[int, int]:
        time.sleep(0.3)
        found = lab.info(refused_since=since, **options)
        return tuple(found[name] for name in counted)

    # This server's log shows no addresses.
    assert count(own_refusals=1) == (0, 1)
    lab.application(lab.first, "SELECT 1", check=False)
    lab.application(slot("somebody-else"), "SELECT 1", check=False)
    lab.application(new | {"password": "wrong"}, "SELECT 1", check=False)
    assert count(own_refusals=1) == (2, 1)
    assert lab.info()["refused_logins"] is None
    for setting in ("log_line_prefix = '%m [%p] %h '", "log_connections = on"):
        lab.sql(f"ALTER SYSTEM SET {setting}")
        if setting.startswith("log_connections"):
            lab.sql("ALTER SYSTEM RESET log_line_prefix")
        lab.sql("SELECT pg_reload_conf()")
        time.sleep(1.1)
        since = int(time.time())
        lab.info(one=lab.first)
        lab.application(lab.first, "SELECT 1", check=False)
        assert count(own_refusals=0) == (1, 1), setting
    lab.sql("ALTER SYSTEM RESET ALL")
    lab.sql("SELECT pg_reload_conf()")


def test_what_cannot_be_reached_proves_nothing(fresh: Lab) -> None:
    lab = fresh
    for options, reason in (
        ({"host": "no-such-host"}, 'could not translate host name "no-such-host"'),
        ({"port": 5433}, "Connection refused"),
    ):
        found = lab.info(one=lab.first, **options)["logins"]["one"]
        assert found["status"] == "unknown" and reason in found["reason"]
    found = lab.info(one=lab.first, host=None)["logins"]["one"]
    assert found["status"] == "accepted"


# -- nothing shows


class ArgumentSampler(threading.Thread):
    """Collects the arguments and environments of every process on the machine, every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self.seen.add((process / name).read_bytes())

    def __enter__(self) -> ArgumentSampler:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.join()


def verifiers(lab: Lab) -> set[str]:
    return set(lab.sql("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL").splitlines())


def test_no_password_and_no_verifier_in_log_statistics_or_processes(fresh: Lab) -> None:
    lab = fresh
    hidden = {lab.first["password"], lab.admin["password"]}
    with ArgumentSampler() as sampler:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)", "control-argument-0123"], check=True)
        current = lab.first
        for user in (f"{OWNER}_1", f"{OWNER}_2"):
            new = slot(user)
            hidden.add(new["password"])
            lab.credential(new, current)
            hidden |= verifiers(lab)
            lab.info(one=new, two=current, idle_user=current["user"])
            lab.credential(current, new, state="absent")
            current = new
        wrong = slot(current["user"])
        hidden.add(wrong["password"])
        lab.credential(wrong, current, strategy="single_user", admin_login=None)
        hidden |= verifiers(lab)
    arguments = b"\n".join(sampler.seen).decode(errors="replace")
    assert "control-argument-0123" in arguments and f"user='{OWNER}_1'" in arguments
    # The container's environment holds the first start's password, whatever we do.
    sampled = hidden - {lab.first["password"]}
    assert not [form for value in sampled for form in encoded_forms(value) if form in arguments]
    lab.sql(f"ALTER ROLE {OWNER}_1 PASSWORD 'control-password-0123'")
    time.sleep(0.3)
    log = lab.log()
    assert "control-password-0123" in log and "password authentication failed" in log
    assert not [form for value in hidden for form in encoded_forms(value) if form in log]
    # Of a statement that fails nothing is logged either.
    assert "SCRAM-SHA-256$" not in log


# A value whose repr is another text: Ansible finds it in no dict that it logs.
ODD = (
    "back\\slash-0123456",
    "both'kinds\"of-quotes",
    "tab\tand\x1bescape-01",
    "word-joiner\u2060inside",
    "\U000e0041-tag-0123456",
)


def run_module(name: str, given: dict[str, Any], folder: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a module as Ansible does, in a process of its own; return also what it had syslog(3) write."""
    arguments = {key: value for key, value in given.items() if value is not None}
    arguments |= {"_ansible_diff": True, "_ansible_verbosity": 4, "_ansible_remote_tmp": str(folder)}
    system_log = folder / "syslog"
    code = (
        "import sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS = sys.stdin.buffer.read(); "
        "basic._ANSIBLE_PROFILE = 'legacy'; basic.has_journal = False; "
        f"basic.syslog.syslog = lambda level, text: open({str(system_log)!r}, 'a').write(text + chr(10)); "
        f"from ansible_collections.chat4all.secrets.plugins.modules import {name}; {name}.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done, system_log.read_text()


@pytest.mark.parametrize("password", ODD)
def test_syslog_shows_no_imported_password(password: str, tmp_path: Path) -> None:
    """No server is needed: Ansible logs the options before the module begins."""

    def invisible(text: str) -> bool:
        return not [form for form in (password, repr(password)[1:-1], json.dumps(password)[1:-1]) if form in text]

    login = slot("visible_user", password)
    given = {"container": "no-such-container", "owner": "visible_owner", "admin": login}
    both = {"credential": login, "current": {**login, "user": "visible_current"}, "admin_login": login}
    listed = {"credentials": [{"label": "visible_label", **login}]}
    for name, options in (("postgresql_credential", both), ("postgresql_credential_info", listed)):
        done, logged = run_module(name, given | options, tmp_path)
        assert "Invoked with container=no-such-container" in logged and "visible_owner" in logged
        assert invisible(logged), name
        assert invisible(done.stdout + done.stderr), name
        result = json.loads(done.stdout)
        assert result["msg"].startswith("no-such-container: cannot be looked at")
        # In the result every word but the password can be read.
        arguments = result["invocation"]["module_args"]
        assert arguments["admin"] == {"user": "visible_user"}
        if name == "postgresql_credential":
            assert arguments["current"] == {"user": "visible_current"}
        else:
            assert arguments["credentials"] == [{"label": "visible_label", "user": "visible_user"}]


def test_a_user_name_that_needs_quoting_is_not_blacked_out(fresh: Lab, tmp_path: Path) -> None:
    user = """O'Neil "the" \\ ümlaut"""
    login = slot(user)
    done, _logged = run_module(
        "postgresql_credential_info",
        {"container": fresh.server, "owner": OWNER, "credentials": [{"label": "one", **login}]},
        tmp_path,
    )
    result = json.loads(done.stdout)
    assert result["logins"]["one"]["reason"] == f'FATAL:  password authentication failed for user "{user}"'


def test_the_modules_themselves_show_nothing(fresh: Lab, tmp_path: Path) -> None:
    lab = fresh
    new = slot(f"{OWNER}_1")
    hidden = {lab.first["password"], lab.admin["password"], new["password"]}

    def run(name: str, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
        done, logged = run_module(name, given, tmp_path)
        text = done.stdout + done.stderr
        assert "Invoked with" in logged
        assert not [form for value in hidden for form in encoded_forms(value) if form in text + logged]
        return json.loads(done.stdout), text

    state_dir = str(tmp_path / "state")
    made, _text = run("postgresql_credential", lab.arguments(new, lab.first, state_dir=state_dir))
    assert made["changed"] and made["user"] == f"{OWNER}_1" and f"membership in {OWNER}\n" in made["diff"]["after"]
    credentials = [{"label": "new", **new}, {"label": "old", **lab.first}]
    given = {"container": lab.server, "host": "postgres", "owner": OWNER, "credentials": credentials}
    seen, _text = run("postgresql_credential_info", given)
    assert seen["logins"]["new"]["databases"][OWNER]["session_user"] == f"{OWNER}_1"
    gone, _text = run("postgresql_credential", lab.arguments(lab.first, new, state="absent", state_dir=state_dir))
    assert gone["changed"] and gone["actions"] == ["password"]
    refused, text = run("postgresql_credential", lab.arguments(new, new, state="absent", state_dir=state_dir))
    assert refused["failed"] and "is the current login" in refused["msg"] and "Traceback" not in text
    twice, _text = run("postgresql_credential_info", given | {"credentials": credentials[:1] * 2})
    assert twice["failed"] and "label new is there twice" in twice["msg"]


def test_a_weak_password_that_is_the_user_name_blacks_out_nothing(
    fresh: Lab, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from ansible.module_utils import basic

    lab = fresh
    lab.sql(f"ALTER ROLE {OWNER} PASSWORD '{OWNER}'")
    given = {"container": lab.server, "host": "postgres", "owner": OWNER}
    given["credentials"] = [{"label": "one", "user": OWNER, "password": OWNER}]
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    with pytest.raises(SystemExit):
        postgresql_credential_info.main()
    result = json.loads(capsys.readouterr().out)
    assert result["logins"]["one"]["databases"][OWNER] == {"current_user": OWNER, "session_user": OWNER}
    assert "password" not in result["invocation"]["module_args"]["credentials"][0]


# -- a server that is not there, or in odd surroundings


def test_the_containers_own_environment_decides_nothing() -> None:
    """Health checks and scripts in the container often have libpq's variables; they must not answer for a login."""
    new = slot(f"{OWNER}_1")
    variables = f"PGHOST=no.such.host\nPGPASSWORD={new['password']}\nPGUSER=nobody\nPGDATABASE=nothing\nPGPORT=5432\n"
    variables += "PGOPTIONS=-c no_such_setting=1\nPGHOSTADDR=192.0.2.1\n"
    with Lab("17", "environment", environment=variables) as lab:
        assert lab.credential(new, lab.first)["changed"]
        found = lab.info(one=new, two=slot(f"{OWNER}_1"))["logins"]
        assert (found["one"]["status"], found["two"]["status"]) == ("accepted", "rejected")
        with pytest.raises(SecretsError, match="credentials.password: is empty"):
            lab.info(one={"user": f"{OWNER}_1", "password": ""})
        assert "password authentication failed" in lab.credential(lab.first, new, state="absent")["refused"]


def test_a_server_that_is_down_is_one_clear_line() -> None:
    with Lab("17", "down") as lab:
        new = slot(f"{OWNER}_1")

        def message() -> str:
            with pytest.raises(SecretsError) as caught:
                lab.credential(new, lab.first)
            with pytest.raises(SecretsError) as also:
                lab.info()
            assert caught.value.message == also.value.message
            assert "\n" not in caught.value.message
            return caught.value.message

        docker("pause", lab.server)
        assert message() == f"{lab.server}: is paused, so its PostgreSQL cannot be asked; start it first"
        docker("unpause", lab.server)
        docker("exec", "-u", "postgres", lab.server, "sh", "-c", "mv /var/run/postgresql/.s.PGSQL.5432 /tmp/")
        assert "does not answer on its socket: connection to server on socket" in message()
        docker("stop", "-t", "10", lab.server)
        assert message() == f"{lab.server}: is not running, so its PostgreSQL cannot be asked; start it first"
        docker("rm", "-fv", lab.server)
        assert message().startswith(f"{lab.server}: cannot be looked at: Error")


def test_a_container_without_psql_is_one_clear_line() -> None:
    name = f"postgres-helper-{os.getpid()}-bare"
    docker("run", "-d", "--init", "--name", name, "--entrypoint", "sleep", "chat4all-test/haproxy:1", "60")
    try:
        given = {"container": name, "host": None, "port": 5432, "admin": None, "owner": OWNER, "databases": []}
        given |= {
            "credentials": [],
            "idle_user": None,
            "idle_for": 1,
            "timeout": 1,
            "refused_since": None,
            "own_refusals": 0,
        }
        with pytest.raises(SecretsError, match="psql cannot be run there: .*executable file not found"):
            postgresql_credential_info.work(given)
    finally:
        docker("rm", "-f", name)
