# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of the two PostgreSQL modules on a server elsewhere: TLS, and an administrator that is no superuser."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import postgresql_reach
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.generate import generate
from ansible_collections.chat4all.secrets.plugins.modules import postgresql_credential, postgresql_credential_info
from elsewhere import ADMIN, Authority, Elsewhere

COMMON = {"container": None, "host": None, "port": 5432, "owner": "chat4all", "databases": ["chat4all"]}
LOCK = {"state_dir": None, "holder": None, "ledger": []}


class Lab(Elsewhere):
    """A server elsewhere and the two modules for it."""

    def credential(self, login, current, check_mode=False, **options):
        given = {"address": self.options(), "admin": self.admin, "admin_login": None, "state": "present"}
        given |= {"strategy": "pair", "iterations": 4096, "refused_since": None, "own_refusals": 0}
        given |= {"credential": login, "current": current, **options}
        return postgresql_credential.work({**COMMON, **LOCK, **given}, check_mode)

    def info(self, **options):
        logins = [{"label": label, **options.pop(label)} for label in ("one", "two") if label in options]
        given = {"address": self.options(), "admin": self.admin, "credentials": logins, "idle_user": None}
        given |= {"idle_for": 0.3, "timeout": 0.5, "refused_since": None, "own_refusals": 0, **options}
        return postgresql_credential_info.work({**COMMON, **LOCK, **given})

    def roles(self) -> str:
        """Everything that the modules could change, verifiers included."""
        return self.sql(
            "SELECT json_agg(a ORDER BY rolname) FROM pg_authid a; SELECT json_agg(m) FROM pg_auth_members m;"
            "SELECT json_agg(s) FROM pg_db_role_setting s;"
        )

    @contextlib.contextmanager
    def session(self, login):
        """A consumer's session that stays open."""
        command = ["docker", "exec", "-i", self.name, "psql", "-X", "-q", "-A", "-t", "-W", "-d"]
        connection = f"host={self.address} user={login['user']} dbname=chat4all sslmode=require"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*command, connection], **pipes) as process:
            process.stdin.write(f"{login['password']}\nSELECT 'here';\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "here", process.stderr.read()
            try:
                yield process
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait(20)


def slot(user: str) -> dict[str, str]:
    return {"user": user, "password": generate().value}


@pytest.fixture(scope="module", params=["17", "15"])
def lab(request, tmp_path_factory):
    """The one is asked by a client in a container, the other by the host's own, where it has one."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Lab(tmp_path_factory.mktemp("tls"), request.param, "modules") as running,
    ):
        if request.param == "17":
            patch.setattr(postgresql_reach.shutil, "which", lambda _name: None)
        # What the administrator must not switch off.
        running.sql(f"ALTER ROLE {ADMIN} SET log_statement = 'all'")
        yield running


@pytest.fixture(scope="module")
def first(lab):
    """The first of two logins, made beside the one that is in use."""
    login = slot("chat4all_1")
    before = lab.roles()
    assert lab.credential(login, lab.first, check_mode=True)["actions"][0] == "role" and lab.roles() == before
    lab.sql("ALTER ROLE chat4all SET statement_timeout = '7s'; ALTER ROLE chat4all CONNECTION LIMIT 20")
    made = lab.credential(login, lab.first)
    assert made["login"]["status"] == "accepted", made
    assert made["login"]["databases"] == {"chat4all": {"current_user": "chat4all", "session_user": "chat4all_1"}}
    return login


def test_the_same_again_changes_nothing(lab, first):
    before = lab.roles()
    again = lab.credential(first, lab.first)
    assert not again["changed"] and again["login"]["status"] == "accepted" and lab.roles() == before
    assert lab.sql("SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'chat4all_1'") == (
        "20|{role=chat4all,statement_timeout=7s}"
    )


def test_a_login_is_known_by_trying_it_and_a_session_by_its_user(lab, first):
    wrong = {"user": "chat4all", "password": "wrong-" + secrets.token_hex(8)}
    with lab.session(first):
        seen = lab.info(one=first, two=wrong, idle_user="chat4all_1", refused_since=0)
    assert (seen["logins"]["one"]["status"], seen["logins"]["two"]["status"]) == ("accepted", "rejected")
    assert seen["idle"] is False and [row["user"] for row in seen["sessions"]] == ["chat4all_1"]
    assert seen["refused_logins"] is None, "its log cannot be read"
    assert lab.info(idle_user="chat4all_1")["idle"] is True


def test_the_password_of_a_login_in_use_is_not_changed_under_it(lab, first):
    with lab.session(first), pytest.raises(SecretsError, match="chat4all_1 should be idle, but 1 sessions use it"):
        lab.credential(slot("chat4all_1"), lab.first)


def test_what_the_administrator_may_not_do_is_refused_before_anything_is_done(lab, first):
    cases = [
        (f"ALTER ROLE {ADMIN} NOCREATEROLE", f"ALTER ROLE {ADMIN} CREATEROLE", "CREATEROLE"),
        (f"REVOKE pg_signal_backend FROM {ADMIN}", f"GRANT pg_signal_backend TO {ADMIN}", "the right to end sessions"),
        (f"REVOKE pg_monitor FROM {ADMIN}", f"GRANT pg_monitor TO {ADMIN}", "the right to see sessions"),
        ("ALTER ROLE chat4all REPLICATION", "ALTER ROLE chat4all NOREPLICATION", "of the attribute REPLICATION"),
        ("ALTER ROLE chat4all SUPERUSER", "ALTER ROLE chat4all NOSUPERUSER", "is a superuser"),
        (
            "ALTER ROLE chat4all SET log_statement = 'all'",
            "ALTER ROLE chat4all RESET log_statement",
            "has the setting log_statement",
        ),
    ]
    for broken, mended, said in cases:
        lab.sql(broken)
        before = lab.roles()
        with pytest.raises(SecretsError, match=said) as error:
            lab.credential(slot("chat4all_2"), first, check_mode=True)
        with pytest.raises(SecretsError, match=said):
            lab.credential(slot("chat4all_2"), first)
        assert "\n" not in error.value.message and lab.roles() == before
        lab.sql(mended)
    if lab.version != "15":  # where CREATEROLE was enough for everybody's roles
        other = slot("other")
        lab.sql(f"CREATE ROLE other LOGIN CREATEROLE PASSWORD '{other['password']}'; GRANT pg_monitor TO other")
        lab.sql("GRANT pg_signal_backend TO other")
        with pytest.raises(SecretsError, match='lacks on .* the ADMIN OPTION on chat4all: GRANT "chat4all" TO "other"'):
            lab.credential(slot("chat4all_2"), first, admin=other)
    with pytest.raises(SecretsError, match=f"admin: {ADMIN} is a login of the application"):
        lab.credential(slot("chat4all_2"), lab.admin)


def test_the_old_value_and_its_sessions_end_and_two_logins_alternate(lab, first):
    with lab.session(lab.first):
        ended = lab.credential(lab.first, first, state="absent")
    assert ended["ended_sessions"] == 1 and "password authentication failed" in ended["refused"], ended
    assert lab.credential(lab.first, first, state="absent")["changed"] is False
    second = slot("chat4all_2")
    assert lab.credential(second, first)["login"]["status"] == "accepted"
    assert "password authentication failed" in lab.credential(first, second, state="absent")["refused"]
    third = slot("chat4all_1")
    assert lab.credential(third, second)["login"]["status"] == "accepted"
    seen = lab.info(one=third, two=first)["logins"]
    assert (seen["one"]["status"], seen["two"]["status"]) == ("accepted", "rejected")
    with pytest.raises(SecretsError, match="current: the server holds another password for chat4all_1"):
        lab.credential(second, first, state="absent")
    log = lab.log()
    assert "PASSWORD 'SCRAM-SHA-256$" in log, "every statement is logged, with a verifier at most"
    assert not [login["user"] for login in (first, second, third, lab.first, lab.admin) if login["password"] in log]


def test_an_administrator_changes_its_own_password(lab):
    new, old = slot(ADMIN), lab.admin
    given = {"strategy": "single_user", "owner": ADMIN, "databases": ["postgres"]}
    assert lab.credential(new, old, **given)["login"]["status"] == "accepted"
    # As after a run that was interrupted: the old one does not get in any more.
    again = lab.credential(new, old, **given)
    assert not again["changed"] and again["login"]["status"] == "accepted"
    with pytest.raises(SecretsError, match="the administrator does not get in .*password authentication failed"):
        lab.info()
    lab.admin = new
    assert lab.info(one=old)["logins"]["one"]["status"] == "rejected"


def test_a_server_that_cannot_be_verified_is_not_spoken_to(lab, tmp_path):
    other = tmp_path / "ca.pem"
    other.write_text(Authority().certificate)
    with pytest.raises(SecretsError, match="does not answer.*certificate verify failed"):
        lab.info(address={**lab.options(), "ca": str(other)})
    lab.certify("192.0.2.1")
    deadline = time.monotonic() + 20
    with pytest.raises(SecretsError, match="does not answer.*does not match"):
        while time.monotonic() < deadline:  # until the server has read it
            lab.info()
    lab.certify(lab.address)


def test_nothing_is_left_behind(lab):
    names = subprocess.run(["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    assert "chat4all-psql-" not in names.stdout
    assert Path(lab.options()["ca"]).is_file()
