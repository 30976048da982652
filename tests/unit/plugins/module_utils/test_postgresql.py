# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is judged without a server: its language, its answers to a login, its log, its pg_hba.conf."""

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.docker_cli import DockerCli
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import Masker
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql import Credential, Login, Server, Snapshot
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_log import count_refused
from ansible_collections.chat4all.secrets.plugins.module_utils.postgresql_rules import Rule, Who, refusal

SETTINGS = {"server_version_num": "170006", "lc_messages": "C", "in_hot_standby": "off"}
ROLE = {"login": True, "expired": False, "verifier": None, "owns": 0, "oid": 16384}


class Lookalike(Server):
    """A server of which only one look is known."""

    def __init__(self, **seen) -> None:
        self.seen = {"settings": SETTINGS, "roles": {"app": ROLE}, "members": [], "role_settings": [], "sessions": []}
        self.seen |= {"databases": [{"name": "app", "owner": True, "user": None}], "rules": [], **seen}
        self.elsewhere = False
        self.docker, self.container, self.own_addresses = DockerCli(Masker(["password"])), "db", ["172.18.0.2"]

    def look(self, *_names, **_options) -> Snapshot:
        return Snapshot(self.seen, "app", self.own_addresses)


def credential(server: Server, user: str = "app_1") -> Credential:
    return Credential(server, "app", Login(user, "x" * 32), Login("app"), None, check_mode=True)


@pytest.mark.parametrize("language", ["de_DE.UTF-8", "tr_TR.utf8"])
def test_a_server_whose_refusals_could_not_be_read_is_refused_before_anything_is_made(language):
    server = Lookalike(settings={**SETTINGS, "lc_messages": language})
    for refused in (
        credential(server).present_pair,
        Credential(server, "app", Login("app", "x" * 32), None, None, check_mode=True).present_single_user,
    ):
        with pytest.raises(SecretsError, match=f"messages are in {language}.*set lc_messages = 'C'"):
            refused()
    # What was never made is revoked all the same.
    assert credential(server).absent()["actions"] == []


def test_a_user_whose_time_is_over_gets_no_new_password_in_place():
    server = Lookalike(roles={"app": {**ROLE, "expired": True, "until": "2001-01-01 00:00:00+00"}})
    with pytest.raises(SecretsError, match="VALID UNTIL of app is over"):
        Credential(server, "app", Login("app", "x" * 32), None, None, check_mode=True).present_single_user()


RIGHTS = {"name": "rds", "superuser": False, "createrole": True, "replication": False, "sees": True, "ends": True}
RIGHTS |= {"gives": ["app"], "may_not_set": None}


def elsewhere(version: int = 170000, role: dict | None = None, **lacking) -> Credential:
    server = Lookalike(
        settings={**SETTINGS, "server_version_num": str(version)},
        roles={
            "app": {**ROLE, "superuser": False, "replication": False, "limit": -1, "until": "infinity", **(role or {})}
        },
        admin={**RIGHTS, **lacking},
    )
    server.elsewhere = True
    return credential(server)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({"createrole": False}, 'admin: rds lacks on db CREATEROLE: ALTER ROLE "rds" CREATEROLE'),
        ({"sees": False}, 'admin: rds lacks on db the right to see sessions: GRANT pg_read_all_stats TO "rds"'),
        ({"ends": False}, 'admin: rds lacks on db the right to end sessions: GRANT pg_signal_backend TO "rds"'),
        ({"gives": None}, 'admin: rds lacks on db the ADMIN OPTION on app: GRANT "app" TO "rds" WITH ADMIN OPTION'),
        ({"role": {"superuser": True}}, "owner: app is a superuser, which rds may not give to its logins on db"),
        ({"role": {"replication": True}}, "owner: app is of the attribute REPLICATION, which rds may not give"),
        ({"may_not_set": ["log_statement"]}, "owner: app has the setting log_statement, which rds may not give"),
        ({"name": "app"}, "admin: app is a login of the application on db; give another one"),
        ({"name": "app_1"}, "admin: app_1 is a login of the application on db; give another one"),
    ],
)
def test_what_an_administrator_elsewhere_may_not_do_is_refused_with_the_way_out(lacking, said):
    one = elsewhere(**lacking)
    with pytest.raises(SecretsError) as error:
        one.present_pair()
    assert error.value.message.startswith(said) and "\n" not in error.value.message


def test_an_administrator_elsewhere_that_may_do_it_needs_no_more():
    assert "role" in elsewhere().present_pair()["actions"]
    # Before PostgreSQL 16 CREATEROLE is enough.
    assert "role" in elsewhere(150000, gives=None).present_pair()["actions"]
    assert "role" in elsewhere(superuser=True, createrole=False, gives=None).present_pair()["actions"]


PLACE = 'psql: error: connection to server at "postgres" (172.18.0.2), port 5432 failed: '
WRONG = 'FATAL:  password authentication failed for user "app"'
NO_LINE = 'FATAL:  no pg_hba.conf entry for host "172.18.0.2", user "app", database "app", no encryption'


@pytest.mark.parametrize(
    ("said", "status", "refused", "reason"),
    [
        (f"Password: \n{PLACE}{WRONG}\n", "rejected", True, WRONG.replace("password", "********")),
        # With sslmode=prefer psql tries twice.
        (f"{PLACE}{NO_LINE}\n{PLACE}{WRONG}\n", "rejected", True, WRONG.replace("password", "********")),
        (f"{PLACE}{NO_LINE}\n", "unknown", True, NO_LINE),
        (f'{PLACE}FATAL:  role "app" is not permitted to log in\n', "unknown", True, None),
        (f'{PLACE}FATAL:  LDAP authentication failed for user "app"\n', "unknown", True, None),
        (f"{PLACE}FATAL:  the database system is starting up\n", "unknown", False, None),
        (f"{PLACE}FATAL:  sorry, too many clients already\n", "unknown", False, None),
        (f"{PLACE}Connection refused\n", "unknown", False, None),
        # A name says what it likes.
        (f'{PLACE}FATAL:  permission denied for database "{WRONG}"\n', "unknown", False, None),
    ],
)
def test_only_a_rejected_password_is_a_rejection(said, status, refused, reason):
    attempt = Lookalike().attempt(2, said, [])
    assert (attempt.status, attempt.refused) == (status, refused)
    assert reason is None or attempt.reason == reason


def test_what_pg_hba_refuses_is_known_by_the_address_that_it_names():
    log = (
        '2026-01-01 [7] FATAL:  pg_hba.conf rejects connection for host "172.18.0.2", user "app", database "app"\n'
        f"2026-01-01 [8] {NO_LINE}\n"
        f"2026-01-01 [9] {NO_LINE.replace('172.18.0.2', '172.18.0.9')}\n"
    )
    assert count_refused(log, "%t [%p] ", ["app"], ["172.18.0.2"], 0) == (1, 2)


def rule(method: str, address: str = "all", kind: str = "host", users: tuple[str, ...] = ("all",)) -> Rule:
    return Rule(1, kind, ("all",), users, address, "", method)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "no line lets admin in"),
        ([rule("scram-sha-256")], ""),
        ([rule("scram-sha-256", users=("+app",))], "no line lets admin in"),
        ([rule("reject"), rule("scram-sha-256")], "line 1 rejects admin"),
        # Whether a host name is the server's own address, or TLS is used, is not known here.
        ([rule("reject", "some.host"), rule("scram-sha-256")], ""),
        ([rule("reject", kind="hostnossl"), rule("scram-sha-256")], ""),
        ([rule("reject", "some.host")], "no line lets admin in"),
        ([rule("trust", kind="local")], "no line lets admin in"),
        ([rule("reject", "samenet")], "line 1 rejects admin"),
        ([rule("reject", "10.0.0.0/8"), rule("scram-sha-256", "172.18.0.2/32")], ""),
    ],
)
def test_a_refusal_by_pg_hba_is_foreseen_only_where_it_is_sure(rules, expected):
    rules = [
        Rule(
            r.line,
            r.type,
            r.databases,
            r.users,
            *(r.address.split("/") if "/" in r.address else (r.address, "")),
            r.method,
        )
        for r in rules
    ]
    assert refusal(rules, Who("admin", frozenset({"admin"}), "postgres"), "172.18.0.2") == expected
