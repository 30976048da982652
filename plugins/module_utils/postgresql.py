# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL logins: two that alternate and work as one owner, their revocation, and who uses them.

Everything goes through ``psql`` (postgresql_reach.py), scripts and passwords by its standard input. A server gets a SCRAM
verifier, never a password, in a session that it does not log where the administrator may say so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import Completed, DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import scram_matches, scram_sha_256
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_log import count_refused
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_reach import (
    APPLICATION,
    SCRIPT_TIMEOUT,
    Reach,
    reach_of,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_rules import (
    Rule,
    Who,
    closes,
    first_difference,
    first_rule,
    read_rules,
    refusal,
)

SET_BY_OTHERS = "password that somebody else had set"
MARK = "managed by chat4all.secrets"

# Seconds for sessions to end.
TERMINATION_TIMEOUT = 10

MAX_NAME_BYTES = 63
RESERVED = re.compile(r"pg_|(?:public|none)$")
WITHOUT_PASSWORD = ("trust", "peer", "ident")
# A line's first FATAL is the server's; a later one is part of a name.
FATAL = r"^(?:(?!FATAL:  ).)*?(?P<said>FATAL:  (?:{}).*)"
# The one answer that proves a password wrong.
REJECTED = re.compile(FATAL.format(r'password authentication failed for user "'), re.MULTILINE)
# The answers that show a login without a password refused: whatever was asked for, it does not get in.
REFUSED = re.compile(
    FATAL.format(
        r'[\w ]+ authentication failed for user "|pg_hba\.conf rejects connection|no pg_hba\.conf entry'
        r'|role ".*" (?:does not exist|is not permitted to log in)'
    ),
    re.MULTILINE,
)
# The server answers, but not to this login.
NO_ENTRY = re.compile(
    r'role ".*" does not exist|authentication failed|no password supplied|not permitted to log in|no pg_hba\.conf entry'
    r"|pg_hba\.conf rejects|is no superuser"
)
NO_SUPERUSER = "is no superuser"

# What a session has to be for us.
SESSION = r"""
SET ROLE NONE;
SET search_path = pg_catalog;
SET standard_conforming_strings = on;
SET client_min_messages = warning;
SET default_transaction_read_only = off;
SET statement_timeout = 0;
SET lock_timeout = '15s';
SET datestyle = 'ISO';
SET timezone = 'UTC';
"""
# What keeps a session's statements out of the server's log and views.
SILENT = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
    "log_statement_stats": "off",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
    "track_activities": "off",
    "pg_stat_statements.track": "none",
    "pgaudit.log": "none",
    "pgaudit.role": "",
    "auto_explain.log_min_duration": "-1",
}
# A superuser alone can silence its session's log, and see and set verifiers.
PRELUDE = (
    r"""
SET ROLE NONE;
DO $$BEGIN IF current_setting('is_superuser') <> 'on' THEN
RAISE EXCEPTION '% is no superuser', current_user; END IF; END$$;
"""
    + SESSION
    + "".join(f"SET {name} = '{value}';\n" for name, value in SILENT.items())
)
# Elsewhere the administrator may silence what it was granted (GRANT SET ON PARAMETER); a verifier is all that is said.
PRELUDE_ELSEWHERE = (
    SESSION
    + "DO $$DECLARE one record; BEGIN FOR one IN SELECT * FROM (VALUES "
    + ", ".join(f"('{name}', '{value}')" for name, value in SILENT.items())
    + """) AS s(name, value) LOOP
BEGIN PERFORM set_config(one.name, one.value, false); EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; END$$;
"""
)

# PostgreSQL stores these as lists of quoted names: one string would become one name (pg_dump does the same).
LIST_SETTINGS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)

# Sessions of clients: not ours, and not those of the first superuser that need no password on the server's own socket
# or loopback.
CLIENTS = """
pid <> pg_backend_pid() AND usename IS NOT NULL AND backend_type IN ('client backend', 'walsender')
AND NOT (application_name = {application} AND (client_addr IS NULL OR host(client_addr) = ANY ({own_addresses})))
AND NOT (usesysid = 10 AND (client_addr IS NULL OR client_addr <<= '127.0.0.0/8' OR client_addr = '::1') AND coalesce(
  (SELECT auth_method = ANY ({without_password}) FROM pg_hba_file_rules WHERE error IS NULL AND type = 'local'
   AND 'all' = ANY (database) AND user_name && ARRAY['all', usename::text] LIMIT 1), false))
"""

# Elsewhere only the name tells our sessions: behind one address there may be many clients.
CLIENTS_ELSEWHERE = """
pid <> pg_backend_pid() AND usename IS NOT NULL AND backend_type IN ('client backend', 'walsender')
AND application_name IS DISTINCT FROM {application}
"""

SNAPSHOT = """
SELECT json_build_object(
'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN (
  'server_version_num', 'log_line_prefix', 'log_destination', 'logging_collector', 'lc_messages',
  'in_hot_standby')),
'roles', (SELECT json_object_agg(rolname, json_build_object('superuser', rolsuper, 'login', rolcanlogin, 'oid',
oid::bigint,
  'replication', rolreplication, 'inherit', rolinherit, 'createdb', rolcreatedb, 'createrole', rolcreaterole,
  'bypassrls', rolbypassrls, 'limit', rolconnlimit,
  'until', CASE WHEN isfinite(rolvaliduntil) THEN rolvaliduntil::text ELSE 'infinity' END,
  'expired', coalesce(rolvaliduntil < now(), false), 'verifier', {verifier}, 'mark', shobj_description(oid,
  'pg_authid'), 'owns', (SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = a.oid
  AND deptype = 'o'))) FROM {authid} a WHERE rolname = ANY ({names})),
'members', (SELECT json_agg(to_jsonb(m) || jsonb_build_object('role', pg_get_userbyid(roleid), 'member',
pg_get_userbyid(member)))
  FROM pg_auth_members m),
'role_settings', (SELECT json_agg(json_build_object('user', rolname, 'database', datname, 'values', setconfig))
  FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase
  WHERE rolname = ANY ({names})),
'databases', (SELECT json_agg(json_build_object('name', datname,
  'owner', (SELECT has_database_privilege(oid, d.oid, 'CONNECT') FROM pg_roles WHERE rolname = {owner}),
  'user', (SELECT has_database_privilege(oid, d.oid, 'CONNECT') FROM pg_roles WHERE rolname = {user})) ORDER BY
  datname) FROM pg_database d WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2),
'rules', {rules},
'admin', (SELECT json_build_object('name', rolname, 'superuser', rolsuper, 'createrole', rolcreaterole,
  'replication', rolreplication, 'sees', pg_has_role('pg_read_all_stats', 'USAGE'),
  'ends', pg_has_role('pg_signal_backend', 'USAGE'),
  'gives', (SELECT json_agg(o.rolname) FROM pg_roles o WHERE o.rolname = ANY ({names})
    AND pg_has_role(o.oid, 'MEMBER WITH ADMIN OPTION')),
  'may_not_set', (SELECT json_agg(DISTINCT p.name) FROM pg_db_role_setting t JOIN pg_roles o ON o.oid = t.setrole,
    unnest(t.setconfig) AS pair JOIN pg_settings p ON p.name = split_part(pair, '=', 1)
    WHERE o.rolname = {owner} AND p.context = 'superuser' AND NOT has_parameter_privilege(p.name, 'SET')))
  FROM pg_roles WHERE rolname = current_user),
'idle', current_setting('chat4all.idle', true),
'sessions', (SELECT json_agg(to_jsonb(s)) FROM (SELECT usename AS user, host(client_addr) AS address, application_name
AS application,
  state, count(*) FROM pg_stat_activity WHERE {clients} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4) s));
"""

# Each round is a transaction of its own: a long one would see its first look again, and hold back vacuum.
WAIT = """
SET chat4all.idle_user = {user};
DO $$
DECLARE begun timestamptz := clock_timestamp(); busy timestamptz := begun; idle boolean;
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    IF EXISTS (SELECT FROM pg_stat_activity WHERE usename = current_setting('chat4all.idle_user') AND {clients}) THEN
      busy := clock_timestamp();
    END IF;
    idle := clock_timestamp() - busy >= make_interval(secs => {idle_for});
    EXIT WHEN idle OR clock_timestamp() - begun >= make_interval(secs => {timeout});
    COMMIT;
    PERFORM pg_sleep(0.25);
  END LOOP;
  PERFORM set_config('chat4all.idle', idle::text, false);
END $$;
"""

TERMINATE = """
SET chat4all.ended_user = {user};
SELECT json_build_object('ended', count(*)) FROM pg_stat_activity
  WHERE usename = current_setting('chat4all.ended_user') AND {clients};
DO $$
DECLARE begun timestamptz := clock_timestamp();
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE usename = current_setting('chat4all.ended_user') AND {clients};
    EXIT WHEN NOT FOUND;
    IF clock_timestamp() - begun > make_interval(secs => {timeout}) THEN
      RAISE EXCEPTION 'sessions of % do not end', current_setting('chat4all.ended_user');
    END IF;
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
"""


# -- quoting


def identifier(name: str) -> str:
    """Return a name as SQL reads it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a string as SQL reads it, whatever ``standard_conforming_strings`` is."""
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def array(values: Iterable[str]) -> str:
    """Return strings as an SQL array."""
    return "ARRAY[" + ", ".join(literal(value) for value in values) + "]::text[]"


def connect_command(connection: str) -> str:
    """Return psql's ``\\connect`` to a connection string; a line with the password must follow."""
    # It takes double quotes for an identifier's, even inside single ones.
    quoted = connection.replace("\\", "\\\\").replace("'", "''").replace('"', '""""')
    quoted = quoted.replace("\n", "\\n").replace("\r", "\\r")
    return f"\\connect -reuse-previous=off '{quoted}'"


def setting_name(name: str) -> str:
    """Return the name of a setting (``app.tenant``) as SQL reads it."""
    return ".".join(identifier(part) for part in name.split("."))


def setting_value(name: str, value: str) -> str:
    """Return the value that ``ALTER ROLE ... SET`` needs to store exactly ``value``."""
    if name.lower() not in LIST_SETTINGS:
        return literal(value)
    elements = [
        quoted.replace('""', '"') if quoted or not plain else plain.strip()
        for quoted, plain in re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^",]+))\s*(?:,|$)', value)
    ]
    return ", ".join(literal(element) for element in elements or [""])


# -- what the caller names


@dataclass(frozen=True)
class Login:
    """A user and its password; without one the server's socket must not ask."""

    user: str
    password: str = field(default="", repr=False)

    @classmethod
    def given(cls, option: str, value: dict[str, Any] | None, password_required: bool = False) -> Login | None:
        """Return what a module's option holds; refuses what PostgreSQL or ``psql`` could not take."""
        if value is None:
            return None
        check_name(f"{option}.user", value["user"])
        password = value.get("password") or ""
        if password_required and not password:
            raise SecretsError(f"{option}.password: is empty, and PostgreSQL accepts no empty password; give one")
        if re.search(r"[\r\n\0]", password):
            raise SecretsError(f"{option}.password: holds a line break or a null byte, which psql cannot take")
        return cls(value["user"], password)


def check_name(option: str, name: str) -> str:
    """Refuse a name that PostgreSQL would cut short or not take."""
    if not name or re.search(r"[\r\n\0]", name):
        raise SecretsError(f"{option}: is empty or holds a line break or a null byte; give the name of a role")
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > MAX_NAME_BYTES:
        raise SecretsError(f"{option}: has {size} bytes, and PostgreSQL keeps {MAX_NAME_BYTES}; give a shorter name")
    return name


def password_matches(user: str, verifier: str | None, password: str) -> bool:
    """Tell whether a stored verifier, SCRAM or MD5, was made from this password."""
    if verifier and verifier.startswith("md5"):
        return verifier == "md5" + hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return scram_matches(verifier, password)


# -- what the server holds


class Snapshot:
    """What one look at the server showed."""

    def __init__(self, seen: dict[str, Any], owner: str, own_addresses: list[str]) -> None:
        self.seen = seen
        self.owner = owner
        self.own_addresses = own_addresses
        self.version = int(seen["settings"]["server_version_num"])
        self.sessions: list[dict[str, Any]] = seen["sessions"] or []
        self.rules: list[Rule] = read_rules(seen["rules"])

    def role(self, name: str) -> dict[str, Any] | None:
        """Return a role's attributes, when it exists."""
        return (self.seen["roles"] or {}).get(name)

    def roles_of(self, name: str) -> frozenset[str]:
        """Return every role that a role is a member of, itself included."""
        found, new = {name}, {name}
        while new:
            new = {row["role"] for row in self.seen["members"] or [] if row["member"] in new} - found
            found |= new
        return frozenset(found)

    def principals(self, owner: str) -> set[str]:
        """Return the owner and its direct members."""
        return {owner} | {row["member"] for row in self.seen["members"] or [] if row["role"] == owner}

    def may_become(self, user: str, owner: str) -> bool:
        """Tell whether the user has the owner's rights and may ``SET ROLE`` to it."""
        return any(
            (row["role"], row["member"]) == (owner, user)
            and row.get("inherit_option", True)
            and row.get("set_option", True)
            for row in self.seen["members"] or []
        )

    def settings(self, user: str) -> dict[tuple[str | None, str], str]:
        """Return a role's settings by database (``None``: everywhere) and name."""
        return {
            (row["database"], pair.split("=", 1)[0]): pair.split("=", 1)[1]
            for row in self.seen["role_settings"] or []
            if row["user"] == user
            for pair in row["values"] or []
        }

    def works_as(self, user: str, owner: str) -> bool:
        """Tell whether the user is an alternating login: a member of the owner whose sessions begin as the owner."""
        member = any((row["role"], row["member"]) == (owner, user) for row in self.seen["members"] or [])
        return member and self.settings(user).get((None, "role")) == owner

    def sessions_of(self, user: str) -> int:
        """Return how many sessions clients have as this user."""
        return sum(session["count"] for session in self.sessions if session["user"] == user)

    def databases(self, wanted: Collection[str] | None) -> list[str]:
        """Return the databases that the owner can connect to, or the wanted ones of them.

        One that ``pg_hba.conf`` closes to each of the owner's logins is no consumer's.
        """
        granted = [row["name"] for row in self.seen["databases"] or [] if row["owner"]]
        for name in wanted or []:
            if name not in granted:
                raise SecretsError(
                    f"databases: {name} does not exist on this server, or the owner cannot connect to it"
                )
        if wanted:
            return [name for name in granted if name in wanted]
        users = {user: self.roles_of(user) for user in self.principals(self.owner)}
        closed = [
            name for name in granted if all(closes(self.rules, Who(user, roles, name)) for user, roles in users.items())
        ]
        return [name for name in granted if name not in closed] or granted

    def refusal(self, user: str, database: str) -> str:
        """Return why ``pg_hba.conf`` lets no login as this user in from the server's own addresses, or nothing."""
        who = Who(user, self.roles_of(user), database)
        refusals = [refusal(self.rules, who, address) for address in self.own_addresses]
        return refusals[0] if refusals and all(refusals) else ""

    def not_granted(self, databases: Collection[str]) -> bool:
        """Tell whether the user lacks the right to connect to one of the databases."""
        return any(row["name"] in databases and row["user"] is False for row in self.seen["databases"] or [])


@dataclass(frozen=True)
class Attempt:
    """One login over the containers' network. ``refused``: by the server's own rules, though not for its password."""

    status: str
    reason: str
    rows: list[dict[str, Any]]
    refused: bool = False


class Server:
    """A PostgreSQL server.

    ``admins`` are tried one after the other, each once; in a container on the server's own socket, where they must be
    superusers and its first user comes before them.
    """

    def __init__(self, reach: Reach, admins: Iterable[Login | None] = ()) -> None:
        self.reach = reach
        self.docker = reach.docker
        self.container = reach.name
        self.own_addresses = reach.own_addresses
        self.elsewhere = reach.elsewhere
        first = [Login(reach.first_user)] if reach.first_user else []
        self.admins = list(dict.fromkeys([*first, *(login for login in admins if login)]))
        # What the server refused for its password is not tried again: too many attempts could lock a user out.
        self.rejected: dict[Login, str] = {}
        self.database = "postgres"

    @property
    def prelude(self) -> str:
        return PRELUDE_ELSEWHERE if self.elsewhere else PRELUDE

    # -- scripts

    def admin_script(self, script: str, timeout: float = SCRIPT_TIMEOUT) -> list[dict[str, Any]]:
        """Run SQL as the administrator and return its rows, one JSON object each; raises where it fails."""
        done = self.run_as_admin(script, timeout)
        if done.returncode:
            raise SecretsError(f"{self.container}: PostgreSQL refused: {self.reason(done.stderr)}")
        return rows_of(done)

    def run_as_admin(self, script: str, timeout: float = SCRIPT_TIMEOUT) -> Completed:
        """Run SQL as the administrator."""
        refusals = []
        for login in list(self.admins):
            done = self._as_admin(login, script, timeout)
            if done.returncode == 2 and 'database "postgres" does not exist' in done.stderr:
                self.database = "template1"
                done = self._as_admin(login, script, timeout)
            reason = self.reason(done.stderr)
            # Only what fails at the very start is about the administrator. (A reason is masked, so it decides nothing.)
            failed = done.returncode == 2 or (done.returncode == 3 and NO_SUPERUSER in done.stderr)
            if not failed or "@@" in done.stderr:
                self.admins = [login]
                return done
            if not NO_ENTRY.search(done.stderr):
                where = "" if self.elsewhere else " on its socket"
                raise SecretsError(f"{self.container}: PostgreSQL does not answer{where}: {reason}")
            refusals.append(f"{login.user}: {reason}")
            if REJECTED.search(done.stderr):
                self.rejected[login] = reason
        if self.elsewhere:
            raise SecretsError(f"{self.container}: the administrator does not get in ({'; '.join(refusals)})")
        raise SecretsError(
            f"{self.container}: no administrator gets in on the server's socket ({'; '.join(refusals)}); "
            "give admin, a superuser with its password"
        )

    def _as_admin(self, login: Login, script: str, timeout: float) -> Completed:
        connection = self.reach.admin_connection(login.user, self.database)
        return self.reach.run(connection, login.password, self.prelude + script, timeout)

    def connect(self, login: Login, database: str) -> str:
        """Return the two lines that change a script's session to a login over the network."""
        return f"{connect_command(self.reach.network(login.user, database))}\n{login.password}\n"

    def log_in(self, login: Login, databases: Collection[str]) -> Attempt:
        """Log in over the network, in one database after the other; a refused login is tried once."""
        if login in self.rejected:
            return Attempt("rejected", self.rejected[login], [], refused=True)
        query = (
            "SELECT json_build_object('database', current_database(), 'current_user', current_user, "
            "'session_user', session_user, 'address', host(inet_client_addr()));\n"
        )
        first, *others = databases
        script = query + "".join(self.connect(login, database) + query for database in others)
        done = self.reach.run(self.reach.network(login.user, first), login.password, script, SCRIPT_TIMEOUT)
        attempt = self.attempt(done.returncode, done.stderr, rows_of(done))
        if attempt.reason and attempt.rows:
            place = f"in database {list(databases)[len(attempt.rows)]}: "
            return dataclasses.replace(attempt, reason=one_line(place + attempt.reason))
        return attempt

    def attempt(self, returncode: int, stderr: str, rows: list[dict[str, Any]]) -> Attempt:
        """Judge how a login over the network ended; where ``psql`` tried with and without TLS, a rejection counts."""
        if returncode == 0:
            return Attempt("accepted", "", rows)
        rejected = REJECTED.search(stderr)
        refused = rejected or REFUSED.search(stderr)
        reason = self.reason(refused["said"] if refused else stderr)
        return Attempt("rejected" if rejected else "unknown", reason, rows, bool(refused))

    def reason(self, stderr: str) -> str:
        """Return what the server or ``psql`` said, in one masked line."""
        text = stderr.replace("Password: ", "")
        said = re.search(r"(?:FATAL|ERROR|PANIC):  .*", text)
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("@@", "WARNING"))]
        line = (
            said.group()
            if said
            else re.sub(
                r"^(?:psql:(?:<stdin>:\d+:)? *(?:error: )?)?(?:\\connect: )?", "", (lines or ["no reason given"])[0]
            )
        )
        return self.docker.masker.shown(line.strip())[:300]

    # -- looking

    def look(
        self,
        names: Iterable[str],
        owner: str,
        user: str = "",
        *,
        verifiers: bool = False,
        idle_user: str | None = None,
        idle_for: float = 0,
        timeout: float = 0,
    ) -> Snapshot:
        """Return what the server holds, once ``idle_user`` has had no client session for ``idle_for`` seconds."""
        script = ""
        if idle_user:
            script = WAIT.format(user=literal(idle_user), clients=self.clients(), idle_for=idle_for, timeout=timeout)
        script += SNAPSHOT.format(
            names=array(names),
            owner=literal(owner),
            user=literal(user),
            clients=self.clients(),
            verifier="rolpassword" if verifiers and not self.elsewhere else "NULL::text",
            authid="pg_roles" if self.elsewhere else "pg_authid",
            rules="NULL" if self.elsewhere else "(SELECT json_agg(to_jsonb(r)) FROM pg_hba_file_rules r)",
        )
        return Snapshot(self.admin_script(script, SCRIPT_TIMEOUT + timeout)[0], owner, self.own_addresses)

    def clients(self) -> str:
        """Return the condition under which a session is a client's."""
        if self.elsewhere:
            return CLIENTS_ELSEWHERE.format(application=literal(APPLICATION))
        return CLIENTS.format(
            application=literal(APPLICATION),
            own_addresses=array(self.own_addresses),
            without_password=array(WITHOUT_PASSWORD),
        )

    def refused_logins(self, snapshot: Snapshot, owner: str, since: float, own_refusals: int) -> tuple[int, int] | None:
        """Return the refused logins of the owner's users since then, and our own among them; ``None``: no log tells."""
        settings = snapshot.seen["settings"]
        readable = settings["logging_collector"] == "off" and "stderr" in settings["log_destination"]
        if not readable or not speaks_english(snapshot):
            return None
        text = self.reach.log(since)
        if text is None:
            return None
        return count_refused(
            text,
            settings["log_line_prefix"],
            snapshot.principals(owner),
            self.own_addresses,
            own_refusals,
        )


def rows_of(done: Completed) -> list[dict[str, Any]]:
    """Return a script's rows."""
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def speaks_english(snapshot: Snapshot) -> bool:
    """Tell whether the server's messages are those that we know."""
    return re.match(r"C\b|POSIX|en|$", snapshot.seen["settings"]["lc_messages"]) is not None


# -- the credential


@dataclass
class Changes:
    """What a role lacks: safe words for people, statements for the server."""

    actions: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def add(self, action: str, *statements: str) -> None:
        self.actions.append(action)
        self.statements.extend(statements)


class Credential:
    """One login as the caller wants it. ``current`` is the login that is in use and must stay."""

    def __init__(
        self,
        server: Server,
        owner: str,
        credential: Login,
        current: Login | None,
        admin_login: Login | None,
        databases: list[str] | None = None,
        iterations: int = 4096,
        check_mode: bool = False,
    ) -> None:
        self.server = server
        self.owner = owner
        self.credential = credential
        self.current = current
        self.admin_login = admin_login
        self.wanted = databases
        self.iterations = iterations
        self.check_mode = check_mode
        self._seen: Snapshot | None = None
        self._fitting: bool | None = None
        if admin_login and admin_login.user in {owner, credential.user, current.user if current else owner}:
            raise SecretsError(f"admin_login: {admin_login.user} is a login of the application; give another name")

    # -- present

    def present_pair(self) -> dict[str, Any]:
        """Make the login accepted beside the current one, working as the owner."""
        user, owner = self.credential.user, self.owner
        if self.current is None or user in (self.current.user, owner):
            raise SecretsError(
                f"credential: {user} is in use; alternating logins never touch the current one nor the owner"
            )
        snapshot = self._look()
        self._check_server(snapshot)
        self._check_rights(snapshot, owner, user)
        databases = snapshot.databases(self.wanted)
        self._check_owner(snapshot)
        self._check_idle_role(snapshot)
        self._check_rules(snapshot, databases)
        changes = Changes()
        self._want_role(snapshot, changes)
        if not snapshot.may_become(user, owner):
            options = " WITH INHERIT TRUE, SET TRUE" if snapshot.version >= 160000 else ""
            changes.add(f"membership in {owner}", f"GRANT {identifier(owner)} TO {identifier(user)}{options};")
        self._want_settings(snapshot, changes)
        if not self.server.elsewhere and (snapshot.role(user) is None or snapshot.not_granted(databases)):
            # The owner may connect as a superuser, which its members are not.
            changes.statements.append(
                f"SELECT format('GRANT CONNECT ON DATABASE %I TO %I', datname, {literal(user)}) FROM pg_database "
                f"WHERE datname = ANY ({array(databases)}) "
                f"AND NOT has_database_privilege({literal(user)}, oid, 'CONNECT') \\gexec"
            )
            if snapshot.not_granted(databases):
                changes.actions.append("right to connect")
        return self._apply(snapshot, changes, databases)

    def present_single_user(self) -> dict[str, Any]:
        """Change the password of the one user in place."""
        user = self.credential.user
        if self.current and self.current.user != user:
            raise SecretsError(
                f"credential: {user} is not the current user {self.current.user}; single_user keeps the user"
            )
        snapshot = self._look()
        self._check_server(snapshot)
        role = snapshot.role(user)
        if role is None:
            raise SecretsError(f"credential: role {user} does not exist in {self.server.container}")
        if role["expired"]:
            raise SecretsError(
                f"credential: VALID UNTIL of {user} is over ({role['until']}), so no password of it is accepted; "
                "set a later one on the role, or infinity"
            )
        changes = Changes()
        if not role["login"]:
            changes.add("login", f"ALTER ROLE {identifier(user)} LOGIN;")
        if not self._fits(role):
            changes.add(
                "password", f"ALTER ROLE {identifier(user)} PASSWORD {literal(self._verifier(self.credential))};"
            )
        return self._apply(snapshot, changes, snapshot.databases(self.wanted))

    def _look(self) -> Snapshot:
        logins = (self.credential, self.current, self.admin_login)
        names = {self.owner, *(login.user for login in logins if login)}
        return self.server.look(sorted(names), self.owner, self.credential.user, verifiers=True)

    def _fits(self, role: dict[str, Any]) -> bool:
        """Tell whether a role has the wanted password; where verifiers are not shown, whether it logs in with it."""
        if not self.server.elsewhere:
            return scram_matches(role["verifier"], self.credential.password)
        if self._fitting is None:
            inside = self.server.admins[0]
            if inside.user == self.credential.user:
                self._fitting = inside.password == self.credential.password
            else:
                self._fitting = bool(role["login"]) and self._logs_in(self.credential)
        return self._fitting

    def _logs_in(self, login: Login) -> bool:
        """Tell whether a login is accepted; only a refused password says no."""
        attempt = self.server.log_in(login, (self.wanted or ["postgres"])[:1])
        if attempt.status == "unknown" and not attempt.refused:
            raise SecretsError(f"{self.server.container}: cannot be asked about {login.user}: {attempt.reason}")
        return attempt.status == "accepted"

    def _check_rights(self, snapshot: Snapshot, *roles: str) -> None:
        """Refuse what an administrator that is no superuser could not do, before anything is done."""
        admin, where = snapshot.seen["admin"], self.server.container
        if not self.server.elsewhere or admin["superuser"]:
            return
        name, owner = admin["name"], snapshot.role(self.owner) or {}
        if name in {self.owner, self.credential.user, self.current.user if self.current else self.owner}:
            raise SecretsError(f"admin: {name} is a login of the application on {where}; give another one")
        lacking = []
        if not admin["createrole"]:
            lacking.append(f"CREATEROLE: ALTER ROLE {identifier(name)} CREATEROLE")
        if not admin["sees"]:
            lacking.append(f"the right to see sessions: GRANT pg_read_all_stats TO {identifier(name)}")
        if not admin["ends"]:
            lacking.append(f"the right to end sessions: GRANT pg_signal_backend TO {identifier(name)}")
        if snapshot.version >= 160000:
            lacking += [
                f"the ADMIN OPTION on {role}: GRANT {identifier(role)} TO {identifier(name)} WITH ADMIN OPTION"
                for role in roles
                if snapshot.role(role) and role not in (admin["gives"] or [])
            ]
        if lacking:
            raise SecretsError(f"admin: {name} lacks on {where} {lacking[0]}")
        if owner.get("superuser") or owner.get("replication"):
            what = "a superuser" if owner["superuser"] else "of the attribute REPLICATION"
            raise SecretsError(f"owner: {self.owner} is {what}, which {name} may not give to its logins on {where}")
        if admin["may_not_set"]:
            setting = admin["may_not_set"][0]
            raise SecretsError(
                f"owner: {self.owner} has the setting {setting}, which {name} may not give to its logins on {where}; "
                f"GRANT SET ON PARAMETER {setting} TO {identifier(name)}"
            )

    def _check_server(self, snapshot: Snapshot) -> None:
        self._check_messages(snapshot)
        if snapshot.seen["settings"]["in_hot_standby"] == "on":
            raise SecretsError(
                f"{self.server.container}: is a standby, which changes no role; give the container of its primary"
            )

    def _check_messages(self, snapshot: Snapshot) -> None:
        if not speaks_english(snapshot):
            raise SecretsError(
                f"{self.server.container}: its messages are in {snapshot.seen['settings']['lc_messages']}, so a "
                "refusal could not be told from other errors; set lc_messages = 'C'"
            )

    def _check_new(self, option: str, name: str) -> None:
        if RESERVED.match(name):
            raise SecretsError(f"{option}: PostgreSQL reserves the name {name} for itself; choose another name")

    def _verifier(self, login: Login) -> str:
        verifier = scram_sha_256(login.password, iterations=self.iterations)
        self.server.docker.masker.add(verifier)
        return verifier

    def _check_owner(self, snapshot: Snapshot) -> None:
        owner, current, where = self.owner, self.current.user, self.server.container
        role = snapshot.role(owner)
        if role is None:
            raise SecretsError(f"owner: role {owner} does not exist in {where}")
        for (database, name), value in snapshot.settings(owner).items():
            if name == "role" and value not in (owner, "none"):
                raise SecretsError(
                    f"owner: {owner} itself works as {value}{f' in {database}' if database else ''}; give owner: "
                    f"{value}"
                )
        # Beside a login that a restored server lacks there is nothing to be kept; the new one is made from the owner.
        if snapshot.role(current) and current != owner and not snapshot.works_as(current, owner):
            raise SecretsError(f"owner: {current} does not work as {owner}; give the role whose objects it uses")
        if role["expired"]:
            raise SecretsError(
                f"owner: VALID UNTIL of {owner} is over ({role['until']}), and its logins take it over; "
                "set a later one on the role, or infinity"
            )

    def _check_idle_role(self, snapshot: Snapshot) -> None:
        user, role = self.credential.user, snapshot.role(self.credential.user)
        if role is None:
            self._check_new("credential", user)
            return
        if not snapshot.works_as(user, self.owner):
            owns = f"owns {role['owns']} objects" if role["owns"] else f"is no alternating login of {self.owner}"
            raise SecretsError(
                f"credential: role {user} exists in {self.server.container} and {owns}; "
                "it is not taken over: rename it, or choose another name"
            )
        sessions = snapshot.sessions_of(user)
        if self.server.elsewhere:
            fits = self._fits(role)
        else:
            fits = password_matches(user, role["verifier"], self.credential.password)
        if sessions and not fits:
            clients = sorted(
                {s["address"] or "the server's own socket" for s in snapshot.sessions if s["user"] == user}
            )
            raise SecretsError(
                f"credential: {user} should be idle, but {sessions} sessions use it (from {', '.join(clients)}); "
                "its password is not changed under them: end them first"
            )

    def _check_rules(self, snapshot: Snapshot, databases: list[str]) -> None:
        user, current = self.credential.user, self.current.user
        for database in databases:
            new = Who(user, snapshot.roles_of(self.owner) | snapshot.roles_of(user), database)
            # The owner's, too, where a restored server lacks the current login.
            old = Who(current, snapshot.roles_of(self.owner) | snapshot.roles_of(current), database)
            rule = first_difference(snapshot.rules, old, new)
            if rule:
                named, other = (current, user) if rule.is_for(old) else (user, current)
                raise SecretsError(
                    f"pg_hba.conf line {rule.line} is for {named} and not for {other} (database {database}), so they "
                    "would not "
                    f"log in alike; name +{self.owner} there, then reload"
                )

    def _want_role(self, snapshot: Snapshot, changes: Changes) -> None:
        user, role, owner = self.credential.user, snapshot.role(self.credential.user), snapshot.role(self.owner)
        wanted = {
            "login": True,
            "inherit": True,
            "superuser": False,
            "createdb": False,
            "createrole": False,
            "bypassrls": False,
            # The only attribute that is asked of the login itself, not of the role that it works as.
            "replication": owner["replication"] or owner["superuser"],
            # No limit binds a superuser.
            "limit": -1 if owner["superuser"] else owner["limit"],
            "until": owner["until"],
        }
        password_fits = role is not None and self._fits(role)
        differing = [name for name, value in wanted.items() if role is None or role[name] != value]
        if not differing and password_fits:
            return
        # Who is no superuser may not even repeat what is so already.
        words = [
            f"{'' if wanted[name] else 'NO'}{name.upper()}"
            for name in ("login", "inherit", "superuser", "createdb", "createrole", "bypassrls", "replication")
            if name in differing
        ]
        words += [f"CONNECTION LIMIT {wanted['limit']}", f"VALID UNTIL {literal(wanted['until'])}"]
        if not password_fits:
            words.append(f"PASSWORD {literal(self._verifier(self.credential))}")
        attributes = f"{identifier(user)} WITH {' '.join(words)};"
        if role is None:
            comment = f"COMMENT ON ROLE {identifier(user)} IS {literal(f'alternating login of {self.owner}, {MARK}')};"
            changes.add("role", f"CREATE ROLE {attributes}", comment)
            return
        changes.statements.append(f"ALTER ROLE {attributes}")
        changes.actions += differing + ([] if password_fits else ["password"])

    def _want_settings(self, snapshot: Snapshot, changes: Changes) -> None:
        """Copy the owner's settings: they belong to the login, and do not follow ``SET ROLE``."""
        user = self.credential.user
        wanted = {key: value for key, value in snapshot.settings(self.owner).items() if key[1] != "role"}
        wanted[None, "role"] = self.owner
        actual = snapshot.settings(user)
        for key in sorted({*wanted, *actual}, key=str):
            if wanted.get(key) == actual.get(key):
                continue
            database, name = key
            place = f" IN DATABASE {identifier(database)}" if database else ""
            change = f"RESET {setting_name(name)}"
            if key in wanted:
                change = f"SET {setting_name(name)} = {setting_value(name, wanted[key])}"
            where = f" in {database}" if database else ""
            changes.add(f"setting {name}{where}", f"ALTER ROLE {identifier(user)}{place} {change};")

    def _want_admin(self, snapshot: Snapshot, changes: Changes) -> None:
        login = self.admin_login
        role = snapshot.role(login.user)
        # It has to get in where it is made, and before the first superuser goes.
        current = (
            snapshot.role(self.current.user) if self.current and self.current.user != self.credential.user else None
        )
        if not self._admin_works(snapshot) or (current and current["oid"] == 10):
            self._admin_database(snapshot)
        if role is None:
            self._check_new("admin_login", login.user)
            attributes = f"{identifier(login.user)} WITH LOGIN SUPERUSER PASSWORD {literal(self._verifier(login))};"
            comment = f"COMMENT ON ROLE {identifier(login.user)} IS {literal(f'administrator, {MARK}')};"
            changes.add(f"administrator {login.user}", f"CREATE ROLE {attributes}", comment)
        elif not self._admin_works(snapshot):
            if MARK not in (role["mark"] or ""):
                raise SecretsError(
                    f"admin_login: role {login.user} exists in {self.server.container} and is not ours; choose "
                    "another name"
                )
            words = f"LOGIN SUPERUSER VALID UNTIL 'infinity' PASSWORD {literal(self._verifier(login))}"
            changes.add(f"administrator {login.user}", f"ALTER ROLE {identifier(login.user)} WITH {words};")

    def _admin_database(self, snapshot: Snapshot) -> str:
        """Return the database in which the administrator is tried; refuses where pg_hba.conf lets it into none."""
        user, first = self.admin_login.user, self.server.database
        for database in (first, *snapshot.databases(None)):
            if not snapshot.refusal(user, database):
                return database
        raise SecretsError(
            f"admin_login: {user} would not get in over the network (pg_hba.conf: {snapshot.refusal(user, first)}, "
            f"from {self.server.own_addresses[0]}, database {first}); add a line for it there, then reload"
        )

    def _admin_works(self, snapshot: Snapshot) -> bool:
        role = snapshot.role(self.admin_login.user)
        return bool(
            role
            and role["superuser"]
            and role["login"]
            and not role["expired"]
            and scram_matches(role["verifier"], self.admin_login.password)
        )

    def _apply(self, snapshot: Snapshot, changes: Changes, databases: list[str]) -> dict[str, Any]:
        verify = ""
        if self.admin_login:
            before = len(changes.actions)
            self._want_admin(snapshot, changes)
            if len(changes.actions) > before:
                verify = self._as_admin_login(snapshot)
        if changes.statements and changes.actions and not self.check_mode:
            self.server.admin_script("BEGIN;\n" + "\n".join(changes.statements) + "\nCOMMIT;\n" + verify)
        owner, login = snapshot.role(self.owner), {}
        if not self.check_mode:
            # The snapshot was taken before it became a member.
            roles = snapshot.roles_of(self.owner)
            login = login_result(self.server, snapshot, self.credential, databases, roles)
        return {
            "login": login,
            "changed": bool(changes.actions),
            "actions": changes.actions,
            "user": self.credential.user,
            "databases": databases,
            "owner_superuser": bool(owner and owner["superuser"]),
        }

    def _as_admin_login(self, snapshot: Snapshot) -> str:
        """Return the lines after which a script goes on as the administrator, over the network, or ends."""
        return "\\warn @@admin\n" + self.server.connect(self.admin_login, self._admin_database(snapshot)) + PRELUDE

    # -- absent

    def absent(self) -> dict[str, Any]:
        """Take the password away, end the login's sessions, and see it refused."""
        user, server = self.credential.user, self.server
        if self.current is None or user == self.current.user:
            raise SecretsError(f"credential: {user} is the current login; revoking it would lock its consumers out")
        snapshot = self._seen = self._look()
        role = snapshot.role(user)
        if role is None:
            # Nothing can log in as it, so there is nothing to try either.
            return self._revoked(Changes(), 0, "" if self.check_mode else f"role {user} does not exist")
        self._check_messages(snapshot)
        self._check_rights(snapshot, user)
        self._check_current(snapshot)
        ours = (
            user == self.owner
            or snapshot.works_as(user, self.owner)
            or password_matches(user, role["verifier"], self.credential.password)
        )
        database = (snapshot.databases(self.wanted) or ["postgres"])[0]
        changes, ended = Changes(), 0
        if not ours:
            # Somebody else's role, with another password: nothing of it is ours to take.
            reason = "" if self.check_mode else self._see_refused(server.log_in(self.credential, [database]), ours)
            return self._revoked(changes, ended, reason)

        bootstrap = role["oid"] == 10
        if self._has_password(role):
            # Elsewhere nobody can tell whose it is.
            known = self.server.elsewhere or password_matches(user, role["verifier"], self.credential.password)
            changes.add("password" if known else SET_BY_OTHERS, f"ALTER ROLE {identifier(user)} PASSWORD NULL;")
        if snapshot.sessions_of(user):
            changes.add("sessions")
        if role["login"] and not bootstrap:
            changes.actions.append("login")
        if bootstrap and role["verifier"]:
            self._check_admin(snapshot)
        if self.check_mode:
            return self._revoked(changes, snapshot.sessions_of(user), "")
        if not changes.actions:
            return self._revoked(changes, ended, self._see_refused(server.log_in(self.credential, [database])))

        terminate = TERMINATE.format(user=literal(user), clients=server.clients(), timeout=TERMINATION_TIMEOUT)
        script = self._as_admin_login(snapshot) if bootstrap and role["verifier"] else ""
        script += (
            "\n".join(changes.statements) + terminate + "\\warn @@probe\n" + server.connect(self.credential, database)
        )
        done = server.run_as_admin(script)
        before, reached, after = done.stderr.partition("@@probe")
        if not reached:
            what = f"the administrator {self.admin_login.user} does not get in: " if "@@admin" in before else ""
            raise SecretsError(
                f"{server.container}: {user} is not revoked: {what}{server.reason(before.split('@@admin')[-1])}"
            )
        # A login that was under way when the password went may have become a session since.
        final = "" if bootstrap else f"ALTER ROLE {identifier(user)} NOLOGIN;\n"
        ended = sum(row["ended"] for row in rows_of(done) + server.admin_script(final + terminate))
        return self._revoked(changes, ended, self._see_refused(server.attempt(done.returncode, after, [])))

    def refused_logins(self, since: float, own_refusals: int) -> int | None:
        """Return how many logins of the owner's users were refused since then, ours left out; ``None``: no log tells."""
        snapshot = self._seen or self._look()
        counted = self.server.refused_logins(snapshot, self.owner, since, own_refusals)
        return counted[0] if counted else None

    def _has_password(self, role: dict[str, Any]) -> bool:
        """Tell whether a role may have a password; where verifiers are not shown, one that may log in does."""
        return bool(role.get("login") if self.server.elsewhere else role.get("verifier"))

    def _check_current(self, snapshot: Snapshot) -> None:
        current = self.current
        role = snapshot.role(current.user)
        if role is None or not role["login"] or role["expired"]:
            raise SecretsError(f"current: {current.user} cannot log in, so {self.credential.user} is not revoked")
        if self.server.elsewhere:
            fits = not current.password or self._logs_in(current)
        else:
            fits = not current.password or password_matches(current.user, role["verifier"], current.password)
        if not fits:
            raise SecretsError(
                f"current: the server holds another password for {current.user}, so {self.credential.user} is not "
                "revoked"
            )

    def _check_admin(self, snapshot: Snapshot) -> None:
        user = self.credential.user
        if not self.admin_login:
            raise SecretsError(
                f"credential: {user} is the server's first superuser; give admin_login, another superuser, before "
                "its password goes"
            )
        if not self._admin_works(snapshot):
            raise SecretsError(
                f"admin_login: {self.admin_login.user} is no superuser that logs in with this password, so the "
                "password of "
                f"{user}, the server's first superuser, is kept"
            )
        self._admin_database(snapshot)

    def _see_refused(self, attempt: Attempt, ours: bool = True) -> str:
        """Return the server's words; without a password any refusal is one, even where none was asked for."""
        user = self.credential.user
        if attempt.refused:
            return attempt.reason
        if attempt.status == "accepted":
            raise SecretsError(
                f"{user} still logs in over the network with the revoked password; look for trust in pg_hba.conf"
            )
        what = "has no password any more" if ours else "has another password, of somebody else"
        raise SecretsError(f"{user} {what}, but its refusal could not be seen: {attempt.reason}")

    def _revoked(self, changes: Changes, ended: int, refused: str) -> dict[str, Any]:
        owner = self._seen.role(self.owner) or {}
        return {
            "changed": bool(changes.actions),
            "actions": changes.actions,
            "user": self.credential.user,
            "ended_sessions": ended,
            "refused": refused,
            # As on a server that was restored from a copy of before the first rotation: no store knows that password.
            "owner_password": self._has_password(owner) and self.owner not in (self.credential.user, self.current.user),
        }


# -- info


def info(
    server: Server,
    owner: str,
    credentials: dict[str, Login],
    databases: list[str] | None = None,
    idle_user: str | None = None,
    idle_for: float = 0,
    timeout: float = 0,
    refused_since: float | None = None,
    own_refusals: int = 0,
) -> dict[str, Any]:
    """Return who logs in, who is connected, and how many logins were refused."""
    names = {owner, *(login.user for login in credentials.values())}
    snapshot = server.look(sorted(names), owner, idle_user=idle_user, idle_for=idle_for, timeout=timeout)
    role = snapshot.role(owner)
    if role is None:
        raise SecretsError(f"owner: role {owner} does not exist in {server.container}")
    if idle_user and not (snapshot.seen["admin"]["sees"] or snapshot.seen["admin"]["superuser"]):
        name = snapshot.seen["admin"]["name"]
        raise SecretsError(f"admin: {name} may not see sessions; GRANT pg_read_all_stats TO {identifier(name)}")
    reachable = snapshot.databases(databases)
    counted = None
    if refused_since is not None:
        counted = server.refused_logins(snapshot, owner, refused_since, own_refusals)
    return {
        "logins": {label: login_result(server, snapshot, login, reachable) for label, login in credentials.items()},
        "sessions": snapshot.sessions,
        "idle": snapshot.seen["idle"] == "true" if idle_user else None,
        "databases": reachable,
        "refused_logins": counted[0] if counted else None,
        "own_refused_logins": counted[1] if counted else None,
        "owner_superuser": role["superuser"],
    }


def login_result(
    server: Server, snapshot: Snapshot, login: Login, databases: list[str], roles: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Log in once and judge the answer: only a refused password is a rejection, only an asked-for one an acceptance.

    ``roles`` are those that the login has besides what the snapshot shows.
    """
    if not databases:
        return {"status": "unknown", "reason": "there is no database that the owner can connect to", "databases": {}}
    attempt = server.log_in(login, databases)
    status, reason = attempt.status, attempt.reason
    if status == "unknown" and not speaks_english(snapshot):
        reason += " (set lc_messages = 'C' on the server: only its English messages are understood)"
    for row in attempt.rows if status == "accepted" else []:
        who = Who(login.user, snapshot.roles_of(login.user) | roles, row["database"])
        rule = first_rule(snapshot.rules, who, row["address"]) if row["address"] else None
        if rule and rule.method == "trust":
            status, reason = "unknown", f"pg_hba.conf line {rule.line} lets anybody in as {login.user} (trust)"
    seen = {row["database"]: {key: row[key] for key in ("current_user", "session_user")} for row in attempt.rows}
    return {"status": status, "reason": reason, "databases": seen if status == "accepted" else {}}


# -- for the modules

LOGIN = {"user": {"type": "str", "required": True}, "password": {"type": "str", "no_log": True}}
REQUIRED_LOGIN = {**LOGIN, "password": {"type": "str", "no_log": True, "required": True}}

ADDRESS = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 5432},
    "ca": {"type": "path", "required": True},
    "database": {"type": "str", "default": "postgres"},
    "network": {"type": "str"},
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "container": {"type": "str"},
    "address": {"type": "dict", "options": ADDRESS},
    "host": {"type": "str"},
    "port": {"type": "int", "default": 5432},
    "admin": {"type": "dict", "options": LOGIN},
    "owner": {"type": "str", "required": True},
    "databases": {"type": "list", "elements": "str", "default": []},
}


def connected(params: dict[str, Any], logins: Iterable[Login | None], admins: Iterable[Login | None] = ()) -> Server:
    """Return the server that a module's options name; ``admins`` are tried after ``admin``."""
    admin = Login.given("admin", params["admin"])
    check_name("owner", params["owner"])
    masker = Masker(login.password for login in [*logins, *admins, admin] if login)
    if params.get("address") and not admin:
        raise SecretsError("admin: is needed with address; give a login that may make roles there")
    if params.get("address") and not params["databases"]:
        raise SecretsError("databases: is needed with address; name those that matter")
    reach = reach_of(params, DockerCli(masker))
    if not reach.elsewhere:
        return Server(reach, [admin, *admins])
    # Whoever gets in would be taken for the administrator: there is but one, which may be on its way to a new password.
    server = Server(reach, [login for login in (admin, *admins) if login and login.user == admin.user])
    server.database = params["address"]["database"]
    return server


# What the modules demand of these.
WHERE: dict[str, Any] = {
    "required_one_of": [("container", "address")],
    "mutually_exclusive": [("container", "address")],
}


def one_line(message: str) -> str:
    """Return a message without the line breaks that a name in it may have."""
    return " ".join(message.splitlines())


def without_passwords(value: Any) -> Any:
    """Return a module's options as its result may show them."""
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items() if key != "password"}
    return value
