# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import (
    ENTRY_KEYS,
    SERVICE_KEYS,
    After,
    ServiceOptions,
    checked_catalog,
    is_uri,
    seconds,
    service_options,
)
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ADDRESS = {"host": "db.example.com", "ca": "/etc/ssl/certs/ca-certificates.crt"}
SERVICES = {"gateway": None, "nginx": None}


def options(**given):
    return service_options({"gateway": given}, SERVICES, "/srv/demo")["gateway"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90d", 7776000), ("12h", 43200), ("30m", 1800), ("45s", 45), (120, 120), ("120", 120), (0.5, 0.5), ("1.5m", 90)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text, wanted):
    assert seconds(text, "here") == wanted
    assert isinstance(seconds(text, "here"), type(wanted))


@pytest.mark.parametrize("text", ["2 moons", "", "-5", "d", True, None, [5], {"s": 5}, "nan", "1e9", "٣", "9" * 400])
def test_what_is_no_duration_says_how_to_write_one(text):
    with pytest.raises(SecretsError, match=r"^here: .* is no duration; write 90d, 12h, 30m or 45s$"):
        seconds(text, "here")


def test_a_duration_that_no_calendar_holds_is_refused():
    with pytest.raises(SecretsError, match="^here: '999999d' is more than a hundred years"):
        seconds("999999d", "here")


def test_every_exception_for_a_service_is_taken():
    assert options(
        replace="start_first",
        ready_log="Started .*",
        failure_log="OutOfMemory",
        rerun="safe",
        after={"service": "nginx", "exec": "sh -c 'nginx -s reload'"},
        timeout="2m",
    ) == ServiceOptions(
        "start_first", "Started .*", ("OutOfMemory",), True, After("nginx", "sh -c 'nginx -s reload'"), 120
    )
    assert options(after={"service": "nginx", "exec": "sh -c 'a b'"}).after.command == ["sh", "-c", "a b"]
    assert options(failure_log=["a", "b"]).failure_log == ("a", "b")


def test_what_has_no_value_is_left_out():
    assert options(**dict.fromkeys(SERVICE_KEYS)) == ServiceOptions()
    assert service_options({"gateway": None}, SERVICES, "/srv/demo") == {"gateway": ServiceOptions()}
    assert checked_catalog({"postgres": dict.fromkeys(ENTRY_KEYS)}) == {"postgres": {}}
    assert checked_catalog({"postgres": {"generate": {"length": None}, "variables": {"user": None}}}) == {
        "postgres": {"generate": {}, "variables": {}}
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("stop_first", "secrets_services.gateway: must be a mapping, for example {replace: stop_first}"),
        (
            {"replce": 1},
            "secrets_services.gateway.replce: unknown key; known: after, failure_log, ready_log, replace, ",
        ),
        ({"replace": "later"}, "secrets_services.gateway.replace: 'later' is not known; write auto or start_first or "),
        ({"replace": ["auto"]}, "secrets_services.gateway.replace: ['auto'] is not known; write auto or start_first "),
        ({"rerun": True}, "secrets_services.gateway.rerun: True is not known; write safe"),
        ({"timeout": "2 moons"}, "secrets_services.gateway.timeout: '2 moons' is no duration; write 120 or 2m"),
        ({"timeout": 0}, "secrets_services.gateway.timeout: must be more than 0; write 120 or 2m"),
        ({"timeout": [5]}, "secrets_services.gateway.timeout: [5] is no duration; write 120 or 2m"),
        ({"timeout": False}, "secrets_services.gateway.timeout: False is no duration; write 120 or 2m"),
        ({"ready_log": 5}, "secrets_services.gateway.ready_log: 5 is no text; write it in quotes"),
        ({"ready_log": ["a"]}, "secrets_services.gateway.ready_log: ['a'] is no text; write it in quotes"),
        ({"ready_log": "("}, "secrets_services.gateway.ready_log: '(' is not a regular expression: "),
        ({"ready_log": ".*"}, "secrets_services.gateway.ready_log: '.*' matches every line"),
        ({"failure_log": {"a": 1}}, "secrets_services.gateway.failure_log: must be a regular expression in quotes, or"),
        ({"failure_log": ["a", 5]}, "secrets_services.gateway.failure_log: must be a regular expression in quotes, or"),
        ({"failure_log": ["a", "["]}, "secrets_services.gateway.failure_log: '[' is not a regular expression: "),
        ({"after": "reload"}, "secrets_services.gateway.after: must be a mapping, for example {service: nginx, exec: "),
        ({"after": {"exec": "x"}}, "secrets_services.gateway.after: needs service and exec, for example {service: "),
        ({"after": {"service": "nginx"}}, "secrets_services.gateway.after: needs service and exec, for example "),
        (
            {"after": {"service": "ngnix", "exec": "x"}},
            "secrets_services.gateway.after.service: 'ngnix' is no such service; there are gateway, nginx",
        ),
        (
            {"after": {"service": ["nginx"], "exec": "x"}},
            "secrets_services.gateway.after.service: ['nginx'] is no text",
        ),
        ({"after": {"service": "nginx", "exec": ["x"]}}, "secrets_services.gateway.after.exec: ['x'] is no text"),
        (
            {"after": {"service": "nginx", "exec": "sh 'x"}},
            """secrets_services.gateway.after.exec: No closing quotation in "sh 'x\"""",
        ),
        ({"after": {"service": "nginx", "exec": " "}}, "secrets_services.gateway.after.exec: ' ' is no text"),
        (
            {"after": {"service": "nginx", "exec": "'' x"}},
            "secrets_services.gateway.after.exec: \"'' x\" holds no command; ",
        ),
        ({"after": {"service": "nginx", "run": "x"}}, "secrets_services.gateway.after.run: unknown key; known: exec, "),
    ],
)
def test_an_exception_that_nobody_understands_is_one_line(given, said):
    with pytest.raises(SecretsError) as error:
        service_options({"gateway": given}, SERVICES, "/srv/demo")
    assert error.value.message.startswith(said)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gateway"], "secrets_services: must be a mapping of service names"),
        ({"gatway": {}}, "secrets_services.gatway: no such service in /srv/demo; there are gateway, nginx"),
    ],
)
def test_exceptions_are_for_services_that_exist(given, said):
    with pytest.raises(SecretsError) as error:
        service_options(given, SERVICES, "/srv/demo")
    assert error.value.message == said


def test_an_entry_is_returned_with_its_durations_in_seconds():
    entry = {
        "engine": "postgresql",
        "service": "db",
        "database": "app",
        "role": "app",
        "variables": {"user": "DB_USER"},
        "strategy": "single_user",
        "generate": {"length": 40},
        "interval": "90d",
        "grace": "1h",
        "priority": "critical",
    }
    assert checked_catalog({"postgres": entry}) == {"postgres": {**entry, "interval": 7776000, "grace": 3600}}


def test_a_server_elsewhere_has_an_administrator_of_its_own():
    entries = {
        "app": {"engine": "postgresql", "address": {**ADDRESS, "port": 5433, "database": "app"}, "admin": "root"},
        "root": {"engine": "postgresql", "address": {**ADDRESS, "port": 5433}, "strategy": "single_user"},
    }
    assert checked_catalog(entries) == entries


def test_a_uri_stands_alone_or_beside_user_and_password():
    for given in ("URL", ["URL"]):
        assert checked_catalog({"pg": {"variables": {"uri": given}}})["pg"]["variables"] == {"uri": "URL"}
    variables = {"user": "U", "password": "P", "uri": ["ONE", "TWO"]}
    found = checked_catalog({"pg": {"variables": variables}})["pg"]["variables"]
    assert found == {"user": "U", "password": "P", "uri": "ONE", "uri_2": "TWO"}
    assert [is_uri(part) for part in found] == [False, False, True, True]


FILE = {"name": "job", "file": "/a.env"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "secrets_catalog: names no credential; write for example secrets_catalog: {postgres: {}}"),
        ({"post gres": {}}, "secrets_catalog.post gres: a name is made of letters, digits, '_', '-' and '.'"),
        ({"pg": None}, "secrets_catalog.pg: must be a mapping; {} takes every default"),
        ({"pg": "postgresql"}, "secrets_catalog.pg: must be a mapping, for example {}, which takes every default"),
        ({"pg": {"intervall": "90d"}}, "secrets_catalog.pg.intervall: unknown key; known: address, admin, algorithm"),
        ({"pg": {1: 2}}, "secrets_catalog.pg.1: unknown key; known: address, admin, algorithm"),
        (
            {"pg": {"engine": "postgre"}},
            "secrets_catalog.pg.engine: unknown engine 'postgre'; use instagram, jwt, manual",
        ),
        ({"pg": {"engine": ["postgresql"]}}, "secrets_catalog.pg.engine: ['postgresql'] is no text; write it in"),
        ({"pg": {"service": {"a": 1}}}, "secrets_catalog.pg.service: {'a': 1} is no text; write it in quotes"),
        ({"pg": {"role": 5}}, "secrets_catalog.pg.role: 5 is no text; write it in quotes"),
        ({"pg": {"role": ""}}, "secrets_catalog.pg.role: '' is no text; write it in quotes"),
        ({"pg": {"strategy": "both"}}, "secrets_catalog.pg.strategy: 'both' is not known; write pair or single_user"),
        ({"pg": {"priority": "urgent"}}, "secrets_catalog.pg.priority: 'urgent' is not known; write critical or high"),
        ({"pg": {"priority": ["high"]}}, "secrets_catalog.pg.priority: ['high'] is not known; write critical or high"),
        ({"pg": {"interval": "soon"}}, "secrets_catalog.pg.interval: 'soon' is no duration; write 90d, 12h, 30m or"),
        ({"pg": {"grace": ["1h"]}}, "secrets_catalog.pg.grace: ['1h'] is no duration; write 90d, 12h, 30m or 45s"),
        ({"pg": {"variables": "PW"}}, "secrets_catalog.pg.variables: must be a mapping, for example {user: "),
        (
            {"pg": {"variables": {"pass": "A"}}},
            "secrets_catalog.pg.variables.pass: unknown key; known: account_id, jwks, key",
        ),
        ({"pg": {"variables": {"user": "A-B"}}}, "secrets_catalog.pg.variables.user: 'A-B' is no name of a variable;"),
        ({"pg": {"variables": {"user": ["A"]}}}, "secrets_catalog.pg.variables.user: ['A'] is no name of a variable;"),
        (
            {"pg": {"consumers": {"name": "a"}}},
            "secrets_catalog.pg.consumers: must be a list, for example [{name: backup-j",
        ),
        (
            {"pg": {"consumers": ["a"]}},
            "secrets_catalog.pg.consumers.0: must be a mapping, for example [{name: backup-job",
        ),
        ({"pg": {"consumers": [{}]}}, "secrets_catalog.pg.consumers.0.name: needs a name of letters, digits, "),
        ({"pg": {"consumers": [{"name": "a,b"}]}}, "secrets_catalog.pg.consumers.0.name: needs a name of letters, "),
        ({"pg": {"consumers": [FILE, {**FILE, "file": "/b"}]}}, "secrets_catalog.pg.consumers: job is there twice; "),
        ({"pg": {"consumers": [FILE, {**FILE, "name": "b"}]}}, "secrets_catalog.pg.consumers: /a.env is there twice; "),
        (
            {"pg": {"consumers": [{"name": "a"}]}},
            "secrets_catalog.pg.consumers.0: a needs either file or confirm: true",
        ),
        (
            {"pg": {"consumers": [{**FILE, "confirm": True}]}},
            "secrets_catalog.pg.consumers.0: job needs either file or ",
        ),
        (
            {"pg": {"consumers": [{**FILE, "confirm": "yes"}]}},
            "secrets_catalog.pg.consumers.0.confirm: 'yes' is neither ",
        ),
        (
            {"pg": {"consumers": [{"name": "a", "confirm": True, "after": "x"}]}},
            "secrets_catalog.pg.consumers.0.after: a is a person; after goes with file",
        ),
        ({"pg": {"consumers": [{**FILE, "file": "b.env"}]}}, "secrets_catalog.pg.consumers.0.file: 'b.env' is no abs"),
        (
            {"pg": {"consumers": [{**FILE, "file": "/x/../b"}]}},
            "secrets_catalog.pg.consumers.0.file: '/x/../b' is no abs",
        ),
        ({"pg": {"consumers": [{**FILE, "after": ["x"]}]}}, "secrets_catalog.pg.consumers.0.after: ['x'] is no text"),
        ({"pg": {"consumers": [{**FILE, "after": "sh 'x"}]}}, "secrets_catalog.pg.consumers.0.after: No closing quota"),
        (
            {"pg": {"consumers": [{**FILE, "timeout": 0}]}},
            "secrets_catalog.pg.consumers.0.timeout: must be more than 0",
        ),
        (
            {"pg": {"consumers": [{**FILE, "host": 5}]}},
            "secrets_catalog.pg.consumers.0.host: 5 is no text; write it in",
        ),
        (
            {"pg": {"consumers": [{**FILE, "variables": {"user": "A-B"}}]}},
            "secrets_catalog.pg.consumers.0.variables.user: 'A-B' is no name of a variable;",
        ),
        ({"pg": {"variables": {"uri": "A-B"}}}, "secrets_catalog.pg.variables.uri: 'A-B' is no name of a variable;"),
        ({"pg": {"variables": {"uri": [5]}}}, "secrets_catalog.pg.variables.uri: 5 is no name of a variable;"),
        (
            {"pg": {"variables": {"uri": ["A", "A"]}}},
            "secrets_catalog.pg.variables: names a variable twice; each holds",
        ),
        ({"pg": {"admin": "root"}}, "secrets_catalog.pg.admin: is for a server elsewhere; give address, too, or leave"),
        (
            {"pg": {"address": "db"}},
            "secrets_catalog.pg.address: must be a mapping, for example {host: db.example.com,",
        ),
        ({"pg": {"address": {}}}, "secrets_catalog.pg.address.host: is missing; write for example {host: "),
        ({"pg": {"address": {"host": "db"}}}, "secrets_catalog.pg.address.ca: is missing; write for example {host: "),
        ({"pg": {"address": {"host": 5}}}, "secrets_catalog.pg.address.host: 5 is no text; write it in quotes"),
        (
            {"pg": {"address": {"tls": 5}}},
            "secrets_catalog.pg.address.tls: unknown key; known: ca, database, host, port",
        ),
        (
            {"pg": {"address": {**ADDRESS, "port": "5432"}}},
            "secrets_catalog.pg.address.port: '5432' is no port; write a number such as 5432",
        ),
        (
            {"pg": {"address": ADDRESS}},
            "secrets_catalog.pg.admin: name the entry whose login makes the roles there, or",
        ),
        (
            {"pg": {"address": ADDRESS, "service": "db", "admin": "pg"}},
            "secrets_catalog.pg: has both service and address; a server is in one place",
        ),
        (
            {"pg": {"address": ADDRESS, "admin": "pg"}, "b": {"address": ADDRESS, "strategy": "single_user"}},
            "secrets_catalog.pg.admin: pg is no other entry; there are b",
        ),
        ({"pg": {"address": ADDRESS, "admin": "c"}}, "secrets_catalog.pg.admin: c is no other entry; there are none"),
        (
            {"pg": {"address": ADDRESS, "admin": "b"}, "b": {}},
            "secrets_catalog.pg.admin: b is not of the same address; name an entry of that server",
        ),
        ({"pg": {"database": 5}}, "secrets_catalog.pg.database: 5 is no text; write it in quotes"),
        ({"pg": {"generate": 32}}, "secrets_catalog.pg.generate: must be a mapping, for example {kind: password, "),
        ({"pg": {"generate": {"size": 3}}}, "secrets_catalog.pg.generate.size: unknown key; known: forbidden, kind, "),
    ],
)
def test_a_catalog_that_nobody_understands_is_one_line(given, said):
    with pytest.raises(SecretsError) as error:
        checked_catalog(given)
    assert error.value.message.startswith(said)
    assert "\n" not in error.value.message


def test_consumers_outside_compose_have_their_defaults():
    given = [
        {**FILE, "after": "systemctl restart job", "timeout": "1m", "host": None},
        {"name": "dba", "confirm": True},
    ]
    assert checked_catalog({"pg": {"consumers": given}})["pg"]["consumers"] == [
        {"name": "job", "file": "/a.env", "confirm": False, "after": "systemctl restart job", "timeout": 60},
        {"name": "dba", "confirm": True},
    ]
    assert checked_catalog({"pg": {"consumers": [FILE]}})["pg"]["consumers"][0]["timeout"] == 120
