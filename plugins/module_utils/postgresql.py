# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL logins: made, tried, watched and ended.

Two ways lead to the server. Administration goes over its local socket, inside its container. A login is tried over the
containers' network, where ``trust`` does not reach; such a probe comes from the server container's own address and carries the
application name ``chat4all.secrets``. Every secret travels by standard input; what the server keeps is a SCRAM verifier made here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import scram_matches, scram_sha_256

APPLICATION = "chat4all.secrets"
# oid of the superuser that initdb makes.
BOOTSTRAP = 10
# Lists of names: stored quoted already, and not to be quoted as one.
LIST_SETTINGS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
}
# Nothing of what follows in the session reaches the server's log or its statistics.
QUIET = """\
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET log_duration = off;
SET log_transaction_sample_rate = 0;
SET "pgaudit.log" = 'none';
SET "auto_explain.log_min_duration" = -1;
SET "pg_stat_statements.track" = 'none';
SET standard_conforming_strings = on;
SET statement_timeout = 0;
SET default_transaction_read_only = off;
"""
REJECTED = re.compile(r"password authentication failed for user")
MARK = "chat4all-secrets-section"


def identifier(name: str) -> str:
    """Return a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a text quoted for SQL (``standard_conforming_strings`` on)."""
    return "'" + value.replace("'", "''") + "'"


def conninfo(**parameters: object) -> str:
    """Return a libpq connection string."""
    quoted = {key: str(value).replace("\\", "\\\\").replace("'", "\\'") for key, value in parameters.items()}
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


def argument(text: str) -> str:
    """Return a text quoted as an argument of a psql backslash command."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    return "'" + quoted.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"


@dataclass(frozen=True)
class Login:
    """A user and its password."""

    user: str
    password: str


@dataclass(frozen=True)
class Attempt:
    """How the server answered a login: ``accepted``, ``rejected`` (the password is wrong) or ``unknown``."""

    status: str
    reason: str
    current_user: str = ""
    session_user: str = ""


class Server:
    """A PostgreSQL server in a container. ``host`` is its name on the consumers' network."""

    def __init__(self, docker: DockerCli, container: str, host: str, port: int) -> None:
        self.docker, self.container, self.host, self.port = docker, container, host, port
        self._user: str | None = None

    @property
    def bootstrap_user(self) -> str:
        """The user that the image made first; the socket lets it in."""
        if self._user is None:
            form = "{{.State.Running}}\n{{range .Config.Env}}{{println .}}{{end}}"
            done = self.docker.run("inspect", "--format", form, self.container, check=False)
            rows = done.stdout.splitlines()
            if done.returncode or not rows:
                raise SecretsError(f"{self.container}: no such container; start the database first")
            if rows[0] != "true":
                raise SecretsError(f"{self.host}: its container is not running; start the database first")
            found = [row.partition("=")[2] for row in rows if row.startswith("POSTGRES_USER=")]
            self._user = (found[0] if found else "") or "postgres"
        return self._user

    # -- the two ways in

    def admin(self, sql: str, database: str = "postgres") -> str:
        """Run SQL over the local socket, with statement logging off; returns what it printed."""
        target = conninfo(dbname=database, user=self.bootstrap_user, application_name=APPLICATION)
        done = self._psql(target, "\\set ON_ERROR_STOP on\n" + QUIET + sql)
        if done.returncode == 2:
            raise SecretsError(
                f"{self.host}: admin access of {self.bootstrap_user} over the local socket failed: {self._reason(done.stderr)}; "
                "the server must run, and its pg_hba.conf let this user in locally"
            )
        if done.returncode:
            raise SecretsError(f"{self.host}: {self._reason(done.stderr)}")
        return done.stdout

    def ask(self, select: str) -> Any:
        """Return the one JSON value that a query gives."""
        return json.loads(self.admin(select).strip() or "null")

    def attempts(self, logins: Sequence[tuple[Login, str]], ssl: bool) -> list[Attempt]:
        """Try each login with its database over the network, exactly once each."""
        if not logins:
            return []
        script = ["\\set ON_ERROR_STOP off"]
        for number, (login, database) in enumerate(logins):
            target = conninfo(
                host=self.host,
                port=self.port,
                dbname=database,
                user=login.user,
                password=login.password,
                application_name=APPLICATION,
                connect_timeout=10,
                # One attempt is one login at the server: no second try without (or with) TLS.
                sslmode="require" if ssl else "disable",
            )
            script += [
                f"\\echo {MARK} {number}",
                f"\\warn {MARK} {number}",
                f"\\connect -reuse-previous=off {argument(target)}",
                "SELECT json_build_array(current_user, session_user);",
            ]
        start = conninfo(dbname="postgres", user=self.bootstrap_user, application_name=APPLICATION)
        done = self._psql(start, "\n".join(script) + "\n")
        answers, errors = _sections(done.stdout), _sections(done.stderr)
        if len(answers) < len(logins):
            raise SecretsError(f"{self.host}: logins could not be tried: {self._reason(done.stderr)}")
        return [_attempt(answers[number], errors.get(number, "")) for number in range(len(logins))]

    def _psql(self, target: str, script: str) -> Any:
        return self.docker.run(
            "exec", "--interactive", self.container, "psql", "-XqAt", "--no-password", target, stdin=script, check=False
        )

    def _reason(self, errors: str) -> str:
        rows = [row for row in errors.splitlines() if re.search(r"ERROR|FATAL|error|failed", row)]
        return self.docker.masker.mask(re.sub(r"^.*?(ERROR|FATAL|error):\s*", "", rows[0]) if rows else "no reason given")


def _sections(text: str) -> dict[int, str]:
    parts = re.split(rf"^{MARK} (\d+)$", text, flags=re.MULTILINE)
    return {int(number): body.strip() for number, body in zip(parts[1::2], parts[2::2])}


def _attempt(answer: str, errors: str) -> Attempt:
    rows = [row for row in answer.splitlines() if row.startswith("[")]
    if rows:
        current, session = json.loads(rows[-1])
        return Attempt("accepted", "", current, session)
    fatal = [row for row in errors.splitlines() if "FATAL" in row or "failed" in row or "could not" in row]
    reason = re.sub(r"^.*?(FATAL|error):\s*", "", fatal[0]) if fatal else "no answer"
    reason = re.sub(r"^.*FATAL:\s*", "", reason)
    return Attempt("rejected" if REJECTED.search(reason) else "unknown", reason)


# -- what the server knows


def facts_query(names: Iterable[str]) -> str:
    """Return the query for everything that is needed to decide about some roles."""
    listed = ", ".join(literal(name) for name in names)
    return f"""
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'server_version', current_setting('server_version'),
  'ssl', current_setting('ssl') = 'on',
  'collector', current_setting('logging_collector') = 'on',
  'roles', (SELECT coalesce(json_object_agg(rolname, json_build_object(
      'oid', oid::int, 'superuser', rolsuper, 'login', rolcanlogin, 'limit', rolconnlimit,
      'until', nullif(rolvaliduntil::text, 'infinity'), 'verifier', rolpassword,
      'comment', shobj_description(oid, 'pg_authid'))), '{{}}') FROM pg_authid WHERE rolname IN ({listed})),
  'settings', (SELECT coalesce(json_agg(json_build_array(r.rolname, d.datname, s.setting)), '[]')
      FROM pg_db_role_setting x JOIN pg_roles r ON r.oid = x.setrole LEFT JOIN pg_database d ON d.oid = x.setdatabase,
      unnest(x.setconfig) s(setting) WHERE r.rolname IN ({listed})),
  'memberships', (SELECT coalesce(json_agg(json_build_array(m.rolname, g.rolname, to_json(a) ->> 'set_option',
      to_json(a) ->> 'inherit_option')), '[]')
      FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
      WHERE m.rolname IN ({listed})),
  'databases', (SELECT json_agg(json_build_array(datname, rolname)) FROM pg_database, pg_roles
      WHERE datallowconn AND rolname IN ({listed}) AND has_database_privilege(rolname, datname, 'CONNECT')),
  'hba', (SELECT coalesce(json_agg(json_build_array(line_number, to_json(user_name))), '[]') FROM pg_hba_file_rules
      WHERE type <> 'local' AND user_name && ARRAY[{listed}]::text[]),
  'sessions', {SESSIONS}
);
"""


SESSIONS = f"""(SELECT coalesce(json_agg(json_build_object('user', usename, 'address', address, 'application', application_name,
      'state', state, 'count', number)), '[]') FROM (
        SELECT usename, coalesce(host(client_addr), '') AS address, application_name, state, count(*) AS number
        FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND application_name <> {literal(APPLICATION)} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4) sessions)"""


def settings_of(facts: Mapping[str, Any], role: str) -> dict[tuple[str, str], str]:
    """Return a role's own settings, by database ("" for all of them) and name."""
    found = {}
    for name, database, setting in facts["settings"]:
        if name == role:
            key, _equals, value = setting.partition("=")
            found[(database or "", key)] = value
    return found


def comment_for(owner: str) -> str:
    """Return the comment by which a login of ours is known."""
    return f"{APPLICATION}: a login of {owner}"


# -- present


class Credentials:
    """The logins of one owner on one server."""

    def __init__(self, server: Server, owner: str) -> None:
        self.server, self.owner = server, owner

    def facts(self, *users: str) -> dict[str, Any]:
        """Return what the server knows; raises where the owner does not exist."""
        facts = self.server.ask(facts_query({self.owner, *users}))
        if self.owner not in facts["roles"]:
            raise SecretsError(f"{self.server.host}: no role {self.owner}; name the owner of the objects as role")
        return facts

    def make_pair(
        self, login: Login, current: str, admin: Login | None, iterations: int, check_mode: bool
    ) -> dict[str, Any]:
        """Make ``login`` valid beside ``current``; both work as the owner."""
        if login.user in (current, self.owner):
            raise SecretsError(f"{login.user} is in use; the other login of the pair is the one to set")
        names = [login.user, *([admin.user] if admin else [])]
        facts = self.facts(*names)
        self._check_idle(facts, login, current)
        statements = self._login_statements(facts, login, iterations)
        needs_admin = admin if admin and facts["roles"][self.owner]["oid"] == BOOTSTRAP else None
        if needs_admin:
            statements += self._admin_statements(facts, needs_admin, iterations)
        missing = self._connect_query(login.user) if statements else ""
        if statements and not check_mode:
            self.server.admin("BEGIN;\n" + "\n".join(statements) + "\n" + missing + "COMMIT;\n")
        if needs_admin and not check_mode:
            self._verify_admin(needs_admin, facts["ssl"])
        return {"changed": bool(statements), "user": login.user}

    def set_password(self, login: Login, iterations: int, check_mode: bool) -> dict[str, Any]:
        """Change the password of the only user, in place: from now on the old one is refused."""
        facts = self.facts(login.user)
        role = facts["roles"].get(login.user)
        if role is None:
            raise SecretsError(f"{self.server.host}: no role {login.user}")
        changed = not scram_matches(role["verifier"], login.password)
        if changed and not check_mode:
            verifier = literal(scram_sha_256(login.password, iterations=iterations))
            self.server.admin(f"ALTER ROLE {identifier(login.user)} LOGIN PASSWORD {verifier};\n")
        return {"changed": changed, "user": login.user}

    def _check_idle(self, facts: Mapping[str, Any], login: Login, current: str) -> None:
        user, role = login.user, facts["roles"].get(login.user)
        if role and role["comment"] != comment_for(self.owner):
            raise SecretsError(
                f"{self.server.host}: role {user} exists and is not a login made by {APPLICATION}; rename it, or name another role"
            )
        in_use = sorted({s["address"] or "the local socket" for s in facts["sessions"] if s["user"] == user})
        # Sessions of the very password that is being set are this rotation's own, from before it was interrupted.
        if in_use and not (role and scram_matches(role["verifier"], login.password)):
            raise SecretsError(f"{self.server.host}: {user} should be idle but has sessions from {', '.join(in_use)}")
        for line, names in facts["hba"]:
            if user not in names and (self.owner in names or current in names):
                raise SecretsError(
                    f"{self.server.host}: pg_hba.conf line {line} is for {', '.join(names)} alone; add {user} (and its twin) there"
                )

    def _login_statements(self, facts: Mapping[str, Any], login: Login, iterations: int) -> list[str]:
        role, owner = facts["roles"].get(login.user), facts["roles"][self.owner]
        name, owner_name = identifier(login.user), identifier(self.owner)
        statements = []
        if role is None:
            statements.append(f"CREATE ROLE {name};")
            statements.append(f"COMMENT ON ROLE {name} IS {literal(comment_for(self.owner))};")
        wanted = (True, owner["limit"], owner["until"])
        if role is None or (role["login"], role["limit"], role["until"]) != wanted:
            until = literal(owner["until"] or "infinity")
            statements.append(f"ALTER ROLE {name} LOGIN CONNECTION LIMIT {owner['limit']} VALID UNTIL {until};")
        if role is None or not scram_matches(role["verifier"], login.password):
            verifier = literal(scram_sha_256(login.password, iterations=iterations))
            statements.append(f"ALTER ROLE {name} PASSWORD {verifier};")
        # PostgreSQL 16 tells SET from INHERIT; before, a membership always allows both.
        options = " WITH INHERIT TRUE, SET TRUE" if facts["version"] >= 160000 else ""
        held = [membership[2:] for membership in facts["memberships"] if membership[:2] == [login.user, self.owner]]
        if not any(option in (["true", "true"], [None, None]) for option in held):
            statements.append(f"GRANT {owner_name} TO {name}{options};")
        return statements + self._setting_statements(facts, login.user)

    def _setting_statements(self, facts: Mapping[str, Any], user: str) -> list[str]:
        """Copy what is set for the owner: it does not follow ``SET role``."""
        wanted = {**settings_of(facts, self.owner), ("", "role"): self.owner}
        present = settings_of(facts, user)
        statements = []
        for (database, key), _value in sorted(present.items()):
            if (database, key) not in wanted:
                statements.append(f"{_alter(user, database)} RESET {identifier(key)};")
        for (database, key), value in sorted(wanted.items()):
            if present.get((database, key)) != value:
                shown = (value or "''") if key in LIST_SETTINGS else literal(value)
                parts = ".".join(identifier(part) for part in key.split("."))
                statements.append(f"{_alter(user, database)} SET {parts} = {shown};")
        return statements

    def _connect_query(self, user: str) -> str:
        return (
            f"SELECT format('GRANT CONNECT ON DATABASE %I TO %I', datname, {literal(user)}) FROM pg_database WHERE datallowconn "
            f"AND has_database_privilege({literal(self.owner)}, datname, 'CONNECT') "
            f"AND NOT has_database_privilege({literal(user)}, datname, 'CONNECT') \\gexec\n"
        )

    def _admin_statements(self, facts: Mapping[str, Any], admin: Login, iterations: int) -> list[str]:
        role, name = facts["roles"].get(admin.user), identifier(admin.user)
        if role and role["comment"] != comment_for(self.owner):
            raise SecretsError(
                f"{self.server.host}: role {admin.user} exists and was not made by {APPLICATION}; rename it first"
            )
        statements = []
        if role is None:
            statements.append(f"CREATE ROLE {name} LOGIN SUPERUSER;")
            statements.append(f"COMMENT ON ROLE {name} IS {literal(comment_for(self.owner))};")
        if role is None or not scram_matches(role["verifier"], admin.password):
            statements.append(f"ALTER ROLE {name} PASSWORD {literal(scram_sha_256(admin.password, iterations=iterations))};")
        return statements

    def _verify_admin(self, admin: Login, ssl: bool) -> None:
        attempt = self.server.attempts([(admin, "postgres")], ssl)[0]
        if attempt.status != "accepted":
            raise SecretsError(f"{self.server.host}: the admin login {admin.user} does not work: {attempt.reason}")

    # -- absent

    def revoke(self, login: Login, current: str, admin: Login | None, check_mode: bool) -> dict[str, Any]:
        """End a login and its sessions, and see it refused for the right reason."""
        if login.user == current:
            raise SecretsError(f"{login.user} is the current login; it cannot be revoked")
        facts = self.facts(login.user)
        role = facts["roles"].get(login.user)
        bootstrap = bool(role) and role["oid"] == BOOTSTRAP
        sessions = [s for s in facts["sessions"] if s["user"] == login.user and (s["address"] or not bootstrap)]
        alive = bool(role) and (role["verifier"] is not None or (role["login"] and not bootstrap))
        if check_mode:
            return {"changed": alive or bool(sessions), "refused": False}
        if bootstrap and role["verifier"] is not None:
            if admin is None:
                raise SecretsError(f"{self.server.host}: {login.user} is the first superuser; an admin_login is needed before it ends")
            self._verify_admin(admin, facts["ssl"])
        if alive or sessions:
            self._end(login.user, bootstrap)
        # The password is checked before NOLOGIN is: this refusal proves that the password is dead.
        attempt = self.server.attempts([(login, "postgres")], facts["ssl"])[0]
        if attempt.status != "rejected":
            raise SecretsError(
                f"{self.server.host}: the old password of {login.user} should be refused, but is {attempt.status}: "
                f"{attempt.reason or 'it logs in'}"
            )
        if role and role["login"] and not bootstrap:
            self.server.admin(f"ALTER ROLE {identifier(login.user)} NOLOGIN;\n")
        return {"changed": alive or bool(sessions), "refused": True}

    def _end(self, user: str, bootstrap: bool) -> None:
        # The bootstrap user's own sessions on the trusted socket (a backup, this one) stay.
        where = f"usename = {literal(user)} AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        if bootstrap:
            where += " AND client_addr IS NOT NULL"
        self.server.admin(
            f"ALTER ROLE {identifier(user)} PASSWORD NULL;\n"
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {where};\n"
            + _wait_sql(where, idle_for=0, timeout=10)
        )
        left = self.server.admin(f"SELECT count(*) FROM pg_stat_activity WHERE {where};\n").strip()
        if left != "0":
            raise SecretsError(f"{self.server.host}: {left} sessions of {user} did not end")

    # -- info

    def log_in(self, logins: Mapping[str, Login], facts: Mapping[str, Any], databases: Sequence[str]) -> dict[str, Any]:
        """Try each login in every database, once each."""
        wanted = list(databases) or sorted(name for name, role in facts["databases"] or [] if role == self.owner)
        tried = [(label, login, database) for label, login in logins.items() for database in wanted]
        attempts = self.server.attempts([(login, database) for _label, login, database in tried], facts["ssl"])
        found: dict[str, Any] = {}
        for (label, _login, database), attempt in zip(tried, attempts):
            entry = found.setdefault(label, {"status": "accepted", "reason": "", "databases": {}})
            if attempt.status == "accepted":
                entry["databases"][database] = {"current_user": attempt.current_user, "session_user": attempt.session_user}
            elif entry["status"] == "accepted":
                entry["status"], entry["reason"] = attempt.status, f"{database}: {attempt.reason}"
        return found

    def wait_idle(self, user: str, idle_for: float, timeout: float) -> None:
        """Wait until the user has had no session for ``idle_for`` seconds, ``timeout`` seconds at most."""
        where = f"usename = {literal(user)} AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        where += f" AND application_name <> {literal(APPLICATION)}"
        if user == self.server.bootstrap_user:
            where += " AND client_addr IS NOT NULL"
        self.server.docker.run(
            "exec",
            "--interactive",
            self.server.container,
            "psql",
            "-XqAt",
            "--no-password",
            conninfo(dbname="postgres", user=self.server.bootstrap_user, application_name=APPLICATION),
            stdin=QUIET + _wait_sql(where, idle_for, timeout),
            timeout=timeout + 60,
        )

    def refused_logins(self, since: int, probes: int) -> int | None:
        """Count the logins that the server's log says were refused since a time (seconds of the epoch), but for our probes.

        ``None`` where the log does not go to the container's output.
        """
        if self.server.ask("SELECT to_json(current_setting('logging_collector'));") == "on":
            return None
        done = self.server.docker.run("logs", "--since", str(since), self.server.container, check=False)
        if done.returncode:
            return None
        refused = len(re.findall(r"FATAL:\s+password authentication failed for user", done.stdout + done.stderr))
        return max(0, refused - probes)


def _alter(user: str, database: str) -> str:
    place = f" IN DATABASE {identifier(database)}" if database else ""
    return f"ALTER ROLE {identifier(user)}{place}"


def _wait_sql(where: str, idle_for: float, timeout: float) -> str:
    return f"""
DO $wait$
DECLARE
  deadline timestamptz := clock_timestamp() + interval '{timeout:g} seconds';
  quiet timestamptz;
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    IF EXISTS (SELECT FROM pg_stat_activity WHERE {where}) THEN
      quiet := NULL;
    ELSE
      quiet := coalesce(quiet, clock_timestamp());
      EXIT WHEN clock_timestamp() - quiet >= interval '{idle_for:g} seconds';
    END IF;
    EXIT WHEN clock_timestamp() > deadline;
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$wait$;
"""


