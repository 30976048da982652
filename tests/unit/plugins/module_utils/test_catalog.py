# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import api_tokens, catalog
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Service
from ansible_collections.chat4all.secrets.plugins.module_utils.declared import service_options
from ansible_collections.chat4all.secrets.plugins.module_utils.errors import SecretsError

ENVIRONMENT = {"POSTGRES_USER": "chat4all", "POSTGRES_DB": "app"}


def service(name, image="app:1", job=False, **config):
    return Service(name, image, config, {}, job)


def container(name, status="running", health=None, exit_code=0, restarting=False):
    return SimpleNamespace(
        service=name,
        name=f"demo-{name}-1",
        status=status,
        health=health,
        exit_code=exit_code,
        restarting=restarting,
        running=status == "running",
    )


def project(*services):
    """A project in which ``postgres`` and ``app`` use both variables."""
    found = {one.name: one for one in services or (service("postgres", "postgres:17", environment=ENVIRONMENT),)}
    return SimpleNamespace(
        services=found,
        directory="/srv/demo",
        consumers=lambda variables: {name: {"app", "postgres"} for name in variables},
        waves=lambda names: [sorted(names)],
        replace_mode=lambda name, _declared: found[name].config.get(
            "mode", ("job" if found[name].is_job else "start_first", "")
        ),
        inside=lambda name: found[name].config.get("inside", ""),
        env_file="/srv/demo/.env",
        secret_files=lambda: {name: one.config["files"] for name, one in found.items() if "files" in one.config},
        evidence=lambda name, ready_log: ready_log or found[name].config.get("evidence", "health check"),
    )


def plan(services, containers, options=None, skipped=()):
    names = [one.name for one in services]
    given = service_options(options or {}, names, "/srv/demo")
    return catalog.roll_out_plan(project(*services), containers, "postgres", names, given, list(skipped))


def manual(**more):
    return {"engine": "manual", "variables": {"secret": "SMTP_PASSWORD"}, **more}


def test_what_a_person_brings_needs_no_server():
    facts = catalog.resolve("smtp", manual(), project())
    assert (facts["type"], facts["variables"], facts["interval"]) == (
        "person",
        {"password": "SMTP_PASSWORD"},
        180 * 86400,
    )
    assert facts["consumers"] == ["app", "postgres"] and not facts["service"] and not facts["server_variables"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"variables": {}}, r"smtp\.variables: needs exactly one of key, password and secret, has none"),
        ({"variables": {"secret": "A", "key": "B"}}, r"has \[.key., .secret.\]"),
        ({"service": "app"}, r"smtp\.service: engine manual has none"),
        ({"generate": {"length": 40}}, r"smtp\.generate: engine manual has none"),
    ],
)
def test_what_a_person_brings_has_one_variable_and_no_server(more, message):
    with pytest.raises(SecretsError, match=message):
        catalog.resolve("smtp", manual(**more), project())


@pytest.fixture
def connected(tmp_path):
    """A project whose two services use WhatsApp's token; one has the phone number's id typed in."""
    env = tmp_path / ".env"
    env.write_text("WHATSAPP_API_TOKEN=x\n")
    typed = service("app", environment={"WHATSAPP_PHONE_NUMBER_ID": "106540352242922"})
    found = project(service("postgres", "postgres:17"), typed)
    found.env_file = str(env)
    return found


def test_a_token_is_looked_up_with_the_number_in_the_env_file_or_in_a_service(connected):
    facts = catalog.resolve("whatsapp", {}, connected)
    assert facts["variables"] == {"password": "WHATSAPP_API_TOKEN"} and facts["modules"] == "api_token"
    own = {"platform": "whatsapp", "api": None, "ca": None}
    assert facts["platform"] == {**own, "phone_number_id": "106540352242922"}
    assert (facts["type"], facts["grace"], facts["ready_log"]) == ("person", 7 * 86400, "Connected to WhatsApp API")
    with open(connected.env_file, "a") as env:
        env.write("NUMBER=5\n")
    named = catalog.resolve("whatsapp", {"variables": {"phone_number_id": "NUMBER"}}, connected)
    assert named["platform"]["phone_number_id"] == "5"


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("whatsapp", {"variables": {"phone_number_id": "NUMBER"}}, r"phone_number_id: neither .*/\.env nor a service"),
        ("telegram", {"variables": {"phone_number_id": "NUMBER"}}, "needs exactly one of key, password and secret"),
        ("telegram", {"api": "http://127.0.0.1"}, r"telegram\.api: must be an address such as https"),
        ("telegram", {"generate": {"length": 40}}, r"telegram\.generate: engine telegram has none"),
        (
            "smtp",
            manual(api="https://example.org"),
            r"smtp\.api: with engine whatsapp, telegram, instagram, webhook alone",
        ),
        ("telegram", {"consumers": []}, r"telegram\.consumers: not with engine telegram"),
        ("telegram", {"token": "x"}, r"telegram\.token: with engine whatsapp, webhook alone"),
        ("postgres", {"ca": "/ca.pem"}, r"postgres\.ca: with engine whatsapp, telegram, instagram, webhook alone"),
    ],
)
def test_what_a_tokens_entry_cannot_have_is_named(connected, name, entry, message):
    with pytest.raises(SecretsError, match=message):
        catalog.resolve(name, entry, connected)


def hooked(connected, **consumers):
    connected.consumers = lambda names: {name: set(consumers.get(name, {"app"})) for name in names}
    return connected


def test_a_webhooks_secret_is_a_uuid_beside_the_one_before(connected):
    facts = catalog.resolve("telegram-webhook", {}, hooked(connected))
    assert (facts["variables"], facts["previous_variable"]) == (
        {"password": "TELEGRAM_WEBHOOK_SECRET"},
        "TELEGRAM_WEBHOOK_SECRET_PREVIOUS",
    )
    assert (facts["type"], facts["generate"], facts["token"]) == ("overlap", {"kind": "uuid4"}, "telegram")
    own = {"engine": "webhook", "platform": "telegram", "token": "bot", "variables": {"secret": "A", "previous": "B"}}
    facts = catalog.resolve("hook", own, hooked(connected))
    assert (facts["variables"], facts["previous_variable"], facts["token"]) == ({"password": "A"}, "B", "bot")


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        (
            "telegram-webhook",
            {},
            "app: has TELEGRAM_WEBHOOK_SECRET without TELEGRAM_WEBHOOK_SECRET_PREVIOUS, so it would",
        ),
        (
            "telegram-webhook",
            {"generate": {"kind": "password"}, "variables": {"previous": "B"}},
            r"telegram-webhook\.generate\.kind: Telegram takes letters, digits, _ and - alone",
        ),
        ("hook", {"engine": "webhook"}, r"hook\.platform: says nobody whose webhook it is"),
        ("instagram-webhook", {"variables": {"previous": "B"}}, r"instagram-webhook\.app_id: is needed for Instagram"),
        (
            "instagram-webhook",
            {"app_id": "1", "variables": {"previous": "B"}},
            r"webhook\.token: is needed for Instagram",
        ),
        ("whatsapp-webhook", {"variables": {"previous": "B"}}, r"account_id: neither .*/\.env nor a service"),
    ],
)
def test_what_a_webhooks_entry_lacks_is_named(connected, name, entry, message):
    with pytest.raises(SecretsError, match=message):
        catalog.resolve(name, entry, hooked(connected, TELEGRAM_WEBHOOK_SECRET_PREVIOUS=[]))


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("whatsapp", {"app_id": "1"}, r"catalog\.whatsapp: app_id and token, .*, go together"),
        ("whatsapp", {"token": "app"}, r"catalog\.whatsapp: app_id and token, .*, go together"),
        ("telegram", {"app_id": "1", "token": "app"}, r"telegram\.app_id: with engine whatsapp, webhook alone"),
    ],
)
def test_an_app_that_ends_no_token_is_refused(connected, name, entry, message):
    with pytest.raises(SecretsError, match=message):
        catalog.resolve(name, entry, connected)


def test_nobody_waits_for_a_call_that_ends_the_old_token(connected):
    app = {"app_id": "1", "token": "app"}
    graces = [catalog.resolve("whatsapp", entry, connected)["grace"] for entry in ({}, app, {**app, "grace": 60})]
    assert graces == [7 * 86400, 0, 60]


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("telegram-webhook", "TELEGRAM_WEBHOOK_SECRET"),
        ("telegram-webhook", "TELEGRAM_WEBHOOK_SECRET_PREVIOUS"),
        ("jwt", "JWT_SIGNING_KEY"),
        ("jwt", "JWT_SIGNING_KEY_SECONDARY"),
    ],
)
def test_a_variable_of_two_entries_is_refused_without_a_server_too(connected, name, variable):
    given = {name: {}, "by-hand": {"engine": "manual", "variables": {"secret": variable}}}
    with pytest.raises(SecretsError, match=f"{variable} is by-hand's, too"):
        catalog.siblings(name, given, hooked(connected))


def test_a_connectors_log_is_waited_for_unless_the_service_has_a_pattern_of_its_own():
    names = ["own-telegram", "telegram-connector", "notifier"]
    options = service_options({"own-telegram": {"ready_log": "ready"}, "notifier": {"timeout": 5}}, names, "/srv/demo")
    found = {"consumers": names, "engine": "telegram", "ready_log": "Connected to Telegram API"}
    ready = {name: one.ready_log for name, one in api_tokens.with_ready_log(options, found).items()}
    assert ready == {"own-telegram": "ready", "telegram-connector": "Connected to Telegram API", "notifier": ""}
    assert api_tokens.with_ready_log(options, {"consumers": names, "engine": "jwt"}) == options


def test_one_user_has_no_grace():
    with pytest.raises(SecretsError, match=r"secrets_catalog\.postgres\.grace: with strategy: single_user"):
        catalog.resolve("postgres", {"strategy": "single_user", "grace": 60}, project())


def test_an_empty_entry_takes_the_defaults_of_engine_and_stack():
    facts = catalog.resolve("postgres", {}, project())
    assert facts["role"] == "chat4all"
    assert facts["consumers"] == ["app"]
    assert (facts["interval"], facts["grace"], facts["priority"]) == (90 * 86400, 0, "high")
    assert facts["generate"] == {"kind": "password", "length": 32}


def test_what_an_entry_says_counts():
    entry = {"role": "app", "interval": 60, "grace": 5, "priority": "low", "generate": {"length": 40}}
    facts = catalog.resolve("postgres", entry, project())
    assert facts["role"] == "app"
    assert (facts["interval"], facts["grace"], facts["priority"]) == (60, 5, "low")
    assert facts["generate"] == {"kind": "password", "length": 40}


def test_a_uri_needs_neither_user_nor_password_beside_it():
    facts = catalog.resolve("postgres", {"variables": {"uri": "DATABASE_URL", "uri_2": "DIRECT_URL"}}, project())
    assert facts["variables"] == {"uri": "DATABASE_URL", "uri_2": "DIRECT_URL"}
    assert facts["consumers"] == ["app"] and facts["literal_user"] == []
    facts = catalog.resolve("postgres", {"variables": {"uri": "DATABASE_URL", "password": "PW"}}, project())
    assert facts["variables"] == {"user": "POSTGRES_USER", "password": "PW", "uri": "DATABASE_URL"}


def test_a_uri_that_nobody_uses_is_refused_and_what_stands_beside_it_may_be_the_servers_own():
    one = project()
    one.consumers = lambda variables: {name: {"app"} if name == "DATABASE_URL" else set() for name in variables}
    entry = {"variables": {"uri": "DATABASE_URL", "password": "POSTGRES_PASSWORD"}}
    assert catalog.resolve("postgres", entry, one)["consumers"] == ["app"]
    with pytest.raises(SecretsError, match=r"postgres\.variables\.uri_2: no service of /srv/demo uses OTHER_URL"):
        catalog.resolve("postgres", {"variables": {"uri": "DATABASE_URL", "uri_2": "OTHER_URL"}}, one)
    with pytest.raises(SecretsError, match=r"postgres\.variables\.user: no service of /srv/demo uses POSTGRES_USER"):
        catalog.resolve("postgres", {}, one)


def test_a_file_outside_compose_takes_no_uri():
    job = {"name": "job", "file": "/etc/job.env", "confirm": False, "timeout": 5}
    entry = {"variables": {"uri": "DATABASE_URL"}, "consumers": [job]}
    for variables in ({}, {"uri": "DB_URL"}, {"user": "DB_USER"}):
        with pytest.raises(SecretsError, match="job: a file takes user and password; write variables: {user"):
            catalog.resolve("postgres", {**entry, "consumers": [{**job, "variables": variables}]}, project())
    named = {"user": "DB_USER", "password": "DB_PASSWORD"}
    facts = catalog.resolve("postgres", {**entry, "consumers": [{**job, "variables": named}]}, project())
    assert facts["files"][0]["variables"] == named


ADDRESS = {"host": "db.example.com", "ca": "/ca.pem", "database": "app"}


def test_a_server_elsewhere_is_no_service():
    entry = {"engine": "postgresql", "address": ADDRESS, "admin": "root", "role": "app"}
    facts = catalog.resolve("app", entry, project())
    assert facts["address"] == {"host": "db.example.com", "port": 5432, "ca": "/ca.pem"}
    assert (facts["service"], facts["database"], facts["admin"]) == ("db.example.com:5432", "app", "root")
    assert facts["server_variables"] == [] and facts["consumers"] == ["app", "postgres"]
    assert catalog.resolve("app", {**entry, "database": "other"}, project())["database"] == "other"
    assert catalog.resolve("postgres", {"address": ADDRESS}, project())["engine"] == "postgresql"
    with pytest.raises(SecretsError, match=r"secrets_catalog\.app: no engine known for a server at an address"):
        catalog.resolve("app", {"address": ADDRESS}, project())
    same = {"app": entry, "root": {"engine": "postgresql", "address": ADDRESS, "variables": {"uri": "ROOT_URL"}}}
    assert catalog.siblings("app", same, project()) == ["root"]


def test_an_administrators_variables_need_no_service():
    one = project()
    one.consumers = lambda variables: {name: set() for name in variables}
    entry = {"engine": "postgresql", "address": ADDRESS, "strategy": "single_user"}
    facts = catalog.resolve("root", entry, one, serves=True)
    assert facts["unused"] == ["POSTGRES_PASSWORD", "POSTGRES_USER"] and facts["consumers"] == []
    with pytest.raises(SecretsError, match="no service of /srv/demo uses POSTGRES_PASSWORD"):
        catalog.resolve("root", entry, one)


SERVERS = [
    service("postgres", "postgres:17", environment=ENVIRONMENT),
    service("other", "postgres:17", environment=ENVIRONMENT),
]
REPORTING = {"service": "postgres", "variables": {"user": "REPORTING_USER", "password": "REPORTING_PASSWORD"}}


def test_the_entries_of_one_server_know_one_another():
    entries = {
        "postgres": {},
        "reporting": REPORTING,
        "other": {"variables": {"uri": "OTHER_URL"}},
        "lost": {"service": "nowhere", "variables": {"uri": "LOST_URL"}},
    }
    assert catalog.siblings("postgres", entries, project(*SERVERS)) == ["reporting"]
    assert catalog.siblings("reporting", entries, project(*SERVERS)) == ["postgres"]
    assert catalog.siblings("other", entries, project(*SERVERS)) == []


def test_servers_of_one_name_on_two_hosts_are_two():
    entries = {
        "db1": {"service": "postgres"},
        "app1": {"service": "postgres", "variables": {"uri": "APP_URL"}},
        "reporting": REPORTING,
        "lost": {"service": "postgres", "variables": {"uri": "LOST_URL"}},
    }
    away = {"host": "app1", "service": "postgres", "engine": "postgresql"}
    known = {"db1": {}, "app1": away, "reporting": {}}
    assert catalog.siblings("db1", entries, project(*SERVERS), known) == ["reporting"]
    assert catalog.siblings("app1", entries, project(*SERVERS), known) == []
    known["reporting"] = away
    assert catalog.siblings("app1", entries, project(*SERVERS), known) == ["reporting"]
    # Each host has an .env, and both would hold both.
    entries["app1"] = {"service": "postgres"}
    with pytest.raises(SecretsError, match="POSTGRES_PASSWORD is app1's, too"):
        catalog.siblings("db1", entries, project(), known)


@pytest.mark.parametrize(
    ("variables", "shared"),
    [
        ({"user": "REPORTING_USER"}, "POSTGRES_PASSWORD"),
        ({"user": "POSTGRES_USER", "password": "X"}, "POSTGRES_USER"),
        ({"uri": "POSTGRES_PASSWORD"}, "POSTGRES_PASSWORD"),
    ],
)
@pytest.mark.parametrize("server", ["postgres", "other"])
def test_a_variable_of_two_entries_is_refused(variables, shared, server):
    entries = {"postgres": {}, "reporting": {"service": server, "variables": variables}}
    with pytest.raises(SecretsError, match=rf"^secrets_catalog\.postgres\.variables: {shared} is reporting's, too"):
        catalog.siblings("postgres", entries, project(*SERVERS))


@pytest.mark.parametrize(
    ("user", "more", "role"),
    [
        ("", {}, "chat4all"),
        ("chat4all", {}, "chat4all"),
        ("reporting", {}, "reporting"),
        ("chat4all_2", {}, "chat4all"),
        ("first_1", {"INIT_DB_USER": "first"}, "first"),
        ("app_1", {}, "app_1"),
    ],
)
def test_the_role_is_the_user_in_env_but_not_one_of_two_that_alternate(user, more, role):
    facts = {"declared_role": "", "first_user": "chat4all", "variables": {"user": "DB_USER"}}
    assert catalog.role_of(facts, more, user) == role
    assert catalog.role_of({**facts, "declared_role": "said"}, more, user) == "said"


@pytest.mark.parametrize("kind", ["uuid4", "hex_key", "token"])
def test_another_kind_has_a_length_of_its_own(kind):
    facts = catalog.resolve("postgres", {"generate": {"kind": kind}}, project())
    assert facts["generate"] == {"kind": kind}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "pin"}, r"^secrets_catalog\.postgres\.generate\.kind: unknown 'pin'"),
        ({"kind": ["pin"]}, r"^secrets_catalog\.postgres\.generate\.kind: unknown \['pin'\]"),
        ({"length": "long"}, r"^secrets_catalog\.postgres\.generate\.length: must be a number, not 'long'"),
        ({"length": 8}, r"^secrets_catalog\.postgres\.generate\.min_entropy: .* has "),
    ],
)
def test_a_rule_that_cannot_be_met_is_refused_with_its_place(rule, said):
    with pytest.raises(SecretsError, match=said):
        catalog.resolve("postgres", {"generate": rule}, project())


def test_a_plan_says_how_each_service_is_replaced():
    after = {"service": "app", "exec": "reload all"}
    found = plan([service("app"), service("b")], [container("app"), container("app")], {"b": {"after": after}})
    assert found["refusals"] == []
    assert [(one["service"], one["scale"], one["mode"], one["after"]) for one in found["waves"][0]] == [
        ("app", 2, "start_first", ""),
        ("b", 0, "start_first", "reload all"),
    ]
    with pytest.raises(SecretsError, match="skip_service=c: not a consumer; there are app"):
        plan([service("app")], [], skipped=["c"])


@pytest.mark.parametrize(
    ("services", "containers", "options", "expected"),
    [
        (service("app"), container("app", health="healthy"), {}, []),
        (
            service("app"),
            container("app", health="unhealthy"),
            {},
            [("unhealthy", "app is unhealthy now (demo-app-1)")],
        ),
        (service("app"), container("app", "restarting", restarting=True), {}, [("unhealthy", "app is restarting now")]),
        (service("app"), container("app", "exited"), {}, [("unhealthy", "app is exited now")]),
        (service("app", evidence="none"), container("app"), {}, [("weak", "app has neither health check nor log")]),
        (service("app", evidence="none"), container("app"), {"app": {"ready_log": "Started"}}, []),
        (
            service("app", evidence="none"),
            container("app", "paused"),
            {},
            [("unhealthy", "app is paused now"), ("weak", "app has neither")],
        ),
        (service("vpn", inside="app"), container("vpn"), {}, [("shared", "vpn: app runs inside vpn's network")]),
        (
            service("app", mode=("stop_first", "host port 80")),
            container("app"),
            {"app": {"replace": "start_first"}},
            [("impossible", "secrets_services.app.replace: start_first is not possible: host port 80")],
        ),
        (service("job", job=True), container("job", "exited"), {}, [("job", "job is a one-shot job that would run")]),
        (service("job", job=True), container("job", "exited"), {"job": {"rerun": "safe"}}, []),
        (
            service("job", job=True),
            container("job", "exited", exit_code=3),
            {"job": {"rerun": "safe"}},
            [("job_failed", "job failed (exit code 3); run it to its end first")],
        ),
    ],
)
def test_every_reason_not_to_begin_has_a_kind(services, containers, options, expected):
    refusals = plan([services], [containers], options)["refusals"]
    assert [one["kind"] for one in refusals] == [kind for kind, _text in expected]
    assert all(one["text"].startswith(text) for one, (_kind, text) in zip(refusals, expected, strict=True))


def test_what_has_no_container_is_not_a_reason():
    assert plan([service("app", evidence="none"), service("job", job=True)], [])["refusals"] == []


@pytest.mark.parametrize(
    "value",
    [
        "http://user-service:8080/work",
        "http://user-service",
        "https://user-service/",
        "http://user-service?x=1",
        "http://anna:pw@user-service:8080/x",
        "http://User-Service:8080",
        "user-service:8080",
        "message-service:8080,user-service:8080",
        "amqp://anna:p@ss@user-service/vhost",
        "mongodb://a:b@one:27017,user-service:27017/db",
        "jdbc:oracle:thin:@user-service:1521/x",
        "anna:pw@user-service/db",
        "tcp://[::1]:1 dns=user-service:53",
        '{"url": "http://user-service:8080/"}',
    ],
)
def test_a_host_in_an_environment_is_recognized(value):
    assert "user-service" in catalog.hosts("X", value)


@pytest.mark.parametrize(
    "value",
    [
        "http://proxy:8080/user-service/work",
        "http://proxy:8080/user-service:8080",
        "http://proxy:8080/user-service",
        "http://proxy/?to=user-service",
        "http://user-service-2:8080",
        "http://my-user-service:8080",
        "http://user-service.example.com/",
        "user-service-2:8080",
        "my-user-service:8080",
        "user-service:latest",
        "user-service:8080-x",
        "registry/user-service:8080",
        "user-service",
        "user-service started",
        "",
    ],
)
def test_what_only_looks_like_the_host_is_not(value):
    assert "user-service" not in catalog.hosts("X", value)


def test_a_word_alone_is_a_host_where_the_variable_says_so():
    assert "user-service" in catalog.hosts("USER_SERVICE_HOST", "user-service")
    assert "user-service" in catalog.hosts("UPSTREAMS", "message-service, user-service")
    assert "user-service" not in catalog.hosts("SERVICE_NAME", "user-service")


def test_the_plan_says_who_calls_a_service_directly():
    calls = {"DIRECT_URL": "http://user-service:8080/work", "UPSTREAM_URL": "http://proxy:8080/message-service/work"}
    services = [
        service("api-gateway", environment=calls),
        service("aliased", networks={"default": {"aliases": ["users"]}, "other": None}),
        service("by-alias", environment={"URL": "http://users:80", "EMPTY": None, "PORT": 5}),
        service("fixed", mode=("stop_first", "configured")),
        service("message-service"),
        service("postgres", environment={"URL": "http://user-service:8080/work", "HOST": "fixed"}),
        service("user-service", environment={"SELF_URL": "http://user-service:8080/"}),
        service("z", environment={"HOST": "fixed"}),
    ]
    [wave] = plan(services, [])["waves"]
    assert {one["service"]: one["called_by"] for one in wave if one["called_by"]} == {
        "aliased": ["by-alias"],
        "user-service": ["api-gateway"],
    }


FILE = {"name": "job", "file": "/a.env", "confirm": False, "timeout": 120, "after": "systemctl restart 'my job'"}


def outside(entry, *services):
    return catalog.resolve("postgres", entry, project(*services))


def test_a_consumer_outside_compose_has_the_credentials_own_variables():
    facts = outside({"consumers": [FILE, {"name": "dba", "confirm": True}]})
    assert facts["persons"] == ["dba"]
    assert facts["files"] == [
        {
            "name": "job",
            "path": "/a.env",
            "host": "",
            "variables": {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"},
            "after": ["systemctl", "restart", "my job"],
            "timeout": 120,
        }
    ]
    given = {**FILE, "variables": {"password": "DB_PW"}, "host": "app2"}
    [found] = outside({"consumers": [given]})["files"]
    assert found["variables"] == {"user": "POSTGRES_USER", "password": "DB_PW"} and found["host"] == "app2"
    [found] = outside({"strategy": "single_user", "consumers": [given]})["files"]
    assert found["variables"] == {"password": "DB_PW"}
    manual = {
        "engine": "manual",
        "variables": {"secret": "TOKEN"},
        "consumers": [{**FILE, "variables": {"secret": "T"}}],
    }
    assert outside(manual)["files"][0]["variables"] == {"password": "T"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"consumers": [{**FILE, "name": "postgres"}]}, "postgres is a service of /srv/demo, which is found by itself"),
        ({"consumers": [{**FILE, "file": "/srv/demo/.env"}]}, "job: /srv/demo/.env is written in any case"),
        (
            {"engine": "manual", "variables": {"secret": "T"}, "consumers": [{**FILE, "variables": {"user": "U"}}]},
            "job: variables.user: the credential has none",
        ),
        (
            {"strategy": "single_user", "consumers": [{"name": "dba", "confirm": True}]},
            "dba: with strategy: single_user the old password is refused",
        ),
        (
            {"engine": "manual", "variables": {"secret": "TOKEN"}, "consumers": [{"name": "dba", "confirm": True}]},
            "dba: a person ends the old value in any case, so nobody is waited for",
        ),
    ],
)
def test_what_cannot_be_a_consumer_outside_compose_is_refused(entry, said):
    with pytest.raises(SecretsError) as error:
        outside(entry)
    assert error.value.message.startswith("secrets_catalog.postgres.consumers: " + said)


@pytest.mark.parametrize("names", [{}, {"password": "P"}, {"user": "U", "password": "P", "uri": "URL"}])
def test_beside_a_uri_a_file_of_a_pair_takes_user_and_password(names):
    entry = {"variables": {"uri": "DATABASE_URL"}, "consumers": [{**FILE, "variables": names}]}
    with pytest.raises(SecretsError, match="consumers: job: a file takes user and password"):
        outside(entry)


def test_a_consumer_outside_compose_may_be_skipped():
    found = project(service("app"))
    assert catalog.roll_out_plan(found, [], "postgres", ["app"], {}, ["job"], files=["job"])["waves"]
    with pytest.raises(SecretsError, match="skip_service=jbo: not a consumer; there are app, job"):
        catalog.roll_out_plan(found, [], "postgres", ["app"], {}, ["jbo"], files=["job"])


@pytest.mark.parametrize(
    ("environment", "content", "left"),
    [
        ({"POSTGRES_PASSWORD_FILE": "/run/secrets/db"}, "other", True),
        ({"PGPASSFILE": "/run/secrets/db"}, "k33p-this\n", True),
        ({"PGPASSFILE": "/run/secrets/db"}, "k33p-this-one", False),
        ({"POSTGRES_PASSWORD_FILE": "/run/secrets/other"}, "", False),
    ],
)
def test_a_password_in_a_file_of_a_compose_secret_is_left_behind(environment, content, left, tmp_path):
    path = tmp_path / "db.txt"
    path.write_text(content)
    files = [("db", "/run/secrets/db", str(path))]
    found = project(
        service("postgres", "postgres:17", environment=ENVIRONMENT, files=files),
        service("app", environment=environment, files=files),
    )
    variables = {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD"}
    lines = catalog.left_behind(found, "postgres", variables, {"POSTGRES_PASSWORD": "k33p-this"})
    assert bool(lines) == left
    if left:
        assert lines[0].startswith(f"app: has the password from the file {path} (Compose secret db)")
        assert "secrets: {db: {environment: POSTGRES_PASSWORD}}" in lines[0] and "k33p-this" not in lines[0]
        assert lines[0].endswith(
            "; postgres, which reads it at its first start alone, keeps the file as another secret"
        )


def test_a_password_that_is_in_no_variable_at_all_is_named_with_its_file():
    given = {
        "environment": {"POSTGRES_PASSWORD_FILE": "/run/secrets/db"},
        "files": [("db", "/run/secrets/db", "/x/db")],
    }
    found = project(service("postgres", "postgres:17", environment=ENVIRONMENT), service("app", **given))
    found.consumers = lambda variables: {name: set() for name in variables}
    with pytest.raises(SecretsError, match=r"app: has the password from the file /x/db \(Compose secret db\)"):
        catalog.resolve("postgres", {}, found)


SERVER = {"service": "postgres", "image": "postgres:17", "engine": "postgresql", "role": "chat4all"}


def test_a_host_says_which_of_its_services_may_be_the_server():
    assert catalog.candidates("postgres", {}, project()) == [{**SERVER, "named": True}]
    found = project(service("db", "postgres:17"), service("other", "pgvector:1"), service("app"))
    assert [(row["service"], row["named"]) for row in catalog.candidates("postgres", {}, found)] == [
        ("db", False),
        ("other", False),
    ]
    assert catalog.candidates("postgres", {"service": "db9"}, found) == []
    [row] = catalog.candidates("main", {"service": "db", "role": "app"}, found)
    assert row["named"] and row["role"] == "postgres", "its first user; the role is the entry's"


def test_a_server_elsewhere_has_its_consumers_here():
    here = project(service("app"), service("postgres", "something:1"))
    facts = catalog.resolve("postgres", {}, here, SERVER)
    assert facts["service"] == "postgres" and facts["role"] == "chat4all"
    # A service that has the server's name is one of the consumers here.
    assert facts["consumers"] == ["app", "postgres"] and facts["server_variables"] == []


def test_where_others_have_the_consumers_none_is_needed_here():
    alone = project()
    alone.consumers = lambda variables: {name: set() for name in variables}
    assert catalog.resolve("postgres", {}, alone, {})["consumers"] == []
    with pytest.raises(SecretsError, match="no service of /srv/demo uses"):
        catalog.resolve("postgres", {}, alone)
