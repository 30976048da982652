# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import urllib.parse

import pytest
from ansible_collections.chat4all.secrets.plugins.module_utils.masking import MASK, Masker, sensitive_values

SECRET = 'p"a/s s$w%rd-ünïcode'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        urllib.parse.quote(SECRET, safe=""),
        SECRET.encode().hex(),
        SECRET.replace('"', '\\"'),
    ],
)
def test_every_form_of_a_value_is_masked(shown):
    assert Masker([SECRET]).mask(f"before {shown} after") == f"before {MASK} after"


def test_a_value_is_masked_as_python_shows_it():
    secret = "both ' and \" and \\ secret"
    assert Masker([secret]).mask(repr({"password": secret})) == f"{{'password': '{MASK}'}}"


def test_a_value_that_contains_another_leaves_no_remainder():
    assert Masker(["secret", "secret-and-more"]).mask("x secret-and-more y") == f"x {MASK} y"


def test_short_values_would_mask_ordinary_words():
    assert Masker(["a", "user", None, ""]).mask("a user") == "a user"


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:", "longer user name:"])
@pytest.mark.parametrize("after", ["", "\n", "ab", '"}}'])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_inside_a_longer_base64_text_cannot_be_decoded(before, after, encode):
    secret = "ünïcode?>secret~"
    masked = Masker([secret]).mask(encode(f"{before}{secret}{after}".encode()).decode())
    assert MASK in masked
    # Of the value's first and last byte some bits may remain, in the characters that they share with a neighbour.
    assert len(masked.replace(MASK, "")) <= len(base64.b64encode((before + after).encode())) + 4


def test_each_line_of_a_value_is_masked_by_itself():
    masker = Masker(["-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n"])
    assert masker.mask("1 MIIEvQIBADAN") == f"1 {MASK}"


def test_the_longest_form_is_known():
    assert Masker().longest == 0
    assert Masker(["abcdef"]).longest == len(b"abcdef".hex())


@pytest.mark.parametrize(
    "name",
    [
        "POSTGRES_PASSWORD",
        "PGPASSFILE",
        "DB_PWD",
        "PW",
        "JWT_SECRET",
        "API_TOKEN",
        "aws_secret_key",
        "MY_CREDENTIALS",
        "BASIC_AUTH",
        "MONGO_URI",
        "DATABASE_URL",
        "SENTRY_DSN",
        "SALT",
    ],
)
def test_a_name_says_that_a_value_is_secret(name):
    assert sensitive_values({name: "anything-0123"}) == {"anything-0123"}


@pytest.mark.parametrize("name", ["POSTGRES_USER", "SERVICE_NAME", "PWNED", "PORT"])
def test_other_values_are_shown(name):
    assert sensitive_values({name: "anything-0123", "EMPTY_PASSWORD": "", "UNSET_PASSWORD": None}) == set()


@pytest.mark.parametrize(
    ("value", "inner"),
    [
        ("postgresql://app:hunter2-old@postgres:5432/app", "hunter2-old"),
        ("postgresql://app:hunter2%2Fold@postgres/app", "hunter2%2Fold"),
        ("postgresql://app:hunter2%2Fold@postgres/app", "hunter2/old"),
        ("postgresql://app:hunter2@old@postgres/app", "hunter2@old"),
        ("postgresql://app:hunter2/old@postgres/app", "hunter2/old"),
        ("redis://:hunter2-old@redis:6379/0", "hunter2-old"),
        ("amqp://a:hunter2-old@one,amqp://b:hunter3-old@two", "hunter3-old"),
        ("mongodb://a:hunter2-old@one,two/db?authSource=admin", "hunter2-old"),
        ("jdbc:postgresql://postgres/app?user=app&password=hunter2-old&x=y", "hunter2-old"),
        ("host=postgres user=app password='hunter2-old' dbname=app", "hunter2-old"),
        ("Server=db;User Id=app;Password=hunter2-old;Pwd=hunter3-old", "hunter3-old"),
        ('{"password": "hunter2-old"}', "hunter2-old"),
    ],
)
def test_a_password_inside_a_connection_string_is_secret_whatever_the_variable_is_called(value, inner):
    assert inner in sensitive_values({"DATABASE": value})
    assert value not in sensitive_values({"DATABASE": value})
    shown = Masker(sensitive_values({"DATABASE_URL": value})).mask(f"cannot log in with {inner} at other:5432")
    assert inner not in shown and shown.endswith("at other:5432")
