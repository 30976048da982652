# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils import adoption
from ansible_collections.chat4all.secrets.plugins.module_utils.adoption import Place, Sources, meant
from ansible_collections.chat4all.secrets.plugins.module_utils.compose import Service


@pytest.mark.parametrize(
    "name",
    [
        "POSTGRES_PASSWORD",
        "DB_PASS",
        "PAPERLESS_DBPASS",
        "GITEA__database__PASSWD",
        "WHATSAPP_WEBHOOK_VERIFY_TOKEN",
        "JWT_SIGNING_KEY",
        "JWT_SIGNING_KEY_SECONDARY",
        "SECRET_KEY_BASE",
        "INSTAGRAM_APP_SECRET",
        "AWS_SECRET_ACCESS_KEY",
        "N8N_ENCRYPTION_KEY",
        "spring.datasource.password",
        "jwtSecret",
    ],
)
def test_a_name_that_says_secret(name):
    assert adoption.is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "PASSWORD_MIN_LENGTH",
        "TOKEN_TTL",
        "POSTGRES_PASSWORD_FILE",
        "SECRET_NAME",
        "WHATSAPP_PHONE_NUMBER_ID",
        "COMPASS_URL",
        "BYPASS",
        "KEYCLOAK_REALM",
        "MONKEY",
        "PUBLIC_KEY",
        "AWS_ACCESS_KEY_ID",
        "MAX_TOKENS_COUNT",
        "",
    ],
)
def test_a_name_that_says_no_secret(name):
    assert not adoption.is_secret_name(name)


@pytest.mark.parametrize(
    ("value", "weakness"),
    [
        ("change_me_in_production", "is still a placeholder"),
        ("your_whatsapp_token_here", "is still a placeholder"),
        ("<strong-password>", "is still a placeholder"),
        ("REPLACE_WITH_SECRET", "is still a placeholder"),
        ("postgres", "is weak"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "is weak"),
        ("0123456789", "is weak"),
        ("f3Jm8-TzQw6xVb1Rk9Ls", ""),
        ("1f8b2d4c6a9e0f3b5d7c8a1e2f4b6d9c", ""),
    ],
)
def test_a_value_that_should_not_stay(value, weakness):
    assert adoption.weakness(value) == weakness


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("abc", Place("literal")),
        ("a$$b", Place("literal")),
        ("$PW", Place("variable", "PW")),
        ("${PW}", Place("variable", "PW")),
        ("${PW:-change}", Place("variable", "PW")),
        ("${PW:?is needed}", Place("variable", "PW")),
        ("${PW-${OTHER}}", Place("variable", "PW")),
        ("x${PW}", Place("variable", "PW", part=True)),
        ("postgres://u:${PW}@db/${DB}", Place("variable", "PW", part=True)),
    ],
)
def test_where_a_typed_value_comes_from(typed, place):
    assert adoption.place_of(typed) == place


def service(name, image, **config):
    return Service(name, image, config, {}, False)


@pytest.mark.parametrize(
    ("name", "image", "engine"),
    [
        ("db", "postgres:16-alpine", "postgresql"),
        ("db", "registry.example.com:5000/library/postgis:16", "postgresql"),
        ("db", "bitnami/postgresql-repmgr:16", "postgresql"),
        ("cache", "docker.io/valkey/valkey:8@sha256:00", "redis"),
        ("redis", "registry.example.com/cache:1", "redis"),
        ("x", "quay.io/minio/minio", "minio"),
        ("x", "grafana/grafana-oss", "grafana"),
        ("x", "quay.io/keycloak/keycloak:26", "keycloak"),
        ("x", "mongodb/mongodb-community-server", "mongodb"),
        ("exporter", "prometheuscommunity/postgres-exporter", None),
        ("ui", "mongo-express", None),
        ("ui", "rediscommander/redis-commander", None),
        ("renderer", "grafana/grafana-image-renderer", None),
        ("bouncer", "edoburu/pgbouncer", None),
        ("s3", "minio/mc", None),
    ],
)
def test_a_server_is_known_by_its_image_or_its_name(name, image, engine):
    found = adoption.server_of(service(name, image))
    assert (found.engine if found else None) == engine


def test_a_server_of_another_name_is_known_by_its_data_and_its_variables():
    data = [{"type": "volume", "source": "data", "target": "/var/lib/postgresql/data"}]
    environment = {"POSTGRES_PASSWORD_FILE": "/run/secrets/x"}
    assert adoption.server_of(service("store", "mine:1", environment=environment, volumes=data)).engine == "postgresql"
    assert adoption.server_of(service("backup", "mine:1", environment=environment)) is None
    assert adoption.server_of(service("backup", "mine:1", volumes=data)) is None


def sources(tmp_path, **services):
    return Sources({"services": services}, str(tmp_path), str(tmp_path / ".env"))


def test_the_last_env_file_that_has_a_variable_counts(tmp_path):
    (tmp_path / "one.env").write_text("A=1\nB=1\n")
    (tmp_path / "two.env").write_text("B=2\n")
    (tmp_path / ".env").write_text("C=3\n")
    found = sources(tmp_path, app={"env_file": ["one.env", {"path": "two.env"}, ".env"], "environment": ["D"]})
    assert found.place("app", "A") == Place("env_file", str(tmp_path / "one.env"))
    assert found.place("app", "B") == Place("env_file", str(tmp_path / "two.env"))
    assert found.place("app", "C") == Place("variable", "C")
    assert found.place("app", "D") == Place("variable", "D")
    assert found.place("app", "E") is None


def test_all_variables_that_are_referred_to(tmp_path):
    found = sources(tmp_path, app={"command": ["run", "--x=${A:-${B}}", "$$C"], "labels": {"d": "$D"}})
    assert found.variables() == {"A", "B", "D"}


@pytest.mark.parametrize(
    ("line", "edited"),
    [
        ("      DB_PASSWORD: s3cret", "DB_PASSWORD: ${DB_PASSWORD:?}"),
        ('      DB_PASSWORD:   "s3cret"   # ours: s3cret', "DB_PASSWORD: ${DB_PASSWORD:?}"),
        ("      'DB_PASSWORD': 's3cret'", "DB_PASSWORD: ${DB_PASSWORD:?}"),
        ("      - DB_PASSWORD=s3cret", "- DB_PASSWORD=${DB_PASSWORD:?}"),
        ('      - "DB_PASSWORD=s3cret"', "- DB_PASSWORD=${DB_PASSWORD:?}"),
        ("      DB_PASSWORD: s3cret2", ""),
        ("      OTHER_DB_PASSWORD: s3cret", ""),
        ("      environment: {DB_PASSWORD: s3cret, OTHER: x}", ""),
        ("      # DB_PASSWORD: s3cret", ""),
    ],
)
def test_the_edit_of_a_typed_value_never_quotes_it(line, edited):
    assert adoption.typed_edit(line, "DB_PASSWORD", "s3cret", "DB_PASSWORD") == edited
    assert "s3cret" not in edited


def test_a_servers_own_copy_of_a_variable_is_that_variable(tmp_path):
    def sources(consumer: str) -> Sources:
        services = {
            "postgres": {"environment": {"POSTGRES_PASSWORD": "${INIT_POSTGRES_PASSWORD}"}},
            "app": {"environment": {"PGPASSWORD": consumer}},
        }
        return Sources({"services": services}, str(tmp_path), str(tmp_path / ".env"))

    pinned = sources("${POSTGRES_PASSWORD}")
    assert pinned.place("postgres", "POSTGRES_PASSWORD") == Place("variable", "POSTGRES_PASSWORD", pinned=True)
    assert pinned.variables() == {"POSTGRES_PASSWORD"}
    named_so = sources("x")
    assert named_so.place("postgres", "POSTGRES_PASSWORD") == Place("variable", "INIT_POSTGRES_PASSWORD")
    assert named_so.variables() == {"INIT_POSTGRES_PASSWORD"}


def test_what_nobody_has_meant_contradicts_no_store():
    variables = {"key": "KEY", "jwks": "DOCUMENT"}
    present = {"KEY": "change_me", "DOCUMENT": "", "OTHER": "value"}
    assert meant(present, variables, begun=False) == ["OTHER"]
    # Once something runs with it, a placeholder is the value in use.
    assert meant(present, variables, begun=True) == ["KEY", "OTHER"]
    assert meant({"KEY": ""}, variables, begun=True) == ["KEY"]
